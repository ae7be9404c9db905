import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { onTimescale, testDatabase, type TestDatabase } from '../../test/database.js'
import { inTransaction, openPool } from './db.js'
import { migrate, readMigrations } from './migrate.js'
import {
  dropBefore, ensurePartitions, firstDayOf, makeAhead, monthOfDay, monthOfPartition, monthStartText, openStorage, partitionName, renderPartitions,
} from './storage.js'

const OCTOBER_2026 = 2026 * 12 + 9

function insertDay(day: string): string {
  return `insert into channel_day (channel_id, day, first_at, interval_s, exponent, total, present, estimated, version, delivery_no, settled_at, vals)
    values (1, '${day}', now(), 900, -3, 0, 0, 0, 1, 1, now(), '{1}')`
}

describe('months', () => {
  test('a day is in the month whose name its partition bears', () => {
    expect(monthOfDay(20_728)).toBe(OCTOBER_2026)
    expect(monthStartText(OCTOBER_2026)).toBe('2026-10-01')
    expect(partitionName('channel_day', OCTOBER_2026)).toBe('channel_day_2026_10')
    expect(monthOfPartition('channel_day', 'channel_day_2026_10')).toBe(OCTOBER_2026)
    for (const name of ['channel_day', 'channel_day_2026_10_old', 'channel_day_pkey', 'system_load_2026_10']) {
      expect(monthOfPartition('channel_day', name)).toBeUndefined()
    }
  })

  test('every day from 1900 to 2200 lies between the bounds of its month', () => {
    fc.assert(fc.property(fc.integer({ min: -25_567, max: 84_006 }), (day) => {
      const month = monthOfDay(day)
      expect(firstDayOf(month)).toBeLessThanOrEqual(day)
      expect(firstDayOf(month + 1)).toBeGreaterThan(day)
      expect(monthStartText(month).slice(0, 7)).toBe(new Date(day * 86_400_000).toISOString().slice(0, 7))
    }))
  })

  test('the placeholder of the migrations becomes a partition clause or nothing', () => {
    expect(renderPartitions('create table t (day date) {{PARTITION BY day}};', 'partition')).toBe('create table t (day date) partition by range (day);')
    expect(renderPartitions('create table t (day date) {{PARTITION BY day}};', 'timescale')).toBe('create table t (day date) ;')
  })
})

