/**
 * An exact sum of decimals. Mantissas are added as integers at a common power of ten, so that 96 reads of 0.001 are
 * 0.096; a binary sum would drift. Numbers carry it while they are exact, BigInt afterwards.
 */
export class ExactSum {
  /** Sum = mantissa x 10^exponent, unless #big holds the mantissa. */
  #mantissa = 0
  #big: bigint | null = null
  #exponent = 0
  #empty = true

  /** Adds mantissa x 10^exponent; both are safe integers. */
  add(mantissa: number, exponent: number): void {
    if (this.#empty) {
      this.#mantissa = mantissa
      this.#exponent = exponent
      this.#empty = false
      return
    }
    if (exponent === this.#exponent && this.#big === null) {
      const sum = this.#mantissa + mantissa
      if (Number.isSafeInteger(sum)) {
        this.#mantissa = sum
        return
      }
    }
    this.#addBig(BigInt(mantissa), exponent)
  }

  /** Adds another sum. */
  addSum(other: ExactSum): void {
    if (other.#empty) return
    if (other.#big === null) this.add(other.#mantissa, other.#exponent)
    else this.#addBig(other.#big, other.#exponent)
  }

  /** Takes another sum away. */
  subtract(other: ExactSum): void {
    if (other.#empty) return
    if (other.#big === null) this.add(-other.#mantissa, other.#exponent)
    else this.#addBig(-other.#big, other.#exponent)
  }

  /** The sum as the double nearest to it, which prints as the decimal itself up to 15 digits. */
  number(): number {
    // Numerator and denominator are exact doubles, so one division rounds once, and correctly.
    if (this.#big === null && Math.abs(this.#exponent) <= 15) return scaled(this.#mantissa, this.#exponent)
    return Number(`${this.#big ?? this.#mantissa}e${this.#exponent}`)
  }

  /** The sum, taken as kWh over an interval, as mean power in kW. */
  powerKw(intervalS: number): number {
    return this.#big === null ? powerKw(this.#mantissa, this.#exponent, intervalS) : this.number() * 3600 / intervalS
  }

  /** The sum in full, without an exponent: `-12.300`. */
  text(): string {
    const digits = String(this.#big ?? this.#mantissa)
    if (this.#exponent >= 0) return digits === '0' ? '0' : digits + '0'.repeat(this.#exponent)
    const sign = digits.startsWith('-') ? '-' : ''
    const whole = digits.slice(sign.length).padStart(1 - this.#exponent, '0')
    return `${sign}${whole.slice(0, this.#exponent)}.${whole.slice(this.#exponent)}`
  }

  #addBig(mantissa: bigint, exponent: number): void {
    let sum = this.#big ?? BigInt(this.#mantissa)
    if (exponent < this.#exponent) {
      sum *= 10n ** BigInt(this.#exponent - exponent)
      this.#exponent = exponent
    } else {
      mantissa *= 10n ** BigInt(exponent - this.#exponent)
    }
    sum += mantissa
    const small = Number(sum)
    this.#big = Number.isSafeInteger(small) ? null : sum
    this.#mantissa = this.#big === null ? small : 0
    this.#empty = false
  }
}

/** mantissa x 10^exponent as the nearest double; exact integers within 2^53 and exponents within 22 round once. */
export function scaled(mantissa: number, exponent: number): number {
  if (mantissa === 0) return 0
  return exponent < 0 ? mantissa / 10 ** -exponent : mantissa * 10 ** exponent
}

/** Mean power in kW of mantissa x 10^exponent kWh over an interval, as the nearest double. */
export function powerKw(mantissa: number, exponent: number, intervalS: number): number {
  if (mantissa === 0) return 0
  return exponent < 0
    ? (mantissa * 3600) / (intervalS * 10 ** -exponent)
    : (mantissa * 10 ** exponent * 3600) / intervalS
}
