import type { EventEmitter } from 'node:events'
import type * as RdKafka from 'node-rdkafka'
import type { ConsumerGlobalConfig, KafkaConsumer, LibrdKafkaError, Message, Metadata, Producer, ProducerGlobalConfig } from 'node-rdkafka'

/**
 * The Kafka client behind a port of a few methods: node-rdkafka, an optional dependency that needs a C++ compiler when it
 * is installed.
 */

/** What of the module is used. */
export type KafkaModule = Pick<typeof RdKafka, 'KafkaConsumer' | 'Producer' | 'features'>

/** What of the settings the client needs (engine/config.ts). */
export interface KafkaSettings {
  readonly kafkaBrokers: readonly string[]
  readonly kafkaTopic: string
  readonly kafkaGroup: string
  readonly kafkaSessionSeconds: number
  readonly kafkaSecurityProtocol: 'plaintext' | 'ssl' | 'sasl_plaintext' | 'sasl_ssl'
  readonly kafkaSaslMechanism: string
  readonly kafkaSaslUsername: string | null
  readonly kafkaSaslPassword: string | null
  readonly kafkaSslCaLocation: string | null
  readonly kafkaSslCertificateLocation: string | null
  readonly kafkaSslKeyLocation: string | null
  readonly kafkaSslKeyPassword: string | null
}

/** Thrown where the door cannot start, with what is wrong: the client's absence, brokers, credentials, topic or group. */
export class KafkaRefusal extends Error {
  readonly part: 'client' | 'settings' | 'broker' | 'credentials' | 'topic' | 'group'
  constructor(part: KafkaRefusal['part'], message: string) {
    super(message)
    this.name = 'KafkaRefusal'
    this.part = part
  }
}

export interface PartitionOffset {
  partition: number
  offset: number
}

/** A consumer of one topic in a group. Its answers come in the order of the questions. */
export interface KafkaClient {
  /** Up to `max` messages; none after a tenth of a second without any. */
  fetch(max: number): Promise<Message[]>
  /** Answers the group's assignment: reads these partitions from those offsets. */
  assign(from: readonly PartitionOffset[]): void
  /** Answers the group's revocation. */
  unassign(partitions: readonly number[]): void
  pause(partitions: readonly number[]): void
  resume(partitions: readonly number[]): void
  seek(to: PartitionOffset): Promise<void>
  /** First and next offset that the broker has, asked of it. */
  watermarks(partition: number): Promise<{ low: number; high: number }>
  /** Next offset of the partition as the last fetch told it; undefined before one. */
  end(partition: number): number | undefined
  /** Tells the broker how far the group is: for lag tools, nothing relies on it. */
  hint(at: readonly PartitionOffset[]): void
  close(): Promise<void>
}

export interface KafkaEvents {
  onAssign: (partitions: number[]) => void
  onRevoke: (partitions: number[]) => void
  /** What the client says of its connections; it goes on trying. `isDown` where it has none left. */
  onError: (err: LibrdKafkaError, isDown: boolean) => void
}

const CONNECT_MS = 10_000
const ASK_MS = 5000
const GROUP_MS = 30_000
const GROUP_RETRY_MS = 500
const FETCH_MS = 100
/** librdkafka's error codes. */
const ASSIGN = -175
const REVOKE = -174
const ALL_BROKERS_DOWN = -187
/** What the client's log says of a connection that failed. */
const CREDENTIALS = /SASL|authentication/i
const TLS = /SSL|TLS|certificate/i
const RIGHTS = /authorization failed/i
const MET = 20
/** The group's broker is being found: load in progress, not available, not (yet) the coordinator. */
const COORDINATOR_CODES = new Set([14, 15, 16])

/** node-rdkafka, loaded when it is needed. @throws KafkaRefusal where it was not built at the install */
export async function loadKafka(): Promise<KafkaModule> {
  try {
    return (await import('node-rdkafka')).default
  } catch (err) {
    throw new KafkaRefusal('client', 'KAFKA_BROKERS is set, and the Kafka client node-rdkafka is not there: it is compiled at ' +
      `npm ci, which needs a C++ compiler, make and python3. Install them and run npm ci again. (${err instanceof Error ? err.message.split('\n')[0] : String(err)})`)
  }
}

