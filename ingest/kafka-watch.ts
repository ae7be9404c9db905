import { noteEnds } from '../engine/store/kafka-positions.js'
import type { Pool } from '../engine/store/db.js'
import type { PartitionBook } from './kafka-book.js'
import type { KafkaClient, KafkaSettings } from './kafka-client.js'
import type { KafkaGauges } from './kafka-metrics.js'
import type { HeldRun } from './kafka-held.js'
import type { DoorLog } from './kafka.js'

const SAY_MS = 30_000

/** Says that a thing goes on, not more than twice a minute. */
export class Complaints {
  readonly #log: DoorLog
  readonly #now: () => number
  readonly #said = new Map<string, number>()

  constructor(log: DoorLog, now: () => number) {
    this.#log = log
    this.#now = now
  }

  warn(key: string, detail: object, message: string): void {
    if (this.#now() - (this.#said.get(key) ?? -Infinity) < SAY_MS) return
    this.#said.set(key, this.#now())
    this.#log.warn(detail, message)
  }
}

/** Where the partitions stand, for the metrics, the broker's lag tools and `meterline status`. */
export class KafkaWatch {
  readonly #settings: KafkaSettings
  readonly #client: KafkaClient
  readonly #book: PartitionBook<HeldRun>
  readonly #hinted = new Map<number, number>()
  /** Of each partition: where the broker said that it ends, and the position of one that is not read. */
  readonly #ends = new Map<number, { end: number; stands: number | undefined }>()

  constructor(settings: KafkaSettings, client: KafkaClient, book: PartitionBook<HeldRun>) {
    this.#settings = settings
    this.#client = client
    this.#book = book
  }

  gauges(paused: () => boolean, up: () => boolean): KafkaGauges {
    return { lags: () => this.#lags(), states: () => this.#states(), paused, up }
  }

  /** Tells the broker how far partitions are that moved since. */
  hint(): void {
    const moved: { partition: number; offset: number }[] = []
    for (const partition of this.#book.partitions) {
      const position = this.#book.position(partition)
      if (position === undefined || this.#hinted.get(partition) === position) continue
      this.#hinted.set(partition, position)
      moved.push({ partition, offset: position })
    }
    this.#client.hint(moved)
  }

  /** The broker said where a partition ends. @param stands position of a partition that is not read, as the database has it */
  note(partition: number, end: number, stands = this.#ends.get(partition)?.stands): void {
    this.#ends.set(partition, { end, stands })
  }

  forget(partition: number): void {
    this.#hinted.delete(partition)
    this.#ends.delete(partition)
  }

  /** The next offset, by the broker's answer or the last fetch. */
  #end(partition: number): number | undefined {
    const [asked, fetched] = [this.#ends.get(partition)?.end, this.#client.end(partition)]
    return asked === undefined || fetched === undefined ? asked ?? fetched : Math.max(asked, fetched)
  }

  /** @throws what the database throws */
  async noteEnds(db: Pool): Promise<void> {
    const ends = this.#book.partitions.flatMap((partition) => {
      const end = this.#end(partition)
      return end === undefined ? [] : [{ partition, end }]
    })
    if (ends.length > 0) await noteEnds(db, this.#settings.kafkaGroup, this.#settings.kafkaTopic, ends)
  }

  #lags(): { partition: number; lag: number }[] {
    return this.#book.partitions.flatMap((partition) => {
      const position = this.#book.position(partition) ?? this.#ends.get(partition)?.stands
      const end = this.#end(partition)
      return position === undefined || end === undefined ? [] : [{ partition, lag: Math.max(0, end - position) }]
    })
  }

  #states(): Record<'claiming' | 'active' | 'stopped', number> {
    const states = { claiming: 0, active: 0, stopped: 0 }
    for (const partition of this.#book.partitions) states[this.#book.state(partition)!]++
    return states
  }
}
