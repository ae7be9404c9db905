import type { LibrdKafkaError, MessageHeader, Producer } from 'node-rdkafka'
import type { Pool } from '../engine/store/db.js'
import { publishDeadLetters, type KeptDeadLetter } from '../engine/store/kafka-positions.js'
import { asError, connectionConfig, loadKafka, type KafkaSettings } from './kafka-client.js'

const LETTERS = 100
const CONNECT_MS = 10_000
const FLUSH_MS = 15_000

/** Where messages of a topic go that cannot be read. */
export function deadTopic(topic: string): string {
  return `${topic}.dead`
}

/**
 * Brings dead letters from the database, where they were written with the position, to the dead topic. At least once: a
 * crash before they are removed publishes them again, and while the broker refuses them they wait.
 */
export class DeadLetterPublisher {
  readonly #settings: KafkaSettings
  readonly #db: Pool
  readonly #onPublished: (done: number, failed: number) => void
  readonly #onFault: (err: unknown) => void
  #producer: Producer | null = null
  #running: Promise<void> | null = null
  #again = false
  #closed = false

  constructor(settings: KafkaSettings, db: Pool, onPublished: (done: number, failed: number) => void, onFault: (err: unknown) => void) {
    this.#settings = settings
    this.#db = db
    this.#onPublished = onPublished
    this.#onFault = onFault
  }

  /** Dead letters may have come. */
  wake(): void {
    if (this.#closed) return
    this.#again = true
    this.#running ??= this.#run().finally(() => { this.#running = null })
  }

  /** Ends what is under way; what is left is published by the next start. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#running
    const producer = this.#producer
    this.#producer = null
    if (producer !== null) await new Promise<void>((done) => producer.disconnect(() => done()))
  }

  async #run(): Promise<void> {
    const { kafkaGroup, kafkaTopic } = this.#settings
    while (this.#again && !this.#closed) {
      this.#again = false
      try {
        const { published, failed } = await publishDeadLetters(this.#db, kafkaGroup, kafkaTopic, LETTERS, (letters) => this.#publish(letters))
        this.#onPublished(published, failed)
        if (published === LETTERS) this.#again = true
      } catch (err) {
        this.#onFault(err)
      }
    }
  }

  /** Ids of the letters that the broker has. */
  async #publish(letters: readonly KeptDeadLetter[]): Promise<number[]> {
    let producer: Producer
    try {
      producer = this.#producer ??= await this.#connect()
    } catch (err) {
      this.#onFault(err)
      return []
    }
    const done: number[] = []
    let told = 0
    const onReport = (err: LibrdKafkaError | null, report: { opaque?: unknown }): void => {
      told++
      if (err === null || err === undefined) done.push(report.opaque as number)
      else this.#onFault(err)
    }
    producer.on('delivery-report', onReport)
    try {
      for (const l of letters) {
        producer.produce(deadTopic(l.topic), null, l.value === null ? null : Buffer.from(l.value), l.key === null ? null : Buffer.from(l.key),
          null, l.id, headersOf(l))
      }
      await new Promise<void>((flushed) => producer.flush(FLUSH_MS, () => flushed()))
      // Reports come with a poll, and some after the flush.
      for (const began = Date.now(); told < letters.length && Date.now() - began < FLUSH_MS;) {
        producer.poll()
        await new Promise((later) => setTimeout(later, 5))
      }
    } finally {
      producer.off('delivery-report', onReport)
    }
    return done
  }

  async #connect(): Promise<Producer> {
    const kafka = await loadKafka()
    const producer = new kafka.Producer({
      ...connectionConfig(this.#settings), 'enable.idempotence': true, 'dr_cb': true }, { 'message.timeout.ms': FLUSH_MS - 1000 })
    producer.on('event.error', () => undefined)
    await new Promise<void>((resolve, reject) => {
      producer.connect({ topic: deadTopic(this.#settings.kafkaTopic), allTopics: false, timeout: CONNECT_MS }, (err: LibrdKafkaError | null) => {
        if (err === null || err === undefined) resolve()
        else reject(asError(err))
      })
    })
    producer.setPollInterval(100)
    return producer
  }
}

/** The message's own headers, and where it stood and why it could not be read. */
function headersOf(l: KeptDeadLetter): MessageHeader[] {
  return [
    ...l.headers.map(([name, base64]) => ({ [name]: Buffer.from(base64, 'base64') })),
    { 'dead-letter-topic': l.topic },
    { 'dead-letter-partition': String(l.partition) },
    { 'dead-letter-offset': String(l.offset) },
    { 'dead-letter-group': l.group },
    { 'dead-letter-at': new Date(l.atMs).toISOString() },
    { 'dead-letter-code': l.code },
    { 'dead-letter-reason': l.message },
  ]
}