/** The client's error as one that can be thrown. */
export function asError(err: LibrdKafkaError): Error {
  return Object.assign(new Error(err.message), { code: err.code })
}

/** What consumers and producers have in common: brokers and security. */
export function connectionConfig(settings: KafkaSettings): ProducerGlobalConfig & ConsumerGlobalConfig {
  const config: Record<string, unknown> = {
    'client.id': 'meterline',
    'metadata.broker.list': settings.kafkaBrokers.join(','),
    'security.protocol': settings.kafkaSecurityProtocol,
    'socket.keepalive.enable': true,
    // After an outage of the broker, or of one of many, reads should come again within seconds.
    'reconnect.backoff.max.ms': 2000,
  }
  const put = (name: string, value: string | null): void => {
    if (value !== null) config[name] = value
  }
  if (settings.kafkaSecurityProtocol.startsWith('sasl')) {
    config['sasl.mechanisms'] = settings.kafkaSaslMechanism
    put('sasl.username', settings.kafkaSaslUsername)
    put('sasl.password', settings.kafkaSaslPassword)
  }
  if (settings.kafkaSecurityProtocol.endsWith('ssl')) {
    put('ssl.ca.location', settings.kafkaSslCaLocation)
    put('ssl.certificate.location', settings.kafkaSslCertificateLocation)
    put('ssl.key.location', settings.kafkaSslKeyLocation)
    put('ssl.key.password', settings.kafkaSslKeyPassword)
  }
  return config
}

/** Joins the group of the settings on their topic. @throws KafkaRefusal that names what is wrong */
export async function openKafkaClient(settings: KafkaSettings, events: KafkaEvents): Promise<KafkaClient> {
  const kafka = await loadKafka()
  const topic = settings.kafkaTopic
  const config: ConsumerGlobalConfig = {
    ...connectionConfig(settings),
    'group.id': settings.kafkaGroup,
    'session.timeout.ms': settings.kafkaSessionSeconds * 1000,
    'heartbeat.interval.ms': Math.max(100, Math.floor(settings.kafkaSessionSeconds * 1000 / 10)),
    'partition.assignment.strategy': 'cooperative-sticky',
    // Positions stand in PostgreSQL: what the broker keeps is a hint.
    'enable.auto.commit': false,
    'enable.auto.offset.store': false,
    // Ends a fetch at the end of a partition, rather than when as many as asked for have come.
    'enable.partition.eof': true,
    // What is read ahead costs the client some 500 bytes a message beside the message: little, and of few partitions at a time,
    // so that behind a backlog much of one partition settles together and a meter's day is written once for many reads. An
    // answer's bytes are as the broker has them, compressed: a megabyte is tens of thousands of messages.
    'queued.max.messages.kbytes': 4 * 1024,
    'queued.min.messages': 20_000,
    // Else a partition is not asked for a second once so much is there.
    'fetch.queue.backoff.ms': 10,
    'fetch.message.max.bytes': 1024 * 1024,
    'fetch.max.bytes': 1024 * 1024,
    'fetch.wait.max.ms': 100,
    'fetch.error.backoff.ms': 200,
    'rebalance_cb': (err: LibrdKafkaError, assignment: { topic: string; partition: number }[]): void => {
      const partitions = assignment.filter((a) => a.topic === topic).map((a) => a.partition)
      if (err.code === ASSIGN) events.onAssign(partitions)
      else if (err.code === REVOKE) events.onRevoke(partitions)
      else events.onError(err, false)
    },
  }
  let consumer: KafkaConsumer
  try {
    // A position that the broker does not have is a fault to be told, not to be jumped over.
    consumer = new kafka.KafkaConsumer(config, { 'auto.offset.reset': 'error' })
  } catch (err) {
    throw new KafkaRefusal('settings', `The Kafka client does not take its settings: ${err instanceof Error ? err.message : String(err)}`)
  }
  const met: string[] = []
  const listened = listen(consumer, met)
  try {
    const metadata = await connect(consumer, topic, settings, met)
    checkTopic(metadata, topic, settings)
    await checkGroup(consumer, topic, settings, met)
  } catch (err) {
    await new Promise<void>((done) => {
      if (consumer.isConnected()) consumer.disconnect(() => done())
      else done()
    })
    throw err
  }
  listened()
  consumer.on('event.error', (err) => events.onError(err, isAllBrokersDown(err)))
  consumer.setDefaultConsumeTimeout(FETCH_MS)
  consumer.subscribe([topic])
  return clientOf(consumer, topic)
}

