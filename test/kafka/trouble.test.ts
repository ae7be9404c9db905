import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEngine as startHere, type Engine } from '../../cli/serve.js'
import { loadSettings } from '../../engine/config.js'
import { beginRegistryWrite, inTransaction } from '../../engine/store/db.js'
import { testDatabase, type TestDatabase } from '../database.js'
import { cleanUp, engineFolder, startEngine, until, type EngineProcess } from '../faults/engine-process.js'
import { busName, startBus, type Bus } from './bus.js'

let bus: Bus
beforeAll(async () => {
  bus = await startBus()
})
afterAll(async () => {
  await bus?.close()
})

const block = (meter: string, kwh: number): string =>
  JSON.stringify({ meter, start: '2026-10-01T00:00:00Z', intervalSeconds: 900, values: [kwh] })

async function register({ pool }: TestDatabase, utility: string, count: number): Promise<void> {
  const { rows: [{ utility_id: id }] } = await pool.query<{ utility_id: number }>('select utility_id from utility where id = $1', [utility])
  await inTransaction(pool, async (client) => {
    const epoch = await beginRegistryWrite(client, id)
    await client.query(`insert into meter (utility_id, id, epoch) select $1, 'M' || n, $2 from generate_series(1, $3) as n`, [id, epoch, count])
  })
}

async function positionOf({ pool }: TestDatabase, topic: string, partition: number): Promise<{ next: number; ahead: Record<string, number> } | undefined> {
  const { rows } = await pool.query<{ next: number; ahead: Record<string, number> }>(
    'select next_offset as next, ahead from kafka_position where topic = $1 and kafka_partition = $2', [topic, partition])
  return rows[0]
}

