import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { packageRoot } from '../package-root.js'
import { SCHEMA_LOCK, typeParsers } from './db.js'
import { chooseStorageMode, renderPartitions, readStorageMode, recordStorageMode, type StorageMode } from './storage.js'
import { makeHypertables } from './timescale.js'

/** One numbered SQL file. Numbers run from 1 without a gap; an applied file is never edited. */
export interface Migration {
  number: number
  name: string
  sql: string
  sha256: string
}

export interface MigrationResult {
  /** Files applied by this call, in order, such as `0001_core`. */
  applied: string[]
  /** Number of the newest file that the database has. */
  version: number
  storageMode: StorageMode
}

export type SchemaFault = 'schema-newer' | 'schema-changed' | 'schema-files' | 'server-too-old'

/** The database and the program do not fit together; nothing was changed. */
export class SchemaError extends Error {
  readonly code: SchemaFault

  constructor(code: SchemaFault, message: string) {
    super(message)
    this.name = 'SchemaError'
    this.code = code
  }
}

/** server_version_num of the oldest PostgreSQL that has all that the schema uses. */
const OLDEST_SERVER = 150_000
const FILE_NAME = /^(\d{4})_([a-z0-9_]+)\.sql$/
/** Second key of the advisory lock on migrations; partitions use keys from 1. */
export const MIGRATION_KEY = 0

/** Reads the program's migrations in order. @throws SchemaError `schema-files` on a gap, a double number or another name. */
export async function readMigrations(folder = join(packageRoot(), 'engine', 'store', 'migrations')): Promise<Migration[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.sql')).sort()
  const migrations = await Promise.all(names.map(async (file) => {
    const match = FILE_NAME.exec(file)
    if (match === null) throw new SchemaError('schema-files', `${file} is not named like 0001_name.sql`)
    const sql = await readFile(join(folder, file), 'utf8')
    // A checkout with CRLF line ends must not look like an edited file.
    const sha256 = createHash('sha256').update(sql.replaceAll('\r\n', '\n')).digest('hex')
    return { number: Number(match[1]), name: file.slice(0, -'.sql'.length), sql, sha256 }
  }))
  migrations.forEach((migration, i) => {
    if (migration.number !== i + 1) throw new SchemaError('schema-files', `migration ${i + 1} is missing or double: found ${migration.name}`)
  })
  return migrations
}

/**
 * Brings the schema up to the program's, one transaction per file, all under one advisory lock: any number of processes
 * may call it at once. The storage mode is chosen at the first migration and kept ever after.
 *
 * @param url of an existing database; the user must be allowed to create tables and the extension btree_gist in it
 * @param options.timescale `never`: plain partitions even where TimescaleDB could be had
 * @param options.migrations other than the program's own, for tests
 * @throws SchemaError when the database is newer than the program, an applied file was edited, or the server is too old
 */
export async function migrate(
  url: string, options: { timescale?: 'auto' | 'never'; migrations?: Migration[] } = {},
): Promise<MigrationResult> {
  const migrations = options.migrations ?? await readMigrations()
  const client = new pg.Client({ connectionString: url, types: typeParsers, application_name: 'meterline migrate' })
  // An idle connection that breaks is reported by the next query.
  client.on('error', () => undefined)
  await client.connect()
  try {
    await refuseOldServer(client)
    await client.query('select pg_advisory_lock($1::int, $2::int)', [SCHEMA_LOCK, MIGRATION_KEY])
    const known = await readApplied(client)
    checkApplied(known, migrations)
    const first = known.length === 0
    const storageMode = first ? await chooseStorageMode(client, url, options.timescale ?? 'auto') : await readStorageMode(client)
    const applied: string[] = []
    for (const migration of migrations.slice(known.length)) {
      await applyOne(client, migration, storageMode, first && migration.number === 1)
      applied.push(migration.name)
    }
    return { applied, version: migrations.length, storageMode }
  } finally {
    // Ending the session releases the advisory lock.
    await client.end()
  }
}

interface Applied {
  number: number
  name: string
  sha256: string
}

async function refuseOldServer(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ number: string; name: string }>(
    "select current_setting('server_version_num') as number, current_setting('server_version') as name")
  if (Number(rows[0].number) < OLDEST_SERVER) {
    throw new SchemaError('server-too-old', `the server is PostgreSQL ${rows[0].name}; Meterline needs 15 or newer`)
  }
}

async function readApplied(client: pg.Client): Promise<Applied[]> {
  await client.query(`
    create table if not exists schema_migration (
      number     int primary key,
      name       text not null,
      sha256     text not null,
      applied_at timestamptz not null default now()
    )`)
  const { rows } = await client.query<Applied>('select number, name, sha256 from schema_migration order by number')
  return rows
}

function checkApplied(applied: Applied[], migrations: Migration[]): void {
  const newest = applied.at(-1)
  if (newest !== undefined && newest.number > migrations.length) {
    throw new SchemaError('schema-newer',
      `the database is at schema ${newest.number} (${newest.name}), this program knows ${migrations.length}: ` +
      'it was migrated by a newer Meterline; start that version or a later one')
  }
  applied.forEach((row, i) => {
    const migration = migrations[i]
    if (row.number !== migration.number || row.name !== migration.name || row.sha256 !== migration.sha256) {
      throw new SchemaError('schema-changed',
        `migration ${row.name} was applied with another content than ${migration.name} has now: ` +
        'an applied file must not be edited; restore it and put the change into a new file')
    }
  })
}

async function applyOne(client: pg.Client, migration: Migration, mode: StorageMode, first: boolean): Promise<void> {
  await client.query('begin')
  try {
    // A migration that waits behind a long reader would hold up every writer queued behind it.
    await client.query("set local lock_timeout = '60s'")
    await client.query(renderPartitions(migration.sql, mode))
    if (first) await recordStorageMode(client, mode)
    if (mode === 'timescale') await makeHypertables(client)
    await client.query('insert into schema_migration (number, name, sha256) values ($1, $2, $3)',
      [migration.number, migration.name, migration.sha256])
    await client.query('commit')
  } catch (err) {
    await client.query('rollback').catch(() => undefined)
    throw new Error(`migration ${migration.name} failed and was rolled back: ${err instanceof Error ? err.message : String(err)}`,
      { cause: err })
  }
}
