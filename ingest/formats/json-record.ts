import { Quantity, unitOf, unitOfQuantity, unitWords, type Unit } from '../../engine/quantity.js'
import { Flow, MAX_MANTISSA, MISSING, Quality, type FlowCode } from '../../engine/read-batch.js'
import { P10, USUAL_DECIMALS } from './decimal.js'
import type { DecodeContext, Piece } from './format.js'
import { blockText } from './record-text.js'
import type { ReadSink, RecordFacts, RecordTime, RecordValues } from './sink.js'
import { localText, utcText } from './timestamps.js'
import { intervalKind } from './words.js'

/** In `digits`: there is no read; the number is a double as JSON.parse would give it. */
export const NULL_DIGITS = 255
export const DOUBLE_DIGITS = 254

/** Where a record of a JSON or NDJSON body stands. */
export interface RecordPlace {
  /** Record number or line, from 1. */
  place: number
  rawFrom: number
  rawTo: number
}

/**
 * One block or single read of JSON, decoded but for its values' scale. One object serves for all records of a body:
 * the readers fill it, deliver() hands it to the sink.
 */
export class JsonRecord {
  meter = ''
  flow: FlowCode = Flow.delivered
  lane: number = Quality.actual
  lanes: number[] | null = null
  /** Seconds; 0: not stated. */
  intervalS = 0
  /** null: not stated. */
  unit: Unit | null = null
  /** A cumulative register's reads, with the register's label. */
  isRegister = false
  tou = ''
  /** The consumption of a period longer than a day, from start to here; null: none. */
  periodEnd: RecordTime | null = null
  version = 0
  /** A single read, by `value`; else a block, by `values`. */
  single = false
  isEnd = false
  localS = 0
  offsetS = NaN

  count = 0
  /** Values as integers and the digits after their point, in the sender's unit. */
  numbers = new Float64Array(512)
  digits = new Uint8Array(512)

  /** JSON pointer to the records' array, with a slash at the end; null: each record is a document. */
  pointer: string | null

  readonly #sink: ReadSink
  readonly #default: Unit | undefined
  readonly #defaultUnit: string
  readonly #defaultIntervalS: number
  #mantissas: Int32Array = new Int32Array(512)
  #decimals = new Int8Array(512)

