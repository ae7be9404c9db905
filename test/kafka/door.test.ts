import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEngine, type Engine } from '../../cli/serve.js'
import { loadSettings } from '../../engine/config.js'
import { beginRegistryWrite, inTransaction } from '../../engine/store/db.js'
import { getJson } from '../command-line.js'
import { testDatabase, type TestDatabase } from '../database.js'
import { until } from '../faults/engine-process.js'
import { kinds, startBus, type Bus } from './bus.js'

describe.each(kinds)('the Kafka door ($on)', ({ mock }) => {
  let bus: Bus
  let database: TestDatabase
  let engine: Engine
  let dir: string
  const said: string[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => void said.push(line) })
  let n = 0

  const settings = (topic: string, more: Record<string, string> = {}): ReturnType<typeof loadSettings> => loadSettings({
    DATABASE_URL: database.url, METERLINE_DIR: dir, PORT: '0', UTILITY_ZONE: 'America/Chicago', WORKERS: '2',
    KAFKA_BROKERS: bus.brokers, KAFKA_TOPIC: topic, KAFKA_SESSION_SECONDS: '6', ...more,
  })

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'meterline-kafka-door-'))
    ;[bus, database] = await Promise.all([startBus({ mock }), testDatabase()])
    await Promise.all([bus.topic('meter-reads'), bus.topic('meter-reads.dead', 1)])
    engine = await startEngine(settings('meter-reads'), new Set(['ingest', 'api']), log)
    await database.pool.query(`insert into utility (id, zone) values ('hill', 'America/Denver')`)
    for (const [utility, count] of [['default', 40], ['hill', 3]] as const) await register(utility, count)
  })

  afterAll(async () => {
    await engine?.close()
    await bus?.close()
    await database?.close()
    rmSync(dir, { recursive: true, force: true })
  })

  async function register(utility: string, count: number): Promise<void> {
    const { rows: [{ utility_id: id }] } = await database.pool.query<{ utility_id: number }>('select utility_id from utility where id = $1', [utility])
    await inTransaction(database.pool, async (client) => {
      const epoch = await beginRegistryWrite(client, id)
      await client.query(`insert into meter (utility_id, id, epoch) select $1, 'M' || n, $2 from generate_series(1, $3) as n`, [id, epoch, count])
    })
  }

  const block = (meter: string, day: string, values: (number | null)[], more: object = {}): string =>
    JSON.stringify({ meter, start: `${day}T00:00:00-05:00`, intervalSeconds: 900, values, ...more })

  async function reads(utility = 'default'): Promise<Record<string, (number | null)[]>> {
    const { rows } = await database.pool.query<{ key: string; vals: (number | null)[] }>(
      `select m.id || ' ' || d.day as key, d.vals from channel_day d join channel c using (channel_id) join meter m using (meter_id)
         join utility u on u.utility_id = m.utility_id where u.id = $1 order by 1`, [utility])
    return Object.fromEntries(rows.map((r) => [r.key, r.vals]))
  }

  async function settledTo(topic: string): Promise<number> {
    const { rows: [{ sum }] } = await database.pool.query<{ sum: string | null }>('select sum(next_offset) as sum from kafka_position where topic = $1', [topic])
    return Number(sum ?? 0)
  }

  let sent = 0
  async function sendAndWait(messages: Parameters<Bus['send']>[1]): Promise<void> {
    sent += messages.length
    await bus.send('meter-reads', messages)
    await until(`${sent} messages are settled`, async () => await settledTo('meter-reads') >= sent)
  }

  it('settles blocks, single reads, arrays, lines and other utilities as HTTP would', async () => {
    await sendAndWait([
      { key: 'M1', value: block('M1', '2026-10-01', [0.5, null, 0.25]) },
      { key: 'M2', value: JSON.stringify({ meter: 'M2', start: '2026-10-01T00:15:00-05:00', intervalSeconds: 900, value: 1.5 }) },
      { key: 'x', value: `[${block('M3', '2026-10-01', [1])},${block('M4', '2026-10-01', [2])}]` },
      { key: 'y', value: `{"reads":[${block('M5', '2026-10-01', [3])}]}` },
      { key: 'z', value: `${block('M6', '2026-10-01', [4])}\n${block('M7', '2026-10-01', [5])}\n`, headers: { 'content-type': 'application/x-ndjson', source: 'ami' } },
      { key: 'q', value: `${block('M8', '2026-10-01', [6])}\n${block('M9', '2026-10-01', [7])}` },
      { key: 'h', value: block('M1', '2026-10-01', [8]).replaceAll('-05:00', '-06:00'), headers: { utility: 'hill' } },
    ])
    const stored = await reads()
    expect(stored['M1 2026-10-01'].slice(0, 3)).toEqual([500, null, 250])
    expect(stored['M2 2026-10-01'][1]).toBe(1500)
    expect([3, 4, 5, 6, 7, 8, 9].map((m) => stored[`M${m} 2026-10-01`][0])).toEqual([1000, 2000, 3000, 4000, 5000, 6000, 7000])
    expect((await reads('hill'))['M1 2026-10-01'][0]).toBe(8000)
    const { rows } = await database.pool.query<{ name: string; received: number; kafka_topic: string }>(
      `select s.name, sum(d.received)::int as received, min(d.kafka_topic) as kafka_topic from delivery d join source s using (source_id)
        where door = 'kafka' group by 1 order by 1`)
    const key = readFileSync(join(dir, 'operator-key'), 'utf8').trim()
    const { items } = await getJson<{ items: { source: string; kafka: { topic: string; partition: number; from: number; to: number } }[] }>(
      engine.url, key, '/v1/deliveries?source=ami')
    const [{ kafka }] = items
    const ami = (await bus.read('meter-reads')).find((m) => m.headers.source === 'ami')!
    expect(kafka).toMatchObject({ topic: 'meter-reads', partition: ami.partition })
    expect([kafka.from <= ami.offset, ami.offset <= kafka.to, kafka.to < sent]).toEqual([true, true, true])
    expect(rows).toEqual([{ name: 'ami', received: 2, kafka_topic: 'meter-reads' }, { name: 'kafka', received: 9, kafka_topic: 'meter-reads' }])
  })

  it('lets the later message of a partition stand, and an earlier one that is delivered again change nothing', async () => {
    const key = 'M10'
    await sendAndWait([{ key, value: block('M10', '2026-10-02', [1, 2]) }, { key, value: block('M10', '2026-10-02', [0.7]) }])
    expect((await reads())['M10 2026-10-02'].slice(0, 2)).toEqual([700, 2000])
    await sendAndWait([{ key, value: block('M10', '2026-10-02', [0.9]) }])
    // An operator sets every position back to the beginning: all of it comes again.
    const before = await reads()
    const { rows: [{ last }] } = await database.pool.query<{ last: number }>('select max(delivery_no) as last from delivery')
    await database.pool.query(`update kafka_position set next_offset = 0, epoch = epoch + 1 where topic = 'meter-reads'`)
    await bus.send('meter-reads', [0, 1, 2, 3].map((partition) => ({ partition, value: block('M11', '2026-10-02', [1]) })))
    sent += 4
    await until('all is settled again', async () => await settledTo('meter-reads') >= sent, 60_000)
    const { 'M11 2026-10-02': _new, ...after } = await reads()
    expect(after).toEqual(before)
    const { rows: [again] } = await database.pool.query<{ stored: number; corrected: number; duplicate: number; outranked: number }>(
      `select sum(stored)::int as stored, sum(corrected)::int as corrected, sum(duplicate)::int as duplicate, sum(outranked)::int as outranked
         from delivery where delivery_no > $1 and door = 'kafka'`, [last])
    // The four new messages store one read and say it three times.
    expect(again).toEqual({ stored: 1, corrected: 0, duplicate: 3 + 13, outranked: 2 })
  })

  it('sends what cannot be read to the dead topic and into quarantine, and goes on', async () => {
    n = (await bus.read('meter-reads.dead')).length
    expect(n).toBe(0)
    await sendAndWait([
      { key: 'p', value: '{"meter":"M12",', headers: { trace: 'abc' } },
      { key: 'p', value: 'no JSON at all' },
      { key: 'p', value: null },
      { key: 'p', value: '<reads/>', headers: { 'content-type': 'application/x-nothing' } },
      { key: 'p', value: block('M12', '2026-10-03', [1]), headers: { utility: 'nowhere' } },
      { key: 'p', value: `[${block('M12', '2026-10-03', [1])},{"meter":"M13","start":"yesterday","values":[1]}]` },
      { key: 'p', value: block('M14', '2026-10-03', [2]) },
    ])
    const stored = await reads()
    expect([stored['M12 2026-10-03'][0], stored['M14 2026-10-03'][0]]).toEqual([1000, 2000])
    await until('the dead letters are published', async () => (await bus.read('meter-reads.dead')).length >= 5)
    const dead = await bus.read('meter-reads.dead')
    expect(dead.map((d) => [d.value, d.headers['dead-letter-code']])).toEqual(expect.arrayContaining([
      ['{"meter":"M12",', 'malformed-json'], ['no JSON at all', 'malformed-json'], ['', 'empty-body'], ['<reads/>', 'unsupported-format'],
      [block('M12', '2026-10-03', [1]), 'unknown-utility'],
    ]))
    expect(dead).toHaveLength(5)
    const first = dead.find((d) => d.value === '{"meter":"M12",')
    expect(first).toMatchObject({ key: 'p', headers: { trace: 'abc', 'dead-letter-topic': 'meter-reads' } })
    expect(Number(first?.headers['dead-letter-offset'])).toBeGreaterThanOrEqual(0)
    const { rows } = await database.pool.query<{ reason: string; place: string }>(
      `select reason, place from quarantine where settled_by is null order by quarantine_id`)
    expect(rows.map((r) => r.reason).sort()).toEqual(['empty-body', 'malformed-json', 'malformed-json', 'time-unreadable', 'unsupported-format'])
    expect(rows.every((r) => /^partition \d, offset \d+/.test(r.place))).toBe(true)
    const { rows: [{ left }] } = await database.pool.query<{ left: number }>('select count(*)::int as left from dead_letter')
    expect(left).toBe(0)
  })
})
