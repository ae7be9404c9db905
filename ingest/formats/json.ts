import { BodyError } from '../../engine/problem.js'
import type { DecodeContext, Decoded, Format, FormatState } from './format.js'
import { JsonBody } from './json-body.js'
import type { RecordPlace } from './json-record.js'
import { skipSpace, skipValue } from './json-scan.js'
import { pointerPart } from './json-slow.js'
import { jsonFault } from './ndjson.js'
import { plainBytes, textStart } from './text.js'
import { show } from './words.js'

const COMMA = 44, OPEN = 91, CLOSE = 93, BRACE = 123, END_BRACE = 125
const READS = new TextEncoder().encode('"reads"')

type Enclosure = 'envelope' | 'array'

/**
 * `{"reads":[block...]}`, a bare array of blocks, or one block. Elements are read one at a time from the bytes, so that
 * a large document never stands in memory as objects.
 */
export const json: Format = {
  name: 'json',

  decode(part: Uint8Array, ctx: DecodeContext, state: FormatState | null, final: boolean): Decoded {
    return new Document(plainBytes(part), ctx, state, final).decode()
  },

  cut(part: Uint8Array, limit: number, state: FormatState | null): number {
    const bytes = plainBytes(part).subarray(0, limit)
    const opening = state === null ? openingOf(bytes, textStart(bytes)) : { p: 0 }
    if (opening === null) return 0
    let p = opening.p
    let last = 0
    for (;;) {
      p = skipSpace(bytes, p)
      if (bytes[p] === COMMA) p = skipSpace(bytes, p + 1)
      p = skipValue(bytes, p)
      // A bare number or word at the end may go on after the limit.
      if (p < 0 || (p >= limit && bytes[p - 1] !== END_BRACE)) return last
      last = p
    }
  },
}

/** The enclosure of the elements, and where they begin; null where the document is neither of the two. */
function openingOf(bytes: Uint8Array, from: number): { enclosure: Enclosure, p: number } | null {
  let p = skipSpace(bytes, from)
  if (bytes[p] === OPEN) return { enclosure: 'array', p: p + 1 }
  if (bytes[p] !== BRACE) return null
  p = skipSpace(bytes, p + 1)
  for (let i = 0; i < READS.length; i++) if (bytes[p + i] !== READS[i]) return null
  p = skipSpace(bytes, p + READS.length)
  if (bytes[p] !== 58) return null
  p = skipSpace(bytes, p + 1)
  return bytes[p] === OPEN ? { enclosure: 'envelope', p: p + 1 } : null
}

class Document {
  readonly #bytes: Uint8Array
  readonly #body: JsonBody
  readonly #final: boolean
  /** Bytes of the document before this part. */
  readonly #before: number
  readonly #where: RecordPlace
  #enclosure: Enclosure | undefined
  #p: number

  constructor(bytes: Uint8Array, ctx: DecodeContext, state: FormatState | null, final: boolean) {
    this.#bytes = bytes
    this.#body = new JsonBody(bytes, ctx, state, 'record')
    this.#final = final
    this.#before = state?.bytes ?? 0
    this.#where = { place: state?.records ?? 0, rawFrom: 0, rawTo: 0 }
    this.#enclosure = state?.json
    this.#p = state === null ? textStart(bytes) : 0
  }

