import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { alertFixture, secrets } from '../../test/alert-fixture.js'
import { takeAnyDay, testDatabase, type TestDatabase } from '../../test/database.js'
import { Flow } from '../read-batch.js'
import { inTransaction } from '../store/db.js'
import { dayNumber } from '../time/text.js'
import { getZone } from '../time/zone.js'
import type { Segment } from '../usage/segments.js'
import { enqueueDue } from './due.js'
import { expectedReads, type Reading, type ReadingQuestion } from './readings.js'
import { judgeDue } from './sweep.js'
import type { BookContext } from './usage-book.js'

let db: TestDatabase
beforeAll(async () => {
  db = await testDatabase()
  await takeAnyDay(db)
})
afterAll(() => db.close())

const chicago = getZone('America/Chicago')
const DAY = dayNumber('2026-10-01')
const TEN = chicago.dayStart(DAY) + 10 * 3600
const SPAN = { channelId: 1, accountId: 1, meterId: 1, meter: 'm', flow: Flow.delivered }
const segment = (intervalS: number, fromS: number, toS: number, channelId = 1): Segment => ({ ...SPAN, channelId, intervalS, fromS, toS })

function expectedOf(
  segments: Segment[], fromS: number, toS: number,
  { zone = chicago, nowS = Infinity, counts, readings }: { zone?: typeof chicago; nowS?: number; counts?: ReadingQuestion['counts']; readings?: Reading[] } = {},
): number {
  const context: BookContext = { db: db.pool, zone, nowS: Math.min(nowS, toS + 864_000), segments: new Map([[1, segments]]), isMeasuredOnly: false }
  return expectedReads(context, { accountId: 1, flow: Flow.delivered, meterId: null, startS: fromS, endS: toS, ...(counts === undefined ? {} : { counts }) }, fromS, toS, readings)
}
const dayAt = (d: number, zone = chicago): [number, number] => [zone.dayStart(d), zone.dayStart(d + 1)]
/** Of the local clock, from hour to hour. */
const between = (zone: typeof chicago, from: number, to: number) => (s: number): boolean => {
  const hour = (s + zone.offsetAt(s)) / 3600 % 24
  return hour >= from && hour < to
}

