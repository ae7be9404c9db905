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
  const found = new Map<number, { billingDay: number | null; watches: Watch[]; hasDeferred: boolean; hasDeferredHours: boolean } | null>()
  // Limits are round numbers and billing days few: shared, they are a fraction of what one of each for every account came to.
  const limits = new Map<string, Watch>()
  for (const { account_id: accountId, billing_day: billingDay, kind, flow, limit_value: limitText, params } of rows) {
    if (kind === null || !isThresholdKind(kind)) {
      if (!found.has(accountId)) found.set(accountId, null)
      continue
    }
    let entry = found.get(accountId) ?? null
    if (entry === null) found.set(accountId, entry = { billingDay, watches: [], hasDeferred: false, hasDeferredHours: false })
    const deferred = isDeferred(kind, flow === Flow.net)
    if (deferred) {
      entry.hasDeferred = true
      if (windowOf(kind, params) === 'hour') entry.hasDeferredHours = true
    }
    if (flow === Flow.net || limitText === null || (deferred && kind !== 'period-cost')) continue
    const limit = Number(limitText)
    entry.watches.push(once(limits, `${kind} ${flow} ${limit}`, () => ({ kind, flow, limit })))
  }
  const periods = await loadPeriods(db, [...found].flatMap(([id, entry]) => entry === null ? [] : [id]))
  const alike = new Map<string, AccountWatch>()
  return new Map([...found].map(([id, entry]): [number, AccountWatch | null] => {
    if (entry === null) return [id, null]
    const { billingDay, watches, hasDeferred, hasDeferredHours } = entry
    const own = periods.get(id)
    // Copied to its length: what was pushed to has room for more.
    const make = (cycle: BillingCycle): AccountWatch => ({ cycle, watches: watches.slice(), hasDeferred, hasDeferredHours })
    if (own !== undefined) return [id, make({ billingDay, periods: own })]
    const key = `${billingDay} ${hasDeferred} ${hasDeferredHours} ${watches.map((w) => `${w.kind} ${w.flow} ${w.limit}`).join()}`
    return [id, once(alike, key, () => make({ billingDay, periods: [] }))]
  }))
}

/** The value of a key, made where it is not there yet. */
function once<K, V>(known: Map<K, V>, key: K, make: () => V): V {
  const found = known.get(key)
  if (found !== undefined) return found
  const made = make()
  known.set(key, made)
  return made
}
