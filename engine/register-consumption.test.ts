import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { consumptionOf } from './register-consumption.js'

const ONE = 1_000_000_000n
const steps = (values: number[], exchanges: number[] = []) =>
  consumptionOf(values.map((v, i) => ({ atS: i * 3600, nanos: BigInt(Math.round(v * 1000)) * (ONE / 1000n) })), exchanges)
    .map((s) => [s.kind, s.nanos === null ? null : Number(s.nanos) / 1e9])

describe('consumption by difference', () => {
  it.each([
    ['what a register counted', [100, 100, 101.5], [['difference', 0], ['difference', 1.5]]],
    ['a few units back', [544, 540, 550], [['step-back', -4], ['difference', 10]]],
    ['the dials\' end', [99_990.5, 3.25], [['rollover', 12.75]]],
    ['a reset', [5000, 2, 10], [['reset', null], ['difference', 8]]],
    ['half of what was', [5000, 2500], [['unexplained', null]]],
    ['from the last tenth far beyond the first', [99_990, 40_000], [['unexplained', null]]],
  ])('%s', (_, values, expected) => {
    expect(steps(values)).toEqual(expected)
  })

  it('has no value over an exchange, whatever the two devices show', () => {
    expect(steps([100, 5, 9], [1800])).toEqual([['exchange', null], ['difference', 4]])
    expect(steps([100, 500], [3600])).toEqual([['exchange', null]])
    expect(steps([100, 500], [0])).toEqual([['difference', 400]])
  })

  it('adds up to the last less the first where nothing rolled over', () => {
    fc.assert(fc.property(fc.array(fc.bigInt({ min: 0n, max: 10n ** 15n }), { minLength: 2, maxLength: 20 }), (deltas) => {
      let value = 10n ** 18n
      const points = deltas.map((d, i) => ({ atS: i, nanos: value += d }))
      const sum = consumptionOf(points, []).reduce((a, s) => a + (s.nanos ?? 0n), 0n)
      expect(sum).toBe(points[points.length - 1].nanos - points[0].nanos)
    }))
  })
})
