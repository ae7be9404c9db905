import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { onTimescale, testDatabase, type TestDatabase } from '../../test/database.js'
import { inTransaction, REGISTRY_LOCK } from './db.js'
import { horizonInstant, maintain, readsKeptFrom, type RetentionSettings } from './retention.js'
import { firstDayOf, openStorage } from './storage.js'

const NOW = Date.UTC(2026, 9, 15, 12)
const FOREVER: RetentionSettings = {
  retentionReads: null, retentionRevisions: null, retentionQuarantine: null, retentionMessages: null, retentionDeliveries: null,
}

let db: TestDatabase
beforeAll(async () => {
  db = await testDatabase()
  await db.pool.query("insert into utility (id, zone) values ('one', 'America/Chicago'), ('two', 'Pacific/Kiritimati')")
})
afterAll(async () => { await db.close() })

async function count(table: string): Promise<number> {
  return (await db.pool.query<{ count: number }>(`select count(*) as count from ${table}`)).rows[0].count
}

async function days(): Promise<string[]> {
  return (await db.pool.query<{ day: string }>('select day from channel_day order by day')).rows.map((row) => row.day)
}

describe('horizons', () => {
  test('months are calendar months, and the 31st less one month is the last of a shorter one', () => {
    expect(horizonInstant({ months: 1 }, Date.UTC(2026, 2, 31, 6)).toISOString()).toBe('2026-02-28T06:00:00.000Z')
    expect(horizonInstant({ months: 12 }, Date.UTC(2028, 1, 29)).toISOString()).toBe('2027-02-28T00:00:00.000Z')
    expect(horizonInstant({ days: 30 }, Date.UTC(2026, 2, 31)).toISOString()).toBe('2026-03-01T00:00:00.000Z')
  })

  test('reads are kept at least as long as said, by whole months', () => {
    expect(readsKeptFrom({ months: 13 }, NOW)).toBe(firstDayOf(2025 * 12 + 8))
    // On the first of a month a zone behind UTC is still in the month before.
    expect(readsKeptFrom({ months: 13 }, Date.UTC(2026, 9, 1, 3))).toBe(firstDayOf(2025 * 12 + 7))
    expect(readsKeptFrom(null, NOW)).toBeUndefined()
  })
})

