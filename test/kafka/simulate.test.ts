import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadSettings } from '../../engine/config.js'
import { dayText } from '../../engine/time/text.js'
import { runSimulation } from '../../fixtures/simulate.js'
import type { SimulationSummary } from '../../fixtures/simulation.js'
import { expectedTotals, faultNames } from '../../fixtures/simulator.js'
import { CommandLine } from '../command-line.js'
import { testDatabase, type TestDatabase } from '../database.js'
import { until } from '../faults/engine-process.js'
import { busName, startBus, type Bus } from './bus.js'

const zone = 'America/Chicago'

describe(`meterline simulate --to kafka (${busName})`, () => {
  let bus: Bus
  let db: TestDatabase
  let program: CommandLine
  let url: string
  beforeAll(async () => {
    [bus, db] = await Promise.all([startBus(), testDatabase()])
    await bus.topic('meter-reads')
    program = new CommandLine({ DATABASE_URL: db.url, UTILITY_ZONE: zone, KAFKA_BROKERS: bus.brokers })
    url = await program.serve()
  })
  afterAll(async () => {
    await program?.close()
    await bus?.close()
    await db?.close()
  })

  interface Sums { received: number; stored: number; corrected: number; outranked: number; quarantined: number; rejected: number }
  async function sums(source: string): Promise<Sums> {
    const { rows: [row] } = await db.pool.query<Sums>(
      `select coalesce(sum(received), 0)::int as received, coalesce(sum(stored), 0)::int as stored, coalesce(sum(corrected), 0)::int as corrected,
              coalesce(sum(outranked), 0)::int as outranked, coalesce(sum(quarantined), 0)::int as quarantined, coalesce(sum(rejected), 0)::int as rejected
         from delivery d join source s using (source_id) where s.name = $1`, [source])
    return row
  }

  /** Watt-hours and reads that stand, by meter, day and flow. */
  async function totals(from: string, to: string): Promise<Record<string, [wh: number, present: number]>> {
    const { rows } = await db.pool.query<{ key: string; wh: number; present: number }>(
      `select m.id || ' ' || d.day || ' ' || c.flow as key, sum(v * power(10::numeric, d.exponent + 3))::float8 as wh, count(v)::int as present
         from channel_day d join channel c using (channel_id) join meter m using (meter_id), unnest(d.vals) as v
        where d.day between $1 and $2 group by 1`, [from, to])
    return Object.fromEntries(rows.map((r) => [r.key, [r.wh, r.present]]))
  }

  function expected({ ledger }: SimulationSummary): Record<string, [number, number]> {
    return Object.fromEntries([...expectedTotals(ledger)].filter((t) => t.present > 0).map((t) =>
      [`${t.meter} ${dayText(t.day)} ${t.flow === 'delivered' ? 1 : 2}`, [t.wh, t.present]]))
  }

  it('keys messages by meter, with the source in a header, and all of them settle', async () => {
    const done = await program.run(['simulate', '--to', 'kafka', '--meters', '20', '--days', '2', '--start', '2026-10-01', '--source', 'plain',
      '--url', url, '--key', program.operatorKey()])
    expect(done.code, done.stderr).toBe(0)
    const summary = JSON.parse(done.stdout) as SimulationSummary
    expect(summary).toMatchObject({ meters: 20, bodies: 40, differences: [], receipts: null })
    await until('the reads are settled', async () => (await sums('plain')).received >= summary.reads)
    expect(await sums('plain')).toEqual({ received: summary.reads, stored: summary.reads, corrected: 0, outranked: 0, quarantined: 0, rejected: 0 })
    const messages = (await bus.read('meter-reads')).filter((m) => m.headers.source === 'plain')
    expect(messages).toHaveLength(40)
    for (const { key, value, headers } of messages) {
      expect(headers['content-type']).toBe('application/x-ndjson')
      expect(value.trimEnd().split('\n').map((line) => (JSON.parse(line) as { meter: string }).meter)).toEqual(expect.arrayContaining([key]))
      expect(new Set(value.match(/"meter":"[^"]*"/g))).toEqual(new Set([`"meter":"${key}"`]))
    }
  })

  it.each(['ndjson', 'json', 'csv', 'arrow'] as const)('with every fault of the field, as %s, comes to the reads that are true', async (format) => {
    const day = { ndjson: '2026-03-07', json: '2026-04-01', csv: '2025-11-01', arrow: '2025-03-08' }[format]
    const summary = await runSimulation({
      url, key: program.operatorKey(), to: 'kafka', meters: 60, days: 3, zone, startDay: day, faults: faultNames, seed: 5, format, source: format,
      kafka: { settings: loadSettings({ DATABASE_URL: db.url, KAFKA_BROKERS: bus.brokers }), utility: 'default' },
    })
    expect(summary.differences).toEqual([])
    await until('the reads are settled', async () => (await sums(format)).received >= summary.reads)
    const { received, stored, quarantined, rejected } = await sums(format)
    expect({ received, stored, quarantined, rejected }).toEqual({
      received: summary.reads, stored: summary.ledger.expected.stored, quarantined: 0, rejected: 0 })
    expect(await totals(summary.from, summary.to)).toEqual(expected(summary))
  })

  it('writes files for meterline register where no server is named', async () => {
    const done = await program.run(['simulate', '--to', 'kafka', '--meters', '3', '--days', '1', '--dir', `${program.dir}/fleet`, '--source', 'folder'])
    expect(done.code, done.stderr).toBe(0)
    const registered = await program.run(['register', `${program.dir}/fleet/accounts.ndjson`, `${program.dir}/fleet/meters.ndjson`])
    expect(registered.code, registered.stderr).toBe(0)
  })

  it('tells in one line what is wrong with brokers or topic', async () => {
    const run = (settings: Record<string, string>): ReturnType<CommandLine['run']> =>
      program.run(['simulate', '--to', 'kafka', '--meters', '3', '--days', '1', '--dir', `${program.dir}/fleet`], { settings })
    const away = await run({ KAFKA_BROKERS: '127.0.0.1:1' })
    expect(away.code).toBe(1)
    expect(away.stderr).toMatch(/No Kafka broker answers at 127\.0\.0\.1:1/)
    const nowhere = await program.run(['simulate', '--to', 'kafka', '--meters', '3', '--days', '1'])
    expect(nowhere.code).toBe(1)
    expect(nowhere.stderr).toMatch(/--url and --key.*--dir/)
  })
})
