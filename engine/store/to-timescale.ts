import pg from 'pg'
import { MIGRATION_KEY } from './migrate.js'
import { SCHEMA_LOCK, typeParsers, type Client } from './db.js'
import { createTimescale, monthOfPartition, readStorageMode } from './storage.js'
import { makeHypertables, offersTimescale } from './timescale.js'

/** The installation cannot be moved as it stands; nothing was changed. The message says what to do. */
export class MoveError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'MoveError'
  }
}

export interface MoveProgress {
  table: string
  /** The partition that was copied last. */
  partition: string
  /** Rows of the table copied so far. */
  rows: number
}

/** Rows moved, by table. */
export type MoveResult = Record<MovedTable, number>

type MovedTable = 'channel_day' | 'system_load'

/** Order in which rows are written: those of one channel beside each other, as they are read. */
const TABLES: Record<MovedTable, { order: string; sums: string }> = {
  channel_day: {
    order: 'channel_id, day',
    sums: `count(*), sum(total), sum(present), sum(estimated), sum(version), bit_xor(hash_array_extended(vals, channel_id * 65536::int8 + (day - date '1970-01-01'))),
      bit_xor(hash_array_extended(coalesce(lane, '{}'), channel_id)), bit_xor(hash_array_extended(coalesce(versions, '{}'), channel_id))`,
  },
  system_load: { order: 'utility_id, group_id, flow, hour', sums: 'count(*), sum(energy), sum(coarse), sum(extract(epoch from hour))' },
}
const NAMES = Object.keys(TABLES) as MovedTable[]

/**
 * Moves an installation on plain partitions to hypertables. All or nothing: one transaction copies the blocks partition by
 * partition, compares counts, totals and hashes of the values with what was there, and only then drops the old tables; cut
 * short at any instant it leaves everything as it was. Views that read the tables are made again as they were, with their
 * owners, options, comments and grants. Needs room for a second copy of the blocks, and no other Meterline on the database.
 *
 * @param url of a database whose schema is up to date
 * @throws MoveError where it cannot be done, with what to do
 */
export async function moveToTimescale(url: string, onProgress: (progress: MoveProgress) => void): Promise<MoveResult> {
  const first = await connect(url)
  try {
    if (await readStorageMode(first) === 'timescale') throw new MoveError('this installation is on TimescaleDB already')
    if (!await offersTimescale(first)) {
      throw new MoveError('the server offers no TimescaleDB of version 2.20 or newer: install it, put timescaledb into ' +
        'shared_preload_libraries and restart the server, or take a server that has it (docs/operations.md)')
    }
  } finally {
    await first.end()
  }
  if (!await createTimescale(url)) {
    throw new MoveError('the extension timescaledb cannot be created: is it in shared_preload_libraries, and may this user create extensions?')
  }
  // A session that began before the extension was made may not know it.
  const client = await connect(url)
  try {
    await client.query('select pg_advisory_lock($1::int, $2::int)', [SCHEMA_LOCK, MIGRATION_KEY])
    await refuseOthers(client)
    await client.query('begin')
    try {
      const rows = await moveTables(client, onProgress)
      await client.query('commit')
      await client.query('analyze channel_day')
      return rows
    } catch (err) {
      await client.query('rollback').catch(() => undefined)
      throw err
    }
  } finally {
    await client.end()
  }
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, types: typeParsers, application_name: 'meterline migrate' })
  client.on('error', () => undefined)
  await client.connect()
  return client
}

/** A process that goes on believing in partitions would make some where a hypertable stands. */
async function refuseOthers(client: Client): Promise<void> {
  const { rows } = await client.query<{ name: string; address: string }>(`
    select distinct application_name as name, coalesce(host(client_addr), 'a socket') as address from pg_stat_activity
     where datname = current_database() and pid <> pg_backend_pid() and application_name like 'meterline%'`)
  if (rows.length === 0) return
  throw new MoveError(`other programs work on this database (${rows.map((r) => `"${r.name}" from ${r.address}`).join(', ')}): ` +
    'stop every Meterline first, and start them again when this has ended')
}

