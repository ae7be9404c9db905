import { setTimeout as delay } from 'node:timers/promises'
import type { LibrdKafkaError, Message, Producer } from 'node-rdkafka'
import { dayNumber } from '../engine/time/text.js'
import { brokerMissing, KafkaBroker } from '../fixtures/kafka/broker.js'
import { BodyWriter, createFleet, dayBlocks, meterId, type DayBlocks, type Fleet } from '../fixtures/simulator.js'
import { asError, loadKafka, openKafkaProducer, type KafkaSettings } from '../ingest/kafka-client.js'
import { Instance } from './instance.js'
import { figure, say, type Measure, type Outcome } from './report.js'
import type { ScenarioOptions } from './scenario.js'
import { spreadOf } from './statistics.js'

const METERS = 40_000
const PARTITIONS = 12
const FIRST_DAY = dayNumber('2025-03-10')
const TOPIC = 'meter-reads'
const QUEUE_FULL = -184
/** The group's patience while the server stands still and the topic is filled. */
const SESSION_S = 300
const SETTLE_MS = 300_000

interface FleetMessage { key: string; value: Buffer; reads: number }

interface Case {
  name: string
  /** Messages of sample n, from 0, the first being the warm-up. */
  messages: (fleet: Fleet, n: number) => Generator<FleetMessage>
}

const CASES: Case[] = [
  { name: 'a day of a meter, JSON', messages: (fleet, n) => dayMessages(fleet, [FIRST_DAY + 2 * n, FIRST_DAY + 2 * n + 1]) },
  { name: 'a day of 200 meters, Arrow', messages: (fleet, n) => arrowMessages(fleet, [0, 1, 2, 3].map((i) => FIRST_DAY + 100 + 4 * n + i), 200) },
  { name: 'one interval of a meter, JSON', messages: (fleet, n) => intervalMessages(fleet, FIRST_DAY + 200, 8 * n, 8) },
]

/**
 * Messages of a real Kafka broker until they are committed in PostgreSQL. The topic is filled while the server stands still;
 * then it is let go, and the clock runs until its positions are at the end. Beside it a bare consumer of the same client
 * reads the same messages in this process and does nothing with them.
 */
export async function kafka(options: ScenarioOptions): Promise<Outcome> {
  const missing = await brokerMissing()
  if (missing !== null) throw new Error(`no broker: ${missing}`)
  const fleet = createFleet({ meters: METERS, seed: 'bench', zone: 'America/Chicago', startDay: FIRST_DAY })
  const broker = await KafkaBroker.start({ heapMb: 1024 })
  // A bench that is cut short must not leave it behind.
  const end = (): void => {
    if (broker.pid !== undefined) process.kill(broker.pid, 'SIGKILL')
  }
  process.once('exit', end)
  let instance: Instance | undefined
  let producer: Producer | undefined
  try {
    await makeTopics(broker.address)
    instance = await Instance.start({
      KAFKA_BROKERS: broker.address, KAFKA_TOPIC: TOPIC, KAFKA_SESSION_SECONDS: String(SESSION_S), ...options.env }, options.nodeArgs)
    producer = await openKafkaProducer(settingsOf(broker.address))
    say(`registering ${METERS} meters`)
    await instance.register(fleet)
    const client = await instance.connect()
    await client.query('update utility set validates = false')
    await client.end()
    const run = new Run(instance, broker, producer)
    const measures: Measure[] = []
    const cases = CASES.filter(({ name }) => name.includes(options.only))
    for (const { name, messages } of cases) measures.push(...await run.measure(name, (n) => messages(fleet, n), options.samples))
    measures.push({ name: 'RSS of the server, peak', unit: 'MB', spread: spreadOf([instance.rssHighWater() / 1e6]) })
    return {
      about: `${figure(METERS)} meters, keyed by meter (Arrow by its first), ${PARTITIONS} partitions, no headers, ` +
        `${run.bytes.map((b, i) => `${cases[i].name} ${figure(b)} bytes a message`).join(', ')}. One Apache Kafka broker, server and PostgreSQL share the cores. ` +
        'The topic is filled while the server stands still; then until the positions in the database are at its end, after a checkpoint. ' +
        'The bare consumer is the same client with the same settings in the process of the bench, while the server has nothing to read; ' +
        'samples alternate with it. The first of each, which makes the channels, is not counted.',
      measures, database: await instance.facts(),
    }
  } finally {
    if (producer !== undefined) await new Promise<void>((done) => producer!.disconnect(() => done()))
    await instance?.stop(options.keep)
    await broker.close()
    process.off('exit', end)
  }
}

class Run {
  /** Mean bytes of a message, by case. */
  readonly bytes: number[] = []
  readonly #instance: Instance
  readonly #broker: KafkaBroker
  readonly #producer: Producer
  /** Next offset of each partition: what was acknowledged. */
  readonly #ends = new Array<number>(PARTITIONS).fill(0)
  #open = 0

