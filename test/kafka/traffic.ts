import { Fleet, seeded } from '../faults/fleet.js'
import type { Bus, Sent } from './bus.js'

export const SLOT_S = 900
export const SLOTS = 96
const DAY_S = SLOT_S * SLOTS
const NONE = -1
/** Messages handed to the client before it is waited for, at most. */
const CHUNK = 1000
/** Of ten thousand messages, how many cannot be read. */
const POISON = 5

/** Counts that the receipts of a source must sum to. */
export interface Sums {
  received: number
  stored: number
  quarantined: number
}

export interface TrafficOptions {
  seed: number
  topic: string
  partitions: number
  /** Reads to send at least. */
  reads: number
  /** Days sent, ending with today; local midnight of today and the end of what may be sent, epoch seconds. */
  days: number
  todayS: number
  nowS: number
}

/** `ordered`: keyed by meter, no version stated, the last message stands. `stated`: any partition, capturedAt decides. */
export type SourceName = 'ordered' | 'stated'

/**
 * Reads of meters in pairs: `F<n>-A` comes from the source `ordered` and `F<n>-B` from `stated`. Day blocks first, each day
 * once; among them, more and more, single reads, blocks of some hours, corrections, whole messages again byte for byte,
 * and messages that cannot be read. Beside them the plain model of what must stand in the end.
 */
export class Traffic {
  readonly pairs: number
  readonly sums: Record<SourceName, Sums> = { ordered: noSums(), stated: noSums() }
  /** Reads and messages sent. */
  reads = 0
  messages = 0
  readonly #options: TrafficOptions
  readonly #bus: Bus
  readonly #random: () => number
  readonly #wh: Record<SourceName, Int32Array>
  readonly #versions: Int32Array
  readonly #firsts: number
  #nextFirst = 0
  #statements = 0
  readonly #earlier: Sent[] = []

  constructor(bus: Bus, options: TrafficOptions) {
    this.#bus = bus
    this.#options = options
    this.#random = seeded(options.seed)
    this.pairs = Traffic.pairsOf(options)
    const size = this.pairs * options.days * SLOTS
    this.#wh = { ordered: new Int32Array(size).fill(NONE), stated: new Int32Array(size).fill(NONE) }
    this.#versions = new Int32Array(size)
    this.#firsts = this.pairs * 2 * options.days
  }

  /** Pairs of meters that so many reads are of: the reads of their days, and a fifth that are corrections and repetitions. */
  static pairsOf({ reads, days }: Pick<TrafficOptions, 'reads' | 'days'>): number {
    return Math.max(12, Math.ceil(reads * 0.8 / (2 * days * SLOTS)))
  }

  get isDone(): boolean {
    return this.#nextFirst >= this.#firsts && this.reads >= this.#options.reads
  }