async function moveTables(client: Client, onProgress: (progress: MoveProgress) => void): Promise<MoveResult> {
  await client.query("set local lock_timeout = '30s'")
  await client.query(`lock table ${NAMES.join(', ')} in access exclusive mode`)
  if (await readStorageMode(client) === 'timescale') throw new MoveError('this installation was moved to TimescaleDB meanwhile')
  const views = await readViews(client)
  const grants = new Map<string, string[]>()
  const moved: MoveResult = { channel_day: 0, system_load: 0 }
  for (const table of NAMES) {
    grants.set(table, await readGrants(client, table))
    await client.query(`alter table ${table} rename to ${table}_moving`)
    await client.query(`alter table ${table}_moving rename constraint ${table}_pkey to ${table}_moving_pkey`)
    await client.query(`create table ${table} (like ${table}_moving including all)`)
  }
  await makeHypertables(client)
  for (const table of NAMES) {
    for (const partition of await readPartitions(client, table)) {
      const { rowCount } = await client.query(`insert into ${table} select * from ${partition} order by ${TABLES[table].order}`)
      moved[table] += rowCount ?? 0
      onProgress({ table, partition, rows: moved[table] })
    }
    await verify(client, table)
  }
  // Dependents first. What else depends on the tables makes the drop below fail, and all is as it was.
  for (const view of [...views].reverse()) await client.query(`drop view ${view.name}`)
  for (const table of NAMES) await client.query(`drop table ${table}_moving`)
  for (const view of views) for (const sql of view.create) await client.query(sql)
  for (const sql of [...grants.values()].flat()) await client.query(sql)
  await client.query("update installation set storage_mode = 'timescale'")
  return moved
}

async function readPartitions(client: Client, table: MovedTable): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(`
    select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = to_regclass($1) order by c.relname`, [`${table}_moving`])
  // A default partition that somebody made by hand is copied too.
  return rows.map((row) => row.name).sort((a, b) => (monthOfPartition(table, a) ?? Infinity) - (monthOfPartition(table, b) ?? Infinity))
}

/** @throws Error where the copy is not what was copied, which no known cause explains */
async function verify(client: Client, table: MovedTable): Promise<void> {
  const sums = async (name: string): Promise<string> => {
    const { rows } = await client.query<{ sums: string }>(`select row(${TABLES[table].sums})::text as sums from ${name}`)
    return rows[0].sums
  }
  const [old, copy] = [await sums(`${table}_moving`), await sums(table)]
  if (old !== copy) throw new Error(`the copy of ${table} is not what was copied: ${old} before, ${copy} after; nothing was changed`)
}

interface View {
  name: string
  /** Statements that make it again. */
  create: string[]
}

/** Views that read the tables, directly or by other views, in the order they were made. */
async function readViews(client: Client): Promise<View[]> {
  const { rows } = await client.query<{ name: string; definition: string; options: string; comment: string | null }>(`
    with recursive dependent as (
      select distinct r.ev_class as oid from pg_depend d join pg_rewrite r on r.oid = d.objid
       where d.classid = 'pg_rewrite'::regclass and d.refobjid = any($1::regclass[])
      union
      select r.ev_class from dependent v join pg_depend d on d.refobjid = v.oid join pg_rewrite r on r.oid = d.objid
       where d.classid = 'pg_rewrite'::regclass and r.ev_class <> v.oid
    )
    select c.oid::regclass::text as name, pg_get_viewdef(c.oid) as definition,
           coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', '') as options, obj_description(c.oid, 'pg_class') as comment
      from dependent join pg_class c using (oid) where c.relkind = 'v' order by c.oid`, [NAMES])
  const views: View[] = []
  for (const { name, definition, options, comment } of rows) {
    views.push({
      name,
      create: [
        `create view ${name}${options} as ${definition}`,
        ...(comment === null ? [] : [`comment on view ${name} is ${pg.escapeLiteral(comment)}`]),
        ...await readGrants(client, name),
      ],
    })
  }
  return views
}

/** Statements that give a table or view its owner and its grants again. */
async function readGrants(client: Client, relation: string): Promise<string[]> {
  const { rows } = await client.query<{ privilege: string | null; grantee: string | null; grantable: boolean; owner: string }>(`
    select a.privilege_type as privilege, r.rolname as grantee, a.is_grantable as grantable, pg_get_userbyid(c.relowner) as owner
      from pg_class c
      left join lateral (select * from aclexplode(c.relacl) where grantee <> c.relowner) a on true
      left join pg_roles r on r.oid = a.grantee
     where c.oid = to_regclass($1)`, [relation])
  return [
    `alter table ${relation} owner to ${pg.escapeIdentifier(rows[0].owner)}`,
    ...rows.filter((row) => row.privilege !== null).map((row) =>
      `grant ${row.privilege} on ${relation} to ${row.grantee === null ? 'public' : pg.escapeIdentifier(row.grantee)}` +
      (row.grantable ? ' with grant option' : '')),
  ]
}
