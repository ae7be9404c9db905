import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../test/database.js'
import { quarantineOf, storedBlocks, storedLoad, testUtility, type PlainRegister, type TestUtility } from '../test/settling.js'

let db: TestDatabase
beforeAll(async () => {
  db = await testDatabase()
})
afterAll(async () => {
  await db.close()
})

const AT = '2026-11-01T06:00:00Z'

async function standing(u: TestUtility): Promise<string[]> {
  const { rows } = await db.pool.query<{ line: string }>(
    `select concat_ws(' ', m.id, r.quantity, r.flow, r.tou, extract(epoch from r.at)::bigint, trim_scale(r.value), r.lane, r.version) as line
       from register_read r join meter m using (meter_id) where m.utility_id = $1 order by 1`, [u.utilityId])
  return rows.map((r) => r.line)
}

describe('settling registers', () => {
  it('keeps them apart from intervals, and counts each outcome', async () => {
    const u = await testUtility(db.pool)
    await u.meter({ id: 'A' })
    const first = await u.settle([{ meter: 'A', start: AT, values: [1, 2] }], {
      registers: [{ meter: 'A', at: AT, mantissa: 12345, exponent: -1 }, { meter: 'A', at: AT, tou: 'peak', mantissa: 7 }],
    })
    expect(first).toMatchObject({ received: 4, stored: 4, from: '2026-11-01T01:00:00-05:00' })
    const again = await u.settle([], { registers: [
      { meter: 'A', at: AT, mantissa: 12345, exponent: -1, version: 5 }, { meter: 'A', at: AT, tou: 'peak', mantissa: 8 },
      { meter: 'A', at: AT, mantissa: 1, quality: 'estimated' },
    ] })
    expect(again).toMatchObject({ received: 3, stored: 0, duplicate: 1, corrected: 1, outranked: 1 })
    expect((await standing(u)).map((l) => l.split(' ').slice(0, -1).join(' '))).toEqual([
      `A 1 1  ${Date.parse(AT) / 1000} 1234.5 0`, `A 1 1 peak ${Date.parse(AT) / 1000} 8 0`])
    expect(await storedLoad(db.pool, u.utilityId)).toMatchObject([{ energy: '0.003' }])
  })

  it('applies a multiplier that the source left out, exactly', async () => {
    const u = await testUtility(db.pool)
    await u.meter({ id: 'A', multiplier: 0.6 })
    const source = await u.source({ multiplierApplied: false })
    await u.settle([], { source, registers: [
      { meter: 'A', at: AT, mantissa: 12345, exponent: -1 }, { meter: 'A', at: AT, quantity: 'voltage', mantissa: 240 }] })
    expect((await standing(u)).map((l) => l.split(' ')[5])).toEqual(['740.7', '240'])
  })

  it('quarantines what it cannot place, with a record that a replay can read', async () => {
    const u = await testUtility(db.pool)
    await u.meter({ id: 'A' })
    const receipt = await u.settle([], { registers: [
      { meter: 'X', at: AT, mantissa: 12345, exponent: -3, tou: 'T1', quantity: 'volume-gal', version: 1_000_000 },
      { meter: 'A', at: '2027-01-01T00:00:00Z', mantissa: 1 },
      { meter: 'A', at: '1970-01-02T00:00:00Z', mantissa: 1 },
      { meter: 'X', from: '2026-10-01T00:00:00Z', at: AT, mantissa: 5 },
    ] })
    expect(receipt).toMatchObject({ received: 4, stored: 0, quarantined: 3, rejected: 1 })
    expect((await quarantineOf(db.pool, u.utilityId)).map((q) => q.record)).toEqual([
      { meter: 'X', kind: 'register', start: '2026-11-01T06:00:00.000Z', value: 12.345, unit: 'gal', flow: 'delivered', quality: 'actual',
        tou: 'T1', capturedAt: '1970-01-01T00:00:01.000000Z' },
      { meter: 'A', kind: 'register', start: '2027-01-01T00:00:00.000Z', value: 1, unit: 'kWh', flow: 'delivered', quality: 'actual' },
      { meter: 'X', kind: 'period', start: '2026-10-01T00:00:00.000Z', end: '2026-11-01T06:00:00.000Z', value: 5, unit: 'kWh',
        flow: 'delivered', quality: 'actual' },
    ])
  })

  it('puts back what stood when a delivery is withdrawn', async () => {
    const u = await testUtility(db.pool)
    await u.meter({ id: 'A' })
    const old: PlainRegister = { meter: 'A', at: AT, mantissa: 100 }
    await u.settle([], { registers: [old] })
    const wrong = await u.settle([], { registers: [{ ...old, mantissa: 999 }, { meter: 'A', at: '2026-11-02T06:00:00Z', mantissa: 1000 }] })
    await u.settle([], { registers: [{ ...old, mantissa: 50, quality: 'estimated' }] })
    expect(await standing(u)).toHaveLength(2)
    expect(await u.withdraw(wrong.delivery)).toMatchObject({ received: 2, corrected: 2 })
    expect((await standing(u)).map((l) => l.split(' ')[5])).toEqual(['100'])
  })

  it('comes to the same whatever the order, the splits and the repetitions (C2)', async () => {
    const offer = fc.record({
      at: fc.constantFrom(AT, '2026-11-02T06:00:00Z'), mantissa: fc.integer({ min: 0, max: 3 }), version: fc.integer({ min: 1, max: 3 }),
      quality: fc.constantFrom('actual' as const, 'estimated' as const, 'validated' as const), tou: fc.constantFrom('', 'peak'),
    })
    await fc.assert(fc.asyncProperty(fc.array(offer, { minLength: 1, maxLength: 12 }), fc.infiniteStream(fc.nat()), async (offers, random) => {
      const results: string[][] = []
      for (const shuffled of [false, true]) {
        const u = await testUtility(db.pool)
        await u.meter({ id: 'A' })
        const rest = [...offers, ...(shuffled ? offers.slice(0, 3) : [])].map((o) => ({ ...o, meter: 'A' }))
        let sum = 0
        while (rest.length > 0) {
          const n = shuffled ? 1 + random.next().value % rest.length : rest.length
          const part = Array.from({ length: n }, () => rest.splice(shuffled ? random.next().value % rest.length : 0, 1)[0])
          const r = await u.settle([], { registers: part })
          sum += r.received - r.stored - r.duplicate - r.corrected - r.outranked
        }
        expect(sum).toBe(0)
        results.push(await standing(u))
      }
      expect(results[1]).toEqual(results[0])
    }), { numRuns: 15, seed: 5 })
  })
})

