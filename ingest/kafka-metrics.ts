import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

/** What the gauges ask when they are read. */
export interface KafkaGauges {
  lags: () => { partition: number; lag: number }[]
  states: () => Record<'claiming' | 'active' | 'stopped', number>
  paused: () => boolean
  up: () => boolean
}

/** Metrics of the Kafka door. */
export class KafkaMetrics {
  readonly #batch: Histogram
  readonly #messages: Counter
  readonly #rebalances: Counter<'kind'>
  readonly #dead: Counter
  readonly #published: Counter<'outcome'>
  readonly #fenced: Counter
  readonly #retries: Counter

  constructor(registry: Registry, gauges: KafkaGauges) {
    const registers = [registry]
    this.#batch = new Histogram({
      name: 'meterline_kafka_batch_messages', help: 'Messages of a partition that settled together', registers,
      buckets: [1, 10, 100, 500, 1000, 2500, 5000, 10_000, 20_000] })
    this.#messages = new Counter({ name: 'meterline_kafka_messages_total', help: 'Messages settled, dead letters included', registers })
    this.#rebalances = new Counter({
      name: 'meterline_kafka_rebalances_total', help: 'Partitions that the group gave to or took from this process', labelNames: ['kind'], registers })
    this.#dead = new Counter({ name: 'meterline_kafka_dead_letters_total', help: 'Messages that could not be read', registers })
    this.#published = new Counter({
      name: 'meterline_kafka_dead_letters_published_total', help: 'Dead letters by whether the dead topic took them', labelNames: ['outcome'], registers })
    this.#fenced = new Counter({
      name: 'meterline_kafka_fenced_total', help: 'Batches dropped because another owner has the partition', registers })
    this.#retries = new Counter({ name: 'meterline_kafka_retries_total', help: 'Batches tried again, mostly because the database was away', registers })
    new Gauge({
      name: 'meterline_kafka_lag_messages', help: 'Messages of the partition that are not settled yet', labelNames: ['partition'], registers,
      collect() {
        this.reset()
        for (const { partition, lag } of gauges.lags()) this.set({ partition }, lag)
      },
    })
    new Gauge({
      name: 'meterline_kafka_partitions', help: 'Partitions assigned to this process, by state', labelNames: ['state'], registers,
      collect() {
        for (const [state, n] of Object.entries(gauges.states())) this.set({ state }, n)
      },
    })
    new Gauge({
      name: 'meterline_kafka_up', help: '0 while no broker can be reached', registers,
      collect() { this.set(gauges.up() ? 1 : 0) },
    })
    new Gauge({
      name: 'meterline_kafka_paused', help: '1 while fetching is paused at the memory bound', registers,
      collect() { this.set(gauges.paused() ? 1 : 0) },
    })
  }

  rebalanced(kind: 'assigned' | 'revoked', partitions: number): void {
    this.#rebalances.inc({ kind }, partitions)
  }

  settled(messages: number, deadLetters: number): void {
    this.#batch.observe(messages)
    this.#messages.inc(messages)
    if (deadLetters > 0) this.#dead.inc(deadLetters)
  }

  fenced(): void {
    this.#fenced.inc()
  }

  retried(): void {
    this.#retries.inc()
  }

  published(done: number, failed: number): void {
    if (done > 0) this.#published.inc({ outcome: 'taken' }, done)
    if (failed > 0) this.#published.inc({ outcome: 'refused' }, failed)
  }
}
