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
  limit: number
  /** kWh that this commit added to it. */
  addedKwh: number
  lastDay?: number
  lastChannel?: number
}

/**
 * Accounts whose period's energy may be above its limit.
 *
 * An upper bound of each account's running period is kept in `period_bound`: every commit adds what it added, under the
 * account's lock, and nothing is taken away. It holds within one registry epoch, since a registry write may move energy
 * between accounts and periods. Where there is none that holds, or it has come to the limit, the stored days are summed,
 * and the bound is the sum again. Summing them in every commit cost more than settling (bench `thresholds`).
 */
export async function aboveLimit(db: Queryable, sums: readonly PeriodSum[], epoch: number): Promise<Set<number>> {
  if (sums.length === 0) return new Set()
  const { rows } = await db.query<{ k: number; kwh: number }>(
    `update period_bound b set kwh = b.kwh + d.added
       from unnest($1::int[], $2::smallint[], $3::date[], $4::float8[]) with ordinality as d(account_id, flow, start_day, added, k)
      where b.account_id = d.account_id and b.flow = d.flow and b.start_day = d.start_day and b.epoch = $5
     returning d.k::int as k, b.kwh`,
    [intArray(sums.map((s) => s.accountId)), intArray(sums.map((s) => s.flow)), startDays(sums), sums.map((s) => s.addedKwh), epoch])
  const known = new Map(rows.map((r) => [sums[r.k - 1], r.kwh]))
  const asked = sums.filter((s) => !((known.get(s) ?? Infinity) <= s.limit))
  return sumStored(db, asked, epoch)
}

/** Sums the stored days: one statement for each pair of dates that periods have. Returns the accounts above their limit. */
async function sumStored(db: Queryable, sums: readonly PeriodSum[], epoch: number): Promise<Set<number>> {
  const groups = new Map<string, PeriodSum[]>()
  for (const s of sums) {
    const key = `${s.startDay} ${s.endDay}`
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [s])
    else group.push(s)
  }
  const found = new Set<number>()
  // The newest period last: of an account that has several its bound is the one that stays.
  const ordered = [...groups.values()].sort(([a], [b]) => a.startDay - b.startDay)
  for (const group of ordered) {
    // All channels of the meters, other processes' new ones too; where several have one flow their sum is more than counts.
    const { rows } = await db.query<{ meter_id: number; flow: FlowCode; kwh: number }>(
      `select c.meter_id, c.flow, sum(d.total * 10::float8 ^ d.exponent) as kwh from channel c join channel_day d using (channel_id)
        where c.meter_id = any($1::int[]) and c.quantity = ${Quantity.energy} and d.day >= $2::date and d.day < $3::date
        group by c.meter_id, c.flow`,
      [intArray(group.flatMap((s) => s.meterIds)), dayText(group[0].startDay), dayText(group[0].endDay)])
    const byMeter = new Map(rows.map((r) => [`${r.meter_id} ${r.flow}`, r.kwh]))
    const kwh = group.map((s) => s.meterIds.reduce((sum, id) => sum + (byMeter.get(`${id} ${s.flow}`) ?? 0), 0))
    group.forEach((s, i) => {
      if (kwh[i] > s.limit) found.add(s.accountId)
    })
    await db.query(
      `insert into period_bound as b (account_id, flow, start_day, epoch, kwh)
       select * from unnest($1::int[], $2::smallint[], $3::date[], array_fill($4::bigint, array[$6::int]), $5::float8[])
           on conflict (account_id, flow) do update set start_day = excluded.start_day, epoch = excluded.epoch, kwh = excluded.kwh
        where excluded.start_day >= b.start_day or b.epoch <> excluded.epoch`,
      [intArray(group.map((s) => s.accountId)), intArray(group.map((s) => s.flow)), startDays(group), epoch, kwh, group.length])
  }
  return found
}

/** Commits that do not say what they add to these accounts leave no bound behind. */
export async function forgetPeriods(db: Queryable, accountIds: readonly number[]): Promise<void> {
  if (accountIds.length > 0) await db.query('delete from period_bound where account_id = any($1::int[])', [intArray(accountIds)])
}

function startDays(sums: readonly PeriodSum[]): string[] {
  return sums.map((s) => dayText(s.startDay))
}
