import { flowNames, type FlowCode } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import { instantText } from '../time/text.js'
import type { Zone } from '../time/zone.js'

export interface AlertView {
  id: string
  threshold: string
  version: number
  kind: string
  period: { start: string; end: string }
  limit: number
  value: number
  unit: string
  flow: string
  /** What was compared with, or the range of a projection. */
  detail: Record<string, unknown> | null
  /** End of the interval in which the running sum passed the limit. */
  crossedAt: string | null
  raisedAt: string
  state: 'raised' | 'retracted'
  history: { state: string; at: string; delivery: string | null; value: number }[]
  /** Share of the reads due that were held when the alert was last judged, 0 to 1; null where none was due. */
  completeness: number | null
  estimatedShare: number | null
  expected: number
  present: number
  estimated: number
  messages: { contact: string; address: string; channel: string; purpose: string; state: string; at: string }[]
}

export interface AlertFilter {
  readonly limit: number
  readonly state?: 'raised' | 'retracted'
  readonly threshold?: string
  /** Place of the last alert seen: its raised_at as the database writes it, and its id. */
  readonly after?: { readonly raisedAt: string; readonly id: string }
}

interface Row {
  alert_id: string
  threshold_id: string
  version: number
  kind: string
  unit: string
  flow: FlowCode
  detail: Record<string, unknown> | null
  start_s: number
  end_s: number
  limit_value: string
  value: string
  crossed_s: number | null
  raised_s: number
  raised_text: string
  state: 'raised' | 'retracted'
  history: { state: string; at: string; delivery: string | null; value: number }[]
  expected: number
  present: number
  estimated: number
  messages: { contact: string; address: string; channel: string; purpose: string; state: string; at: string }[] | null
}

/** One more than a page of the account's alerts, newest first, each with the text of its place for a cursor. */
export async function listAlerts(
  db: Queryable, accountId: number, filter: AlertFilter, zone: Zone,
): Promise<{ view: AlertView; raisedAt: string }[]> {
  const { rows } = await db.query<Row>(
    `select a.alert_id, a.threshold_id, a.version, a.kind, a.unit, a.flow, a.detail, extract(epoch from a.period_start)::float8 as start_s,
            extract(epoch from a.period_end)::float8 as end_s, a.limit_value, a.value,
            extract(epoch from a.crossed_at)::float8 as crossed_s, extract(epoch from a.raised_at)::float8 as raised_s,
            a.raised_at::text as raised_text, a.state, a.history, a.expected, a.present, a.estimated, m.messages
       from alert a
       left join lateral (
         select jsonb_agg(jsonb_build_object('contact', m.contact_id, 'address', c.masked, 'channel', m.channel,
                  'purpose', m.purpose, 'state', m.state, 'at', coalesce(m.done_at, m.created_at))
                  order by m.created_at, m.message_id) as messages
           from message m join contact c using (contact_id) where m.alert_id = a.alert_id) m on true
      where a.account_id = $1 and ($2::text is null or a.state = $2) and ($3::uuid is null or a.threshold_id = $3)
        and ($4::timestamptz is null or (a.raised_at, a.alert_id) < ($4, $5::uuid))
      order by a.raised_at desc, a.alert_id desc limit $6`,
    [accountId, filter.state ?? null, filter.threshold ?? null, filter.after?.raisedAt ?? null, filter.after?.id ?? null,
      filter.limit + 1])
  return rows.map((r) => ({ view: toView(r, zone), raisedAt: r.raised_text }))
}

function toView(r: Row, zone: Zone): AlertView {
  const due = Math.max(r.expected, r.present)
  return {
    id: r.alert_id,
    threshold: r.threshold_id,
    version: r.version,
    kind: r.kind,
    period: { start: instantText(r.start_s, zone), end: instantText(r.end_s, zone) },
    limit: Number(r.limit_value),
    value: Number(r.value),
    unit: r.unit,
    flow: flowNames[r.flow],
    detail: r.detail,
    crossedAt: r.crossed_s === null ? null : instantText(r.crossed_s, zone),
    raisedAt: instantText(r.raised_s, zone),
    state: r.state,
    history: r.history.map((h) => ({ ...h, at: localText(h.at, zone) })),
    completeness: share(r.present, due),
    estimatedShare: share(r.estimated, r.present),
    expected: due,
    present: r.present,
    estimated: r.estimated,
    messages: (r.messages ?? []).map((m) => ({ ...m, at: localText(m.at, zone) })),
  }
}

function localText(at: string, zone: Zone): string {
  return instantText(Date.parse(at) / 1000, zone)
}

function share(part: number, whole: number): number | null {
  return whole === 0 ? null : Math.round(part / whole * 10_000) / 10_000
}
