import { DataType, Precision, TimeUnit, type Data, type Vector } from 'apache-arrow'
import { BodyError } from '../../engine/problem.js'

/**
 * Columns of an Arrow record batch, read from their buffers: the library's own get() makes a BigInt for every timestamp
 * and a string for every word. Lengths of buffers are checked here, because a stream may claim what it does not hold.
 */

/** A number of up to 15 digits and its decimals, or a double: `decimals` NaN. */
export interface NumberColumn {
  /** False where the row has no value. */
  has(row: number): boolean
  /** Reads a row into `m` and `decimals`. */
  read(row: number): void
  m: number
  decimals: number
  /** The column as doubles, where it is one: read directly by whoever is in a hurry. */
  readonly doubles: ArrayLike<number> | null
}

const TWO_32 = 4_294_967_296
const DIGITS_15 = 999_999_999_999_999

export function isMissing(data: Data, row: number): boolean {
  if (data.nullCount === 0 || data.nullBitmap === undefined || data.nullBitmap.length === 0) return false
  const bit = data.offset + row
  return ((data.nullBitmap[bit >> 3] >> (bit & 7)) & 1) === 0
}

/** The only chunk of a column of one record batch. @throws BodyError where its buffers are shorter than it says */
export function dataOf(vector: Vector, name: string): Data {
  const data = vector.data[0] as Data
  if (data.nullCount !== 0 && data.nullBitmap !== undefined && data.nullBitmap.length * 8 < data.offset + data.length) throw tooShort(name)
  return data
}

function tooShort(name: string): BodyError {
  return new BodyError(400, 'malformed-arrow', `The column ${name} holds less than it says.`)
}

function needed(array: ArrayLike<unknown> | undefined, length: number, name: string): void {
  if (array === undefined || array.length < length) throw tooShort(name)
}

function wrongType(name: string, wanted: string, data: Data): BodyError {
  return new BodyError(422, 'wrong-type', `The column ${name} is ${(data.type as { toString(): string }).toString()}.`, `column ${name}`, `It has to be ${wanted}.`)
}

/** Words: utf8, large utf8, or a dictionary of them; a word that comes again is not made again. */
export function wordsOf(data: Data, name: string): (row: number) => string | null {
  if (DataType.isDictionary(data.type)) {
    const { dictionary } = data as unknown as { dictionary: Vector }
    const indices = data.values as ArrayLike<number | bigint>
    needed(indices, data.length, name)
    const words: (string | null)[] = []
    for (const chunk of dictionary.data as readonly Data[]) {
      const word = wordsOf(chunk, name)
      for (let k = 0; k < chunk.length; k++) words.push(isMissing(chunk, k) ? null : word(k))
    }
    return (row) => {
      if (isMissing(data, row)) return null
      const index = Number(indices[row])
      if (!(index >= 0 && index < words.length)) throw tooShort(name)
      return words[index]
    }
  }
  if (!DataType.isUtf8(data.type) && !DataType.isLargeUtf8(data.type)) throw wrongType(name, 'utf8', data)
  const offsets = data.valueOffsets as unknown as Int32Array | BigInt64Array
  const bytes = data.values as Uint8Array
  needed(offsets, data.length + 1, name)
  if (data.length > 0) needed(bytes, Number(offsets[data.length]), name)
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  let lastFrom = 0
  let lastTo = 0
  let last = ''
  return (row) => {
    if (isMissing(data, row)) return null
    const from = Number(offsets[row])
    const to = Number(offsets[row + 1])
    // Every row's, not only the last: texts that lie nowhere would be compared without end.
    if (!(from >= 0 && from <= to && to <= text.length)) throw tooShort(name)
    if (to - from === lastTo - lastFrom && to > from) {
      const shift = lastFrom - from
      let p = from
      while (p < to && text[p] === text[p + shift]) p++
      if (p === to) return last
    }
    lastFrom = from
    lastTo = to
    last = text.toString('utf8', from, to)
    return last
  }
}

/** Instants or wall clocks in whole seconds, NaN where there is none, and whether the column says UTC. */
export function secondsOf(data: Data, name: string): { seconds: (row: number) => number; isUtc: boolean } {
  if (!DataType.isTimestamp(data.type)) throw wrongType(name, 'a timestamp', data)
  const { unit, timezone } = data.type as unknown as { unit: TimeUnit; timezone?: string | null }
  const per = unit === TimeUnit.SECOND ? 1 : unit === TimeUnit.MILLISECOND ? 1e3 : unit === TimeUnit.MICROSECOND ? 1e6 : 1e9
  const words = words32(data.values as ArrayBufferView, data.length * 2, name)
  return {
    isUtc: timezone !== null && timezone !== undefined && timezone !== '',
    // The halves apart: together they are more than a double holds. A microsecond is added against its noise.
    seconds: (row) => isMissing(data, row) ? NaN
      : Math.floor(words[2 * row + 1] * (TWO_32 / per) + (words[2 * row] >>> 0) / per + 1e-6),
  }
}

