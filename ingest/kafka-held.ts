import type { Message } from 'node-rdkafka'
import type { Held } from './kafka-book.js'

/** A message's headers as the client gives them. */
export type Headers = readonly Record<string, Buffer | string>[]

/** A message that waits to be settled: its bytes stand in one buffer with those of its neighbours. */
export interface HeldMessage extends Held {
  /** Values of messages of the partition one after the other, and after them the keys. */
  readonly bytes: Buffer
  /** Where the value stands; -1 where there is none. */
  readonly from: number
  readonly to: number
  /** Where the key stands; -1 where there is none. */
  readonly keyFrom: number
  readonly keyTo: number
  /** Milliseconds; negative where the broker has none. */
  readonly timestamp: number
  /** The same object in messages that follow each other with the same headers. */
  readonly headers: Headers
}

/** What a message costs beside its value and key: the object here and the frames that go to the worker. */
const MESSAGE_COST = 200
const NONE: Headers = []

interface Room {
  values: number
  keys: number
  bytes: Buffer
  at: number
  keyAt: number
}

/**
 * Copies what an answer of the client holds into one buffer for each partition. The client makes three or more objects of a
 * message, which the collector would move about for as long as they wait; these copies die young.
 */
export function hold(messages: readonly Message[]): HeldMessage[] {
  const rooms = new Map<number, Room>()
  const roomOf = (partition: number): Room => {
    let room = rooms.get(partition)
    if (room === undefined) rooms.set(partition, room = { values: 0, keys: 0, bytes: NOTHING, at: 0, keyAt: 0 })
    return room
  }
  for (const { partition, size, key } of messages) {
    const room = roomOf(partition)
    room.values += size
    room.keys += keyLength(key)
  }
  for (const room of rooms.values()) {
    room.bytes = Buffer.allocUnsafeSlow(room.values + room.keys)
    room.keyAt = room.values
  }
  let headers = NONE
  return messages.map((message) => {
    const { partition, offset, value, key, size } = message
    const room = roomOf(partition)
    const { at: from, keyAt: keyFrom, bytes } = room
    if (value !== null) room.at += value.copy(bytes, from)
    const keySize = keyLength(key)
    if (typeof key === 'string') bytes.write(key, keyFrom)
    else if (keySize > 0) key!.copy(bytes, keyFrom)
    room.keyAt += keySize
    const own: Headers = message.headers ?? NONE
    if (!sameHeaders(own, headers)) headers = own
    const hasKey = key !== null && key !== undefined
    return {
      partition, offset, cost: 2 * (size + keySize) + MESSAGE_COST, bytes, from: value === null ? -1 : from, to: value === null ? -1 : room.at,
      keyFrom: hasKey ? keyFrom : -1, keyTo: hasKey ? room.keyAt : -1, timestamp: message.timestamp ?? -1, headers,
    }
  })
}

const NOTHING = Buffer.alloc(0)

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

/** Value of a message, a view; null where there is none. */
export function valueOf({ bytes, from, to }: HeldMessage): Buffer | null {
  return from < 0 ? null : bytes.subarray(from, to)
}

export function keyOf({ bytes, keyFrom, keyTo }: HeldMessage): Buffer | null {
  return keyFrom < 0 ? null : bytes.subarray(keyFrom, keyTo)
}

/** Copies bytes of messages that mostly stand one after the other, in as few pieces as they stand in. */
export class Gatherer {
  readonly #target: Uint8Array
  #at = 0
  #source: Buffer | null = null
  #from = 0
  #to = 0

  constructor(target: Uint8Array) {
    this.#target = target
  }

  add(source: Buffer, from: number, to: number): void {
    if (source === this.#source && from === this.#to) {
      this.#to = to
      return
    }
    this.finish()
    this.#source = source
    this.#from = from
    this.#to = to
  }

  finish(): void {
    if (this.#source === null) return
    this.#target.set(this.#source.subarray(this.#from, this.#to), this.#at)
    this.#at += this.#to - this.#from
    this.#source = null
  }
}
