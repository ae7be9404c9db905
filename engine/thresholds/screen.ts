import { MISSING, type FlowCode } from '../read-batch.js'
import type { MeterRef, RegistryMap } from '../registry-map.js'
import type { Block } from '../settle.js'
import { intArray } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import { periodOf, type BillingCycle, type DaySpan } from '../time/billing.js'
import { dayText } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import type { AccountWatch } from './watch.js'

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
  /** Of any hour; 0 where the reads are longer than an hour. */
  readonly hourKwh: number
  readonly kw: number
}

const HOUR_S = 3600

/** The bounds of a block. */
export function seenOf(block: Block, flow: FlowCode, isShared: boolean): Seen {
  const unit = 10 ** block.exponent
  return {
    channelId: block.channelId, flow, isShared, kwh: block.total * unit,
    hourKwh: block.intervalS > HOUR_S ? 0 : greatestHour(block) * unit,
    kw: block.present === 0 ? 0 : block.peak * unit * HOUR_S / block.intervalS,
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
 * others need no judging. Never leaves one out that does: every bound is from above.
 */
export async function screen(db: Queryable, input: ScreenInput): Promise<Set<number>> {
  const { map, zone, history, accounts } = input
  const near = new Set<number>()
  const rest: number[] = []
  const sums: PeriodSum[] = []
  const cycles = new Cycles()
  let fromS = Infinity
  let toS = -Infinity
  for (const [accountId, touched] of accounts) {
    const watch = map.watchOf(accountId)
    if (watch === undefined || watch.watches.length === 0) continue
    const asked = history ? [] : boundsOf(accountId, watch, touched, map, zone, cycles)
    if (asked === null) {
      near.add(accountId)
      continue
    }
    rest.push(accountId)
    sums.push(...asked)
    for (const { day } of touched) {
      const period = cycles.periodOf(day, watch.cycle)
      fromS = Math.min(fromS, zone.dayStart(period.startDay))
      toS = Math.max(toS, zone.dayStart(period.endDay))
    }
  }
  if (rest.length === 0) return near
  const { rows } = await db.query<{ account_id: number }>(
    `select distinct account_id from alert
      where account_id = any($1::int[]) and period_end > to_timestamp($2::float8) and period_start < to_timestamp($3::float8)`,
    [intArray(rest), fromS, toS])
  for (const row of rows) near.add(row.account_id)
  for (const accountId of await aboveLimit(db, sums.filter((s) => !near.has(s.accountId)))) near.add(accountId)
  return near
}

interface PeriodSum extends DaySpan {
  readonly accountId: number
  readonly channelId: number
  readonly limit: number
}

/** Far below any decimal that a limit or a read may have. */
const MARGIN = 1 - 1e-9

/** The sums of periods that are to be asked for; null: the account must be judged. */
function boundsOf(
  accountId: number, { cycle, watches }: AccountWatch, touched: readonly Touched[], map: RegistryMap, zone: Zone, cycles: Cycles,
): PeriodSum[] | null {
  const sums: PeriodSum[] = []
  for (const { day, seen } of touched) {
    if (seen === undefined || seen.isShared) return null
    const period = cycles.periodOf(day, cycle)
    if (!hasOneMeter(accountId, map, zone.dayStart(period.startDay))) return null
    for (const { kind, flow, limit } of watches) {
      if (flow !== seen.flow && kind !== 'period-cost') continue
      const level = limit * MARGIN
      switch (kind) {
        case 'day-usage':
          if (seen.kwh > level) return null
          break
        case 'hour-usage':
          if (seen.hourKwh > level) return null
          break
        case 'demand':
          if (seen.kw > level) return null
          break
        case 'period-usage':
          if (seen.kwh > level) return null
          sums.push({ accountId, channelId: seen.channelId, startDay: period.startDay, endDay: period.endDay, limit: level })
          break
        default:
          return null
      }
    }
  }
  return sums
}

/** True where one meter alone can count for the account since an instant. */
function hasOneMeter(accountId: number, map: RegistryMap, sinceS: number): boolean {
  let meters = 0
  for (const meter of map.metersOf(accountId)) {
    if (meter.assignments.some((a) => a.accountId === accountId && a.toS > sinceS)) meters++
  }
  return meters === 1
}

/** Accounts whose period's energy may be above its limit: one statement for each pair of dates that periods have. */
async function aboveLimit(db: Queryable, sums: readonly PeriodSum[]): Promise<number[]> {
  const groups = new Map<string, PeriodSum[]>()
  for (const s of sums) {
    const key = `${s.startDay} ${s.endDay}`
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [s])
    else group.push(s)
  }
  const found: number[] = []
  for (const group of groups.values()) {
    const channels = [...new Set(group.map((s) => s.channelId))]
    const least = group.reduce((a, s) => Math.min(a, s.limit), Infinity)
    const { rows } = await db.query<{ channel_id: number; kwh: number }>(
      `select channel_id, sum(total * 10::float8 ^ exponent) as kwh from channel_day
        where channel_id = any($1::int[]) and day >= $2::date and day < $3::date
        group by channel_id having sum(total * 10::float8 ^ exponent) > $4`,
      [intArray(channels), dayText(group[0].startDay), dayText(group[0].endDay), least])
    const above = new Map(rows.map((r) => [r.channel_id, r.kwh]))
    for (const s of group) if ((above.get(s.channelId) ?? -Infinity) > s.limit) found.push(s.accountId)
  }
  return found
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