/** 64-bit or 128-bit values as 32-bit words, the lowest first. */
function words32(values: ArrayBufferView | undefined, length: number, name: string): Int32Array {
  if (values === undefined || values.byteLength < length * 4) throw tooShort(name)
  return new Int32Array(values.buffer, values.byteOffset, length)
}

/** Numbers: floats, whole numbers and decimals of up to 128 bits. */
export function numbersOf(data: Data, name: string): NumberColumn {
  const { type, length } = data
  const column: NumberColumn = { m: 0, decimals: 0, doubles: null, has: (row) => !isMissing(data, row), read: () => undefined }
  if (DataType.isFloat(type)) {
    if ((type as unknown as { precision: Precision }).precision === Precision.HALF) throw wrongType(name, 'float64, decimal or a whole number', data)
    const doubles = data.values as Float64Array
    needed(doubles, length, name)
    const isSingle = (type as unknown as { precision: Precision }).precision === Precision.SINGLE
    column.decimals = NaN
    // A float32 means the shortest decimal that rounds to it.
    column.read = isSingle ? (row) => { column.m = Number(doubles[row].toPrecision(7)) } : (row) => { column.m = doubles[row] }
    // What libraries write for a number that is not there.
    column.has = (row) => !isMissing(data, row) && !Number.isNaN(doubles[row])
    return isSingle ? column : { ...column, doubles, read(this: NumberColumn, row) { this.m = doubles[row] } }
  }
  if (DataType.isInt(type)) {
    const { bitWidth } = type as unknown as { bitWidth: number }
    if (bitWidth === 64) {
      const words = words32(data.values as ArrayBufferView, length * 2, name)
      const { isSigned } = type as unknown as { isSigned: boolean }
      column.read = (row) => {
        const high = words[2 * row + 1]
        setWhole(column, (isSigned ? high : high >>> 0) * TWO_32 + (words[2 * row] >>> 0), 0)
      }
      return column
    }
    const values = data.values as Int32Array
    needed(values, length, name)
    column.read = (row) => {
      column.m = values[row]
      column.decimals = 0
    }
    return column
  }
  if (DataType.isDecimal(type)) {
    const { scale, bitWidth } = type as unknown as { scale: number; bitWidth: number }
    if (bitWidth !== 128) throw wrongType(name, 'a decimal of 128 bits', data)
    const words = words32(data.values as ArrayBufferView, length * 4, name)
    column.read = (row) => {
      const at = 4 * row
      const sign = words[at + 1] >> 31
      if (words[at + 2] === sign && words[at + 3] === sign) setWhole(column, words[at + 1] * TWO_32 + (words[at] >>> 0), scale)
      else {
        column.m = wide(words, at) / 10 ** scale
        column.decimals = NaN
      }
    }
    return column
  }
  throw wrongType(name, 'float64, decimal or a whole number', data)
}

function setWhole(column: NumberColumn, m: number, decimals: number): void {
  const isExact = Math.abs(m) <= DIGITS_15 && decimals >= 0
  column.m = isExact ? m : m / 10 ** decimals
  column.decimals = isExact ? decimals : NaN
}

function wide(words: Int32Array, at: number): number {
  return ((words[at + 3] * TWO_32 + (words[at + 2] >>> 0)) * TWO_32 + (words[at + 1] >>> 0)) * TWO_32 + (words[at] >>> 0)
}

/** Lists of numbers: where each row's begin and end in the numbers; null where the column is no list. */
export function listOf(data: Data, name: string): { numbers: NumberColumn; from: (row: number) => number; to: (row: number) => number } | null {
  const { type } = data
  if (DataType.isFixedSizeList(type)) {
    const size = (type as unknown as { listSize: number }).listSize
    const child = data.children[0]
    if (child === undefined || child.length < (data.offset + data.length) * size) throw tooShort(name)
    return { numbers: numbersOf(child, name), from: (row) => (data.offset + row) * size, to: (row) => (data.offset + row + 1) * size }
  }
  if (!DataType.isList(type)) return null
  const offsets = data.valueOffsets as unknown as Int32Array
  needed(offsets, data.length + 1, name)
  const child = data.children[0]
  for (let i = 0; i < data.length; i++) if (!(offsets[i] >= 0 && offsets[i] <= offsets[i + 1])) throw tooShort(name)
  if (data.length > 0 && (child === undefined || child.length < offsets[data.length])) throw tooShort(name)
  return { numbers: numbersOf(child, name), from: (row) => offsets[row], to: (row) => offsets[row + 1] }
}
