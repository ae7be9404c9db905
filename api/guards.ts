import { ApiError } from '../engine/problem.js'
import type { Queryable } from '../engine/store/db.js'
import type { ApiContext, Principal } from './context.js'

/** An account that the caller may see. */
export interface AccountRef {
  readonly accountId: number
  /** Public id. */
  readonly account: string
  readonly utilityId: number
  /** Zone that the utility's stored days are cut by: every local day, month and period of an answer is in it. */
  readonly zone: string
  readonly row: AccountRow
}

/** The account's row as the routes need it. */
export interface AccountRow {
  readonly nickname: string | null
  readonly name: string | null
  readonly billing_day: number | null
  readonly zone: string | null
  readonly rate: unknown
  readonly groups: Record<string, string>
  readonly thresholds: number
  readonly created_at: Date
}

/** A stretch of time, epoch seconds: fromS inclusive (-Infinity where open), toS exclusive (Infinity where open). */
export interface TimeWindow {
  readonly fromS: number
  readonly toS: number
}

/** A meter that the caller may see, and when. */
export interface MeterRef {
  readonly meterId: number
  /** Public id, also where it was asked for by an alias. */
  readonly meter: string
  readonly utilityId: number
  readonly zone: string
  /**
   * The caller may see only what lies in these, ascending and apart: for a member token the time in which the meter
   * served one of the token's accounts; for a key one window, open at both ends.
   */
  readonly windows: readonly TimeWindow[]
  readonly row: MeterRow
}

/** The meter's row as the routes need it. */
export interface MeterRow {
  readonly aliases: string[]
  readonly role: string
  readonly status: string
  readonly interval_s: number | null
  readonly flows: string[] | null
  readonly multiplier: string
  readonly service_kw: string | null
  readonly created_at: Date
}

const OPEN: readonly TimeWindow[] = [{ fromS: -Infinity, toS: Infinity }]

/**
 * The account of this public id, if the caller may see it.
 * @throws ApiError 404 `account-not-found` (also for another utility's and another member's), 409 `utility-zone-unset`
 */
export async function requireAccount(
  context: Pick<ApiContext, 'pool'>, principal: Principal, account: string,
): Promise<AccountRef> {
  if (principal.accounts !== null && !principal.accounts.has(account)) throw accountNotFound()
  const { rows } = await context.pool.query<AccountRow & { account_id: number; utility_zone: string | null }>(
    `select a.account_id, a.nickname, a.name, a.billing_day, a.zone, a.rate, a.groups, a.thresholds, a.created_at,
            u.zone as utility_zone
       from account a join utility u using (utility_id)
      where a.utility_id = $1 and a.id = $2`, [principal.utilityId, account])
  if (rows.length === 0) throw accountNotFound()
  const { account_id: accountId, utility_zone: zone, ...row } = rows[0]
  return { accountId, account, utilityId: principal.utilityId, zone: zone ?? zoneUnset(), row }
}

/**
 * The meter of this public id or alias, if the caller may see it, and the windows of time that the caller may see.
 * @throws ApiError 404 `meter-not-found` (also where it never served the member's accounts), 409 `utility-zone-unset`
 */
export async function requireMeter(
  context: Pick<ApiContext, 'pool'>, principal: Principal, meter: string,
): Promise<MeterRef> {
  const { rows } = await context.pool.query<MeterRow & { meter_id: number; id: string; utility_zone: string | null }>(
    `select m.meter_id, m.id, m.aliases, m.role, m.status, m.interval_s, m.flows, m.multiplier, m.service_kw,
            m.created_at, u.zone as utility_zone
       from meter m join utility u using (utility_id)
      where m.meter_id = coalesce(
              (select meter_id from meter where utility_id = $1 and id = $2),
              (select meter_id from meter_alias where utility_id = $1 and alias = $2))`, [principal.utilityId, meter])
  if (rows.length === 0) throw meterNotFound()
  const { meter_id: meterId, id, utility_zone: zone, ...row } = rows[0]
  const windows = principal.accounts === null ? OPEN : await memberWindows(context.pool, principal, meterId)
  if (windows.length === 0) throw meterNotFound()
  return { meterId, meter: id, utilityId: principal.utilityId, zone: zone ?? zoneUnset(), windows, row }
}

/** The zone of the caller's utility. @throws ApiError 409 `utility-zone-unset` */
export async function requireZone(context: Pick<ApiContext, 'pool'>, principal: Principal): Promise<string> {
  const { rows } = await context.pool.query<{ zone: string | null }>(
    'select zone from utility where utility_id = $1', [principal.utilityId])
  return rows[0]?.zone ?? zoneUnset()
}

/** The parts of `range` that lie in the windows, ascending: what of a question the caller may be answered. */
export function clip(windows: readonly TimeWindow[], range: TimeWindow): TimeWindow[] {
  return windows
    .map((w) => ({ fromS: Math.max(w.fromS, range.fromS), toS: Math.min(w.toS, range.toS) }))
    .filter((w) => w.fromS < w.toS)
}

async function memberWindows(db: Queryable, principal: Principal, meterId: number): Promise<TimeWindow[]> {
  const { rows } = await db.query<{ from_s: number; to_s: number | null }>(
    `select extract(epoch from s.from_at)::float8 as from_s, extract(epoch from s.to_at)::float8 as to_s
       from meter_assignment s join account a using (account_id)
      where s.meter_id = $1 and a.utility_id = $2 and a.id = any($3::text[])
      order by s.from_at`, [meterId, principal.utilityId, [...principal.accounts ?? []]])
  const windows: { fromS: number; toS: number }[] = []
  for (const r of rows) {
    const last = windows.at(-1)
    const toS = r.to_s ?? Infinity
    if (last !== undefined && r.from_s <= last.toS) last.toS = Math.max(last.toS, toS)
    else windows.push({ fromS: r.from_s, toS })
  }
  return windows
}

function accountNotFound(): ApiError {
  return new ApiError(404, 'account-not-found', 'There is no such account.')
}

function meterNotFound(): ApiError {
  return new ApiError(404, 'meter-not-found', 'There is no such meter.')
}

function zoneUnset(): never {
  throw new ApiError(409, 'utility-zone-unset', 'The utility has no time zone yet, so it has no local days.',
    { help: 'Set it: PUT /v1/utilities/{id} {"zone":"America/Chicago"}, or start with UTILITY_ZONE.' })
}

/** Sources whose deliveries the caller may see and push for; null: all of the utility's. */
export function ownSources(principal: Principal): readonly string[] | null {
  if (principal.role !== 'head-end') return null
  return principal.sources.length > 0 ? principal.sources : [principal.name]
}
