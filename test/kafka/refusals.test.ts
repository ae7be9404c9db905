import { createServer, type Server } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { KafkaRefusal, openKafkaClient, type KafkaSettings } from '../../ingest/kafka-client.js'
import { SASL_PASSWORD, SASL_USER, type KafkaBroker } from '../../fixtures/kafka/broker.js'
import { missing, startBus, type Bus } from './bus.js'

// The mock cluster knows nothing of rights and credentials.
describe.skipIf(missing !== null)('a Kafka door that cannot be opened says', () => {
  let bus: Bus
  let broker: KafkaBroker
  /** Accepts connections and says nothing. */
  let silent: Server

  beforeAll(async () => {
    bus = await startBus({
      properties: {
        'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer', 'super.users': 'User:ANONYMOUS', 'allow.everyone.if.no.acl.found': 'true',
      },
    })
    broker = bus.broker!
    await Promise.all([bus.topic('meter-reads'), bus.topic('ledger')])
    await broker.allow('User:billing', ['topic', 'ledger'], ['group', 'billing'])
    silent = createServer(() => undefined)
    await new Promise<void>((done) => silent.listen(0, '127.0.0.1', done))
  })
  afterAll(async () => {
    silent?.close()
    await bus?.close()
  })

  const plain = (more: Partial<KafkaSettings> = {}): KafkaSettings => ({
    kafkaBrokers: [broker.address], kafkaTopic: 'meter-reads', kafkaGroup: 'meterline', kafkaSessionSeconds: 6, kafkaSecurityProtocol: 'plaintext',
    kafkaSaslMechanism: 'PLAIN', kafkaSaslUsername: null, kafkaSaslPassword: null, kafkaSslCaLocation: null, kafkaSslCertificateLocation: null,
    kafkaSslKeyLocation: null, kafkaSslKeyPassword: null, ...more,
  })
  const withPassword = (kafkaSaslPassword: string, more: Partial<KafkaSettings> = {}): KafkaSettings => plain({
    kafkaBrokers: [broker.saslAddress], kafkaSecurityProtocol: 'sasl_plaintext', kafkaSaslUsername: SASL_USER, kafkaSaslPassword, ...more })

  async function open(settings: KafkaSettings): Promise<void> {
    const client = await openKafkaClient(settings, { onAssign: () => undefined, onRevoke: () => undefined, onError: () => undefined })
    await client.close()
  }

  /** What is wrong, by its part and in words. */
  async function refusal(settings: KafkaSettings): Promise<{ part: string; message: string }> {
    try {
      await open(settings)
    } catch (err) {
      if (err instanceof KafkaRefusal) return { part: err.part, message: err.message }
      throw err
    }
    throw new Error('it opened')
  }

  // Not beside the others: a client that waits for a broker in vain holds one of the process's four threads for such calls.
  it('nothing where all is right, with credentials and without', async () => {
    await open(plain())
    await open(withPassword(SASL_PASSWORD))
  })

  it.concurrent('that no broker answers', async () => {
    const port = (silent.address() as { port: number }).port
    expect(await refusal(plain({ kafkaBrokers: ['127.0.0.1:1'] }))).toEqual({
      part: 'broker', message: expect.stringMatching(/^No Kafka broker answers at 127\.0\.0\.1:1 \(.*refused.*\): check KAFKA_BROKERS/) as string })
    expect(await refusal(plain({ kafkaBrokers: [`127.0.0.1:${port}`] }))).toMatchObject({ part: 'broker', message: expect.stringContaining(`127.0.0.1:${port}`) as string })
  }, 60_000)

  it.concurrent('that the topic is not there, or not for it', async () => {
    expect(await refusal(plain({ kafkaTopic: 'meter-redes' }))).toEqual({ part: 'topic',
      message: `Kafka at ${broker.address} has no topic meter-redes, or does not show it to this client: make it, or check KAFKA_TOPIC and the broker's access rules` })
    expect(await refusal(withPassword(SASL_PASSWORD, { kafkaTopic: 'ledger' }))).toEqual({ part: 'topic', message: expect.stringContaining(
      `has no topic ledger, or does not show it to ${SASL_USER}: make it, or check KAFKA_TOPIC and the broker's access rules`) as string })
  })

  it.concurrent('that the group is not for it', async () => {
    expect(await refusal(withPassword(SASL_PASSWORD, { kafkaGroup: 'billing' }))).toEqual({ part: 'group', message: expect.stringMatching(
      /^Kafka does not let this client into the group billing \(.*\): check KAFKA_GROUP and the broker's access rules$/) as string })
  }, 60_000)

  it.concurrent('that the credentials are refused, without saying them', async () => {
    const { part, message } = await refusal(withPassword('wrong-secret'))
    expect({ part, message }).toEqual({ part: 'credentials', message: expect.stringMatching(
      /^Kafka at \S+ refuses the credentials \(.*\): check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD, KAFKA_SASL_MECHANISM and KAFKA_SECURITY_PROTOCOL$/) as string })
    expect(message).not.toContain('wrong-secret')
    expect(await refusal(withPassword(SASL_PASSWORD, { kafkaSaslMechanism: 'SCRAM-SHA-256' }))).toMatchObject({ part: 'credentials' })
  }, 60_000)

  it.concurrent('that the broker and the security settings do not agree', async () => {
    expect(await refusal(plain({ kafkaSecurityProtocol: 'ssl' }))).toEqual({ part: 'credentials', message: expect.stringMatching(
      /^Kafka at \S+ and the TLS settings do not agree \(.*\): check KAFKA_SECURITY_PROTOCOL and KAFKA_SSL_\*$/) as string })
    expect(await refusal(plain({ kafkaBrokers: [broker.saslAddress] }))).toMatchObject({ message: expect.stringContaining('KAFKA_SECURITY_PROTOCOL') as string })
    expect(await refusal(withPassword(SASL_PASSWORD, { kafkaBrokers: [broker.address] }))).toMatchObject({ message: expect.stringContaining('KAFKA_SECURITY_PROTOCOL') as string })
  }, 60_000)
})