describe(`a Kafka partition in trouble (${busName})`, () => {
  let database: TestDatabase
  let engine: Engine
  let dir: string
  const said: string[] = []
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'meterline-kafka-trouble-'))
    database = await testDatabase()
    await Promise.all([bus.topic('meter-reads'), bus.topic('meter-reads.dead', 1)])
    // Of a topic that was longer once.
    await database.pool.query(
      `insert into kafka_position (consumer_group, topic, kafka_partition, epoch, next_offset) values ('meterline', 'meter-reads', 0, 1, 999)`)
    engine = await startHere(loadSettings({
      DATABASE_URL: database.url, METERLINE_DIR: dir, PORT: '0', UTILITY_ZONE: 'Etc/UTC', WORKERS: '2', KAFKA_BROKERS: bus.brokers, KAFKA_SESSION_SECONDS: '6',
    }), new Set(['ingest', 'api']), pino({ level: 'info' }, { write: (line: string) => void said.push(line) }))
    await register(database, 'default', 50)
  })
  afterAll(async () => {
    await engine?.close()
    await database?.close()
    rmSync(dir, { recursive: true, force: true })
  })

  const text = async (path: string): Promise<string> => (await fetch(`${engine.url}${path}`)).text()

  it("is stopped where its position is not the broker's, says so, lets the others go on, and reads again when it is put right", async () => {
    await bus.send('meter-reads', [0, 1].map((partition) => ({ partition, value: block(`M${partition + 1}`, 1) })))
    await until('the other partition is settled', async () => (await positionOf(database, 'meter-reads', 1))?.next === 1)
    await until('the partition is stopped', async () => (await text('/metrics')).includes('meterline_kafka_partitions{state="stopped"} 1'))
    expect(await text('/metrics')).toContain('meterline_kafka_partitions{state="active"} 3')
    const ready = JSON.parse(await text('/readyz')) as { reasons: string[] }
    expect(ready.reasons).toEqual([expect.stringMatching(/^Kafka partition 0 of meter-reads is stopped: its position 999 is not among the broker's offsets 0 to \d+$/)])
    expect(said.filter((line) => line.includes('a partition is stopped, the others go on'))).toHaveLength(1)
    expect((await positionOf(database, 'meter-reads', 0))?.next).toBe(999)
    await database.pool.query(`update kafka_position set next_offset = 0, epoch = epoch + 1 where topic = 'meter-reads' and kafka_partition = 0`)
    await until('it is read again', async () => (await positionOf(database, 'meter-reads', 0))?.next === 1)
    expect(JSON.parse(await text('/readyz'))).toEqual({ ok: true, reasons: [] })
  })

  it('is searched for the one message that cannot be settled, which goes to the dead topic alone', async () => {
    const { pool } = database
    await pool.query(`create function refuse() returns trigger language plpgsql as $$ begin
      if new.meter_id = (select meter_id from meter where id = 'M13') then raise exception 'no channel for M13'; end if; return new; end $$`)
    await pool.query('create trigger refuse before insert on channel for each row execute function refuse()')
    const before = (await positionOf(database, 'meter-reads', 2))?.next ?? 0
    await bus.send('meter-reads', Array.from({ length: 40 }, (_, i) => ({ partition: 2, key: `M${i + 3}`, value: block(`M${i + 3}`, 2) })))
    await until('all are settled', async () => (await positionOf(database, 'meter-reads', 2))?.next === before + 40)
    const stored = async (): Promise<string[]> => (await pool.query<{ id: string }>(
      `select m.id from channel_day join channel using (channel_id) join meter m using (meter_id) where m.id not in ('M1', 'M2')`)).rows.map((r) => r.id)
    expect((await stored()).sort()).toEqual(Array.from({ length: 40 }, (_, i) => `M${i + 3}`).filter((m) => m !== 'M13').sort())
    await until('the dead letter is published', async () => (await bus.read('meter-reads.dead')).length > 0)
    expect(await bus.read('meter-reads.dead')).toMatchObject([{
      key: 'M13', value: block('M13', 2), headers: { 'dead-letter-code': 'internal-error', 'dead-letter-partition': '2', 'dead-letter-offset': String(before + 10) } }])
    expect(said.some((line) => line.includes('searched by halves'))).toBe(true)
    const { rows: [sums] } = await pool.query<Record<string, number>>(
      `select sum(received)::int as received, sum(stored)::int as stored, sum(quarantined)::int as quarantined from delivery where kafka_partition = 2`)
    expect(sums).toEqual({ received: 40, stored: 39, quarantined: 1 })
    // What was in the way is gone: sent again as it stands in the dead topic, it settles.
    await pool.query('drop trigger refuse on channel')
    const [letter] = await bus.read('meter-reads.dead')
    await bus.send('meter-reads', [{ partition: 2, key: letter.key!, value: letter.value, headers: letter.headers }])
    await until('it is settled', async () => (await positionOf(database, 'meter-reads', 2))?.next === before + 41)
    expect(await stored()).toContain('M13')
  })
})

describe(`a batch of two utilities (${busName})`, () => {
  let database: TestDatabase
  const engines: EngineProcess[] = []
  const dir = engineFolder()
  const topic = 'two-utilities'
  beforeAll(async () => {
    database = await testDatabase()
    await bus.topic(topic)
    await bus.topic(`${topic}.dead`, 1)
  })
  afterAll(async () => {
    await cleanUp(dir, engines)
    await database?.close()
  })

  it('whose process dies between their two commits settles each of them once', async () => {
    const { pool } = database
    const env = { DATABASE_URL: database.url, KAFKA_BROKERS: bus.brokers, KAFKA_TOPIC: topic, KAFKA_SESSION_SECONDS: '6' }
    const first = await startEngine(dir, env)
    engines.push(first)
    await pool.query(`insert into utility (id, zone) values ('hill', 'Etc/UTC')`)
    for (const utility of ['default', 'hill']) await register(database, utility, 20)
    // The second utility's commit is held up.
    await pool.query(`create function hold() returns trigger language plpgsql as $$ begin
      if exists (select from meter join utility u using (utility_id) where meter_id = new.meter_id and u.id = 'hill')
      then perform pg_advisory_xact_lock_shared(4711); end if; return new; end $$`)
    await pool.query('create trigger hold before insert on channel for each row execute function hold()')
    const holder = await pool.connect()
    try {
      await holder.query('select pg_advisory_lock(4711)')
      await bus.send(topic, Array.from({ length: 40 }, (_, i) => ({
        partition: 0, key: `M${(i >> 1) + 1}`, value: block(`M${(i >> 1) + 1}`, 1 + i), ...(i % 2 === 0 ? {} : { headers: { utility: 'hill' } }) })))
      await until('the first utility is settled and the second is not', async () => Object.keys((await positionOf(database, topic, 0))?.ahead ?? {}).length === 1)
      first.kill('SIGKILL')
      await first.exited
    } finally {
      await holder.query('select pg_advisory_unlock(4711)')
      holder.release()
    }
    const between = (await positionOf(database, topic, 0))!
    expect(between.next).toBeLessThan(40)
    engines.push(await startEngine(dir, env))
    await until('all is settled', async () => (await positionOf(database, topic, 0))?.next === 40, 60_000)
    expect((await positionOf(database, topic, 0))?.ahead).toEqual({})
    const { rows } = await pool.query<Record<string, unknown>>(
      `select u.id, sum(received)::int as received, sum(stored)::int as stored, sum(duplicate)::int as duplicate
         from delivery join utility u using (utility_id) where door = 'kafka' group by 1 order by 1`)
    expect(rows).toEqual([{ id: 'default', received: 20, stored: 20, duplicate: 0 }, { id: 'hill', received: 20, stored: 20, duplicate: 0 }])
    const { rows: reads } = await pool.query<{ id: string; first: number }>(
      `select u.id || ' ' || m.id as id, d.vals[1] as first from channel_day d join channel using (channel_id) join meter m using (meter_id) join utility u on u.utility_id = m.utility_id`)
    expect(Object.fromEntries(reads.map((r) => [r.id, r.first]))).toEqual(Object.fromEntries(Array.from({ length: 40 }, (_, i) =>
      [`${i % 2 === 0 ? 'default' : 'hill'} M${(i >> 1) + 1}`, 1000 * (1 + i)])))
  })
})
