import { BodyError } from '../../engine/problem.js'
import type { Unit } from '../../engine/quantity.js'
import type { FlowCode } from '../../engine/read-batch.js'
import { refuseNumber } from './csv-row-reader.js'
import type { CsvRows } from './csv-rows.js'
import type { DecodeContext } from './format.js'
import { versionOf } from './json-slow.js'
import { columnAt, MappedClock, wrap } from './mapped-columns.js'
import { MappedFast } from './mapped-fast.js'
import { MappedRows } from './mapped-rows.js'
import { MappedWords } from './mapped-words.js'
import { unitHelp, type CsvMapping, type LongColumns, type LongValue } from './mapping.js'
import type { ReadSink, RecordFacts, RecordTime } from './sink.js'
import { flowOf, meterFault, show } from './words.js'

const DAY_S = 86400
const MINUTE_S = 60

/** A value of each row, its columns found. */
export interface Value {
  column: number
  unitColumn: number | undefined
  unit: Unit
  flow: FlowCode | undefined
  time: number | undefined
  isRegister: boolean
}

/** Where the columns of a long file stand. */
export type LongPlaces = Partial<Record<keyof LongColumns, number>>

/** Reads the rows of a long file by its mapping: a read in each, or several. */
export class MappedLong extends MappedRows {
  readonly #columns: LongPlaces = {}
  readonly #words: MappedWords
  readonly #values: readonly Value[]
  readonly #timeOfDay: MappedClock
  readonly #versions: MappedClock
  readonly #meter: string
  readonly #negative: FlowCode | undefined

