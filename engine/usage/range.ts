import { ApiError } from '../problem.js'
import { periodOf, periodsBetween, previousPeriod, type BillingCycle, type BillingPeriod } from '../time/billing.js'
import { addMonths, DAY_S, monthStart } from '../time/civil.js'
import { parseDay, parseInstant } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import type { TimeWindow } from './segments.js'
import type { Resolution } from './usage.js'

/** A range of time, epoch seconds, the end exclusive. */
export interface Range {
  fromS: number
  toS: number
}

export interface RangeText {
  /** Local date or RFC 3339 instant. */
  from?: string
  to?: string
  /** The last N billing periods, or months where the resolution is month; the running one is the last. */
  last?: number
}

const FIRST_S = 3652 * DAY_S // 1980-01-01: before any read
const LAST_S = 47_482 * DAY_S // 2100-01-01

/**
 * The range that a question asks for: from and to, the last N periods, or by default the running billing period. With
 * `from` alone it runs to the end of today.
 * @throws ApiError 422 `invalid-range`
 */
export function rangeOf(text: RangeText, resolution: Resolution, zone: Zone, cycle: BillingCycle, nowS: number): Range {
  const today = zone.dayOf(nowS)
  if (text.last !== undefined) {
    if (text.from !== undefined || text.to !== undefined) throw invalid('last', '"last" cannot stand beside "from" or "to"')
    return resolution === 'month' ? lastMonths(text.last, today, zone) : lastPeriods(text.last, today, zone, cycle)
  }
  if (text.from === undefined) {
    if (text.to !== undefined) throw invalid('from', '"to" needs a "from"')
    return lastPeriods(1, today, zone, cycle)
  }
  const fromS = pointOf('from', text.from, zone)
  const toS = text.to === undefined ? zone.dayStart(today + 1) : pointOf('to', text.to, zone)
  if (fromS >= toS) throw invalid('to', '"to" must be later than "from"')
  return { fromS, toS }
}

function lastMonths(n: number, today: number, zone: Zone): Range {
  const month = monthStart(today)
  return { fromS: zone.dayStart(addMonths(month, 1 - n)), toS: zone.dayStart(addMonths(month, 1)) }
}

function lastPeriods(n: number, today: number, zone: Zone, cycle: BillingCycle): Range {
  const current = periodOf(today, cycle)
  let first: BillingPeriod = current
  for (let i = 1; i < n; i++) first = previousPeriod(first, cycle)
  return { fromS: zone.dayStart(first.startDay), toS: zone.dayStart(current.endDay) }
}

/** @throws ApiError 422 `invalid-range` */
export function pointOf(name: string, text: string, zone: Zone): number {
  const day = parseDay(text)
  // A plus sign that was not escaped arrives as a space; no instant has one before its offset.
  const s = day === undefined ? parseInstant(text.replace(/ (?=\d\d:\d\d$)/, '+')) : zone.dayStart(day)
  if (s === undefined || !Number.isInteger(s) || s < FIRST_S || s > LAST_S) {
    throw invalid(name, `"${name}" is neither a local date nor an instant with an offset, to the second`)
  }
  return s
}

function invalid(name: string, message: string): ApiError {
  return new ApiError(422, 'invalid-range', message, {
    at: `/${name}`, in: 'query', help: 'for example from=2026-10-01&to=2026-11-01, or from=2026-10-01T00:00:00-05:00' })
}

const CAPS: Record<Resolution, { days: number; text: string }> = {
  interval: { days: 93, text: '93 days' },
  hour: { days: 400, text: '400 days' },
  day: { days: 5 * 366, text: '5 years' },
  month: { days: 20 * 366, text: '20 years' },
  billing: { days: 20 * 366, text: '20 years' },
}

