import type { Retention } from '../config.js'
import { PERIOD_DAYS } from '../validate/baseline.js'
import { beginRegistryWrite, inTransaction, patientClient, SCHEMA_LOCK, type Pool } from './db.js'
import { firstDayOf, monthOfDay, monthOfInstant, monthStartText, type Month, type Storage } from './storage.js'

/** How long things are kept; null: for ever. The settings of the same names. */
export interface RetentionSettings {
  readonly retentionReads: Retention
  readonly retentionRevisions: Retention
  readonly retentionQuarantine: Retention
  readonly retentionMessages: Retention
  readonly retentionDeliveries: Retention
}

/** What one run of the maintenance did. */
export interface MaintenanceResult {
  /** True when another process was at it: nothing was done. */
  skipped: boolean
  /** Months dropped, per table. */
  dropped: Record<string, number>
  /** Rows deleted, per table. */
  deleted: Record<string, number>
}

/** How long a push can be told from its repetition by its Idempotency-Key, and a change be read by cursor (contract §4, §6). */
export const FEED_DAYS = 14
const MS_PER_DAY = 86_400_000
const MAINTENANCE_KEY = 100
const BATCH = 10_000

/**
 * Daily upkeep: partitions made ahead, keys and changes of more than 14 days pruned, retention applied. Any number of
 * processes may call it; one does the work. Reads are dropped by whole months, so they stay at least as long as said.
 *
 * @param now epoch milliseconds
 */
export async function maintain(pool: Pool, storage: Storage, settings: RetentionSettings, now: number): Promise<MaintenanceResult> {
  const result: MaintenanceResult = { skipped: false, dropped: {}, deleted: {} }
  // The lock is the session's: it lasts over all the transactions below and goes with the process.
  const guard = patientClient(pool)
  await guard.connect()
  try {
    const { rows } = await guard.query<{ mine: boolean }>('select pg_try_advisory_lock($1::int, $2::int) as mine', [SCHEMA_LOCK, MAINTENANCE_KEY])
    if (!rows[0].mine) return { ...result, skipped: true }
    await storage.makeAhead(now)
    const feedStart = new Date(now - FEED_DAYS * MS_PER_DAY)
    result.deleted.idempotency = await prune(pool, 'idempotency', 'at < $1', feedStart)
    result.deleted.change = await prune(pool, 'change', 'at < $1', feedStart)
    await dropReads(pool, storage, settings.retentionReads, now, result)
    for (const [table, retention] of [['revision', settings.retentionRevisions], ['delivery', settings.retentionDeliveries]] as const) {
      if (retention === null) continue
      const before = horizonMonth(retention, now)
      result.dropped[table] = await storage.dropBefore(table, before)
    }
    if (settings.retentionRevisions !== null) {
      result.deleted.register_revision = await prune(pool, 'register_revision', 'settled_at < $1', horizonInstant(settings.retentionRevisions, now))
    }
    if (settings.retentionQuarantine !== null) {
      const before = horizonInstant(settings.retentionQuarantine, now)
      result.deleted.quarantine = await prune(pool, 'quarantine', 'at < $1', before)
      // Kafka messages whose dead topic could not be reached all that time: what they hold stood in quarantine as long.
      result.deleted.dead_letter = await prune(pool, 'dead_letter', 'at < $1', before)
    }
    if (settings.retentionMessages !== null) {
      const before = horizonInstant(settings.retentionMessages, now)
      // What is still to be sent stays, however long its gateway or receiver has been down.
      result.deleted.message = await prune(pool, 'message', "created_at < $1 and state not in ('pending', 'sending')", before)
      result.deleted.webhook_delivery = await prune(pool, 'webhook_delivery', "created_at < $1 and state not in ('pending', 'sending')", before)
      // A notice stays as long as its Idempotency-Key may be repeated and anything of it is still to be sent.
      result.deleted.notice = await prune(pool, 'notice',
        'created_at < $1 and not exists (select from message m where m.notice_id = notice.notice_id)', before < feedStart ? before : feedStart)
      result.deleted.sms_inbound = await prune(pool, 'sms_inbound', 'at < $1', before)
    }
    return result
  } finally {
    await guard.end()
  }
}

