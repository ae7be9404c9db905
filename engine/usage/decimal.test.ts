import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ExactSum, powerKw, scaled } from './decimal.js'

describe('ExactSum', () => {
  it('adds 96 reads of 0.001 to 0.096', () => {
    const sum = new ExactSum()
    for (let i = 0; i < 96; i++) sum.add(1, -3)
    expect(sum.number()).toBe(0.096)
    expect(sum.text()).toBe('0.096')
  })

  it('agrees with integers of any size, whatever the order and the exponents', () => {
    fc.assert(fc.property(
      fc.array(fc.tuple(fc.integer({ min: -Number.MAX_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER }), fc.integer({ min: -9, max: 6 }))),
      (terms) => {
        const sum = new ExactSum()
        const halves = [new ExactSum(), new ExactSum()]
        let expected = 0n
        terms.forEach(([mantissa, exponent], i) => {
          sum.add(mantissa, exponent)
          halves[i % 2].add(mantissa, exponent)
          expected += BigInt(mantissa) * 10n ** BigInt(exponent + 9)
        })
        expect(sum.number()).toBe(Number(`${expected}e-9`))
        expect(parse9(sum.text())).toBe(expected)
        halves[0].addSum(halves[1])
        expect(halves[0].number()).toBe(sum.number())
        halves[0].subtract(halves[1])
        halves[0].addSum(halves[1])
        halves[0].subtract(sum)
        expect(halves[0].number()).toBe(0)
      }))
  })

  it('scales and gives power with one rounding', () => {
    expect(scaled(454, -3)).toBe(0.454)
    expect(scaled(12, 3)).toBe(12_000)
    expect(powerKw(512, -3, 900)).toBe(2.048)
    expect(powerKw(0, -3, 900)).toBe(0)
    expect(powerKw(-512, -3, 900)).toBe(-2.048)
  })
})

/** The text as a whole number of 10^-9. */
function parse9(text: string): bigint {
  const [whole, fraction = ''] = text.replace('-', '').split('.')
  const n = BigInt(whole + fraction.padEnd(9, '0'))
  return text.startsWith('-') ? -n : n
}
