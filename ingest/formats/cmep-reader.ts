import { Flow, MAX_MANTISSA, Quality } from '../../engine/read-batch.js'
import type { Channel } from './channel.js'
import {
  alarmMask, CmepClock, cmepInterval, cmepQuality, cmepUnit, plainNumber, scaled, startOf, type CmepInterval, type CmepQuality,
  type CmepUnit,
} from './cmep-words.js'
import { checkRow, refuseNumber } from './csv-row-reader.js'
import type { CsvRows } from './csv-rows.js'
import { P10, USUAL_DECIMALS } from './decimal.js'
import type { DecodeContext } from './format.js'
import { fitText } from './number-text.js'
import type { ReadSink, RecordFacts, RecordTime } from './sink.js'
import { intervalKind, meterFault, show } from './words.js'

const DAY_S = 86_400
/** Fields before the triples of an interval record, and before those of a time-of-use record. */
const HEAD = 14
const TOU_HEAD = 16
const READ_PURPOSES = new Set(['', 'OK', 'RESEND'])

interface Head {
  facts: RecordFacts & { tou?: string }
  unit: CmepUnit
  interval: CmepInterval
  constant: string
  count: number
}

/** Reads the comma-separated records of CMEP: MEPMD01, MEPMD02 and MLA01. */
export class CmepReader {
  /** Records whose calculation constant is empty or 0, and was taken as 1. */
  zeroConstants = 0
  readonly #rows: CsvRows
  readonly #bytes: Uint8Array
  readonly #sink: ReadSink
  readonly #clock = new CmepClock()
  /** Seconds east of UTC that every time has; NaN: local time. */
  readonly #offsetS: number
  readonly #isEnd: boolean
  readonly #defaultIntervalS: number
  readonly #time: RecordTime = { localS: 0, offsetS: 0, backS: 0 }
  // The quality field last read: those of a record are mostly alike.
  #qualityFrom = 0
  #qualityTo = 0
  #quality: CmepQuality | undefined

  constructor(rows: CsvRows, bytes: Uint8Array, sink: ReadSink, ctx: DecodeContext) {
    this.#rows = rows
    this.#bytes = bytes
    this.#sink = sink
    // UTC by the specification; Sensus can be set to local time, and nothing in the record says so.
    this.#offsetS = ctx.clock === 'local-prevailing' || ctx.clock === 'local-standard' ? NaN : 0
    this.#isEnd = ctx.label !== 'start'
    this.#defaultIntervalS = ctx.defaultIntervalS ?? 0
  }

  /** Takes the record that was split last. */
  read(line: number): void {
    const rows = this.#rows
    const facts: Head['facts'] = {
      meter: '', flow: Flow.delivered, intervalS: 0, lane: Quality.actual, version: 0, place: line,
      rawFrom: rows.rowFrom, rawTo: rows.rowTo,
    }
    if (!checkRow(rows, this.#bytes, this.#sink, facts, rows.count)) return
    for (let i = 0; i < rows.count; i++) rows.trim(i)
    const type = this.#text(0).toUpperCase()
    switch (type) {
      case 'MEPMD01':
      case 'MLA01':
        this.#intervals(facts, type)
        break
      case 'MEPMD02':
        this.#timeOfUse(facts)
        break
      default:
        if (/^MEP[A-Z]{2}\d\d$|^EMED\d\d$/.test(type)) {
          this.#sink.problem(facts, 'record-type-unsupported', `Records of type ${type} hold no reads that are taken.`, { outcome: 'rejected' })
        } else this.#sink.problem(facts, 'record-unknown', `${show(type)} is no type of CMEP record.`, { help: 'Types: MEPMD01, MEPMD02, MLA01.' })
    }
  }

  #text(i: number): string {
    return i < this.#rows.count ? this.#rows.text(i) ?? '\ufffd' : ''
  }

  /** MEPMD01, and MLA01, which has its layout with an alarm mask for the value. */
  #intervals(facts: Head['facts'], type: string): void {
    const head = this.#head(facts, 13, 13 + 1, 3, 11, cmepInterval(this.#text(12)), type === 'MLA01')
    if (head === undefined) return
    if (type === 'MLA01') this.#alarms(head)
    else if (head.unit.isRegister) this.#registers(head)
    else this.#values(head)
  }

