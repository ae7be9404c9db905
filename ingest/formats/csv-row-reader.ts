import { Quantity, unitOf, unitWords, type QuantityCode, type Unit } from '../../engine/quantity.js'
import { Flow, Quality, type FlowCode } from '../../engine/read-batch.js'
import type { CsvRole } from './csv.js'
import type { CsvRows } from './csv-rows.js'
import { refuseValue } from './json-record.js'
import { versionOf } from './json-slow.js'
import { fitText } from './number-text.js'
import type { ReadSink, RecordFacts, RecordTime } from './sink.js'
import { localText, TimeReader, utcText } from './timestamps.js'
import {
  flowOf, flowWords, intervalKind, meterFault, qualityOf, qualityWords, show, TIME_HELP,
} from './words.js'

/** A row's facts; of a register its label too. */
type CsvFacts = RecordFacts & { isRegister?: boolean; tou?: string }

/** A unit as one number, as the fast reader keeps the word of the row before. */
function packUnit({ quantity, shift }: Unit): number {
  return quantity * 64 + shift + 32
}

export function unpackUnit(packed: number): Unit {
  return { quantity: (packed >> 6) as QuantityCode, shift: (packed & 63) - 32 }
}

/** Reads a row of a plain CSV file field by field, with every check, and reports what is wrong with it. */
export class CsvRowReader {
  readonly #rows: CsvRows
  readonly #bytes: Uint8Array
  readonly #sink: ReadSink
  readonly #roles: readonly CsvRole[]
  readonly #defaultUnit: string
  readonly #time = new TimeReader()

  constructor(rows: CsvRows, bytes: Uint8Array, sink: ReadSink, roles: readonly CsvRole[], defaultUnit: string) {
    this.#rows = rows
    this.#bytes = bytes
    this.#sink = sink
    this.#roles = roles
    this.#defaultUnit = defaultUnit
  }

