import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { inject } from 'vitest'
import { openPool, type Pool } from '../engine/store/db.js'

/** A database of one test file. */
export interface TestDatabase {
  url: string
  name: string
  /** A pool of 10 with Meterline's type parsers, closed by close(). */
  pool: Pool
  /** Closes the pool and drops the database. @throws when connections of the test are left over */
  close(): Promise<void>
}

/** Time that a connection being closed is given to disappear from the server. */
const LINGER_MS = 3000

/** A fresh database with the migrated schema and the partitions of this month: a clone of the run's template. */
export async function testDatabase(): Promise<TestDatabase> {
  return create(inject('testTemplate'))
}

/** A fresh database with nothing in it: for tests of migrations. */
export async function emptyDatabase(): Promise<TestDatabase> {
  return create('template0')
}

async function create(template: string): Promise<TestDatabase> {
  const server = inject('testServer')
  const name = `meterline_test_${randomBytes(6).toString('hex')}`
  await withServer(server, (client) => client.query(`create database ${name} template ${template}`))
  const parts = new URL(server)
  parts.pathname = `/${name}`
  const url = parts.href
  const pool = openPool(url, 10, 'meterline test', () => undefined)
  return {
    url,
    name,
    pool,
    async close() {
      await pool.end()
      await withServer(server, async (client) => {
        const left = await leftOver(client, name)
        await client.query(`drop database if exists ${name} with (force)`)
        if (left.length > 0) throw new Error(`connections left open on ${name}: ${left.join(', ')}`)
      })
    },
  }
}

async function leftOver(client: pg.Client, name: string): Promise<string[]> {
  for (let waited = 0; ; waited += 50) {
    const { rows } = await client.query<{ what: string }>(`
      select application_name || ' (' || coalesce(state, '?') || '): ' || left(query, 80) as what
        from pg_stat_activity where datname = $1 and backend_type = 'client backend'`, [name])
    if (rows.length === 0 || waited >= LINGER_MS) return rows.map((row) => row.what)
    await delay(50)
  }
}

async function withServer<T>(server: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: server, application_name: 'meterline test' })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

/** Whether this run's databases are hypertables: for `describe.runIf`. */
export function onTimescale(): boolean {
  return inject('testStorage') === 'timescale'
}

/** Lets a test write days of any month without making their partitions; TimescaleDB makes chunks by itself. */
export async function takeAnyDay(db: TestDatabase): Promise<void> {
  if (!onTimescale()) await db.pool.query('create table channel_day_rest partition of channel_day default')
}
