import type { FlowCode } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import type { BillingCycle } from '../time/billing.js'
import { dayNumber, dayText } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import type { Block } from './crossing.js'
import { parseExact, type Exact } from './exact.js'
import { isThresholdKind, type ThresholdKind } from './kinds.js'
import type { SplitPiece, WholePiece } from './pieces.js'

/** A live threshold with what its account and utility give to its judgement and its messages. */
export interface ThresholdRow {
  thresholdId: string
  accountId: number
  kind: ThresholdKind
  flow: FlowCode
  meterId: number | null
  meter: string | null
  limit: Exact
  version: number
  /** Epoch seconds: the version judges periods that end after this. */
  versionFromS: number
  contacts: string[] | null
  account: string
  nickname: string | null
  utilityName: string | null
  cycle: BillingCycle
}

interface RawThreshold {
  threshold_id: string
  account_id: number
  kind: string
  flow: FlowCode
  meter_id: number | null
  meter: string | null
  limit_value: string
  version: number
  version_from_s: number
  contacts: string[] | null
  account: string
  nickname: string | null
  billing_day: number | null
  utility_name: string | null
  periods: { start: string; end: string }[] | null
}

/** Live thresholds of the accounts. */
export async function loadThresholds(db: Queryable, accountIds: number[]): Promise<ThresholdRow[]> {
  const { rows } = await db.query<RawThreshold>(
    `select t.threshold_id, t.account_id, t.kind, t.flow, t.meter_id, m.id as meter, t.limit_value, t.version,
            extract(epoch from t.version_from)::float8 as version_from_s, t.contacts, a.id as account, a.nickname,
            a.billing_day, u.name as utility_name,
            case when t.kind = 'period-usage' then (
              select jsonb_agg(jsonb_build_object('start', p.start_day, 'end', p.end_day) order by p.start_day)
                from billing_period p where p.account_id = t.account_id) end as periods
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
    limit: parseExact(r.limit_value),
    version: r.version,
    versionFromS: r.version_from_s,
    contacts: r.contacts,
    account: r.account,
    nickname: r.nickname,
    utilityName: r.utility_name,
    cycle: {
      billingDay: r.billing_day,
      periods: (r.periods ?? []).map((p) => ({ startDay: dayNumber(p.start), endDay: dayNumber(p.end) })),
    },
  }
}

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

/** Sum of a group's whole days at one exponent. */
export interface TotalRow {
  k: number
  exponent: number
  total: string
  present: number
  estimated: number
}

/** Sums of whole days by group: piece i belongs to group k[i]. Totals are exact. */
export async function sumWholeDays(db: Queryable, k: number[], pieces: WholePiece[]): Promise<TotalRow[]> {
  if (pieces.length === 0) return []
  const { rows } = await db.query<TotalRow>(
    `select p.k, c.exponent::int as exponent, sum(c.total)::text as total,
            sum(c.present)::int as present, sum(c.estimated)::int as estimated
       from unnest($1::int[], $2::int[], $3::date[], $4::date[]) as p(k, channel_id, from_day, to_day)
       join channel_day c on c.channel_id = p.channel_id and c.day >= p.from_day and c.day < p.to_day
      where c.day >= $5::date and c.day < $6::date
      group by p.k, c.exponent`, [k, ...pieceColumns(pieces)])
  return rows
}

interface RawBlock {
  k: number
  day: string
  first_s: number
  interval_s: number
  exponent: number
  vals: (number | null)[]
  lane: number[] | null
}

/** A block and the group or piece it was asked for by. */
export interface LoadedBlock extends Block {
  k: number
}

/** Day blocks with their slots, for whole days; the blocks count in full. */
export async function loadWholeBlocks(
  db: Queryable, k: number[], pieces: WholePiece[], zone: Zone,
): Promise<LoadedBlock[]> {
  if (pieces.length === 0) return []
  const { rows } = await db.query<RawBlock>(
    `select p.k, c.day, extract(epoch from c.first_at)::float8 as first_s, c.interval_s, c.exponent, c.vals, c.lane
       from unnest($1::int[], $2::int[], $3::date[], $4::date[]) as p(k, channel_id, from_day, to_day)
       join channel_day c on c.channel_id = p.channel_id and c.day >= p.from_day and c.day < p.to_day
      where c.day >= $5::date and c.day < $6::date`, [k, ...pieceColumns(pieces)])
  return rows.map((r) => toBlock(r, -Infinity, Infinity, zone))
}

/** Day blocks with their slots, for days that count in part; `k` of a block is its piece's index. */
export async function loadSplitBlocks(db: Queryable, pieces: SplitPiece[], zone: Zone): Promise<LoadedBlock[]> {
  if (pieces.length === 0) return []
  const days = pieces.map((p) => p.day)
  const { rows } = await db.query<RawBlock>(
    `select p.k::int - 1 as k, c.day, extract(epoch from c.first_at)::float8 as first_s, c.interval_s, c.exponent,
            c.vals, c.lane
       from unnest($1::int[], $2::date[]) with ordinality as p(channel_id, day, k)
       join channel_day c on c.channel_id = p.channel_id and c.day = p.day
      where c.day >= $3::date and c.day <= $4::date`,
    [pieces.map((p) => p.channelId), days.map(dayText), dayText(least(days)), dayText(greatest(days))])
  return rows.map((r) => toBlock(r, pieces[r.k].fromS, pieces[r.k].toS, zone))
}

/** $2 to $6: channels, first days, end days, and the bounds of all days, which let the planner drop partitions. */
function pieceColumns(pieces: WholePiece[]): [number[], string[], string[], string, string] {
  return [
    pieces.map((p) => p.channelId),
    pieces.map((p) => dayText(p.startDay)),
    pieces.map((p) => dayText(p.endDay)),
    dayText(least(pieces.map((p) => p.startDay))),
    dayText(greatest(pieces.map((p) => p.endDay))),
  ]
}

function toBlock(r: RawBlock, fromS: number, toS: number, zone: Zone): LoadedBlock {
  return {
    k: r.k,
    firstAtS: r.first_s,
    intervalS: r.interval_s,
    exponent: r.exponent,
    values: r.vals,
    lanes: r.lane,
    fromS,
    toS,
    dayEndS: zone.dayStart(dayNumber(r.day) + 1),
  }
}

// Not Math.min(...days): the arguments of a large load would overflow the stack.
function least(values: number[]): number {
  return values.reduce((a, b) => Math.min(a, b), Infinity)
}

function greatest(values: number[]): number {
  return values.reduce((a, b) => Math.max(a, b), -Infinity)
}

/** A new alert; numerics as exact decimal text, instants as ISO 8601 text. */
export interface AlertInsert {
  alert_id: string
  utility_id: number
  account_id: number
  threshold_id: string
  version: number
  kind: ThresholdKind
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
}

/** Writes new alerts at step 1. A second row for a version and period is 23505: the unique key is the guard (C6). */
export async function insertAlerts(db: Queryable, alerts: AlertInsert[]): Promise<void> {
  if (alerts.length === 0) return
  await db.query(
    `insert into alert (alert_id, utility_id, account_id, threshold_id, version, kind, period_start, period_end,
                        limit_value, value, crossed_at, raised_at, state, step, history, expected, present, estimated)
     select r.alert_id, r.utility_id, r.account_id, r.threshold_id, r.version, r.kind, r.period_start, r.period_end,
            r.limit_value, r.value, r.crossed_at, r.raised_at, 'raised', 1,
            jsonb_build_array(jsonb_build_object('state', 'raised', 'at', r.raised_at, 'delivery', r.delivery,
                                                 'value', r.value)),
            r.expected, r.present, r.estimated
       from jsonb_to_recordset($1::jsonb) as r(
            alert_id uuid, utility_id int, account_id int, threshold_id uuid, version int, kind text,
            period_start timestamptz, period_end timestamptz, limit_value numeric, value numeric,
            crossed_at timestamptz, raised_at timestamptz, delivery text, expected int, present int, estimated int)`,
    [JSON.stringify(alerts)])
}

/** A change of an alert. `state` null: the value moved and the alert stands as before. */
export interface AlertUpdate {
  alert_id: string
  period_end: string
  value: string
  state: 'raised' | 'retracted' | null
  crossed_at: string | null
  at: string
  delivery: string | null
  expected: number
  present: number
  estimated: number
}

/** Applies changes; a change of state is the next step and is added to the history. */
export async function updateAlerts(db: Queryable, alerts: AlertUpdate[]): Promise<void> {
  if (alerts.length === 0) return
  await db.query(
    `update alert a
        set value = r.value, period_end = r.period_end, expected = r.expected, present = r.present,
            estimated = r.estimated,
            state = coalesce(r.state, a.state),
            step = a.step + (r.state is not null)::int,
            raised_at = case when r.state = 'raised' then r.at else a.raised_at end,
            crossed_at = coalesce(r.crossed_at, a.crossed_at),
            history = case when r.state is null then a.history else a.history || jsonb_build_object(
              'state', r.state, 'at', r.at, 'delivery', r.delivery, 'value', r.value) end
       from jsonb_to_recordset($1::jsonb) as r(
            alert_id uuid, period_end timestamptz, value numeric, state text, crossed_at timestamptz, at timestamptz,
            delivery text, expected int, present int, estimated int)
      where a.alert_id = r.alert_id`,
    [JSON.stringify(alerts)])
}
