import fc from 'fast-check'
import { expect, it } from 'vitest'
import { boundOf } from './period-bounds.js'

it('a bound with its cap holds what is stored, and stays below the limit whatever the capped days come to', () => {
  fc.assert(fc.property(
    fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 31 }), fc.nat(30), fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 2 }),
    (days, at, limit, meters) => {
      const lastDay = at % days.length
      const sum = (list: number[]): number => list.reduce((a, b) => a + b, 0)
      const rest = days.slice(lastDay + 1)
      const { kwh, cap } = boundOf({ meterIds: Array.from({ length: meters }, (_, i) => i), limit, lastDay, endDay: days.length }, {
        before: sum(days.slice(0, lastDay)), onDay: days[lastDay], after: sum(rest), greatestAfter: Math.max(0, ...rest) })
      if (cap === null) {
        expect(kwh).toBe(sum(days))
        return
      }
      expect(meters).toBe(1)
      expect(kwh).toBe(sum(days.slice(0, cap.fromDay)))
      for (const day of days.slice(cap.fromDay)) expect(day).toBeLessThanOrEqual(cap.kwh)
      expect(kwh + (days.length - cap.fromDay) * cap.kwh).toBeLessThanOrEqual(limit)
    }))
})

it('a day that is below its share of what is left is capped itself, since it may grow', () => {
  const stored = { before: 300, onDay: 20, after: 0, greatestAfter: 0 }
  expect(boundOf({ meterIds: [1], limit: 900, lastDay: 10, endDay: 30 }, stored)).toEqual({ kwh: 300, cap: { fromDay: 10, kwh: 27 } })
  expect(boundOf({ meterIds: [1], limit: 900, lastDay: 10, endDay: 30 }, { ...stored, onDay: 30 })).toMatchObject({ kwh: 330, cap: { fromDay: 11 } })
})
