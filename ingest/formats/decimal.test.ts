import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MAX_MANTISSA } from '../../engine/read-batch.js'
import { DecimalFitter } from './decimal.js'
import { fitText } from './number-text.js'

function double(value: number, shift = 0, round = false): [string, number?, number?] {
  const fitter = new DecimalFitter(round)
  const fit = fitter.fitDouble(value, shift)
  return fit === 'ok' ? [fit, fitter.mantissa, fitter.decimals] : [fit]
}

function text(value: string, shift = 0, round = false): [string, number?, number?] {
  const fitter = new DecimalFitter(round)
  const fit = fitText(value, shift, fitter)
  return fit === 'ok' ? [fit, fitter.mantissa, fitter.decimals] : [fit]
}

describe('a value becomes a mantissa and decimals', () => {
  it.each([
    ['0.512', 512, 3], ['.145', 145, 3], ['5.', 5000, 3], ['0', 0, 3], ['-0.0', 0, 3], ['-1.25', -1250, 3],
    ['+1.25', 1250, 3], ['1.5E3', 1_500_000, 3], ['1e-3', 1, 3], ['0.5120000', 512, 3], ['0.45399999999999996', 454, 3],
    ['0.1710001', 1_710_001, 7], ['0.123456789', 123_456_789, 9], ['2147483.647', 2_147_483_647, 3],
    ['2147483.65', 214_748_365, 2], ['5000000000', 500_000_000, -1], ['1e15', 1_000_000_000, -6],
    ['0.50000000025', 500, 3], ['0.30000000000000004', 300, 3], ['200000.0001', 2_000_000_001, 4],
  ])('%s', (value, mantissa, decimals) => {
    expect(text(value)).toEqual(['ok', mantissa, decimals])
    expect(double(Number(value))).toEqual(['ok', mantissa, decimals])
  })

  it('takes the unit into the decimals', () => {
    expect(text('188', 3)).toEqual(['ok', 188, 3])
    expect(text('188.5', 3)).toEqual(['ok', 1885, 4])
    expect(text('0.000188', -3)).toEqual(['ok', 188, 3])
    expect(double(188.5, 3)).toEqual(['ok', 1885, 4])
    expect(double(0.000188, -3)).toEqual(['ok', 188, 3])
    expect(double(12, -3)).toEqual(['ok', 12_000_000, 3])
  })

  it.each([
    ['3000000.001', 'value-precision'], ['2147483648', 'value-precision'], ['15.123456789', 'value-precision'],
    ['1e-12', 'value-precision'], ['1e300', 'value-range'], ['-9e18', 'value-range'], ['1e400', 'value-not-finite'],
  ])('refuses %s: %s', (value, fit) => {
    expect(text(value)).toEqual([fit])
    expect(double(Number(value))).toEqual([fit])
  })

  it.each(['', 'NaN', 'Infinity', '1,5', '0x10', '1.2.3', '--1', '.', 'e5', '1e', '1_000', '٣'])('%j is no number', value => {
    expect(text(value)).toEqual(['value-not-number'])
  })

  it('rounds only where the source allows it, and counts', () => {
    expect(text('15.123456789', 0, true)).toEqual(['ok', 15_123_457, 6])
    expect(text('2147483648', 0, true)).toEqual(['ok', 214_748_365, -1])
    expect(text('1e-12', 0, true)).toEqual(['ok', 0, 3])
    const fitter = new DecimalFitter(true)
    fitText('0.5', 0, fitter)
    fitText('0.0123456789123', 0, fitter)
    expect(fitter.rounded).toBe(1)
  })

  it('keeps every decimal that fits exactly, the same from text and from a double', () => {
    fc.assert(fc.property(fc.integer({ min: -MAX_MANTISSA, max: MAX_MANTISSA }), fc.integer({ min: 0, max: 9 }), (m, d) => {
      const digits = String(Math.abs(m)).padStart(d + 1, '0')
      const value = `${m < 0 ? '-' : ''}${digits.slice(0, digits.length - d)}${d > 0 ? `.${digits.slice(-d)}` : ''}`
      const [fit, mantissa = NaN, decimals = NaN] = text(value)
      expect(fit).toBe('ok')
      expect(BigInt(mantissa) * 10n ** BigInt(9 - decimals)).toBe(BigInt(m) * 10n ** BigInt(9 - d))
      expect(double(Number(value))).toEqual([fit, mantissa, decimals])
    }))
  })
})