  readonly #facts: RecordFacts = {
    meter: '', flow: Flow.delivered, quantity: Quantity.energy, intervalS: 0, lane: 0, version: 0, place: 0, rawFrom: 0, rawTo: 0,
  }
  readonly #usual = [{ decimals: USUAL_DECIMALS, mantissas: this.#mantissas }]
  readonly #values: RecordValues = { pieces: [], count: 0, lanes: null, reads: 0, single: false }
  readonly #time: RecordTime = { localS: 0, offsetS: NaN, backS: 0 }

  /** @param pointer JSON pointer to the records' array, with a slash at the end; null: the record is the document */
  constructor(sink: ReadSink, ctx: DecodeContext, pointer: string | null) {
    this.#sink = sink
    this.pointer = pointer
    this.#defaultUnit = ctx.defaultUnit ?? 'kWh'
    this.#default = unitOf(this.#defaultUnit)
    this.#defaultIntervalS = ctx.defaultIntervalS ?? 0
  }

  /** Forgets the last record. */
  reset(): void {
    this.meter = ''
    this.flow = Flow.delivered
    this.lane = Quality.actual
    this.lanes = null
    this.intervalS = 0
    this.unit = null
    this.isRegister = false
    this.tou = ''
    this.periodEnd = null
    this.version = 0
    this.single = false
    this.isEnd = false
    this.localS = 0
    this.offsetS = NaN
    this.count = 0
  }

  /** Appends a value: number x 10^-digits, or as NULL_DIGITS and DOUBLE_DIGITS say. */
  push(number: number, digits: number): void {
    if (this.count === this.numbers.length) this.#grow()
    this.numbers[this.count] = number
    this.digits[this.count++] = digits
  }

  /** Hands the record to the sink. */
  deliver(where: RecordPlace): void {
    const facts = this.#facts
    facts.meter = this.meter
    facts.flow = this.flow
    facts.lane = this.lane
    facts.version = this.version
    facts.intervalS = this.intervalS === 0 ? this.#defaultIntervalS : this.intervalS
    facts.place = where.place
    facts.rawFrom = where.rawFrom
    facts.rawTo = where.rawTo
    const unit = this.unit ?? this.#default
    if (this.isRegister && unit !== undefined) {
      facts.quantity = unit.quantity
      this.#deliverRegister(facts, unit)
      return
    }
    if (facts.intervalS === 0 || intervalKind(facts.intervalS) === 'none') {
      this.#refuseInterval(facts)
      return
    }
    if (unit === undefined) {
      this.#sink.problem(facts, 'unit-unsupported', `The source's unit ${this.#defaultUnit} is none that is taken.`, {
        reads: this.#present(), help: `Units: ${unitWords}.`,
      })
      return
    }
    facts.quantity = unit.quantity
    this.#time.localS = this.localS
    this.#time.offsetS = this.offsetS
    this.#time.backS = this.isEnd ? facts.intervalS : 0
    const values = this.#fit(unit.shift)
    if (values.reads > 0) this.#sink.add(facts, this.#time, values)
  }

  /** A register's reads: the first at `start` (or `end`), further ones an interval apart. */
  #deliverRegister(facts: RecordFacts, unit: Unit): void {
    for (let i = 0; i < this.count; i++) {
      const d = this.digits[i]
      if (d === NULL_DIGITS) continue
      const lane = this.lanes?.[i] ?? facts.lane
      const text = d === DOUBLE_DIGITS ? String(this.numbers[i]) : (this.numbers[i] / P10[d]).toFixed(d)
      const start = { localS: this.localS + i * facts.intervalS, offsetS: this.offsetS, backS: 0 }
      if (this.periodEnd === null) this.#sink.registers.add({ ...facts, lane, tou: this.tou }, start, text, unit.shift)
      else this.#sink.registers.add({ ...facts, lane, tou: this.tou }, this.periodEnd, text, unit.shift, start)
    }
  }

  /** Place of a member, as a JSON pointer in the document. */
  within(place: number, member: string): string {
    return member === '' ? '' : `${this.pointer === null ? '' : `${this.pointer}${place - 1}`}${member}`
  }

  #fit(shift: number): RecordValues {
    const { numbers, digits, count } = this
    const mantissas = this.#mantissas
    const usual = USUAL_DECIMALS - shift
    let reads = 0
    let mixed = false
    for (let i = 0; i < count; i++) {
      const d = digits[i]
      if (d <= usual) {
        const m = numbers[i] * P10[usual - d]
        if (m <= MAX_MANTISSA && m >= -MAX_MANTISSA) {
          mantissas[i] = m
          this.#decimals[i] = USUAL_DECIMALS
          reads++
          continue
        }
      }
      mantissas[i] = MISSING
      if (d === NULL_DIGITS) continue
      const fitter = this.#sink.decimals
      const fit = d === DOUBLE_DIGITS ? fitter.fitDouble(numbers[i], shift) : fitter.fit(numbers[i], d + shift)
      if (fit === 'ok') {
        mantissas[i] = fitter.mantissa
        this.#decimals[i] = fitter.decimals
        mixed ||= fitter.decimals !== USUAL_DECIMALS
        reads++
      } else {
        this.#refuseValue(i, fit, shift)
      }
    }
    const values = this.#values
    if (mixed) {
      values.pieces = joinScales(mantissas, this.#decimals, count)
    } else {
      this.#usual[0].mantissas = mantissas
      values.pieces = this.#usual
    }
    values.count = count
    values.lanes = this.lanes
    values.reads = reads
    values.single = this.single
    return values
  }

  #refuseValue(i: number, code: string, shift: number): void {
    const facts = this.#facts
    const d = this.digits[i]
    const value = (d === DOUBLE_DIGITS ? this.numbers[i] : this.numbers[i] / P10[d]) / 10 ** shift
    const { localS, offsetS, backS } = this.#time
    const firstS = localS - backS
    const instants = Number.isNaN(offsetS) ? this.#sink.clock?.instants(firstS) ?? [] : [firstS - offsetS]
    const start = instants.length === 1
      ? utcText(instants[0] + i * facts.intervalS)
      : localText(firstS + i * facts.intervalS)
    const lane = this.lanes?.[i] ?? facts.lane
    const within = this.within(facts.place, this.single ? '/value' : `/values/${i}`)
    refuseValue(this.#sink, { ...facts, lane }, code, value, start, within)
  }

  #refuseInterval(facts: RecordFacts): void {
    const unknown = facts.intervalS === 0
    this.#sink.problem(facts, unknown ? 'interval-unknown' : 'interval-length',
      unknown ? 'The interval length is not stated.' : `An interval of ${facts.intervalS} s fits no grid.`, {
        reads: this.#present(), record: this.#recordText(facts),
        help: unknown
          ? 'Send intervalSeconds, or set the source\'s interval length.'
          : 'Intervals are 60 s to 86400 s long and divide the hour, or are whole hours that divide the day. '
            + 'Reads longer than a day are not intervals.',
      })
  }

  /** The record as it came, for a replay under other settings; undefined where its start or unit is not known. */
  #recordText(facts: RecordFacts): string | undefined {
    const unit = this.unit ?? this.#default
    if (this.isEnd || unit === undefined) return undefined
    const { shift, quantity } = unit
    const values = Array.from({ length: this.count }, (_, i) => {
      const d = this.digits[i]
      return d === NULL_DIGITS ? null : this.numbers[i] / 10 ** ((d === DOUBLE_DIGITS ? 0 : d) + shift)
    })
    if (values.some(value => value !== null && !Number.isFinite(value))) return undefined
    const start = Number.isNaN(this.offsetS) ? localText(this.localS) : utcText(this.localS - this.offsetS)
    return blockText({ ...facts, quantity }, start, values, this.lanes)
  }

  #present(): number {
    let n = 0
    for (let i = 0; i < this.count; i++) if (this.digits[i] !== NULL_DIGITS) n++
    return Math.max(1, n)
  }

  #grow(): void {
    const numbers = new Float64Array(this.numbers.length * 2)
    numbers.set(this.numbers)
    this.numbers = numbers
    const digits = new Uint8Array(numbers.length)
    digits.set(this.digits)
    this.digits = digits
    this.#mantissas = new Int32Array(numbers.length)
    this.#decimals = new Int8Array(numbers.length)
  }
}

