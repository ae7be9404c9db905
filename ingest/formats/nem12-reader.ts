import { Quantity, unitOf, type QuantityCode } from '../../engine/quantity.js'
import { Flow, MAX_MANTISSA, MISSING, Quality, type FlowCode, type QualityCode } from '../../engine/read-batch.js'
import { CmepClock } from './cmep-words.js'
import { checkRow, refuseNumber } from './csv-row-reader.js'
import type { CsvRows } from './csv-rows.js'
import { P10, USUAL_DECIMALS } from './decimal.js'
import type { DecodeContext } from './format.js'
import { joinScales } from './json-record.js'
import { fitText } from './number-text.js'
import type { ReadSink, RecordFacts, RecordTime } from './sink.js'
import { dayOfDigits, meterOfStream, qualityOfMethod, streamOfSuffix } from './nem12-words.js'
import { intervalKind, meterFault, show } from './words.js'

const DAY_S = 86_400
/** NEM time: UTC+10, no daylight saving. */
const NEM_OFFSET_S = 36_000
const UNTOLD = 2

/** A data stream's details, a 200 record: they hold for the 300 records after it, in a later part too. */
export interface Nem12Stream {
  readonly meter: string
  readonly flow: FlowCode
  readonly quantity: QuantityCode
  readonly shift: number
  readonly intervalS: number
  /** Intervals of a day. */
  readonly slots: number
  /** Why none of its reads can be taken; empty: they can. */
  readonly fault: string
}

interface PendingDay {
  facts: RecordFacts
  localS: number
  count: number
  /** A fault of the 400 records, with its line. */
  fault: { line: number; message: string } | null
}

/** Reads the records of NEM12 (200, 300, 400, 500) and NEM13 (250). */
export class Nem12Reader {
  stream: Nem12Stream | null
  readonly #rows: CsvRows
  readonly #bytes: Uint8Array
  readonly #sink: ReadSink
  readonly #offsetS: number
  readonly #clock = new CmepClock()
  #pending: PendingDay | null = null
  /** The 300 before was refused: its 400 records go with it. */
  #refused = false
  readonly #mantissas = new Int32Array(1440)
  readonly #decimals = new Int8Array(1440)
  readonly #lanes = new Int16Array(1440)
  /** 1: a quality method says that there is no read; {@link UNTOLD}: the 400 records have yet to say. */
  readonly #isNull = new Uint8Array(1440)

  constructor(rows: CsvRows, bytes: Uint8Array, sink: ReadSink, ctx: DecodeContext, stream: Nem12Stream | null) {
    this.#rows = rows
    this.#bytes = bytes
    this.#sink = sink
    this.#offsetS = ctx.clock === undefined ? NEM_OFFSET_S : ctx.clock === 'utc' ? 0 : NaN
    this.stream = stream
  }