  /** Sends until so many reads have been sent in all, or everything has, and waits until the broker has them. */
  async sendUntil(reads: number): Promise<void> {
    while (this.reads < reads && !this.isDone) await this.send(Math.min(CHUNK, Math.ceil(this.#options.reads / 5000)))
  }

  /** Sends so many messages. What the broker took is in the model, in the order of its partitions; what it did not is in neither. */
  async send(n: number): Promise<void> {
    const messages: Sent[] = []
    for (let i = 0; i < n; i++) messages.push(this.#next())
    await this.#bus.send(this.#options.topic, messages)
  }

  /** Watt-hours of a meter by slot since the first day; -1 where there is none. */
  valuesOf(pair: number, source: SourceName): Int32Array {
    const size = this.#options.days * SLOTS
    return this.#wh[source].subarray(pair * size, (pair + 1) * size)
  }

  /** Start of a meter's slot, epoch seconds. */
  startOf(slot: number): number {
    return this.#options.todayS - (this.#options.days - 1) * DAY_S + slot * SLOT_S
  }

  /** Watt-hours of some accounts' meters by start, as the fleet of the HTTP door has them. */
  modelOf(pairs: number): Map<string, Map<number, number>> {
    const model = new Map<string, Map<number, number>>()
    for (let pair = 0; pair < pairs; pair++) {
      Fleet.meters(pair).forEach((meter, i) => {
        const reads = new Map<number, number>()
        this.valuesOf(pair, i === 0 ? 'ordered' : 'stated').forEach((wh, slot) => {
          if (wh !== NONE) reads.set(this.startOf(slot), wh)
        })
        model.set(meter, reads)
      })
    }
    return model
  }

  #next(): Sent {
    const random = this.#random
    if (random() * 10_000 < POISON) return this.#poison()
    if (this.#earlier.length > 0 && random() < 0.05) {
      return this.#earlier[Math.floor(random() * this.#earlier.length)]
    }
    if (this.#nextFirst < this.#firsts && random() < 0.8) {
      // Each day of each meter once, meters beside each other: the accounts with thresholds fill as the rest does.
      const n = this.#nextFirst++
      const day = Math.floor(n / (this.pairs * 2))
      const meter = n % (this.pairs * 2)
      return this.#statement(meter >> 1, meter % 2 === 0 ? 'ordered' : 'stated', day * SLOTS, SLOTS)
    }
    const pair = Math.floor(random() * this.pairs)
    const day = Math.floor(random() * this.#options.days)
    const kind = random()
    const count = kind < 0.4 ? 1 : kind < 0.8 ? 16 : SLOTS
    const from = count === SLOTS ? 0 : Math.floor(random() * (60 / count)) * count
    return this.#statement(pair, random() < 0.5 ? 'ordered' : 'stated', day * SLOTS + from, count)
  }

  #statement(pair: number, source: SourceName, from: number, atMost: number): Sent {
    const random = this.#random
    const [a, b] = Fleet.meters(pair)
    const meter = source === 'ordered' ? a : b
    const standing = this.valuesOf(pair, source)
    const count = Math.min(atMost, Math.floor((this.#options.nowS - this.startOf(from)) / SLOT_S))
    const values = new Int32Array(count)
    for (let i = 0; i < count; i++) {
      const was = standing[from + i]
      values[i] = was !== NONE && random() < 0.7 ? was : Math.floor(random() * 900)
    }
    // Each statement of its own second, so that none is of the same age as another.
    const version = ++this.#statements
    const block = {
      meter, start: new Date(this.startOf(from) * 1000).toISOString(), intervalSeconds: SLOT_S,
      ...(count === 1 ? { value: values[0] / 1000 } : { values: Array.from(values, (wh) => wh / 1000) }),
      ...(source === 'stated' ? { capturedAt: new Date((this.startOf(0) + version) * 1000).toISOString() } : {}),
    }
    const sent: Sent = {
      value: JSON.stringify(block), key: meter, headers: { source }, onDelivered: () => this.#apply(pair, source, from, values, version),
      ...(source === 'stated' ? { partition: Math.floor(random() * this.#options.partitions) } : {}),
    }
    if (this.#earlier.length < 2000) this.#earlier.push(sent)
    else if (random() < 0.1) this.#earlier[Math.floor(random() * this.#earlier.length)] = sent
    return sent
  }

  #apply(pair: number, source: SourceName, from: number, values: Int32Array, version: number): void {
    const sums = this.sums[source]
    const standing = this.valuesOf(pair, source)
    const at = pair * this.#options.days * SLOTS
    this.messages++
    sums.received += values.length
    this.reads += values.length
    for (let i = 0; i < values.length; i++) {
      const was = standing[from + i]
      if (was === NONE) sums.stored++
      if (source === 'stated') {
        // In which order the partitions are read is open; what stands is not.
        if (this.#versions[at + from + i] > version) continue
        this.#versions[at + from + i] = version
      }
      standing[from + i] = values[i]
    }
  }

  #poison(): Sent {
    const text = String(Math.floor(this.#random() * 1e9))
    return {
      value: `{"meter":"F0-A","values":[${text},`, headers: { source: 'ordered' }, key: `poison-${text}`,
      onDelivered: () => {
        this.messages++
        this.sums.ordered.received++
        this.sums.ordered.quarantined++
      },
    }
  }
}

function noSums(): Sums {
  return { received: 0, stored: 0, quarantined: 0 }
}
