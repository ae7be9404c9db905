import { Flow, type FlowCode } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import type { BillingCycle } from '../time/billing.js'
import { loadPeriods } from '../usage/occupancy.js'
import { isDeferred, isThresholdKind, windowOf, type ThresholdKind, type ThresholdParams } from './kinds.js'

/** What settling must know of a threshold to tell that a commit cannot have brought it near its limit. */
export interface Watch {
  readonly kind: ThresholdKind
  readonly flow: FlowCode
  /** In the kind's unit. */
  readonly limit: number
}

/** The live thresholds of an account. */
export interface AccountWatch {
  readonly cycle: BillingCycle
  /** Those that settling judges. */
  readonly watches: readonly Watch[]
  /** Any that the schedule judges. */
  readonly hasDeferred: boolean
  /** Any of those whose period is an hour: the others cannot be told before the day is over. */
  readonly hasDeferredHours: boolean
}

interface Row {
  account_id: number
  billing_day: number | null
  kind: string | null
  flow: FlowCode
  limit_value: string | null
  params: ThresholdParams
}

/**
 * Watches of the accounts that changed after a registry epoch (-1: of all that have any); null for an account that has
 * none any more.
 */
export async function loadWatches(db: Queryable, utilityId: number, epoch: number): Promise<Map<number, AccountWatch | null>> {
  const { rows } = await db.query<Row>(
    `select a.account_id, a.billing_day, t.kind, t.flow, t.limit_value, t.params
       from account a left join threshold t on t.account_id = a.account_id and t.deleted_at is null
      where a.utility_id = $1 and a.epoch > $2 and (a.thresholds > 0 or $2 >= 0)
      order by a.account_id`, [utilityId, epoch])
  const found = new Map<number, { row: Row; watches: Watch[]; hasDeferred: boolean; hasDeferredHours: boolean } | null>()
  for (const row of rows) {
    if (row.kind === null || !isThresholdKind(row.kind)) {
      if (!found.has(row.account_id)) found.set(row.account_id, null)
      continue
    }
    let entry = found.get(row.account_id) ?? null
    if (entry === null) found.set(row.account_id, entry = { row, watches: [], hasDeferred: false, hasDeferredHours: false })
    const deferred = isDeferred(row.kind, row.flow === Flow.net)
    if (deferred) {
      entry.hasDeferred = true
      if (windowOf(row.kind, row.params) === 'hour') entry.hasDeferredHours = true
    }
    if (row.flow !== Flow.net && row.limit_value !== null) entry.watches.push({ kind: row.kind, flow: row.flow, limit: Number(row.limit_value) })
  }
  const periods = await loadPeriods(db, [...found].flatMap(([id, entry]) => entry === null ? [] : [id]))
  return new Map([...found].map(([id, entry]) => [id, entry === null ? null : {
    cycle: { billingDay: entry.row.billing_day, periods: periods.get(id) ?? [] },
    watches: entry.watches.filter((w) => !isDeferred(w.kind, false) || w.kind === 'period-cost'),
    hasDeferred: entry.hasDeferred, hasDeferredHours: entry.hasDeferredHours,
  }]))
}
