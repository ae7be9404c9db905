import type { KafkaBatch } from '../engine/submission.js'
import type { MeterEvent } from '../engine/events.js'
import { BodyError, type RecordProblem } from '../engine/problem.js'
import type { QuantityCode } from '../engine/quantity.js'
import type { BlockHead, FlowCode, ReadBatch, ReadBatchBuilder } from '../engine/read-batch.js'
import { RegisterBatchBuilder, type RegisterBatch } from '../engine/register-batch.js'
import { detectFormat, type DecodeContext, type Decoded, type Format } from './formats/format.js'
import { json } from './formats/json.js'
import { JsonBody } from './formats/json-body.js'
import { skipSpace } from './formats/json-scan.js'
import type { MessageFrames } from './task.js'

/**
 * Decodes messages of a Kafka partition that stand one after the other in one buffer. Every message is read for itself, as
 * if it were a body pushed over HTTP, so that a redelivery in other company comes to the same; but one record that needs
 * nothing but its own bytes, the usual message, is read into the batch without anything being made for it.
 */

const BRACE = 123
/** First byte of an Arrow stream: the continuation mark. */
const ARROW = 255
const MAX_NOTES = 20

/** A message that cannot be read at all: as a body pushed over HTTP it would have been refused. */
export interface DeadMessage {
  /** Index among the messages. */
  index: number
  code: string
  message: string
}

export interface DecodedMessages extends Decoded {
  readonly dead: DeadMessage[]
  /** Per message: the number of records before it. */
  readonly recordsBefore: Int32Array
  /** Name of the format, of the first message that could be read where they differ. */
  readonly format: string
}

/**
 * @param contentType of all the messages; null: JSON, NDJSON or an Arrow stream, by the look of each
 */
export function decodeMessages(bytes: Uint8Array, frames: MessageFrames, contentType: string | null, ctx: DecodeContext): DecodedMessages {
  return new Messages(bytes, frames, contentType, ctx).decode()
}

class Messages {
  readonly #bytes: Uint8Array
  readonly #frames: MessageFrames
  readonly #contentType: string | null
  readonly #ctx: DecodeContext
  readonly #body: JsonBody
  readonly #dead: DeadMessage[] = []
  readonly #refused: RecordProblem[] = []
  readonly #recordsBefore: Int32Array
  readonly #notes = new Set<string>()
  readonly #registers = new RegisterBatchBuilder()
  readonly #events: MeterEvent[] = []
  readonly #mayBeOneRecord: boolean
  #format: string | null = null
  #records = 0
  #rounded = 0

  constructor(bytes: Uint8Array, frames: MessageFrames, contentType: string | null, ctx: DecodeContext) {
    this.#bytes = bytes
    this.#frames = frames
    this.#contentType = contentType
    this.#ctx = ctx
    this.#body = new JsonBody(bytes, ctx, null, 'record')
    // Reads of different messages have versions of their own, and are never one block.
    this.#body.sink.gathers = false
    this.#recordsBefore = new Int32Array(frames.ends.length)
    this.#mayBeOneRecord = contentType === null || /json/i.test(contentType)
  }

