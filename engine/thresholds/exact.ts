/** An exact decimal: mantissa x 10^exponent. Energy is compared and summed in these, never in binary floats. */
export interface Exact {
  readonly mantissa: bigint
  readonly exponent: number
}

export const ZERO: Exact = { mantissa: 0n, exponent: 0 }

/** Reads a plain decimal such as `-12.340` or `1e-3`. @throws RangeError where the text is no decimal. */
export function parseExact(text: string): Exact {
  const parts = /^(-?)(\d+)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/.exec(text)
  if (parts === null) throw new RangeError(`not a decimal: ${text}`)
  const [, sign, whole, fraction = '', power = '0'] = parts
  const magnitude = BigInt(whole + fraction)
  return { mantissa: sign === '-' ? -magnitude : magnitude, exponent: Number(power) - fraction.length }
}

export function addExact(a: Exact, b: Exact): Exact {
  const exponent = Math.min(a.exponent, b.exponent)
  return { mantissa: scaled(a, exponent) + scaled(b, exponent), exponent }
}

export function subtractExact(a: Exact, b: Exact): Exact {
  return addExact(a, { mantissa: -b.mantissa, exponent: b.exponent })
}

export function multiplyExact(a: Exact, b: Exact): Exact {
  return { mantissa: a.mantissa * b.mantissa, exponent: a.exponent + b.exponent }
}

/** a / b, b above 0, rounded half away from zero to 10^exponent. */
export function divideExact(a: Exact, b: Exact, exponent: number): Exact {
  // a.m x 10^(a.e) / (b.m x 10^(b.e)) = q x 10^exponent
  const shift = a.exponent - b.exponent - exponent
  const numerator = shift >= 0 ? a.mantissa * 10n ** BigInt(shift) : a.mantissa
  const denominator = shift >= 0 ? b.mantissa : b.mantissa * 10n ** BigInt(-shift)
  return { mantissa: divideHalfUp(numerator, denominator), exponent }
}

/** Rounded half away from zero to 10^exponent. */
export function roundExact(value: Exact, exponent: number): Exact {
  if (value.exponent >= exponent) return { mantissa: scaled(value, exponent), exponent }
  return { mantissa: divideHalfUp(value.mantissa, 10n ** BigInt(exponent - value.exponent)), exponent }
}

/** The double nearest to the value. */
export function exactNumber(value: Exact): number {
  return Number(`${value.mantissa}e${value.exponent}`)
}

/** Negative, zero or positive as a is less than, equal to or greater than b. */
export function compareExact(a: Exact, b: Exact): number {
  const exponent = Math.min(a.exponent, b.exponent)
  const left = scaled(a, exponent)
  const right = scaled(b, exponent)
  return left < right ? -1 : left > right ? 1 : 0
}

/** Plain decimal text without trailing zeros: what PostgreSQL's numeric and a JSON number take. */
export function exactText(value: Exact): string {
  const negative = value.mantissa < 0n
  let digits = (negative ? -value.mantissa : value.mantissa).toString()
  if (value.exponent > 0 && digits !== '0') digits += '0'.repeat(value.exponent)
  if (value.exponent < 0) {
    const places = -value.exponent
    digits = digits.padStart(places + 1, '0')
    const fraction = digits.slice(-places).replace(/0+$/, '')
    digits = digits.slice(0, -places) + (fraction === '' ? '' : `.${fraction}`)
  }
  return negative ? `-${digits}` : digits
}

/** Quotient of integers, the denominator above 0, rounded half away from zero. */
function divideHalfUp(numerator: bigint, denominator: bigint): bigint {
  const magnitude = numerator < 0n ? -numerator : numerator
  const quotient = (2n * magnitude + denominator) / (2n * denominator)
  return numerator < 0n ? -quotient : quotient
}

function scaled(value: Exact, exponent: number): bigint {
  return value.exponent === exponent ? value.mantissa : value.mantissa * 10n ** BigInt(value.exponent - exponent)
}
