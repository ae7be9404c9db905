import { BodyError } from '../../engine/problem.js'
import { Flow, Quality } from '../../engine/read-batch.js'
import { checkRow, refuseNumber } from './csv-row-reader.js'
import type { CsvRows } from './csv-rows.js'
import type { DecodeContext } from './format.js'
import { versionOf } from './json-slow.js'
import { columnAt, MappedClock, MappedNumbers } from './mapped-columns.js'
import type { CsvMapping, LongColumns } from './mapping.js'
import type { ReadSink, RecordFacts, RecordTime } from './sink.js'
import { flowOf, intervalKind, meterFault, qualityOf, show } from './words.js'

const DAY_S = 86400

/** Reads the rows of a long file by its mapping: a read in each. */
export class MappedLong {
  readonly #rows: CsvRows
  readonly #bytes: Uint8Array
  readonly #sink: ReadSink
  readonly #mapping: CsvMapping
  readonly #width: number
  readonly #columns: Partial<Record<keyof LongColumns, number>> = {}
  readonly #clock: MappedClock
  readonly #timeOfDay: MappedClock
  readonly #versions: MappedClock
  readonly #numbers: MappedNumbers
  readonly #defaultIntervalS: number

  constructor(
    rows: CsvRows, bytes: Uint8Array, sink: ReadSink, mapping: CsvMapping, names: readonly string[], ctx: DecodeContext,
  ) {
    this.#rows = rows
    this.#bytes = bytes
    this.#sink = sink
    this.#mapping = mapping
    this.#width = names.length
    for (const column of Object.keys(mapping.columns) as (keyof LongColumns)[]) {
      const ref = mapping.columns[column]
      if (ref !== undefined) this.#columns[column] = columnAt(ref, names, mapping)
    }
    this.#clock = new MappedClock(mapping.datePattern)
    this.#timeOfDay = new MappedClock(mapping.timePattern)
    this.#versions = new MappedClock(mapping.versionPattern)
    this.#numbers = new MappedNumbers(mapping)
    this.#defaultIntervalS = mapping.intervalSeconds ?? ctx.defaultIntervalS ?? 0
    const { start, end, startTime, endTime, intervalSeconds } = this.#columns
    const told = intervalSeconds !== undefined || (start ?? startTime) !== undefined && (end ?? endTime) !== undefined
    if (this.#defaultIntervalS === 0 && !told) {
      throw new BodyError(422, 'interval-unknown', `The mapping ${mapping.name} states no interval length.`, undefined,
        'Give the mapping intervalSeconds.')
    }
  }