  /** Takes the record that was split last. */
  read(line: number): void {
    const rows = this.#rows
    const facts: RecordFacts = {
      meter: '', flow: Flow.delivered, intervalS: 0, lane: Quality.actual, version: 0, place: line, rawFrom: rows.rowFrom, rawTo: rows.rowTo,
    }
    if (!checkRow(rows, this.#bytes, this.#sink, facts, rows.count)) {
      if (!rows.isBlank) this.#skip(line)
      return
    }
    rows.trim(0)
    const type = this.#text(0)
    if (type !== '400' && type !== '500') {
      this.flush()
      this.#refused = type === '300'
    }
    switch (type) {
      case '100': this.stream = null; break
      case '200': this.#details(); break
      case '300': this.#day(facts); break
      case '400': this.#range(line, facts); break
      case '500': this.#index(facts); break
      case '250': this.#accumulated(facts); break
      case '550': break
      case '900': this.stream = null; break
      default:
        // A line of nothing but separators pads the file.
        if (type !== '' || this.#hasText()) {
          this.#sink.problem(facts, 'record-unknown', `${show(type)} is no type of NEM12 or NEM13 record.`, {
            help: 'Types: 100, 200, 300, 400, 500, 900; 250, 550.' })
        }
    }
  }

  /** After a record that cannot be read: it may have been a 300, or said more about the one that waits. */
  #skip(line: number): void {
    const isRange = this.#bytes[this.#rows.rowFrom] === 52
    if (isRange && this.#pending !== null) this.#pending.fault ??= { line, message: 'A 400 record after it cannot be read.' }
    if (isRange) return
    this.flush()
    this.#refused = true
  }

  #text(i: number): string {
    if (i >= this.#rows.count) return ''
    this.#rows.trim(i)
    return this.#rows.text(i) ?? '\ufffd'
  }

  #hasText(): boolean {
    for (let i = 0; i < this.#rows.count; i++) if (this.#text(i) !== '') return true
    return false
  }

  /** 200: which stream the records that follow are of. A fault in it is told with the reads that it costs. */
  #details(): void {
    const nmi = this.#text(1)
    const suffix = this.#text(4)
    const kind = streamOfSuffix(suffix)
    const uom = this.#text(7)
    const unit = uom === '' && kind?.isVoltage === true ? { quantity: Quantity.voltage, shift: 0 } : unitOf(uom)
    const minutes = Number(this.#text(8))
    const intervalS = minutes * 60
    const meter = meterOfStream(nmi, suffix)
    const fault = nmi === '' || meterFault(meter) !== undefined ? 'The 200 record before it names no NMI.'
      : unit === undefined ? `The 200 record before it has the unit ${show(uom)}, which is none that is taken.`
        : !Number.isInteger(minutes) || minutes < 1 || 1440 % minutes !== 0 || intervalKind(intervalS) !== 'grid'
          ? `The 200 record before it has an interval length of ${show(this.#text(8))} minutes.` : ''
    this.stream = {
      meter, flow: kind?.flow ?? Flow.delivered, quantity: unit?.quantity ?? Quantity.energy, shift: unit?.shift ?? 0,
      intervalS, slots: fault === '' ? 1440 / minutes : 0, fault,
    }
  }

  /** 300: a day's values. They wait for the 400 records that say more about them. */
  #day(facts: RecordFacts): void {
    const rows = this.#rows
    const { stream } = this
    if (stream === null || stream.fault !== '') {
      this.#sink.problem(facts, stream === null ? 'details-missing' : 'details-invalid',
        stream === null ? 'There is no 200 record before it.' : stream.fault, { reads: this.#countValues() })
      return
    }
    facts.meter = stream.meter
    facts.flow = stream.flow
    facts.quantity = stream.quantity
    facts.intervalS = stream.intervalS
    const n = stream.slots
    const day = dayOfDigits(this.#bytes, rows.from[1], rows.to[1])
    if (rows.count < 2 || day === undefined) {
      this.#sink.problem(facts, 'time-unreadable', `${show(this.#text(1))} is no interval date, CCYYMMDD.`, { within: 'field 2', reads: this.#countValues() })
      return
    }
    const method = this.#text(2 + n)
    const quality = rows.count < 3 + n ? undefined : qualityOfMethod(method, true)
    if (quality === undefined) {
      this.#sink.problem(facts, 'value-count', `A day of ${stream.intervalS / 60}-minute intervals has ${n} values and then their quality method; `
        + `${rows.count < 3 + n ? `the record has ${rows.count} fields` : `field ${n + 3} is ${show(method)}`}.`,
      { reads: this.#countValues(), help: 'The interval length stands in the 200 record.' })
      return
    }
    const updated = this.#text(5 + n)
    if (updated !== '') {
      if (!this.#clock.read(this.#bytes, rows.from[5 + n], rows.to[5 + n]) || this.#clock.localS <= NEM_OFFSET_S) {
        this.#sink.problem(facts, 'time-unreadable', `${show(updated)} is no UpdateDateTime.`, { within: `field ${n + 6}`, reads: this.#countValues() })
        return
      }
      facts.version = (this.#clock.localS - NEM_OFFSET_S) * 1e6
    }
    this.#lanes.fill(quality.lane, 0, n)
    this.#isNull.fill(quality.isVariable ? UNTOLD : quality.isNull ? 1 : 0, 0, n)
    const localS = day * DAY_S
    this.#readValues(facts, localS, n, stream.shift)
    this.#pending = { facts, localS, count: n, fault: null }
  }

  #readValues(facts: RecordFacts, localS: number, n: number, shift: number): void {
    const { from, to } = this.#rows
    const bytes = this.#bytes
    const mantissas = this.#mantissas
    const usual = USUAL_DECIMALS - shift
    for (let i = 0; i < n; i++) {
      let p = from[i + 2]
      const end = to[i + 2]
      const isNegative = bytes[p] === 45
      if (isNegative) p++
      const first = p
      let m = 0
      let digits = 0
      while (p < end && bytes[p] >= 48 && bytes[p] <= 57) m = m * 10 + bytes[p++] - 48
      if (p < end && bytes[p] === 46) {
        const point = ++p
        while (p < end && bytes[p] >= 48 && bytes[p] <= 57) m = m * 10 + bytes[p++] - 48
        digits = p - point
      }
      if (p === end && p > first && end - first <= 15 && digits <= usual) {
        const mantissa = (isNegative ? -m : m) * P10[usual - digits]
        if (mantissa <= MAX_MANTISSA && mantissa >= -MAX_MANTISSA) {
          mantissas[i] = mantissa
          this.#decimals[i] = USUAL_DECIMALS
          continue
        }
      }
      this.#readSlowly(facts, localS, i, shift)
    }
  }

  #readSlowly(facts: RecordFacts, localS: number, i: number, shift: number): void {
    const text = this.#text(i + 2)
    this.#mantissas[i] = MISSING
    if (text === '') return
    const fitter = this.#sink.decimals
    const fit = fitText(text, shift, fitter)
    if (fit === 'ok') {
      this.#mantissas[i] = fitter.mantissa
      this.#decimals[i] = fitter.decimals
      return
    }
    const time = { localS: localS + i * facts.intervalS, offsetS: this.#offsetS, backS: 0 }
    const where = { ...facts, rawFrom: this.#rows.from[i + 2], rawTo: this.#rows.to[i + 2] }
    refuseNumber(this.#sink, where, time, text, fit, Number(text) / 10 ** shift, `field ${i + 3}`)
  }

  /** 400: the quality of a range of the day's intervals, from 1, both ends included. */
  #range(line: number, facts: RecordFacts): void {
    const day = this.#pending
    if (day === null) {
      if (!this.#refused) this.#sink.problem(facts, 'record-out-of-place', 'There is no 300 record before it.')
      return
    }
    const [from, to] = [this.#text(1), this.#text(2)].map(text => /^\d{1,4}$/.test(text) ? Number(text) : NaN)
    const quality = qualityOfMethod(this.#text(3), false)
    if (!(from >= 1 && to >= from && to <= day.count) || quality === undefined) {
      day.fault ??= { line, message: quality === undefined
        ? `${show(this.#text(3))} is no quality method.`
        : `Intervals ${show(this.#text(1))} to ${show(this.#text(2))} are not within 1 to ${day.count}.` }
      return
    }
    this.#lanes.fill(quality.lane, from - 1, to)
    this.#isNull.fill(quality.isNull ? 1 : 0, from - 1, to)
  }

  /** Hands the day that waits to the sink. */
  flush(): void {
    const day = this.#pending
    if (day === null) return
    this.#pending = null
    const { facts, count } = day
    const mantissas = this.#mantissas
    let present = 0
    let laned = false
    let usual = true
    let untold = 0
    for (let i = 0; i < count; i++) {
      if (this.#isNull[i] === UNTOLD) untold++
      if (this.#isNull[i] === 1) mantissas[i] = MISSING
      if (mantissas[i] === MISSING) continue
      present++
      if (this.#lanes[i] !== this.#lanes[0]) laned = true
      if (this.#decimals[i] !== USUAL_DECIMALS) usual = false
    }
    const fault = day.fault ?? (untold === 0 ? null : {
      line: facts.place, message: `Its quality varies, and no 400 record after it says that of ${untold} of its ${count} intervals.` })
    if (fault !== null) {
      this.#sink.problem({ ...facts, place: fault.line }, 'quality-range', fault.message, { reads: Math.max(1, present) })
      return
    }
    if (present === 0) return
    facts.lane = this.#lanes[0]
    const time: RecordTime = { localS: day.localS, offsetS: this.#offsetS, backS: 0 }
    this.#sink.add(facts, time, {
      pieces: usual ? [{ decimals: USUAL_DECIMALS, mantissas }] : joinScales(mantissas, this.#decimals, count),
      count, lanes: laned ? Array.from(this.#lanes.subarray(0, count)) : null, reads: present, single: false,
    })
  }

  /** 500: the index that a visit read, a register of the stream. */
  #index(facts: RecordFacts): void {
    const { stream } = this
    const at = this.#text(3)
    const value = this.#text(4)
    if (value === '') return
    if (stream === null || stream.fault !== '') {
      this.#sink.problem(facts, stream === null ? 'details-missing' : 'details-invalid', stream === null ? 'There is no 200 record before it.' : stream.fault)
      return
    }
    facts.meter = stream.meter
    const time = this.#timeOf(3)
    if (time === undefined) {
      this.#sink.problem(facts, 'time-unreadable', `${show(at)} is no time.`, { within: 'field 4' })
      return
    }
    this.#sink.registers.add({ ...facts, flow: stream.flow, quantity: stream.quantity }, time, value, stream.shift)
  }

  /** 250: the reads of an accumulation register at both ends of a period, and the quantity between them. */
  #accumulated(facts: RecordFacts): void {
    const suffix = this.#text(4)
    const uom = this.#text(19)
    const unit = unitOf(uom)
    const direction = this.#text(7).toUpperCase()
    facts.meter = this.#text(1)
    const bad = meterFault(facts.meter)
    if (bad !== undefined || unit === undefined || (direction !== 'I' && direction !== 'E')) {
      if (bad !== undefined) facts.meter = ''
      const [code, message] = bad !== undefined ? ['meter-invalid', bad]
        : unit === undefined ? ['unit-unsupported', `${show(uom)} is no unit that is taken.`]
          : ['flow-unknown', `${show(direction)} is no direction: I to the grid, E from it.`]
      this.#sink.problem(facts, code, message, { reads: [8, 13, 18].filter(i => this.#text(i) !== '').length || 1 })
      return
    }
    facts.flow = direction === 'E' ? Flow.delivered : Flow.received
    facts.quantity = unit.quantity
    if (this.#text(21) !== '') {
      const updated = this.#timeOf(21)
      if (updated !== undefined && updated.localS > NEM_OFFSET_S) facts.version = (updated.localS - NEM_OFFSET_S) * 1e6
    }
    const ends: (RecordTime | undefined)[] = []
    for (const [value, at, method] of [[8, 9, 10], [13, 14, 15]]) {
      const time = this.#timeOf(at)
      ends.push(time)
      this.#register(facts, suffix, value, at, method, time, unit.shift)
    }
    this.#register(facts, suffix, 18, 14, 15, ends[1], unit.shift, ends[0] ?? null)
  }

  /** @param from start of a period; null: it should have one and has not. Undefined: the value is a register's */
  #register(
    facts: RecordFacts, tou: string, valueAt: number, timeAt: number, methodAt: number, time: RecordTime | undefined, shift: number,
    from?: RecordTime | null,
  ): void {
    const value = this.#text(valueAt)
    if (value === '') return
    const quality = qualityOfMethod(this.#text(methodAt), false)
    if (quality?.isNull === true) return
    if (time === undefined || from === null) {
      this.#sink.problem(facts, 'time-unreadable', `${show(this.#text(timeAt))} is no time.`, { within: `field ${timeAt + 1}` })
      return
    }
    if (quality === undefined && this.#text(methodAt) !== '') {
      this.#sink.problem(facts, 'quality-unknown', `${show(this.#text(methodAt))} is no quality method.`, { within: `field ${methodAt + 1}` })
      return
    }
    const label = meterFault(tou) === undefined ? tou.slice(0, 40) : ''
    const lane: QualityCode = quality?.lane ?? Quality.actual
    this.#sink.registers.add({ ...facts, lane, tou: label }, time, value, shift, from)
  }

  #timeOf(i: number): RecordTime | undefined {
    if (i >= this.#rows.count) return undefined
    this.#rows.trim(i)
    if (!this.#clock.read(this.#bytes, this.#rows.from[i], this.#rows.to[i])) {
      const day = dayOfDigits(this.#bytes, this.#rows.from[i], this.#rows.to[i])
      return day === undefined ? undefined : { localS: day * DAY_S, offsetS: this.#offsetS, backS: 0 }
    }
    return { localS: this.#clock.localS, offsetS: this.#offsetS, backS: 0 }
  }

  /** Numbers in a 300 record that is refused: the reads it costs. */
  #countValues(): number {
    let n = 0
    for (let i = 2; i < this.#rows.count && /^[+-]?(?:\d+\.?\d*|\.\d+)$/.test(this.#text(i)) && n < 1440; i++) n++
    return Math.max(1, n)
  }
}
