import type { DecimalFitter, Fit } from './decimal.js'

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/

/**
 * Fits a number written as text, exactly; what the fast readers leave over comes here.
 *
 * @param text without spaces about it, the decimal mark a point
 * @param shift decimals that the unit adds
 * @param multiplier multiplies the number; also given as integer x 10^-digits, integer 0 where it is no short decimal
 * @returns how it fits, or that it is no number
 */
export function fitText(
  text: string, shift: number, fitter: DecimalFitter, multiplier = 1, integer = 1, digits = 0,
): Fit | 'value-not-number' {
  if (text.length > 400 || !NUMBER.test(text)) return 'value-not-number'
  const plain = /^([+-]?)(\d*)\.?(\d*)$/.exec(text)
  const m = plain === null ? NaN : Number(plain[2] + plain[3]) * integer
  // Beyond 15 digits a double may not be exact.
  if (plain === null || integer === 0 || !(Math.abs(m) < 1e15)) {
    return fitter.fitDouble(Number(text) * multiplier, shift)
  }
  return fitter.fit(plain[1] === '-' ? -m : m, plain[3].length + digits + shift)
}
