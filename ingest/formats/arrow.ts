import { RecordBatchReader, type Data, type RecordBatch } from 'apache-arrow'
import { BodyError } from '../../engine/problem.js'
import { Quantity, unitOf } from '../../engine/quantity.js'
import { Flow, MAX_MANTISSA, MISSING, type FlowCode } from '../../engine/read-batch.js'
import { checkArrowStream } from './arrow-check.js'
import { dataOf, listOf, numbersOf, secondsOf, wordsOf, type NumberColumn } from './arrow-columns.js'
import { P10, USUAL_DECIMALS, type Fit } from './decimal.js'
import type { DecodeContext, Decoded, Format, FormatState, Piece } from './format.js'
import { joinScales, refuseValue } from './json-record.js'
import { ReadSink, type RecordFacts, type RecordTime } from './sink.js'
import { localText, utcText } from './timestamps.js'
import { flowOf, flowWords, intervalKind, meterFault, qualityOf, qualityWords, show } from './words.js'

const COLUMNS = ['meter', 'start', 'value', 'intervalSeconds', 'unit', 'flow', 'quality', 'capturedAt'] as const
type ColumnName = (typeof COLUMNS)[number]

/**
 * An Arrow IPC stream (contract §4; the Arrow columnar format, version 1.0 and later). A row is one read, or, where
 * `value` is a list of numbers, a block of reads that begins at `start`. A timestamp with a zone is an instant, one without
 * is local time of the source. The stream is read in one part.
 */
export const arrow: Format = {
  name: 'arrow',

  decode(bytes: Uint8Array, ctx: DecodeContext, state: FormatState | null, final: boolean): Decoded {
    const stream = new Stream(bytes, ctx)
    stream.decode()
    return stream.sink.finish(final, { bytes: (state?.bytes ?? 0) + bytes.length, lines: 0, records: stream.rows })
  },

  /** Record batches mean nothing without the schema and dictionaries before them: a stream has one part. */
  cut(): number {
    return 0
  },
}

/** True for what begins like an Arrow stream: the mark of a message, and its length. */
export function looksLikeArrow(bytes: Uint8Array): boolean {
  return bytes.length >= 8 && bytes[0] === 255 && bytes[1] === 255 && bytes[2] === 255 && bytes[3] === 255
}

