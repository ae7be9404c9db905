import { isUtf8 } from 'node:buffer'
import type { QuantityCode } from '../../engine/quantity.js'
import type { FlowCode } from '../../engine/read-batch.js'
import type { Channel } from './channel.js'
import { versionOf } from './json-slow.js'
import { MappedClock, MappedNumbers, wrap } from './mapped-columns.js'
import type { LongPlaces, Value } from './mapped-long.js'
import { MappedWords } from './mapped-words.js'
import type { CsvMapping } from './mapping.js'
import { MeterTable } from './meter-table.js'
import type { ReadSink } from './sink.js'
import { MAX_RECORD_BYTES, sameBytes, viewOf } from './text.js'
import { intervalKind, meterFault } from './words.js'

const LF = 10, CR = 13, QUOTE = 34, MINUS = 45
const DAY_S = 86400, MINUTE_S = 60

/** What is done with a column: passed over, or read. */
const PASSED = 0, METER = 1, VALUE = 2, TIME = 3, FLOW = 4, QUALITY = 5, INTERVAL = 6, UNIT = 7, VERSION = 8

/** What of a long file is known before its rows are read. */
export interface LongFile {
  columns: LongPlaces
  value: Value
  /** Columns of the header. */
  width: number
  /** Meter of a file that has no column of it. */
  meter: string
  /** Seconds; 0: the rows tell. */
  intervalS: number
}

/**
 * Reads the usual row of a long file in one pass over its bytes. Any other, and every row with something wrong in it, is
 * left to MappedLong, which says what it is: both must make the same of a row that this one takes.
 */
export class MappedFast {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #sink: ReadSink
  readonly #mapping: CsvMapping
  readonly #numbers: MappedNumbers
  readonly #words: MappedWords
  readonly #file: LongFile
  readonly #kinds: Uint8Array
  readonly #clocks: (MappedClock | null)[]
  /** Bytes of the times in each column, where all of them have as many. */
  readonly #widths: Int32Array
  /** 1 for bytes that end a field, or that none has. */
  readonly #stops = new Uint8Array(256)
  readonly #delimiter: number
  readonly #point: number
  readonly #strip: Uint8Array
  /** There are missing values that look like numbers. */
  readonly #hasNumbersMissing: boolean
  // Columns of the row's times, -1 for none: a date with times of day, or start and end by themselves.
  readonly #dateAt: number
  readonly #startAt: number
  readonly #endAt: number

  // The row before: most of a row is what the last one was.
  readonly #from: Int32Array
  readonly #to: Int32Array
  readonly #localS: Float64Array
  readonly #offsetS: Float64Array
  readonly #meters: MeterTable
  #meter = -1
  #channel: Channel | null = null
  #flow: FlowCode
  #lane: number
  #intervalS: number
  #quantity: QuantityCode
  #shift: number
  #version = 0

  /** Null where two columns are one, or rows name both ends in one field: those are few. */
  static of(bytes: Uint8Array, sink: ReadSink, mapping: CsvMapping, file: LongFile): MappedFast | null {
    const { columns, value } = file
    const { value: _, unit: __, ...others } = columns
    const used = [...Object.values(others), value.column, ...value.unitColumn === undefined ? [] : [value.unitColumn]]
    const words = new MappedWords(mapping)
    const flow = value.flow ?? words.flow(undefined)
    if (new Set(used).size < used.length || columns.range !== undefined || flow === undefined) return null
    return new MappedFast(bytes, sink, mapping, file, flow)
  }

