import type { Queryable } from './db.js'

/** What of the storage needs TimescaleDB: hypertables, their chunks, the columnstore. Nothing here runs without it. */

interface Hypertable {
  column: string
  type: 'date' | 'timestamptz'
  /** Length of a chunk, days. */
  chunkDays: number
  /** Storage parameters that new chunks take over. */
  parameters: string
  /** Columnstore settings and the age after which a chunk is converted, days. */
  columnstore?: { segmentBy: string; orderBy: string; afterDays: number }
  /** A row of a day that no reader can see, because it goes in the transaction that it came in. */
  sentinel: (day: string) => string
}

/**
 * Chunks of channel_day, measured on a year of 5,000 meters of random quarter hours (bytes per day of a channel, indexes
 * included; TimescaleDB 2.29.2): 770 as rows; converted, chunks of 7 days 487, of 30 days 300, of 90 days 220. A late
 * correction opens a channel's whole chunk, and a chunk is converted only when its last day is past the window: with a
 * window of 60 days a year comes to 145 kB per meter with 30 days and to 138 kB with 90, while the corrections of one day
 * write a third. Conversion waits for the restatement window: what a head-end corrects, it corrects within weeks.
 */
const HYPERTABLES = {
  channel_day: {
    column: 'day', type: 'date', chunkDays: 30,
    // Pieces of a day are merged into stored blocks: room on the page keeps those updates heap-only.
    parameters: 'fillfactor = 70',
    columnstore: { segmentBy: 'channel_id', orderBy: 'day', afterDays: 60 },
    sentinel: (day) => `insert into channel_day
      (channel_id, day, first_at, interval_s, exponent, total, present, estimated, version, delivery_no, settled_at, vals)
      values (0, '${day}', now(), 1, 0, 0, 0, 0, 0, 0, now(), '{}')`,
  },
  system_load: {
    column: 'hour', type: 'timestamptz', chunkDays: 90, parameters: '',
    sentinel: (day) => `insert into system_load (utility_id, flow, hour, energy) values (0, 0, '${day} 00:00:00+00', 0)`,
  },
} satisfies Record<string, Hypertable>

export type HypertableName = keyof typeof HYPERTABLES
const NAMES = Object.keys(HYPERTABLES) as HypertableName[]

/** Oldest version that has all that is used here: the columnstore by these names, upserts into converted chunks. */
const OLDEST_VERSION = [2, 20]
const SECONDS_PER_DAY = 86_400

/** True for tables that are hypertables in the storage mode `timescale`. */
export function isHypertable(table: string): table is HypertableName {
  return Object.hasOwn(HYPERTABLES, table)
}

/** Whether the server offers a TimescaleDB that is new enough. */
export async function offersTimescale(client: Queryable): Promise<boolean> {
  const { rows } = await client.query<{ version: string }>(
    "select coalesce(installed_version, default_version) as version from pg_available_extensions where name = 'timescaledb'")
  if (rows.length === 0) return false
  const [major, minor] = rows[0].version.split('.').map(Number)
  return major > OLDEST_VERSION[0] || (major === OLDEST_VERSION[0] && minor >= OLDEST_VERSION[1])
}

/** Turns the tables that exist into hypertables, columnstore policies included; those that are already stay. */
export async function makeHypertables(client: Queryable): Promise<void> {
  // The Apache edition, which many Linux distributions and clouds ship, has hypertables but no columnstore.
  const license = await client.query<{ name: string | null }>("select current_setting('timescaledb.license', true) as name")
  const columnar = license.rows[0].name === 'timescale'
  for (const table of NAMES) {
    const { column, chunkDays, parameters, columnstore }: Hypertable = HYPERTABLES[table]
    const { rows } = await client.query<{ wanted: boolean }>(`
      select to_regclass($1) is not null
        and not exists (select from timescaledb_information.hypertables
                         where hypertable_name = $1 and hypertable_schema = current_schema()) as wanted`, [table])
    if (!rows[0].wanted) continue
    await client.query('select create_hypertable($1::regclass, by_range($2::name, $3::interval), create_default_indexes => false)',
      [table, column, `${chunkDays} days`])
    if (parameters !== '') await client.query(`alter table ${table} set (${parameters})`)
    if (columnstore === undefined || !columnar) continue
    await client.query(`alter table ${table} set (timescaledb.enable_columnstore, ` +
      `timescaledb.segmentby = '${columnstore.segmentBy}', timescaledb.orderby = '${columnstore.orderBy}')`)
    // Writers of a chunk wait while it is converted (about a minute for a month of 50,000 meters): at night, in North America.
    await client.query(`call add_columnstore_policy('${table}', after => interval '${columnstore.afterDays} days', if_not_exists => true,
      schedule_interval => interval '1 day', initial_start => (date_trunc('day', now() at time zone 'UTC') + interval '33 hours') at time zone 'UTC')`)
  }
}

