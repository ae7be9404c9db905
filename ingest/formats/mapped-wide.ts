import { Flow } from '../../engine/read-batch.js'
import type { Unit } from '../../engine/quantity.js'
import { BodyError } from '../../engine/problem.js'
import type { Channel } from './channel.js'
import { refuseNumber } from './csv-row-reader.js'
import type { CsvRows } from './csv-rows.js'
import { P10, USUAL_DECIMALS } from './decimal.js'
import type { DecodeContext } from './format.js'
import { columnAt } from './mapped-columns.js'
import { MappedRows } from './mapped-rows.js'
import type { CsvMapping } from './mapping.js'
import type { ReadSink, RecordFacts, RecordTime } from './sink.js'
import { flowOf, meterFault, show } from './words.js'

const MAX_FAST = 2_000_000

interface WideChannel {
  column: number
  name: string
  unit: Unit
  /** Whole numbers with few digits need no more than a multiplication by ten to this power; -1: they do. */
  fastUp: number
  channel: Channel
}

/** Reads the rows of a wide file: a time, and a value for each channel. */
export class MappedWide extends MappedRows {
  readonly #timeColumn: number
  readonly #channels: WideChannel[] = []
  readonly #point: number
  /** Numbers are read from their bytes: they are plain, and none of them stands for a missing value. */
  readonly #isFast: boolean

  constructor(rows: CsvRows, bytes: Uint8Array, sink: ReadSink, mapping: CsvMapping, names: readonly string[], ctx: DecodeContext) {
    super(rows, bytes, sink, mapping, names, ctx)
    if (this.intervalS === 0) this.refuseInterval()
    this.#point = mapping.decimalMark.charCodeAt(0)
    this.#isFast = this.numbers.isPlain && !mapping.missing.some(word => /\d/.test(word))
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
      const at = `${typeof mapping.headerLine === 'string' ? 'the header row' : `line ${mapping.headerLine ?? 1}`}, column ${column + 1}`
      if (fault !== undefined) throw new BodyError(422, 'meter-invalid', fault, at)
      const unit = own?.unit === undefined ? this.numbers.unit : this.numbers.unitOf(own.unit) ?? this.numbers.unit
      const key = `${flow} ${unit.quantity} ${meter}`
      if (seen.has(key)) {
        throw new BodyError(422, 'duplicate-column', `Two columns hold the meter ${show(meter)}.`, at)
      }
      seen.add(key)
      const fastUp = this.#isFast ? USUAL_DECIMALS - unit.shift : -1
      this.#channels.push({ column, name, unit, fastUp: fastUp in P10 ? fastUp : -1, channel: sink.channel(meter, flow, this.intervalS, unit.quantity) })
    }
    for (const name of Object.keys(channels ?? {})) columnAt(name, names, mapping)
  }

  read(line: number): void {
    const { rows } = this
    const facts = this.begin(line)
    if (facts === undefined) return
    rows.trim(this.#timeColumn)
    const time = this.clock.read(this.bytes, rows.from[this.#timeColumn], rows.to[this.#timeColumn])
    if (time === undefined) {
      let reads = 0
      for (const { column } of this.#channels) if (!this.#isMissing(column)) reads++
      if (reads > 0) this.refuseTime(facts, this.#timeColumn, this.mapping.datePattern, reads)
      return
    }
    if (this.mapping.label === 'end') {
      if (this.mapping.endInclusive) time.localS += 60
      time.backS = this.intervalS
    }
    const startS = this.#startOf(time)
    for (const own of this.#channels) this.#cell(own, facts, time, startS)
  }

  /** The instant at which the row's intervals start; NaN where it takes the sink to tell. */
  #startOf({ localS, offsetS, backS }: RecordTime): number {
    if (!Number.isNaN(offsetS)) return localS - offsetS - backS
    if (backS === 86400) return NaN
    const { clock } = this.sink
    return clock === null ? NaN : localS - clock.offsetOn(Math.floor(localS / 86400)) - backS
  }

  #cell({ column, name, unit, fastUp, channel }: WideChannel, facts: RecordFacts, time: RecordTime, startS: number): void {
    const { bytes, rows } = this
    const from = rows.from[column]
    const to = rows.to[column]
    let p = from
    let n = 0
    while (p < to && p - from < 9 && bytes[p] >= 48 && bytes[p] <= 57) n = n * 10 + bytes[p++] - 48
    if (p === to && to > from && fastUp >= 0 && n < MAX_FAST && !Number.isNaN(startS)) {
      const { lane, place, rawFrom, rawTo } = facts
      channel.append(startS, n * P10[fastUp], USUAL_DECIMALS, lane, 0, place, rawFrom, rawTo)
      return
    }
    if (this.#isFast && !Number.isNaN(startS) && this.#readDecimal(from, to, unit.shift)) {
      const { decimals } = this.sink
      channel.append(startS, decimals.mantissa, decimals.decimals, facts.lane, 0, facts.place, facts.rawFrom, facts.rawTo)
      return
    }
    rows.trim(column)
    if (this.#isMissing(column)) return
    const text = rows.text(column) ?? '\ufffd'
    const fitter = this.sink.decimals
    const fit = this.numbers.fit(text, unit.shift, this.intervalS, fitter)
    const own = { ...facts, meter: channel.meter, flow: channel.flow, quantity: unit.quantity }
    if (fit !== 'ok') {
      const kwh = this.numbers.energy(text, unit.shift)
      refuseNumber(this.sink, own, time, text, fit, kwh, `column ${show(name)}`)
    } else if (Number.isNaN(startS)) {
      this.sink.addFitted(own, time)
    } else {
      channel.append(startS, fitter.mantissa, fitter.decimals, facts.lane, 0, facts.place, facts.rawFrom, facts.rawTo)
    }
  }

  /** Fits the decimal at [from, to); false where it takes a closer look. */
  #readDecimal(from: number, to: number, shift: number): boolean {
    const { bytes } = this
    const isNegative = bytes[from] === 45
    const first = isNegative ? from + 1 : from
    let point = -1
    let m = 0
    for (let p = first; p < to; p++) {
      const c = bytes[p]
      if (c >= 48 && c <= 57) m = m * 10 + c - 48
      else if (c === this.#point && point < 0) point = p
      else return false
    }
    const figures = to - first - (point < 0 ? 0 : 1)
    if (figures < 1 || figures > 15) return false
    return this.sink.decimals.fitExactly(isNegative ? -m : m, (point < 0 ? 0 : to - point - 1) + shift)
  }

  #isMissing(column: number): boolean {
    this.rows.trim(column)
    if (this.rows.from[column] === this.rows.to[column]) return true
    return this.mapping.missing.length > 0 && this.numbers.isMissing(this.rows.text(column) ?? '\ufffd')
  }
}
