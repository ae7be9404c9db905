import { Quantity } from '../quantity.js'
import type { FlowCode } from '../read-batch.js'
import { intArray } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import type { DaySpan } from '../time/billing.js'
import { dayText } from '../time/text.js'

/** What a commit asks of one account's period, and what it adds to it. */
export interface PeriodSum extends DaySpan {
  readonly accountId: number
  readonly flow: FlowCode
  /** All meters that can count for it. */
  readonly meterIds: readonly number[]
  /** kWh: the least of the account's limits. */
  readonly limit: number
  /** kWh that this commit added to it. */
  addedKwh: number
  /** First and last of its days that the commit touched. */
  firstDay: number
  lastDay: number
  /** kWh: the greatest of those days. With several meters of no use, since others have their part in a day. */
  dayKwh: number
}

/** The same of many periods, in columns, as far as a cap is asked whether it holds. */
export interface PeriodColumns {
  readonly accountIds: readonly number[]
  readonly flows: readonly number[]
  readonly startDays: readonly number[]
  readonly firstDays: readonly number[]
  /** kWh: the greatest day; Infinity where a day is not known whole. */
  readonly greatestDays: readonly number[]
}

/** Share of what is left to the limit that the days to come may use without a word: the rest is for late reads of earlier days. */
const CAP_SHARE = 0.9

/**
 * Accounts whose period's energy may be above its limit.
 *
 * `period_bound` keeps an upper bound of each account's running period: the energy of its days before `cap_from`, to which
 * every commit adds what it added to them, and a cap that no later day exceeds, such that all of them together stay below
 * the limit. So a commit writes only where a day exceeds its share of what is left. It is read and written under a lock
 * that all commits of the account's meters take, and holds within one registry epoch, since a registry write may move
 * energy between accounts and periods. Where there is none that holds, or it has come to the limit, the stored days are
 * summed, and the bound is made anew. Summing them in every commit cost more than settling, and writing each bound in
 * every commit a good part of that (bench `thresholds`).
 */
export async function aboveLimit(
  db: Queryable, sums: readonly PeriodSum[], quiet: { columns: PeriodColumns; sumOf: (k: number) => PeriodSum }, epoch: number,
): Promise<Set<number>> {
  const { columns, sumOf } = quiet
  const count = columns.accountIds.length
  if (sums.length + count === 0) return new Set()
  const open = (await exceedingCaps(db, {
    accountIds: [...columns.accountIds, ...sums.map((s) => s.accountId)], flows: [...columns.flows, ...sums.map((s) => s.flow)],
    startDays: [...columns.startDays, ...sums.map((s) => s.startDay)], firstDays: [...columns.firstDays, ...sums.map((s) => s.firstDay)],
    greatestDays: [...columns.greatestDays, ...sums.map((s) => s.meterIds.length === 1 ? s.dayKwh : Infinity)],
  }, epoch)).map((k) => k < count ? sumOf(k) : sums[k - count])
  if (open.length === 0) return new Set()
  const { rows } = await db.query<{ k: number; kwh: number }>(
    `update period_bound b set kwh = b.kwh + d.added
       from unnest($1::int[], $2::smallint[], $3::int[], $4::int[], $5::int[], $6::float8[]) with ordinality
         as d(account_id, flow, start_day, last_day, end_day, added, k)
      where b.account_id = d.account_id and b.flow = d.flow and b.start_day = date '1970-01-01' + d.start_day and b.epoch = $7
        and (b.cap_from is null or date '1970-01-01' + d.last_day < b.cap_from)
     returning d.k::int as k, b.kwh + coalesce((date '1970-01-01' + d.end_day - b.cap_from) * b.cap_kwh, 0) as kwh`,
    [
      intArray(open.map((s) => s.accountId)), intArray(open.map((s) => s.flow)), intArray(open.map((s) => s.startDay)),
      intArray(open.map((s) => s.lastDay)), intArray(open.map((s) => s.endDay)), open.map((s) => s.addedKwh), epoch,
    ])
  const known = new Map(rows.map((r) => [open[r.k - 1], r.kwh]))
  return sumStored(db, open.filter((s) => !((known.get(s) ?? Infinity) <= s.limit)), epoch)
}