/** A stretch of days that a chunk holds: day numbers, the end exclusive. */
export interface DaySpan {
  from: number
  to: number
}

/** What the chunks of a hypertable hold, oldest first. */
export async function readChunkSpans(client: Queryable, table: HypertableName): Promise<DaySpan[]> {
  const { rows } = await client.query<{ from_s: number; to_s: number }>(`
    select extract(epoch from range_start)::float8 as from_s, extract(epoch from range_end)::float8 as to_s
      from timescaledb_information.chunks
     where hypertable_name = $1 and hypertable_schema = current_schema() order by range_start`, [table])
  return rows.map((row) => ({ from: Math.ceil(row.from_s / SECONDS_PER_DAY), to: Math.floor(row.to_s / SECONDS_PER_DAY) }))
}

/** First day of the span that no chunk holds; undefined where all are held. @param spans oldest first */
export function firstDayWithout(spans: readonly DaySpan[], days: DaySpan): number | undefined {
  let day = days.from
  for (const { from, to } of spans) {
    if (from > day) break
    if (to > day) day = to
    if (day >= days.to) return undefined
  }
  return day < days.to ? day : undefined
}

/**
 * Makes the chunks that these days lack, in a transaction of its own on a connection that has none: a settling transaction
 * that made one would hold up all others until its commit, and two of them deadlock.
 * @param lock statement that takes the table's advisory lock
 */
export async function makeChunks(client: Queryable, table: HypertableName, days: DaySpan, lock: string): Promise<void> {
  await client.query('begin')
  try {
    await client.query("set local lock_timeout = '30s'")
    await client.query(lock)
    for (;;) {
      const day = firstDayWithout(await readChunkSpans(client, table), days)
      if (day === undefined) break
      const text = new Date(day * SECONDS_PER_DAY * 1000).toISOString().slice(0, 10)
      const { column, type, sentinel }: Hypertable = HYPERTABLES[table]
      await client.query(sentinel(text))
      await client.query(`delete from ${table} where ${column} = '${text}'::${type} and ${SENTINEL[table]}`)
    }
    await client.query('commit')
  } catch (err) {
    await client.query('rollback').catch(() => undefined)
    throw err
  }
}

const SENTINEL: Record<HypertableName, string> = { channel_day: 'channel_id = 0', system_load: 'utility_id = 0' }

/** Drops the chunks that hold nothing younger than `before`, a date as text. @returns how many went */
export async function dropChunks(client: Queryable, table: HypertableName, before: string): Promise<number> {
  // Behind a long reader the drop gives up rather than let new readers queue behind it; the next run tries again.
  await client.query("set lock_timeout = '10s'")
  const { rowCount } = await client.query(`select drop_chunks($1::regclass, older_than => $2::${HYPERTABLES[table].type})`, [table, before])
  return rowCount ?? 0
}

/**
 * Said in every settling transaction: a correction of one old day for a whole fleet opens the converted batch of every
 * channel, which is more rows than TimescaleDB's guard (100,000) allows. What it costs is bounded by the delivery's size.
 */
export const UNBOUNDED_DECOMPRESSION = 'set local timescaledb.max_tuples_decompressed_per_dml_transaction = 0'
