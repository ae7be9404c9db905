import type { Zone } from '../time/zone.js'
import { parseExact, type Exact } from './exact.js'
import { LOOK_BACK_DAYS } from '../usage/projection.js'
import { periodsOf, windowOf, type Period, type ThresholdKind } from './kinds.js'
import type { AlertRow } from './alert-rows.js'
import type { ThresholdRow } from './store.js'
import { WEEKS } from './unusual.js'

/** One period of one threshold version to be judged. */
export interface Case {
  readonly threshold: ThresholdRow
  readonly version: number
  /** null for kinds without one. */
  readonly limit: Exact | null
  readonly period: Period
  readonly row: AlertRow | undefined
  /** `quiet`: may raise nothing. `void`: the period is none any more, so that nothing can stand on it. */
  readonly mode: 'loud' | 'quiet' | 'void'
}

export interface CaseInput {
  /** The threshold's periods to be judged. */
  readonly periods: readonly Period[]
  readonly alerts: readonly AlertRow[]
  /** Days that an alert's period must touch to be judged; null: all alerts are. */
  readonly days: readonly number[] | null
  readonly mode: 'loud' | 'quiet'
  readonly zone: Zone
  readonly nowS: number
}

/** The threshold's periods that contain the days (ascending), in order. */
export function periodsTouched(threshold: ThresholdRow, days: readonly number[], zone: Zone): Period[] {
  const window = windowOf(threshold.kind, threshold.params)
  const periods: Period[] = []
  for (const day of days) {
    const last = periods.at(-1)
    if (last !== undefined && day < last.endDay) continue
    periods.push(...periodsOf(window, day, threshold.cycle, zone))
  }
  return periods
}

/** The days whose judgement depends on the reads of the days (ascending): later ones are compared with them. */
export function daysReached(kind: ThresholdKind, days: readonly number[], today: number): readonly number[] {
  const weeks = kind === 'unusual' ? WEEKS : kind === 'projected-usage' || kind === 'projected-cost' ? LOOK_BACK_DAYS / 7 : 0
  if (weeks === 0) return days
  const reached = new Set(days)
  for (const day of days) for (let n = 1; n <= weeks && day + 7 * n <= today; n++) reached.add(day + 7 * n)
  return [...reached].sort((a, b) => a - b)
}

/** The periods of a threshold as cases, and the alerts of earlier versions and of periods that are none any more. */
export function casesOf(threshold: ThresholdRow, input: CaseInput): Case[] {
  const { periods, alerts, days, mode, zone } = input
  const rows = new Map(alerts.map((a) => [`${a.version} ${a.start_s}`, a]))
  const cases: Case[] = []
  const judged = new Set<AlertRow>()
  for (const period of periods) {
    // A version judges periods that end after it was made.
    if (period.endS <= threshold.versionFromS) continue
    const row = rows.get(`${threshold.version} ${period.startS}`)
    if (row !== undefined) judged.add(row)
    cases.push({ threshold, version: threshold.version, limit: threshold.limit, period, row, mode })
  }
  for (const row of alerts) {
    if (judged.has(row)) continue
    const period: Period = {
      startDay: zone.dayOf(row.start_s), endDay: zone.dayOf(row.end_s - 1) + 1, startS: row.start_s, endS: row.end_s }
    if (days !== null && !days.some((d) => d >= period.startDay && d < period.endDay)) continue
    cases.push({
      threshold, version: row.version, limit: limitOfOld(threshold, row), period, row,
      mode: modeOfOld(threshold, row, period, input),
    })
  }
  return cases
}

/** The limit that an alert was raised by; what is unusual is computed anew unless the version was told otherwise. */
function limitOfOld(threshold: ThresholdRow, row: AlertRow): Exact | null {
  if (threshold.limit !== null) return parseExact(row.limit_value)
  return threshold.kind === 'unusual' && row.version !== threshold.version ? parseExact(row.limit_value) : null
}

/** How an alert is judged that is not at the present version, or not at a period of the present billing cycle. */
function modeOfOld(threshold: ThresholdRow, row: AlertRow, period: Period, { mode, nowS, zone }: CaseInput): Case['mode'] {
  if (row.version !== threshold.version) return 'quiet'
  const current = periodsOf(windowOf(threshold.kind, threshold.params), period.startDay, threshold.cycle, zone)
  if (current.some((p) => p.startS === period.startS && p.endS === period.endS)) return mode
  // A past period was billed as it was told; one that still runs follows the new cycle.
  return row.end_s > nowS ? 'void' : 'quiet'
}
