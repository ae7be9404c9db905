/**
 * What the Kafka door knows of its partitions: pure state, told of events in order by the one loop that owns it
 * (ingest/kafka.ts). No clock, no client, no database.
 */

/** Messages of a partition that follow each other, as they are held between the client and a batch. */
export interface Run<R> {
  readonly partition: number
  readonly count: number
  /** Offset of the first message, and the one after the last. */
  readonly first: number
  readonly next: number
  offsetAt(i: number): number
  /** What the first messages cost to hold, bytes. */
  costOf(count: number): number
  /** The messages [from, to) of them. */
  part(from: number, to: number): R
}

export type PartitionState =
  /** Assigned; its position is being claimed. */
  | 'claiming'
  /** Read and settled. */
  | 'active'
  /** Assigned, and not read: the reason is told loudly. */
  | 'stopped'

/** Consecutive messages of one partition that settle together. */
export interface Batch<R extends Run<R>> {
  readonly partition: number
  readonly epoch: number
  /** Position before and after. */
  readonly expected: number
  readonly next: number
  readonly runs: readonly R[]
  /** Messages of the runs, and the offset of the first. */
  readonly count: number
  readonly first: number
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

interface Entry<R extends Run<R>> {
  state: PartitionState
  /** Why it is stopped. */
  reason: string
  epoch: number
  position: number
  lastVersion: number
  ahead: Readonly<Record<string, number>>
  /** Offset that the next message must have at least. */
  fetchFrom: number
  held: R[]
  /** Messages held, and what they cost. */
  waiting: number
  cost: number
  oldestMs: number
  inFlight: Batch<R> | null
  /** Messages of the next batch at most, after one that could not be settled: the culprit is searched by halves. */
  narrow: number
}

export class PartitionBook<R extends Run<R>> {
  readonly #limits: Limits
  readonly #entries = new Map<number, Entry<R>>()
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
    for (const e of this.#entries.values()) n += e.waiting
    return n
  }

  /** The partition is ours by the group's word; nothing is read before claimed(). */
  assign(partition: number): void {
    this.remove(partition)
    this.#entries.set(partition, {
      state: 'claiming', reason: '', epoch: 0, position: 0, lastVersion: 0, ahead: {}, fetchFrom: 0, held: [], waiting: 0,
      cost: 0, oldestMs: 0, inFlight: null, narrow: Infinity,
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
    this.#forget(entry)
    entry.fetchFrom = Infinity
  }

  /** Takes messages that the client gave. Those of partitions that are not read, and those that came before, are dropped. */
  add(runs: readonly R[], nowMs: number): void {
    for (const run of runs) {
      const entry = this.#entries.get(run.partition)
      if (entry === undefined || entry.state !== 'active') continue
      const rest = since(run, entry.fetchFrom)
      if (rest === null) continue
      if (entry.waiting === 0) entry.oldestMs = nowMs
      entry.held.push(rest)
      entry.waiting += rest.count
      const cost = rest.costOf(rest.count)
      entry.cost += cost
      this.#cost += cost
      entry.fetchFrom = rest.next
    }
  }

