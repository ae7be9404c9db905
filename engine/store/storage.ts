import pg from 'pg'
import { patientClient, SCHEMA_LOCK, sqlState, typeParsers, type Pool, type Queryable } from './db.js'
import { dropChunks, firstDayWithout, isHypertable, makeChunks, offersTimescale, readChunkSpans, UNBOUNDED_DECOMPRESSION,
  type HypertableName } from './timescale.js'

/** How the big tables are cut by time, and everything that differs by that; timescale.ts has what needs TimescaleDB. */

export type StorageMode = 'partition' | 'timescale'
export type PartitionedTable = 'channel_day' | 'system_load' | 'delivery' | 'revision'

/** A month as a number: year x 12 + month (0-11). */
export type Month = number

interface Cut {
  column: string
  /** Second key of the advisory lock under which the table's partitions are made. */
  lockKey: number
  /** Storage parameters of each partition; the partitioned table itself cannot carry them. */
  parameters: string
}

const CUTS: Record<PartitionedTable, Cut> = {
  channel_day: {
    column: 'day',
    lockKey: 1,
    // Pieces of a day are merged into stored blocks: room on the page keeps those updates heap-only.
    parameters: 'with (fillfactor = 70)',
  },
  system_load: { column: 'hour', lockKey: 2, parameters: '' },
  delivery: { column: 'accepted_at', lockKey: 3, parameters: '' },
  revision: { column: 'at', lockKey: 4, parameters: '' },
}
const TABLES = Object.keys(CUTS) as PartitionedTable[]
/** Added to a table's lock key where partitions are dropped. */
const DROP_KEY = 50
const SECONDS_PER_DAY = 86_400

/** Month of a day number (days since 1970-01-01). */
export function monthOfDay(day: number): Month {
  const date = new Date(day * SECONDS_PER_DAY * 1000)
  return date.getUTCFullYear() * 12 + date.getUTCMonth()
}

/** Day number of the first day of a month. */
export function firstDayOf(month: Month): number {
  return Date.UTC(Math.floor(month / 12), month % 12, 1) / 1000 / SECONDS_PER_DAY
}

/** UTC month of an instant in epoch seconds: what `system_load`, `delivery` and `revision` are cut by. */
export function monthOfInstant(seconds: number): Month {
  return monthOfDay(Math.floor(seconds / SECONDS_PER_DAY))
}

/** '2026-10-01' for a month of October 2026. */
export function monthStartText(month: Month): string {
  return `${String(Math.floor(month / 12)).padStart(4, '0')}-${String(month % 12 + 1).padStart(2, '0')}-01`
}

/** Name of a table's partition, such as channel_day_2026_10. */
export function partitionName(table: PartitionedTable, month: Month): string {
  return `${table}_${monthStartText(month).slice(0, 7).replace('-', '_')}`
}

/** Month that a partition's name stands for; undefined for any other name. */
export function monthOfPartition(table: PartitionedTable, name: string): Month | undefined {
  const match = /^_(\d{4})_(\d{2})$/.exec(name.startsWith(table) ? name.slice(table.length) : '')
  return match === null ? undefined : Number(match[1]) * 12 + Number(match[2]) - 1
}

/** Fills in `{{PARTITION BY x}}` of a migration. */
export function renderPartitions(sql: string, mode: StorageMode): string {
  return sql.replace(/\{\{PARTITION BY (\w+)\}\}/g, (_, column: string) => mode === 'partition' ? `partition by range (${column})` : '')
}

/**
 * Storage mode of a database that has no schema yet: `timescale` where the extension can be created, else `partition`.
 * @param client holds the migration lock
 */
export async function chooseStorageMode(client: Queryable, url: string, wanted: 'auto' | 'never'): Promise<StorageMode> {
  if (wanted === 'never') return 'partition'
  return await offersTimescale(client) && await createTimescale(url) ? 'timescale' : 'partition'
}

