import { Buffer, isUtf8 } from 'node:buffer'
import { FastReader } from './json-fast.js'
import { JsonRecord, type RecordPlace } from './json-record.js'
import { depthOf } from './json-scan.js'
import { readParsed } from './json-slow.js'
import type { DecodeContext, FormatState } from './format.js'
import { ReadSink } from './sink.js'
import { MAX_RECORD_BYTES } from './text.js'

/** A block is two deep; what is deeper than this is an attack or a mistake. */
const MAX_DEPTH = 32

/** What JSON and NDJSON have in common: records, one after the other, from bytes to the sink. */
export class JsonBody {
  readonly sink: ReadSink
  readonly #record: JsonRecord
  readonly #fast: FastReader
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array, ctx: DecodeContext, state: FormatState | null, places: 'line' | 'record') {
    this.sink = new ReadSink(ctx, state, places, bytes.length)
    this.#record = new JsonRecord(this.sink, ctx, null)
    this.#fast = new FastReader(this.#record)
    this.#bytes = bytes
    this.#fast.over(bytes)
  }

  /** Sets the JSON pointer to the records' array, with a slash at the end. */
  set pointer(pointer: string) {
    this.#record.pointer = pointer
  }

  /**
   * Tries the record at `from` the fast way.
   *
   * @returns where it ends; -1 where it takes slow(), or ends after `limit`
   */
  read(from: number, limit: number): number {
    const end = this.#fast.read(from)
    return end > limit ? -1 : end
  }

  /** The record that read() read. */
  get record(): JsonRecord {
    return this.#record
  }

  /** Hands the record that read() read to the sink. */
  deliver(where: RecordPlace): void {
    this.#record.deliver(where)
  }

  /**
   * Takes the record [rawFrom, rawTo) with all checks.
   *
   * @returns the error where it is no JSON; everything else wrong is reported to the sink
   */
  slow(where: RecordPlace): SyntaxError | null {
    const { rawFrom, rawTo } = where
    if (rawTo - rawFrom > MAX_RECORD_BYTES) {
      this.sink.problem(where, 'record-too-large', `The record is longer than ${MAX_RECORD_BYTES} bytes.`, {
        help: 'Send a block for each meter and day.',
      })
      return null
    }
    const text = Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + rawFrom, rawTo - rawFrom)
    if (!isUtf8(text)) {
      this.sink.problem(where, 'invalid-utf8', 'The record is not UTF-8.')
      return null
    }
    if (depthOf(this.#bytes, rawFrom, rawTo) > MAX_DEPTH) {
      this.sink.problem(where, 'too-deep', `The record is nested deeper than ${MAX_DEPTH} levels.`)
      return null
    }
    let parsed: unknown
    try {
      parsed = JSON.parse(text.toString('utf8'))
    } catch (error) {
      if (error instanceof SyntaxError) return error
      throw error
    }
    const fault = readParsed(parsed, this.#record, this.sink.clock)
    if (fault === null) {
      this.#record.deliver(where)
      return null
    }
    const { code, member, message, meter, ...options } = fault
    const within = this.#record.within(where.place, member)
    // Kept on one line, so that a replay can read it; a number beyond all numbers would come out as no read.
    const canReplay = options.outcome === undefined && meter !== undefined && hasFiniteValues(parsed)
    this.sink.problem({ ...where, meter }, code, message, {
      ...options, within, ...(canReplay ? { record: JSON.stringify(parsed) } : {}),
    })
    return null
  }
}

/** Whether every value of a parsed record is a number that JSON can write. */
function hasFiniteValues(parsed: unknown): boolean {
  if (typeof parsed !== 'object' || parsed === null) return false
  const { value, values } = parsed as { value?: unknown, values?: unknown }
  const all: unknown[] = Array.isArray(values) ? values : [value]
  return all.every(one => typeof one !== 'number' || Number.isFinite(one))
}
