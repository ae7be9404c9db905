import { afterAll, beforeAll, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { storedBlocks, storedLoad, testUtility, type PlainBlock } from '../../test/settling.js'
import { expectNoDeadlock } from '../../test/soundness.js'
import { inTransaction, openPool } from './db.js'
import { lockChannels } from './channels.js'

let db: TestDatabase

beforeAll(async () => {
  db = await testDatabase()
})
afterAll(async () => {
  await expectNoDeadlock(db.pool)
  await db.close()
})

const DAY = '2026-10-05T05:00:00Z'

it('a channel that two processes make at once is one, and both see a second one beside it', async () => {
  const pools = [0, 1, 2, 3].map(() => openPool(db.url, 2, 'meterline test', () => undefined))
  try {
    for (let round = 0; round < 10; round++) {
      const u = await testUtility(db.pool)
      const meters = await Promise.all([0, 1, 2].map(() => u.meter()))
      const settlers = await Promise.all(pools.map((pool) => u.another(pool)))
      // Two push quarter-hours, two push hours of the same time; meters in opposite order.
      const bodies: PlainBlock[][] = pools.map((_, i) => (i % 2 === 0 ? meters : [...meters].reverse()).map((meter) => i < 2
        ? { meter, start: DAY, values: Array<number>(96).fill(100) } : { meter, start: DAY, values: Array<number>(24).fill(500), intervalS: 3600 }))
      const results = (await Promise.all(settlers.map((s, i) => s.settle(u.utilityId, [u.submission(bodies[i], { version: 1 })])))).flat()
      expect(results.map((r) => r.status)).toEqual(['settled', 'settled', 'settled', 'settled'])
      expect(await storedBlocks(db.pool, u.utilityId)).toHaveLength(6)
      expect((await storedLoad(db.pool, u.utilityId)).map((l) => l.energy)).toEqual(Array(24).fill('1.2'))
      const { rows } = await db.pool.query('select interval_s, shared, count(*)::int as n from channel where utility_id = $1 group by 1, 2 order by 1', [u.utilityId])
      expect(rows).toEqual([{ interval_s: 900, shared: true, n: 3 }, { interval_s: 3600, shared: true, n: 3 }])
    }
  } finally {
    await Promise.all(pools.map((pool) => pool.end()))
  }
})

it('settlers of the same channels take turns, and others do not wait', async () => {
  const u = await testUtility(db.pool)
  const [a, b] = [await u.meter(), await u.meter()]
  await u.settle([{ meter: a, start: DAY, values: [1] }, { meter: b, start: DAY, values: [1] }])
  const { rows } = await db.pool.query<{ channel_id: number }>(
    'select channel_id from channel join meter m using (meter_id) where m.id = $1', [a])
  let waited = true
  await inTransaction(db.pool, async (client) => {
    await lockChannels(client, rows.map((r) => r.channel_id))
    const blocked = u.settle([{ meter: a, start: DAY, values: [2] }]).then(() => { waited = false })
    await u.settle([{ meter: b, start: DAY, values: [2] }])
    expect(waited).toBe(true)
    await client.query('commit; begin')
    await blocked
  })
  expect((await storedBlocks(db.pool, u.utilityId)).map((r) => r.vals[0])).toEqual([2, 2])
})

it('settlers that push the same meters in any order do not run into each other', async () => {
  const pools = [0, 1, 2, 3].map(() => openPool(db.url, 2, 'meterline test', () => undefined))
  try {
    const u = await testUtility(db.pool)
    const meters = await Promise.all(Array.from({ length: 40 }, () => u.meter()))
    const settlers = await Promise.all(pools.map((pool) => u.another(pool)))
    const body = (k: number, value: number): PlainBlock[] => meters.map((_, i) => ({
      meter: meters[(i * 7 + k * 11) % meters.length], start: DAY, values: [value, value], intervalS: i % 4 === 0 ? 3600 : 900 }))
    await u.settle(body(0, 1))
    const results = await Promise.all(settlers.map(async (s, k) => {
      const statuses: string[] = []
      for (let i = 0; i < 8; i++) statuses.push(...(await s.settle(u.utilityId, [u.submission(body(k * 8 + i, 2 + i))])).map((r) => r.status))
      return statuses
    }))
    expect(new Set(results.flat())).toEqual(new Set(['settled']))
  } finally {
    await Promise.all(pools.map((pool) => pool.end()))
  }
})
