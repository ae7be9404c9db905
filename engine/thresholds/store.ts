import type { FlowCode } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import type { BillingCycle } from '../time/billing.js'
import { dayNumber } from '../time/text.js'
import { parseExact, type Exact } from './exact.js'
import { isThresholdKind, type ThresholdKind, type ThresholdParams } from './kinds.js'

/** A live threshold with what its account and utility give to its judgement and its messages. */
export interface ThresholdRow {
  thresholdId: string
  accountId: number
  kind: ThresholdKind
  flow: FlowCode
  meterId: number | null
  meter: string | null
  /** null for kinds without one. */
  limit: Exact | null
  touPeriod: string | null
  params: ThresholdParams
  version: number
  /** Epoch seconds: the version judges periods that end after this. */
  versionFromS: number
  contacts: string[] | null
  account: string
  nickname: string | null
  utilityName: string | null
  currency: string
  /** Estimates that the engine made may raise alerts. */
  alertOnEstimates: boolean
  cycle: BillingCycle
}

interface RawThreshold {
  threshold_id: string
  account_id: number
  kind: string
  flow: FlowCode
  meter_id: number | null
  meter: string | null
  limit_value: string | null
  tou_period: string | null
  params: ThresholdParams
  version: number
  version_from_s: number
  contacts: string[] | null
  account: string
  nickname: string | null
  billing_day: number | null
  utility_name: string | null
  currency: string
  alert_on_estimates: boolean
  periods: { start: string; end: string }[] | null
}

/** Live thresholds of the accounts. */
export async function loadThresholds(db: Queryable, accountIds: number[]): Promise<ThresholdRow[]> {
  const { rows } = await db.query<RawThreshold>(
    `select t.threshold_id, t.account_id, t.kind, t.flow, t.meter_id, m.id as meter, t.limit_value, t.tou_period, t.params,
            t.version, extract(epoch from t.version_from)::float8 as version_from_s, t.contacts, a.id as account, a.nickname,
            a.billing_day, u.name as utility_name, u.currency, u.alert_on_estimates, (
              select jsonb_agg(jsonb_build_object('start', p.start_day, 'end', p.end_day) order by p.start_day)
                from billing_period p where p.account_id = t.account_id) as periods
       from threshold t
       join account a using (account_id)
       join utility u on u.utility_id = t.utility_id
       left join meter m on m.meter_id = t.meter_id
      where t.account_id = any($1::int[]) and t.deleted_at is null
      order by t.threshold_id`, [accountIds])
  return rows.flatMap((r) => isThresholdKind(r.kind) ? [toThreshold(r, r.kind)] : [])
}

function toThreshold(r: RawThreshold, kind: ThresholdKind): ThresholdRow {
  return {
    thresholdId: r.threshold_id,
    accountId: r.account_id,
    kind,
    flow: r.flow,
    meterId: r.meter_id,
    meter: r.meter,
    limit: r.limit_value === null ? null : parseExact(r.limit_value),
    touPeriod: r.tou_period,
    params: r.params,
    version: r.version,
    versionFromS: r.version_from_s,
    contacts: r.contacts,
    account: r.account,
    nickname: r.nickname,
    utilityName: r.utility_name,
    currency: r.currency,
    alertOnEstimates: r.alert_on_estimates,
    cycle: {
      billingDay: r.billing_day,
      periods: (r.periods ?? []).map((p) => ({ startDay: dayNumber(p.start), endDay: dayNumber(p.end) })),
    },
  }
}
