import { createRequire } from 'node:module'
import type * as RdKafka from 'node-rdkafka'
import type { LibrdKafkaError, Message, Metadata, MessageHeader, Producer } from 'node-rdkafka'
import { asError } from '../../ingest/kafka-client.js'
import { brokerMissing, KafkaBroker, type BrokerOptions } from '../../fixtures/kafka/broker.js'

const kafka = createRequire(import.meta.url)('node-rdkafka') as typeof RdKafka

/** A message as tests send it. */
export interface Sent {
  value: string | Buffer | null
  key?: string
  headers?: Record<string, string>
  partition?: number
  timestamp?: number
  /** Told once the broker has it; not where it never took it, as may be while it restarts. */
  onDelivered?: (at: { partition: number; offset: number }) => void
}

/** A message as tests read it back. */
export interface Received {
  value: string
  key: string | null
  headers: Record<string, string>
  partition: number
  offset: number
}

/** What a test talks Kafka with: a real broker where one can be started, librdkafka's mock cluster elsewhere. */
export interface Bus {
  readonly brokers: string
  /** For the test's name. */
  readonly kind: string
  readonly broker: KafkaBroker | null
  topic(name: string, partitions?: number): Promise<void>
  send(topic: string, messages: readonly Sent[]): Promise<void>
  /** All messages that the topic holds now. */
  read(topic: string): Promise<Received[]>
  close(): Promise<void>
}

/** Where a message stands; null: the broker did not take it. */
type Told = (at: { partition: number; offset: number } | null) => void

/** Why tests run on the mock cluster; null where they run on a real broker. */
export const missing = await brokerMissing()
/** For names of tests: what they run on. */
export const busName = missing === null ? 'on Apache Kafka' : `on librdkafka's mock cluster, because ${missing}`

/** What tests run on that are to hold on both: the mock cluster, and a real broker where one can be started. */
export const kinds = missing === null ? [{ mock: false, on: 'on Apache Kafka' }, { mock: true, on: "on librdkafka's mock cluster" }] : [{ mock: true, on: busName }]

/** Starts what tests talk to. @param mock the mock cluster also where a broker could be had */
export async function startBus(options: BrokerOptions & { mock?: boolean } = {}): Promise<Bus> {
  if (missing !== null || options.mock === true) return mockBus()
  const broker = await KafkaBroker.start(options)
  const producer = await connected(new kafka.Producer({ 'metadata.broker.list': broker.address, 'enable.idempotence': true, 'linger.ms': 5, 'dr_cb': true }, {}))
  return busOn(broker.address, 'Apache Kafka', broker, producer, async (name, partitions) => {
    const admin = kafka.AdminClient.create({ 'metadata.broker.list': broker.address })
    await new Promise<void>((done, fail) => {
      admin.createTopic({ topic: name, num_partitions: partitions, replication_factor: 1 }, 15_000, (err) => err ? fail(asError(err)) : done())
    })
    admin.disconnect()
  })
}

async function mockBus(): Promise<Bus> {
  const producer = new kafka.Producer({ 'test.mock.num.brokers': 1, 'linger.ms': 5, 'dr_cb': true } as object, {})
  await connected(producer)
  const metadata = await metadataOf(producer)
  const brokers = metadata.brokers.map((b) => `${b.host}:${b.port}`).join(',')
  return busOn(brokers, 'mock cluster', null, producer, async (name) => {
    // The mock makes a topic, of four partitions, when it is asked about.
    await metadataOf(producer, name)
  })
}

function busOn(brokers: string, kind: string, broker: KafkaBroker | null, producer: Producer, topic: (name: string, partitions: number) => Promise<void>): Bus {
  producer.setPollInterval(20)
  producer.on('delivery-report', (err: LibrdKafkaError | null, report) => (report.opaque as Told)(err === null || err === undefined ? report : null))
  return {
    brokers, kind, broker,
    topic: (name, partitions = 4) => topic(name, partitions),
    async send(name, messages) {
      let open = messages.length
      let reported = (): void => undefined
      const all = new Promise<void>((done) => { reported = () => void (--open === 0 && done()) })
      for (const m of messages) {
        const told: Told = (at) => {
          if (at !== null) m.onDelivered?.(at)
          reported()
        }
        const headers: MessageHeader[] = Object.entries(m.headers ?? {}).map(([key, value]) => ({ [key]: value }))
        producer.produce(name, m.partition ?? null, m.value === null ? null : Buffer.from(m.value as string), m.key ?? null, m.timestamp ?? null, told, headers)
      }
      await new Promise<void>((done, fail) => producer.flush(30_000, (err) => err ? fail(asError(err)) : done()))
      if (messages.length > 0) await all
    },
    read: (name) => readAll(brokers, name),
    async close() {
      await new Promise<void>((done) => producer.disconnect(() => done()))
      await broker?.close()
    },
  }
}

function connected(producer: Producer): Promise<Producer> {
  return new Promise((done, fail) => producer.connect({}, (err: LibrdKafkaError | null) => err ? fail(asError(err)) : done(producer)))
}

function metadataOf(producer: Producer, topic?: string): Promise<Metadata> {
  return new Promise((done, fail) => {
    producer.getMetadata(topic === undefined ? { timeout: 10_000 } : { topic, timeout: 10_000 }, (err: LibrdKafkaError, data: Metadata) => err ? fail(asError(err)) : done(data))
  })
}

async function readAll(brokers: string, topic: string): Promise<Received[]> {
  const consumer = new kafka.KafkaConsumer({
    'metadata.broker.list': brokers, 'group.id': `reader-${Math.random()}`, 'enable.auto.commit': false, 'enable.partition.eof': true }, {})
  const metadata = await new Promise<Metadata>((done, fail) => {
    consumer.connect({ topic, timeout: 10_000 }, (err: LibrdKafkaError | null, data: Metadata) => err ? fail(asError(err)) : done(data))
  })
  const partitions = metadata.topics.find((t) => t.name === topic)?.partitions.map((p) => p.id) ?? []
  consumer.setDefaultConsumeTimeout(200)
  consumer.assign(partitions.map((partition) => ({ topic, partition, offset: 0 })))
  const open = new Set(partitions)
  consumer.on('partition.eof', (at: { partition: number }) => open.delete(at.partition))
  const received: Received[] = []
  while (open.size > 0) {
    const messages = await new Promise<Message[]>((done, fail) => consumer.consume(1000, (err, some) => err ? fail(asError(err)) : done(some)))
    for (const m of messages) {
      received.push({
        value: m.value?.toString() ?? '', key: m.key?.toString() ?? null, partition: m.partition, offset: m.offset,
        headers: Object.fromEntries((m.headers ?? []).flatMap((h) => Object.entries(h).map(([k, v]) => [k, v.toString()]))),
      })
    }
  }
  await new Promise<void>((done) => consumer.disconnect(() => done()))
  return received
}
