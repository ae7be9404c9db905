import type { MeterRef, RegistryMap } from '../registry-map.js'
import type { Queryable } from '../store/db.js'
import type { Zone } from '../time/zone.js'
import type { ThresholdKind } from './kinds.js'
import { aboveLimit, forgetPeriods, type PeriodSum } from './period-bounds.js'
import type { QuietDays } from './quiet-days.js'
import { isPassed, MARGIN, type Cycles, type Seen } from './seen.js'
import type { AccountWatch, Watch } from './watch.js'

/** A day of a meter that a commit touched; without bounds where it only counts otherwise than before. */
export interface Touched {
  readonly day: number
  readonly meter: MeterRef
  readonly seen: Seen | undefined
}

export interface ScreenInput {
  readonly map: RegistryMap
  readonly zone: Zone
  /** A history load raises nothing: only alerts that stand matter. */
  readonly history: boolean
  /** Touched days of accounts with thresholds, but those that are quiet. */
  readonly accounts: ReadonlyMap<number, readonly Touched[]>
  /** Ids of all of them and of those with quiet days, as an array's text. */
  readonly ids: string
  readonly quiet: QuietDays
  readonly cycles: Cycles
}

/** What of an account is to be judged: its thresholds of some kinds; null: all that settling judges. */
export type Suspects = Map<number, ReadonlySet<ThresholdKind> | null>

/**
 * The accounts that the commit may have brought over a limit, or that have an alert whose period has a day that it touched; the
 * others need no judging. Never leaves one out that does: every bound is from above. The accounts are locked.
 */
export async function screen(db: Queryable, input: ScreenInput): Promise<Suspects> {
  const { map, zone, history, accounts, ids, quiet, cycles } = input
  const suspects: Suspects = new Map()
  const sums: PeriodSum[] = []
  /** Accounts whose running sums this commit moves on and nobody notes. */
  const unknown = new Set<number>()
  let { first, last } = quiet.range
  for (const [accountId, touched] of accounts) {
    const watch = map.watchOf(accountId)
    if (watch === undefined || watch.watches.length === 0) continue
    const bounds = history ? null : boundsOf(accountId, watch, touched, map, zone, cycles)
    if (bounds !== null) {
      sums.push(...bounds.sums)
      if (bounds.near.size > 0) suspects.set(accountId, bounds.near)
    } else {
      if (watch.watches.some((w) => w.kind === 'period-usage')) unknown.add(accountId)
      if (!history) {
        suspects.set(accountId, null)
        continue
      }
    }
    for (const { day } of touched) {
      first = Math.min(first, day)
      last = Math.max(last, day)
    }
  }
  await forgetPeriods(db, [...unknown])
  const { columns, sumOf, sums: more } = quiet.periods(new Set(accounts.keys()))
  // Of all of them: the running sums of accounts that are judged anyway go on too.
  const above = await aboveLimit(db, joinSums(sums, more.filter((s) => !unknown.has(s.accountId))), { columns, sumOf }, map.epoch)
  for (const accountId of above) {
    const known = suspects.get(accountId)
    if (known !== null) suspects.set(accountId, new Set([...known ?? [], 'period-usage']))
  }
  if (first <= last) {
    const { rows } = await db.query<{ account_id: number }>(
      `select distinct account_id from alert
        where account_id = any($1::int[]) and period_end > to_timestamp($2::float8) and period_start < to_timestamp($3::float8)`,
      [ids, zone.dayStart(first), zone.dayStart(last + 1)])
    for (const row of rows) suspects.set(row.account_id, null)
  }
  return suspects
}

