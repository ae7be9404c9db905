import type { Message } from 'node-rdkafka'
import type { Run } from './kafka-book.js'

/** A message's headers as the client gives them. */
export type Headers = readonly Record<string, Buffer | string>[]

/**
 * Messages of a partition as they stand in memory: their values one after the other in `bytes`, after them their keys, and a
 * column for whatever else is said of each. An object for each would cost more than most messages have bytes.
 */
interface Columns {
  readonly partition: number
  readonly bytes: Buffer
  readonly offsets: Float64Array
  /** Milliseconds; negative where the broker has none. */
  readonly timestamps: Float64Array
  /** Where each value and each key ends in `bytes`; it begins where the one before ends. */
  readonly valueEnds: Int32Array
  readonly keyEnds: Int32Array
  /** {@link NO_VALUE} and {@link NO_KEY}. */
  readonly absent: Uint8Array
  /** Where the keys begin. */
  readonly keysFrom: number
}

const NO_VALUE = 1
const NO_KEY = 2
/** What a message costs beside its value and key: the columns here, and the frames that go to the worker. */
const MESSAGE_COST = 100
const NONE: Headers = []

/** Messages of a partition that follow each other with the same headers, held until they are settled. */
export class HeldRun implements Run<HeldRun> {
  readonly headers: Headers
  readonly #columns: Columns
  readonly #from: number
  readonly #to: number

  constructor(columns: Columns, from: number, to: number, headers: Headers) {
    this.#columns = columns
    this.#from = from
    this.#to = to
    this.headers = headers
  }

  get partition(): number {
    return this.#columns.partition
  }

  get count(): number {
    return this.#to - this.#from
  }

  get first(): number {
    return this.#columns.offsets[this.#from]
  }

  get next(): number {
    return this.#columns.offsets[this.#to - 1] + 1
  }

