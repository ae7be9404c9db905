import { afterAll, beforeAll, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import type { Queryable } from '../store/db.js'
import { monthOfDay, openStorage } from '../store/storage.js'
import { dayNumber, dayText } from '../time/text.js'
import { getZone } from '../time/zone.js'
import { completeness } from './completeness.js'
import { newestHeld } from './newest.js'
import { summarise } from './summary.js'
import { loadAccountSubject, measureUsage, type Resolution } from './usage.js'

// Two years of 200 meters in monthly partitions: large enough that a plan which reads more than it is asked for shows.
const METERS = 200
const FIRST_DAY = dayNumber('2024-11-01')
const DAYS = 730

let db: TestDatabase
const zone = getZone('America/Chicago')
const nowS = zone.dayStart(FIRST_DAY + DAYS) + 40_000

beforeAll(async () => {
  db = await testDatabase()
  const months = [...new Set(Array.from({ length: DAYS + 40 }, (_, i) => monthOfDay(FIRST_DAY + i)))]
  await (await openStorage(db.pool)).ensure('channel_day', months)
  const utility = `insert into utility (id, zone) values ('u', 'America/Chicago') returning utility_id`
  await db.pool.query(`
    with u as (${utility}),
    a as (insert into account (utility_id, id, billing_day, epoch) select utility_id, 'a' || i, 1, 1 from u, generate_series(1, ${METERS}) i
          returning account_id),
    m as (insert into meter (utility_id, id, epoch) select utility_id, 'm' || i, 1 from u, generate_series(1, ${METERS}) i returning meter_id, utility_id),
    c as (insert into channel (utility_id, meter_id, quantity, flow, interval_s) select utility_id, meter_id, 1, 1, 900 from m)
    insert into meter_assignment (meter_id, account_id, from_at)
      select meter_id, account_id, '2020-01-01' from (select meter_id, row_number() over () n from m) m
        join (select account_id, row_number() over () n from a) a using (n)`)
  // Every account's days lie apart from one another, as they come in: by day, not by channel.
  await db.pool.query(`
    insert into channel_day (channel_id, day, first_at, interval_s, exponent, total, peak, peak_slot, present, estimated, version,
                             delivery_no, settled_at, vals)
    select c, d, d::timestamp at time zone 'America/Chicago', 900, -3, 9600, 100, 0, 96, 0, 1, 1, now(), array_fill(100, array[96])
      from generate_series($1::date, $1::date + $2::int - 1, '1 day') d, generate_series(1, $3::int) c`,
  [dayText(FIRST_DAY), DAYS, METERS])
  await db.pool.query('analyze')
}, 180_000)
afterAll(() => db.close())

interface Node {
  'Node Type': string
  'Relation Name'?: string
  'Actual Rows': number
  'Actual Loops': number
  'Rows Removed by Filter'?: number
  'Rows Removed by Index Recheck'?: number
  Plans?: Node[]
}

/** Runs statements as they are, and keeps how each was executed. */
function explaining(): { db: Queryable; scans: () => Node[] } {
  const plans: Node[] = []
  const query = async (config: string | { text: string; values: unknown[] }, values?: unknown[]): Promise<unknown> => {
    const statement = typeof config === 'string' ? { text: config, values } : { text: config.text, values: config.values }
    const { rows } = await db.pool.query<{ 'QUERY PLAN': [{ Plan: Node }] }>(
      { ...statement, text: `explain (analyze, buffers, format json) ${statement.text}` })
    plans.push(rows[0]['QUERY PLAN'][0].Plan)
    return db.pool.query({ ...(typeof config === 'string' ? {} : config), ...statement })
  }
  const all = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(all)]
  return {
    db: { query } as unknown as Queryable,
    scans: () => plans.flatMap(all).filter((n) => /^(channel_day_|_hyper_)/.test(n['Relation Name'] ?? '')),
  }
}

/** Rows that the scans of day blocks gave and threw away. */
function rowsOf(scans: Node[]): { given: number; removed: number; types: string[] } {
  const sum = (of: (n: Node) => number): number => Math.round(scans.reduce((s, n) => s + of(n) * n['Actual Loops'], 0))
  return {
    given: sum((n) => n['Actual Rows']),
    removed: sum((n) => (n['Rows Removed by Filter'] ?? 0) + (n['Rows Removed by Index Recheck'] ?? 0)),
    // A month without a row is scanned in no time, however.
    types: [...new Set(scans.filter((n) => n['Actual Rows'] > 0).map((n) => n['Node Type']))].sort(),
  }
}

const INDEX_READS = ['Bitmap Heap Scan', 'Index Only Scan', 'Index Scan']

it.each<[Resolution, string, string, number]>([
  ['day', '2026-09-01', '2026-10-01', 30],
  ['interval', '2026-09-01', '2026-10-01', 30],
  ['hour', '2026-09-01', '2026-09-08', 7],
  ['month', '2025-10-01', '2026-10-01', 365],
  ['billing', '2024-11-01', '2026-10-01', 699],
])('usage by %s reads the index rows of its days and no other', async (resolution, from, to, days) => {
  const { db: explained, scans } = explaining()
  const subject = await loadAccountSubject(explained, zone, 7, 1)
  const result = await measureUsage(explained, subject, {
    fromS: zone.dayStart(dayNumber(from)), toS: zone.dayStart(dayNumber(to)), resolution, by: 'account', flow: null, asOf: null, nowS,
  })
  expect(result.totals.delivered?.number()).toBe(days * 9.6)
  const read = rowsOf(scans())
  expect(read).toMatchObject({ given: days, removed: 0 })
  expect(INDEX_READS).toEqual(expect.arrayContaining(read.types))
})

it('freshness reads the newest two rows of a channel', async () => {
  const { db: explained, scans } = explaining()
  const { segments } = await loadAccountSubject(explained, zone, 7, 1)
  expect(await newestHeld(explained, zone, segments, nowS, null)).toEqual([zone.dayStart(FIRST_DAY + DAYS)])
  expect(rowsOf(scans())).toMatchObject({ given: 2, removed: 0 })
})

it('summaries of many accounts read the days of their periods', async () => {
  const { db: explained, scans } = explaining()
  const accounts = Array.from({ length: 20 }, (_, i) => ({ accountId: i + 1, account: `a${i + 1}`, billingDay: 1 }))
  const summaries = await summarise(explained, zone, accounts, nowS)
  expect(summaries[19]).toMatchObject({ yesterday: { total: { delivered: 9.6 } } })
  const read = rowsOf(scans())
  // At most a month now and a month a year ago, yesterday before the period, and the two newest days.
  expect(read.given).toBeLessThanOrEqual(20 * (31 + 31 + 1 + 2))
  expect(read.removed).toBe(0)
  expect(INDEX_READS).toEqual(expect.arrayContaining(read.types))
})

it('completeness of a day touches that day\'s month alone', async () => {
  const { db: explained, scans } = explaining()
  expect(await completeness(explained, zone, 1, FIRST_DAY + 400, null, nowS)).toMatchObject({ expected: METERS * 96, missing: 0 })
  const touched = new Set(scans().filter((n) => n['Actual Loops'] > 0 && n['Actual Rows'] > 0).map((n) => n['Relation Name']))
  expect([...touched].length).toBe(1)
})
