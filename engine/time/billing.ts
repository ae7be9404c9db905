import { civilOfDay, dayInMonth } from './civil.js'

export { addMonths, daysInMonth, monthStart } from './civil.js'

/** A span of local days, day numbers, the end exclusive. */
export interface DaySpan {
  startDay: number
  endDay: number
}

/** Where a period comes from: told by the customer information system, from the billing day, or the calendar month. */
export type PeriodSource = 'cis' | 'billingDay' | 'calendar'

export interface BillingPeriod extends DaySpan {
  source: PeriodSource
}

/** What an account says about its billing periods. */
export interface BillingCycle {
  /** Day of the month on which a period starts, 1-31 (the last day of shorter months); null: the calendar month. */
  billingDay: number | null
  /** Explicit periods, ascending and without overlap; gaps between them are filled by the billing day or the month. */
  periods: readonly DaySpan[]
}

/**
 * The billing period in which a local day lies. An explicit period stands where it covers the day; elsewhere the
 * period follows from the billing day or the calendar, cut where an explicit one begins or ends: periods never overlap
 * and leave nothing out, so every day has exactly one.
 */
export function periodOf(day: number, account: BillingCycle): BillingPeriod {
  const { periods, billingDay } = account
  const next = firstAfter(periods, day)
  const before = next > 0 ? periods[next - 1] : undefined
  if (before !== undefined && day < before.endDay) {
    return { startDay: before.startDay, endDay: before.endDay, source: 'cis' }
  }
  const { year, month } = civilOfDay(day)
  let index = year * 12 + month - 1
  if (day < dayInMonth(index, billingDay ?? 1)) index--
  let startDay = dayInMonth(index, billingDay ?? 1)
  let endDay = dayInMonth(index + 1, billingDay ?? 1)
  if (before !== undefined && before.endDay > startDay) startDay = before.endDay
  if (next < periods.length && periods[next].startDay < endDay) endDay = periods[next].startDay
  return { startDay, endDay, source: billingDay === null ? 'calendar' : 'billingDay' }
}

/** The billing period before another of the same account. */
export function previousPeriod(period: DaySpan, account: BillingCycle): BillingPeriod {
  return periodOf(period.startDay - 1, account)
}

/**
 * Whole billing periods that cover [fromDay, toDay), ascending and contiguous: the first contains fromDay and the last
 * toDay - 1. None for an empty range.
 *
 * @throws RangeError when the range is not finite
 */
export function periodsBetween(fromDay: number, toDay: number, account: BillingCycle): BillingPeriod[] {
  if (!Number.isFinite(fromDay) || !Number.isFinite(toDay)) throw new RangeError('a range of days has two ends')
  const found: BillingPeriod[] = []
  for (let day = fromDay; day < toDay;) {
    const period = periodOf(day, account)
    found.push(period)
    day = period.endDay
  }
  return found
}

/** Index of the first period that starts after the day. */
function firstAfter(periods: readonly DaySpan[], day: number): number {
  let low = 0
  let high = periods.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (periods[middle].startDay <= day) low = middle + 1
    else high = middle
  }
  return low
}