  decode(): Decoded {
    if (this.#enclosure === undefined) {
      const opening = openingOf(this.#bytes, this.#p)
      if (opening === null) {
        this.#single()
        return this.#finish()
      }
      this.#enclosure = opening.enclosure
      this.#p = opening.p
    }
    if (this.#elements()) this.#closing()
    return this.#finish()
  }

  #finish(): Decoded {
    return this.#body.sink.finish(this.#final, {
      bytes: this.#before + this.#bytes.length, lines: 0, records: this.#where.place, json: this.#enclosure,
    })
  }

  /** Reads elements; true where the array ended, false where the part did. */
  #elements(): boolean {
    const bytes = this.#bytes
    const body = this.#body
    const where = this.#where
    body.pointer = this.#enclosure === 'envelope' ? '/reads/' : '/'
    let p = this.#p
    for (;;) {
      p = skipSpace(bytes, p)
      if (bytes[p] === CLOSE) {
        this.#p = p + 1
        return true
      }
      if (p >= bytes.length) {
        this.#p = p
        if (this.#final) throw this.#malformed(p, 'The JSON ends before its array does.')
        return false
      }
      if (where.place > 0) {
        if (bytes[p] !== COMMA) throw this.#malformed(p, 'There is no comma between two records.')
        p = skipSpace(bytes, p + 1)
      }
      where.place++
      where.rawFrom = p
      let end = body.read(p, bytes.length)
      if (end > 0) {
        where.rawTo = end
        body.deliver(where)
      } else {
        end = this.#slow(p)
      }
      p = end
    }
  }

  /** Reads the element at p with all checks; returns where it ends. */
  #slow(p: number): number {
    const end = skipValue(this.#bytes, p)
    if (end < 0) {
      const c = this.#bytes[p]
      throw this.#malformed(p, p < this.#bytes.length && c !== CLOSE && c !== END_BRACE && c !== COMMA
        ? 'The JSON ends in the middle of a record.'
        : 'There is no record where one should be.')
    }
    this.#where.rawTo = end
    const error = this.#body.slow(this.#where)
    if (error !== null) throw this.#malformed(p, `The record is no JSON: ${jsonFault(error)}`)
    return end
  }

  /** What follows the array: nothing, or the end of the envelope. */
  #closing(): void {
    const bytes = this.#bytes
    let p = skipSpace(bytes, this.#p)
    if (this.#enclosure === 'envelope') {
      if (bytes[p] === COMMA) throw this.#unknownMember(skipSpace(bytes, p + 1))
      if (bytes[p] !== END_BRACE) throw this.#malformed(p, 'The JSON ends before its object does.')
      p = skipSpace(bytes, p + 1)
    }
    if (p < bytes.length) throw this.#malformed(p, 'There is something after the end of the JSON.')
  }

  /** A document that is neither an envelope nor an array: one block. */
  #single(): void {
    const bytes = this.#bytes
    const where = this.#where
    const p = skipSpace(bytes, this.#p)
    if (p >= bytes.length) throw this.#malformed(p, 'The body is empty.')
    if (bytes[p] !== BRACE) {
      throw this.#malformed(p, 'The body is neither an object nor an array.')
    }
    where.place = 1
    where.rawFrom = p
    const end = skipValue(bytes, p)
    if (end < 0) throw this.#malformed(p, 'The JSON ends before its object does.')
    where.rawTo = end
    const rest = skipSpace(bytes, end)
    if (rest < bytes.length) {
      throw this.#malformed(rest, 'There is something after the end of the JSON.',
        'A block per line is NDJSON: send Content-Type application/x-ndjson.')
    }
    if (this.#body.read(p, bytes.length) === end) {
      this.#body.deliver(where)
      return
    }
    this.#refuseEnvelope(p, end)
    const error = this.#body.slow(where)
    if (error !== null) throw this.#malformed(p, `The body is no JSON: ${jsonFault(error)}`)
  }

  /** Throws where the object looks like an envelope, or like nothing that is known. */
  #refuseEnvelope(from: number, to: number): void {
    // An envelope with members before its reads may be of any size: only its member names are looked at.
    let hasReads = false
    let isBlock = false
    let unknown: number | undefined
    for (let p = skipSpace(this.#bytes, from + 1); p < to && this.#bytes[p] === 34;) {
      const name = this.#name(p)
      if (name === 'reads') hasReads = true
      else if (name === 'meter' || name === 'values' || name === 'value') isBlock = true
      else unknown ??= p
      p = skipValue(this.#bytes, p)
      if (p < 0) return
      p = skipSpace(this.#bytes, p)
      if (this.#bytes[p] !== 58) return
      p = skipValue(this.#bytes, skipSpace(this.#bytes, p + 1))
      if (p < 0) return
      p = skipSpace(this.#bytes, p)
      if (this.#bytes[p] === COMMA) p = skipSpace(this.#bytes, p + 1)
    }
    if (isBlock && !hasReads) return
    if (hasReads && unknown !== undefined) throw this.#unknownMember(unknown)
    throw hasReads
      ? new BodyError(422, 'wrong-type', 'The member reads is no array of blocks, or not the only member.', '/reads')
      : new BodyError(422, 'missing-member', 'The body has no member reads.', '',
        'Send {"reads":[block, ...]} or an array of blocks.')
  }

  #name(p: number): string {
    const end = skipValue(this.#bytes, p)
    const text = new TextDecoder().decode(this.#bytes.subarray(p + 1, end < 0 ? p + 1 : Math.min(end - 1, p + 200)))
    return text
  }

  #unknownMember(p: number): BodyError {
    if (this.#bytes[p] !== 34) return this.#malformed(p, 'There is no member where one should be.')
    const name = this.#name(p)
    return new BodyError(422, 'unknown-member', `The body has a member ${show(name)} that is not known.`,
      `/${pointerPart(name)}`, 'The only member is reads.')
  }

  #malformed(p: number, message: string, help?: string): BodyError {
    const place = this.#where.place > 0 ? `, record ${this.#where.place}` : ''
    return new BodyError(400, 'malformed-json', message, `byte ${this.#before + p}${place}`, help)
  }
}