/** Quarantines one value that no exponent holds; the record is kept as a block of that value alone. */
export function refuseValue(
  sink: ReadSink, facts: RecordFacts, code: string, value: number, start: string, within?: string,
): void {
  const text = Number.isFinite(value) ? String(value) : 'The number'
  const unit = unitOfQuantity(facts.quantity ?? Quantity.energy)
  const [message, help] = code === 'value-not-finite'
    ? [`${text} is beyond any number.`, 'Check the head-end\'s export.']
    : code === 'value-range'
      ? [`${text} ${unit} is more than any meter counts.`, 'Check the unit and the multiplier.']
      : [`${text} ${unit} has more digits than are kept: 9 significant ones, at most 9 after the point.`,
          'Send fewer decimals, or set `round` for the source.']
  const record = Number.isFinite(value) ? blockText(facts, start, [value]) : undefined
  sink.problem(facts, code, message, { within, help, record })
}

/**
 * Brings values to one scale, or to as few as hold them all.
 *
 * @param mantissas MISSING where there is no read
 */
export function joinScales(mantissas: Int32Array, decimals: Int8Array, count: number): Piece[] {
  const pieces: Piece[] = []
  const rest = mantissas.slice(0, count)
  for (;;) {
    let finest = -128
    for (let i = 0; i < count; i++) if (rest[i] !== MISSING && decimals[i] > finest) finest = decimals[i]
    if (finest === -128) return pieces
    const piece = new Int32Array(count).fill(MISSING)
    for (let i = 0; i < count; i++) {
      if (rest[i] === MISSING) continue
      const m = rest[i] * P10[finest - decimals[i]]
      if (Math.abs(m) > MAX_MANTISSA) continue
      piece[i] = m
      rest[i] = MISSING
    }
    pieces.push({ decimals: finest, mantissas: piece })
  }
}
