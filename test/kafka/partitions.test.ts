import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEngine, type Engine } from '../../cli/serve.js'
import { loadSettings } from '../../engine/config.js'
import { testDatabase, type TestDatabase } from '../database.js'
import { until } from '../faults/engine-process.js'
import { busName, startBus, type Bus } from './bus.js'

const PARTITIONS = [0, 1, 2, 3]
/** Longer than any wait here: what happens is not a time-out's doing. */
const SESSION_S = 45

describe(`Kafka partitions that change hands (${busName})`, () => {
  let bus: Bus
  let database: TestDatabase
  let dir: string
  const engines = new Set<Engine>()
  const said: string[] = []

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'meterline-kafka-partitions-'))
    ;[bus, database] = await Promise.all([startBus(), testDatabase()])
  })
  afterAll(async () => {
    await Promise.all([...engines].map((engine) => engine.close()))
    await bus?.close()
    await database?.close()
    rmSync(dir, { recursive: true, force: true })
  })

  async function start(topic: string): Promise<Engine> {
    const engine = await startEngine(loadSettings({
      DATABASE_URL: database.url, METERLINE_DIR: dir, PORT: '0', UTILITY_ZONE: 'Etc/UTC', WORKERS: '1', KAFKA_BROKERS: bus.brokers, KAFKA_TOPIC: topic,
      KAFKA_SESSION_SECONDS: String(SESSION_S),
    }), new Set(['ingest', 'api']), pino({ level: 'info' }, { write: (line: string) => void said.push(line) }))
    engines.add(engine)
    return engine
  }

  function close(engine: Engine): Promise<void> {
    engines.delete(engine)
    return engine.close()
  }

  /** Messages of which each says the same: what settles is counted by positions. */
  const send = (topic: string): Promise<void> => bus.send(topic, PARTITIONS.map((partition) =>
    ({ partition, value: JSON.stringify({ meter: `M${partition}`, start: '2026-10-01T00:00:00Z', intervalSeconds: 900, values: [partition] }) })))

  async function positions(topic: string): Promise<Record<number, number>> {
    const { rows } = await database.pool.query<{ partition: number; next: number }>(
      'select kafka_partition as partition, next_offset as next from kafka_position where topic = $1', [topic])
    return Object.fromEntries(rows.map((r) => [r.partition, r.next]))
  }

  async function metrics(engine: Engine, name: string): Promise<string[]> {
    return (await (await fetch(`${engine.url}/metrics`)).text()).split('\n').filter((line) => line.startsWith(name)).sort()
  }

  it('are read while a transaction of a former owner still holds one of them, and show its lag', async () => {
    const topic = 'held'
    await Promise.all([bus.topic(topic), bus.topic(`${topic}.dead`, 1)])
    await database.pool.query(
      `insert into kafka_position (consumer_group, topic, kafka_partition, epoch, next_offset) select 'meterline', $1, p, 1, 0 from unnest($2::int[]) p`, [topic, PARTITIONS])
    const former = await database.pool.connect()
    let engine: Engine
    try {
      await former.query('begin')
      await former.query('select from kafka_position where topic = $1 and kafka_partition = 2 for update', [topic])
      engine = await start(topic)
      await send(topic)
      await until('the others are settled', async () => Object.values(await positions(topic)).reduce((a, b) => a + b) === 3)
      expect(await positions(topic)).toEqual({ 0: 1, 1: 1, 2: 0, 3: 1 })
      expect(await metrics(engine, 'meterline_kafka_partitions{')).toEqual(
        ['meterline_kafka_partitions{state="active"} 3', 'meterline_kafka_partitions{state="claiming"} 1', 'meterline_kafka_partitions{state="stopped"} 0'])
      await until('the log says why', () => said.some((line) => line.includes('a transaction of its former owner is still open')))
      await until('its lag is shown', async () => (await metrics(engine, 'meterline_kafka_lag_messages{partition="2"}'))[0]?.endsWith(' 1') ?? false)
    } finally {
      await former.query('rollback')
      former.release()
    }
    await until('it is settled', async () => (await positions(topic))[2] === 1)
    await until('there is no lag', async () => (await metrics(engine, 'meterline_kafka_lag_messages{')).every((line) => line.endsWith(' 0')))
    expect(await metrics(engine, 'meterline_kafka_lag_messages{')).toHaveLength(4)
    await close(engine)
  })

  it('and come back to a process that another had fenced from them are read again', async () => {
    const topic = 'fenced'
    await Promise.all([bus.topic(topic), bus.topic(`${topic}.dead`, 1)])
    const engine = await start(topic)
    await send(topic)
    await until('all are settled', async () => Object.values(await positions(topic)).join() === '1,1,1,1')
    await database.pool.query('update kafka_position set epoch = epoch + 1 where topic = $1', [topic])
    await send(topic)
    await until('all are stopped', async () => (await metrics(engine, 'meterline_kafka_partitions{state="stopped"}'))[0].endsWith(' 4'))
    expect(Object.values(await positions(topic))).toEqual([1, 1, 1, 1])
    // Some of them go to another process, which settles them, and come back when it leaves.
    const other = await start(topic)
    await until('the other has some', async () => Object.values(await positions(topic)).includes(2))
    const moved = Object.entries(await positions(topic)).filter(([, next]) => next === 2).map(([partition]) => Number(partition))
    await close(other)
    await send(topic)
    await until('those are settled here', async () => {
      const now = await positions(topic)
      return moved.every((partition) => now[partition] === 3)
    })
    expect(await metrics(engine, 'meterline_kafka_partitions{state="active"}')).toEqual([`meterline_kafka_partitions{state="active"} ${moved.length}`])
  })
})
