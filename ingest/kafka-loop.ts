import type { Message, LibrdKafkaError } from 'node-rdkafka'
import { PartitionBook } from './kafka-book.js'
import { PartitionClaims, type ClaimAnswer } from './kafka-claims.js'
import type { KafkaClient, KafkaSettings } from './kafka-client.js'
import { DeadLetterPublisher } from './kafka-dead.js'
import { KafkaFetcher } from './kafka-fetcher.js'
import { KafkaMetrics } from './kafka-metrics.js'
import type { HeldRun } from './kafka-held.js'
import type { BatchOutcome, MessageBatch } from './kafka-round.js'
import { Rounds } from './kafka-rounds.js'
import { Complaints, KafkaWatch } from './kafka-watch.js'
import type { KafkaDoor, KafkaDoorOptions } from './kafka.js'

const ROUND_MESSAGES = 30_000
/** Of what messages cost to hold, which is more than twice their length. */
const ROUND_BYTES = 20 * 1024 * 1024
const ROUND_AGE_MS = 40
const TICK_MS = 1000
/** Ticks between two looks at stopped partitions, and between two notes of where partitions end. */
const LOOK_TICKS = 10
/** How long a revoked partition's batch may take to settle before the partition is given up; the next owner's claim fences it. */
const DRAIN_MS = 10_000

/** What the loop is told of. */
export type KafkaEvent =
  | { kind: 'assign' | 'revoke'; partitions: number[] }
  | ({ kind: 'claim' } & ClaimAnswer)
  | { kind: 'fetched'; messages: Message[] }
  | { kind: 'not-fetched'; err: LibrdKafkaError }
  | { kind: 'round'; batches: readonly MessageBatch[]; outcomes: readonly BatchOutcome[] }
  | { kind: 'tick' }
  | { kind: 'close' }

