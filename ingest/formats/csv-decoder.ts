import { Quantity, unitOf, type QuantityCode } from '../../engine/quantity.js'
import { Flow, MAX_MANTISSA, Quality } from '../../engine/read-batch.js'
import type { Channel } from './channel.js'
import type { CsvRole } from './csv.js'
import type { Spacings } from './csv-interval.js'
import { CsvRowReader, unpackUnit } from './csv-row-reader.js'
import { CsvRows } from './csv-rows.js'
import { P10, USUAL_DECIMALS } from './decimal.js'
import type { DecodeContext, Decoded, FormatState } from './format.js'
import { MeterTable } from './meter-table.js'
import { ReadSink } from './sink.js'
import { sameBytes, viewOf } from './text.js'
import { TimeReader } from './timestamps.js'
import { intervalKind, meterFault } from './words.js'

const METER = 0, TIME = 1, VALUE = 2, WORD = 3
const COMMA = 44, LF = 10, CR = 13, QUOTE = 34
const DAY_S = 86400

/**
 * Reads the rows of a plain CSV file. The usual row is read in one pass over its bytes, about 100 ns; any other, and
 * every row with something wrong in it, goes to CsvRowReader, which takes its time and says what it is.
 */
export class CsvDecoder {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #state: FormatState | null
  readonly #header: string[]
  readonly #roles: readonly CsvRole[]
  readonly #kinds: Uint8Array
  readonly #sink: ReadSink
  readonly #reader: CsvRowReader
  readonly #time = new TimeReader()
  readonly #meters: MeterTable
  readonly #rows: CsvRows
  /** Whether rows can be read fast at all: not with both a start and an end. */
  readonly #isPlain: boolean
  readonly #isEnd: boolean
  readonly #defaultIntervalS: number
  readonly #derivedIntervalS: number | undefined
  /** Where the interval length is a guess: whether the reads bear it out. */
  readonly #spacings: Spacings | null
  readonly #flows: number

  // The row before: most of a row is what the last one was.
  #meter = -1
  #meterFrom = 0
  #meterTo = 0
  #channel: Channel | null = null
  readonly #wordFrom: Int32Array
  readonly #wordTo: Int32Array
  #intervalS: number
  #shift: number
  #quantity: QuantityCode
  #isRegister = false
  #flow: number = Flow.delivered
  #lane: number = Quality.actual
  #version = 0
  #line = 0

