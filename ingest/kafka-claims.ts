import { setTimeout as delay } from 'node:timers/promises'
import { acceptedTo, beginPosition, claimPosition, readPosition, type PartitionKey, type Position } from '../engine/store/kafka-positions.js'
import type { Pool } from '../engine/store/db.js'
import type { PartitionBook } from './kafka-book.js'
import type { KafkaClient, KafkaSettings } from './kafka-client.js'
import type { HeldRun } from './kafka-held.js'
import type { Complaints, KafkaWatch } from './kafka-watch.js'
import type { DoorLog } from './kafka.js'

export interface ClaimsOptions {
  settings: KafkaSettings
  client: KafkaClient
  book: PartitionBook<HeldRun>
  db: Pool
  watch: KafkaWatch
  complaints: Complaints
  log: DoorLog
  /** Fetching is paused at the memory bound: what is taken over starts paused. */
  isPaused: () => boolean
  /** A claim has its answer, for {@link PartitionClaims.claimed}. */
  onClaim: (event: { kind: 'claim' } & ClaimAnswer) => void
  /** The client reads from where it was told to. */
  onSeated: () => void
  /** The broker answered. */
  onBroker: () => void
}

export interface ClaimAnswer { partition: number; n: number; claim: Claim }

export type Claim =
  | { position: Position; acceptedTo: number; low: number; high: number }
  | { error: unknown }

const CLAIM_RETRY_MS = 1000
/** Between two looks at a position that a former owner's transaction has locked. */
const HELD_RETRY_MS = 100
const FENCED = 'another owner has it'

/**
 * Takes partitions over, each for itself: claims its position in the database and lets the client read from there. One
 * whose former owner hangs in a transaction is waited for, while the others are read.
 */
export class PartitionClaims {
  readonly #options: ClaimsOptions
  /** The last claim of each partition: an earlier one's answer does not count. */
  readonly #claims = new Map<number, number>()
  readonly #acceptedTo = new Map<number, number>()
  readonly #toSeat = new Map<number, { n: number; position: Position }>()
  /** Partitions that the client was told to read. */
  readonly #assigned = new Set<number>()
  /** Positions are being set: nothing is fetched meanwhile. */
  isSeating = false
  #isLooking = false

  constructor(options: ClaimsOptions) {
    this.#options = options
  }

  /** Offset before which messages of the partition may have been accepted before. */
  acceptedTo(partition: number): number {
    return this.#acceptedTo.get(partition) ?? 0
  }

