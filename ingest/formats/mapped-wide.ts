import { Flow, Quality } from '../../engine/read-batch.js'
import { BodyError } from '../../engine/problem.js'
import type { Channel } from './channel.js'
import { checkRow, refuseNumber } from './csv-row-reader.js'
import type { CsvRows } from './csv-rows.js'
import { P10, USUAL_DECIMALS } from './decimal.js'
import type { DecodeContext } from './format.js'
import { columnAt, MappedClock, MappedNumbers } from './mapped-columns.js'
import type { CsvMapping } from './mapping.js'
import type { ReadSink, RecordFacts, RecordTime } from './sink.js'
import { flowOf, meterFault, show } from './words.js'

const MAX_FAST = 2_000_000

interface WideChannel {
  column: number
  name: string
  channel: Channel
}

/** Reads the rows of a wide file: a time, and a value for each channel. */
export class MappedWide {
  readonly #rows: CsvRows
  readonly #bytes: Uint8Array
  readonly #sink: ReadSink
  readonly #mapping: CsvMapping
  readonly #width: number
  readonly #timeColumn: number
  readonly #channels: WideChannel[] = []
  readonly #clock: MappedClock
  readonly #numbers: MappedNumbers
  readonly #intervalS: number
  readonly #fastUp: number

  constructor(
    rows: CsvRows, bytes: Uint8Array, sink: ReadSink, mapping: CsvMapping, names: readonly string[], ctx: DecodeContext,
  ) {
    this.#rows = rows
    this.#bytes = bytes
    this.#sink = sink
    this.#mapping = mapping
    this.#width = names.length
    this.#clock = new MappedClock(mapping.datePattern)
    this.#numbers = new MappedNumbers(mapping)
    this.#intervalS = mapping.intervalSeconds ?? ctx.defaultIntervalS ?? 0
    if (this.#intervalS === 0) {
      throw new BodyError(422, 'interval-unknown', `The mapping ${mapping.name} states no interval length.`, undefined,
        'Give the mapping intervalSeconds.')
    }
    // Whole numbers with few digits need no more than a multiplication.
    this.#fastUp = this.#numbers.isPlain ? USUAL_DECIMALS - this.#numbers.shift : -1
    const { timeColumn, ignore = [], meterPrefix = '', channels } = mapping.wide ?? { timeColumn: 1 }
    this.#timeColumn = columnAt(timeColumn, names, mapping)
    const left = new Set([this.#timeColumn, ...ignore.map(ref => columnAt(ref, names, mapping))])
    const seen = new Set<string>()
    const base = flowOf(mapping.flow) ?? Flow.delivered
    for (let column = 0; column < names.length; column++) {
      const name = names[column]
      const own = channels === undefined ? undefined : Object.hasOwn(channels, name) ? channels[name] : null
      if (left.has(column) || own === null) continue
      const id = name.startsWith(mapping.strip) ? name.slice(mapping.strip.length) : name
      const meter = own?.meter ?? meterPrefix + id
      const flow = own?.flow === undefined ? base : flowOf(own.flow) ?? base
      const fault = meterFault(meter)
      const at = `line ${mapping.headerLine ?? 1}, column ${column + 1}`
      if (fault !== undefined) throw new BodyError(422, 'meter-invalid', fault, at)
      if (seen.has(`${flow} ${meter}`)) {
        throw new BodyError(422, 'duplicate-column', `Two columns hold the meter ${show(meter)}.`, at)
      }
      seen.add(`${flow} ${meter}`)
      this.#channels.push({ column, name, channel: sink.channel(meter, flow, this.#intervalS) })
    }
    for (const name of Object.keys(channels ?? {})) columnAt(name, names, mapping)
  }

  /** Takes the row that was split last. */
  read(line: number): void {
    const rows = this.#rows
    const facts: RecordFacts = {
      meter: '', flow: Flow.delivered, intervalS: this.#intervalS, lane: Quality.actual, version: 0, place: line,
      rawFrom: rows.rowFrom, rawTo: rows.rowTo,
    }
    while (rows.count > this.#width && rows.from[rows.count - 1] === rows.to[rows.count - 1]) rows.count--
    if (!checkRow(rows, this.#bytes, this.#sink, facts, this.#width)) return
    rows.trim(this.#timeColumn)
    const time = this.#clock.read(this.#bytes, rows.from[this.#timeColumn], rows.to[this.#timeColumn])
    if (time === undefined) {
      let reads = 0
      for (const { column } of this.#channels) if (!this.#isMissing(column)) reads++
      if (reads === 0) return
      this.#sink.problem(facts, 'time-unreadable', `${show(rows.text(this.#timeColumn) ?? '')} is no time.`, {
        reads, help: `Times are written ${this.#mapping.datePattern}.`,
      })
      return
    }
    if (this.#mapping.label === 'end') time.backS = this.#intervalS
    const startS = this.#startOf(time)
    for (const own of this.#channels) this.#cell(own, facts, time, startS)
  }

  /** The instant at which the row's intervals start; NaN where it takes the sink to tell. */
  #startOf({ localS, offsetS, backS }: RecordTime): number {
    if (!Number.isNaN(offsetS)) return localS - offsetS - backS
    if (backS === 86400) return NaN
    const { clock } = this.#sink
    return clock === null ? NaN : localS - clock.offsetOn(Math.floor(localS / 86400)) - backS
  }

  #cell({ column, name, channel }: WideChannel, facts: RecordFacts, time: RecordTime, startS: number): void {
    const bytes = this.#bytes
    const rows = this.#rows
    const from = rows.from[column]
    const to = rows.to[column]
    let p = from
    let n = 0
    while (p < to && p - from < 9 && bytes[p] >= 48 && bytes[p] <= 57) n = n * 10 + bytes[p++] - 48
    if (p === to && to > from && this.#fastUp >= 0 && n < MAX_FAST && !Number.isNaN(startS)) {
      const { lane, place, rawFrom, rawTo } = facts
      channel.append(startS, n * P10[this.#fastUp], USUAL_DECIMALS, lane, 0, place, rawFrom, rawTo)
      return
    }
    rows.trim(column)
    if (this.#isMissing(column)) return
    const text = rows.text(column) ?? '\ufffd'
    const fitter = this.#sink.decimals
    const fit = this.#numbers.fit(text, this.#numbers.shift, this.#intervalS, fitter)
    const own = { ...facts, meter: channel.meter, flow: channel.flow }
    if (fit !== 'ok') {
      const kwh = this.#numbers.energy(text, this.#numbers.shift)
      refuseNumber(this.#sink, own, time, text, fit, kwh, `column ${show(name)}`)
    } else if (Number.isNaN(startS)) {
      this.#sink.addFitted(own, time)
    } else {
      channel.append(startS, fitter.mantissa, fitter.decimals, facts.lane, 0, facts.place, facts.rawFrom, facts.rawTo)
    }
  }

  #isMissing(column: number): boolean {
    this.#rows.trim(column)
    if (this.#rows.from[column] === this.#rows.to[column]) return true
    return this.#mapping.missing.length > 0 && this.#numbers.isMissing(this.#rows.text(column) ?? '\ufffd')
  }
}