  /** Takes the row that was split last. */
  read(line: number, defaultIntervalS: number): void {
    const rows = this.#rows
    const facts: CsvFacts = {
      meter: '', flow: Flow.delivered, quantity: Quantity.energy, intervalS: defaultIntervalS, lane: Quality.actual, version: 0,
      place: line, rawFrom: rows.rowFrom, rawTo: rows.rowTo,
    }
    if (!checkRow(rows, this.#bytes, this.#sink, facts, this.#roles.length)) return
    for (let i = 0; i < rows.count; i++) rows.trim(i)
    const value = this.#roles.indexOf('value')
    // A row without a value is no read, whatever else is in it.
    if (rows.from[value] === rows.to[value]) return
    if (!this.#readMeter(facts)) return
    const shift = this.#readWords(facts)
    if (shift === undefined) return
    if (facts.isRegister === true) {
      this.#readRegister(facts, rows.text(value) ?? '', shift)
      return
    }
    const time = this.#readTime(facts)
    if (time !== undefined) addText(this.#sink, facts, time, rows.text(value) ?? '', shift)
  }

  /** A register is read at an instant, whichever column names it. */
  #readRegister(facts: CsvFacts, text: string, shift: number): void {
    const end = this.#roles.indexOf('end')
    const at = this.#readClock(facts, end < 0 ? this.#roles.indexOf('start') : end)
    if (at !== null && at !== undefined) this.#sink.registers.add(facts, at, text, shift)
  }

  /**
   * Reads a field of words, a length or a version at [from, to).
   *
   * @returns its number in the batch; undefined where it is not plainly right. Empty: what holds without the column
   */
  word(role: CsvRole, from: number, to: number, defaultIntervalS: number): number | undefined {
    const text = Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + from, to - from).toString('latin1')
    return this.#wordOf(role, text, from, to, defaultIntervalS)
  }

  #wordOf(role: CsvRole, text: string, from: number, to: number, defaultIntervalS: number): number | undefined {
    switch (role) {
      case 'unit': {
        const unit = unitOf(text === '' ? this.#defaultUnit : text)
        return unit === undefined ? undefined : packUnit(unit)
      }
      case 'kind': return text === '' || text === 'interval' ? 0 : text === 'register' ? 1 : undefined
      // Only the empty label is plainly right: a row with one is a register's.
      case 'tou': return text === '' ? 0 : undefined
      case 'flow': return text === '' ? Flow.delivered : flowOf(text)
      case 'quality': return text === '' ? Quality.actual : qualityOf(text)
      case 'intervalSeconds':
        if (text === '') return defaultIntervalS
        return /^[1-9]\d{0,8}$/.test(text) ? Number(text) : undefined
      case 'capturedAt': {
        if (text === '') return 0
        if (!this.#time.read(this.#bytes, from, to)) return undefined
        const version = versionOf(this.#time, this.#sink.clock)
        return version > 0 ? version : undefined
      }
      default: return undefined
    }
  }

  #readMeter(facts: RecordFacts): boolean {
    const meter = this.#rows.text(this.#roles.indexOf('meter'))
    const fault = meter === null ? 'The meter id is not UTF-8.' : meterFault(meter)
    if (meter === null || fault !== undefined) {
      this.#sink.problem(facts, meter === null ? 'invalid-utf8' : 'meter-invalid', fault ?? '')
      return false
    }
    facts.meter = meter
    return true
  }

  /** Reads the optional columns; returns the decimals that the unit adds, undefined where one is wrong. */
  #readWords(facts: CsvFacts): number | undefined {
    let unit = unitOf(this.#defaultUnit)
    for (let i = 0; i < this.#roles.length; i++) {
      const role = this.#roles[i]
      if (role === 'meter' || role === 'start' || role === 'end' || role === 'value') continue
      const text = this.#rows.text(i) ?? '\ufffd'
      if (role === 'tou') {
        facts.tou = text
        continue
      }
      const value = this.#wordOf(role, text, this.#rows.from[i], this.#rows.to[i], facts.intervalS)
      if (value === undefined) {
        this.#refuseWord(facts, role, text)
        return undefined
      }
      if (role === 'unit') unit = unpackUnit(value)
      else if (role === 'kind') facts.isRegister = value === 1
      else if (role === 'flow') facts.flow = flowCode(value)
      else if (role === 'quality') facts.lane = value
      else if (role === 'intervalSeconds') facts.intervalS = value
      else facts.version = value
    }
    if (unit === undefined) {
      this.#refuseWord(facts, 'unit', this.#defaultUnit)
      return undefined
    }
    const { tou = '' } = facts
    const fault = tou === '' ? undefined : facts.isRegister !== true ? 'Only a register has a time-of-use label.'
      : tou.length > 40 || meterFault(tou) !== undefined ? `${show(tou)} is no label of a register.` : undefined
    if (fault !== undefined) {
      this.#sink.problem(facts, 'tou-invalid', fault, { within: 'column tou' })
      return undefined
    }
    facts.quantity = unit.quantity
    return unit.shift
  }

  #refuseWord(facts: RecordFacts, role: CsvRole, text: string): void {
    const within = `column ${role}`
    switch (role) {
      case 'unit':
        this.#sink.problem(facts, 'unit-unsupported', `${show(text)} is no unit that is taken.`, {
          within, help: `Units: ${unitWords}.`,
        })
        break
      case 'flow':
        this.#sink.problem(facts, 'flow-unknown', `There is no flow ${show(text)}.`, {
          within, help: `Flows: ${flowWords}.`,
        })
        break
      case 'quality':
        this.#sink.problem(facts, 'quality-unknown', `There is no quality ${show(text)}.`, {
          within, help: `Qualities: ${qualityWords}.`,
        })
        break
      case 'kind':
        this.#sink.problem(facts, 'kind-unknown', `There is no kind ${show(text)}.`, { within, help: 'Kinds: interval, register.' })
        break
      case 'intervalSeconds':
        this.#sink.problem(facts, 'interval-length', `${show(text)} is no interval length.`, {
          within, help: 'Interval lengths are whole seconds.',
        })
        break
      default:
        this.#refuseTime(facts, within, text)
    }
  }

  #refuseTime(facts: RecordFacts, within: string, text: string): void {
    this.#sink.problem(facts, 'time-unreadable', `${show(text)} is no time.`, {
      within, help: TIME_HELP,
    })
  }

  #readTime(facts: RecordFacts): RecordTime | undefined {
    const start = this.#readClock(facts, this.#roles.indexOf('start'))
    const end = this.#readClock(facts, this.#roles.indexOf('end'))
    if (start === null || end === null) return undefined
    const time = start ?? end
    if (time === undefined) return undefined
    if (start !== undefined && end !== undefined) {
      const lengthS = this.#lengthOf(start, end)
      if (facts.intervalS === 0) facts.intervalS = lengthS
      if (facts.intervalS !== lengthS) {
        this.#sink.problem(facts, 'interval-mismatch',
          `From start to end are ${lengthS} s, and the interval length is ${facts.intervalS} s.`)
        return undefined
      }
    }
    if (facts.intervalS === 0) {
      this.#sink.problem({ ...facts, meter: undefined }, 'interval-unknown',
        'The interval length is not stated, and the spacing of the reads does not tell it.',
        { fold: true, help: 'Add a column intervalSeconds, or set the source\'s interval length.' })
      return undefined
    }
    if (intervalKind(facts.intervalS) === 'none') {
      this.#sink.problem(facts, 'interval-length', `An interval of ${facts.intervalS} s fits no grid.`, {
        help: 'Intervals are 60 s to 86400 s long and divide the hour, or are whole hours that divide the day.',
      })
      return undefined
    }
    if (Number.isNaN(time.offsetS) && this.#sink.clock === null) {
      this.#sink.problem({ ...facts, meter: undefined }, 'zone-unknown',
        'Times are local, and the source\'s time zone is not known.',
        { fold: true, help: 'Set the source\'s zone, or send timestamps with their offset.' })
      return undefined
    }
    return start ?? { ...time, backS: facts.intervalS }
  }

  /** The time in a column; undefined where there is no such column, null where the time is wrong. */
  #readClock(facts: RecordFacts, i: number): RecordTime | undefined | null {
    if (i < 0) return undefined
    if (this.#time.read(this.#bytes, this.#rows.from[i], this.#rows.to[i])) {
      return { localS: this.#time.localS, offsetS: this.#time.offsetS, backS: 0 }
    }
    this.#refuseTime(facts, `column ${this.#roles[i]}`, this.#rows.text(i) ?? '\ufffd')
    return null
  }

  #lengthOf(start: RecordTime, end: RecordTime): number {
    if (!Number.isNaN(start.offsetS) && !Number.isNaN(end.offsetS)) {
      return end.localS - end.offsetS - (start.localS - start.offsetS)
    }
    const { clock } = this.#sink
    const starts = clock?.instants(start.localS) ?? []
    const ends = clock?.instants(end.localS) ?? []
    if (starts.length === 1 && ends.length === 1) return ends[0] - starts[0]
    return end.localS - start.localS
  }
}

