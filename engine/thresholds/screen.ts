import { MISSING, type FlowCode } from '../read-batch.js'
import type { MeterRef, RegistryMap } from '../registry-map.js'
import type { Block } from '../settle.js'
import { intArray } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import { DAY_S } from '../time/civil.js'
import { periodOf, type BillingCycle, type DaySpan } from '../time/billing.js'
import type { Zone } from '../time/zone.js'
import { aboveLimit, forgetPeriods, type PeriodSum } from './period-bounds.js'
import type { AccountWatch, Watch } from './watch.js'

/**
 * What a commit knows of a day block that it wrote, as upper bounds of what the day can count for its account: parts of
 * a day, or of its hours, can only be less, because energy delivered or received is never negative.
 */
export interface Seen {
  readonly channelId: number
  readonly flow: FlowCode
  /** True: another channel of the meter has the same flow. */
  readonly isShared: boolean
  readonly kwh: number
  /** By how much the commit raised the day's energy; 0 where it lowered it. */
  readonly addedKwh: number
  /** Of any hour; 0 where the reads are longer than an hour. */
  readonly hourKwh: number
  readonly kw: number
}

const HOUR_S = 3600

/** The bounds of a block. @param before as it stood before the commit; null where none did */
export function seenOf(block: Block, before: Block | null, flow: FlowCode, isShared: boolean, zone: Zone): Seen {
  const unit = 10 ** block.exponent
  const kwh = block.total * unit
  const intervalS = block.intervalS === DAY_S ? zone.dayStart(block.day + 1) - zone.dayStart(block.day) : block.intervalS
  return {
    channelId: block.channelId, flow, isShared, kwh,
    addedKwh: before === null ? kwh : Math.max(0, kwh - before.total * 10 ** before.exponent),
    hourKwh: block.intervalS > HOUR_S ? 0 : greatestHour(block) * unit,
    kw: block.present === 0 ? 0 : block.peak * unit * HOUR_S / intervalS,
  }
}

/** Greatest sum of as many slots in a row as begin in an hour. */
function greatestHour({ vals, intervalS }: Block): number {
  const slots = Math.ceil(HOUR_S / intervalS)
  let sum = 0
  let greatest = 0
  for (let i = 0; i < vals.length; i++) {
    if (vals[i] !== MISSING) sum += vals[i]
    if (i >= slots && vals[i - slots] !== MISSING) sum -= vals[i - slots]
    if (sum > greatest) greatest = sum
  }
  return greatest
}

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
  /** Touched days of accounts with thresholds. */
  readonly accounts: ReadonlyMap<number, readonly Touched[]>
}

/**
 * The accounts that the commit may have brought over a limit, or that have an alert in a period which it touched; the
 * others need no judging. Never leaves one out that does: every bound is from above. The accounts are locked.
 */
export async function screen(db: Queryable, input: ScreenInput): Promise<Set<number>> {
  const { map, zone, history, accounts } = input
  const near = new Set<number>()
  const rest: number[] = []
  const sums: PeriodSum[] = []
  /** Accounts whose running sums this commit moves on and nobody notes. */
  const unknown: number[] = []
  const cycles = new Cycles()
  let fromS = Infinity
  let toS = -Infinity
  for (const [accountId, touched] of accounts) {
    const watch = map.watchOf(accountId)
    if (watch === undefined || watch.watches.length === 0) continue
    const bounds = history ? null : boundsOf(accountId, watch, touched, map, zone, cycles)
    if (bounds !== null) sums.push(...bounds.sums)
    else if (watch.watches.some((w) => w.kind === 'period-usage')) unknown.push(accountId)
    if (bounds === null ? !history : bounds.isNear) {
      near.add(accountId)
      continue
    }
    rest.push(accountId)
    for (const { day } of touched) {
      const period = cycles.periodOf(day, watch.cycle)
      fromS = Math.min(fromS, zone.dayStart(period.startDay))
      toS = Math.max(toS, zone.dayStart(period.endDay))
    }
  }
  await forgetPeriods(db, unknown)
  if (rest.length > 0) {
    const { rows } = await db.query<{ account_id: number }>(
      `select distinct account_id from alert
        where account_id = any($1::int[]) and period_end > to_timestamp($2::float8) and period_start < to_timestamp($3::float8)`,
      [intArray(rest), fromS, toS])
    for (const row of rows) near.add(row.account_id)
  }
  // Of all of them: the running sums of accounts that are judged anyway go on too.
  for (const accountId of await aboveLimit(db, sums, map.epoch)) near.add(accountId)
  return near
}

/** Far below any decimal that a limit or a read may have. */
const MARGIN = 1 - 1e-9

/** What all meters of an account can come to on one day and flow. */
interface DayBound { kwh: number; hourKwh: number; kw: number; meters: number }

/**
 * The sums of periods that are to be asked for, and whether a shorter limit may have been passed, so that the account must be
 * judged whatever they are; null: it must, and what the commit adds to its periods is not known.
 */
function boundsOf(
  accountId: number, { cycle, watches }: AccountWatch, touched: readonly Touched[], map: RegistryMap, zone: Zone, cycles: Cycles,
): { sums: Iterable<PeriodSum>; isNear: boolean } | null {
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
  return { sums: sums.values(), isNear: watches.some((w) => isNear(w, days, (day) => metersOf(accountId, map, zone.dayStart(day)).length)) }
}

/** By flow: the least limit on a billing period's energy. */
function periodLimits(watches: readonly Watch[]): (number | undefined)[] {
  const limits: (number | undefined)[] = []
  for (const { kind, flow, limit } of watches) if (kind === 'period-usage') limits[flow] = Math.min(limits[flow] ?? Infinity, limit)
  return limits
}

/** True where a limit may have been passed on one of the days. */
function isNear({ kind, flow, limit }: Watch, days: ReadonlyMap<number, DayBound>, metersOn: (day: number) => number): boolean {
  if (kind === 'period-cost') return true
  if (kind === 'period-usage') return false
  for (const [key, bound] of days) {
    if (key % 4 !== flow) continue
    // A meter that this commit did not touch may have a day of its own, which is not known here.
    if (metersOn(Math.floor(key / 4)) !== bound.meters) return true
    const value = kind === 'day-usage' ? bound.kwh : kind === 'hour-usage' ? bound.hourKwh : kind === 'demand' ? bound.kw : Infinity
    if (value > limit * MARGIN) return true
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

/** Billing periods by day and billing day: a fleet has few of them. */
class Cycles {
  readonly #known = new Map<number, DaySpan>()

  periodOf(day: number, cycle: BillingCycle): DaySpan {
    if (cycle.periods.length > 0) return periodOf(day, cycle)
    const key = day * 32 + (cycle.billingDay ?? 0)
    let period = this.#known.get(key)
    if (period === undefined) this.#known.set(key, period = periodOf(day, cycle))
    return period
  }
}
