import { afterAll, beforeAll, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../test/database.js'
import { openPool } from './store/db.js'
import { VersionSequence } from './versions.js'

let db: TestDatabase

beforeAll(async () => {
  db = await testDatabase()
})
afterAll(() => db.close())

it('ascends over processes that ask at the same time, and is about the time of day', async () => {
  const pools = [0, 1, 2].map(() => openPool(db.url, 1, 'meterline test', () => undefined))
  const sequences = pools.map((pool) => new VersionSequence(pool))
  const given: number[] = []
  for (let round = 0; round < 30; round++) {
    const asked = await Promise.all(Array.from({ length: 20 }, (_, i) => sequences[(round + i) % 3].next()))
    // What is asked for after an answer is greater than it, whoever gives it.
    expect(Math.min(...asked)).toBeGreaterThan(Math.max(0, ...given))
    given.push(...asked)
  }
  expect(new Set(given).size).toBe(given.length)
  expect(Math.abs(given[0] / 1000 - Date.now())).toBeLessThan(120_000)
  await Promise.all(pools.map((pool) => pool.end()))
})

it('goes on from the greatest given when the clock is set back, and with the clock when it has caught up', async () => {
  const sequence = new VersionSequence(db.pool)
  const ahead = Date.now() * 1000 + 3_600_000_000
  // An hour ahead of the clock: where a database stands whose clock was set back by an hour.
  await db.pool.query(`select setval('delivery_version', $1)`, [ahead])
  expect(await Promise.all([sequence.next(), sequence.next()])).toEqual([ahead + 1, ahead + 2])
  await db.pool.query(`select setval('delivery_version', 1000)`)
  expect(Math.abs(await sequence.next() / 1000 - Date.now())).toBeLessThan(120_000)
})

it('tells everybody who waits when the database is away, and asks again for the next', async () => {
  const pool = openPool(db.url, 1, 'meterline test', () => undefined, 1)
  const sequence = new VersionSequence(pool)
  const blocker = await db.pool.connect()
  await blocker.query('begin; select pg_advisory_xact_lock(19715, 0)')
  const asked = [sequence.next(), sequence.next()]
  expect((await Promise.allSettled(asked)).map((r) => r.status)).toEqual(['rejected', 'rejected'])
  await blocker.query('rollback')
  blocker.release()
  expect(await sequence.next()).toBeGreaterThan(0)
  await pool.end()
})