/**
 * A producer to the topic of the settings: idempotent, so that a message stands once and in order, and with lz4 where the
 * client was built with it. @throws KafkaRefusal that names what is wrong
 */
export async function openKafkaProducer(settings: KafkaSettings): Promise<Producer> {
  const kafka = await loadKafka()
  let producer: Producer
  try {
    producer = new kafka.Producer({
      ...connectionConfig(settings), 'enable.idempotence': true, 'dr_cb': true, 'linger.ms': 20, 'queue.buffering.max.kbytes': 64 * 1024,
      'compression.codec': kafka.features.includes('lz4') ? 'lz4' : 'none',
    }, {})
  } catch (err) {
    throw new KafkaRefusal('settings', `The Kafka client does not take its settings: ${err instanceof Error ? err.message : String(err)}`)
  }
  const met: string[] = []
  listen(producer, met)
  try {
    checkTopic(await connect(producer, settings.kafkaTopic, settings, met), settings.kafkaTopic, settings)
  } catch (err) {
    await new Promise<void>((done) => {
      if (producer.isConnected()) producer.disconnect(() => done())
      else done()
    })
    throw err
  }
  producer.setPollInterval(50)
  return producer
}

function connect(client: KafkaConsumer | Producer, topic: string, settings: KafkaSettings, met: readonly string[]): Promise<Metadata> {
  return new Promise((resolve, reject) => {
    client.connect({ topic, allTopics: false, timeout: CONNECT_MS }, (err: LibrdKafkaError | null, metadata: Metadata) => {
      if (err === null || err === undefined) resolve(metadata)
      else reject(refusalOf(err, settings, met))
    })
  })
}

function refusalOf(err: LibrdKafkaError, settings: KafkaSettings, met: readonly string[]): KafkaRefusal {
  const brokers = settings.kafkaBrokers.join(', ')
  const all = [...met, plain(err)]
  const credential = all.find((text) => CREDENTIALS.test(text))
  if (credential !== undefined) {
    return new KafkaRefusal('credentials', `Kafka at ${brokers} refuses the credentials (${credential}): check KAFKA_SASL_USERNAME, ` +
      'KAFKA_SASL_PASSWORD, KAFKA_SASL_MECHANISM and KAFKA_SECURITY_PROTOCOL')
  }
  const tls = all.find((text) => TLS.test(text))
  if (tls !== undefined) {
    return new KafkaRefusal('credentials', `Kafka at ${brokers} and the TLS settings do not agree (${tls}): check KAFKA_SECURITY_PROTOCOL and KAFKA_SSL_*`)
  }
  return new KafkaRefusal('broker', `No Kafka broker answers at ${brokers} (${all[0]}): check KAFKA_BROKERS and KAFKA_SECURITY_PROTOCOL, and that a broker runs there`)
}

/** A client's error without what it may quote of the configuration. */
function plain(err: LibrdKafkaError): string {
  return err.message.split('\n')[0].slice(0, 200)
}

/** Collects why connections fail: of its log, because the client's events tell neither code nor reason. */
function listen(client: Pick<EventEmitter, 'on' | 'off'>, met: string[]): () => void {
  const onLog = ({ fac, message }: { fac: string; message: string }): void => {
    if (fac === 'FAIL' && met.length < MET) met.push(message.replace(/^(\[thrd:[^\]]*\]: )?(\S+: )?/, '').replace(/ \(after [^)]*\)$/, '').slice(0, 200))
  }
  const onError = (err: LibrdKafkaError): void => {
    if (RIGHTS.test(err.message)) met.push(plain(err))
  }
  client.on('event.log', onLog)
  client.on('event.error', onError)
  return () => {
    client.off('event.log', onLog)
    client.off('event.error', onError)
  }
}

