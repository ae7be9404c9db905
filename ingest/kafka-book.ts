/**
 * What the Kafka door knows of its partitions: pure state, told of events in order by the one loop that owns it
 * (ingest/kafka.ts). No clock, no client, no database.
 */

/** A message as it is held between the client and a batch. */
export interface Held {
  readonly partition: number
  readonly offset: number
  /** What it costs to hold, bytes. */
  readonly cost: number
}

export type PartitionState =
  /** Assigned; its position is being claimed. */
  | 'claiming'
  /** Read and settled. */
  | 'active'
  /** Assigned, and not read: the reason is told loudly. */
  | 'stopped'

/** Consecutive messages of one partition that settle together. */
export interface Batch<M extends Held> {
  readonly partition: number
  readonly epoch: number
  /** Position before and after. */
  readonly expected: number
  readonly next: number
  readonly messages: readonly M[]
  /** Version of a message at the first offset, at least; later ones count on by their offsets. */
  version: number
  /** Utilities whose messages settled already, and up to which offset. */
  ahead: Readonly<Record<string, number>>
}

export interface Limits {
  /** Messages and bytes of one round, over its partitions. */
  messages: number
  bytes: number
  /** Milliseconds that the oldest message may wait for others to come. */
  ageMs: number
}

/** Offsets that one batch may span: versions count by offsets, and a wide gap must not carry them into the future. */
const MAX_SPAN = 1_000_000

interface Entry<M extends Held> {
  state: PartitionState
  /** Why it is stopped. */
  reason: string
  epoch: number
  position: number
  lastVersion: number
  ahead: Readonly<Record<string, number>>
  /** Offset that the next message must have at least. */
  fetchFrom: number
  held: M[]
  cost: number
  oldestMs: number
  inFlight: Batch<M> | null
  /** Messages of the next batch at most, after one that could not be settled: the culprit is searched by halves. */
  narrow: number
}

export class PartitionBook<M extends Held> {
  readonly #limits: Limits
  readonly #entries = new Map<number, Entry<M>>()
  #cost = 0

  constructor(limits: Limits) {
    this.#limits = limits
  }

  /** Bytes held: waiting and in flight. */
  get cost(): number {
    return this.#cost
  }

