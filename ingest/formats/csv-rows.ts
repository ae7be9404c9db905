import { Buffer, isUtf8 } from 'node:buffer'
import { MAX_RECORD_BYTES } from './text.js'

const LF = 10, CR = 13, QUOTE = 34

/** More columns than any file has; a row of nothing but commas must not fill the memory. */
const MAX_COLUMNS = 100_000

export type RowFault = 'malformed-csv' | 'line-too-long' | 'too-many-columns'

/**
 * Splits CSV (RFC 4180) into rows and fields, as byte ranges: LF, CRLF and CR end a row, in any mixture; quoted fields
 * may hold delimiters, doubled quotes and line ends. A row whose quotes do not close is one line that is at fault, and
 * the next line is a row again: a lost quote does not swallow the rest of the file.
 */
export class CsvRows {
  /** Bytes of each field of the row, without its quotes. */
  from = new Int32Array(64)
  to = new Int32Array(64)
  /** Number of fields. */
  count = 0
  /** Bytes of the row, without its line end, and where the next one begins. */
  rowFrom = 0
  rowTo = 0
  next = 0
  /** Lines that the row takes. */
  lines = 0
  fault: RowFault | null = null

  readonly #bytes: Uint8Array
  readonly #text: Buffer
  readonly #delimiter: number
  /** Fields that have doubled quotes. */
  readonly #doubled = new Set<number>()

  constructor(bytes: Uint8Array, delimiter = 44) {
    this.#bytes = bytes
    this.#text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#delimiter = delimiter
  }

  /** Splits the row that begins at p; false at the end of the bytes. */
  split(p: number): boolean {
    const bytes = this.#bytes
    const end = bytes.length
    if (p >= end) return false
    const delimiter = this.#delimiter
    this.rowFrom = p
    this.count = 0
    this.lines = 1
    this.fault = null
    if (this.#doubled.size > 0) this.#doubled.clear()
    for (;;) {
      if (this.count === this.from.length && !this.#grow()) return this.#skipLine('too-many-columns')
      if (bytes[p] === QUOTE) {
        p = this.#quoted(p)
        if (p < 0) return this.#skipLine('malformed-csv')
      } else {
        this.from[this.count] = p
        let c = bytes[p]
        while (c !== delimiter && c !== LF && c !== CR && p < end) c = bytes[++p]
        this.to[this.count++] = p
      }
      if (p < end && bytes[p] === delimiter) {
        p++
        continue
      }
      this.rowTo = p
      this.next = bytes[p] === CR && bytes[p + 1] === LF ? p + 2 : Math.min(p + 1, end)
      if (this.rowTo - this.rowFrom > MAX_RECORD_BYTES) this.fault = 'line-too-long'
      return true
    }
  }

  /** True where the row has nothing in it. */
  get isBlank(): boolean {
    for (let p = this.rowFrom; p < this.rowTo; p++) if (this.#bytes[p] !== 32 && this.#bytes[p] !== 9) return false
    return true
  }

  /** Drops the spaces and tabs about a field. */
  trim(i: number): void {
    const bytes = this.#bytes
    let from = this.from[i]
    let to = this.to[i]
    while (from < to && (bytes[from] === 32 || bytes[from] === 9)) from++
    while (to > from && (bytes[to - 1] === 32 || bytes[to - 1] === 9)) to--
    this.from[i] = from
    this.to[i] = to
  }

  /** A field as text; null where it is not UTF-8. */
  text(i: number): string | null {
    const piece = this.#text.subarray(this.from[i], this.to[i])
    if (!isUtf8(piece)) return null
    const text = piece.toString('utf8')
    return this.#doubled.has(i) ? text.replaceAll('""', '"') : text
  }

  /** Whether two fields of this and an earlier row are the same bytes. */
  same(i: number, from: number, to: number): boolean {
    const n = to - from
    if (this.to[i] - this.from[i] !== n) return false
    for (let k = 0; k < n; k++) if (this.#bytes[this.from[i] + k] !== this.#bytes[from + k]) return false
    return true
  }

  /** Reads the quoted field at p; returns the delimiter or line end after it, -1 where the quotes are wrong. */
  #quoted(p: number): number {
    const bytes = this.#bytes
    const first = p + 1
    const limit = Math.min(bytes.length, this.rowFrom + MAX_RECORD_BYTES)
    let lines = 0
    for (p = first; p < limit; p++) {
      const c = bytes[p]
      if (c === LF || (c === CR && bytes[p + 1] !== LF)) lines++
      if (c !== QUOTE) continue
      if (bytes[p + 1] === QUOTE) {
        this.#doubled.add(this.count)
        p++
        continue
      }
      this.from[this.count] = first
      this.to[this.count++] = p
      this.lines += lines
      const after = bytes[p + 1]
      const isEnd = p + 1 >= bytes.length || after === this.#delimiter || after === LF || after === CR
      return isEnd ? p + 1 : -1
    }
    return -1
  }

  /** Takes the line at the row's beginning as a row at fault. */
  #skipLine(fault: RowFault): boolean {
    const bytes = this.#bytes
    let p = this.rowFrom
    while (p < bytes.length && bytes[p] !== LF && bytes[p] !== CR) p++
    this.fault = fault
    this.lines = 1
    this.rowTo = p
    this.next = bytes[p] === CR && bytes[p + 1] === LF ? p + 2 : Math.min(p + 1, bytes.length)
    return true
  }

  #grow(): boolean {
    if (this.from.length >= MAX_COLUMNS) return false
    const from = new Int32Array(Math.min(MAX_COLUMNS, this.from.length * 4))
    from.set(this.from)
    this.from = from
    const to = new Int32Array(from.length)
    to.set(this.to)
    this.to = to
    return true
  }
}

/** End of the last whole row at or below the limit; 0 if there is none. */
export function cutRows(bytes: Uint8Array, limit: number): number {
  const head = bytes.subarray(0, limit)
  if (head.indexOf(QUOTE) < 0) {
    for (let p = Math.min(limit, bytes.length); p > 0; p--) {
      if (bytes[p - 1] === LF) return p
      // A CR at the very end may be half of a CRLF.
      if (bytes[p - 1] === CR && p < bytes.length && bytes[p] !== LF) return p
    }
    return 0
  }
  const rows = new CsvRows(bytes)
  let last = 0
  while (rows.split(last) && rows.next <= limit && rows.next > rows.rowTo) {
    if (rows.next === bytes.length && bytes[rows.rowTo] === CR && rows.next === rows.rowTo + 1) break
    last = rows.next
  }
  return last
}
