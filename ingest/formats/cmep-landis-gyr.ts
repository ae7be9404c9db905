import { Flow, Quality } from '../../engine/read-batch.js'
import { CmepClock, cmepInterval, cmepQuality, cmepUnit, plainNumber, scaled, type CmepQuality } from './cmep-words.js'
import { checkRow, refuseNumber } from './csv-row-reader.js'
import type { CsvRows } from './csv-rows.js'
import type { DecodeContext } from './format.js'
import { fitText } from './number-text.js'
import type { ReadSink, RecordFacts, RecordTime } from './sink.js'
import { intervalKind, meterFault, show } from './words.js'

const FIRST = 14

/**
 * Landis+Gyr Command Center's `~`-separated MEPMD01: version, time stamp, premise, ESIID, provisioned, meter, purpose,
 * commodity, units, constant, interval (DDHHMM), count, time of the first read, then a value and its status for each.
 *
 * Source: Oracle SGG's Landis+Gyr adapter pages, which map the first time to the START of the data; the order of the
 * fields is confirmed by a NISC generator of test data. NOT verified: that the value stands before its status (told
 * by what is a number, record by record), what the statuses are, and the clock, which is taken as the source's local
 * time unless its settings say `utc`. EMED01, the record of registers, has no verified layout and is refused.
 */
export class LandisGyrReader {
  readonly #rows: CsvRows
  readonly #bytes: Uint8Array
  readonly #sink: ReadSink
  readonly #clock = new CmepClock()
  readonly #offsetS: number
  readonly #isEnd: boolean

  constructor(rows: CsvRows, bytes: Uint8Array, sink: ReadSink, ctx: DecodeContext) {
    this.#rows = rows
    this.#bytes = bytes
    this.#sink = sink
    this.#offsetS = ctx.clock === 'utc' || ctx.clock === 'wall-as-epoch' ? 0 : NaN
    this.#isEnd = ctx.label === 'end'
  }