describe('maintenance', () => {
  test('without retention it prunes keys and changes of more than 14 days and nothing else', async () => {
    const storage = await openStorage(db.pool)
    for (const [table, columns, values] of [
      ['idempotency', 'utility_id, source_id, key, sha256, delivery_id', "1, 1, gen_random_uuid()::text, '', gen_random_uuid()"],
      ['change', 'utility_id, day, restated, account_ids, delivery_no', "1, '2026-10-01', false, '{}', 1"],
      ['quarantine', 'utility_id, source_id, delivery_no, reason, message, reads, version', "1, 1, 1, 'r', 'm', 1, 1"],
      ['message', 'message_id, utility_id, purpose, channel, body_enc, state', "gen_random_uuid(), 1, 'code', 'email', '', 'sent'"],
    ]) {
      const at = table === 'message' ? 'created_at' : 'at'
      await db.pool.query(`insert into ${table} (${columns}, ${at}) select ${values}, '2026-10-15T12:00Z'::timestamptz - make_interval(days => d)
        from generate_series(0, 40, 10) d`)
    }
    const result = await maintain(db.pool, storage, FOREVER, NOW)
    expect(result).toEqual({ skipped: false, dropped: {}, deleted: { idempotency: 3, change: 3 } })
    expect(await count('quarantine')).toBe(5)
    expect(storage.monthsMissing('delivery', [firstDayOf(2026 * 12 + 11)])).toEqual([])
  })

  test('retention drops what is older, whole months only, after the horizon has advanced', async () => {
    const storage = await openStorage(db.pool)
    await db.pool.query("update message set state = 'pending' where created_at < '2026-09-10'")
    // A chunk that reaches into September is kept whole: at least as long as said, in either storage.
    const august = onTimescale() ? '2025-08-09' : '2025-08-31'
    for (const day of ['2024-06-30', august, '2025-09-01', '2026-10-01']) {
      await storage.ensureForDays([Date.parse(day) / 86_400_000])
      await db.pool.query(`insert into channel_day (channel_id, day, first_at, interval_s, exponent, total, present, estimated, version, delivery_no, settled_at, vals)
        values (1, $1, now(), 900, -3, 0, 0, 0, 1, 1, now(), '{1}')`, [day])
      await db.pool.query("insert into system_load (utility_id, flow, hour, energy) values (1, 1, $1::date + interval '1 hour', 1)", [day])
      await db.pool.query('insert into period_read (meter_id, quantity, flow, start_at, end_at, value, version, delivery_no, settled_at) values (1, 1, 1, $1::date - 30, $1, 1, 1, 1, now())', [day])
    }
    // Of the fortnight that reaches into September 2025, of the one before, and of a later one.
    await db.pool.query('insert into channel_baseline (channel_id, period) values (1, 1452), (1, 1451), (1, 1490)')
    for (const day of ['2025-08-08', '2025-09-01']) {
      await db.pool.query("insert into vee_pending (utility_id, day, channel_ids) values (1, $1, '{1}')", [day])
      await db.pool.query(`insert into day_flag (utility_id, channel_id, day, rule, severity, slots, inputs, parameters, rule_set, flagged_at)
        values (1, 1, $1, 'gap', 'warning', '{}', '{}', '{}', 1, now())`, [day])
      await db.pool.query('insert into vee_gap (channel_id, day, utility_id) values (1, $1, 1)', [day])
      await db.pool.query("insert into estimate_basis (channel_id, day, delivery_no, basis, rule_set) values (1, $1, 1, '{}', 1)", [day])
    }
    const settings: RetentionSettings = { ...FOREVER, retentionReads: { months: 13 }, retentionQuarantine: { days: 15 }, retentionMessages: { days: 15 } }
    const result = await maintain(db.pool, storage, settings, NOW)
    expect(await days()).toEqual(['2025-09-01', '2026-10-01'])
    expect(result.deleted).toMatchObject({ quarantine: 3, message: 2, period_read: onTimescale() ? 2 : 1 })
    for (const table of ['vee_pending', 'day_flag', 'vee_gap', 'estimate_basis']) {
      expect((await db.pool.query(`select day from ${table}`)).rows).toEqual([{ day: '2025-09-01' }])
    }
    expect((await db.pool.query('select period from channel_baseline order by 1')).rows).toEqual([{ period: 1452 }, { period: 1490 }])
    expect(await count('message')).toBe(3)
    expect((await db.pool.query('select distinct horizon from utility')).rows).toEqual([{ horizon: '2025-09-01' }])
    // September's first local hours in Kiritimati are August's in UTC.
    expect((await db.pool.query("select min(hour) = $1::date + interval '1 hour' as kept from system_load", [august])).rows).toEqual([{ kept: true }])
    // A shorter run never moves the horizon back.
    await maintain(db.pool, storage, { ...FOREVER, retentionReads: { months: 60 } }, NOW)
    expect((await db.pool.query('select distinct horizon from utility')).rows).toEqual([{ horizon: '2025-09-01' }])
  })

  test('what was told goes with the messages; events and outages go with the reads that they explain', async () => {
    const storage = await openStorage(db.pool)
    await db.pool.query(`insert into webhook (webhook_id, utility_id, id, url, events, secret_enc, created_at, updated_at)
      values (gen_random_uuid(), 1, 'w', 'https://portal.example/', '{}', '', now(), now())`)
    for (const state of ['sent', 'failed', 'pending', 'sending']) {
      await db.pool.query(`insert into webhook_delivery (delivery_id, webhook_id, utility_id, event, payload, state, next_at, created_at)
        select gen_random_uuid(), webhook_id, 1, 'alert.raised', '{}', $1, now(), at from webhook, unnest($2::timestamptz[]) at`,
      [state, ['2026-09-29T12:00Z', '2026-10-01T12:00Z']])
    }
    await db.pool.query(`insert into sms_inbound (sid, utility_id, word, at) values ('SM1', 1, 'stop', '2026-09-29T12:00Z'), ('SM2', null, 'other', '2026-10-01T12:00Z')`)
    const { rows: [{ meter_id, account_id }] } = await db.pool.query<{ meter_id: number; account_id: number }>(`
      with m as (insert into meter (utility_id, id, epoch) values (1, 'M1', 1) returning meter_id),
           a as (insert into account (utility_id, id, epoch) values (1, 'A1', 1) returning account_id)
      select meter_id, account_id from m, a`)
    for (const [state, down, up] of [['over', '2025-08-20', '2025-08-21'], ['over', '2025-08-22', '2025-09-01'], ['told', '2025-08-23', null],
      ['ignored', '2025-08-24', null], ['over', '2026-10-01', '2026-10-02']]) {
      await db.pool.query('insert into outage (outage_id, utility_id, meter_id, account_id, state, down_at, up_at) values (gen_random_uuid(), 1, $1, $2, $3, $4, $5)',
        [meter_id, account_id, state, down, up])
      await db.pool.query("insert into meter_event (utility_id, meter, meter_id, kind, at, source) values (1, 'M1', $1, 'power-down', $2, 's')", [meter_id, down])
    }
    await db.pool.query(`insert into notice (notice_id, utility_id, idempotency_key, body_hash, category, template, params, audience, accounts, messages, actor, created_at)
      select gen_random_uuid(), 1, key, '', 'service', 'general', '{}', '{}', 1, 1, 'k', at
        from (values ('old', '2026-09-29T12:00Z'::timestamptz), ('unsent', '2026-09-29T12:00Z'), ('fresh', '2026-10-01T12:00Z')) n(key, at)`)
    await db.pool.query(`insert into message (message_id, utility_id, notice_id, purpose, channel, body_enc, state, created_at)
      select gen_random_uuid(), 1, notice_id, 'notice', 'email', '', 'pending', created_at from notice where idempotency_key = 'unsent'`)
    await db.pool.query(`insert into dead_letter (consumer_group, topic, kafka_partition, message_offset, code, message, at)
      values ('g', 't', 0, 1, 'c', 'm', '2026-09-29T12:00Z'), ('g', 't', 0, 2, 'c', 'm', '2026-10-01T12:00Z')`)
    const told: RetentionSettings = { ...FOREVER, retentionMessages: { days: 15 } }
    expect((await maintain(db.pool, storage, told, NOW)).deleted).toMatchObject({ webhook_delivery: 2, sms_inbound: 1, notice: 1 })
    expect((await db.pool.query('select idempotency_key from notice order by 1')).rows).toEqual([{ idempotency_key: 'fresh' }, { idempotency_key: 'unsent' }])
    expect((await maintain(db.pool, storage, { ...FOREVER, retentionQuarantine: { days: 15 } }, NOW)).deleted).toMatchObject({ dead_letter: 1 })
    expect((await db.pool.query('select state, count(*)::int as n from webhook_delivery group by 1 order by 1')).rows)
      .toEqual([{ state: 'failed', n: 1 }, { state: 'pending', n: 2 }, { state: 'sending', n: 2 }, { state: 'sent', n: 1 }])
    expect((await db.pool.query('select sid from sms_inbound')).rows).toEqual([{ sid: 'SM2' }])
    expect([await count('meter_event'), await count('outage')]).toEqual([5, 5])
    const result = await maintain(db.pool, storage, { ...FOREVER, retentionReads: { months: 13 } }, NOW)
    expect(result.deleted).toMatchObject({ meter_event: 4, outage: 2 })
    expect(result.deleted).not.toHaveProperty('webhook_delivery')
    // One that is not over stays, and so does one that reaches into a month whose reads are kept.
    expect((await db.pool.query('select state, up_at is null as open from outage order by down_at')).rows)
      .toEqual([{ state: 'over', open: false }, { state: 'told', open: true }, { state: 'over', open: false }])
    // A key may be repeated for 14 days, however short the messages are kept.
    expect((await maintain(db.pool, storage, { ...FOREVER, retentionMessages: { days: 1 } }, NOW)).deleted).toMatchObject({ notice: 0, sms_inbound: 1 })
  })

  test('the horizon waits for a settling transaction that still goes by the old one', async () => {
    const storage = await openStorage(db.pool)
    let run: Promise<unknown> = Promise.resolve()
    await inTransaction(db.pool, async (client) => {
      await client.query('select pg_advisory_xact_lock_shared($1::int, 1)', [REGISTRY_LOCK])
      run = maintain(db.pool, storage, { ...FOREVER, retentionReads: { months: 12 } }, NOW)
      await client.query('select pg_sleep(0.3)')
      expect((await db.pool.query("select horizon from utility where id = 'one'")).rows).toEqual([{ horizon: '2025-09-01' }])
      // Another process at the same time leaves it to the first.
      expect(await maintain(db.pool, storage, FOREVER, NOW)).toMatchObject({ skipped: true })
    })
    await run
    expect((await db.pool.query('select distinct horizon from utility')).rows).toEqual([{ horizon: '2025-10-01' }])
    expect(await days()).toEqual(['2026-10-01'])
  })
})