describe('reads that are expected', () => {
  const both = [segment(900, -Infinity, TEN), segment(86_400, TEN, Infinity, 2)]

  it('are those of the hours before and the rest of the day, where a daily channel takes over within it', () => {
    for (const counts of [undefined, () => true]) {
      expect(expectedOf(both, ...dayAt(DAY), { counts })).toBe(41)
      expect(expectedOf(both, ...dayAt(DAY + 1), { counts })).toBe(1)
      expect(expectedOf(both, ...dayAt(DAY - 1), { counts })).toBe(96)
      expect(expectedOf(both, chicago.dayStart(DAY - 1), chicago.dayStart(DAY + 3), { counts })).toBe(96 + 41 + 2)
      // While the day runs its rest is not due; and a daily meter that served somebody else before leaves none.
      expect(expectedOf(both, ...dayAt(DAY), { counts, nowS: TEN + 3600 })).toBe(40)
      expect(expectedOf([both[1]], ...dayAt(DAY), { counts })).toBe(0)
      expect(expectedOf([both[0], { ...both[1], meterId: 2 }], ...dayAt(DAY), { counts })).toBe(40)
    }
    expect(expectedOf(both, ...dayAt(DAY), { counts: between(chicago, 16, 21) })).toBe(1)
    expect(expectedOf(both, ...dayAt(DAY), { counts: between(chicago, 6, 8) })).toBe(8)
  })

  it('lie on the grid that the stored reads have, off the hour in UTC or off the hour of the clock', () => {
    const kolkata = getZone('Asia/Kolkata')
    const hourly = [segment(3600, -Infinity, Infinity)]
    const reading = (firstAtS: number): Reading => ({
      firstAtS, intervalS: 3600, exponent: -3, values: [], lanes: null, fromS: -Infinity, toS: Infinity, dayEndS: kolkata.dayStart(DAY + 1), flow: Flow.delivered, sign: 1 })
    const counts = between(kolkata, 16.5, 21)
    const start = kolkata.dayStart(DAY)
    // Local hours: 17, 18, 19, 20. Hours of UTC: 16:30 to 20:30.
    expect(expectedOf(hourly, ...dayAt(DAY, kolkata), { zone: kolkata, counts, readings: [reading(start)] })).toBe(4)
    expect(expectedOf(hourly, ...dayAt(DAY, kolkata), { zone: kolkata, counts, readings: [reading(start + 1800)] })).toBe(5)
    expect(expectedOf(hourly, ...dayAt(DAY, kolkata), { zone: kolkata, counts })).toBe(4)
    // Of another day's read the grid is known as well.
    expect(expectedOf(hourly, ...dayAt(DAY + 3, kolkata), { zone: kolkata, counts, readings: [reading(start + 1800)] })).toBe(5)
    // The read that began at 16:30 has not ended at 17:15 of the clock.
    expect(expectedOf(hourly, ...dayAt(DAY, kolkata), { zone: kolkata, counts, readings: [reading(start + 1800)], nowS: start + 17.25 * 3600 })).toBe(0)
  })

  it('are counted alike whether one by one or at once', () => {
    fc.assert(fc.property(
      fc.constantFrom('America/Chicago', 'Australia/Adelaide', 'Asia/Kathmandu'), fc.constantFrom(300, 900, 1800, 86_400), fc.integer({ min: 0, max: 400 }),
      fc.integer({ min: -90_000, max: 90_000 }), fc.integer({ min: 1, max: 200_000 }), fc.integer({ min: -100_000, max: 200_000 }),
      (zoneName, intervalS, day, cut, length, now) => {
        const zone = getZone(zoneName)
        const start = zone.dayStart(DAY + day)
        const segments = [segment(intervalS, start + cut, start + cut + length)]
        const range: [number, number] = [zone.dayStart(DAY + day - 1), zone.dayStart(DAY + day + 3)]
        const nowS = start + now
        expect(expectedOf(segments, ...range, { zone, nowS })).toBe(expectedOf(segments, ...range, { zone, nowS, counts: () => true }))
      }))
  })
})

describe('a day on which a finer channel ends and a daily one goes on', () => {
  it('is not told to be low by its first hours', async () => {
    const f = await alertFixture(db.pool)
    const { accountId } = await f.account()
    const { meterId, channelId } = await f.meter(accountId)
    const daily = await f.channel(meterId, { flow: 1, intervalS: 86_400 })
    await db.pool.query('update channel set shared = true where meter_id = $1', [meterId])
    await db.pool.query(
      `insert into channel_span (channel_id, meter_id, quantity, flow, from_at, to_at) values
         ($1, $3, 1, 1, to_timestamp($4::float8), to_timestamp($5::float8)), ($2, $3, 1, 1, to_timestamp($5::float8), to_timestamp($6::float8))`,
      [channelId, daily, meterId, f.zone.dayStart(DAY - 1), TEN, f.zone.dayStart(DAY + 2)])
    const low = await f.threshold(accountId, { kind: 'low-usage', limit: '20' })
    await f.block(channelId, DAY - 1, Array.from({ length: 96 }, () => 100))
    await f.block(channelId, DAY, Array.from({ length: 96 }, (_, i) => i < 40 ? 300 : null))
    for (const d of [DAY - 1, DAY, DAY + 1]) await f.block(daily, d, [d === DAY + 1 ? 5000 : 30_000], { intervalS: 86_400 })
    const nowMs = Date.parse('2026-11-20T12:00:00Z')
    await inTransaction(db.pool, (client) => enqueueDue(client, f.utilityId, [{
      fromDay: DAY - 1, toDay: DAY + 2, dueS: nowMs / 1000, everyKind: false, history: false, accountIds: [accountId] }]))
    await judgeDue(db.pool, { secrets, settleS: 48 * 3600, now: () => nowMs })
    // 9.6 kWh by the quarter hours, and 5 kWh by the daily read, are low; of the day between nobody knows.
    const { rows } = await db.pool.query<{ value: string }>('select trim_scale(value)::text as value from alert where threshold_id = $1 order by period_start', [low])
    expect(rows).toEqual([{ value: '9.6' }, { value: '5' }])
  })
})