  /**
   * What stands before a record's triples; undefined where the record is refused.
   *
   * @param countAt field of the number of triples
   * @param first field of the first triple
   */
  #head(
    facts: Head['facts'], countAt: number, first: number, width: number, constantAt: number, interval: CmepInterval | undefined,
    isAlarm: boolean,
  ): Head | undefined {
    const sink = this.#sink
    const rows = this.#rows
    // Cut off after the header: a record of nothing.
    if (rows.count <= countAt) {
      if (rows.count < 7) sink.problem(facts, 'record-too-short', `The record has ${rows.count} fields.`)
      return undefined
    }
    const countText = this.#text(countAt)
    const count = /^\d{1,6}$/.test(countText) ? Number(countText) : countText === '' ? 0 : NaN
    const extra = rows.count - first - width * count
    // One more is a CRC, or a comma at the end.
    if (!(extra === 0 || (extra === 1 && /^(?:H[0-9A-Fa-f]{4})?$/.test(this.#text(rows.count - 1))))) {
      sink.problem(facts, 'field-count', `The record counts ${show(countText)} values and has fields for ${(rows.count - first) / width}.`, {
        within: `field ${countAt + 1}`, reads: Math.max(1, Math.min(Math.floor((rows.count - first) / width), 1_000_000)),
      })
      return undefined
    }
    if (count === 0) return undefined
    const purpose = this.#text(8).toUpperCase()
    if (!READ_PURPOSES.has(purpose)) {
      sink.problem(facts, 'purpose-not-reads', `Records of purpose ${show(purpose)} are no reads.`, {
        within: 'field 9', reads: count, outcome: 'rejected', help: 'Reads come with purpose OK or RESEND.' })
      return undefined
    }
    facts.meter = this.#meter()
    const fault = meterFault(facts.meter)
    if (fault !== undefined) {
      sink.problem({ ...facts, meter: '' }, 'meter-invalid', fault, { reads: count, help: 'The meter stands in field 8, or where Sensus\'s key in field 4 says.' })
      return undefined
    }
    const stamp = this.#timeAt(6)
    if (stamp === null) {
      sink.problem(facts, 'time-unreadable', `${show(this.#text(6))} is no time stamp.`, { within: 'field 7', reads: count })
      return undefined
    }
    if (stamp !== undefined) facts.version = stamp * 1e6
    const word = this.#text(10)
    const unit = isAlarm ? cmepUnit('PULSE') : cmepUnit(word)
    if (unit === null) {
      sink.problem(facts, 'unit-unsupported', `${show(word)} is no unit that is taken.`, { within: 'field 11', reads: count })
      return undefined
    }
    if (interval === undefined) {
      sink.problem(facts, 'interval-length', `${show(this.#text(12))} is no interval.`, {
        within: 'field 13', reads: count, help: 'Intervals are MMDDHHMM: 00000015 is a quarter of an hour.' })
      return undefined
    }
    facts.flow = unit.flow
    facts.quantity = unit.quantity
    return { facts, unit, interval, constant: this.#constant(constantAt), count }
  }

  #values(head: Head): void {
    const { facts, count, interval, unit } = head
    const rows = this.#rows
    if (interval.months > 0 || interval.seconds > DAY_S) {
      this.#registers(head)
      return
    }
    facts.intervalS = interval.seconds === 0 ? this.#spacing(count) : interval.seconds
    if (intervalKind(facts.intervalS) === 'none') {
      const code = facts.intervalS === 0 ? 'interval-unknown' : 'interval-length'
      this.#sink.problem(facts, code, facts.intervalS === 0 ? 'The record states no interval length.' : `An interval of ${facts.intervalS} s fits no grid.`,
        { within: 'field 13', reads: count, help: 'Intervals divide the hour, or are whole hours that divide the day.' })
      return
    }
    const isPlain = head.constant === '1' && intervalKind(facts.intervalS) === 'grid' && facts.intervalS !== DAY_S && this.#offsetS === 0
      && !this.#sink.wallAsEpoch
    const channel = isPlain ? this.#sink.channel(facts.meter, facts.flow, facts.intervalS, unit.quantity) : null
    const hasDstBits = Number.isNaN(this.#offsetS) && this.#anyDst(count)
    let at = NaN
    for (let i = 0; i < count; i++) {
      const field = HEAD + 3 * i
      at = this.#readTime(facts, field, at, facts.intervalS)
      const quality = this.#readQuality(field + 1)
      if (Number.isNaN(at) || quality === undefined || this.#isMissing(field + 2, quality)) {
        if (quality === undefined) this.#refuseQuality(facts, field + 1)
        continue
      }
      facts.lane = quality.lane
      const backS = this.#isEnd ? facts.intervalS : 0
      if (channel !== null && this.#append(channel, field + 2, at - backS, facts, unit.shift)) continue
      const time = this.#time
      time.localS = at
      time.offsetS = this.#offsetOf(at, quality, hasDstBits)
      time.backS = backS
      facts.rawFrom = rows.from[field]
      facts.rawTo = rows.to[field + 2]
      this.#slowly(facts, time, this.#text(field + 2), unit.shift, quality.isMultiplied ? '1' : head.constant)
    }
  }

  /** Appends a plain number to the channel; false where it takes the complete reader. */
  #append(channel: Channel, field: number, startS: number, facts: RecordFacts, shift: number): boolean {
    const bytes = this.#bytes
    let p = this.#rows.from[field]
    const to = this.#rows.to[field]
    const isNegative = bytes[p] === 45
    if (isNegative) p++
    const first = p
    let m = 0
    let digits = 0
    while (p < to && bytes[p] >= 48 && bytes[p] <= 57) m = m * 10 + bytes[p++] - 48
    if (p < to && bytes[p] === 46) {
      const point = ++p
      while (p < to && bytes[p] >= 48 && bytes[p] <= 57) m = m * 10 + bytes[p++] - 48
      digits = p - point
    }
    if (p !== to || to - first > 15 || to === first) return false
    if (isNegative) m = -m
    const up = USUAL_DECIMALS - shift - digits
    let mantissa = up >= 0 ? m * P10[up] : NaN
    let decimals = USUAL_DECIMALS
    if (!(mantissa <= MAX_MANTISSA && mantissa >= -MAX_MANTISSA)) {
      const fitter = this.#sink.decimals
      const { rounded } = fitter
      if (fitter.fit(m, digits + shift) !== 'ok' || fitter.rounded !== rounded) {
        fitter.rounded = rounded
        return false
      }
      mantissa = fitter.mantissa
      decimals = fitter.decimals
    }
    channel.append(startS, mantissa, decimals, facts.lane, facts.version, facts.place, this.#rows.rowFrom, this.#rows.rowTo)
    return true
  }

  #slowly(facts: RecordFacts, time: RecordTime, text: string, shift: number, constant: string): void {
    const fitter = this.#sink.decimals
    const number = plainNumber(text)
    const point = constant.indexOf('.')
    const digits = point < 0 ? 0 : constant.length - point - 1
    const fit = fitText(number, shift, fitter, Number(constant), Number(constant.replace('.', '')), digits)
    if (fit !== 'ok') {
      refuseNumber(this.#sink, facts, time, text, fit, Number(number) * Number(constant) / 10 ** shift)
      return
    }
    this.#sink.addFitted({ ...facts }, { ...time })
  }

  /** Cumulative registers; and the consumption of periods longer than a day. */
  #registers({ facts, count, interval, unit, constant }: Head): void {
    const rows = this.#rows
    let at = NaN
    for (let i = 0; i < count; i++) {
      const field = HEAD + 3 * i
      at = this.#readTime(facts, field, at, interval.seconds)
      const quality = this.#readQuality(field + 1)
      if (Number.isNaN(at) || quality === undefined || this.#isMissing(field + 2, quality)) {
        if (quality === undefined) this.#refuseQuality(facts, field + 1)
        continue
      }
      const own = { ...facts, lane: quality.lane, tou: unit.tou, rawFrom: rows.from[field], rawTo: rows.to[field + 2] }
      const offsetS = this.#offsetOf(at, quality, quality.isDst === true)
      const text = scaled(this.#text(field + 2), quality.isMultiplied ? '1' : constant)
      const from = unit.isRegister ? undefined : { localS: startOf(at, interval), offsetS, backS: 0 }
      this.#sink.registers.add(own, { localS: at, offsetS, backS: 0 }, text, unit.shift, from)
    }
  }

  /** MEPMD02: up to six values by time-of-use label, all of one period. */
  #timeOfUse(facts: Head['facts']): void {
    const head = this.#head(facts, 15, TOU_HEAD, 3, 12, { months: 0, seconds: 0 }, false)
    if (head === undefined) return
    const { unit, constant, count } = head
    const start = this.#timeAt(13)
    const end = this.#timeAt(14)
    if (start === null || end === null || end === undefined || (start === undefined && !unit.isRegister)) {
      this.#sink.problem(facts, 'time-unreadable', `${show(this.#text(end === null ? 14 : 13))} is no time.`, {
        within: `fields 14 and 15`, reads: count })
      return
    }
    for (let i = 0; i < count; i++) {
      const field = TOU_HEAD + 3 * i
      const quality = this.#readQuality(field + 1)
      if (quality === undefined) this.#refuseQuality(facts, field + 1)
      if (quality === undefined || this.#isMissing(field + 2, quality)) continue
      const tou = this.#text(field)
      if (tou.length > 40 || (tou !== '' && meterFault(tou) !== undefined)) {
        this.#sink.problem(facts, 'tou-invalid', `${show(tou)} is no label of a register.`, { within: `field ${field + 1}` })
        continue
      }
      const from = unit.isRegister ? undefined : { localS: start!, offsetS: this.#offsetS, backS: 0 }
      this.#sink.registers.add({ ...facts, lane: quality.lane, tou: tou === '' ? unit.tou : tou },
        { localS: end, offsetS: this.#offsetS, backS: 0 }, scaled(this.#text(field + 2), quality.isMultiplied ? '1' : constant), unit.shift, from)
    }
  }

  /** MLA01: a 64-bit mask of alarms. What each bit says is not published: they are kept by their number. */
  #alarms({ facts, count, interval }: Head): void {
    let at = NaN
    for (let i = 0; i < count; i++) {
      const field = HEAD + 3 * i
      at = this.#readTime(facts, field, at, interval.seconds)
      const text = this.#text(field + 2)
      if (Number.isNaN(at) || text === '' || /^0+$/.test(text)) continue
      const mask = alarmMask(text)
      const instants = this.#offsetS === 0 && !this.#sink.wallAsEpoch ? [at] : this.#sink.clock?.instants(at) ?? []
      if (mask === undefined || instants.length === 0) {
        this.#sink.problem(facts, 'alarm-unreadable', `${show(text)} is no mask of alarms, or its time is none.`, { within: `field ${field + 3}` })
        continue
      }
      const bits: number[] = []
      for (let bit = 0; bit < 64; bit++) if ((mask >> BigInt(bit)) & 1n) bits.push(bit)
      this.#sink.events.push({ meter: facts.meter, kind: 'alarm', atS: instants[0], details: { format: 'CMEP MLA01', mask: String(mask), bits } })
    }
  }

  /** Time of a triple: its own, or where it has none the one before and the interval. NaN where there is none: told. */
  #readTime(facts: RecordFacts, field: number, before: number, intervalS: number): number {
    const rows = this.#rows
    if (rows.from[field] === rows.to[field]) {
      if (!Number.isNaN(before) && intervalS > 0) return before + intervalS
    } else if (this.#clock.read(this.#bytes, rows.from[field], rows.to[field])) return this.#clock.localS
    this.#sink.problem(facts, 'time-unreadable', `${show(this.#text(field))} is no time.`, {
      within: `field ${field + 1}`, help: 'Times are CCYYMMDDHHMM; after the first of a record they may be empty.' })
    return NaN
  }

  /** A time of the header: undefined where the field is empty, null where it is wrong. */
  #timeAt(field: number): number | undefined | null {
    const rows = this.#rows
    if (field >= rows.count || rows.from[field] === rows.to[field]) return undefined
    return this.#clock.read(this.#bytes, rows.from[field], rows.to[field]) && this.#clock.localS > 0 ? this.#clock.localS : null
  }

  #readQuality(field: number): CmepQuality | undefined {
    const rows = this.#rows
    if (this.#quality !== undefined && rows.same(field, this.#qualityFrom, this.#qualityTo)) return this.#quality
    this.#quality = cmepQuality(this.#text(field))
    this.#qualityFrom = rows.from[field]
    this.#qualityTo = rows.to[field]
    return this.#quality
  }

  #refuseQuality(facts: RecordFacts, field: number): void {
    this.#sink.problem(facts, 'quality-unknown', `There is no quality ${show(this.#text(field))}.`, {
      within: `field ${field + 1}`, help: 'Qualities are empty, R, E, A or N, with Sensus\'s or SmartSynch\'s bits after them.' })
  }

  /** Flag N, or nothing at all: the specification reads an empty number as 0, but no meter that read 0 leaves it out. */
  #isMissing(field: number, quality: CmepQuality): boolean {
    return quality.isMissing || this.#rows.from[field] === this.#rows.to[field]
  }

  #offsetOf(at: number, quality: CmepQuality, hasDstBits: boolean): number {
    if (!Number.isNaN(this.#offsetS) || !hasDstBits || quality.isDst === null) return this.#offsetS
    const instants = this.#sink.clock?.instants(at) ?? []
    return instants.length === 2 ? at - instants[quality.isDst ? 0 : 1] : NaN
  }

  /** Whether any read of the record has the bit of daylight saving: then those without it are standard time. */
  #anyDst(count: number): boolean {
    for (let i = 0; i < count; i++) if (this.#readQuality(HEAD + 3 * i + 1)?.isDst === true) return true
    return false
  }

  /** The interval that the record's own times are apart, where it states none; else the source's default, or 0. */
  #spacing(count: number): number {
    let spacing = 0
    for (let i = 1, before = this.#timeAt(HEAD); i < count; i++) {
      const at = this.#timeAt(HEAD + 3 * i)
      if (typeof before !== 'number' || typeof at !== 'number') break
      if (at > before && (spacing === 0 || at - before < spacing)) spacing = at - before
      before = at
    }
    return spacing === 0 ? this.#defaultIntervalS : spacing
  }

  #constant(field: number): string {
    const text = plainNumber(this.#text(field))
    if (/^\d*\.?\d*$/.test(text) && Number(text) > 0) return text.replace(/^0+(?=\d)/, '').replace(/\.0*$/, '')
    const value = Number(text)
    if (Number.isFinite(value) && value > 0) return String(value)
    this.zeroConstants++
    return '1'
  }

  /**
   * The meter: where field 4 ends in Sensus's key, the field that the key calls the meter's number (3), else the one that
   * the meter reports itself (2); else field 8, and where that is empty field 6.
   */
  #meter(): string {
    const key = /:(\d{6})$/.exec(this.#text(3))?.[1] ?? ''
    const fields = [4, 5, 7]
    for (const digit of ['3', '2']) {
      const i = key.indexOf(digit)
      if (i >= 0 && i < 3 && this.#text(fields[i]) !== '') return this.#text(fields[i])
    }
    // 4: field 8 has the number of a physical channel.
    const own = key[2] === '4' ? '' : this.#text(7)
    return own === '' ? this.#text(5) : own
  }
}
