import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from '../engine/store/db.js'
import type { Bus } from '../test/kafka/bus.js'
import type { SoakDoor } from './soak-load.js'

const POLL_MS = 100
const TOPIC = 'meter-reads'

/** The door of Kafka: a body is a message, and it is acknowledged when its partition's position has passed it. */
export class SoakTopic implements SoakDoor {
  readonly name = 'kafka'
  /** Sent again because the broker had not taken it. */
  broken = 0
  readonly #bus: Bus
  readonly #pool: Pool
  readonly #ends = new Map<number, number>()
  readonly #positions = new Map<number, number>()
  readonly #waiting = new Set<{ partition: number; offset: number; done: () => void }>()
  #closed = false
  readonly #watching: Promise<void>

  private constructor(bus: Bus, pool: Pool) {
    this.#bus = bus
    this.#pool = pool
    this.#watching = this.#watch()
  }

  /** Settings of the program that reads it, and its topics. */
  static async make(bus: Bus): Promise<Record<string, string>> {
    await Promise.all([bus.topic(TOPIC), bus.topic(`${TOPIC}.dead`, 1)])
    return { KAFKA_BROKERS: bus.brokers, KAFKA_TOPIC: TOPIC, KAFKA_SESSION_SECONDS: '6' }
  }

  static open(bus: Bus, pool: Pool): SoakTopic {
    return new SoakTopic(bus, pool)
  }

  /** Messages that the broker has and the database has not. */
  get lag(): number {
    let lag = 0
    for (const [partition, end] of this.#ends) lag += Math.max(0, end - (this.#positions.get(partition) ?? 0))
    return lag
  }

  async deliver(value: Buffer): Promise<void> {
    let at: { partition: number; offset: number } | undefined
    for (; at === undefined; this.broken += at === undefined ? 1 : 0) {
      await this.#bus.send(TOPIC, [{ value, headers: { 'content-type': 'application/x-ndjson' }, onDelivered: (stands) => { at = stands } }])
    }
    const { partition, offset } = at
    this.#ends.set(partition, Math.max(this.#ends.get(partition) ?? 0, offset + 1))
    if ((this.#positions.get(partition) ?? 0) > offset) return
    await new Promise<void>((done) => this.#waiting.add({ partition, offset, done }))
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#watching
  }

  async #watch(): Promise<void> {
    for (; !this.#closed; await delay(POLL_MS)) {
      try {
        const { rows } = await this.#pool.query<{ partition: number; next: number }>(
          'select kafka_partition as partition, next_offset as next from kafka_position where topic = $1', [TOPIC])
        for (const { partition, next } of rows) this.#positions.set(partition, next)
      } catch {
        // The database is away, as it should be at times.
      }
      for (const waiting of this.#waiting) {
        if ((this.#positions.get(waiting.partition) ?? 0) <= waiting.offset) continue
        this.#waiting.delete(waiting)
        waiting.done()
      }
    }
  }
}
