/**
 * Exact decimals: value = mantissa x 10^-decimals kWh, the mantissa an int32 (engine/read-batch.ts).
 *
 * What a value becomes depends on the value alone, never on its neighbours: the same read gives the same mantissa and
 * decimals in whatever block, split or format it arrives (C2).
 */
import { MAX_MANTISSA } from '../../engine/read-batch.js'

/** Finest and coarsest scale: 10^-9 kWh and 10^6 kWh. */
export const MAX_DECIMALS = 9
export const MIN_DECIMALS = -6
/** Scale that values have unless they need another one. */
export const USUAL_DECIMALS = 3
/** Decimals that the `round` setting leaves at most, so that rounded values of one day share an exponent. */
const ROUND_DECIMALS = 6

export const P10 = [1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15]

/** Distance to a representable decimal, relative to the value, that counts as the noise of binary floats. */
const NOISE = 1e-9

export type Fit = 'ok' | 'value-precision' | 'value-range' | 'value-not-finite'

/** Fits values to a mantissa and its decimals; the last result stands in the fields. */
export class DecimalFitter {
  mantissa = 0
  decimals = USUAL_DECIMALS
  /** Values that were rounded because the `round` setting allows it. */
  rounded = 0
  readonly #round: boolean

  constructor(round: boolean) {
    this.#round = round
  }

  /**
   * Fits m x 10^-decimals kWh.
   *
   * @param m an integer of at most 15 digits
   */
  fit(m: number, decimals: number): Fit {
    if (this.#settle(m, decimals)) return 'ok'
    // More digits than any double tells apart from its neighbours would have come to fitDouble().
    if (decimals <= MAX_DECIMALS) return this.#refuse(m / power(decimals))
    return this.#snap(m / power(decimals))
  }

  /** Fits m x 10^-decimals kWh where it is kept as it is; false where it takes rounding, or none will do. */
  fitExactly(m: number, decimals: number): boolean {
    return this.#settle(m, decimals)
  }

  /**
   * Fits value x 10^-shift kWh.
   *
   * @param shift 0 for kWh, 3 for Wh, -3 for MWh
   */
  fitDouble(value: number, shift: number): Fit {
    if (!Number.isFinite(value)) return 'value-not-finite'
    const usual = Math.max(0, USUAL_DECIMALS - shift)
    let exact = this.#exactly(value, usual, shift)
    for (let d = 0; exact === null && d + shift <= MAX_DECIMALS; d++) exact = this.#exactly(value, d, shift)
    if (exact !== null) return exact
    return this.#snap(scale(value, shift))
  }

  /** Fits a double that is a decimal with d digits after the point; null where it is not. */
  #exactly(value: number, d: number, shift: number): Fit | null {
    const r = Math.round(value * P10[d])
    // r / 10^d is the double nearest to that decimal, so equality means: the sender wrote exactly this decimal.
    if (Math.abs(r) > Number.MAX_SAFE_INTEGER || r / P10[d] !== value) return null
    return this.#settle(r, d + shift) ? 'ok' : this.#refuse(scale(value, shift))
  }

  /** Takes an exact decimal in its normal form: 3 decimals where they do, else as few more or fewer as need be. */
  #settle(m: number, decimals: number): boolean {
    if (m === 0) {
      this.mantissa = 0
      this.decimals = USUAL_DECIMALS
      return true
    }
    while (decimals > USUAL_DECIMALS && m % 10 === 0) {
      m /= 10
      decimals--
    }
    while (decimals < USUAL_DECIMALS && Math.abs(m) * 10 <= MAX_MANTISSA) {
      m *= 10
      decimals++
    }
    while (Math.abs(m) > MAX_MANTISSA && m % 10 === 0 && decimals > MIN_DECIMALS) {
      m /= 10
      decimals--
    }
    if (Math.abs(m) > MAX_MANTISSA || decimals > MAX_DECIMALS || decimals < MIN_DECIMALS) return false
    this.mantissa = m
    this.decimals = decimals
    return true
  }

  /** Takes the nearest decimal with the fewest digits where the difference is float noise. */
  #snap(value: number): Fit {
    for (let d = 0; d <= MAX_DECIMALS; d++) {
      const exact = value * P10[d]
      const r = Math.round(exact)
      if (Math.abs(r) > MAX_MANTISSA) break
      if (r !== 0 && Math.abs(exact - r) <= NOISE * Math.abs(exact) && this.#settle(r, d)) return 'ok'
    }
    return this.#refuse(value)
  }

  #refuse(value: number): Fit {
    if (!(Math.abs(value) <= MAX_MANTISSA * power(-MIN_DECIMALS))) return 'value-range'
    if (!this.#round) return 'value-precision'
    for (let d = ROUND_DECIMALS; d >= MIN_DECIMALS; d--) {
      const r = Math.round(d < 0 ? value / power(-d) : value * P10[d])
      if (Math.abs(r) > MAX_MANTISSA) continue
      this.#settle(r, d)
      this.rounded++
      return 'ok'
    }
    return 'value-range'
  }
}

function power(n: number): number {
  return n >= 0 && n < P10.length ? P10[n] : 10 ** n
}

/** value x 10^-shift, by one correctly rounded operation. */
function scale(value: number, shift: number): number {
  return shift >= 0 ? value / P10[shift] : value * P10[-shift]
}
