import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { onTimescale, testDatabase, type TestDatabase } from '../../test/database.js'
import { inTransaction, openPool } from './db.js'
import { firstDayOf, openStorage } from './storage.js'
import { firstDayWithout, readChunkSpans } from './timescale.js'

const OCTOBER_2026 = 2026 * 12 + 9

function insertDay(day: string, channel = 1): string {
  return `insert into channel_day (channel_id, day, first_at, interval_s, exponent, total, present, estimated, version, delivery_no, settled_at, vals)
    values (${channel}, '${day}', now(), 900, -3, 0, 0, 0, 1, 1, now(), '{1}')`
}

describe('spans of days', () => {
  test('the first day without a chunk is told, whatever gaps lie before and after', () => {
    const spans = [{ from: 0, to: 30 }, { from: 30, to: 60 }, { from: 90, to: 120 }]
    expect(firstDayWithout(spans, { from: 5, to: 60 })).toBeUndefined()
    expect(firstDayWithout(spans, { from: 5, to: 61 })).toBe(60)
    expect(firstDayWithout(spans, { from: -3, to: 10 })).toBe(-3)
    expect(firstDayWithout(spans, { from: 60, to: 95 })).toBe(60)
    expect(firstDayWithout(spans, { from: 100, to: 130 })).toBe(120)
    expect(firstDayWithout([], { from: 1, to: 2 })).toBe(1)
  })
})

describe.runIf(onTimescale())('hypertables (only on a server with TimescaleDB)', () => {
  let db: TestDatabase
  beforeAll(async () => { db = await testDatabase() })
  afterAll(async () => { await db.close() })

  test('days and load are hypertables, days with a columnstore and its policy, the rest is partitioned', async () => {
    const { rows } = await db.pool.query(`
      select hypertable_name as name, compression_enabled as columnar from timescaledb_information.hypertables order by 1`)
    expect(rows).toEqual([{ name: 'channel_day', columnar: true }, { name: 'system_load', columnar: false }])
    const jobs = await db.pool.query("select hypertable_name as name from timescaledb_information.jobs where proc_name = 'policy_compression'")
    expect(jobs.rows).toEqual([{ name: 'channel_day' }])
    const settings = await db.pool.query("select segmentby, orderby from timescaledb_information.hypertable_columnstore_settings where hypertable = 'channel_day'::regclass")
    expect(settings.rows).toEqual([{ segmentby: 'channel_id', orderby: 'day' }])
  })

  test('chunks of the months to come are made ahead, with the fill factor of their table, and hold no row', async () => {
    const storage = await openStorage(db.pool)
    await storage.makeAhead(Date.UTC(2030, 11, 31, 23, 59))
    const spans = await readChunkSpans(db.pool, 'channel_day')
    expect(firstDayWithout(spans, { from: firstDayOf(2030 * 12 + 10), to: firstDayOf(2031 * 12 + 2) })).toBeUndefined()
    const { rows } = await db.pool.query(`
      select distinct c.reloptions from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'channel_day'::regclass`)
    expect(rows).toEqual([{ reloptions: ['fillfactor=70'] }])
    expect((await db.pool.query('select from channel_day')).rowCount).toBe(0)
    expect((await db.pool.query('select from system_load')).rowCount).toBe(0)
  })

  test('days that lack their chunk are told without a query, made once, and known to the next start', async () => {
    const storage = await openStorage(db.pool)
    const days = [firstDayOf(OCTOBER_2026 - 120), firstDayOf(OCTOBER_2026 - 119) + 29]
    expect(storage.monthsMissing('channel_day', days)).toEqual([OCTOBER_2026 - 120, OCTOBER_2026 - 119])
    await storage.ensureForDays(days)
    expect(storage.monthsMissing('channel_day', days)).toEqual([])
    const chunks = (await readChunkSpans(db.pool, 'channel_day')).length
    const again = await openStorage(db.pool)
    expect(again.monthsMissing('channel_day', days)).toEqual([])
    await again.ensureForDays(days)
    expect(await readChunkSpans(db.pool, 'channel_day')).toHaveLength(chunks)
  })

  test('20 processes that need the same chunks at once all get them, beside an open writer', async () => {
    const days = [firstDayOf(OCTOBER_2026 - 60), firstDayOf(OCTOBER_2026 - 58)]
    await inTransaction(db.pool, async (client) => {
      await client.query(insertDay('2026-10-02'))
      await Promise.all(Array.from({ length: 20 }, async (_, i) => {
        const pool = openPool(db.url, 2, 'meterline test', () => undefined)
        await (await openStorage(pool)).ensureForDays(i % 2 === 0 ? days : [...days].reverse())
        await pool.end()
      }))
      await client.query(insertDay('2021-10-02'))
    })
    expect((await db.pool.query("select from channel_day where day = '2021-10-02'")).rowCount).toBe(1)
  })

  test('dropping takes whole chunks that hold nothing younger', async () => {
    const storage = await openStorage(db.pool)
    await storage.ensureForDays([firstDayOf(OCTOBER_2026 - 240), firstDayOf(OCTOBER_2026 - 238)])
    await db.pool.query(insertDay('2006-10-02'))
    await db.pool.query(insertDay('2006-12-05'))
    expect(await storage.dropBefore('channel_day', OCTOBER_2026 - 238)).toBeGreaterThan(0)
    const { rows } = await db.pool.query("select day from channel_day where day < '2010-01-01'")
    expect(rows).toEqual([{ day: '2006-12-05' }])
    expect(storage.monthsMissing('channel_day', [firstDayOf(OCTOBER_2026 - 240)])).toEqual([OCTOBER_2026 - 240])
  })
})