/** Keeps an answer's size within bounds. @throws ApiError 422 `range-too-large` */
export function checkSize(range: Range, resolution: Resolution): void {
  const cap = CAPS[resolution]
  // A day's grace: local days are up to two hours longer or shorter than 24.
  if (range.toS - range.fromS <= (cap.days + 1) * DAY_S) return
  throw new ApiError(422, 'range-too-large', `At resolution ${resolution} a range may have ${cap.text}.`, {
    at: '/to', in: 'query', help: 'ask for a coarser resolution (interval, hour, day, month), or in several ranges' })
}

export type Comparison = 'previous' | 'last-year'

/**
 * The range to compare with. Whole billing periods are compared with as many billing periods, whole months with months,
 * local days with days, anything else with the same length of time before it, or the same local times a year before.
 */
export function comparedRange(range: Range, kind: Comparison, resolution: Resolution, zone: Zone, cycle: BillingCycle): Range {
  const fromDay = zone.dayOf(range.fromS)
  const toDay = zone.dayOf(range.toS)
  if (zone.dayStart(fromDay) !== range.fromS || zone.dayStart(toDay) !== range.toS) {
    if (kind === 'previous') return { fromS: 2 * range.fromS - range.toS, toS: range.fromS }
    return { fromS: yearBefore(range.fromS, zone), toS: yearBefore(range.toS, zone) }
  }
  const days = comparedDays(fromDay, toDay, kind, resolution, cycle)
  return { fromS: zone.dayStart(days.fromDay), toS: zone.dayStart(days.toDay) }
}

function comparedDays(
  fromDay: number, toDay: number, kind: Comparison, resolution: Resolution, cycle: BillingCycle,
): { fromDay: number; toDay: number } {
  const isMonths = monthStart(fromDay) === fromDay && monthStart(toDay) === toDay
  const isPeriods = periodOf(fromDay, cycle).startDay === fromDay && periodOf(toDay, cycle).startDay === toDay
  if (isPeriods && !(isMonths && resolution === 'month')) {
    const periods = periodsBetween(fromDay, toDay, cycle)
    if (kind === 'previous') {
      let first = periods[0]
      for (let i = 0; i < periods.length; i++) first = previousPeriod(first, cycle)
      return { fromDay: first.startDay, toDay: fromDay }
    }
    // Read dates move by a few days from year to year: the middle of the period surely lies in its counterpart.
    let period = periodOf(yearBeforeDay(middle(periods[0])), cycle)
    const start = period.startDay
    for (let i = 1; i < periods.length; i++) period = periodOf(period.endDay, cycle)
    return { fromDay: start, toDay: period.endDay }
  }
  if (kind === 'previous') {
    if (isMonths) return { fromDay: addMonths(fromDay, -monthsBetween(fromDay, toDay)), toDay: fromDay }
    return { fromDay: 2 * fromDay - toDay, toDay: fromDay }
  }
  const from = yearBeforeDay(fromDay)
  return { fromDay: from, toDay: Math.max(from + 1, yearBeforeDay(toDay)) }
}

function middle(p: { startDay: number; endDay: number }): number {
  return Math.floor((p.startDay + p.endDay) / 2)
}

function monthsBetween(fromDay: number, toDay: number): number {
  let n = 0
  for (let day = fromDay; day < toDay; day = addMonths(day, 1)) n++
  return n
}

/** The same date a year before; the 28th of February for the 29th. */
export function yearBeforeDay(day: number): number {
  return addMonths(day, -12)
}

function yearBefore(s: number, zone: Zone): number {
  const day = zone.dayOf(s)
  return zone.dayStart(yearBeforeDay(day)) + s - zone.dayStart(day)
}

/** True where the windows together cover all of the range. */
export function isCovered(windows: readonly TimeWindow[], range: Range): boolean {
  let reachedS = range.fromS
  for (const w of [...windows].sort((a, b) => a.fromS - b.fromS)) {
    if (w.fromS > reachedS) break
    reachedS = Math.max(reachedS, w.toS)
  }
  return reachedS >= range.toS
}
