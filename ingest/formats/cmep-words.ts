import { unitOf, type Unit } from '../../engine/quantity.js'
import { Flow, Quality, type FlowCode, type QualityCode } from '../../engine/read-batch.js'
import { addMonths, dayOfCivil, monthLength } from '../../engine/time/civil.js'

/** The words of CMEP: units, qualities, times and intervals. */

export interface CmepUnit extends Unit {
  flow: FlowCode
  /** A cumulative register, not the consumption of an interval. */
  isRegister: boolean
  /** Label that keeps a register of both directions' sum apart from the delivered one. */
  tou: string
}

const OWN_UNITS: ReadonlyMap<string, string> = new Map([
  ['VOLTS', 'V'], ['CCFC', 'CCF'], ['ACFT', 'acre-ft'], ['THERM', 'therm'], ['PULSE', 'count'], ['AMPS', 'A'],
])

const known = new Map<string, CmepUnit | null>()

/**
 * A unit of field 11: the quantity, `REG` at the end for a register, and Sensus's prefix for the flow: none delivered,
 * G received, N net, S the sum of both directions, which is booked as delivered (a register of it has the label `sum`).
 * Null for units that are no quantity that is kept (`TIME`, `$`, `GAS`).
 */
export function cmepUnit(word: string): CmepUnit | null {
  let unit = known.get(word)
  if (unit !== undefined) return unit
  unit = parseUnit(word.trim().toUpperCase())
  if (known.size < 500) known.set(word, unit)
  return unit
}

function parseUnit(word: string): CmepUnit | null {
  const isRegister = word.length > 3 && word.endsWith('REG')
  const base = isRegister ? word.slice(0, -3) : word
  const plain = plainUnit(base)
  if (plain !== undefined) return { ...plain, flow: Flow.delivered, isRegister, tou: '' }
  const prefixed = plainUnit(base.slice(1))
  if (prefixed === undefined) return null
  switch (base[0]) {
    case 'G': return { ...prefixed, flow: Flow.received, isRegister, tou: '' }
    case 'N': return { ...prefixed, flow: Flow.net, isRegister, tou: '' }
    case 'S': return { ...prefixed, flow: Flow.delivered, isRegister, tou: isRegister ? 'sum' : '' }
    default: return null
  }
}

function plainUnit(word: string): Unit | undefined {
  // GWH is Sensus's received watt-hours; gigawatt-hours do not come from a meter.
  return /^G[WV]/.test(word) ? undefined : unitOf(OWN_UNITS.get(word) ?? word)
}

/** What a quality field says. */
export interface CmepQuality {
  lane: QualityCode
  /** There is no value, whatever stands in its field. */
  isMissing: boolean
  /** Sensus: the transformer's ratio is already in the value. */
  isMultiplied: boolean
  /** Sensus's bits say that daylight saving is in effect; null: no bits. */
  isDst: boolean | null
}

const MISSING_BIT = 1 << 5
const DST_BIT = 1 << 6
/** Overflow, long and short interval, test mode, clock out of sync, missing: a value that should not be trusted as it is. */
const SUSPECT_BITS = (1 << 9) | (1 << 10) | (1 << 11) | (1 << 12) | (1 << 15) | MISSING_BIT
const PATTERN = /^([REAN]?)\s*(?:([0-9A-F]{2})\s([0-9A-F]{2})|(\d{1,10}))?$/

const LANES: Readonly<Record<string, QualityCode>> = {
  '': Quality.validated, R: Quality.actual, E: Quality.estimated, A: Quality.edited, N: Quality.actual,
}

const qualities = new Map<string, CmepQuality | undefined>()

/**
 * A quality: empty valid, R raw, E estimated, A adjusted, N no value; after it Sensus's bits as a decimal number, or
 * SmartSynch's two hexadecimal bytes, whose meaning is not published. Undefined for what is none of these.
 */
export function cmepQuality(text: string): CmepQuality | undefined {
  if (qualities.has(text)) return qualities.get(text)
  const quality = parseQuality(text)
  if (qualities.size < 5000) qualities.set(text, quality)
  return quality
}

function parseQuality(text: string): CmepQuality | undefined {
  const match = PATTERN.exec(text.trim())
  if (match === null) return undefined
  const [, letter, , , decimal] = match
  const hasBits = (decimal as string | undefined) !== undefined
  const bits = hasBits ? Number(decimal) >>> 0 : 0
  // With Sensus's bits A says that the transformer's ratio was applied, not that somebody edited the read.
  const isMultiplied = letter === 'A' && hasBits
  let lane = isMultiplied ? Quality.actual : LANES[letter]
  if ((bits & SUSPECT_BITS) !== 0 && lane !== Quality.estimated) lane = Quality.questionable
  return { lane, isMissing: letter === 'N', isMultiplied, isDst: hasBits ? (bits & DST_BIT) !== 0 : null }
}