  constructor(rows: CsvRows, bytes: Uint8Array, sink: ReadSink, mapping: CsvMapping, names: readonly string[], ctx: DecodeContext) {
    super(rows, bytes, sink, mapping, names, ctx)
    this.#words = new MappedWords(mapping)
    for (const column of Object.keys(mapping.columns) as (keyof LongColumns)[]) {
      const ref = mapping.columns[column]
      if (ref !== undefined) this.#columns[column] = columnAt(ref, names, mapping)
    }
    const at = (ref: LongValue['column'] | undefined): number | undefined => ref === undefined ? undefined : columnAt(ref, names, mapping)
    const { value, unit } = mapping.columns
    const first = value === undefined ? [] : [{ column: value, unitColumn: unit }]
    this.#values = [...first, ...mapping.values].map((own: LongValue) => ({
      column: columnAt(own.column, names, mapping), unitColumn: at(own.unitColumn), time: at(own.time),
      unit: own.unit === undefined ? this.numbers.unit : this.numbers.unitOf(own.unit) ?? this.numbers.unit,
      flow: own.flow === undefined ? undefined : flowOf(own.flow), isRegister: own.register === true,
    }))
    this.#timeOfDay = new MappedClock(mapping.timePattern)
    this.#versions = new MappedClock(mapping.versionPattern)
    this.#negative = mapping.negative === undefined ? undefined : flowOf(mapping.negative)
    this.#meter = mapping.meterId ?? ctx.meter ?? ''
    const { meter, start, end, startTime, endTime, range, intervalSeconds } = this.#columns
    if (meter === undefined && this.#meter === '') {
      throw new BodyError(422, 'meter-not-stated', `The mapping ${mapping.name} names no column of the meter.`, undefined,
        'Name the meter: ?meter= by HTTP, --meter with load; or give the mapping meterId.')
    }
    const told = intervalSeconds !== undefined || range !== undefined || (start ?? startTime) !== undefined && (end ?? endTime) !== undefined
    if (this.intervalS === 0 && !told && !this.#values.every(({ isRegister }) => isRegister)) this.refuseInterval()
  }

  /** The reader of the usual row; null where none can be told before its fields are. */
  fast(names: readonly string[]): MappedFast | null {
    const [value, ...others] = this.#values
    if (others.length > 0 || value.isRegister || value.time !== undefined || this.mapping.skipRows.length > 0) return null
    return MappedFast.of(this.bytes, this.sink, this.mapping, {
      columns: this.#columns, value, width: names.length, meter: this.#meter, intervalS: this.intervalS,
    })
  }

  read(line: number): void {
    const { rows } = this
    if (this.#isSkipped()) return
    const facts = this.begin(line)
    if (facts === undefined) return
    for (let i = 0; i < rows.count; i++) rows.trim(i)
    const values = this.#values.filter(({ column }) => !this.numbers.isMissing(this.#text(column)))
    if (values.length === 0 || !this.#readMeter(facts, values.length) || !this.#readWords(facts, values.length)) return
    const { flow, intervalS } = facts
    let time: RecordTime | undefined
    for (const [i, value] of values.entries()) {
      // A row's own time is read once, whatever it holds; where it is wrong, that is told once for them all.
      if (value.time === undefined && time === undefined) {
        facts.intervalS = intervalS
        time = this.#readTime(facts, values.length - i)
        if (time === undefined) return
      }
      const own = value.time === undefined ? time : this.#valueTime(facts, value, value.time)
      facts.flow = value.flow ?? flow
      if (own !== undefined) this.#take(facts, value, own)
    }
  }

  #take(facts: RecordFacts, { column, unitColumn, unit: standing, isRegister }: Value, time: RecordTime): void {
    const word = unitColumn === undefined ? '' : this.#text(unitColumn)
    const unit = word === '' ? standing : this.numbers.unitOf(word)
    if (unit === undefined) {
      this.sink.problem(facts, 'unit-unsupported', `${show(word)} is no unit that is taken.`, { help: `Units: ${unitHelp(this.mapping.kind)}.` })
      return
    }
    facts.quantity = unit.quantity
    const text = this.#text(column)
    if (isRegister) {
      this.sink.registers.add(facts, time, this.numbers.plain(text), unit.shift)
      return
    }
    if (this.#negative === undefined || !text.startsWith('-')) {
      this.#add(facts, time, text, unit.shift)
      return
    }
    const { flow } = facts
    this.#add(facts, time, '0', unit.shift)
    facts.flow = this.#negative
    this.#add(facts, time, text.slice(1), unit.shift)
    facts.flow = flow
  }

  #add(facts: RecordFacts, time: RecordTime, text: string, shift: number): void {
    if (facts.intervalS === 0) {
      this.sink.problem(facts, 'interval-unknown', 'The row states no interval length.', { help: 'Give the mapping intervalSeconds.' })
      return
    }
    const fit = this.numbers.fit(text, shift, facts.intervalS, this.sink.decimals)
    if (fit !== 'ok') refuseNumber(this.sink, facts, time, text, fit, this.numbers.energy(text, shift))
    else this.sink.addFitted(facts, time)
  }

  /** Headings between the reads. */
  #isSkipped(): boolean {
    const { skipRows } = this.mapping
    if (skipRows.length === 0 || this.rows.fault !== null) return false
    this.rows.trim(0)
    const text = this.#text(0)
    return skipRows.some((beginning) => text.startsWith(beginning))
  }

  #text(column: number): string {
    return this.rows.text(column) ?? '\ufffd'
  }

  /** A field's text; undefined where the file has no such column. */
  #field(column: keyof LongColumns): string | undefined {
    const i = this.#columns[column]
    return i === undefined ? undefined : this.#text(i)
  }

  #readMeter(facts: RecordFacts, reads: number): boolean {
    const { strip } = this.mapping
    let meter = this.#field('meter') ?? this.#meter
    if (strip !== '' && meter.startsWith(strip)) meter = meter.slice(strip.length)
    const fault = meter.includes('\ufffd') ? 'The meter id is not UTF-8.' : meterFault(meter)
    if (fault !== undefined) {
      this.sink.problem(facts, 'meter-invalid', fault, { reads })
      return false
    }
    facts.meter = meter
    return true
  }

  #readWords(facts: RecordFacts, reads: number): boolean {
    const flowWord = this.#field('flow')
    const flow = this.#words.flow(flowWord)
    if (flow === undefined) {
      this.sink.problem(facts, 'flow-unknown', `There is no flow ${show(flowWord ?? '')}.`, {
        reads, help: 'Name it in the mapping\'s flowMap.',
      })
      return false
    }
    facts.flow = flow
    const qualityWord = this.#field('quality')
    const quality = this.#words.quality(qualityWord)
    if (quality === undefined) {
      this.sink.problem(facts, 'quality-unknown', `There is no quality ${show(qualityWord ?? '')}.`, {
        reads, help: 'Name it in the mapping\'s qualityMap.',
      })
      return false
    }
    facts.lane = quality
    const interval = this.#field('intervalSeconds')
    const intervalS = this.#words.interval(interval, facts.intervalS)
    if (intervalS === undefined) {
      this.sink.problem(facts, 'interval-length', `An interval of ${show(interval ?? '')} s fits no grid.`, { reads })
      return false
    }
    facts.intervalS = intervalS
    return this.#readVersion(facts, reads)
  }

  #readVersion(facts: RecordFacts, reads: number): boolean {
    const i = this.#columns.version
    if (i === undefined || this.rows.from[i] === this.rows.to[i]) return true
    const time = this.#versions.read(this.bytes, this.rows.from[i], this.rows.to[i])
    const version = time === undefined ? NaN : versionOf({ ...time, micros: 0 }, this.sink.clock)
    if (!(version > 0)) {
      const zoneless = time !== undefined && Number.isNaN(time.offsetS) && this.sink.clock === null
      this.sink.problem(facts, zoneless ? 'zone-unknown' : 'time-unreadable',
        zoneless
          ? 'Times are local, and the source\'s time zone is not known.'
          : `${show(this.rows.text(i) ?? '')} is no time.`,
        { reads, help: zoneless ? 'Set the source\'s zone.' : `Versions are written ${this.mapping.versionPattern}.` })
      return false
    }
    facts.version = version
    return true
  }

  /** The row's time. @param reads that are lost where there is none */
  #readTime(facts: RecordFacts, reads: number): RecordTime | undefined {
    const { start, end, time, date, startTime, endTime, range } = this.#columns
    if (date !== undefined) {
      const from = startTime === undefined ? undefined : this.#onDate(facts, date, startTime, reads)
      if (from === null) return undefined
      const to = endTime === undefined ? undefined : this.#onDate(facts, date, endTime, reads)
      if (to === null) return undefined
      if (to !== undefined && this.mapping.endInclusive) to.localS += MINUTE_S
      // An end at midnight is that of the date's last interval.
      else if (from === undefined && to !== undefined && to.localS % DAY_S === 0) to.localS += DAY_S
      return this.#choose(facts, from, to, reads)
    }
    if (range !== undefined) return this.#readRange(facts, range, reads)
    if (time !== undefined) return this.#labelled(facts, this.#clockAt(facts, time, reads))
    const from = start === undefined ? undefined : this.#clockAt(facts, start, reads)
    if (from === null) return undefined
    const to = end === undefined ? undefined : this.#clockAt(facts, end, reads)
    if (to === null) return undefined
    if (to !== undefined && this.mapping.endInclusive) to.localS += MINUTE_S
    return this.#choose(facts, from, to, reads)
  }

  #valueTime(facts: RecordFacts, { isRegister }: Value, column: number): RecordTime | undefined {
    const time = this.#clockAt(facts, column, 1)
    return isRegister ? time ?? undefined : this.#labelled(facts, time)
  }

  /** A time that the label tells to be the interval's start or end. */
  #labelled(facts: RecordFacts, time: RecordTime | null): RecordTime | undefined {
    if (time === null) return undefined
    if (this.mapping.label === 'start') return time
    return { ...time, localS: time.localS + (this.mapping.endInclusive ? MINUTE_S : 0), backS: facts.intervalS }
  }

  /** `start to end` or `start - end`, in one field; the spaces may be no-break ones. */
  #readRange(facts: RecordFacts, column: number, reads: number): RecordTime | undefined {
    const from = this.rows.from[column]
    const text = Buffer.from(this.bytes.buffer, this.bytes.byteOffset + from, this.rows.to[column] - from).toString('latin1')
    const between = /(?:[ \t]|\u00c2?\u00a0)+(?:to|-)(?:[ \t]|\u00c2?\u00a0)+/i.exec(text)
    const start = between === null ? undefined : this.clock.read(this.bytes, from, from + between.index)
    const end = between === null ? undefined : this.clock.read(this.bytes, from + between.index + between[0].length, this.rows.to[column])
    if (start === undefined || end === undefined) {
      this.refuseTime(facts, column, `${this.mapping.datePattern} to ${this.mapping.datePattern}`, reads)
      return undefined
    }
    if (this.mapping.endInclusive) end.localS += MINUTE_S
    return this.#choose(facts, start, end, reads)
  }

  /**
   * The row's time where it names both ends. They tell the interval length where nothing else does. Where they do not
   * agree with it, on the night that an hour is repeated, the end tells: Smart Meter Texas begins the second pass with
   * the row `02:00,01:15`.
   */
  #choose(facts: RecordFacts, start: RecordTime | undefined, end: RecordTime | undefined, reads: number): RecordTime | undefined {
    if (end === undefined) return start
    if (start === undefined) return { ...end, backS: facts.intervalS }
    const wallS = wrap(end.localS - start.localS)
    const { clock } = this.sink
    if (facts.intervalS === 0) facts.intervalS = wallS
    if (wallS === facts.intervalS || !Number.isNaN(start.offsetS)) return start
    const starts = clock?.instants(start.localS) ?? []
    const ends = clock?.instants(end.localS) ?? []
    if (starts.length === 1 && ends.length === 1 && ends[0] - starts[0] === facts.intervalS) return start
    const told = end.localS - facts.intervalS
    if (clock?.instants(told).length === 2) return { ...end, localS: told }
    this.sink.problem(facts, 'interval-mismatch',
      `From start to end are ${wallS} s, and the interval length is ${facts.intervalS} s.`, { reads })
    return undefined
  }

  #clockAt(facts: RecordFacts, i: number, reads: number): RecordTime | null {
    const time = this.clock.read(this.bytes, this.rows.from[i], this.rows.to[i])
    if (time !== undefined) return time
    this.refuseTime(facts, i, this.mapping.datePattern, reads)
    return null
  }

  #onDate(facts: RecordFacts, date: number, timeOfDay: number, reads: number): RecordTime | null {
    const day = this.#clockAt(facts, date, reads)
    if (day === null) return null
    const clock = this.#timeOfDay.read(this.bytes, this.rows.from[timeOfDay], this.rows.to[timeOfDay])
    if (clock !== undefined) return { ...day, localS: day.localS + clock.localS }
    this.refuseTime(facts, timeOfDay, this.mapping.timePattern, reads)
    return null
  }
}
