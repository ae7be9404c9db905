import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { takeAnyDay, testDatabase, type TestDatabase } from '../../test/database.js'
import { testUtility } from '../../test/settling.js'
import { Flow } from '../read-batch.js'
import { dayNumber } from '../time/text.js'
import { getZone, type Zone } from '../time/zone.js'
import { exactText, parseExact } from './exact.js'
import type { Reading } from './readings.js'
import { demandOf } from './slots.js'

const chicago = getZone('America/Chicago')
const DAY = dayNumber('2026-10-01')
const LONG = dayNumber('2026-11-01')

/** Watt-hours of a day, read at a length from its first grid point on; [fromS, toS) is what of it counts. */
function reading(zone: Zone, day: number, intervalS: number, wh: readonly (number | null)[], others: Partial<Reading> = {}): Reading {
  return {
    firstAtS: zone.dayStart(day), intervalS, exponent: -3, values: wh, lanes: null, fromS: -Infinity, toS: Infinity,
    dayEndS: zone.dayStart(day + 1), flow: Flow.delivered, sign: 1, ...others }
}

/** Kilowatts, and when, of blocks in either order. */
function demand(...readings: Reading[]): { kw: string; atS: number; endS: number } | null {
  const [one, two] = [readings, [...readings].reverse()].map((r) => demandOf(r, parseExact('1')))
  expect(two).toEqual(one)
  return one === null ? null : { kw: exactText(one.kw), atS: one.atS, endS: one.endS }
}

const quarters = (n: number, wh: number, others: Record<number, number> = {}): number[] => Array.from({ length: n }, (_, i) => others[i] ?? wh)

describe('the demand of several channels', () => {
  const start = chicago.dayStart(DAY)
  const fine = reading(chicago, DAY, 900, quarters(96, 100, { 20: 2000 }))
  const peak = { kw: '8', atS: start + 20 * 900, endS: start + 21 * 900 }

  it('is taken over the longest interval whose reads count', () => {
    expect(demand(fine, reading(chicago, DAY, 3600, quarters(24, 1000)))).toEqual({ kw: '3.3', atS: start + 5 * 3600, endS: start + 6 * 3600 })
  })

  it('is not spread over the day by a daily channel of which no read counts', () => {
    const daily = (others: Partial<Reading>, wh: number | null = 11_500): Reading => reading(chicago, DAY, 86_400, [wh], others)
    // Its read starts where the shorter channel counts; there is none; it is an estimate that may not count; another hour's.
    expect(demand(fine, daily({ fromS: start + 9 * 3600 }))).toEqual(peak)
    expect(demand(fine, daily({}, null))).toEqual(peak)
    expect(demand(fine, daily({ lanes: [1 | 1 << 3], isMeasuredOnly: true }))).toEqual(peak)
    expect(demand(fine, daily({ counts: (_startS, intervalS) => intervalS < 86_400 }))).toEqual(peak)
    expect(demand(daily({ toS: start }))).toBeNull()
  })

  it('of a day of 25 hours is the mean of all of them', () => {
    const startS = chicago.dayStart(LONG)
    const whole = { atS: startS, endS: startS + 25 * 3600 }
    expect(demand(reading(chicago, LONG, 86_400, [50_000]))).toEqual({ kw: '2', ...whole })
    expect(demand(reading(chicago, LONG, 86_400, [50_000]), reading(chicago, LONG, 900, quarters(100, 250)))).toEqual({ kw: '3', ...whole })
  })

  it('takes the earlier of two grids, and what comes before its first point for an interval that began the day before', () => {
    const kolkata = getZone('Asia/Kolkata')
    const startS = kolkata.dayStart(DAY)
    const utc = reading(kolkata, DAY, 3600, quarters(24, 1000, { 0: 4000 }), { firstAtS: startS + 1800 })
    // Half an hour of 1 kWh belongs to the hour that began at 23:30.
    expect(demand(utc, reading(kolkata, DAY, 900, quarters(96, 0, { 0: 500, 1: 500 })))).toEqual({ kw: '4', atS: startS + 1800, endS: startS + 5400 })
    expect(demand(utc, reading(kolkata, DAY, 3600, quarters(24, 500)))).toEqual({ kw: '4.5', atS: startS, endS: startS + 3600 })
  })
})

describe('a demand threshold on a meter with a daily and a quarter-hour channel', () => {
  let db: TestDatabase
  beforeAll(async () => {
    db = await testDatabase()
    await takeAnyDay(db)
  })
  afterAll(async () => db.close())

  // The quarter-hours end in the midst of the second day: for the rest of it the daily channel counts, though it has no
  // read that starts there.
  const day = dayNumber('2026-03-07')
  const startS = chicago.dayStart(day)
  const daily = { meter: 'm', intervalS: 86_400, start: startS, values: [1, 0] }
  const fine = { meter: 'm', intervalS: 900, start: startS, values: quarters(128, 10, { 120: 200 }) }

  for (const [order, blocks] of [['first', [daily, fine]], ['last', [fine, daily]], ['at once', null]] as const) {
    it(`stands by the quarter-hours, where the daily reads come ${order}`, async () => {
      const u = await testUtility(db.pool)
      const { accountId } = await u.account()
      await u.meter({ id: 'm', assignments: [{ accountId }] })
      const id = await u.threshold(accountId, { kind: 'demand', limit: '0.5' })
      if (blocks === null) await u.settle([daily, fine])
      else for (const block of blocks) await u.settle([block])
      const { rows } = await db.pool.query(
        `select threshold_id, state, trim_scale(value)::text as value, extract(epoch from crossed_at)::float8 as crossed_s, detail ->> 'intervalSeconds' as length
           from alert where utility_id = $1`, [u.utilityId])
      expect(rows).toEqual([{ threshold_id: id, state: 'raised', value: '0.8', crossed_s: startS + 121 * 900, length: '900' }])
    })
  }
})
