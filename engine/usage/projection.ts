import { mean, quantile } from 'simple-statistics'
import type { DaySpan } from '../time/billing.js'

/** A day of the past as a projection uses it. */
export interface PastDay {
  readonly day: number
  readonly kwh: number
  /** Every read that was due is held. */
  readonly isComplete: boolean
}

/** Energy in kWh, to a watt-hour. */
export interface Projection {
  /** What the whole period comes to, and a range in which it lies if the rest is like the own days' middle half. */
  readonly value: number
  readonly low: number
  readonly high: number
  readonly toDate: number
  /** Days that are projected. */
  readonly days: number
  /** Complete days of the account that the rest was taken from. */
  readonly basedOn: number
}

/** How far back days are looked at. */
export const LOOK_BACK_DAYS = 28
/** Fewer complete days than this say nothing. */
const LEAST_DAYS = 7
/** Fewer days of a kind than this, and all days stand for it. */
const LEAST_OF_KIND = 3
const FIRST_DAYS = 7
const LAST_DAYS = 2

/** True for a Saturday or a Sunday. Day 0 was a Thursday. */
export function isWeekend(day: number): boolean {
  const weekday = (((day + 4) % 7) + 7) % 7
  return weekday === 0 || weekday === 6
}

/**
 * The local days, by whose end a period may be projected: so that the day after is neither in its first week nor one of
 * its last two days. The end is exclusive.
 */
export function projectedDays(period: DaySpan): DaySpan {
  return { startDay: period.startDay + FIRST_DAYS - 1, endDay: period.endDay - LAST_DAYS - 1 }
}

/** What a kind of day is like, as factors of the rest's energy. */
export interface Outlook {
  readonly value: number
  readonly low: number
  readonly high: number
  readonly days: readonly PastDay[]
}

/** What the days of the same kind (working days, weekends) among the last four weeks suggest; null with too few of them. */
export function outlookOf(throughDay: number, past: readonly PastDay[]): { outlook: (day: number) => Outlook; basedOn: number } | null {
  const usable = past.filter((p) => p.isComplete && p.day <= throughDay && p.day > throughDay - LOOK_BACK_DAYS)
  if (usable.length < LEAST_DAYS) return null
  const kinds = [false, true].map((weekend): Outlook => {
    const same = usable.filter((p) => isWeekend(p.day) === weekend)
    const days = same.length < LEAST_OF_KIND ? usable : same
    const values = days.map((p) => p.kwh)
    const value = mean(values)
    return { value, low: Math.min(value, quantile(values, 0.25)), high: Math.max(value, quantile(values, 0.75)), days }
  })
  return { outlook: (day) => kinds[isWeekend(day) ? 1 : 0], basedOn: usable.length }
}

/**
 * What the period comes to if its days after `throughDay` are like the own days of the same kind were. Days up to
 * `throughDay` count as they are held.
 * @param past days of the period and of the weeks before it
 */
export function projectUsage(period: DaySpan, throughDay: number, past: readonly PastDay[]): Projection | null {
  const found = outlookOf(throughDay, past)
  if (found === null) return null
  let toDate = 0
  for (const p of past) if (p.day >= period.startDay && p.day < period.endDay && p.day <= throughDay) toDate += p.kwh
  let [value, low, high] = [toDate, toDate, toDate]
  for (let day = Math.max(period.startDay, throughDay + 1); day < period.endDay; day++) {
    const outlook = found.outlook(day)
    value += outlook.value
    low += outlook.low
    high += outlook.high
  }
  return {
    value: wattHours(value), low: wattHours(low), high: wattHours(high), toDate: wattHours(toDate),
    days: Math.max(0, period.endDay - 1 - throughDay), basedOn: found.basedOn,
  }
}

function wattHours(kwh: number): number {
  return Math.round(kwh * 1000) / 1000
}
