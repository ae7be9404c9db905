import { intArray } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import type { DaySpan } from '../time/billing.js'
import { dayNumber } from '../time/text.js'
import type { TimeWindow } from './segments.js'

/** The rows of each account. */
export function byAccount<T>(rows: readonly T[], accountOf: (row: T) => number): Map<number, T[]> {
  const map = new Map<number, T[]>()
  for (const row of rows) {
    const list = map.get(accountOf(row))
    if (list === undefined) map.set(accountOf(row), [row])
    else list.push(row)
  }
  return map
}

/** When each account had the service: the times of its main meters' assignments. */
export async function loadOccupancy(db: Queryable, accountIds: readonly number[]): Promise<Map<number, TimeWindow[]>> {
  const { rows } = await db.query<{ account_id: number; from_s: number; to_s: number | null }>(
    `select a.account_id, extract(epoch from a.from_at)::float8 as from_s, extract(epoch from a.to_at)::float8 as to_s
       from meter_assignment a join meter m using (meter_id)
      where a.account_id = any($1::int[]) and m.role = 'main'
      order by a.from_at`, [intArray(accountIds)])
  return mapValues(byAccount(rows, (r) => r.account_id), (r) => ({ fromS: r.from_s, toS: r.to_s ?? Infinity }))
}

/** Explicit billing periods per account, ascending. */
export async function loadPeriods(db: Queryable, accountIds: readonly number[]): Promise<Map<number, DaySpan[]>> {
  const { rows } = await db.query<{ account_id: number; start_day: string; end_day: string }>(
    `select account_id, start_day, end_day from billing_period where account_id = any($1::int[])
      order by account_id, start_day`, [intArray(accountIds)])
  return mapValues(byAccount(rows, (r) => r.account_id),
    (r) => ({ startDay: dayNumber(r.start_day), endDay: dayNumber(r.end_day) }))
}

function mapValues<K, A, B>(map: ReadonlyMap<K, readonly A[]>, each: (value: A) => B): Map<K, B[]> {
  return new Map([...map].map(([key, values]) => [key, values.map(each)]))
}