/** Reads `CCYYMMDDHHMM`, with seconds where 14 digits stand, as seconds of that clock. */
export class CmepClock {
  localS = 0
  #date = -1
  #midnightS = 0

  /** False where bytes [from, to) are no such time. 24:00 ends the day, as some head-ends write. */
  read(bytes: Uint8Array, from: number, to: number): boolean {
    const length = to - from
    if (length !== 12 && length !== 14) return false
    let date = 0
    let p = from
    for (const end = from + 8; p < end; p++) {
      const d = bytes[p] - 48
      if (!(d >= 0 && d <= 9)) return false
      date = date * 10 + d
    }
    let clock = 0
    for (; p < to; p++) {
      const d = bytes[p] - 48
      if (!(d >= 0 && d <= 9)) return false
      clock = clock * 10 + d
    }
    if (date !== this.#date && !this.#setDate(date)) return false
    if (length === 12) clock *= 100
    const second = clock % 100
    const minute = Math.floor(clock / 100) % 100
    const hour = Math.floor(clock / 10_000)
    if (minute > 59 || second > 59 || hour > 24 || (hour === 24 && minute + second > 0)) return false
    this.localS = this.#midnightS + hour * 3600 + minute * 60 + second
    return true
  }

  #setDate(date: number): boolean {
    const year = Math.floor(date / 10_000)
    const month = Math.floor(date / 100) % 100
    const day = date % 100
    if (year === 0 || month < 1 || month > 12 || day < 1 || day > monthLength(year, month)) return false
    this.#date = date
    this.#midnightS = dayOfCivil(year, month, day) * 86_400
    return true
  }
}

/** An interval: whole months, or seconds. */
export interface CmepInterval {
  months: number
  seconds: number
}

/** `MMDDHHMM`, or Landis+Gyr's `DDHHMM`; undefined for anything else. Zero and empty: not stated. */
export function cmepInterval(text: string): CmepInterval | undefined {
  if (text === '') return { months: 0, seconds: 0 }
  const match = /^(\d\d)?(\d\d)(\d\d)(\d\d)$/.exec(text)
  if (match === null) return undefined
  const [months, days, hours, minutes] = [match[1] ?? '0', match[2], match[3], match[4]].map(Number)
  return { months, seconds: days * 86_400 + hours * 3600 + minutes * 60 }
}

/** Start of the interval that ends at a time of the same clock. */
export function startOf(endS: number, { months, seconds }: CmepInterval): number {
  if (months === 0) return endS - seconds
  const day = Math.floor(endS / 86_400)
  return addMonths(day, -months) * 86_400 + (endS - day * 86_400) - seconds
}

/** A number with D for the power of ten, or hexadecimal after H, as a plain one. */
export function plainNumber(text: string): string {
  const hex = /^H([0-9A-Fa-f]{1,13})$/.exec(text)
  return hex === null ? text.replace(/[dD](?=[+-]?\d)/, 'E') : String(Number.parseInt(hex[1], 16))
}

/** The number times the constant, exactly where both are short. */
export function scaled(text: string, constant: string): string {
  const number = plainNumber(text)
  if (constant === '1' || !/^-?\d+(?:\.\d+)?$/.test(number) || !/^\d+(?:\.\d+)?$/.test(constant)) {
    return constant === '1' ? number : String(Number(number) * Number(constant))
  }
  const digits = (n: string): number => n.length - (n.includes('.') ? n.indexOf('.') + 1 : n.length)
  const decimals = digits(number) + digits(constant)
  const product = BigInt(number.replace('.', '')) * BigInt(constant.replace('.', ''))
  const text15 = String(product < 0n ? -product : product).padStart(decimals + 1, '0')
  const point = text15.length - decimals
  return `${product < 0n ? '-' : ''}${text15.slice(0, point)}${decimals === 0 ? '' : `.${text15.slice(point)}`}`
}

/** A 64-bit mask, decimal or hexadecimal after H; undefined for anything else. */
export function alarmMask(text: string): bigint | undefined {
  const mask = /^\d{1,20}$/.test(text) ? BigInt(text) : /^H[0-9A-Fa-f]{1,16}$/.test(text) ? BigInt(`0x${text.slice(1)}`) : undefined
  return mask !== undefined && mask < 1n << 64n ? mask : undefined
}