  constructor(instance: Instance, broker: KafkaBroker, producer: Producer) {
    this.#instance = instance
    this.#broker = broker
    this.#producer = producer
    producer.on('delivery-report', (err: LibrdKafkaError | null, report) => {
      if (err !== null && err !== undefined) throw asError(err)
      this.#open--
      this.#ends[report.partition] = Math.max(this.#ends[report.partition], report.offset + 1)
    })
  }

  async measure(name: string, messages: (n: number) => Generator<FleetMessage>, samples: number): Promise<Measure[]> {
    const reads: number[] = []
    const rate: number[] = []
    const bareReads: number[] = []
    const bareRate: number[] = []
    const cpu: { server: number[]; database: number[] } = { server: [], database: [] }
    for (let n = 0; n <= samples; n++) {
      const client = await this.#instance.connect()
      try {
        await until('the topic is read', async () => await this.#position(client) === sum(this.#ends))
        this.#instance.freeze(true)
        const from = [...this.#ends]
        const filled = await this.#fill(messages(n))
        await client.query('checkpoint')
        const before = this.#instance.cpu()
        const began = performance.now()
        this.#instance.freeze(false)
        await until('the topic is settled', async () => await this.#position(client) === sum(this.#ends))
        const seconds = (performance.now() - began) / 1000
        const after = this.#instance.cpu()
        await this.#check(client, filled.reads)
        const bare = await bareConsumer(this.#broker.address, from, filled.messages)
        const used = { server: after.server - before.server, database: after.database - before.database }
        say(`${name}, ${n === 0 ? 'warm-up' : `sample ${n}`}: ${filled.messages} messages, ${figure(filled.reads / seconds)} reads/s, ` +
          `${figure(filled.messages / seconds)} messages/s; bare ${figure(filled.messages / bare)} messages/s; ` +
          `CPU s per M reads: server ${figure(used.server / filled.reads * 1e6)}, database ${figure(used.database / filled.reads * 1e6)}`)
        if (n === 0) continue
        if (n === 1) this.bytes.push(filled.bytes / filled.messages)
        reads.push(filled.reads / seconds)
        rate.push(filled.messages / seconds)
        bareReads.push(filled.reads / bare)
        bareRate.push(filled.messages / bare)
        for (const part of ['server', 'database'] as const) cpu[part].push(used[part] / filled.reads * 1e6)
      } finally {
        this.#instance.freeze(false)
        await client.end()
      }
    }
    return [
      { name: `${name}: reads`, unit: 'reads/s', spread: spreadOf(reads), floor: `${name}: bare consumer, reads` },
      { name: `${name}: bare consumer, reads`, unit: 'reads/s', spread: spreadOf(bareReads) },
      { name: `${name}: messages`, unit: 'messages/s', spread: spreadOf(rate), floor: `${name}: bare consumer, messages` },
      { name: `${name}: bare consumer, messages`, unit: 'messages/s', spread: spreadOf(bareRate) },
      { name: `${name}: CPU of the server`, unit: 's per million reads', spread: spreadOf(cpu.server) },
      { name: `${name}: CPU of the database`, unit: 's per million reads', spread: spreadOf(cpu.database) },
    ]
  }

  async #fill(messages: Generator<FleetMessage>): Promise<{ messages: number; reads: number; bytes: number }> {
    const filled = { messages: 0, reads: 0, bytes: 0 }
    for (const { key, value, reads } of messages) {
      while (!this.#produce(value, key)) {
        this.#producer.poll()
        await delay(5)
      }
      this.#open++
      filled.messages++
      filled.reads += reads
      filled.bytes += value.length
    }
    await until('the broker has them', () => {
      this.#producer.poll()
      return Promise.resolve(this.#open === 0)
    })
    return filled
  }

  #produce(value: Buffer, key: string): boolean {
    try {
      this.#producer.produce(TOPIC, null, value, key)
      return true
    } catch (err) {
      if ((err as LibrdKafkaError).code !== QUEUE_FULL) throw err
      return false
    }
  }

  async #position(client: Queryable): Promise<number> {
    const { rows: [{ sum: n }] } = await client.query<{ sum: string | null }>('select sum(next_offset) as sum from kafka_position where topic = $1', [TOPIC])
    return Number(n ?? 0)
  }

  #stored = 0

  /** @throws Error where other reads were stored than were sent */
  async #check(client: Queryable, reads: number): Promise<void> {
    const { rows: [{ stored, lost }] } = await client.query<{ stored: number; lost: number }>(
      'select sum(stored)::float8 as stored, sum(quarantined + rejected)::float8 as lost from delivery')
    if (stored - this.#stored !== reads || lost > 0) throw new Error(`${stored - this.#stored} of ${reads} reads were stored, ${lost} were not taken`)
    this.#stored = stored
  }
}

interface Queryable { query: <R extends object>(sql: string, values?: unknown[]) => Promise<{ rows: R[] }> }

function* dayMessages(fleet: Fleet, days: readonly number[]): Generator<FleetMessage> {
  const writer = new BodyWriter('ndjson', fleet.zone)
  for (const day of days) {
    const blocks = dayBlocks(fleet, day)
    for (let b = 0; b < blocks.count; b++) {
      add(writer, blocks, b, 0, blocks.grid.slots)
      yield { key: meterId(blocks.meters[b]), value: line(writer), reads: blocks.grid.slots }
    }
  }
}

function* arrowMessages(fleet: Fleet, days: readonly number[], meters: number): Generator<FleetMessage> {
  const writer = new BodyWriter('arrow', fleet.zone)
  for (const day of days) {
    for (let from = 0; from < fleet.meters; from += meters) {
      const blocks = dayBlocks(fleet, day, from, Math.min(fleet.meters, from + meters))
      for (let b = 0; b < blocks.count; b++) add(writer, blocks, b, 0, blocks.grid.slots)
      yield { key: meterId(blocks.meters[0]), value: writer.take(), reads: blocks.count * blocks.grid.slots }
    }
  }
}

function* intervalMessages(fleet: Fleet, day: number, fromSlot: number, slots: number): Generator<FleetMessage> {
  const writer = new BodyWriter('ndjson', fleet.zone)
  const blocks = dayBlocks(fleet, day)
  for (let slot = fromSlot; slot < fromSlot + slots; slot++) {
    for (let b = 0; b < blocks.count; b++) {
      add(writer, blocks, b, slot, 1)
      yield { key: meterId(blocks.meters[b]), value: line(writer), reads: 1 }
    }
  }
}

function add(writer: BodyWriter, { grid, meters, flows, values }: DayBlocks, b: number, fromSlot: number, count: number): void {
  writer.add({
    meter: meterId(meters[b]), flow: flows[b] === 1 ? 'delivered' : 'received', startS: grid.firstS + fromSlot * grid.intervalS, intervalS: grid.intervalS,
    values, from: b * grid.slots + fromSlot, count, capturedS: 0,
  }, 'offset')
}

/** The line without its end. */
function line(writer: BodyWriter): Buffer {
  return writer.take().subarray(0, -1)
}

/** Seconds that a consumer takes which throws away what it reads. */
async function bareConsumer(brokers: string, from: readonly number[], messages: number): Promise<number> {
  const { KafkaConsumer } = await loadKafka()
  const consumer = new KafkaConsumer({
    'metadata.broker.list': brokers, 'group.id': 'bare', 'enable.auto.commit': false, 'enable.partition.eof': true, 'queued.max.messages.kbytes': 4 * 1024,
    'queued.min.messages': 20_000, 'fetch.queue.backoff.ms': 10, 'fetch.max.bytes': 1024 * 1024, 'fetch.wait.max.ms': 100 }, {})
  await new Promise<void>((done, fail) => consumer.connect({}, (err: LibrdKafkaError | null) => err ? fail(asError(err)) : done()))
  try {
    consumer.setDefaultConsumeTimeout(100)
    const began = performance.now()
    consumer.assign(from.map((offset, partition) => ({ topic: TOPIC, partition, offset })))
    for (let read = 0; read < messages;) {
      const some = await new Promise<Message[]>((done, fail) => consumer.consume(10_000, (err, got) => err ? fail(asError(err)) : done(got)))
      read += some.length
    }
    return (performance.now() - began) / 1000
  } finally {
    await new Promise<void>((done) => consumer.disconnect(() => done()))
  }
}

async function makeTopics(brokers: string): Promise<void> {
  const { AdminClient } = (await import('node-rdkafka')).default
  const admin = AdminClient.create({ 'metadata.broker.list': brokers })
  for (const [topic, partitions] of [[TOPIC, PARTITIONS], [`${TOPIC}.dead`, 1]] as const) {
    await new Promise<void>((done, fail) => {
      admin.createTopic({ topic, num_partitions: partitions, replication_factor: 1 }, 15_000, (err) => err ? fail(asError(err)) : done())
    })
  }
  admin.disconnect()
}

function settingsOf(brokers: string): KafkaSettings {
  return {
    kafkaBrokers: [brokers], kafkaTopic: TOPIC, kafkaGroup: 'bench', kafkaSessionSeconds: SESSION_S, kafkaSecurityProtocol: 'plaintext',
    kafkaSaslMechanism: 'PLAIN', kafkaSaslUsername: null, kafkaSaslPassword: null, kafkaSslCaLocation: null, kafkaSslCertificateLocation: null,
    kafkaSslKeyLocation: null, kafkaSslKeyPassword: null,
  }
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const began = Date.now(); !await holds(); await delay(20)) {
    if (Date.now() - began > SETTLE_MS) throw new Error(`not so after ${SETTLE_MS} ms: ${what}`)
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0)
}