  get partitions(): number[] {
    return [...this.#entries.keys()].sort((a, b) => a - b)
  }

  state(partition: number): PartitionState | undefined {
    return this.#entries.get(partition)?.state
  }

  /** Position of a partition that is read; undefined for any other. */
  position(partition: number): number | undefined {
    const entry = this.#entries.get(partition)
    return entry?.state === 'active' ? entry.position : undefined
  }

  epoch(partition: number): number | undefined {
    return this.#entries.get(partition)?.epoch
  }

  /** Partitions that are stopped, and why. */
  stopped(): { partition: number; reason: string }[] {
    return [...this.#entries].filter(([, e]) => e.state === 'stopped').map(([partition, e]) => ({ partition, reason: e.reason }))
  }

  busy(partition: number): boolean {
    return this.#entries.get(partition)?.inFlight != null
  }

  /** Messages that wait for a batch. */
  get waiting(): number {
    let n = 0
    for (const e of this.#entries.values()) n += e.held.length
    return n
  }

  /** The partition is ours by the group's word; nothing is read before claimed(). */
  assign(partition: number): void {
    this.remove(partition)
    this.#entries.set(partition, {
      state: 'claiming', reason: '', epoch: 0, position: 0, lastVersion: 0, ahead: {}, fetchFrom: 0, held: [], cost: 0,
      oldestMs: 0, inFlight: null, narrow: Infinity,
    })
  }

  /** The position is ours by the database's word, and the client reads from there on. */
  claimed(partition: number, at: { epoch: number; next: number; lastVersion: number; ahead: Record<string, number> }): void {
    const entry = this.#entries.get(partition)
    if (entry === undefined) return
    this.#drop(entry)
    Object.assign(entry, {
      state: 'active', reason: '', epoch: at.epoch, position: at.next, lastVersion: at.lastVersion, ahead: at.ahead, fetchFrom: at.next,
      inFlight: null, narrow: Infinity,
    })
  }

  /** Reads no more of the partition, and gives up what is held of it. */
  stop(partition: number, reason: string): void {
    const entry = this.#entries.get(partition)
    if (entry === undefined) return
    this.#drop(entry)
    entry.state = 'stopped'
    entry.reason = reason
  }

  /** The partition is no longer ours: what waits is given up, what is in flight no longer counts. */
  remove(partition: number): void {
    const entry = this.#entries.get(partition)
    if (entry === undefined) return
    this.#drop(entry)
    this.#entries.delete(partition)
  }

  /** Gives up what waits of the partition, and takes no more; what is in flight goes on. */
  drain(partition: number): void {
    const entry = this.#entries.get(partition)
    if (entry === undefined) return
    this.#release(entry.held)
    entry.held = []
    entry.cost = 0
    entry.fetchFrom = Infinity
  }

  /** Takes messages that the client gave. Those of partitions that are not read, and those that came before, are dropped. */
  add(messages: readonly M[], nowMs: number): void {
    for (const message of messages) {
      const entry = this.#entries.get(message.partition)
      if (entry === undefined || entry.state !== 'active' || message.offset < entry.fetchFrom) continue
      if (entry.held.length === 0) entry.oldestMs = nowMs
      entry.held.push(message)
      entry.cost += message.cost
      this.#cost += message.cost
      entry.fetchFrom = message.offset + 1
    }
  }

  /**
   * The next round: batches of partitions that have none in flight and whose messages are old or many enough; undefined
   * where there is none yet.
   */
  take(nowMs: number): Batch<M>[] | undefined {
    const { messages, bytes, ageMs } = this.#limits
    const ready = [...this.#entries].filter(([, e]) => e.state === 'active' && e.inFlight === null && e.held.length > 0)
    if (ready.length === 0) return undefined
    const due = ready.some(([, e]) => nowMs - e.oldestMs >= ageMs || e.narrow < Infinity)
    if (!due && sum(ready, (e) => e.held.length) < messages && sum(ready, (e) => e.cost) < bytes) return undefined
    ready.sort(([, a], [, b]) => a.oldestMs - b.oldestMs)
    const round: Batch<M>[] = []
    let leftMessages = messages
    let leftBytes = bytes
    for (const [partition, entry] of ready) {
      if (leftMessages <= 0 || leftBytes <= 0) break
      const batch = this.#batch(partition, entry, Math.min(leftMessages, entry.narrow), leftBytes, nowMs)
      leftMessages -= batch.messages.length
      leftBytes -= batch.messages.reduce((total, m) => total + m.cost, 0)
      round.push(batch)
    }
    return round
  }

  /** Milliseconds until take() may have a round; undefined where nothing waits. */
  dueInMs(nowMs: number): number | undefined {
    let due: number | undefined
    for (const e of this.#entries.values()) {
      if (e.state !== 'active' || e.inFlight !== null || e.held.length === 0) continue
      const wait = Math.max(0, e.oldestMs + this.#limits.ageMs - nowMs)
      if (due === undefined || wait < due) due = wait
    }
    return due
  }

  /** The batch settled: the position moved. False where the partition is no longer ours. */
  settled(batch: Batch<M>): boolean {
    const entry = this.#current(batch)
    if (entry === undefined) return false
    entry.inFlight = null
    entry.position = batch.next
    entry.lastVersion = lastVersionOf(batch)
    entry.ahead = Object.fromEntries(Object.entries(batch.ahead).filter(([, to]) => to > batch.next))
    entry.narrow = entry.narrow * 4 >= this.#limits.messages ? Infinity : entry.narrow * 4
    this.#release(batch.messages)
    return true
  }

  /** The batch holds something that cannot be settled: it comes again in halves. False where the partition is no longer ours. */
  halve(batch: Batch<M>): boolean {
    const entry = this.#current(batch)
    if (entry === undefined) return false
    entry.inFlight = null
    entry.ahead = batch.ahead
    entry.held = [...batch.messages, ...entry.held]
    entry.cost += batch.messages.reduce((total, m) => total + m.cost, 0)
    entry.narrow = Math.max(1, Math.floor(batch.messages.length / 2))
    return true
  }

  /** True while the batch is the one in flight of a partition that is ours. */
  isCurrent(batch: Batch<M>): boolean {
    return this.#current(batch) !== undefined
  }

  #current(batch: Batch<M>): Entry<M> | undefined {
    const entry = this.#entries.get(batch.partition)
    return entry?.inFlight === batch ? entry : undefined
  }

  #batch(partition: number, entry: Entry<M>, maxMessages: number, maxBytes: number, nowMs: number): Batch<M> {
    const { held } = entry
    const first = held[0].offset
    let n = 0
    let cost = 0
    while (n < held.length && n < maxMessages && (n === 0 || cost < maxBytes) && held[n].offset - first < MAX_SPAN) cost += held[n++].cost
    const messages = held.slice(0, n)
    entry.held = held.slice(n)
    entry.cost -= cost
    entry.oldestMs = nowMs
    const batch: Batch<M> = {
      partition, epoch: entry.epoch, expected: entry.position, next: messages[n - 1].offset + 1, messages, version: entry.lastVersion + 1,
      ahead: entry.ahead,
    }
    entry.inFlight = batch
    return batch
  }

  #drop(entry: Entry<M>): void {
    this.#release(entry.held)
    if (entry.inFlight !== null) this.#release(entry.inFlight.messages)
    entry.held = []
    entry.cost = 0
    entry.inFlight = null
  }

  #release(messages: readonly M[]): void {
    for (const m of messages) this.#cost -= m.cost
  }
}

/** Version of the batch's last message, microseconds. */
export function lastVersionOf(batch: Batch<Held>): number {
  return batch.version + batch.next - 1 - batch.messages[0].offset
}

function sum<M extends Held>(entries: readonly (readonly [number, Entry<M>])[], of: (entry: Entry<M>) => number): number {
  return entries.reduce((total, [, entry]) => total + of(entry), 0)
}
