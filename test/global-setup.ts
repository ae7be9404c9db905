import { randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { TestProject } from 'vitest/node'
import { askServer, clusterUrl, freePort, initCluster, reachableBinaries, runningServer, serverUser, spawnServer, stopServer } from '../engine/store/cluster.js'
import { openPool } from '../engine/store/db.js'
import { isAlive, ownMark, type ProcessMark } from '../engine/store/folder-lock.js'
import { migrate } from '../engine/store/migrate.js'
import { makeAhead, type StorageMode } from '../engine/store/storage.js'

declare module 'vitest' {
  export interface ProvidedContext {
    /** A server that tests may make and drop databases on: the URL of its maintenance database. */
    testServer: string
    /** Name of the migrated database that test databases are cloned from. */
    testTemplate: string
    /** How that database is cut by time: tests of one storage alone are named as skipped in a run on the other. */
    testStorage: StorageMode
  }
}

/**
 * One database server for the whole run: TEST_DATABASE_URL, or a throw-away cluster of the embedded binaries in a
 * temporary folder. In it one migrated template, with this month's partitions, that test/database.ts clones: hypertables
 * where the server offers TimescaleDB, unless TEST_STORAGE=partition.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env.TEST_DATABASE_URL
  const server = given === undefined || given === '' ? await throwAwayServer() : borrowedServer(given)
  // The name carries "test" and is unique: several runs may share a borrowed server.
  const template = `meterline_test_template_${randomBytes(4).toString('hex')}`
  let storage: StorageMode
  try {
    await onServer(server.url, `create database ${template}`)
    const url = withDatabase(server.url, template)
    storage = (await migrate(url, { timescale: process.env.TEST_STORAGE === 'partition' ? 'never' : 'auto' })).storageMode
    const pool = openPool(url, 1, 'meterline test', () => undefined)
    await makeAhead(pool, Date.now())
    const { rows } = await pool.query<{ what: string }>(`
      select 'PostgreSQL ' || current_setting('server_version') ||
        coalesce((select ' with TimescaleDB ' || extversion from pg_extension where extname = 'timescaledb'), '') as what`)
    await pool.end()
    project.vitest.logger.log(`tests run on ${rows[0].what}, storage ${storage}`)
    if (storage === 'timescale') await detachWorkers(server.url, template)
  } catch (err) {
    await server.stop()
    throw err
  }
  project.provide('testServer', server.url)
  project.provide('testTemplate', template)
  project.provide('testStorage', storage)
  return async () => {
    if (given !== undefined && given !== '') await onServer(server.url, `drop database if exists ${template} with (force)`)
    await server.stop()
  }
}

/** TimescaleDB's scheduler connects to every database, and one that has a session cannot be cloned. */
async function detachWorkers(server: string, template: string): Promise<void> {
  await onServer(server, `alter database ${template} allow_connections false`)
  await onServer(server, `select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '${template}'`)
}

/** A server somebody else runs. @throws when its database is not named as one for tests */
function borrowedServer(url: string): { url: string; stop: () => Promise<void> } {
  const name = new URL(url).pathname.slice(1)
  if (!/(^|[^a-z])test([^a-z]|$)/i.test(name)) {
    throw new Error(`TEST_DATABASE_URL names the database "${name}": tests make and drop databases beside it, ` +
      'so its name must contain the word test, such as meterline_test')
  }
  return { url, stop: () => Promise.resolve() }
}

const FOLDER = 'meterline-test-'

async function throwAwayServer(): Promise<{ url: string; stop: () => Promise<void> }> {
  await sweep()
  const folder = mkdtempSync(join(tmpdir(), FOLDER))
  writeFileSync(join(folder, 'run.json'), JSON.stringify(ownMark()))
  chmodSync(folder, 0o755)
  const user = serverUser()
  const binaries = reachableBinaries(user, folder)
  const password = randomBytes(12).toString('hex')
  const data = join(folder, 'pgdata')
  const log = join(folder, 'start.log')
  await initCluster(binaries, data, password, user, true)
  const port = await freePort()
  // Nothing here outlives the run, so nothing waits for the disk.
  const settings = { fsync: 'off', full_page_writes: 'off', synchronous_commit: 'off', max_connections: '200', shared_buffers: '128MB', max_wal_size: '2GB' }
  const child = spawnServer(binaries, data, port, settings, user, log)
  const ended = new Promise<void>((done) => child.once('exit', () => done()))
  const url = clusterUrl(port, password, 'postgres')
  const stop = async (): Promise<void> => {
    // Not held, a run whose setup failed would end here without a word, as if all had passed.
    child.ref()
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGQUIT')
    await ended
    rmSync(folder, { recursive: true, force: true })
  }
  for (let waited = 0; await askServer(url) !== 'ready'; waited += 50) {
    if (waited > 30_000 || child.exitCode !== null) {
      const said = readFileSync(log, 'utf8')
      await stop()
      throw new Error(`the test server did not start: ${said}`)
    }
    await delay(50)
  }
  return { url, stop }
}

/** Ends and removes what runs that were killed have left behind. */
async function sweep(): Promise<void> {
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(FOLDER))) {
    const folder = join(tmpdir(), name)
    const run = readJson(join(folder, 'run.json'))
    if (run === undefined || isAlive(run)) continue
    const server = runningServer(join(folder, 'pgdata'))
    if (server !== undefined) await stopServer(server, { warn: () => undefined }, ['SIGQUIT', 'SIGKILL'])
    rmSync(folder, { recursive: true, force: true })
  }
}

function readJson(path: string): ProcessMark | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as ProcessMark
  } catch {
    return undefined
  }
}

/** The same server, another database. */
export function withDatabase(url: string, database: string): string {
  const parts = new URL(url)
  parts.pathname = `/${database}`
  return parts.href
}

/** One statement on a connection of its own. */
export async function onServer(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, application_name: 'meterline test' })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}