/**
 * Places of those whose days are not all below a cap that holds. One probe each: joined as a whole, a small delivery would
 * read the bounds of the whole fleet.
 */
async function exceedingCaps(db: Queryable, asked: PeriodColumns, epoch: number): Promise<number[]> {
  const [days, oneDay] = columnOf(asked.firstDays)
  const [periods, onePeriod] = columnOf(asked.startDays.map((day, k) => day * 4 + asked.flows[k]))
  // Whole watt-hours, rounded up: a column of them is made and read in a third of the time that fractions take.
  const watthours = asked.greatestDays.map((kwh) => Math.min(Math.ceil(kwh * 1000), Number.MAX_SAFE_INTEGER))
  const { rows } = await db.query<{ k: number }>(
    `select (d.k - 1)::int as k
       from unnest($1::int[], $2::int[], $3::int[], $4::int8[]) with ordinality as d(account_id, period, first_day, day_wh, k)
       left join lateral (
         select b.cap_from - date '1970-01-01' as from_day, b.start_day - date '1970-01-01' as start_day, b.cap_kwh, b.epoch from period_bound b
          where b.account_id = d.account_id and b.flow = (coalesce(d.period, $5::int) & 3)::smallint limit 1) c on true
      where (c.start_day = coalesce(d.period, $5::int) >> 2 and c.epoch = $7 and coalesce(d.first_day, $6::int) >= c.from_day
             and d.day_wh <= c.cap_kwh * 1000) is not true`,
    [intArray(asked.accountIds), periods, days, intArray(watthours), onePeriod, oneDay, epoch])
  return rows.map((r) => r.k)
}

/** A column as an array; where all its values are one, as that, and an array of none. */
function columnOf(values: readonly number[]): [string, number] {
  return [values.every((v) => v === values[0]) ? '{}' : intArray(values), values[0]]
}

/** The stored energy of a period, kWh, about the last day that the commit touched. */
interface StoredSum {
  before: number
  onDay: number
  after: number
  /** The greatest day after it. */
  greatestAfter: number
}