describe.skipIf(onTimescale())('partitions (all four tables are partitioned only on plain PostgreSQL)', () => {
  let db: TestDatabase
  beforeAll(async () => { db = await testDatabase() })
  afterAll(async () => { await db.close() })

  test('no migration leaves a placeholder behind', async () => {
    for (const { sql } of await readMigrations()) expect(renderPartitions(sql, 'partition')).not.toContain('{{')
    expect(await migrate(db.url)).toMatchObject({ applied: [], storageMode: 'partition' })
  })

  test('a partition has the fill factor, the keys and the checks of its table', async () => {
    await ensurePartitions(db.pool, 'channel_day', [OCTOBER_2026])
    await ensurePartitions(db.pool, 'delivery', [OCTOBER_2026])
    const { rows } = await db.pool.query("select reloptions from pg_class where relname = 'channel_day_2026_10'")
    expect(rows).toEqual([{ reloptions: ['fillfactor=70'] }])
    const keys = await db.pool.query(`select indexrelid::regclass::text as name, indisprimary as primary from pg_index
      where indrelid = 'delivery_2026_10'::regclass order by 1`)
    expect(keys.rowCount).toBe(4)
    expect(keys.rows.filter((row: { primary: boolean }) => row.primary)).toHaveLength(1)
    // An index of a partition that hangs on its parent's: a later index of the parent reaches partitions too.
    const attached = await db.pool.query("select from pg_inherits i join pg_class c on c.oid = i.inhrelid where c.relkind = 'i' and c.relname like 'delivery_2026_10%'")
    expect(attached.rowCount).toBe(4)
  })

  test('months missing are told without a query, made once, and known from then on', async () => {
    const storage = await openStorage(db.pool)
    const days = [firstDayOf(OCTOBER_2026 - 120), firstDayOf(OCTOBER_2026 - 120) + 30, firstDayOf(OCTOBER_2026 - 119), firstDayOf(OCTOBER_2026)]
    expect(storage.monthsMissing('channel_day', days)).toEqual([OCTOBER_2026 - 120, OCTOBER_2026 - 119])
    await storage.ensureForDays(days)
    expect(storage.monthsMissing('channel_day', days)).toEqual([])
    // The load of 1 October's first hours may belong to UTC's September.
    expect(storage.monthsMissing('system_load', days.flatMap((day) => [day - 1, day + 1]))).toEqual([])
    await db.pool.query(insertDay('2016-10-01'))
    await db.pool.query("insert into system_load (utility_id, flow, hour, energy) values (1, 1, '2016-09-30T23:00Z', 1)")
    expect((await openStorage(db.pool)).monthsMissing('channel_day', days)).toEqual([])
  })

  test('20 processes that need the same months at once all get them', async () => {
    const months = [OCTOBER_2026 - 60, OCTOBER_2026 - 59, OCTOBER_2026 - 58]
    await Promise.all(Array.from({ length: 20 }, (_, i) => ensurePartitions(db.pool, 'channel_day', i % 2 === 0 ? months : [...months].reverse())))
    const { rows } = await db.pool.query("select count(*) as count from pg_class where relname in ('channel_day_2021_10', 'channel_day_2021_11', 'channel_day_2021_12')")
    expect(rows).toEqual([{ count: 3 }])
  })

  test('making a partition does not wait for writers, and a writer sees it in its open transaction', async () => {
    await inTransaction(db.pool, async (client) => {
      await client.query(insertDay('2026-10-02'))
      await ensurePartitions(db.pool, 'channel_day', [OCTOBER_2026 - 36])
      await client.query(insertDay('2023-10-02'))
    })
    expect((await db.pool.query("select from channel_day where day = '2023-10-02'")).rowCount).toBe(1)
  })

  test('a pool whose every client is busy can still get its partition', async () => {
    const pool = openPool(db.url, 1, 'meterline test', () => undefined)
    await inTransaction(pool, async () => { await ensurePartitions(pool, 'revision', [OCTOBER_2026 - 24]) })
    await pool.end()
  })

  test('made ahead are last month, this one and the next two, for every table', async () => {
    await makeAhead(db.pool, Date.UTC(2030, 11, 31, 23, 59))
    const { rows } = await db.pool.query<{ name: string }>(
      "select relname as name from pg_class where relkind = 'r' and relname ~ '_20(30|31)_' order by 1")
    const months = ['2030_11', '2030_12', '2031_01', '2031_02']
    expect(rows.map((row) => row.name)).toEqual(['channel_day', 'delivery', 'revision', 'system_load'].flatMap((table) => months.map((month) => `${table}_${month}`)))
  })

  test('dropping takes whole months only, beside open readers, and ends a drop that was cut short', async () => {
    const storage = await openStorage(db.pool)
    const month = OCTOBER_2026 - 240
    await storage.ensure('channel_day', [month, month + 1, month + 2, month + 3])
    // As a killed process leaves it: detached and marked, not yet dropped.
    await db.pool.query(`comment on table channel_day_2006_10 is 'meterline: dropping'`)
    await db.pool.query('alter table channel_day detach partition channel_day_2006_10')
    // Somebody's own archive, detached by hand: not ours to drop.
    await db.pool.query('alter table channel_day detach partition channel_day_2006_11')
    expect(await storage.dropBefore('channel_day', month + 3)).toBe(1)
    const left = await db.pool.query<{ name: string }>("select relname as name from pg_class where relname ~ '^channel_day_200[67]_..$' order by 1")
    expect(left.rows.map((row) => row.name)).toEqual(['channel_day_2006_11', 'channel_day_2007_01'])
    expect(storage.monthsMissing('channel_day', [firstDayOf(month + 2), firstDayOf(month + 3)])).toEqual([month + 2])
    // Wanted again, it is put back with what it holds.
    await (await openStorage(db.pool)).ensure('channel_day', [month + 1])
    await db.pool.query(insertDay('2006-11-05'))
    expect(await dropBefore(db.pool, 'partition', 'channel_day', month)).toBe(0)
  })
})
