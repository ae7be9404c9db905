import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { CommandLine, getJson } from '../../test/command-line.js'
import { emptyDatabase, onTimescale, type TestDatabase } from '../../test/database.js'
import { onServer } from '../../test/global-setup.js'
import { expectSound } from '../../test/soundness.js'
import { openPool, type Pool } from './db.js'
import { migrate } from './migrate.js'
import { moveToTimescale } from './to-timescale.js'

const STATE = [
  'select * from channel_day order by channel_id, day',
  'select * from system_load order by utility_id, group_id, flow, hour',
  'select * from usage_month order by 1, 2, 4, 5',
  'select * from member_days order by 1, 2',
  'select * from revision order by seq',
]

async function state(pool: Pool): Promise<unknown[]> {
  return Promise.all(STATE.map(async (sql) => (await pool.query<Record<string, unknown>>(sql)).rows))
}

describe.runIf(onTimescale())('the move to TimescaleDB (only on a server that has it)', () => {
  let db: TestDatabase
  /** An analyst's connections: only those of Meterline stand in the way. */
  let pool: Pool
  let program: CommandLine
  const ROLE = `meterline_test_analyst_${Math.random().toString(36).slice(2)}`
  beforeAll(async () => {
    db = await emptyDatabase()
    pool = openPool(db.url, 4, 'analyst', () => undefined)
    await migrate(db.url, { timescale: 'never' })
    program = new CommandLine({ DATABASE_URL: db.url, UTILITY_ZONE: 'America/Chicago' })
  })
  afterAll(async () => {
    await program.close()
    await pool.query(`drop owned by ${ROLE}`)
    await pool.end()
    await db.close()
    await onServer(inject('testServer'), `drop role ${ROLE}`)
  })

  const fleet = Array.from({ length: 30 }, (_, i) => `M${i}`)
  const pushOf = (firstDay: string, value: number): string => JSON.stringify(fleet.map((meter, i) => ({
    meter, start: `${firstDay}T00:00:00-06:00`, intervalSeconds: 900, values: Array.from({ length: 96 * 3 }, (_, s) => (value + i + s) / 1000) })))
  const load = (body: string): Promise<{ code: number | null }> => program.run(['load', '-', '--format', 'json', '--source', 'ami'], { input: body })

  test('a real installation has the same blocks, load, views, owners and grants after it, and settles on', async () => {
    const registry = fleet.map((meter) => `${meter},A1,2025-01-01T00:00:00-06:00`).join('\n')
    writeFileSync(`${program.dir}/accounts.csv`, 'account\nA1\n')
    writeFileSync(`${program.dir}/meters.csv`, `meter,account,from\n${registry}\n`)
    expect(await program.run(['register', `${program.dir}/accounts.csv`, `${program.dir}/meters.csv`])).toMatchObject({ code: 0 })
    for (const [firstDay, value] of [['2025-11-30', 100], ['2025-12-30', 200], ['2026-02-10', 300], ['2025-12-30', 250]] as const) {
      expect(await load(pushOf(firstDay, value))).toMatchObject({ code: 0 })
    }
    // What an operator may have added: a view on a view, its grant, a comment, another owner.
    await pool.query(`
      create role ${ROLE};
      create view member_days with (security_barrier = true) as select meter, day, kwh from usage_day where kwh > 0;
      comment on view member_days is 'for the portal''s nightly export';
      grant select on member_days, channel_day to ${ROLE};
      grant select on usage_day to public`)
    const before = await state(pool)
    expect((before[0] as unknown[]).length).toBe(30 * 9)

    const url = await program.serve()
    const answer = await getJson(url, program.operatorKey(), '/v1/accounts/A1/usage?from=2025-11-30&to=2026-03-01&resolution=month')
    const busy = await program.run(['migrate', '--to-timescale'])
    expect(busy).toMatchObject({ code: 1, stdout: '' })
    expect(busy.stderr).toMatch(/"meterline" from 127\.0\.0\.1.*stop every Meterline first/)
    await program.stopServers()

    const moved = await program.run(['migrate', '--to-timescale'])
    expect(moved.stderr).toMatch(/moved and verified: 270 day blocks/)
    expect(moved).toMatchObject({ code: 0, stdout: expect.stringMatching(/storage timescale/) as string })
    expect(await state(pool)).toEqual(before)
    const { rows } = await pool.query(`
      select has_table_privilege('${ROLE}', 'member_days', 'select') as own, has_table_privilege('${ROLE}', 'channel_day', 'select') as blocks,
             has_table_privilege('${ROLE}', 'usage_day', 'select') as everybody, has_table_privilege('${ROLE}', 'usage_month', 'select') as other,
             obj_description('member_days'::regclass) as comment, (select reloptions from pg_class where relname = 'member_days') as options`)
    expect(rows).toEqual([{ own: true, blocks: true, everybody: true, other: false, comment: "for the portal's nightly export", options: ['security_barrier=true'] }])
    expect((await pool.query("select from pg_class where relname ~ 'moving' or relname ~ '^channel_day_20'")).rowCount).toBe(0)

    const again = await program.serve()
    expect(await getJson(again, program.operatorKey(), '/v1/accounts/A1/usage?from=2025-11-30&to=2026-03-01&resolution=month')).toEqual(answer)
    expect(await load(pushOf('2025-12-30', 400))).toMatchObject({ code: 0 })
    expect(await load(pushOf('2024-05-05', 10))).toMatchObject({ code: 0 })
    const { rows: [utility] } = await pool.query<{ utility_id: number }>("select utility_id from utility where id = 'default'")
    await expectSound(pool, utility.utility_id)
    await expect(moveToTimescale(db.url, () => undefined)).rejects.toThrow(/already/)
  })

  test('what stands in its way leaves everything as it was', async () => {
    const other = await emptyDatabase()
    await migrate(other.url, { timescale: 'never' })
    const observer = openPool(other.url, 1, 'analyst', () => undefined)
    await observer.query('create materialized view frozen as select count(*) as n from channel_day')
    await expect(moveToTimescale(other.url, () => undefined)).rejects.toThrow(/frozen|depend/)
    expect((await observer.query('select storage_mode from installation')).rows).toEqual([{ storage_mode: 'partition' }])
    expect((await observer.query("select relkind from pg_class where oid = 'channel_day'::regclass")).rows).toEqual([{ relkind: 'p' }])
    await observer.end()
    await other.close()
  })
})

describe.skipIf(onTimescale())('without TimescaleDB (only on plain PostgreSQL)', () => {
  test('the move says what is missing', async () => {
    const db = await emptyDatabase()
    await migrate(db.url)
    await expect(moveToTimescale(db.url, () => undefined)).rejects.toThrow(/offers no TimescaleDB.*docs\/operations\.md/)
    await db.close()
  })
})