describe('channels of other quantities', () => {
  it('settle like energy and count nowhere', async () => {
    const u = await testUtility(db.pool)
    const { accountId } = await u.account()
    await u.meter({ id: 'A', assignments: [{ accountId }] })
    await u.threshold(accountId, { limit: '0.005' })
    const receipt = await u.settle([
      { meter: 'A', start: AT, values: [1, 2] }, { meter: 'A', start: AT, values: [9000, -9000], quantity: 'reactive-energy' },
      { meter: 'A', start: AT, values: [240], intervalS: 3600, quantity: 'voltage' },
      { meter: 'A', start: AT, values: [241], intervalS: 900, quantity: 'voltage' },
    ])
    expect(receipt).toMatchObject({ received: 6, stored: 6, alerts: { raised: 0 } })
    expect(await storedLoad(db.pool, u.utilityId)).toMatchObject([{ energy: '0.003' }])
    expect(await storedBlocks(db.pool, u.utilityId)).toHaveLength(4)
    const { rows } = await db.pool.query('select quantity, shared from channel where utility_id = $1 order by 1, 2', [u.utilityId])
    expect(rows).toEqual([
      { quantity: 1, shared: false }, { quantity: 2, shared: false }, { quantity: 7, shared: true }, { quantity: 7, shared: true }])
    const views = await db.pool.query<{ kwh: string }>(
      "select kwh::text from usage_day d join utility u on u.id = d.utility where u.utility_id = $1", [u.utilityId])
    expect(views.rows).toEqual([{ kwh: '0.003' }])
  })

  it('are taken back with their delivery', async () => {
    const u = await testUtility(db.pool)
    await u.meter({ id: 'A' })
    const { delivery } = await u.settle([
      { meter: 'A', start: AT, values: [1] }, { meter: 'A', start: AT, values: [5], quantity: 'reactive-energy' }])
    expect(await u.withdraw(delivery)).toMatchObject({ corrected: 2 })
    expect(await storedBlocks(db.pool, u.utilityId)).toEqual([])
    expect(await storedLoad(db.pool, u.utilityId)).toEqual([])
  })
})