/** Checks the outside of a row; false where there is nothing more to do with it. */
export function checkRow(
  rows: CsvRows, bytes: Uint8Array, sink: ReadSink, facts: RecordFacts, columns: number,
): boolean {
  if (rows.fault !== null) {
    const message = rows.fault === 'malformed-csv'
      ? 'The quotes of the line do not close, or do not stand about a whole field.'
      : 'The line is too long.'
    sink.problem(facts, rows.fault, message)
    return false
  }
  if (rows.isBlank) return false
  const nul = bytes.subarray(rows.rowFrom, rows.rowTo).indexOf(0)
  if (nul >= 0) {
    sink.problem(facts, 'nul-byte', `There is a NUL byte in the line, at its byte ${nul + 1}.`)
    return false
  }
  if (rows.count !== columns) {
    sink.problem(facts, 'column-count', `The line has ${rows.count} fields, and the header ${columns}.`)
    return false
  }
  return true
}

/** Adds one read whose value is text. */
export function addText(sink: ReadSink, facts: RecordFacts, time: RecordTime, text: string, shift: number): void {
  const fitter = sink.decimals
  const fit = fitText(text, shift, fitter)
  if (fit !== 'ok') {
    refuseNumber(sink, facts, time, text, fit, Number(text) / 10 ** shift)
    return
  }
  sink.addFitted(facts, time)
}

/** Quarantines one read whose number does not fit; `kwh` is what it comes to. */
export function refuseNumber(
  sink: ReadSink, facts: RecordFacts, time: RecordTime, text: string, code: string, kwh: number,
  within?: string,
): void {
  if (code === 'value-not-number') {
    sink.problem(facts, code, `${show(text)} is no number.`, {
      within, help: 'Leave the field empty where there is no read; thousands separators need a mapping.',
    })
    return
  }
  refuseValue(sink, facts, code, kwh, startText(sink, time), within)
}

/** The start of a record's interval as text: an instant where it can be told, else local time. */
function startText(sink: ReadSink, { localS, offsetS, backS }: RecordTime): string {
  if (!Number.isNaN(offsetS)) return utcText(localS - offsetS - backS)
  const instants = sink.clock?.instants(localS) ?? []
  return instants.length === 1 ? utcText(instants[0] - backS) : localText(localS - backS)
}

function flowCode(value: number): FlowCode {
  return value === Flow.received ? Flow.received : value === Flow.net ? Flow.net : Flow.delivered
}
