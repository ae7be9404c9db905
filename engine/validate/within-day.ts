import { median, standardDeviation } from 'simple-statistics'
import type { Baseline } from './baseline.js'
import { perHour, slotsFrom, wasOut, type Circumstances, type DayView } from './day.js'
import type { DynamicRule, RuleSet, Severity } from './rule-set.js'

/**
 * Rules on the day's own slots (vee.md b1). Each is given the day, the baseline where there is one, the circumstances
 * and its parameters, and says what it found and by which figures, or null.
 */

export interface Found {
  slots: readonly number[]
  inputs: Record<string, number>
  /** Over the rule's own severity. */
  severity?: Severity
}

type Parameters<K extends keyof RuleSet['rules']> = RuleSet['rules'][K]

/** GAP: intervals that lack on a day whose reads are due. */
export function gap(day: DayView, _: Baseline | null, c: Circumstances, p: Parameters<'gap'>): Found | null {
  const missing = day.slots - day.present
  if (!c.isDue || missing < Math.max(1, p.minMissing)) return null
  const slots = slotsFrom(0, day.slots).filter((i) => day.present === 0 || Number.isNaN(day.values[i]))
  return { slots, inputs: { missing, expected: day.slots } }
}

/** SUM: intervals between two register reads against their difference. */
export function sumCheck(day: DayView, _: Baseline | null, c: Circumstances, p: Parameters<'sum-check'>): Found | null {
  if (c.register === null) return null
  const { difference, from, to } = c.register
  let sum = 0
  for (let i = from; i < to; i++) {
    if (Number.isNaN(day.values[i])) return null
    sum += day.values[i]
  }
  const tolerance = Math.max(p.multiplierTimes * c.multiplier, p.share * Math.abs(difference))
  if (Math.abs(sum - difference) <= tolerance + 1e-9) return null
  return { slots: slotsFrom(from, to), inputs: { sum: round(sum), registerDifference: round(difference), tolerance: round(tolerance) } }
}

/** SPIKE, as Oracle's Interval Spike Check: (highest - third highest) / third highest. */
export function spike(day: DayView, b: Baseline | null, _: Circumstances, p: Parameters<'spike'>): Found | null {
  const [highest, , third] = day.top
  if (!(third >= 0) || highest * perHour(day) < p.minKw) return null
  if (b !== null && highest <= b.usualPeak * p.usualPeakTimes) return null
  const ratio = third === 0 ? Infinity : (highest - third) / third
  if (!(ratio > p.ratio)) return null
  return { slots: [day.peakSlot], inputs: { highest: round(highest), thirdHighest: round(third), ratio: Math.min(round(ratio), 1e9), usualPeak: round(b?.usualPeak ?? 0) } }
}

/** DEM-TOL: the greatest change against the valid interval before. */
export function demandTolerance(day: DayView, _: Baseline | null, __: Circumstances, p: Parameters<'demand-tolerance'>): Found | null {
  const slots: number[] = []
  let worst = 0
  let before = NaN
  for (let i = 0; i < day.slots; i++) {
    const v = day.values[i]
    if (Number.isNaN(v)) continue
    const change = Math.abs(v - before) / Math.abs(before)
    if (change > p.share && Math.max(v, before) * perHour(day) >= p.minKw) {
      slots.push(i)
      worst = Math.max(worst, Math.min(change, 1e9))
    } else before = v
    if (Number.isNaN(before)) before = v
  }
  return slots.length === 0 ? null : { slots, inputs: { greatestChange: round(worst) } }
}

/** HI/LO physical: more power than the service can carry. */
export function highPhysical(day: DayView, _: Baseline | null, c: Circumstances, p: Parameters<'high-physical'>): Found | null {
  const serviceKw = c.serviceKw ?? p.fallbackKw
  if (serviceKw <= 0) return null
  const limitKw = serviceKw * p.serviceTimes
  const limit = limitKw / perHour(day)
  if (!(day.top[0] > limit)) return null
  const slots = slotsFrom(0, day.slots).filter((i) => day.values[i] > limit)
  return { slots, inputs: { peakKw: round(day.top[0] * perHour(day)), limitKw: round(limitKw) } }
}