  /**
   * The next round: batches of partitions that have none in flight and whose messages are old or many enough; undefined
   * where there is none yet.
   */
  take(nowMs: number): Batch<R>[] | undefined {
    const { messages, bytes, ageMs } = this.#limits
    const ready = [...this.#entries].filter(([, e]) => e.state === 'active' && e.inFlight === null && e.waiting > 0)
    if (ready.length === 0) return undefined
    const due = ready.some(([, e]) => nowMs - e.oldestMs >= ageMs || e.narrow < Infinity)
    if (!due && sum(ready, (e) => e.waiting) < messages && sum(ready, (e) => e.cost) < bytes) return undefined
    ready.sort(([, a], [, b]) => a.oldestMs - b.oldestMs)
    const round: Batch<R>[] = []
    let leftMessages = messages
    let leftBytes = bytes
    for (const [partition, entry] of ready) {
      if (leftMessages <= 0 || leftBytes <= 0) break
      const batch = this.#batch(partition, entry, Math.min(leftMessages, entry.narrow), leftBytes, nowMs)
      leftMessages -= batch.count
      leftBytes -= costOf(batch.runs)
      round.push(batch)
    }
    return round
  }

  /** Milliseconds until take() may have a round; undefined where nothing waits. */
  dueInMs(nowMs: number): number | undefined {
    let due: number | undefined
    for (const e of this.#entries.values()) {
      if (e.state !== 'active' || e.inFlight !== null || e.waiting === 0) continue
      const wait = Math.max(0, e.oldestMs + this.#limits.ageMs - nowMs)
      if (due === undefined || wait < due) due = wait
    }
    return due
  }

  /** The batch settled: the position moved. False where the partition is no longer ours. */
  settled(batch: Batch<R>): boolean {
    const entry = this.#current(batch)
    if (entry === undefined) return false
    entry.inFlight = null
    entry.position = batch.next
    entry.lastVersion = lastVersionOf(batch)
    entry.ahead = Object.fromEntries(Object.entries(batch.ahead).filter(([, to]) => to > batch.next))
    entry.narrow = entry.narrow * 4 >= this.#limits.messages ? Infinity : entry.narrow * 4
    this.#cost -= costOf(batch.runs)
    return true
  }

  /** The batch holds something that cannot be settled: it comes again in halves. False where the partition is no longer ours. */
  halve(batch: Batch<R>): boolean {
    const entry = this.#current(batch)
    if (entry === undefined) return false
    entry.inFlight = null
    entry.ahead = batch.ahead
    entry.held = [...batch.runs, ...entry.held]
    entry.waiting += batch.count
    entry.cost += costOf(batch.runs)
    entry.narrow = Math.max(1, Math.floor(batch.count / 2))
    return true
  }

  /** True while the batch is the one in flight of a partition that is ours. */
  isCurrent(batch: Batch<R>): boolean {
    return this.#current(batch) !== undefined
  }

  #current(batch: Batch<R>): Entry<R> | undefined {
    const entry = this.#entries.get(batch.partition)
    return entry?.inFlight === batch ? entry : undefined
  }

  #batch(partition: number, entry: Entry<R>, maxMessages: number, maxBytes: number, nowMs: number): Batch<R> {
    const { held } = entry
    const [{ first }] = held
    const runs: R[] = []
    let count = 0
    let cost = 0
    let whole = 0
    for (const run of held) {
      const n = fitting(run, maxMessages - count, maxBytes - cost, first + MAX_SPAN)
      if (n === 0) break
      count += n
      cost += run.costOf(n)
      runs.push(run.part(0, n))
      if (n < run.count) {
        held[whole] = run.part(n, run.count)
        break
      }
      whole++
    }
    entry.held = held.slice(whole)
    entry.waiting -= count
    entry.cost -= cost
    entry.oldestMs = nowMs
    const batch: Batch<R> = {
      partition, epoch: entry.epoch, expected: entry.position, next: runs[runs.length - 1].next, runs, count, first,
      version: entry.lastVersion + 1, ahead: entry.ahead,
    }
    entry.inFlight = batch
    return batch
  }

  #drop(entry: Entry<R>): void {
    this.#forget(entry)
    if (entry.inFlight !== null) this.#cost -= costOf(entry.inFlight.runs)
    entry.inFlight = null
  }

  /** Gives up what waits. */
  #forget(entry: Entry<R>): void {
    this.#cost -= entry.cost
    entry.held = []
    entry.waiting = 0
    entry.cost = 0
  }
}

/** How many of a run's messages may go along: while their cost has not come to the limit, and before an offset. */
function fitting<R>(run: Run<R>, messages: number, cost: number, before: number): number {
  const most = Math.min(run.count, messages)
  let n = 0
  while (n < most && run.costOf(n) < cost && run.offsetAt(n) < before) n++
  return n
}

/** The messages of a run from an offset on; null where there are none. */
export function since<R extends Run<R>>(run: R, offset: number): R | null {
  if (offset <= run.first) return run
  if (offset >= run.next) return null
  let i = 1
  while (run.offsetAt(i) < offset) i++
  return run.part(i, run.count)
}

function costOf<R>(runs: readonly Run<R>[]): number {
  return runs.reduce((total, run) => total + run.costOf(run.count), 0)
}

/** Version of the batch's last message, microseconds. */
export function lastVersionOf(batch: Pick<Batch<never>, 'version' | 'next' | 'first'>): number {
  return batch.version + batch.next - 1 - batch.first
}

function sum<R extends Run<R>>(entries: readonly (readonly [number, Entry<R>])[], of: (entry: Entry<R>) => number): number {
  return entries.reduce((total, [, entry]) => total + of(entry), 0)
}