  /**
   * @param derivedIntervalS interval length where nothing states it
   * @param spacings is told every row; to be given where that length is a guess
   */
  constructor(
    bytes: Uint8Array, ctx: DecodeContext, state: FormatState | null, header: string[], roles: readonly CsvRole[],
    derivedIntervalS: number | undefined, spacings: Spacings | null = null,
  ) {
    this.#bytes = bytes
    this.#view = viewOf(bytes)
    this.#state = state
    this.#header = header
    this.#roles = roles
    this.#kinds = Uint8Array.from(roles, role => role === 'meter' ? METER : role === 'value' ? VALUE
      : role === 'start' || role === 'end' ? TIME : WORD)
    this.#sink = new ReadSink(ctx, state, 'line', bytes.length)
    this.#rows = new CsvRows(bytes)
    this.#meters = new MeterTable(bytes)
    this.#isEnd = !roles.includes('start')
    this.#isPlain = this.#isEnd || !roles.includes('end')
    const { defaultIntervalS: stated = 0 } = ctx
    this.#defaultIntervalS = stated === 0 ? derivedIntervalS ?? 0 : stated
    this.#derivedIntervalS = derivedIntervalS
    this.#spacings = spacings
    this.#flows = roles.includes('flow') ? 4 : 1
    this.#intervalS = this.#defaultIntervalS
    const unit = unitOf(ctx.defaultUnit ?? 'kWh')
    this.#shift = unit?.shift ?? NaN
    this.#quantity = unit?.quantity ?? Quantity.energy
    this.#wordFrom = new Int32Array(roles.length)
    this.#wordTo = new Int32Array(roles.length)
    this.#reader = new CsvRowReader(this.#rows, bytes, this.#sink, roles, ctx.defaultUnit ?? 'kWh')
  }

  /** Decodes the rows from `p` on, the line before which is number `line`. */
  decode(p: number, line: number, final: boolean): Decoded {
    this.#line = line
    const spacings = this.#spacings
    if (this.#state === null && this.#derivedIntervalS !== undefined) {
      this.#sink.notes.push(
        `Line ${line + 1} on: the interval length, ${this.#derivedIntervalS} s, is told from the spacing of the reads.`)
    }
    const end = this.#bytes.length
    while (p < end) {
      const seen = spacings === null ? 0 : spacings.seen
      const next = this.#isPlain ? this.#fast(p) : -1
      if (next > 0) {
        this.#line++
        p = next
        continue
      }
      if (!this.#rows.split(p)) break
      if (spacings !== null && spacings.seen === seen && !this.#rows.isBlank) spacings.missed = true
      this.#line += this.#rows.lines
      this.#reader.read(this.#line - this.#rows.lines + 1, this.#defaultIntervalS)
      p = this.#rows.next
    }
    return this.#sink.finish(final, {
      bytes: (this.#state?.bytes ?? 0) + end, lines: this.#line, records: 0, header: this.#header,
      derivedIntervalS: this.#derivedIntervalS,
    })
  }

  /** Reads the row at p; returns where the next one begins, -1 where the row takes the complete reader. */
  #fast(p: number): number {
    const bytes = this.#bytes
    const kinds = this.#kinds
    const last = kinds.length - 1
    const rowFrom = p
    let localS = 0
    let offsetS = NaN
    let m = 0
    let digits = 0
    let present = false
    for (let i = 0; i <= last; i++) {
      const isQuoted = bytes[p] === QUOTE
      if (isQuoted) p++
      switch (kinds[i]) {
        case METER: {
          const length = this.#meterTo - this.#meterFrom
          if (length > 0 && p + length <= bytes.length && sameBytes(this.#view, p, this.#meterFrom, length)
            && isFieldEnd(bytes[p + length], isQuoted)) p += length
          else p = this.#newMeter(p, isQuoted)
          break
        }
        case TIME:
          p = this.#time.readAt(bytes, p, bytes.length)
          localS = this.#time.localS
          offsetS = this.#time.offsetS
          break
        case VALUE: {
          let c = bytes[p]
          const isNegative = c === 45
          if (isNegative) c = bytes[++p]
          const first = p
          while (c >= 48 && c <= 57) {
            m = m * 10 + c - 48
            c = bytes[++p]
          }
          let length = p - first
          if (c === 46) {
            c = bytes[++p]
            const point = p
            while (c >= 48 && c <= 57) {
              m = m * 10 + c - 48
              c = bytes[++p]
            }
            digits = p - point
            length += digits
            if (length === 0) return -1
          }
          present = length > 0
          if (length > 15 || (isNegative && !present)) return -1
          if (isNegative) m = -m
          break
        }
        default:
          p = this.#word(i, p, isQuoted)
      }
      if (p < 0 || (isQuoted && bytes[p++] !== QUOTE)) return -1
      if (i < last && bytes[p++] !== COMMA) return -1
    }
    let next = p + 1
    if (p < bytes.length) {
      const c = bytes[p]
      if (c === CR) next = bytes[p + 1] === LF ? p + 2 : p + 1
      else if (c !== LF) return -1
    } else {
      next = p
    }
    if (this.#spacings !== null) {
      const at = Number.isNaN(offsetS) ? localS : localS - offsetS
      this.#spacings.see(this.#flows === 1 ? this.#meter : this.#meter * 4 + this.#flow, at)
    }
    if (!present) return next
    return this.#append(localS, offsetS, m, digits, rowFrom, p) ? next : -1
  }

  #append(localS: number, offsetS: number, m: number, digits: number, rowFrom: number, rowTo: number): boolean {
    let mantissa = 0
    let decimals = USUAL_DECIMALS
    const up = USUAL_DECIMALS - this.#shift - digits
    if (up >= 0) mantissa = m * P10[up]
    if (!(up >= 0) || mantissa > MAX_MANTISSA || mantissa < -MAX_MANTISSA) {
      const fitter = this.#sink.decimals
      if (Number.isNaN(this.#shift)) return false
      const { rounded } = fitter
      if (fitter.fit(m, digits + this.#shift) !== 'ok') return false
      // A rounded read goes the slow way: what it does not settle it does not count twice.
      if (fitter.rounded !== rounded) {
        fitter.rounded = rounded
        return false
      }
      mantissa = fitter.mantissa
      decimals = fitter.decimals
    }
    let startS = localS - offsetS
    if (Number.isNaN(offsetS) || (offsetS === 0 && this.#sink.wallAsEpoch)) {
      const { clock } = this.#sink
      if (clock === null) return false
      startS = localS - clock.offsetOn(Math.floor(localS / DAY_S))
      if (Number.isNaN(startS)) return false
    }
    if (this.#intervalS === 0 || this.#meter < 0 || this.#isRegister) return false
    if (this.#isEnd) {
      if (this.#intervalS === DAY_S) return false
      startS -= this.#intervalS
    }
    let channel = this.#channel
    if (channel === null || channel.flow !== this.#flow || channel.intervalS !== this.#intervalS
      || channel.quantity !== this.#quantity) {
      if (intervalKind(this.#intervalS) !== 'grid') return false
      const flow = this.#flow === 1 ? Flow.delivered : this.#flow === 2 ? Flow.received : Flow.net
      channel = this.#sink.channel(this.#meters.meters[this.#meter], flow, this.#intervalS, this.#quantity)
      this.#channel = this.#meters.channels[this.#meter] = channel
    }
    channel.append(startS, mantissa, decimals, this.#lane, this.#version, this.#line + 1, rowFrom, rowTo)
    return true
  }

  /** Reads a meter id that is not the last row's. */
  #newMeter(p: number, isQuoted: boolean): number {
    const bytes = this.#bytes
    const from = p
    let hash = 0
    let c = bytes[p]
    while (c > 32 && c < 127 && c !== COMMA && c !== QUOTE) {
      hash = (Math.imul(hash, 31) + c) | 0
      c = bytes[++p]
    }
    if (p === from || !isFieldEnd(c, isQuoted)) return -1
    hash ^= hash >>> 15
    let index = this.#meters.find(from, p, hash)
    if (index < 0) {
      const meter = Buffer.from(bytes.buffer, bytes.byteOffset + from, p - from).toString('latin1')
      if (meterFault(meter) !== undefined) return -1
      index = this.#meters.add(meter, from, p, hash)
    }
    this.#meter = index
    this.#channel = this.#meters.channels[index]
    this.#meterFrom = from
    this.#meterTo = p
    return p
  }

  /** Reads a column of words or times that is most often what it was in the row before. */
  #word(i: number, p: number, isQuoted: boolean): number {
    const bytes = this.#bytes
    const before = this.#wordFrom[i]
    const length = this.#wordTo[i] - before
    if (length > 0 && p + length <= bytes.length && sameBytes(this.#view, p, before, length)
      && isFieldEnd(bytes[p + length], isQuoted)) return p + length
    const from = p
    let c = bytes[p]
    while (c !== COMMA && c !== LF && c !== CR && c !== QUOTE && p < bytes.length) c = bytes[++p]
    if ((c === QUOTE) !== isQuoted) return -1
    const value = this.#reader.word(this.#roles[i], from, p, this.#defaultIntervalS)
    if (value === undefined) return -1
    switch (this.#roles[i]) {
      case 'unit': {
        const unit = unpackUnit(value)
        this.#shift = unit.shift
        this.#quantity = unit.quantity
        break
      }
      case 'kind': this.#isRegister = value === 1; break
      case 'tou': break
      case 'flow': this.#flow = value; break
      case 'quality': this.#lane = value; break
      case 'intervalSeconds': this.#intervalS = value; break
      default: this.#version = value
    }
    this.#wordFrom[i] = from
    this.#wordTo[i] = p
    return p
  }
}

function isFieldEnd(c: number | undefined, isQuoted: boolean): boolean {
  return isQuoted ? c === QUOTE : c === COMMA || c === LF || c === CR || c === undefined
}
