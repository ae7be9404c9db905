import { BodyError } from '../../engine/problem.js'
import { unitOf, type Unit } from '../../engine/quantity.js'
import { DatePattern } from './date-pattern.js'
import { fitText } from './number-text.js'
import { mappedUnit, type ColumnRef, type CsvMapping } from './mapping.js'
import type { DecimalFitter } from './decimal.js'
import type { RecordTime } from './sink.js'
import { TimeReader } from './timestamps.js'

const DAY_S = 86400

/**
 * Position of a column.
 *
 * @throws BodyError 422 where the file has no such column, or two of the name
 */
export function columnAt(ref: ColumnRef, names: readonly string[], mapping: CsvMapping): number {
  const at = typeof mapping.headerLine === 'number' ? `line ${mapping.headerLine}` : mapping.headerLine === null ? 'line 1' : 'the header row'
  if (typeof ref === 'number') {
    if (ref <= names.length) return ref - 1
    throw new BodyError(422, 'missing-column',
      `The mapping ${mapping.name} wants a column ${ref}, and the file has ${names.length}.`, at)
  }
  const index = names.indexOf(ref.trim())
  if (index < 0) {
    const some = names.slice(0, 20).map(name => JSON.stringify(name.slice(0, 40))).join(', ')
    throw new BodyError(422, 'missing-column', `The mapping ${mapping.name} wants a column ${JSON.stringify(ref)}.`, at,
      `The file has: ${some}${names.length > 20 ? ', ...' : ''}.`)
  }
  if (names.indexOf(ref.trim(), index + 1) >= 0) {
    throw new BodyError(422, 'duplicate-column', `The file has two columns ${JSON.stringify(ref)}.`, at)
  }
  return index
}

/** Times by the patterns of the mapping, or RFC 3339. */
export class MappedClock {
  /** Seconds east of UTC of the last time; NaN: local time. */
  offsetS = NaN
  readonly #patterns: DatePattern[]
  readonly #time = new TimeReader()

  constructor(patterns: string) {
    this.#patterns = patterns === 'iso' ? [] : patterns.split('|').map((pattern) => new DatePattern(pattern))
  }

  /** Bytes that every time has; 0 where they have not as many, or one of the marks may stand in them. */
  widthWithout(marks: ReadonlySet<string>): number {
    const [pattern, ...others] = this.#patterns
    return this.#patterns.length === 0 || others.length > 0 || [...pattern.pattern].some(c => marks.has(c)) ? 0 : pattern.width
  }

  /** The time at [from, to), its label not considered; undefined where there is none. */
  read(bytes: Uint8Array, from: number, to: number): RecordTime | undefined {
    const localS = this.seconds(bytes, from, to)
    return Number.isNaN(localS) ? undefined : { localS, offsetS: this.offsetS, backS: 0 }
  }

  /** The wall clock of the time at [from, to), whose offset then stands in the field; NaN where there is none. */
  seconds(bytes: Uint8Array, from: number, to: number): number {
    if (this.#patterns.length === 0) {
      const isTime = this.#time.read(bytes, from, to)
      this.offsetS = this.#time.offsetS
      return isTime ? this.#time.localS : NaN
    }
    this.offsetS = NaN
    for (const pattern of this.#patterns) {
      const localS = pattern.read(bytes, from, to)
      if (!Number.isNaN(localS)) return localS
    }
    return NaN
  }
}

const KWH: Unit = unitOf('kWh') ?? { quantity: 1, shift: 0 }

/** Numbers by the mapping's marks, unit, kind and factor. */
export class MappedNumbers {
  /** Unit of values that name none. */
  readonly unit: Unit
  /** The values need no other treatment than their unit's. */
  readonly isPlain: boolean
  readonly #mapping: CsvMapping
  readonly #missing: ReadonlySet<string>
  #intervalS = NaN
  #multiplier = 1
  /** The multiplier as an integer and the digits after its point, where it is a short decimal. */
  #integer = 1
  #digits = 0

  constructor(mapping: CsvMapping) {
    this.#mapping = mapping
    this.#missing = new Set(mapping.missing)
    this.unit = mappedUnit(mapping.unit, mapping.kind) ?? KWH
    this.isPlain = mapping.kind === 'energy' && mapping.factor === 1
  }

  /** What a unit of the file's own column comes to; undefined for an unknown one. */
  unitOf(unit: string): Unit | undefined {
    return mappedUnit(unit, this.#mapping.kind)
  }

  isMissing(text: string): boolean {
    return text === '' || this.#missing.has(text)
  }

  /** The number as the decimal point's text; what is no number stays none. */
  plain(text: string): string {
    const { decimalMark, thousandsMark } = this.#mapping
    if (thousandsMark !== undefined && /^[+-]?\d{1,3}(?:\D\d{3})+(?:\D\d+)?$/.test(text)) {
      text = text.replaceAll(thousandsMark, '')
    }
    return decimalMark === '.' ? text : text.includes('.') ? '' : text.replace(decimalMark, '.')
  }

  fit(text: string, shift: number, intervalS: number, fitter: DecimalFitter): ReturnType<typeof fitText> {
    const plain = this.plain(text)
    if (this.isPlain) return fitText(plain, shift, fitter)
    if (intervalS !== this.#intervalS) this.#setMultiplier(intervalS)
    return fitText(plain, shift, fitter, this.#multiplier, this.#integer, this.#digits)
  }

  /** The multiplier at an interval length: integer x 10^-digits, integer 0 where it is no short decimal. */
  multiplier(intervalS: number): { integer: number, digits: number } {
    if (this.isPlain) return { integer: 1, digits: 0 }
    if (intervalS !== this.#intervalS) this.#setMultiplier(intervalS)
    return { integer: this.#integer, digits: this.#digits }
  }

  /** What a number comes to in kWh, not exactly. */
  energy(text: string, shift: number): number {
    return Number(this.plain(text)) * (this.isPlain ? 1 : this.#multiplier) / 10 ** shift
  }

  #setMultiplier(intervalS: number): void {
    const { kind, factor } = this.#mapping
    this.#intervalS = intervalS
    this.#multiplier = kind === 'power' ? factor * intervalS / 3600 : factor
    this.#integer = 0
    for (let d = 0; d <= 6 && this.#integer === 0; d++) {
      const n = Math.round(this.#multiplier * 10 ** d)
      if (n / 10 ** d === this.#multiplier) {
        this.#integer = n
        this.#digits = d
      }
    }
  }
}

/** A span on the clock's face: 23:45 to 00:00 is a quarter of an hour, a date and itself a day. */
export function wrap(seconds: number): number {
  return seconds > 0 ? seconds : ((seconds % DAY_S) + DAY_S) % DAY_S || DAY_S
}
