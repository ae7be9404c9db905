import type { FlowCode } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import type { ThresholdKind } from './kinds.js'
import type { AlertDetail } from './measure.js'

export interface AlertRow {
  alert_id: string
  threshold_id: string
  version: number
  /** Epoch seconds. */
  start_s: number
  end_s: number
  limit_value: string
  value: string
  state: 'raised' | 'retracted'
  step: number
  expected: number
  present: number
  estimated: number
}

/** Alerts of the thresholds, of any version, whose period overlaps [fromS, toS). */
export async function loadAlerts(db: Queryable, thresholdIds: string[], fromS: number, toS: number): Promise<AlertRow[]> {
  const { rows } = await db.query<AlertRow>(
    `select alert_id, threshold_id, version, extract(epoch from period_start)::float8 as start_s,
            extract(epoch from period_end)::float8 as end_s, limit_value, value, state, step,
            expected, present, estimated
       from alert
      where threshold_id = any($1::uuid[])
        and period_start < to_timestamp($3::float8) and period_end > to_timestamp($2::float8)
      order by alert_id`, [thresholdIds, fromS, toS])
  return rows
}

/** A new alert; numerics as exact decimal text, instants as ISO 8601 text. */
export interface AlertInsert {
  alert_id: string
  utility_id: number
  account_id: number
  threshold_id: string
  version: number
  kind: ThresholdKind
  unit: string
  flow: FlowCode
  period_start: string
  period_end: string
  limit_value: string
  value: string
  crossed_at: string | null
  raised_at: string
  delivery: string | null
  expected: number
  present: number
  estimated: number
  detail: AlertDetail | null
}

/** Writes new alerts at step 1. A second row for a version and period is 23505: the unique key is the guard (C6). */
export async function insertAlerts(db: Queryable, alerts: AlertInsert[]): Promise<void> {
  if (alerts.length === 0) return
  await db.query(
    `insert into alert (alert_id, utility_id, account_id, threshold_id, version, kind, unit, flow, period_start,
                        period_end, limit_value, value, crossed_at, raised_at, state, step, history, expected, present,
                        estimated, detail)
     select r.alert_id, r.utility_id, r.account_id, r.threshold_id, r.version, r.kind, r.unit, r.flow,
            r.period_start, r.period_end, r.limit_value, r.value, r.crossed_at, r.raised_at, 'raised', 1,
            jsonb_build_array(jsonb_build_object('state', 'raised', 'at', r.raised_at, 'delivery', r.delivery,
                                                 'value', r.value)),
            r.expected, r.present, r.estimated, r.detail
       from jsonb_to_recordset($1::jsonb) as r(
            alert_id uuid, utility_id int, account_id int, threshold_id uuid, version int, kind text, unit text,
            flow smallint, period_start timestamptz, period_end timestamptz, limit_value numeric, value numeric,
            crossed_at timestamptz, raised_at timestamptz, delivery text, expected int, present int, estimated int,
            detail jsonb)`,
    [JSON.stringify(alerts)])
}

/** A change of an alert. `state` null: the value moved and the alert stands as before. */
export interface AlertUpdate {
  alert_id: string
  period_end: string
  limit_value: string
  value: string
  state: 'raised' | 'retracted' | null
  crossed_at: string | null
  at: string
  delivery: string | null
  expected: number
  present: number
  estimated: number
  detail: AlertDetail | null
}

/** Applies changes; a change of state is the next step and is added to the history. */
export async function updateAlerts(db: Queryable, alerts: AlertUpdate[]): Promise<void> {
  if (alerts.length === 0) return
  await db.query(
    `update alert a
        set value = r.value, limit_value = r.limit_value, period_end = r.period_end, detail = r.detail, expected = r.expected, present = r.present,
            estimated = r.estimated,
            state = coalesce(r.state, a.state),
            step = a.step + (r.state is not null)::int,
            raised_at = case when r.state = 'raised' then r.at else a.raised_at end,
            crossed_at = coalesce(r.crossed_at, a.crossed_at),
            history = case when r.state is null then a.history else a.history || jsonb_build_object(
              'state', r.state, 'at', r.at, 'delivery', r.delivery, 'value', r.value) end
       from jsonb_to_recordset($1::jsonb) as r(
            alert_id uuid, period_end timestamptz, limit_value numeric, value numeric, state text, crossed_at timestamptz, at timestamptz,
            delivery text, expected int, present int, estimated int, detail jsonb)
      where a.alert_id = r.alert_id`,
    [JSON.stringify(alerts)])
}
