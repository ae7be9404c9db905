import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { packageRoot } from '../../engine/package-root.js'
import { emptyDatabase, testDatabase, type TestDatabase } from '../database.js'
import { Caller } from './caller.js'
import { cleanUp, engineFolder, operatorKey, startEngine, until, type EngineProcess } from './engine-process.js'

test('20 processes migrate an empty database at once: each ends well, and each file was applied once', async () => {
  const db = await emptyDatabase()
  try {
    const script = `const { migrate } = await import(${JSON.stringify(join(packageRoot(), 'dist/engine/store/migrate.js'))})
      const { applied } = await migrate(${JSON.stringify(db.url)})
      process.stdout.write(String(applied.length))`
    const ends = await Promise.all(Array.from({ length: 20 }, () => new Promise<{ code: number | null; applied: number; said: string }>((resolve) => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'pipe'] })
      let out = ''
      let said = ''
      child.stdout.on('data', (chunk: Buffer) => { out += chunk.toString() })
      child.stderr.on('data', (chunk: Buffer) => { said += chunk.toString() })
      child.once('close', (code) => resolve({ code, applied: Number(out), said }))
    })))
    expect(ends.filter((end) => end.code !== 0)).toEqual([])
    const { rows } = await db.pool.query<{ files: number }>('select count(*)::int as files from schema_migration')
    expect(ends.reduce((n, end) => n + end.applied, 0)).toBe(rows[0].files)
  } finally {
    await db.close()
  }
})

describe('a push that meets what the protocol of locks keeps from happening', () => {
  const dir = engineFolder()
  const engines: EngineProcess[] = []
  let db: TestDatabase
  let caller: Caller

  beforeAll(async () => {
    db = await testDatabase()
    engines.push(await startEngine(dir, { DATABASE_URL: db.url }))
    caller = new Caller(engines[0].url, operatorKey(dir))
    await caller.json('PUT', '/v1/accounts', [{ account: 'A1' }])
    await caller.json('PUT', '/v1/meters', ['R1', 'R2'].map((meter) => ({ meter, account: 'A1', from: '2020-01-01T00:00:00Z' })))
    expect((await caller.push({ reads: [block('R1', 1), block('R2', 1)] })).body).toMatchObject({ stored: 192 })
  })

  afterAll(async () => {
    caller.close()
    await cleanUp(dir, engines)
    await db.close()
  })

  const block = (meter: string, day: number): object =>
    ({ meter, start: new Date(Date.UTC(2026, 8, day)).toISOString(), intervalSeconds: 900, values: Array<number>(96).fill(0.25) })

  const waits = (): Promise<void> => until('the push waits', async () => (await db.pool.query(
    `select from pg_stat_activity where datname = current_database() and application_name = 'meterline worker' and wait_event_type = 'Lock'`)).rowCount! > 0)

  test('a deadlock, and it is the victim: it is tried again and acknowledged', async () => {
    const before = await deadlocks()
    const other = await db.pool.connect()
    try {
      const { rows } = await other.query<{ channel_id: number }>('select channel_id from channel order by channel_id')
      const lock = (id: number): Promise<unknown> => other.query('select from channel where channel_id = $1 for update', [id])
      await other.query('begin')
      await lock(rows[1].channel_id)
      const push = caller.push({ reads: [block('R1', 2), block('R2', 2)] })
      await waits()
      // Backwards, which nobody does. The push has waited for longer, so it is the one that notices.
      await lock(rows[0].channel_id)
      await other.query('commit')
      expect((await push).body).toMatchObject({ received: 192, stored: 192 })
    } finally {
      other.release()
    }
    await until('the deadlock is counted', async () => await deadlocks() > before)
  })

  test('a block that another put there since it looked: it looks again', async () => {
    const other = await db.pool.connect()
    try {
      await other.query('begin')
      await other.query(
        `insert into channel_day select (jsonb_populate_record(d, jsonb_build_object('day', d.day + 2, 'first_at', d.first_at + interval '2 days'))).*
           from channel_day d join channel using (channel_id) join meter using (meter_id) where id = 'R1' and day = '2026-09-01'`)
      const push = caller.push({ reads: [block('R1', 3), block('R2', 3)] })
      await waits()
      await other.query('commit')
      expect((await push).body).toMatchObject({ received: 192, stored: 96, duplicate: 96 })
    } finally {
      other.release()
    }
  })

  test('a lock that is held for longer than a push may wait: 503, and afterwards it settles', async () => {
    const other = await db.pool.connect()
    const second = await startEngine(dir, { DATABASE_URL: db.url, DATABASE_TIMEOUT_SECONDS: '1' })
    engines.push(second)
    const impatient = new Caller(second.url, operatorKey(dir))
    try {
      await other.query('begin; lock table channel_day in access exclusive mode')
      const answer = await impatient.push({ reads: [block('R1', 4)] })
      expect(answer.status, answer.text).toBe(503)
      expect(answer.body.code).toBe('database-busy')
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0)
      expect((await impatient.call('GET', '/v1/accounts/A1/usage?resolution=day&from=2026-09-01&to=2026-09-02')).body.code).toBe('database-busy')
      expect((await impatient.call('GET', '/readyz')).status).toBe(200)
      await other.query('rollback')
      expect((await impatient.push({ reads: [block('R1', 4)] })).body).toMatchObject({ stored: 96 })
    } finally {
      impatient.close()
      other.release()
    }
  })

  async function deadlocks(): Promise<number> {
    const { rows } = await db.pool.query<{ n: number }>('select deadlocks as n from pg_stat_database where datname = current_database()')
    return rows[0].n
  }
})