/** Creates the extension where it is not there. @returns false where this server or user cannot */
export async function createTimescale(url: string): Promise<boolean> {
  // On a connection of its own: where the library is not preloaded the server ends the session that asks for it.
  const attempt = new pg.Client({ connectionString: url, application_name: 'meterline migrate' })
  attempt.on('error', () => undefined)
  try {
    await attempt.connect()
    await attempt.query('create extension if not exists timescaledb')
    return true
  } catch {
    return false
  } finally {
    await attempt.end().catch(() => undefined)
  }
}

/** Notes the mode for good; in the transaction of the first migration. */
export async function recordStorageMode(client: Queryable, mode: StorageMode): Promise<void> {
  await client.query('insert into installation (storage_mode) values ($1)', [mode])
}

/** Storage mode of a migrated database. */
export async function readStorageMode(client: Queryable): Promise<StorageMode> {
  const { rows } = await client.query<{ storage_mode: StorageMode }>('select storage_mode from installation')
  if (rows.length === 0) throw new Error('the table installation is empty: the first migration did not end')
  return rows[0].storage_mode
}

/** A connection of its own with the pool's settings: a pool whose clients all wait for a partition could not give one. */
async function withOwnConnection<T>(pool: Pool, work: (client: pg.Client) => Promise<T>, patient = false): Promise<T> {
  const client = patient ? patientClient(pool) : new pg.Client({ ...pool.options, types: typeParsers })
  client.on('error', () => undefined)
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

/** Months that a table has partitions for, those being detached not counted. */
async function readMonths(client: Queryable, table: PartitionedTable): Promise<Month[]> {
  const { rows } = await client.query<{ name: string }>(`
    select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = to_regclass($1) and not i.inhdetachpending`, [table])
  return rows.map((row) => monthOfPartition(table, row.name)).filter((month) => month !== undefined)
}

/**
 * Makes the partitions of these months that do not exist, each in a short transaction on a connection of its own, under
 * an advisory lock. Idempotent; any number of processes may ask for the same months at once.
 *
 * A table is made aside and attached, because ATTACH lets writers of the parent go on, while CREATE ... PARTITION OF
 * would wait behind every open one. Call it before the transaction that needs the partition has touched the table.
 */
export async function ensurePartitions(pool: Pool, table: PartitionedTable, months: readonly Month[]): Promise<void> {
  if (months.length === 0) return
  const { column, lockKey, parameters } = CUTS[table]
  await withOwnConnection(pool, async (client) => {
    for (const month of months) {
      const name = partitionName(table, month)
      await client.query('begin')
      try {
        await client.query('select pg_advisory_xact_lock($1::int, $2::int)', [SCHEMA_LOCK, lockKey])
        const { rows } = await client.query<{ loose: boolean; attached: boolean }>(`
          select to_regclass($2) is not null as loose,
            exists (select from pg_inherits where inhparent = to_regclass($1) and inhrelid = to_regclass($2)) as attached`, [table, name])
        if (!rows[0].attached) {
          // A table of this name that hangs nowhere was detached and not dropped: it is put back, never thrown away.
          if (!rows[0].loose) {
            await client.query(`create table ${name} (like ${table} including all excluding identity) ${parameters}`)
          }
          const bounds = [month, month + 1].map((m) => column === 'day' ? `'${monthStartText(m)}'` : `'${monthStartText(m)} 00:00:00+00'`)
          await client.query(`alter table ${table} attach partition ${name} for values from (${bounds[0]}) to (${bounds[1]})`)
        }
        await client.query('commit')
      } catch (err) {
        await client.query('rollback').catch(() => undefined)
        throw err
      }
    }
  })
}

/** Makes the chunks that these months lack. Idempotent; any number of processes may ask at once. */
async function ensureChunks(pool: Pool, table: HypertableName, months: readonly Month[]): Promise<void> {
  await withOwnConnection(pool, async (client) => {
    for (const month of months) {
      await makeChunks(client, table, { from: firstDayOf(month), to: firstDayOf(month + 1) },
        `select pg_advisory_xact_lock(${SCHEMA_LOCK}, ${CUTS[table].lockKey})`)
    }
  })
}

/** Months of which every day has its chunk. */
async function readMonthsOfChunks(client: Queryable, table: HypertableName): Promise<Month[]> {
  const spans = await readChunkSpans(client, table)
  const months: Month[] = []
  for (const { from, to } of spans) {
    for (let month = monthOfDay(from); month <= monthOfDay(to - 1); month++) {
      if (month !== months.at(-1) && firstDayWithout(spans, { from: firstDayOf(month), to: firstDayOf(month + 1) }) === undefined) months.push(month)
    }
  }
  return months
}

/** Partitions per table that hold nothing younger than `before`, oldest first. */
export async function monthsBefore(client: Queryable, table: PartitionedTable, before: Month): Promise<Month[]> {
  return (await readMonths(client, table)).filter((month) => month < before).sort((a, b) => a - b)
}

/** Written on a partition that is about to go, so that a drop cut short is ended by the next run and nothing else is. */
const DROP_MARK = 'meterline: dropping'

/**
 * Drops everything of a table that is older than the month `before`, whole months only, without stopping readers and
 * writers of the rest. Ends a drop that was cut short. The caller has advanced the horizon: nobody writes there any more.
 *
 * @returns months dropped
 */
export async function dropBefore(pool: Pool, mode: StorageMode, table: PartitionedTable, before: Month): Promise<number> {
  return withOwnConnection(pool, async (client) => {
    if (mode === 'timescale' && isHypertable(table)) return dropChunks(client, table, monthStartText(before))
    // Held by the session, as DETACH ... CONCURRENTLY runs outside of a transaction. Not the lock that partitions are made
    // under: detaching waits for every open reader of the table, and late data must not wait with it.
    await client.query('select pg_advisory_lock($1::int, $2::int)', [SCHEMA_LOCK, DROP_KEY + CUTS[table].lockKey])
    await endCutShort(client, table)
    const months = await monthsBefore(client, table, before)
    for (const month of months) {
      const name = partitionName(table, month)
      await client.query(`comment on table ${name} is '${DROP_MARK}'`)
      await client.query(`alter table ${table} detach partition ${name} concurrently`)
      await client.query(`drop table ${name}`)
    }
    return months.length
  }, true)
}

async function endCutShort(client: Queryable, table: PartitionedTable): Promise<void> {
  const { rows } = await client.query<{ name: string; attached: boolean; pending: boolean }>(`
    select c.relname as name, i.inhrelid is not null as attached, coalesce(i.inhdetachpending, false) as pending
      from pg_class c left join pg_inherits i on i.inhrelid = c.oid
     where c.relkind = 'r' and c.relnamespace = (select relnamespace from pg_class where oid = to_regclass($1))
       and obj_description(c.oid, 'pg_class') = $2`, [table, DROP_MARK])
  for (const { name, attached, pending } of rows) {
    if (monthOfPartition(table, name) === undefined || (attached && !pending)) continue
    if (pending) await client.query(`alter table ${table} detach partition ${name} finalize`)
    await client.query(`drop table ${name}`)
  }
}

/** How the database of a pool is cut by time, with what exists kept in memory: months, also where chunks are longer. */
export class Storage {
  readonly mode: StorageMode
  readonly #pool: Pool
  readonly #known: Record<PartitionedTable, Set<Month>>

  constructor(pool: Pool, mode: StorageMode, known: Record<PartitionedTable, Set<Month>>) {
    this.#pool = pool
    this.mode = mode
    this.#known = known
  }

  /** What a transaction that changes blocks says at its start; empty on plain PostgreSQL. */
  get settlingSettings(): string {
    return this.mode === 'timescale' ? UNBOUNDED_DECOMPRESSION : ''
  }

  /**
   * Months that a table lacks for these days; free of queries. The answer is never wrong for days that may be written:
   * partitions only go after the horizon has passed them.
   * @param days day numbers in any order, repetitions allowed
   */
  monthsMissing(table: PartitionedTable, days: Iterable<number>): Month[] {
    const known = this.#known[table]
    const missing = new Set<Month>()
    // Most days of a delivery are of one month: its bounds spare the calendar arithmetic.
    let first = 1
    let end = 0
    for (const day of days) {
      if (day >= first && day < end) continue
      const month = monthOfDay(day)
      first = firstDayOf(month)
      end = firstDayOf(month + 1)
      if (!known.has(month)) missing.add(month)
    }
    return [...missing].sort((a, b) => a - b)
  }

  /** Makes the partitions of a table that these months lack. */
  async ensure(table: PartitionedTable, months: Iterable<Month>): Promise<void> {
    const known = this.#known[table]
    const missing = [...new Set(months)].filter((month) => !known.has(month))
    if (missing.length === 0) return
    if (this.mode === 'timescale' && isHypertable(table)) {
      await ensureChunks(this.#pool, table, missing)
      for (const month of missing) known.add(month)
      return
    }
    try {
      await ensurePartitions(this.#pool, table, missing)
    } catch (err) {
      // Another process went the same way without the lock, by hand for instance: what stands now is what counts.
      if (sqlState(err) !== '42P07') throw err
      await this.reload()
      await ensurePartitions(this.#pool, table, missing.filter((month) => !this.#known[table].has(month)))
    }
    for (const month of missing) this.#known[table].add(month)
  }

  /**
   * Makes what reads of these local days need: their blocks, and their hours in the load table, which is cut by UTC
   * months. Costs no query where all exists. Call before the settling transaction begins.
   * @param days local day numbers in any order
   */
  async ensureForDays(days: Iterable<number>): Promise<void> {
    const distinct = new Set(days)
    const blocks = this.monthsMissing('channel_day', distinct)
    // A local day lies within the UTC days before, of and after its date, whatever the zone.
    const around = new Set<number>()
    for (const day of distinct) around.add(day - 1).add(day).add(day + 1)
    const load = this.monthsMissing('system_load', around)
    if (blocks.length > 0) await this.ensure('channel_day', blocks)
    if (load.length > 0) await this.ensure('system_load', load)
  }

  /** Makes what deliveries and revisions of these instants need; free of queries where all exists. @param instants epoch milliseconds */
  async ensureForInstants(instants: readonly number[]): Promise<void> {
    const months = new Set(instants.map((ms) => monthOfInstant(ms / 1000)))
    for (const table of ['delivery', 'revision'] as const) await this.ensure(table, months)
  }

  /** Makes the partitions of last month, this month and the next two. @param now epoch milliseconds */
  async makeAhead(now: number): Promise<void> {
    const month = monthOfInstant(now / 1000)
    // Last month too: yesterday's reads and the local time of a zone behind UTC fall there on the first of a month.
    for (const table of TABLES) await this.ensure(table, [month - 1, month, month + 1, month + 2])
  }

  /** Drops whole months before `before` of a table. @returns how many went */
  async dropBefore(table: PartitionedTable, before: Month): Promise<number> {
    const dropped = await dropBefore(this.#pool, this.mode, table, before)
    for (const month of this.#known[table]) if (month < before) this.#known[table].delete(month)
    return dropped
  }

  /** Reads what exists from the catalog again. */
  async reload(): Promise<void> {
    const fresh = await readKnown(this.#pool, this.mode)
    for (const table of TABLES) {
      this.#known[table].clear()
      for (const month of fresh[table]) this.#known[table].add(month)
    }
  }
}

async function readKnown(pool: Pool, mode: StorageMode): Promise<Record<PartitionedTable, Set<Month>>> {
  const known = { channel_day: new Set<Month>(), system_load: new Set<Month>(), delivery: new Set<Month>(), revision: new Set<Month>() }
  for (const table of TABLES) {
    const months = mode === 'timescale' && isHypertable(table) ? await readMonthsOfChunks(pool, table) : await readMonths(pool, table)
    for (const month of months) known[table].add(month)
  }
  return known
}

/** Opens the storage of a migrated database. */
export async function openStorage(pool: Pool): Promise<Storage> {
  const mode = await readStorageMode(pool)
  return new Storage(pool, mode, await readKnown(pool, mode))
}

/** Makes the partitions of this month and the next two, without keeping anything. @param now epoch milliseconds */
export async function makeAhead(pool: Pool, now: number): Promise<void> {
  await (await openStorage(pool)).makeAhead(now)
}
