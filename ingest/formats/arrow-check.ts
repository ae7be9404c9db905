import { BodyError } from '../../engine/problem.js'

/**
 * Checks an Arrow IPC stream before the library reads it: that every length and offset in the messages' flatbuffers lies
 * within what is there. The library believes them, and a changed byte could keep a worker busy for ever.
 * Layout: the Arrow format's Message.fbs and Schema.fbs, metadata version 5; flatbuffers' tables, vectors and strings.
 */

const CONTINUATION = 0xffffffff
const SCHEMA = 1, DICTIONARY_BATCH = 2, RECORD_BATCH = 3
const INT = 2, FLOAT = 3, UTF8 = 5, DECIMAL = 7, TIMESTAMP = 10, LIST = 12, FIXED_LIST = 16, LARGE_UTF8 = 20
const TYPES = new Set([INT, FLOAT, UTF8, DECIMAL, TIMESTAMP, LIST, FIXED_LIST, LARGE_UTF8])
/** Tables of one message: no schema of reads has more, and tables that share their parts cannot make work without end. */
const MAX_TABLES = 2000

/** @throws BodyError where the stream is not whole, or holds what no stream of reads holds */
export function checkArrowStream(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  for (let p = 0; p < bytes.length;) {
    if (p + 8 > bytes.length || view.getUint32(p, true) !== CONTINUATION) throw broken()
    const size = view.getInt32(p + 4, true)
    if (size === 0) return
    const from = p + 8
    if (size < 8 || from + size > bytes.length) throw broken()
    const body = new MessageCheck(new DataView(bytes.buffer, bytes.byteOffset + from, size), bytes.length - from - size).check()
    p = from + size + body
  }
}

function broken(): BodyError {
  return new BodyError(400, 'malformed-arrow', 'The Arrow stream is cut off or damaged.', undefined, 'Send it whole, as a stream without compression.')
}

class MessageCheck {
  readonly #view: DataView
  readonly #left: number
  #tables = 0

  constructor(view: DataView, left: number) {
    this.#view = view
    this.#left = left
  }

  /** @returns bytes of the message's body */
  check(): number {
    const message = this.#target(0)
    this.#table(message)
    const bodyLength = this.#long(message, 3)
    if (bodyLength > this.#left || bodyLength % 8 !== 0) throw broken()
    this.#keyValues(message, 4)
    const header = this.#child(message, 2)
    if (header === null) throw broken()
    switch (this.#byte(message, 1)) {
      case SCHEMA:
        for (const field of this.#tablesOf(header, 1)) this.#field(field)
        this.#keyValues(header, 2)
        this.#vector(header, 3, 8)
        break
      case DICTIONARY_BATCH: {
        const data = this.#child(header, 1)
        if (data === null) throw broken()
        this.#records(data, bodyLength)
        break
      }
      case RECORD_BATCH:
        this.#records(header, bodyLength)
        break
      default:
        throw broken()
    }
    return bodyLength
  }

  #field(field: number): void {
    this.#string(field, 0)
    const kind = this.#byte(field, 2)
    if (!TYPES.has(kind)) throw new BodyError(422, 'wrong-type', 'A column has a type that reads do not have.', undefined, 'Send utf8, timestamps, numbers, decimals, or lists of numbers.')
    const type = this.#child(field, 3)
    if (type === null) throw broken()
    if (kind === TIMESTAMP) this.#string(type, 1)
    const dictionary = this.#child(field, 4)
    if (dictionary !== null) this.#child(dictionary, 1)
    for (const child of this.#tablesOf(field, 5)) this.#field(child)
    this.#keyValues(field, 6)
  }

  #records(batch: number, bodyLength: number): void {
    const view = this.#view
    if (this.#child(batch, 3) !== null) {
      throw new BodyError(415, 'unsupported-encoding', 'The buffers of the Arrow stream are compressed.', undefined,
        'Send them without compression; a body may be compressed as a whole by gzip, and Kafka compresses by itself.')
    }
    if (this.#long(batch, 0) > bodyLength) throw broken()
    this.#vector(batch, 4, 8)
    const [nodes, nodeCount] = this.#vector(batch, 1, 16)
    for (let i = 0; i < nodeCount; i++) {
      const length = long(view, nodes + 16 * i)
      if (length > bodyLength || long(view, nodes + 16 * i + 8) > length) throw broken()
    }
    const [buffers, bufferCount] = this.#vector(batch, 2, 16)
    for (let i = 0; i < bufferCount; i++) {
      if (long(view, buffers + 16 * i) + long(view, buffers + 16 * i + 8) > bodyLength) throw broken()
    }
  }

  #keyValues(table: number, n: number): void {
    for (const pair of this.#tablesOf(table, n)) {
      this.#string(pair, 0)
      this.#string(pair, 1)
    }
  }

  /** Place of a table's field; 0 where it is absent. */
  #place(table: number, n: number, size: number): number {
    const view = this.#view
    const vtable = table - view.getInt32(table, true)
    const at = 4 + 2 * n
    if (at + 2 > view.getUint16(vtable, true)) return 0
    // Signed, as the library reads it.
    const offset = view.getInt16(vtable + at, true)
    if (offset === 0) return 0
    if (offset < 4 || table + offset + size > view.byteLength) throw broken()
    return table + offset
  }

  #table(at: number): void {
    const view = this.#view
    if (++this.#tables > MAX_TABLES || at < 0 || at + 4 > view.byteLength) throw broken()
    const vtable = at - view.getInt32(at, true)
    if (vtable < 0 || vtable + 4 > view.byteLength) throw broken()
    // Of an odd size the library would read one field more than is looked at here.
    const size = view.getInt16(vtable, true)
    if (size < 4 || size % 2 !== 0 || vtable + size > view.byteLength) throw broken()
  }

  /** Where the offset at a place leads: always ahead, so that nothing holds itself. */
  #target(at: number): number {
    const offset = this.#view.getUint32(at, true)
    if (offset === 0 || at + offset + 4 > this.#view.byteLength) throw broken()
    return at + offset
  }

  #child(table: number, n: number): number | null {
    const place = this.#place(table, n, 4)
    if (place === 0) return null
    const child = this.#target(place)
    this.#table(child)
    return child
  }

  #byte(table: number, n: number): number {
    const place = this.#place(table, n, 1)
    return place === 0 ? 0 : this.#view.getUint8(place)
  }

  #long(table: number, n: number): number {
    const place = this.#place(table, n, 8)
    return place === 0 ? 0 : long(this.#view, place)
  }

  #string(table: number, n: number): void {
    this.#vector(table, n, 1)
  }

  /** First element and number of elements of a vector. */
  #vector(table: number, n: number, size: number): [number, number] {
    const place = this.#place(table, n, 4)
    if (place === 0) return [0, 0]
    const vector = this.#target(place)
    const count = this.#view.getUint32(vector, true)
    if (vector + 4 + count * size > this.#view.byteLength) throw broken()
    return [vector + 4, count]
  }

  #tablesOf(table: number, n: number): number[] {
    const [first, count] = this.#vector(table, n, 4)
    return Array.from({ length: count }, (_, i) => {
      const child = this.#target(first + 4 * i)
      this.#table(child)
      return child
    })
  }
}

/** A length: never negative, never beyond what a double holds. */
function long(view: DataView, at: number): number {
  const value = view.getInt32(at + 4, true) * 4_294_967_296 + view.getUint32(at, true)
  if (value < 0 || value > Number.MAX_SAFE_INTEGER) throw broken()
  return value
}
