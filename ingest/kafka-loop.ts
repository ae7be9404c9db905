import type { Message, LibrdKafkaError } from 'node-rdkafka'
import { acceptedTo, claimPosition, readPosition, type PartitionKey, type Position } from '../engine/store/kafka-positions.js'
import { PartitionBook } from './kafka-book.js'
import type { KafkaClient, KafkaSettings } from './kafka-client.js'
import { DeadLetterPublisher } from './kafka-dead.js'
import { KafkaFetcher } from './kafka-fetcher.js'
import { KafkaMetrics } from './kafka-metrics.js'
import type { BatchOutcome, HeldMessage, MessageBatch } from './kafka-round.js'
import { Rounds } from './kafka-rounds.js'
import { Complaints, KafkaWatch } from './kafka-watch.js'
import type { KafkaDoor, KafkaDoorOptions } from './kafka.js'

const ROUND_MESSAGES = 20_000
/** Of what messages cost to hold, which is more than twice their length. */
const ROUND_BYTES = 20 * 1024 * 1024
const ROUND_AGE_MS = 40
const TICK_MS = 1000
/** Ticks between two looks at stopped partitions, and between two notes of where partitions end. */
const LOOK_TICKS = 10
/** How long a revoked partition's batch may take to settle before the partition is given up; the next owner's claim fences it. */
const DRAIN_MS = 10_000
const CLAIM_RETRY_MS = 1000
const FENCED = 'another owner has it'

/** What the loop is told of. */
export type KafkaEvent =
  | { kind: 'assign' | 'revoke'; partitions: number[] }
  | { kind: 'claim'; partition: number; n: number; claim: Claim }
  | { kind: 'fetched'; messages: Message[] }
  | { kind: 'not-fetched'; err: LibrdKafkaError }
  | { kind: 'round'; batches: readonly MessageBatch[]; outcomes: readonly BatchOutcome[] }
  | { kind: 'tick' }
  | { kind: 'close' }

/** Where an assigned partition is read from; a null position: it is stopped. */
interface Claimed { offset: number; position: Position | null }

type Claim =
  | { position: Position; acceptedTo: number; low: number; high: number }
  | { error: unknown }

/** One loop owns the state; the client's callbacks, timers and settled rounds only enqueue events. */
export class KafkaLoop implements KafkaDoor {
  readonly #options: KafkaDoorOptions
  readonly #settings: KafkaSettings
  readonly #client: KafkaClient
  readonly #events: KafkaEvent[]
  /** True from the moment that the client has lost them all until it hears of one. */
  readonly #brokers: { down: boolean }
  readonly #now: () => number
  readonly #book: PartitionBook<HeldMessage>
  readonly #metrics: KafkaMetrics
  readonly #dead: DeadLetterPublisher
  readonly #rounds: Rounds
  readonly #acceptedTo = new Map<number, number>()
  /** Assignments and revocations of the group, answered one after the other. */
  readonly #answers: { kind: 'assign' | 'revoke'; partitions: number[]; deadlineMs: number; claimed: Map<number, Claimed> }[] = []
  readonly #complaints: Complaints
  readonly #watch: KafkaWatch
  readonly #fetcher: KafkaFetcher
  /** The last claim of each partition: an earlier one's answer does not count. */
  readonly #claims = new Map<number, number>()
  #wake: (() => void) | null = null
  #loop: Promise<void> | null = null
  #timer: NodeJS.Timeout | undefined
  #due: NodeJS.Timeout | undefined
  #ticks = 0
  /** Positions are being set: nothing is fetched meanwhile. */
  #seating = false
  readonly #toSeat = new Map<number, Position>()
  #running = 0
  #closing = false

