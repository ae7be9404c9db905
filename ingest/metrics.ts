import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { Receipt } from '../engine/receipt.js'
import type { TaskAnswer } from './task.js'

/** What the metrics need to know of a delivery, or a part of one, beside its answer. */
export interface SettledPart {
  deliveryId: string
  bytes: number
  /** The receipt after the part before; null for the first. */
  before: Receipt | null
}

const OUTCOMES = ['stored', 'duplicate', 'corrected', 'outranked', 'quarantined', 'rejected'] as const
const REASONS = ['inflight', 'too-large', 'too-slow', 'key-in-use'] as const

/** Metrics of the way from door to commit: in, out by outcome, seconds, lag (style.md §7). Label sets are closed. */
export class IngestMetrics {
  readonly #bytes: Counter
  readonly #deliveries: Counter<'outcome'>
  readonly #reads: Counter<'outcome'>
  readonly #refused: Counter<'reason'>
  readonly #decode: Histogram
  readonly #settle: Histogram
  readonly #group: Histogram
  readonly #lag: Gauge

  constructor(registry: Registry, inflightBytes: () => number, queued: () => number) {
    const registers = [registry]
    const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
    this.#bytes = new Counter({ name: 'meterline_ingest_bytes_total', help: 'Bytes of bodies taken to settlement', registers })
    this.#deliveries = new Counter({
      name: 'meterline_ingest_deliveries_total', help: 'Deliveries (parts of large ones) by outcome', labelNames: ['outcome'], registers })
    this.#reads = new Counter({
      name: 'meterline_ingest_reads_total', help: 'Reads by outcome, as in the receipts', labelNames: ['outcome'], registers })
    this.#refused = new Counter({
      name: 'meterline_ingest_refused_total', help: 'Pushes refused at the door', labelNames: ['reason'], registers })
    // From the start on, so that the first of its kind is an increase already.
    for (const outcome of ['settled', 'repeated', 'refused', 'unavailable']) this.#deliveries.inc({ outcome }, 0)
    for (const outcome of OUTCOMES) this.#reads.inc({ outcome }, 0)
    for (const reason of REASONS) this.#refused.inc({ reason }, 0)
    this.#decode = new Histogram({ name: 'meterline_ingest_decode_seconds', help: 'Decoding of a task', buckets: seconds, registers })
    this.#settle = new Histogram({ name: 'meterline_ingest_settle_seconds', help: 'Settling of a task, commit included', buckets: seconds, registers })
    this.#group = new Histogram({
      name: 'meterline_ingest_group_deliveries', help: 'Deliveries that shared a transaction', buckets: [1, 2, 5, 10, 20, 50, 100, 200], registers })
    this.#lag = new Gauge({
      name: 'meterline_ingest_lag_seconds', help: 'Age of the newest read at its commit, last delivery', registers })
    new Gauge({
      name: 'meterline_ingest_inflight_bytes', help: 'Bytes accepted and not yet settled', registers,
      collect() { this.set(inflightBytes()) },
    })
    new Gauge({
      name: 'meterline_ingest_queued_deliveries', help: 'Deliveries that wait for a worker', registers,
      collect() { this.set(queued()) },
    })
  }

  refused(reason: (typeof REASONS)[number]): void {
    this.#refused.inc({ reason })
  }

  /** Counts what a task came to. @param parts its deliveries, or parts of them, in the order of the answer */
  settled(answer: TaskAnswer, parts: readonly SettledPart[]): void {
    this.#group.observe(parts.length)
    this.#decode.observe(answer.decodeS)
    this.#settle.observe(answer.settleS)
    answer.deliveries.forEach((d, i) => {
      const { deliveryId, bytes, before } = parts[i]
      this.#bytes.inc(bytes)
      const repeated = d.receipt !== null && d.receipt.delivery !== deliveryId
      this.#deliveries.inc({
        outcome: repeated ? 'repeated' : d.receipt !== null ? 'settled' : d.error?.status === 503 ? 'unavailable' : 'refused' })
      // The receipt of a repeated push was counted when it was first given.
      if (d.receipt === null || repeated) return
      for (const outcome of OUTCOMES) {
        // The receipt of a part has all parts up to it.
        const reads = d.receipt[outcome] - (before?.[outcome] ?? 0)
        if (reads > 0) this.#reads.inc({ outcome }, reads)
      }
      if (d.receipt.to !== null) this.#lag.set((Date.now() - Date.parse(d.receipt.to)) / 1000)
    })
  }
}