/** The instant before which a retention lets go. @param now epoch milliseconds */
export function horizonInstant(retention: NonNullable<Retention>, now: number): Date {
  if ('days' in retention) return new Date(now - retention.days * MS_PER_DAY)
  const date = new Date(now)
  const day = date.getUTCDate()
  date.setUTCDate(1)
  date.setUTCMonth(date.getUTCMonth() - retention.months)
  // The 31st less one month is the last day of a shorter one.
  date.setUTCDate(Math.min(day, new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate()))
  return date
}

/** First month that a retention keeps something of. One day of slack is for zones that are still in yesterday. */
function horizonMonth(retention: NonNullable<Retention>, now: number): Month {
  return monthOfInstant((horizonInstant(retention, now).getTime() - MS_PER_DAY) / 1000)
}

async function dropReads(pool: Pool, storage: Storage, retention: Retention, now: number, result: MaintenanceResult): Promise<void> {
  if (retention === null) return
  const month = horizonMonth(retention, now)
  const { rows } = await pool.query<{ utility_id: number }>('select utility_id from utility order by utility_id')
  // The horizon first, and in each utility behind every settling transaction that still goes by the old one: after this
  // nobody writes before it, and what is dropped cannot come back.
  for (const { utility_id } of rows) {
    await inTransaction(pool, async (client) => {
      await beginRegistryWrite(client, utility_id)
      await client.query('update utility set horizon = greatest(horizon, $2::date) where utility_id = $1', [utility_id, monthStartText(month)])
    })
  }
  result.dropped.channel_day = await storage.dropBefore('channel_day', month)
  // A local day begins up to 14 hours before its date in UTC: the hours of the horizon's first day reach into the month before.
  result.dropped.system_load = await storage.dropBefore('system_load', month - 1)
  const before = new Date((firstDayOf(month) - 1) * MS_PER_DAY)
  result.deleted.register_read = await prune(pool, 'register_read', 'at < $1', before)
  result.deleted.period_read = await prune(pool, 'period_read', 'end_at < $1', before)
  // What validation and estimation said of the reads goes with them.
  for (const table of ['vee_pending', 'day_flag', 'vee_gap', 'estimate_basis']) {
    result.deleted[table] = await prune(pool, table, 'day < $1::date', before)
  }
  result.deleted.channel_baseline = await prune(pool, 'channel_baseline', `(period + 1) * ${PERIOD_DAYS} < $1::date - date '1970-01-01'`, before)
  // Events and outages tell why reads are as they are (an exchange, an hour of zeros): they stay as long as the reads.
  result.deleted.meter_event = await prune(pool, 'meter_event', 'at < $1', before)
  result.deleted.outage = await prune(pool, 'outage', "coalesce(up_at, down_at) < $1 and state in ('over', 'ignored')", before)
}

/** Deletes in batches, each its own transaction, so that no lock and no snapshot is held for long. */
async function prune(pool: Pool, table: string, condition: string, before: Date): Promise<number> {
  for (let deleted = 0; ;) {
    const { rowCount } = await pool.query(
      `delete from ${table} where ctid = any (array(select ctid from ${table} where ${condition} limit ${BATCH}))`, [before])
    deleted += rowCount ?? 0
    if ((rowCount ?? 0) < BATCH) return deleted
  }
}

/** Day number of the first day that a utility's reads are kept of; undefined: all are. For showing, not for settling. */
export function readsKeptFrom(retention: Retention, now: number): number | undefined {
  return retention === null ? undefined : firstDayOf(monthOfDay(firstDayOf(horizonMonth(retention, now))))
}
