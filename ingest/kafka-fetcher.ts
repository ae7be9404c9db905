import type { Message, LibrdKafkaError } from 'node-rdkafka'
import { collectYoung } from '../engine/memory.js'
import type { PartitionBook } from './kafka-book.js'
import type { KafkaClient } from './kafka-client.js'
import { hold, type HeldRun } from './kafka-held.js'
import type { IngestPool } from './pool.js'

export interface FetcherOptions {
  client: KafkaClient
  book: PartitionBook<HeldRun>
  pool: IngestPool
  /** Bytes and messages held, waiting and in flight, from which on nothing more is fetched. */
  maxHeldBytes: number
  maxWaiting: number
  onMessages: (messages: Message[]) => void
  onFault: (err: LibrdKafkaError) => void
  /** Fetching pauses at the memory bound, or goes on. */
  onPause: (paused: boolean) => void
}

/** Few enough for what the client makes of them to die young, in a young generation of 4 MB. */
const FETCH_MESSAGES = 2000
/** Messages copied since the last collection from which on another pays. */
const COLLECT_MESSAGES = 1000
const FETCH_BYTES = 8 * 1024 * 1024
/** Without a fetch for so long, partitions are paused and the client asked all the same: the group must hear of us. */
const POLL_MS = 3000

/** Asks the client for messages, one question at a time, within the memory bound. */
export class KafkaFetcher {
  readonly #options: FetcherOptions
  /**
   * A question is open. Positions are set in between questions only: the answer to one that was open could hold messages
   * from before and from after, and those from before would be taken for the first of what comes.
   */
  isOpen = false
  isPaused = false
  #lastMs = -Infinity
  /** Of late, for how many to ask. */
  #messageCost = 1000
  #reserved = 0
  #copied = 0

  constructor(options: FetcherOptions) {
    this.#options = options
  }

  /** Copies what an answer holds out of the client's objects, and notes what messages cost of late. */
  hold(messages: readonly Message[]): HeldRun[] {
    const held = hold(messages)
    this.#copied += messages.length
    if (messages.length > 0) this.#messageCost = (this.#messageCost + held.reduce((cost, run) => cost + run.costOf(run.count), 0) / messages.length) / 2
    return held
  }

  /** Keeps what the pool knows of our memory in step. @returns false while the bound does not leave room for what is held */
  reserve(): boolean {
    const { pool, book } = this.#options
    if (book.cost < this.#reserved) pool.release(this.#reserved - book.cost)
    else if (book.cost > this.#reserved && !pool.reserve(book.cost - this.#reserved)) return false
    this.#reserved = book.cost
    return true
  }

  /** Asks for more where no question is open. @returns milliseconds after which to try again, where nothing is asked now */
  fetch(nowMs: number): number | undefined {
    if (this.isOpen) return undefined
    const { client, book, maxHeldBytes, maxWaiting, onMessages, onFault } = this.#options
    const room = maxHeldBytes - book.cost
    const isHungry = this.reserve() && room > 0 && book.waiting < maxWaiting
    if (!isHungry && nowMs - this.#lastMs < POLL_MS) return POLL_MS
    if (isHungry === this.isPaused) {
      this.isPaused = !isHungry
      this.#options.onPause(this.isPaused)
    }
    this.isOpen = true
    this.#lastMs = nowMs
    const max = isHungry ? Math.max(1, Math.min(FETCH_MESSAGES, Math.floor(Math.min(room, FETCH_BYTES) / this.#messageCost))) : 1
    const ask = (): void => void client.fetch(max).then(onMessages, onFault)
    if (this.#copied < COLLECT_MESSAGES) ask()
    else {
      // The client makes five objects of a message, two with memory outside of V8's heap. Its call-back holds them to its
      // end; after it nothing does any more.
      this.#copied = 0
      setImmediate(() => {
        collectYoung()
        ask()
      })
    }
    return undefined
  }
}