  /** Takes the record that was split last. */
  read(line: number): void {
    const rows = this.#rows
    const sink = this.#sink
    const facts: RecordFacts = {
      meter: '', flow: Flow.delivered, intervalS: 0, lane: Quality.actual, version: 0, place: line, rawFrom: rows.rowFrom, rawTo: rows.rowTo,
    }
    if (!checkRow(rows, this.#bytes, sink, facts, rows.count)) return
    for (let i = 0; i < rows.count; i++) rows.trim(i)
    const field = (i: number): string => i < rows.count ? rows.text(i) ?? '\ufffd' : ''
    const type = field(0).toUpperCase()
    if (type !== 'MEPMD01') {
      sink.problem(facts, 'record-type-unsupported', `Landis+Gyr's records of type ${show(type)} have no verified layout.`, { outcome: 'rejected' })
      return
    }
    const count = /^\d{1,6}$/.test(field(12)) ? Number(field(12)) : NaN
    const extra = rows.count - FIRST - 2 * count
    if (!(extra === 0 || (extra === 1 && field(rows.count - 1) === ''))) {
      sink.problem(facts, 'field-count', `The record counts ${show(field(12))} values and has fields for ${Math.max(0, rows.count - FIRST) / 2}.`, {
        reads: Math.max(1, Math.floor((rows.count - FIRST) / 2)), within: 'field 13' })
      return
    }
    const refuse = (code: string, message: string, n: number): void => sink.problem(facts, code, message, { within: `field ${n}`, reads: Math.max(1, count) })
    facts.meter = field(6)
    const fault = meterFault(facts.meter)
    if (fault !== undefined) {
      facts.meter = ''
      refuse('meter-invalid', fault, 7)
      return
    }
    const purpose = field(7).toUpperCase()
    if (purpose !== '' && purpose !== 'OK' && purpose !== 'RESEND') {
      sink.problem(facts, 'purpose-not-reads', `Records of purpose ${show(purpose)} are no reads.`, { reads: Math.max(1, count), outcome: 'rejected' })
      return
    }
    const unit = cmepUnit(field(9))
    if (unit === null) {
      refuse('unit-unsupported', `${show(field(9))} is no unit that is taken.`, 10)
      return
    }
    const interval = cmepInterval(field(11))
    facts.intervalS = interval?.seconds ?? 0
    if (interval === undefined || intervalKind(facts.intervalS) === 'none') {
      refuse('interval-length', `${show(field(11))} is no interval, DDHHMM, that fits a grid.`, 12)
      return
    }
    if (field(2) !== '') {
      if (!this.#clock.read(this.#bytes, rows.from[2], rows.to[2])) {
        refuse('time-unreadable', `${show(field(2))} is no time stamp.`, 3)
        return
      }
      facts.version = this.#clock.localS * 1e6
    }
    if (!this.#clock.read(this.#bytes, rows.from[13], rows.to[13])) {
      refuse('time-unreadable', `${show(field(13))} is no time.`, 14)
      return
    }
    facts.flow = unit.flow
    facts.quantity = unit.quantity
    const constant = Number(field(10)) > 0 ? field(10) : '1'
    const valueFirst = isValueFirst(rows, count)
    const first = this.#firstInstant(this.#clock.localS)
    for (let i = 0; i < count; i++) {
      const at = FIRST + 2 * i
      const text = field(valueFirst ? at : at + 1)
      const status = field(valueFirst ? at + 1 : at)
      if (text === '') continue
      const quality = landisGyrStatus(status)
      if (quality.isMissing) continue
      const own = { ...facts, lane: quality.lane, rawFrom: rows.from[at], rawTo: rows.to[at + 1] }
      // The data run on from their first time without the clock's change.
      const time: RecordTime = { localS: first.localS + i * facts.intervalS, offsetS: first.offsetS, backS: this.#isEnd ? facts.intervalS : 0 }
      if (unit.isRegister) {
        sink.registers.add({ ...own, tou: unit.tou }, time, scaled(text, constant), unit.shift)
        continue
      }
      const fit = fitText(scaled(text, constant), unit.shift, sink.decimals)
      if (fit === 'ok') sink.addFitted(own, time)
      else refuseNumber(sink, own, time, text, fit, Number(plainNumber(text)) * Number(constant) / 10 ** unit.shift)
    }
  }

  /** The first time as an instant where it is one; else as the local time that it says. */
  #firstInstant(localS: number): { localS: number; offsetS: number } {
    if (!Number.isNaN(this.#offsetS)) return { localS, offsetS: this.#offsetS }
    const instants = this.#sink.clock?.instants(localS) ?? []
    return instants.length === 1 ? { localS, offsetS: localS - instants[0] } : { localS, offsetS: NaN }
  }
}

/** Which of each pair is the value, told by the pairs of the record: a status is no number with a decimal point. */
function isValueFirst(rows: CsvRows, count: number): boolean {
  let first = 0
  let second = 0
  for (let i = 0; i < count; i++) {
    const a = rows.text(FIRST + 2 * i) ?? ''
    const b = rows.text(FIRST + 2 * i + 1) ?? ''
    if (isNumber(a) && !isNumber(b)) first++
    else if (isNumber(b) && !isNumber(a)) second++
    else if (a.includes('.') && !b.includes('.')) first++
    else if (b.includes('.') && !a.includes('.')) second++
  }
  return first >= second
}

function isNumber(text: string): boolean {
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?$/.test(text)
}

/** CMEP's qualities where the status is one; any other status is kept as a questionable read, an empty one as an actual. */
function landisGyrStatus(status: string): Pick<CmepQuality, 'lane' | 'isMissing'> {
  if (status === '' || /^0+$/.test(status)) return { lane: Quality.actual, isMissing: false }
  const quality = cmepQuality(status)
  return quality === undefined || /^\d/.test(status) ? { lane: Quality.questionable, isMissing: false } : quality
}