/** Sums the stored days and makes their bounds anew. Returns the accounts above their limit. */
async function sumStored(db: Queryable, sums: readonly PeriodSum[], epoch: number): Promise<Set<number>> {
  const above = new Set<number>()
  if (sums.length === 0) return above
  const meters = sums.flatMap((s, k) => s.meterIds.map((meterId) => ({ k, meterId, s })))
  // All channels of the meters, other processes' new ones too; where several have one flow their sum is more than counts.
  const { rows } = await db.query<StoredSum & { k: number }>(
    `select p.k, coalesce(sum(x.kwh) filter (where x.day < p.last_day), 0) as before, coalesce(sum(x.kwh) filter (where x.day = p.last_day), 0) as "onDay",
            coalesce(sum(x.kwh) filter (where x.day > p.last_day), 0) as after, coalesce(max(x.kwh) filter (where x.day > p.last_day), 0) as "greatestAfter"
       from unnest($1::int[], $2::int[], $3::smallint[], $4::int[], $5::int[], $6::int[]) as p(k, meter_id, flow, start_day, end_day, last_day)
       join channel c on c.meter_id = p.meter_id and c.flow = p.flow and c.quantity = ${Quantity.energy}
       cross join lateral (
         select d.day - date '1970-01-01' as day, d.total * 10::float8 ^ d.exponent as kwh from channel_day d
          where d.channel_id = c.channel_id and d.day >= date '1970-01-01' + p.start_day and d.day < date '1970-01-01' + p.end_day
            and d.day >= $7::date and d.day < $8::date) x
      group by p.k`,
    [
      intArray(meters.map((m) => m.k)), intArray(meters.map((m) => m.meterId)), intArray(meters.map((m) => m.s.flow)),
      intArray(meters.map((m) => m.s.startDay)), intArray(meters.map((m) => m.s.endDay)), intArray(meters.map((m) => m.s.lastDay)),
      dayText(sums.reduce((day, s) => Math.min(day, s.startDay), Infinity)), dayText(sums.reduce((day, s) => Math.max(day, s.endDay), -Infinity)),
    ])
  const stored = new Map(rows.map((r) => [r.k, r]))
  // The newest period last, and of each account it alone: the one that runs.
  const newest = new Map<string, { s: PeriodSum; bound: Bound }>()
  for (const [k, s] of sums.entries()) {
    const sum = stored.get(k) ?? { before: 0, onDay: 0, after: 0, greatestAfter: 0 }
    if (sum.before + sum.onDay + sum.after > s.limit) above.add(s.accountId)
    const key = `${s.accountId} ${s.flow}`
    if ((newest.get(key)?.s.startDay ?? -Infinity) < s.startDay) newest.set(key, { s, bound: boundOf(s, sum) })
  }
  const kept = [...newest.values()]
  await db.query(
    `insert into period_bound as b (account_id, flow, start_day, epoch, kwh, cap_from, cap_kwh)
     select account_id, flow, date '1970-01-01' + start_day, $7, kwh, date '1970-01-01' + cap_from, cap_kwh
       from unnest($1::int[], $2::smallint[], $3::int[], $4::float8[], $5::int[], $6::float8[]) as n(account_id, flow, start_day, kwh, cap_from, cap_kwh)
      order by account_id, flow
         on conflict (account_id, flow) do update
        set start_day = excluded.start_day, epoch = excluded.epoch, kwh = excluded.kwh, cap_from = excluded.cap_from, cap_kwh = excluded.cap_kwh
      where excluded.start_day >= b.start_day or b.epoch <> excluded.epoch`,
    [
      intArray(kept.map(({ s }) => s.accountId)), intArray(kept.map(({ s }) => s.flow)), intArray(kept.map(({ s }) => s.startDay)),
      kept.map(({ bound }) => bound.kwh), kept.map(({ bound }) => bound.cap?.fromDay ?? null), kept.map(({ bound }) => bound.cap?.kwh ?? null), epoch,
    ])
  return above
}

/** An upper bound as it is kept: see {@link aboveLimit}. */
export interface Bound {
  readonly kwh: number
  readonly cap: { readonly fromDay: number; readonly kwh: number } | null
}

/**
 * The bound to be kept of a period's stored days. The day that the commit touched last belongs to those below the cap where
 * it is, since it may well grow; with several meters there is none, because a commit knows its own part of a day only.
 */
export function boundOf(
  { meterIds, limit, lastDay, endDay }: Pick<PeriodSum, 'meterIds' | 'limit' | 'lastDay' | 'endDay'>, { before, onDay, after, greatestAfter }: StoredSum,
): Bound {
  const capOf = (kwh: number, fromDay: number): number => CAP_SHARE * (limit - kwh) / (endDay - fromDay)
  if (meterIds.length === 1) {
    const own = capOf(before, lastDay)
    if (onDay <= own && greatestAfter <= own) return { kwh: before, cap: { fromDay: lastDay, kwh: own } }
    const later = lastDay + 1 < endDay ? capOf(before + onDay, lastDay + 1) : -1
    if (later >= 0 && greatestAfter <= later) return { kwh: before + onDay, cap: { fromDay: lastDay + 1, kwh: later } }
  }
  return { kwh: before + onDay + after, cap: null }
}

/** Commits that do not say what they add to these accounts leave no bound behind. */
export async function forgetPeriods(db: Queryable, accountIds: readonly number[]): Promise<void> {
  if (accountIds.length > 0) await db.query('delete from period_bound where account_id = any($1::int[])', [intArray(accountIds)])
}