/** Joins what two lists add to the same account's period: a bound is moved on once in a statement. */
function joinSums(sums: PeriodSum[], more: readonly PeriodSum[]): PeriodSum[] {
  if (more.length === 0) return sums
  const keyOf = (s: PeriodSum): string => `${s.accountId} ${s.flow} ${s.startDay}`
  const known = new Map(sums.map((s) => [keyOf(s), s]))
  for (const s of more) {
    const sum = known.get(keyOf(s))
    if (sum === undefined) sums.push(s)
    else {
      sum.addedKwh += s.addedKwh
      sum.firstDay = Math.min(sum.firstDay, s.firstDay)
      sum.lastDay = Math.max(sum.lastDay, s.lastDay)
      sum.dayKwh = Math.max(sum.dayKwh, s.dayKwh)
    }
  }
  return sums
}

/** What all meters of an account can come to on one day and flow. */
interface DayBound { kwh: number; hourKwh: number; kw: number; meters: number }

/**
 * The sums of periods that are to be asked for, and the kinds of which a limit on something shorter may have been passed; null:
 * all of the account must be judged, and what the commit adds to its periods is not known.
 */
function boundsOf(
  accountId: number, { cycle, watches }: AccountWatch, touched: readonly Touched[], map: RegistryMap, zone: Zone, cycles: Cycles,
): { sums: Iterable<PeriodSum>; near: Set<ThresholdKind> } | null {
  const days = new Map<number, DayBound>()
  const limits = periodLimits(watches)
  const sums = new Map<number, PeriodSum>()
  for (const { day, seen } of touched) {
    if (seen === undefined || seen.isShared) return null
    const key = day * 4 + seen.flow
    const bound = days.get(key)
    if (bound === undefined) days.set(key, { kwh: seen.kwh, hourKwh: seen.hourKwh, kw: seen.kw, meters: 1 })
    else {
      bound.kwh += seen.kwh
      bound.hourKwh += seen.hourKwh
      bound.kw += seen.kw
      bound.meters++
    }
    const limit = limits[seen.flow]
    if (limit === undefined) continue
    const period = cycles.periodOf(day, cycle)
    const sumKey = period.startDay * 4 + seen.flow
    const sum = sums.get(sumKey)
    if (sum === undefined) {
      sums.set(sumKey, {
        accountId, flow: seen.flow, meterIds: metersOf(accountId, map, zone.dayStart(period.startDay)), limit: limit * MARGIN,
        startDay: period.startDay, endDay: period.endDay, addedKwh: seen.addedKwh, firstDay: day, lastDay: day, dayKwh: seen.kwh })
    } else {
      sum.addedKwh += seen.addedKwh
      sum.firstDay = Math.min(sum.firstDay, day)
      sum.lastDay = Math.max(sum.lastDay, day)
      sum.dayKwh = Math.max(sum.dayKwh, seen.kwh)
    }
  }
  const near = new Set<ThresholdKind>()
  for (const w of watches) if (isNear(w, days, (day) => metersOf(accountId, map, zone.dayStart(day)).length)) near.add(w.kind)
  return { sums: sums.values(), near }
}

/** By flow: the least limit on a billing period's energy. */
function periodLimits(watches: readonly Watch[]): (number | undefined)[] {
  const limits: (number | undefined)[] = []
  for (const { kind, flow, limit } of watches) if (kind === 'period-usage') limits[flow] = Math.min(limits[flow] ?? Infinity, limit)
  return limits
}

/** True where a limit may have been passed on one of the days. */
function isNear(watch: Watch, days: ReadonlyMap<number, DayBound>, metersOn: (day: number) => number): boolean {
  if (watch.kind === 'period-cost') return true
  if (watch.kind === 'period-usage') return false
  for (const [key, bound] of days) {
    if (key % 4 !== watch.flow) continue
    // A meter that this commit did not touch may have a day of its own, which is not known here.
    if (metersOn(Math.floor(key / 4)) !== bound.meters) return true
    if (isPassed(watch, bound)) return true
  }
  return false
}

/** Ids of the meters that counted for the account at any time since an instant. */
function metersOf(accountId: number, map: RegistryMap, sinceS: number): number[] {
  const ids: number[] = []
  for (const meter of map.metersOf(accountId)) {
    if (meter.assignments.some((a) => a.accountId === accountId && a.toS > sinceS)) ids.push(meter.meterId)
  }
  return ids
}

