import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { periodOf, periodsBetween, previousPeriod, type BillingCycle, type BillingPeriod } from './billing.js'
import { civilOfDay, daysInMonth } from './civil.js'
import { dayNumber, dayText } from './text.js'

const RUNS = Number(process.env.FC_RUNS ?? 1000)

const text = (p: BillingPeriod): string => `${dayText(p.startDay)} ${dayText(p.endDay)} ${p.source}`
const of = (day: string, account: BillingCycle): string => text(periodOf(dayNumber(day), account))
const cycle = (billingDay: number | null, ...periods: [string, string][]): BillingCycle =>
  ({ billingDay, periods: periods.map(([from, to]) => ({ startDay: dayNumber(from), endDay: dayNumber(to) })) })

describe('periodOf', () => {
  it('is the calendar month without a billing day', () => {
    expect(of('2026-02-28', cycle(null))).toBe('2026-02-01 2026-03-01 calendar')
    expect(of('2026-12-01', cycle(null))).toBe('2026-12-01 2027-01-01 calendar')
  })

  it('starts on the billing day', () => {
    expect(of('2026-10-14', cycle(15))).toBe('2026-09-15 2026-10-15 billingDay')
    expect(of('2026-10-15', cycle(15))).toBe('2026-10-15 2026-11-15 billingDay')
    expect(of('2026-01-01', cycle(15))).toBe('2025-12-15 2026-01-15 billingDay')
    expect(of('2026-10-31', cycle(1))).toBe('2026-10-01 2026-11-01 billingDay')
  })

  it('starts on the last day of shorter months', () => {
    expect(of('2026-02-27', cycle(31))).toBe('2026-01-31 2026-02-28 billingDay')
    expect(of('2026-02-28', cycle(31))).toBe('2026-02-28 2026-03-31 billingDay')
    expect(of('2026-04-30', cycle(31))).toBe('2026-04-30 2026-05-31 billingDay')
    expect(of('2024-02-29', cycle(30))).toBe('2024-02-29 2024-03-30 billingDay')
    expect(of('2026-03-29', cycle(30))).toBe('2026-02-28 2026-03-30 billingDay')
  })

  it('takes explicit periods where they cover the day, and cuts the others at them', () => {
    const account = cycle(15, ['2026-06-13', '2026-07-16'], ['2026-07-16', '2026-08-14'], ['2026-10-20', '2026-11-18'])
    expect(of('2026-06-13', account)).toBe('2026-06-13 2026-07-16 cis')
    expect(of('2026-07-16', account)).toBe('2026-07-16 2026-08-14 cis')
    expect(of('2026-06-12', account)).toBe('2026-05-15 2026-06-13 billingDay')
    expect(of('2026-08-14', account)).toBe('2026-08-14 2026-08-15 billingDay')
    expect(of('2026-08-15', account)).toBe('2026-08-15 2026-09-15 billingDay')
    expect(of('2026-10-19', account)).toBe('2026-10-15 2026-10-20 billingDay')
    expect(of('2026-11-18', account)).toBe('2026-11-18 2026-12-15 billingDay')
  })

  it('fills a gap of two explicit periods within one month', () => {
    const account = cycle(null, ['2026-06-01', '2026-06-10'], ['2026-06-20', '2026-07-01'])
    expect(of('2026-06-15', account)).toBe('2026-06-10 2026-06-20 calendar')
  })
})

describe('periodsBetween', () => {
  it('lists whole periods that cover the range', () => {
    const account = cycle(15, ['2026-06-13', '2026-07-16'])
    expect(periodsBetween(dayNumber('2026-06-01'), dayNumber('2026-08-15'), account).map(text)).toEqual([
      '2026-05-15 2026-06-13 billingDay', '2026-06-13 2026-07-16 cis', '2026-07-16 2026-08-15 billingDay'])
    expect(periodsBetween(5, 5, account)).toEqual([])
    expect(periodsBetween(6, 5, account)).toEqual([])
    expect(() => periodsBetween(5, Infinity, account)).toThrow(RangeError)
  })

  it('goes back', () => {
    const account = cycle(15, ['2026-06-13', '2026-07-16'])
    const current = periodOf(dayNumber('2026-07-20'), account)
    expect(text(previousPeriod(current, account))).toBe('2026-06-13 2026-07-16 cis')
    expect(text(previousPeriod(previousPeriod(current, account), account))).toBe('2026-05-15 2026-06-13 billingDay')
  })
})

describe('any account', () => {
  const account = fc.record({
    billingDay: fc.oneof(fc.constant(null), fc.integer({ min: 1, max: 31 })),
    periods: fc.array(fc.tuple(fc.nat(70), fc.integer({ min: 1, max: 70 })), { maxLength: 8 }).map((list) => {
      let day = 20000
      return list.map(([gap, length]) => {
        const startDay = day + gap
        day = startDay + length
        return { startDay, endDay: day }
      })
    }),
  })

  it('has exactly one period for every day', () => {
    fc.assert(fc.property(account, fc.integer({ min: 19900, max: 20700 }), fc.nat(400), (cycle, from, length) => {
      const found = periodsBetween(from, from + length, cycle)
      if (length > 0) expect(found[0].startDay <= from && found[found.length - 1].endDay >= from + length).toBe(true)
      for (const [i, p] of found.entries()) {
        expect(p.endDay).toBeGreaterThan(p.startDay)
        if (i > 0) {
          expect(p.startDay).toBe(found[i - 1].endDay)
          expect(previousPeriod(p, cycle)).toEqual(found[i - 1])
        }
        for (let day = p.startDay; day < p.endDay; day++) expect(periodOf(day, cycle)).toEqual(p)
        const explicit = cycle.periods.find((x) => x.startDay < p.endDay && p.startDay < x.endDay)
        expect(p.source === 'cis').toBe(explicit !== undefined)
        if (explicit !== undefined) expect(p).toEqual({ ...explicit, source: 'cis' })
        else if (!cycle.periods.some((x) => x.endDay === p.startDay)) {
          expect(civilOfDay(p.startDay).day).toBe(Math.min(cycle.billingDay ?? 1, daysInMonth(p.startDay)))
        }
      }
    }), { numRuns: Math.ceil(RUNS / 3) })
  })
})