  costOf(count: number): number {
    const to = this.#from + count
    return 2 * (this.#valueFrom(to) - this.#valueFrom(this.#from) + this.#keyFrom(to) - this.#keyFrom(this.#from)) + MESSAGE_COST * count
  }

  offsetAt(i: number): number {
    return this.#columns.offsets[this.#from + i]
  }

  timestampAt(i: number): number {
    return this.#columns.timestamps[this.#from + i]
  }

  /** Value of a message, a view; null where it has none. */
  valueAt(i: number): Buffer | null {
    const { bytes, absent } = this.#columns
    const at = this.#from + i
    return (absent[at] & NO_VALUE) === 0 ? bytes.subarray(this.#valueFrom(at), this.#valueFrom(at + 1)) : null
  }

  /** Key of a message, a view; null where it has none. */
  keyAt(i: number): Buffer | null {
    const { bytes, absent } = this.#columns
    const at = this.#from + i
    return (absent[at] & NO_KEY) === 0 ? bytes.subarray(this.#keyFrom(at), this.#keyFrom(at + 1)) : null
  }

  /** All values, one after the other, a view. */
  get values(): Buffer {
    return this.#columns.bytes.subarray(this.#valueFrom(this.#from), this.#valueFrom(this.#to))
  }

  /** All keys, one after the other, a view. */
  get keys(): Buffer {
    return this.#columns.bytes.subarray(this.#keyFrom(this.#from), this.#keyFrom(this.#to))
  }

  hasValue(i: number): boolean {
    return (this.#columns.absent[this.#from + i] & NO_VALUE) === 0
  }

  hasKey(i: number): boolean {
    return (this.#columns.absent[this.#from + i] & NO_KEY) === 0
  }

  /** Bytes of `values` up to the end of a message's. */
  valueEnd(i: number): number {
    return this.#valueFrom(this.#from + i + 1) - this.#valueFrom(this.#from)
  }

  /** Bytes of `keys` up to the end of a message's. */
  keyEnd(i: number): number {
    return this.#keyFrom(this.#from + i + 1) - this.#keyFrom(this.#from)
  }

  part(from: number, to: number): HeldRun {
    return from === 0 && to === this.count ? this : new HeldRun(this.#columns, this.#from + from, this.#from + to, this.headers)
  }

  #valueFrom(at: number): number {
    return at === 0 ? 0 : this.#columns.valueEnds[at - 1]
  }

  #keyFrom(at: number): number {
    return at === 0 ? this.#columns.keysFrom : this.#columns.keyEnds[at - 1]
  }
}

interface Room {
  columns: Columns
  /** Messages written, and where the next value and key go. */
  at: number
  valueAt: number
  keyAt: number
  /** First message of the run that is open, and its headers. */
  runFrom: number
  headers: Headers
}

/**
 * Copies what an answer of the client holds into columns for each partition. The client makes three or more objects of a
 * message, which the collector would move about for as long as they wait; these copies let them die young.
 */
export function hold(messages: readonly Message[]): HeldRun[] {
  const rooms = makeRooms(messages)
  const runs: HeldRun[] = []
  const close = (room: Room): void => {
    if (room.at > room.runFrom) runs.push(new HeldRun(room.columns, room.runFrom, room.at, room.headers))
    room.runFrom = room.at
  }
  let room: Room | undefined
  for (const message of messages) {
    if (room?.columns.partition !== message.partition) room = rooms.get(message.partition)!
    const headers: Headers = message.headers ?? NONE
    const { columns, at } = room
    if (at > 0 && (message.offset <= columns.offsets[at - 1] || !sameHeaders(headers, room.headers))) close(room)
    if (room.runFrom === at) room.headers = headers
    write(room, message)
  }
  for (const last of rooms.values()) close(last)
  return runs
}

function makeRooms(messages: readonly Message[]): Map<number, Room> {
  const sizes = new Map<number, { count: number; values: number; keys: number }>()
  let last = NaN
  let size = { count: 0, values: 0, keys: 0 }
  for (const { partition, size: bytes, key } of messages) {
    if (partition !== last) {
      size = sizes.get(partition) ?? { count: 0, values: 0, keys: 0 }
      sizes.set(partition, size)
      last = partition
    }
    size.count++
    size.values += bytes
    size.keys += keyLength(key)
  }
  return new Map([...sizes].map(([partition, { count, values, keys }]) => [partition, {
    at: 0, valueAt: 0, keyAt: values, runFrom: 0, headers: NONE,
    columns: {
      partition, keysFrom: values, bytes: Buffer.allocUnsafeSlow(values + keys), offsets: new Float64Array(count), timestamps: new Float64Array(count),
      valueEnds: new Int32Array(count), keyEnds: new Int32Array(count), absent: new Uint8Array(count),
    },
  }]))
}

function write(room: Room, { offset, value, key, timestamp }: Message): void {
  const { columns, at } = room
  if (value !== null) {
    columns.bytes.set(value, room.valueAt)
    room.valueAt += value.length
  } else columns.absent[at] |= NO_VALUE
  if (key === null || key === undefined) columns.absent[at] |= NO_KEY
  else if (typeof key === 'string') room.keyAt += columns.bytes.write(key, room.keyAt)
  else {
    columns.bytes.set(key, room.keyAt)
    room.keyAt += key.length
  }
  columns.offsets[at] = offset
  columns.timestamps[at] = timestamp ?? -1
  columns.valueEnds[at] = room.valueAt
  columns.keyEnds[at] = room.keyAt
  room.at++
}

function keyLength(key: Message['key']): number {
  return key === null || key === undefined ? 0 : typeof key === 'string' ? Buffer.byteLength(key) : key.length
}

function sameHeaders(a: Headers, b: Headers): boolean {
  if (a === b) return true
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) {
    const names = Object.keys(a[i])
    if (names.length !== Object.keys(b[i]).length) return false
    for (const name of names) {
      const one = a[i][name]
      const other = b[i][name]
      if (one === other) continue
      if (typeof one === 'string' || !Buffer.isBuffer(other) || !one.equals(other)) return false
    }
  }
  return true
}