  claim(partition: number): void {
    const n = this.#renew(partition)
    void this.#take(partition, n).then((claim) => {
      if (claim !== undefined) this.#options.onClaim({ kind: 'claim', partition, n, claim })
    }, (error: unknown) => this.#options.onClaim({ kind: 'claim', partition, n, claim: { error } }))
  }

  /** The answer to a claim. */
  claimed({ partition, n, claim }: ClaimAnswer): void {
    if (!this.#isLast(partition, n)) return
    if ('error' in claim) {
      this.#options.complaints.warn('claim', { err: claim.error, partition }, 'Kafka: a partition cannot be taken over yet')
      this.#again(partition, n)
      return
    }
    const { position, low, high } = claim
    this.#acceptedTo.set(partition, claim.acceptedTo)
    this.#options.watch.note(partition, high, position.next)
    if (position.next < low || position.next > high) this.#strand(partition, position.next, low, high)
    else this.#toSeat.set(partition, { n, position })
  }

  /** Lets the client read from claimed positions. Only where no fetch is open, as `isSeating` forbids one. */
  seat(): void {
    if (this.isSeating || this.#toSeat.size === 0) return
    const seats = [...this.#toSeat].filter(([partition, { n }]) => this.#isLast(partition, n))
    this.#toSeat.clear()
    const fresh = seats.filter(([partition]) => !this.#assigned.has(partition))
    if (fresh.length > 0) this.#assign(fresh)
    const moved = seats.filter(([partition]) => !fresh.some(([other]) => other === partition))
    if (moved.length > 0) void this.#seek(moved)
  }

  /** The group takes partitions away: what was to be read of them is not begun. */
  cancel(partitions: readonly number[]): void {
    for (const partition of partitions) {
      this.#renew(partition)
      this.#toSeat.delete(partition)
    }
  }

  /** Answers the group's revocation: the partitions are not ours any more. */
  giveUp(partitions: readonly number[]): void {
    this.cancel(partitions)
    for (const partition of partitions) {
      this.#options.book.remove(partition)
      this.#options.watch.forget(partition)
    }
    const told = partitions.filter((partition) => this.#assigned.delete(partition))
    this.#tell(() => this.#options.client.unassign(told))
  }

  pauseAll(paused: boolean): void {
    const { book, client } = this.#options
    const partitions = book.partitions.filter((p) => book.state(p) === 'active')
    this.#tell(() => paused ? client.pause(partitions) : client.resume(partitions))
  }

  /** A commit was refused. A partition that is still ours when the group must have noticed that it is not was taken by hand. */
  fenced(partition: number): void {
    const { book, client, settings } = this.#options
    book.stop(partition, FENCED)
    this.#tell(() => client.pause([partition]))
    const n = this.#claims.get(partition)
    setTimeout(() => {
      if (book.state(partition) === 'stopped' && this.#claims.get(partition) === n) this.claim(partition)
    }, settings.kafkaSessionSeconds * 1000 + 1000).unref()
  }

  /**
   * Asks the broker where the partitions end, for the lag, and looks at those that are stopped or whose position the broker
   * may not have. A broker that does not answer is not asked for the rest of them.
   */
  async look(): Promise<void> {
    if (this.#isLooking) return
    this.#isLooking = true
    try {
      for (const partition of this.#options.book.partitions) await this.#lookAt(partition)
    } catch (err) {
      this.#options.complaints.warn('look', { err }, 'Kafka: the broker or the database does not tell where a partition stands')
    } finally {
      this.#isLooking = false
    }
  }

  async #lookAt(partition: number): Promise<void> {
    const { book, client, db, watch } = this.#options
    const position = book.position(partition)
    const { low, high } = await client.watermarks(partition)
    this.#options.onBroker()
    if (book.state(partition) === undefined) return
    watch.note(partition, high)
    if (position !== undefined) {
      if (!book.busy(partition) && book.position(partition) === position && (position < low || position > high)) {
        this.#strand(partition, position, low, high)
      }
      return
    }
    const stands = await readPosition(db, this.#key(partition))
    if (stands === undefined || book.state(partition) === undefined) return
    watch.note(partition, high, stands.next)
    if (book.state(partition) !== 'stopped') return
    // Those that were fenced are claimed anew when the group has had time to say whose they are.
    if (book.stopped().some((s) => s.partition === partition && s.reason === FENCED)) return
    if (stands.next >= low && stands.next <= high) this.claim(partition)
  }

  /** Claims the position, however long its row is locked. Undefined where nobody waits for it any more. */
  async #take(partition: number, n: number): Promise<Claim | undefined> {
    const { db, client, complaints, settings } = this.#options
    const key = this.#key(partition)
    for (const began = Date.now(); this.#isLast(partition, n); await delay(HELD_RETRY_MS)) {
      let position = await claimPosition(db, key)
      if (position === undefined) position = await beginPosition(db, key, (await client.watermarks(partition)).low)
      if (position !== 'held' && position !== undefined) {
        // Asked after the claim: nobody moves the position beyond them any more.
        const { low, high } = await client.watermarks(partition)
        return { position, low, high, acceptedTo: await acceptedTo(db, settings.kafkaTopic, partition) }
      }
      if (Date.now() - began > CLAIM_RETRY_MS) {
        complaints.warn('held', { partition }, 'Kafka: a partition is waited for, because a transaction of its former owner is still open')
      }
    }
    return undefined
  }

  #assign(seats: readonly (readonly [number, { n: number; position: Position }])[]): void {
    const { client, book, isPaused, log, complaints } = this.#options
    const partitions = seats.map(([partition]) => partition)
    try {
      client.assign(seats.map(([partition, { position }]) => ({ partition, offset: position.next })))
    } catch (err) {
      complaints.warn('client', { err, partitions }, 'Kafka: the client does not take partitions over yet')
      for (const [partition, { n }] of seats) this.#again(partition, n)
      return
    }
    for (const [partition, { position }] of seats) {
      this.#assigned.add(partition)
      book.claimed(partition, position)
    }
    // The client keeps a pause over revocation and assignment: one that was fenced here before would stand still.
    this.#tell(() => isPaused() ? client.pause(partitions) : client.resume(partitions))
    log.info({ partitions }, 'Kafka: partitions taken over')
  }

  async #seek(seats: readonly (readonly [number, { n: number; position: Position }])[]): Promise<void> {
    const { client, book, isPaused, log, complaints, onSeated } = this.#options
    this.isSeating = true
    for (const [partition, { n, position }] of seats) {
      try {
        await client.seek({ partition, offset: position.next })
        if (!this.#isLast(partition, n)) continue
        book.claimed(partition, position)
        log.info({ partition, offset: position.next }, 'Kafka: a partition is read again')
        if (!isPaused()) this.#tell(() => client.resume([partition]))
      } catch (err) {
        complaints.warn('seek', { err, partition }, 'Kafka: a partition cannot be read again yet')
        this.#again(partition, n)
      }
    }
    this.isSeating = false
    onSeated()
  }

  #strand(partition: number, position: number, low: number, high: number): void {
    const { book, client, log, settings } = this.#options
    const reason = `its position ${position} is not among the broker's offsets ${low} to ${high}`
    if (book.state(partition) !== 'stopped') {
      log.error({ partition, topic: settings.kafkaTopic, reason },
        'Kafka: a partition is stopped, the others go on. Messages may be gone from the broker, or the topic was made anew: see "Kafka" in docs/operations.md')
    }
    book.stop(partition, reason)
    this.#tell(() => client.pause([partition]))
  }

  #again(partition: number, n: number): void {
    setTimeout(() => {
      if (this.#isLast(partition, n)) this.claim(partition)
    }, CLAIM_RETRY_MS).unref()
  }

  #renew(partition: number): number {
    const n = (this.#claims.get(partition) ?? 0) + 1
    this.#claims.set(partition, n)
    return n
  }

  #isLast(partition: number, n: number): boolean {
    return this.#claims.get(partition) === n && this.#options.book.state(partition) !== undefined
  }

  #key(partition: number): PartitionKey {
    return { group: this.#options.settings.kafkaGroup, topic: this.#options.settings.kafkaTopic, partition }
  }

  #tell(work: () => void): void {
    try {
      work()
    } catch (err) {
      this.#options.complaints.warn('client', { err }, 'Kafka: the client does not take an order')
    }
  }
}