  constructor(options: KafkaDoorOptions, client: KafkaClient, events: KafkaEvent[], brokers: { down: boolean }) {
    const { settings } = options
    this.#options = options
    this.#settings = settings
    this.#client = client
    this.#events = events
    this.#brokers = brokers
    this.#now = options.now ?? Date.now
    this.#book = new PartitionBook({ messages: ROUND_MESSAGES, bytes: ROUND_BYTES, ageMs: ROUND_AGE_MS })
    this.#complaints = new Complaints(options.log, this.#now)
    this.#watch = new KafkaWatch(settings, client, this.#book)
    this.#fetcher = new KafkaFetcher({
      client, book: this.#book, pool: options.pool, maxWaiting: ROUND_MESSAGES * 2,
      maxHeldBytes: Math.min(options.maxHeldBytes, ROUND_BYTES * (options.rounds + 2)),
      onMessages: (messages) => this.#enqueue({ kind: 'fetched', messages }),
      onFault: (err) => this.#enqueue({ kind: 'not-fetched', err }),
      onPause: (paused) => this.#pauseAll(paused),
    })
    this.#metrics = new KafkaMetrics(options.registry, this.#watch.gauges(() => this.#fetcher.isPaused, () => !brokers.down))
    this.#dead = new DeadLetterPublisher(settings, options.db, (done, failed) => this.#metrics.published(done, failed),
      (err) => this.#complaints.warn('dead', { err }, `Kafka: dead letters cannot be published to ${settings.kafkaTopic}.dead; they wait in the database`))
    this.#rounds = new Rounds({
      pool: options.pool, db: options.db, versions: options.versions, group: settings.kafkaGroup, topic: settings.kafkaTopic, now: this.#now,
      defaultUtility: options.defaultUtility, acceptedTo: (partition) => this.#acceptedTo.get(partition) ?? 0,
      isWanted: (batch) => !this.#closing && this.#book.isCurrent(batch),
      onRetry: (reason) => {
        this.#complaints.warn('again', { reason }, 'Kafka: a batch cannot be settled yet and is tried again')
        this.#metrics.retried()
      },
    })
  }

  start(): void {
    this.#timer = setInterval(() => this.#enqueue({ kind: 'tick' }), TICK_MS)
    this.#loop = this.#run()
    this.#dead.wake()
  }

  reasons(): string[] {
    const reasons = this.#book.stopped().map(({ partition, reason }) => `Kafka partition ${partition} of ${this.#settings.kafkaTopic} is stopped: ${reason}`)
    if (this.#brokers.down) reasons.push('no Kafka broker can be reached')
    return reasons
  }

  async close(): Promise<void> {
    this.#enqueue({ kind: 'close' })
    await this.#loop
  }

  wake(): void {
    this.#wake?.()
  }

  #enqueue(event: KafkaEvent): void {
    this.#events.push(event)
    this.wake()
  }

  async #run(): Promise<void> {
    for (;;) {
      for (let event = this.#events.shift(); event !== undefined; event = this.#events.shift()) this.#handle(event)
      this.#answerGroup()
      if (this.#closing && this.#running === 0 && !this.#fetcher.isOpen && !this.#seating) break
      this.#startRounds()
      this.#seat()
      if (!this.#seating && !this.#closing) {
        const wait = this.#fetcher.fetch(this.#now())
        if (wait !== undefined) this.#wakeIn(wait)
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        if (this.#events.length > 0) resolve()
      })
      this.#wake = null
    }
    await this.#leave()
  }

  #handle(event: KafkaEvent): void {
    switch (event.kind) {
      case 'assign':
      case 'revoke':
        this.#metrics.rebalanced(event.kind === 'assign' ? 'assigned' : 'revoked', event.partitions.length)
        this.#answers.push({ kind: event.kind, partitions: event.partitions, deadlineMs: 0, claimed: new Map() })
        return
      case 'claim':
        if (this.#claims.get(event.partition) === event.n) this.#claimed(event.partition, event.claim)
        return
      case 'fetched':
        this.#fetcher.isOpen = false
        if (event.messages.length > 0) this.#brokers.down = false
        this.#book.add(this.#fetcher.weigh(event.messages), this.#now())
        return
      case 'not-fetched':
        this.#fetcher.isOpen = false
        this.#complaints.warn(`fetch ${event.err.code}`, { code: event.err.code, reason: event.err.message }, 'Kafka: messages cannot be fetched')
        void this.#look()
        return
      case 'round':
        this.#running--
        event.batches.forEach((batch, i) => this.#finish(batch, event.outcomes[i]))
        return
      case 'tick':
        this.#tick()
        return
      case 'close':
        this.#closing = true
        clearInterval(this.#timer)
        for (const partition of this.#book.partitions) this.#book.drain(partition)
        return
    }
  }

  // ---- the group

  /** Answers the group's oldest word, once what it takes is done. */
  #answerGroup(): void {
    for (let answer = this.#answers[0]; answer !== undefined; answer = this.#answers[0]) {
      if (answer.deadlineMs === 0) {
        answer.deadlineMs = this.#now() + DRAIN_MS
        for (const partition of answer.partitions) {
          if (answer.kind === 'revoke') this.#book.drain(partition)
          else {
            this.#book.assign(partition)
            this.#claim(partition)
          }
        }
      }
      const pending = answer.partitions.filter((p) => answer.kind === 'revoke' ? this.#book.busy(p) : !answer.claimed.has(p))
      if (answer.kind === 'revoke' && pending.length > 0 && this.#now() < answer.deadlineMs) return
      if (answer.kind === 'assign' && !this.#closing && (pending.length > 0 || this.#fetcher.isOpen)) return
      this.#answers.shift()
      if (answer.kind === 'revoke') this.#revoked(answer.partitions, pending)
      else this.#assigned(answer.partitions, answer.claimed)
    }
  }

  #revoked(partitions: readonly number[], late: readonly number[]): void {
    if (late.length > 0) this.#options.log.warn({ partitions: late }, 'Kafka: partitions were given up with a batch under way; the next owner settles it')
    for (const partition of partitions) {
      this.#book.remove(partition)
      this.#watch.forget(partition)
      this.#toSeat.delete(partition)
    }
    this.#tell(() => this.#client.unassign(partitions))
    this.#options.log.info({ partitions }, 'Kafka: partitions given back')
  }

  #assigned(partitions: readonly number[], claimed: ReadonlyMap<number, Claimed>): void {
    // One that is stopped is assigned all the same, as the group has it, at an end where nothing comes.
    this.#tell(() => this.#client.assign(partitions.map((partition) => ({ partition, offset: claimed.get(partition)?.offset ?? 0 }))))
    for (const [partition, { position }] of claimed) if (position !== null) this.#book.claimed(partition, position)
    const stopped = partitions.filter((p) => this.#book.state(p) !== 'active')
    this.#tell(() => this.#client.pause(this.#fetcher.isPaused ? partitions : stopped))
    // The client keeps a pause over revocation and assignment: one that was fenced here before would stand still.
    if (!this.#fetcher.isPaused) this.#tell(() => this.#client.resume(partitions.filter((p) => this.#book.state(p) === 'active')))
    this.#options.log.info({ partitions }, 'Kafka: partitions taken over')
  }

  #pauseAll(paused: boolean): void {
    const partitions = this.#book.partitions.filter((p) => this.#book.state(p) === 'active')
    this.#tell(() => paused ? this.#client.pause(partitions) : this.#client.resume(partitions))
    if (paused) this.#complaints.warn('paused', { heldBytes: this.#book.cost }, 'Kafka: fetching pauses at the memory bound')
  }

  #tell(work: () => void): void {
    try {
      work()
    } catch (err) {
      this.#complaints.warn('client', { err }, 'Kafka: the client does not take an order')
    }
  }

  // ---- positions

  #key(partition: number): PartitionKey {
    return { group: this.#settings.kafkaGroup, topic: this.#settings.kafkaTopic, partition }
  }

  #claim(partition: number): void {
    const n = (this.#claims.get(partition) ?? 0) + 1
    this.#claims.set(partition, n)
    void (async (): Promise<Claim> => {
      const { low, high } = await this.#client.watermarks(partition)
      const position = await claimPosition(this.#options.db, this.#key(partition), low)
      return { position, low, high, acceptedTo: await acceptedTo(this.#options.db, this.#settings.kafkaTopic, partition) }
    })().then((claim) => this.#enqueue({ kind: 'claim', partition, n, claim }), (error: unknown) => this.#enqueue({ kind: 'claim', partition, n, claim: { error } }))
  }

  #claimed(partition: number, claim: Claim): void {
    if (this.#book.state(partition) === undefined) return
    if ('error' in claim) {
      const n = this.#claims.get(partition)
      this.#complaints.warn('claim', { err: claim.error, partition }, 'Kafka: a partition cannot be taken over yet')
      setTimeout(() => {
        if (this.#book.state(partition) !== undefined && this.#claims.get(partition) === n) this.#claim(partition)
      }, CLAIM_RETRY_MS)
      return
    }
    const { position, low, high } = claim
    const answer = this.#answers[0]
    const isWaiting = answer?.kind === 'assign' && answer.partitions.includes(partition) && !answer.claimed.has(partition)
    this.#acceptedTo.set(partition, claim.acceptedTo)
    if (position.next < low || position.next > high) {
      this.#stop(partition, `its position ${position.next} is not among the broker's offsets ${low} to ${high}`)
      if (isWaiting) answer.claimed.set(partition, { offset: high, position: null })
    } else if (isWaiting) answer.claimed.set(partition, { offset: position.next, position })
    // Assigned before: the client stands elsewhere.
    else this.#toSeat.set(partition, position)
  }

  /** Lets the client read from claimed positions of partitions that it had before. */
  #seat(): void {
    if (this.#fetcher.isOpen || this.#seating || this.#toSeat.size === 0) return
    this.#seating = true
    const seats = [...this.#toSeat]
    this.#toSeat.clear()
    void (async () => {
      for (const [partition, position] of seats) {
        if (this.#book.state(partition) !== 'stopped') continue
        try {
          await this.#client.seek({ partition, offset: position.next })
          if (this.#book.state(partition) !== 'stopped') continue
          this.#book.claimed(partition, position)
          this.#options.log.info({ partition, offset: position.next }, 'Kafka: a partition is read again')
          if (!this.#fetcher.isPaused) this.#tell(() => this.#client.resume([partition]))
        } catch (err) {
          this.#complaints.warn('seek', { err, partition }, 'Kafka: a partition cannot be read again yet')
        }
      }
      this.#seating = false
      this.wake()
    })()
  }

  #stop(partition: number, reason: string): void {
    if (this.#book.state(partition) !== 'stopped') {
      this.#options.log.error({ partition, topic: this.#settings.kafkaTopic, reason },
        'Kafka: a partition is stopped, the others go on. Messages may be gone from the broker, or the topic was made anew: see "Kafka" in docs/operations.md')
    }
    this.#book.stop(partition, reason)
    this.#tell(() => this.#client.pause([partition]))
  }

  /** Looks at partitions that are stopped, and at those that have not moved though there is something to read. */
  async #look(): Promise<void> {
    for (const partition of this.#book.partitions) {
      const position = this.#book.position(partition)
      if (this.#book.state(partition) === 'claiming') continue
      try {
        if (position === undefined) {
          // Those are claimed anew when the group has had time to say whose they are.
          if (this.#book.stopped().some((s) => s.partition === partition && s.reason === FENCED)) continue
          const [{ low, high }, stands] = await Promise.all([this.#client.watermarks(partition), readPosition(this.#options.db, this.#key(partition))])
          if (stands !== undefined && stands.next >= low && stands.next <= high && this.#book.state(partition) === 'stopped') this.#claim(partition)
          continue
        }
        if (this.#book.busy(partition) || this.#client.end(partition) === position) continue
        const { low, high } = await this.#client.watermarks(partition)
        this.#brokers.down = false
        if (this.#book.position(partition) === position && (position < low || position > high)) {
          this.#stop(partition, `its position ${position} is not among the broker's offsets ${low} to ${high}`)
        }
      } catch (err) {
        this.#complaints.warn('look', { err, partition }, 'Kafka: the broker or the database does not tell where a partition stands')
      }
    }
  }

  #tick(): void {
    this.#watch.hint()
    if (++this.#ticks % LOOK_TICKS !== 0) return
    this.#dead.wake()
    void this.#look()
    this.#watch.noteEnds(this.#options.db).catch((err: unknown) => this.#complaints.warn('ends', { err }, 'Kafka: the lag cannot be noted'))
  }

  #wakeIn(ms: number): void {
    clearTimeout(this.#due)
    this.#due = setTimeout(() => this.wake(), ms)
  }


  // ---- rounds

  #startRounds(): void {
    while (this.#running < this.#options.rounds && !this.#closing) {
      const batches = this.#book.take(this.#now())
      if (batches === undefined) break
      this.#running++
      void this.#rounds.settle(batches).then((outcomes) => this.#enqueue({ kind: 'round', batches, outcomes }))
    }
    const due = this.#running < this.#options.rounds ? this.#book.dueInMs(this.#now()) : undefined
    if (due !== undefined) this.#wakeIn(due + 1)
  }

  #finish(batch: MessageBatch, outcome: BatchOutcome): void {
    switch (outcome.status) {
      case 'settled':
        this.#metrics.settled(batch.messages.length, outcome.deadLetters)
        this.#book.settled(batch)
        if (outcome.deadLetters > 0) this.#dead.wake()
        return
      case 'unfit':
        this.#complaints.warn('unfit', { partition: batch.partition, from: batch.messages[0].offset, code: outcome.code },
          'Kafka: a batch holds a message that cannot be settled, which is searched by halves')
        this.#book.halve(batch)
        return
      case 'again':
        // Given up: the next owner settles it.
        return
      case 'fenced':
        this.#metrics.fenced()
        if (!this.#book.isCurrent(batch)) return
        this.#options.log.warn({ partition: batch.partition, epoch: batch.epoch, from: batch.messages[0].offset },
          'Kafka: a commit was refused, because another owner has the partition')
        this.#book.stop(batch.partition, FENCED)
        this.#tell(() => this.#client.pause([batch.partition]))
        this.#reclaimLater(batch.partition)
    }
  }

  /** A partition that is still ours when the group must have noticed that it is not was taken by hand, and is claimed anew. */
  #reclaimLater(partition: number): void {
    setTimeout(() => {
      if (this.#book.state(partition) === 'stopped' && !this.#closing) this.#claim(partition)
    }, this.#settings.kafkaSessionSeconds * 1000 + 1000).unref()
  }

  async #leave(): Promise<void> {
    clearTimeout(this.#due)
    this.#watch.hint()
    for (const partition of this.#book.partitions) this.#book.remove(partition)
    this.#fetcher.reserve()
    await this.#dead.close()
    const closed = this.#client.close()
    // Leaving, the client may ask once more for what it was given.
    const answering = setInterval(() => {
      for (let event = this.#events.shift(); event !== undefined; event = this.#events.shift()) {
        const { partitions } = event.kind === 'revoke' ? event : { partitions: null }
        if (partitions !== null) this.#tell(() => this.#client.unassign(partitions))
      }
    }, 10)
    await closed
    clearInterval(answering)
  }
}