/** node-rdkafka gives events the code -1 and the error's text in small letters. */
function isAllBrokersDown(err: LibrdKafkaError): boolean {
  return err.code === ALL_BROKERS_DOWN || err.message.toLowerCase().includes('all broker connections are down')
}

function checkTopic(metadata: Metadata, topic: string, settings: KafkaSettings): void {
  const found = metadata.topics.find((t) => t.name === topic)
  if (found !== undefined && found.partitions.length > 0) return
  throw new KafkaRefusal('topic', `Kafka at ${settings.kafkaBrokers.join(', ')} has no topic ${topic}, or does not show it to ` +
    `${settings.kafkaSaslUsername ?? 'this client'}: make it, or check KAFKA_TOPIC and the broker's access rules`)
}

async function checkGroup(consumer: KafkaConsumer, topic: string, settings: KafkaSettings, met: readonly string[]): Promise<void> {
  for (const began = Date.now(); ;) {
    const err = await new Promise<LibrdKafkaError | null>((resolve) => {
      consumer.committed([{ topic, partition: 0 }], CONNECT_MS, (fault: LibrdKafkaError | null | undefined) => resolve(fault ?? null))
    })
    if (err === null) return
    // A broker that has just started says so for some seconds.
    if (!COORDINATOR_CODES.has(err.code) || Date.now() - began > GROUP_MS) {
      throw new KafkaRefusal('group',
        `Kafka does not let this client into the group ${settings.kafkaGroup} (${met.find((text) => RIGHTS.test(text)) ?? plain(err)}): check KAFKA_GROUP and the broker's access rules`)
    }
    await new Promise((resolve) => setTimeout(resolve, GROUP_RETRY_MS))
  }
}

function clientOf(consumer: KafkaConsumer, topic: string): KafkaClient {
  const named = (partitions: readonly number[]): { topic: string; partition: number }[] => partitions.map((partition) => ({ topic, partition }))
  const offsets = (from: readonly PartitionOffset[]): { topic: string; partition: number; offset: number }[] => from.map((f) => ({ topic, ...f }))
  return {
    fetch: (max) => new Promise((resolve, reject) => {
      consumer.consume(max, (err, messages) => {
        if (err === null || err === undefined) resolve(messages)
        else reject(asError(err))
      })
    }),
    assign: (from) => void consumer.incrementalAssign(offsets(from)),
    unassign: (partitions) => void consumer.incrementalUnassign(named(partitions)),
    pause: (partitions) => void (partitions.length > 0 && consumer.pause(named(partitions))),
    resume: (partitions) => void (partitions.length > 0 && consumer.resume(named(partitions))),
    seek: (to) => new Promise((resolve, reject) => {
      consumer.seek({ topic, ...to }, ASK_MS, (err) => {
        if (err === null || err === undefined) resolve()
        else reject(asError(err))
      })
    }),
    watermarks: (partition) => new Promise((resolve, reject) => {
      consumer.queryWatermarkOffsets(topic, partition, ASK_MS, (err, { lowOffset, highOffset } = { lowOffset: 0, highOffset: 0 }) => {
        if (err === null || err === undefined) resolve({ low: lowOffset, high: highOffset })
        else reject(asError(err))
      })
    }),
    end: (partition) => {
      try {
        const { highOffset } = consumer.getWatermarkOffsets(topic, partition)
        return highOffset >= 0 ? highOffset : undefined
      } catch {
        return undefined
      }
    },
    hint: (at) => {
      if (at.length === 0) return
      try {
        consumer.commit(offsets(at))
      } catch {
        // A group that is being rebalanced takes none: the next hint will do.
      }
    },
    close: () => new Promise((resolve) => consumer.disconnect(() => resolve())),
  }
}