class Stream {
  readonly sink: ReadSink
  rows = 0
  readonly #bytes: Uint8Array
  readonly #ctx: DecodeContext
  readonly #facts: RecordFacts = {
    meter: '', flow: Flow.delivered, quantity: Quantity.energy, intervalS: 0, lane: 0, version: 0, place: 0, rawFrom: 0, rawTo: 0,
  }
  readonly #time: RecordTime = { localS: 0, offsetS: NaN, backS: 0 }
  #shift = 0
  #mantissas = new Int32Array(128)
  #decimals = new Int8Array(128)

  constructor(bytes: Uint8Array, ctx: DecodeContext) {
    // The library reads 64-bit values in place, which a message in the middle of others may not be aligned for.
    this.#bytes = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice()
    this.#ctx = ctx
    this.sink = new ReadSink(ctx, null, 'record', bytes.length)
  }

  decode(): void {
    if (!looksLikeArrow(this.#bytes)) throw malformed('The body is no Arrow IPC stream.', 'Send the stream format, not the file format.')
    try {
      checkArrowStream(this.#bytes)
      const reader = RecordBatchReader.from(this.#bytes)
      let batches = 0
      for (const batch of reader) {
        batches++
        this.#batch(batch)
      }
      if (batches === 0 && reader.schema === undefined) throw malformed('The stream has no schema.')
    } catch (err) {
      if (err instanceof BodyError) throw err
      // The library says in many ways that bytes are not what they should be.
      throw malformed('The Arrow stream cannot be read.', 'Send it whole and without compression of its buffers.')
    }
  }

  #batch(batch: RecordBatch): void {
    const columns = new Map<ColumnName, Data>()
    batch.schema.fields.forEach((field, i) => {
      const name = COLUMNS.find((column) => column === field.name)
      const vector = batch.getChildAt(i)
      if (name === undefined) {
        throw new BodyError(422, 'unknown-member', `There is no column ${show(field.name)}.`, `column ${show(field.name)}`, `Columns: ${COLUMNS.join(', ')}.`)
      }
      if (vector === null || vector.length < batch.numRows) throw malformed(`The column ${name} holds less than it says.`)
      columns.set(name, dataOf(vector, name))
    })
    for (const name of ['meter', 'start', 'value'] as const) {
      if (!columns.has(name)) throw new BodyError(422, 'missing-member', `The stream has no column ${name}.`, `column ${name}`)
    }
    const word = (name: ColumnName): ((row: number) => string | null) | null => columns.has(name) ? wordsOf(columns.get(name)!, name) : null
    const list = listOf(columns.get('value')!, 'value')
    const values = list === null ? numbersOf(columns.get('value')!, 'value') : list.numbers
    const lengths = columns.has('intervalSeconds') ? numbersOf(columns.get('intervalSeconds')!, 'intervalSeconds') : null
    const start = secondsOf(columns.get('start')!, 'start')
    const captured = columns.has('capturedAt') ? secondsOf(columns.get('capturedAt')!, 'capturedAt') : null
    const reader = new RowReader(this.#facts, this.#ctx, {
      meter: word('meter')!, unit: word('unit'), flow: word('flow'), quality: word('quality'), lengths })
    const facts = this.#facts
    const time = this.#time
    for (let row = 0; row < batch.numRows; row++) {
      facts.place = ++this.rows
      const from = list === null ? row : list.from(row)
      const to = list === null ? row + 1 : list.to(row)
      const reads = present(values, from, to)
      if (reads === 0) continue
      time.localS = start.seconds(row)
      time.offsetS = start.isUtc ? 0 : NaN
      facts.version = captured === null ? 0 : (captured.seconds(row) || 0) * 1e6
      const fault = Number.isNaN(time.localS)
        ? { code: 'missing-member', message: 'The record has no start.', within: 'start' } : reader.read(row)
      if (fault !== null) {
        this.sink.problem(facts, fault.code, fault.message, { within: fault.within, reads, ...(fault.help === undefined ? {} : { help: fault.help }) })
        continue
      }
      this.#shift = reader.shift
      this.#values(values, from, to, list === null)
    }
  }

  #values(values: NumberColumn, from: number, to: number, single: boolean): void {
    const count = to - from
    if (count > this.#mantissas.length) {
      this.#mantissas = new Int32Array(count)
      this.#decimals = new Int8Array(count)
    }
    const mantissas = this.#mantissas
    const usual = P10[USUAL_DECIMALS - this.#shift]
    let reads = 0
    let isMixed = false
    for (let i = 0; i < count; i++) {
      mantissas[i] = MISSING
      if (!values.has(from + i)) continue
      if (values.doubles !== null) {
        const value = values.doubles[from + i]
        const m = Math.round(value * usual)
        if (m / usual === value && m <= MAX_MANTISSA && m >= -MAX_MANTISSA) {
          mantissas[i] = m
          this.#decimals[i] = USUAL_DECIMALS
          reads++
          continue
        }
      }
      values.read(from + i)
      const fitter = this.sink.decimals
      const fit = Number.isNaN(values.decimals) ? fitter.fitDouble(values.m, this.#shift) : fitter.fit(values.m, values.decimals + this.#shift)
      if (fit !== 'ok') {
        this.#refuse(fit, values, i, single)
        continue
      }
      mantissas[i] = fitter.mantissa
      this.#decimals[i] = fitter.decimals
      isMixed ||= fitter.decimals !== USUAL_DECIMALS
      reads++
    }
    if (reads === 0) return
    const pieces: Piece[] = isMixed ? joinScales(mantissas, this.#decimals, count) : [{ decimals: USUAL_DECIMALS, mantissas }]
    this.sink.add(this.#facts, this.#time, { pieces, count, lanes: null, reads, single })
  }

  #refuse(fit: Fit, values: NumberColumn, i: number, single: boolean): void {
    const facts = this.#facts
    const { localS, offsetS } = this.#time
    const at = localS + i * facts.intervalS
    const value = (Number.isNaN(values.decimals) ? values.m : values.m / 10 ** values.decimals) / 10 ** this.#shift
    refuseValue(this.sink, facts, fit, value, Number.isNaN(offsetS) ? localText(at) : utcText(at), single ? 'value' : `value/${i}`)
  }
}

function present(values: NumberColumn, from: number, to: number): number {
  let n = 0
  for (let i = from; i < to; i++) if (values.has(i)) n++
  return n
}

interface RowColumns {
  meter: (row: number) => string | null
  unit: ((row: number) => string | null) | null
  flow: ((row: number) => string | null) | null
  quality: ((row: number) => string | null) | null
  lengths: NumberColumn | null
}

interface RowFault { code: string; message: string; within: string; help?: string }

/** Reads what a row says beside its start and values into the facts. Words that come again are not looked up again. */
class RowReader {
  /** Decimals that the row's unit adds. */
  shift = 0
  readonly #facts: RecordFacts
  readonly #ctx: DecodeContext
  readonly #columns: RowColumns
  #meter: string | null = null
  #unit: string | null | undefined
  #flow: string | null | undefined
  #quality: string | null | undefined

  constructor(facts: RecordFacts, ctx: DecodeContext, columns: RowColumns) {
    this.#facts = facts
    this.#ctx = ctx
    this.#columns = columns
  }

  read(row: number): RowFault | null {
    const { meter, unit, flow, quality } = this.#columns
    const facts = this.#facts
    const name = meter(row)
    if (name === null) return { code: 'missing-member', message: 'The record has no meter.', within: 'meter' }
    if (name !== this.#meter) {
      const bad = meterFault(name)
      if (bad !== undefined) return { code: 'meter-invalid', message: bad, within: 'meter' }
      this.#meter = facts.meter = name
    }
    return this.#readUnit(unit?.(row) ?? null) ?? this.#readFlow(flow?.(row) ?? null) ?? this.#readQuality(quality?.(row) ?? null)
      ?? this.#readLength(row)
  }

  #readUnit(word: string | null): RowFault | null {
    if (word === this.#unit) return null
    const stated = word ?? this.#ctx.defaultUnit ?? 'kWh'
    const unit = unitOf(stated)
    if (unit === undefined) return { code: 'unit-unsupported', message: `${show(stated)} is no unit that is taken.`, within: 'unit' }
    this.#facts.quantity = unit.quantity
    this.shift = unit.shift
    this.#unit = word
    return null
  }

  #readFlow(word: string | null): RowFault | null {
    if (word === this.#flow) return null
    const flow: FlowCode | undefined = word === null ? Flow.delivered : flowOf(word)
    if (flow === undefined) return { code: 'flow-unknown', message: `There is no flow ${show(word ?? '')}.`, help: `Flows: ${flowWords}.`, within: 'flow' }
    this.#facts.flow = flow
    this.#flow = word
    return null
  }

  #readQuality(word: string | null): RowFault | null {
    if (word === this.#quality) return null
    const lane = word === null ? 0 : qualityOf(word)
    if (lane === undefined) {
      return { code: 'quality-unknown', message: `There is no quality ${show(word ?? '')}.`, help: `Qualities: ${qualityWords}.`, within: 'quality' }
    }
    this.#facts.lane = lane
    this.#quality = word
    return null
  }

  #readLength(row: number): RowFault | null {
    const { lengths } = this.#columns
    let seconds = this.#ctx.defaultIntervalS ?? 0
    if (lengths?.has(row) === true) {
      lengths.read(row)
      seconds = lengths.m
    }
    if (seconds === 0) {
      return { code: 'interval-unknown', message: 'The interval length is not stated.', within: 'intervalSeconds',
        help: 'Send intervalSeconds, or set the source\'s interval length.' }
    }
    if (intervalKind(seconds) === 'none') {
      return { code: 'interval-length', message: `An interval of ${seconds} s fits no grid.`, within: 'intervalSeconds' }
    }
    this.#facts.intervalS = seconds
    return null
  }
}

function malformed(message: string, help?: string): BodyError {
  return new BodyError(400, 'malformed-arrow', message, undefined, help)
}