/** ZERO: nothing but zeros on an active meter with power. Rests on the days before, too. */
export function zero(day: DayView, b: Baseline | null, c: Circumstances, p: Parameters<'zero'>): Found | null {
  if (c.isNet || !c.isActive || day.present < day.slots || day.zeros < day.present) return null
  if (wasOut(c, 0, day.slots) || (b !== null && b.zeroDays > b.days * p.usualZeroDays)) return null
  const hours = 24 * (1 + c.zeroDaysBefore)
  if (hours < p.hours) return null
  return { slots: [], inputs: { hoursOfZero: hours }, severity: hours >= p.exceptionHours ? 'exception' : 'warning' }
}

/** CONSEC: one value other than zero again and again. */
export function stuck(day: DayView, b: Baseline | null, _: Circumstances, p: Parameters<'stuck'>): Found | null {
  const { slot, count } = day.run
  if (count < p.count || (b !== null && count <= b.longestRun * p.usualRunTimes)) return null
  return { slots: slotsFrom(slot, slot + count), inputs: { count, value: round(day.values[slot]), usualRun: b?.longestRun ?? 0 } }
}

/** INACT: energy on a disconnected or removed meter. */
export function inactive(day: DayView, _: Baseline | null, c: Circumstances, p: Parameters<'inactive'>): Found | null {
  if (c.isActive || !(day.total > p.minKwh)) return null
  return { slots: [], inputs: { total: round(day.total) } }
}

/** PROLONG: nothing but estimates for days. */
export function prolonged(day: DayView, _: Baseline | null, c: Circumstances, p: Parameters<'prolonged'>): Found | null {
  if (day.present === 0 || day.estimated < day.present || c.estimatedDaysBefore + 1 < p.days) return null
  return { slots: [], inputs: { days: c.estimatedDaysBefore + 1 } }
}

/** SENTINEL: a constant that stands for "bad". */
export function sentinel(day: DayView, _: Baseline | null, __: Circumstances, p: Parameters<'sentinel'>): Found | null {
  if (!p.values.some((v) => v <= day.top[0] + 1e-9)) return null
  const slots: number[] = []
  for (let i = 0; i < day.slots; i++) if (p.values.some((v) => Math.abs(day.values[i] - v) < 1e-9)) slots.push(i)
  return slots.length === 0 ? null : { slots, inputs: { count: slots.length, value: round(day.values[slots[0]]) } }
}

/** DYN: a utility's own rule over a figure of the day. */
export function dynamic(day: DayView, rule: DynamicRule): Found | null {
  const value = statisticOf(day, rule.statistic)
  if (Number.isNaN(value)) return null
  const isOver = rule.above !== null && value > rule.above
  if (!isOver && !(rule.below !== null && value < rule.below)) return null
  return { slots: [], inputs: { [rule.statistic]: round(value) } }
}

function statisticOf(day: DayView, statistic: DynamicRule['statistic']): number {
  const values = (): number[] => Array.from(day.values.subarray(0, day.slots)).filter((v) => !Number.isNaN(v))
  if (statistic === 'missing') return day.slots - day.present
  if (day.present === 0) return NaN
  switch (statistic) {
    case 'sum': return day.total
    case 'max': return day.top[0]
    case 'min': return Math.min(...values())
    case 'mean': return day.total / day.present
    case 'median': return median(values())
    case 'zeros': return day.zeros
    case 'estimated': return day.estimated
    case 'deviation': return standardDeviation(values())
  }
}

/** Figures for people: six significant decimals. */
export function round(v: number): number {
  return Math.round(v * 1e6) / 1e6
}