/** One loop owns the state; the client's callbacks, timers and settled rounds only enqueue events. */
export class KafkaLoop implements KafkaDoor {
  readonly #options: KafkaDoorOptions
  readonly #settings: KafkaSettings
  readonly #client: KafkaClient
  readonly #events: KafkaEvent[]
  /** True from the moment that the client has lost them all until it hears of one. */
  readonly #brokers: { down: boolean }
  readonly #now: () => number
  readonly #book: PartitionBook<HeldRun>
  readonly #metrics: KafkaMetrics
  readonly #dead: DeadLetterPublisher
  readonly #rounds: Rounds
  /** Assignments and revocations of the group, answered one after the other. */
  readonly #answers: { kind: 'assign' | 'revoke'; partitions: number[]; deadlineMs: number }[] = []
  readonly #complaints: Complaints
  readonly #watch: KafkaWatch
  readonly #fetcher: KafkaFetcher
  readonly #claims: PartitionClaims
  #wake: (() => void) | null = null
  #loop: Promise<void> | null = null
  #timer: NodeJS.Timeout | undefined
  #due: NodeJS.Timeout | undefined
  #ticks = 0
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
      onPause: (paused) => {
        this.#claims.pauseAll(paused)
        if (paused) this.#complaints.warn('paused', { heldBytes: this.#book.cost }, 'Kafka: fetching pauses at the memory bound')
      },
    })
    this.#claims = new PartitionClaims({
      settings, client, book: this.#book, db: options.db, watch: this.#watch, complaints: this.#complaints, log: options.log,
      isPaused: () => this.#fetcher.isPaused,
      onClaim: (event) => this.#enqueue(event),
      onSeated: () => this.wake(),
      onBroker: () => { brokers.down = false },
    })
    this.#metrics = new KafkaMetrics(options.registry, this.#watch.gauges(() => this.#fetcher.isPaused, () => !brokers.down))
    this.#dead = new DeadLetterPublisher(settings, options.db, (done, failed) => this.#metrics.published(done, failed),
      (err) => this.#complaints.warn('dead', { err }, `Kafka: dead letters cannot be published to ${settings.kafkaTopic}.dead; they wait in the database`))
    this.#rounds = new Rounds({
      pool: options.pool, db: options.db, versions: options.versions, group: settings.kafkaGroup, topic: settings.kafkaTopic, now: this.#now,
      defaultUtility: options.defaultUtility, acceptedTo: (partition) => this.#claims.acceptedTo(partition),
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
      if (this.#closing && this.#running === 0 && !this.#fetcher.isOpen && !this.#claims.isSeating) break
      this.#startRounds()
      if (!this.#fetcher.isOpen && !this.#closing) this.#claims.seat()
      if (!this.#claims.isSeating && !this.#closing) {
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
        this.#answers.push({ kind: event.kind, partitions: event.partitions, deadlineMs: 0 })
        return
      case 'claim':
        this.#claims.claimed(event)
        return
      case 'fetched':
        this.#fetcher.isOpen = false
        if (event.messages.length > 0) this.#brokers.down = false
        this.#book.add(this.#fetcher.hold(event.messages), this.#now())
        return
      case 'not-fetched':
        this.#fetcher.isOpen = false
        this.#complaints.warn(`fetch ${event.err.code}`, { code: event.err.code, reason: event.err.message }, 'Kafka: messages cannot be fetched')
        void this.#claims.look()
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
      const { kind, partitions } = answer
      if (kind === 'assign') this.#assigned(partitions)
      else {
        if (answer.deadlineMs === 0) {
          answer.deadlineMs = this.#now() + DRAIN_MS
          for (const partition of partitions) this.#book.drain(partition)
          this.#claims.cancel(partitions)
        }
        const pending = partitions.filter((p) => this.#book.busy(p))
        if (pending.length > 0 && this.#now() < answer.deadlineMs) return
        this.#revoked(partitions, pending)
      }
      this.#answers.shift()
    }
  }

  #revoked(partitions: readonly number[], late: readonly number[]): void {
    if (late.length > 0) this.#options.log.warn({ partitions: late }, 'Kafka: partitions were given up with a batch under way; the next owner settles it')
    this.#claims.giveUp(partitions)
    this.#options.log.info({ partitions }, 'Kafka: partitions given back')
  }

  /** The group has its answer at once, with no partition; each is read from when its position is claimed. */
  #assigned(partitions: readonly number[]): void {
    try {
      this.#client.assign([])
    } catch (err) {
      this.#complaints.warn('client', { err }, 'Kafka: the client does not take an order')
    }
    if (this.#closing) return
    for (const partition of partitions) {
      this.#book.assign(partition)
      this.#claims.claim(partition)
    }
  }

  #tick(): void {
    this.#watch.hint()
    if (++this.#ticks % LOOK_TICKS !== 0) return
    this.#dead.wake()
    void this.#claims.look().then(() => this.#watch.noteEnds(this.#options.db))
      .catch((err: unknown) => this.#complaints.warn('ends', { err }, 'Kafka: the lag cannot be noted'))
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
        this.#metrics.settled(batch.count, outcome.deadLetters)
        this.#book.settled(batch)
        if (outcome.deadLetters > 0) this.#dead.wake()
        return
      case 'unfit':
        this.#complaints.warn('unfit', { partition: batch.partition, from: batch.first, code: outcome.code },
          'Kafka: a batch holds a message that cannot be settled, which is searched by halves')
        this.#book.halve(batch)
        return
      case 'again':
        // Given up: the next owner settles it.
        return
      case 'fenced':
        this.#metrics.fenced()
        if (!this.#book.isCurrent(batch)) return
        this.#options.log.warn({ partition: batch.partition, epoch: batch.epoch, from: batch.first },
          'Kafka: a commit was refused, because another owner has the partition')
        this.#claims.fenced(batch.partition)
    }
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
        if (event.kind === 'revoke') this.#claims.giveUp(event.partitions)
      }
    }, 10)
    await closed
    clearInterval(answering)
  }
}
