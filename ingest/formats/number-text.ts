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

/** A number as a whole mantissa and the digits after its point. */
export interface ExactDecimal {
  mantissa: number
  decimals: number
  rounded: boolean
}

const MAX_DIGITS = 15
const MAX_SCALE = 9

/**
 * A number of at most 15 digits, exactly, as registers are kept: value = mantissa x 10^-decimals. The noise of binary
 * floats beyond the 15th digit is dropped; finer than 9 decimals only with the source's `round`.
 *
 * @param shift decimals that the unit adds
 * @returns undefined where the text is no number, or one that cannot be kept
 */
export function exactDecimal(text: string, shift: number, round: boolean): ExactDecimal | undefined {
  if (text.length > 400 || !NUMBER.test(text)) return undefined
  let parts = decimalParts(text)
  if (parts.digits.length > MAX_DIGITS) {
    const value = Number(text)
    if (!Number.isFinite(value)) return undefined
    parts = decimalParts(value.toPrecision(MAX_DIGITS))
  }
  let mantissa = Number(parts.digits)
  let decimals = parts.decimals + shift
  while (decimals > 0 && mantissa % 10 === 0 && mantissa !== 0) {
    mantissa /= 10
    decimals--
  }
  if (mantissa === 0) decimals = 0
  while (decimals < 0 && mantissa * 10 < 1e15) {
    mantissa *= 10
    decimals++
  }
  let rounded = false
  if (decimals > MAX_SCALE) {
    if (!round || decimals > 30) return undefined
    mantissa = Math.round(mantissa / 10 ** (decimals - MAX_SCALE))
    decimals = MAX_SCALE
    rounded = true
  }
  if (decimals < 0) return undefined
  return { mantissa: parts.isNegative && mantissa !== 0 ? -mantissa : mantissa, decimals, rounded }
}

/** Significant digits of a number's text and how many stand after the point, its power of ten taken in. */
function decimalParts(text: string): { isNegative: boolean; digits: string; decimals: number } {
  const [, sign, whole, fraction, power] = /^([+-]?)(\d*)\.?(\d*)(?:[eE]([+-]?\d+))?$/.exec(text) ?? ['', '', '', '', '']
  const digits = `${whole}${fraction}`.replace(/^0+/, '')
  const trimmed = digits.replace(/0+$/, '')
  return {
    isNegative: sign === '-', digits: trimmed === '' ? '0' : trimmed,
    decimals: trimmed === '' ? 0 : fraction.length - Number(power ?? 0) - (digits.length - trimmed.length),
  }
}