  /** Takes the row that was split last. */
  read(line: number): void {
    const rows = this.#rows
    const facts: RecordFacts = {
      meter: '', flow: Flow.delivered, intervalS: this.#defaultIntervalS, lane: Quality.actual, version: 0, place: line,
      rawFrom: rows.rowFrom, rawTo: rows.rowTo,
    }
    while (rows.count > this.#width && rows.from[rows.count - 1] === rows.to[rows.count - 1]) rows.count--
    if (!checkRow(rows, this.#bytes, this.#sink, facts, this.#width)) return
    for (let i = 0; i < rows.count; i++) rows.trim(i)
    const text = this.#field('value')
    if (text === undefined || this.#numbers.isMissing(text)) return
    if (!this.#readMeter(facts) || !this.#readWords(facts)) return
    const unit = this.#field('unit') ?? ''
    const shift = this.#numbers.shiftOf(unit)
    if (shift === undefined) {
      this.#sink.problem(facts, 'unit-unsupported', `${show(unit)} is no unit that is taken.`, {
        help: this.#mapping.kind === 'power' ? 'Units: kW, W, MW.' : 'Units: kWh, Wh, MWh.',
      })
      return
    }
    const time = this.#readTime(facts)
    if (time === undefined) return
    const fitter = this.#sink.decimals
    const fit = this.#numbers.fit(text, shift, facts.intervalS, fitter)
    if (fit !== 'ok') {
      refuseNumber(this.#sink, facts, time, text, fit, this.#numbers.energy(text, shift))
      return
    }
    this.#sink.addFitted(facts, time)
  }

  /** A field's text; undefined where the file has no such column. */
  #field(column: keyof LongColumns): string | undefined {
    const i = this.#columns[column]
    return i === undefined ? undefined : this.#rows.text(i) ?? '\ufffd'
  }

  #readMeter(facts: RecordFacts): boolean {
    const { strip, meterId } = this.#mapping
    let meter = this.#field('meter') ?? meterId ?? ''
    if (strip !== '' && meter.startsWith(strip)) meter = meter.slice(strip.length)
    const fault = meter.includes('\ufffd') ? 'The meter id is not UTF-8.' : meterFault(meter)
    if (fault !== undefined) {
      this.#sink.problem(facts, 'meter-invalid', fault)
      return false
    }
    facts.meter = meter
    return true
  }

  #readWords(facts: RecordFacts): boolean {
    const { flowMap, qualityMap } = this.#mapping
    const flowWord = this.#field('flow')
    const flow = flowOf(flowWord === undefined || (flowWord === '' && !Object.hasOwn(flowMap, ''))
      ? this.#mapping.flow
      : Object.hasOwn(flowMap, flowWord) ? flowMap[flowWord] : flowWord)
    if (flow === undefined) {
      this.#sink.problem(facts, 'flow-unknown', `There is no flow ${show(flowWord ?? '')}.`, {
        help: 'Name it in the mapping\'s flowMap.',
      })
      return false
    }
    facts.flow = flow
    const qualityWord = this.#field('quality')
    const quality = qualityOf(qualityWord === undefined || (qualityWord === '' && !Object.hasOwn(qualityMap, ''))
      ? 'actual'
      : Object.hasOwn(qualityMap, qualityWord) ? qualityMap[qualityWord] : qualityWord)
    if (quality === undefined) {
      this.#sink.problem(facts, 'quality-unknown', `There is no quality ${show(qualityWord ?? '')}.`, {
        help: 'Name it in the mapping\'s qualityMap.',
      })
      return false
    }
    facts.lane = quality
    const interval = this.#field('intervalSeconds')
    if (interval !== undefined && interval !== '') {
      if (!/^[1-9]\d{0,8}$/.test(interval) || intervalKind(Number(interval)) === 'none') {
        this.#sink.problem(facts, 'interval-length', `An interval of ${show(interval)} s fits no grid.`)
        return false
      }
      facts.intervalS = Number(interval)
    }
    return this.#readVersion(facts)
  }

  #readVersion(facts: RecordFacts): boolean {
    const i = this.#columns.version
    if (i === undefined || this.#rows.from[i] === this.#rows.to[i]) return true
    const time = this.#versions.read(this.#bytes, this.#rows.from[i], this.#rows.to[i])
    const version = time === undefined ? NaN : versionOf({ ...time, micros: 0 }, this.#sink.clock)
    if (!(version > 0)) {
      const zoneless = time !== undefined && Number.isNaN(time.offsetS) && this.#sink.clock === null
      this.#sink.problem(facts, zoneless ? 'zone-unknown' : 'time-unreadable',
        zoneless
          ? 'Times are local, and the source\'s time zone is not known.'
          : `${show(this.#rows.text(i) ?? '')} is no time.`,
        { help: zoneless ? 'Set the source\'s zone.' : `Versions are written ${this.#mapping.versionPattern}.` })
      return false
    }
    facts.version = version
    return true
  }

  #readTime(facts: RecordFacts): RecordTime | undefined {
    const { start, end, time, date, startTime, endTime } = this.#columns
    if (date !== undefined) {
      const from = startTime === undefined ? undefined : this.#onDate(facts, date, startTime)
      const to = endTime === undefined ? undefined : this.#onDate(facts, date, endTime)
      if (from === null || to === null) return undefined
      // An end at midnight is that of the date's last interval.
      if (from === undefined && to !== undefined && to.localS % DAY_S === 0) to.localS += DAY_S
      return this.#choose(facts, from, to)
    }
    if (time !== undefined) {
      const clock = this.#clockAt(facts, time)
      if (clock === null) return undefined
      return this.#mapping.label === 'end' ? { ...clock, backS: facts.intervalS } : clock
    }
    const from = start === undefined ? undefined : this.#clockAt(facts, start)
    const to = end === undefined ? undefined : this.#clockAt(facts, end)
    if (from === null || to === null) return undefined
    return this.#choose(facts, from, to)
  }

  /**
   * The row's time where it names both ends. They tell the interval length where nothing else does. Where they do not
   * agree with it, on the night that an hour is repeated, the end tells: Smart Meter Texas begins the second pass with
   * the row `02:00,01:15`.
   */
  #choose(facts: RecordFacts, start: RecordTime | undefined, end: RecordTime | undefined): RecordTime | undefined {
    if (end === undefined) return start
    if (start === undefined) return { ...end, backS: facts.intervalS }
    const wallS = wrap(end.localS - start.localS)
    const { clock } = this.#sink
    if (facts.intervalS === 0) facts.intervalS = wallS
    if (wallS === facts.intervalS || !Number.isNaN(start.offsetS)) return start
    const starts = clock?.instants(start.localS) ?? []
    const ends = clock?.instants(end.localS) ?? []
    if (starts.length === 1 && ends.length === 1 && ends[0] - starts[0] === facts.intervalS) return start
    const told = end.localS - facts.intervalS
    if (clock?.instants(told).length === 2) return { ...end, localS: told }
    this.#sink.problem(facts, 'interval-mismatch',
      `From start to end are ${wallS} s, and the interval length is ${facts.intervalS} s.`)
    return undefined
  }

  #clockAt(facts: RecordFacts, i: number): RecordTime | null {
    const time = this.#clock.read(this.#bytes, this.#rows.from[i], this.#rows.to[i])
    if (time !== undefined) return time
    this.#refuseTime(facts, i, this.#mapping.datePattern)
    return null
  }

  #onDate(facts: RecordFacts, date: number, timeOfDay: number): RecordTime | null {
    const day = this.#clockAt(facts, date)
    if (day === null) return null
    const clock = this.#timeOfDay.read(this.#bytes, this.#rows.from[timeOfDay], this.#rows.to[timeOfDay])
    if (clock !== undefined) return { ...day, localS: day.localS + clock.localS }
    this.#refuseTime(facts, timeOfDay, this.#mapping.timePattern)
    return null
  }

  #refuseTime(facts: RecordFacts, i: number, pattern: string): void {
    this.#sink.problem(facts, 'time-unreadable', `${show(this.#rows.text(i) ?? '')} is no time.`, {
      help: pattern === 'iso' ? 'Times are RFC 3339.' : `Times are written ${pattern}.`,
    })
  }
}

/** A span on the clock's face: 23:45 to 00:00 is a quarter of an hour, a date and itself a day. */
function wrap(seconds: number): number {
  return seconds > 0 ? seconds : ((seconds % DAY_S) + DAY_S) % DAY_S || DAY_S
}