  private constructor(bytes: Uint8Array, sink: ReadSink, mapping: CsvMapping, file: LongFile, flow: FlowCode) {
    this.#bytes = bytes
    this.#view = viewOf(bytes)
    this.#sink = sink
    this.#mapping = mapping
    this.#file = file
    this.#numbers = new MappedNumbers(mapping)
    this.#words = new MappedWords(mapping)
    this.#meters = new MeterTable(bytes)
    this.#flow = flow
    this.#lane = this.#words.quality(undefined) ?? 0
    this.#intervalS = file.intervalS
    this.#quantity = file.value.unit.quantity
    this.#shift = file.value.unit.shift
    this.#delimiter = mapping.delimiter.charCodeAt(0)
    this.#point = mapping.decimalMark.charCodeAt(0)
    this.#strip = new TextEncoder().encode(mapping.strip)
    this.#hasNumbersMissing = mapping.missing.some(word => /\d/.test(word))
    for (const stop of [0, LF, CR, QUOTE, this.#delimiter]) this.#stops[stop] = 1
    const { columns, value, width } = file
    const { delimiter } = mapping
    const { meter = -1, date = -1, start = -1, end = -1, time = -1, startTime = -1, endTime = -1 } = columns
    const isEnd = mapping.label === 'end'
    this.#dateAt = date
    this.#startAt = date >= 0 ? startTime : time >= 0 ? isEnd ? -1 : time : start
    this.#endAt = date >= 0 ? endTime : time >= 0 ? isEnd ? time : -1 : end
    this.#kinds = new Uint8Array(width)
    this.#clocks = new Array<MappedClock | null>(width).fill(null)
    for (const column of [this.#dateAt, this.#startAt, this.#endAt]) {
      if (column < 0) continue
      this.#kinds[column] = TIME
      this.#clocks[column] = new MappedClock(date >= 0 && column !== date ? mapping.timePattern : mapping.datePattern)
    }
    const kinds: [number | undefined, number][] = [
      [meter, METER], [value.unitColumn, UNIT], [columns.flow, FLOW], [columns.quality, QUALITY],
      [columns.intervalSeconds, INTERVAL], [columns.version, VERSION], [value.column, VALUE]]
    for (const [column = -1, kind] of kinds) if (column >= 0) this.#kinds[column] = kind
    if (columns.version !== undefined) this.#clocks[columns.version] = new MappedClock(mapping.versionPattern)
    const marks = new Set([delimiter, '"', '\0', '\n', '\r'])
    this.#widths = Int32Array.from(this.#clocks, clock => clock?.widthWithout(marks) ?? 0)
    this.#from = new Int32Array(width).fill(-1)
    this.#to = new Int32Array(width)
    this.#localS = new Float64Array(width)
    this.#offsetS = new Float64Array(width)
  }

  /** Reads the row at p, which is on line `line`; returns where the next one begins, -1 where it is left to MappedLong. */
  read(p: number, line: number): number {
    const bytes = this.#bytes
    const kinds = this.#kinds
    const delimiter = this.#delimiter
    const point = this.#point
    const last = kinds.length - 1
    const rowFrom = p
    let m = 0
    let digits = 0
    let present = false
    for (let i = 0; i <= last; i++) {
      const isQuoted = bytes[p] === QUOTE
      if (isQuoted) p++
      const kind = kinds[i]
      if (kind === VALUE) {
        while (bytes[p] === 32) p++
        const from = p
        let c = bytes[p]
        const isNegative = c === MINUS
        if (isNegative) c = bytes[++p]
        const first = p
        while (c >= 48 && c <= 57) {
          m = m * 10 + c - 48
          c = bytes[++p]
        }
        let figures = p - first
        if (c === point && (isQuoted || point !== delimiter)) {
          c = bytes[++p]
          const after = p
          while (c >= 48 && c <= 57) {
            m = m * 10 + c - 48
            c = bytes[++p]
          }
          digits = p - after
          figures += digits
          if (figures === 0) return -1
        }
        present = figures > 0
        if (figures > 15 || (isNegative && (!present || this.#mapping.negative !== undefined))) return -1
        if (this.#hasNumbersMissing && present && this.#numbers.isMissing(Buffer.from(bytes.subarray(from, p)).toString('latin1'))) return -1
        if (isNegative) m = -m
        while (bytes[p] === 32) p++
      } else if (kind === TIME) {
        p = this.#readTime(i, p, isQuoted)
      } else if (kind === PASSED) {
        p = this.#fieldEnd(p, isQuoted)
      } else {
        p = this.#readWord(i, kind, p, isQuoted)
      }
      if (p < 0 || (isQuoted && bytes[p++] !== QUOTE)) return -1
      if (i < last && bytes[p++] !== delimiter) return -1
    }
    // Padding at the end of a row.
    while (bytes[p] === delimiter) p++
    let next = p
    if (p < bytes.length) {
      if (bytes[p] === CR) next = bytes[p + 1] === LF ? p + 2 : p + 1
      else if (bytes[p] === LF) next = p + 1
      else return -1
    }
    if (p - rowFrom > MAX_RECORD_BYTES) return -1
    if (!present) return next
    return this.#append(m, digits, line, rowFrom, p) ? next : -1
  }

  #append(m: number, digits: number, line: number, rowFrom: number, rowTo: number): boolean {
    const dateAt = this.#dateAt, startAt = this.#startAt, endAt = this.#endAt
    const sink = this.#sink
    const baseS = dateAt < 0 ? 0 : this.#localS[dateAt]
    let intervalS = this.#intervalS
    let localS = startAt < 0 ? NaN : baseS + this.#localS[startAt]
    let backS = 0
    if (endAt >= 0) {
      let endS = baseS + this.#localS[endAt]
      if (this.#mapping.endInclusive) endS += MINUTE_S
      else if (dateAt >= 0 && startAt < 0 && endS % DAY_S === 0) endS += DAY_S
      if (startAt >= 0) {
        const wallS = wrap(endS - localS)
        if (intervalS === 0) intervalS = wallS
        if (wallS !== intervalS) return false
      } else {
        localS = endS
        backS = intervalS
        // A day that ends at midnight may have 23 or 25 hours.
        if (intervalS === DAY_S) return false
      }
    }
    const offsetS = this.#offsetS[dateAt >= 0 ? dateAt : startAt >= 0 ? startAt : endAt]
    let startS = localS - offsetS - backS
    if (Number.isNaN(offsetS) || (offsetS === 0 && sink.wallAsEpoch)) {
      const { clock } = sink
      if (clock === null) return false
      startS = localS - clock.offsetOn(Math.floor(localS / DAY_S)) - backS
    }
    if (!(intervalS > 0) || Number.isNaN(startS)) return false
    if (!this.#numbers.isPlain) {
      const by = this.#numbers.multiplier(intervalS)
      m *= by.integer
      digits += by.digits
      if (by.integer === 0 || !(Math.abs(m) < 1e15)) return false
    }
    const fitter = sink.decimals
    if (!fitter.fitExactly(m, digits + this.#shift)) return false
    let channel = this.#channel
    if (channel === null || channel.flow !== this.#flow || channel.intervalS !== intervalS || channel.quantity !== this.#quantity) {
      if (intervalKind(intervalS) !== 'grid') return false
      channel = sink.channel(this.#meter < 0 ? this.#file.meter : this.#meters.meters[this.#meter], this.#flow, intervalS, this.#quantity)
      this.#channel = channel
      if (this.#meter >= 0) this.#meters.channels[this.#meter] = channel
    }
    channel.append(startS, fitter.mantissa, fitter.decimals, this.#lane, this.#version, line, rowFrom, rowTo)
    return true
  }

  /** Where the field at p ends; -1 where it holds what takes a closer look. */
  #fieldEnd(p: number, isQuoted: boolean): number {
    const bytes = this.#bytes
    const stops = this.#stops
    while (p < bytes.length && stops[bytes[p]] === 0) p++
    return this.#isEnd(p, isQuoted) ? p : -1
  }

  #isEnd(p: number, isQuoted: boolean): boolean {
    if (p >= this.#bytes.length) return !isQuoted
    const c = this.#bytes[p]
    return isQuoted ? c === QUOTE : c === this.#delimiter || c === LF || c === CR
  }

  /** End of the field at p where it is that of the row before; -1 where it is another. */
  #sameAs(i: number, p: number, isQuoted: boolean): number {
    const before = this.#from[i]
    const length = this.#to[i] - before
    if (before < 0 || p + length > this.#bytes.length || !sameBytes(this.#view, p, before, length)) return -1
    return this.#isEnd(p + length, isQuoted) ? p + length : -1
  }

  #readTime(i: number, p: number, isQuoted: boolean): number {
    if (i === this.#dateAt) {
      const same = this.#sameAs(i, p, isQuoted)
      if (same >= 0) return same
    }
    const bytes = this.#bytes
    const clock = this.#clocks[i]
    const width = this.#widths[i]
    const isUsual = width > 0 && this.#isEnd(p + width, isQuoted)
    const end = isUsual ? p + width : this.#fieldEnd(p, isQuoted)
    let from = p
    let to = end
    while (!isUsual && from < to && isSpace(bytes[from])) from++
    while (!isUsual && to > from && isSpace(bytes[to - 1])) to--
    const localS = end < 0 || clock === null ? NaN : clock.seconds(bytes, from, to)
    if (clock === null || Number.isNaN(localS)) return -1
    this.#localS[i] = localS
    this.#offsetS[i] = clock.offsetS
    this.#from[i] = p
    this.#to[i] = end
    return end
  }

  /** Reads a column of ids, words or versions, most often what it was in the row before. */
  #readWord(i: number, kind: number, p: number, isQuoted: boolean): number {
    const same = this.#sameAs(i, p, isQuoted)
    if (same >= 0) return same
    const end = this.#fieldEnd(p, isQuoted)
    if (end < 0) return -1
    const bytes = this.#bytes
    let from = p
    let to = end
    while (from < to && isSpace(bytes[from])) from++
    while (to > from && isSpace(bytes[to - 1])) to--
    if (!(kind === METER ? this.#setMeter(from, to) : this.#setWord(i, kind, from, to))) return -1
    this.#from[i] = p
    this.#to[i] = end
    return end
  }

  #setMeter(from: number, to: number): boolean {
    const bytes = this.#bytes
    const strip = this.#strip
    if (strip.length > 0 && to - from >= strip.length && strip.every((c, k) => bytes[from + k] === c)) from += strip.length
    let hash = 0
    for (let p = from; p < to; p++) hash = (Math.imul(hash, 31) + bytes[p]) | 0
    hash ^= hash >>> 15
    let index = this.#meters.find(from, to, hash)
    if (index < 0) {
      const meter = this.#text(from, to)
      if (meter === undefined || meter.includes('\ufffd') || meterFault(meter) !== undefined) return false
      index = this.#meters.add(meter, from, to, hash)
    }
    this.#meter = index
    this.#channel = this.#meters.channels[index]
    return true
  }

  #setWord(i: number, kind: number, from: number, to: number): boolean {
    if (kind === VERSION) return this.#setVersion(i, from, to)
    const word = this.#text(from, to)
    if (word === undefined) return false
    switch (kind) {
      case FLOW: {
        const flow = this.#words.flow(word)
        if (flow === undefined) return false
        this.#flow = this.#file.value.flow ?? flow
        return true
      }
      case QUALITY: {
        const lane = this.#words.quality(word)
        if (lane === undefined) return false
        this.#lane = lane
        return true
      }
      case INTERVAL: {
        const intervalS = this.#words.interval(word, this.#file.intervalS)
        if (intervalS === undefined) return false
        this.#intervalS = intervalS
        return true
      }
      default: {
        const unit = word === '' ? this.#file.value.unit : this.#numbers.unitOf(word)
        if (unit === undefined) return false
        this.#quantity = unit.quantity
        this.#shift = unit.shift
        return true
      }
    }
  }

  #setVersion(i: number, from: number, to: number): boolean {
    const clock = this.#clocks[i]
    if (from === to || clock === null) {
      this.#version = 0
      return true
    }
    const localS = clock.seconds(this.#bytes, from, to)
    if (Number.isNaN(localS)) return false
    const version = versionOf({ localS, offsetS: clock.offsetS, micros: 0 }, this.#sink.clock)
    if (!(version > 0)) return false
    this.#version = version
    return true
  }

  /** Undefined where it is not UTF-8. */
  #text(from: number, to: number): string | undefined {
    const piece = Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + from, to - from)
    return isUtf8(piece) ? piece.toString() : undefined
  }
}

function isSpace(c: number): boolean {
  return c === 32 || c === 9
}
