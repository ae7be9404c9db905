import type { Queryable } from './db.js'
import type { StorageMode } from './storage.js'

/** How a utility's data stands, for those who watch the engine. */
export interface UtilityWatch {
  utilityId: number
  utility: string
  zone: string | null
  /** Seconds since the end of the newest read of a delivery of the last 30 days; null where there is none. */
  dataAgeS: number | null
  /** Seconds since the last delivery settled, of those of the last 30 days; null where there is none. */
  deliveryAgeS: number | null
  /** Reads that wait in quarantine, by the reason's code. */
  quarantine: Readonly<Record<string, number>>
}

export interface Watch {
  utilities: UtilityWatch[]
  /** Messages that are due and not sent, and seconds since the oldest was due. */
  messagesDue: number
  oldestDueS: number
  databaseBytes: number
  /** TimescaleDB's jobs whose last run failed: chunks that are not converted any more, for instance. */
  failingJobs: number
}

/** One look at the tables, cheap enough to take with every scrape: indexes and a month of deliveries. */
export async function readWatch(db: Queryable, mode: StorageMode): Promise<Watch> {
  const { rows: utilities } = await db.query<{ utility_id: number; id: string; zone: string | null; data_age: number | null; delivery_age: number | null }>(`
    select u.utility_id, u.id, u.zone, extract(epoch from now() - d.newest)::float8 as data_age,
           extract(epoch from now() - d.settled)::float8 as delivery_age
      from utility u
      left join lateral (
           select max(last_end) as newest, max(settled_at) as settled from delivery
            where utility_id = u.utility_id and kind <> 'withdrawal' and accepted_at > now() - interval '30 days') d on true
     order by u.utility_id`)
  const { rows: waiting } = await db.query<{ utility_id: number; reason: string; reads: number }>(`
    select utility_id, reason, sum(reads)::int8 as reads from quarantine where settled_by is null group by utility_id, reason`)
  const { rows: [rest] } = await db.query<{ due: number; oldest: number; bytes: number }>(`
    select count(*) as due, coalesce(extract(epoch from now() - min(next_at)), 0)::float8 as oldest,
           pg_database_size(current_database()) as bytes
      from message where state in ('pending', 'sending') and next_at <= now()`)
  const quarantine = new Map<number, Record<string, number>>()
  for (const { utility_id, reason, reads } of waiting) {
    const known = quarantine.get(utility_id) ?? {}
    quarantine.set(utility_id, { ...known, [reason]: reads })
  }
  return {
    utilities: utilities.map((u) => ({
      utilityId: u.utility_id, utility: u.id, zone: u.zone, dataAgeS: u.data_age, deliveryAgeS: u.delivery_age,
      quarantine: quarantine.get(u.utility_id) ?? {},
    })),
    messagesDue: rest.due, oldestDueS: rest.oldest, databaseBytes: rest.bytes,
    failingJobs: mode === 'timescale' ? await failingJobs(db) : 0,
  }
}

async function failingJobs(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ failing: number }>(`
    select count(*) as failing from timescaledb_information.job_stats
     where last_run_status = 'Failed' and hypertable_name is not null`)
  return rows[0].failing
}