  decode(): DecodedMessages {
    const { ends, versions, refused } = this.#frames
    const body = this.#body
    const where = { place: 0, rawFrom: 0, rawTo: 0 }
    for (let i = 0, from = 0; i < ends.length; i++) {
      const to = ends[i]
      this.#recordsBefore[i] = this.#records
      if (refused !== null) this.#refuse(i, from, to, refused.code, refused.message)
      else if (this.#mayBeOneRecord && this.#bytes[from] === BRACE && this.#oneRecord(from, to)) {
        where.place = ++this.#records
        where.rawFrom = from
        where.rawTo = to
        if (body.record.version === 0) body.record.version = versions[i]
        const problems = body.sink.problems.length
        body.deliver(where)
        this.#format ??= 'json'
        for (let p = problems; p < body.sink.problems.length; p++) body.sink.problems[p].version = versions[i]
      } else this.#whole(i, from, to)
      from = to
    }
    for (const note of this.#notes) body.sink.notes.push(note)
    const decoded = body.sink.finish(true, { bytes: this.#bytes.length, lines: 0, records: this.#records })
    decoded.problems.push(...this.#refused)
    appendRegisters(this.#registers, decoded.registers, 0, 0)
    return {
      ...decoded, registers: this.#registers.finish(), events: [...decoded.events, ...this.#events], rounded: decoded.rounded + this.#rounded, dead: this.#dead, recordsBefore: this.#recordsBefore,
      format: this.#format ?? 'json',
    }
  }

  /** Reads the message as one record that states its offset from UTC; false where it is anything else. */
  #oneRecord(from: number, to: number): boolean {
    const end = this.#body.read(from, to)
    if (end < 0 || Number.isNaN(this.#body.record.offsetS)) return false
    return end === to || skipSpace(this.#bytes, end) >= to
  }

  /** Reads the message as a body of its own and adds what it holds. */
  #whole(i: number, from: number, to: number): void {
    if (from === to) {
      this.#refuse(i, from, to, 'empty-body', 'The message has no value.')
      return
    }
    const bytes = this.#bytes.subarray(from, to)
    let decoded: Decoded
    try {
      const format = this.#formatOf(bytes)
      decoded = format.decode(bytes, this.#ctx, null, true)
      this.#format ??= format.name
    } catch (err) {
      if (!(err instanceof BodyError)) throw err
      const { at, help } = err.extra as { at?: string; help?: string }
      this.#refuse(i, from, to, err.code, at === undefined ? err.message : `${err.message} (${at})`, help)
      return
    }
    // Lines of which none is JSON are no message of lines.
    if (decoded.batch.count === 0 && decoded.registers.count === 0 && decoded.problems.length > 0 && decoded.problems.every((p) => p.code === 'malformed-json')) {
      this.#refuse(i, from, to, 'malformed-json', decoded.problems[0].message)
      return
    }
    const records = this.#records
    const { builder, problems } = this.#body.sink
    appendBatch(builder, decoded.batch, records, from, this.#frames.versions[i])
    appendRegisters(this.#registers, decoded.registers, records, this.#frames.versions[i])
    this.#events.push(...decoded.events)
    let last = 0
    for (const { count, place } of [decoded.batch, decoded.registers]) for (let b = 0; b < count; b++) last = Math.max(last, place[b])
    for (const problem of decoded.problems) {
      problem.at = shiftPlace(problem.at, (n) => {
        last = Math.max(last, n)
        return records + n
      })
      if (problem.rawFrom !== undefined && problem.rawTo !== undefined) {
        problem.rawFrom += from
        problem.rawTo += from
      }
      problem.version = this.#frames.versions[i]
      problems.push(problem)
    }
    this.#records += Math.max(1, last)
    this.#rounded += decoded.rounded
    for (const note of decoded.notes) if (this.#notes.size < MAX_NOTES) this.#notes.add(note)
  }

  #formatOf(bytes: Uint8Array): Format {
    // Without a content type a message is JSON, lines of it, or an Arrow stream; other formats have to be named.
    if (this.#contentType === null && bytes[0] !== BRACE && bytes[0] !== ARROW) return json
    return detectFormat(this.#contentType ?? undefined, undefined, undefined, bytes)
  }

  #refuse(index: number, rawFrom: number, rawTo: number, code: string, message: string, help?: string): void {
    this.#dead.push({ index, code, message })
    this.#refused.push({
      code, message, at: `record ${++this.#records}`, outcome: 'quarantined', reads: 1, version: this.#frames.versions[index],
      ...(help === undefined ? {} : { help }), ...(rawTo > rawFrom ? { rawFrom, rawTo } : {}),
    })
  }
}

/** Adds a batch's blocks; places count on from `records`, bytes from `rawBase`, and blocks without a version have `version`. */
function appendBatch(builder: ReadBatchBuilder, batch: ReadBatch, records: number, rawBase: number, version: number): void {
  const head: BlockHead = { meter: '', startS: 0, intervalS: 0, flow: 1, lane: 0, exponent: 0, version: 0, place: 0, rawFrom: 0, rawTo: 0 }
  for (let b = 0; b < batch.count; b++) {
    const from = batch.offset[b]
    const to = from + batch.length[b]
    head.meter = batch.meters[b]
    head.startS = batch.startS[b]
    head.intervalS = batch.intervalS[b]
    head.flow = batch.flow[b] as FlowCode
    head.quantity = batch.quantity[b] as QuantityCode
    head.lane = batch.lane[b]
    head.exponent = batch.exponent[b]
    head.version = batch.version[b] === 0 ? version : batch.version[b]
    head.place = batch.place[b] + records
    head.rawFrom = batch.rawTo[b] === 0 ? 0 : batch.rawFrom[b] + rawBase
    head.rawTo = batch.rawTo[b] === 0 ? 0 : batch.rawTo[b] + rawBase
    builder.addBlock(head, batch.values.subarray(from, to), batch.lanes?.subarray(from, to))
  }
}

function appendRegisters(builder: RegisterBatchBuilder, batch: RegisterBatch, records: number, version: number): void {
  for (let i = 0; i < batch.count; i++) {
    builder.add({
      meter: batch.meters[i], tou: batch.tou[i], quantity: batch.quantity[i] as QuantityCode, flow: batch.flow[i] as FlowCode, atS: batch.atS[i],
      fromS: batch.fromS[i], mantissa: batch.mantissa[i], exponent: batch.exponent[i], lane: batch.lane[i],
      version: batch.version[i] === 0 ? version : batch.version[i], place: batch.place[i] + records,
    })
  }
}

const PLACE = /^(record|line)(s?) (\d+)(?: to (\d+))?/

function shiftPlace(at: string, shift: (n: number) => number): string {
  return at.replace(PLACE, (_, word: string, plural: string, first: string, last: string | undefined) =>
    `${word}${plural} ${shift(Number(first))}${last === undefined ? '' : ` to ${shift(Number(last))}`}`)
}

/** What a batch's transaction is told about where its messages stood (engine/commit.ts). */
export function kafkaBatch(frames: MessageFrames, decoded: Pick<DecodedMessages, 'dead' | 'recordsBefore'>, bytes: Uint8Array): KafkaBatch {
  const { move, firstOffset, offsets, ends, keys, keyEnds, nulls, headers } = frames
  const { recordsBefore } = decoded
  return {
    move, firstOffset,
    place: (at) => at.replace(PLACE, (_, word: string, plural: string, first: string, last: string | undefined) => {
      const m = messageOf(recordsBefore, Number(first))
      const own = Number(first) - recordsBefore[m]
      const single = last === undefined && own === 1 && (m + 1 === recordsBefore.length || recordsBefore[m + 1] - recordsBefore[m] === 1)
      const place = `partition ${move.partition}, offset ${offsets[m]}`
      if (single) return place
      return `${place}, ${word}${plural} ${own}${last === undefined ? '' : ` to ${Number(last) - recordsBefore[m]}`}`
    }),
    deadLetters: decoded.dead.map(({ index, code, message }) => ({
      group: move.group, topic: move.topic, partition: move.partition, offset: offsets[index], code, message,
      key: keyEnds[index] < 0 ? null : keys.slice(keyFrom(keyEnds, index), keyEnds[index]),
      value: nulls.includes(index) ? null : bytes.slice(index === 0 ? 0 : ends[index - 1], ends[index]),
      headers: headers.get(index) ?? [],
    })),
  }
}

function keyFrom(keyEnds: Int32Array, index: number): number {
  for (let i = index - 1; i >= 0; i--) if (keyEnds[i] >= 0) return keyEnds[i]
  return 0
}

/** The message that a record number, from 1, belongs to. */
function messageOf(recordsBefore: Int32Array, record: number): number {
  let low = 0
  let high = recordsBefore.length - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (recordsBefore[middle] < record) low = middle
    else high = middle - 1
  }
  return low
}
