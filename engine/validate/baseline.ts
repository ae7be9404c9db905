import { median, medianAbsoluteDeviation, quickselect } from 'simple-statistics'
import { MISSING, QUALITY_MASK, Quality } from '../read-batch.js'

/**
 * What a channel is used to: a few figures of the days before, which rules hold a new day against.
 *
 * All days of one fortnight are held against the same baseline, of the 28 days before the fortnight: it is made once and
 * not with every push, and it is a function of the stored days alone, so that no order of arrival shows in it (C2).
 */
export interface Baseline {
  /** Days that the figures rest on: those of the window that are nearly whole and not estimated. */
  readonly days: number
  readonly medianTotal: number
  /** Median absolute deviation of the days' totals. */
  readonly madTotal: number
  /** Second greatest of the days' peaks, per interval: one bad day does not make it. */
  readonly usualPeak: number
  /** Days of nothing but zeros. */
  readonly zeroDays: number
  /** Share of zeros among the intervals. */
  readonly zeroShare: number
  /** Longest run of one value other than zero. */
  readonly longestRun: number
  /** Median interval. */
  readonly medianSlot: number
  /** Energy of each local hour of a day, 24 figures: the median of the days. */
  readonly profile: readonly number[]
}

/** A stored day as the baseline needs it. */
export interface HistoryDay {
  day: number
  exponent: number
  total: number
  peak: number
  present: number
  estimated: number
  /** Slots; null where only the aggregates were read. */
  vals: Int32Array | null
  lane: Int16Array | null
  /** Slots that the day has. */
  slots: number
  intervalS: number
}

export const PERIOD_DAYS = 14
export const WINDOW_DAYS = 28
/** The last days of the window, whose slots are looked at too. */
export const SLOT_DAYS = 10
/** With fewer usable days there is no baseline, and rules that need one are silent. */
export const MIN_DAYS = 7
const MIN_PRESENT = 0.8

/** The period that a day belongs to. */
export function periodOf(day: number): number {
  return Math.floor(day / PERIOD_DAYS)
}

/** First day of a period. */
export function periodStart(period: number): number {
  return period * PERIOD_DAYS
}

/** First and last period whose baseline a day takes part in. */
export function periodsAfter(day: number): [number, number] {
  return [periodOf(day) + 1, periodOf(day + WINDOW_DAYS)]
}

/** The figures of a period's window; null where too few days are usable. Pure. @param days of the window, in any order */
export function summarise(period: number, days: readonly HistoryDay[]): Baseline | null {
  const start = periodStart(period)
  const usable = days.filter((d) => d.day >= start - WINDOW_DAYS && d.day < start && d.present >= d.slots * MIN_PRESENT && d.estimated * 2 < d.present)
    .sort((a, b) => a.day - b.day)
  if (usable.length < MIN_DAYS) return null
  const totals = usable.map((d) => d.total * 10 ** d.exponent)
  const peaks = usable.map((d) => d.peak * 10 ** d.exponent).sort((a, b) => b - a)
  const medianTotal = median(totals)
  return {
    days: usable.length, medianTotal, madTotal: medianAbsoluteDeviation(totals), usualPeak: peaks[1],
    zeroDays: usable.filter((d) => d.total === 0 && d.peak === 0).length,
    ...slotFigures(usable.filter((d) => d.day >= start - SLOT_DAYS && d.vals !== null)),
  }
}

function slotFigures(days: readonly HistoryDay[]): Pick<Baseline, 'zeroShare' | 'longestRun' | 'medianSlot' | 'profile'> {
  const values: number[] = []
  const hours: number[][] = Array.from({ length: 24 }, () => [])
  let zeros = 0
  let longestRun = 0
  for (const { vals, lane, exponent, intervalS } of days) {
    const scale = 10 ** exponent
    const perHour = Math.max(1, Math.round(3600 / intervalS))
    // On days of a clock change hours are not those of the clock: their slots count, their hours do not.
    const plain = vals!.length === 24 * perHour
    let sum = 0
    let run = 0
    for (let i = 0; i < vals!.length; i++) {
      const v = vals![i]
      if (v === MISSING || (lane !== null && (lane[i] & QUALITY_MASK) === Quality.estimated)) {
        sum = NaN
        run = 0
      } else {
        values.push(v * scale)
        if (v === 0) zeros++
        run = v !== 0 && i > 0 && v === vals![i - 1] ? run + 1 : v === 0 ? 0 : 1
        if (run > longestRun) longestRun = run
        sum += v * scale
      }
      if ((i + 1) % perHour === 0) {
        if (plain && !Number.isNaN(sum)) hours[(i + 1) / perHour - 1].push(sum)
        sum = 0
      }
    }
  }
  return {
    zeroShare: values.length === 0 ? 0 : zeros / values.length, longestRun,
    medianSlot: values.length === 0 ? 0 : middle(values),
    profile: hours.every((h) => h.length >= 3) ? hours.map((h) => median(h)) : [],
  }
}

/** The median of many numbers; reorders them. Selecting the middle takes a fraction of sorting them. */
function middle(values: number[]): number {
  const half = values.length >> 1
  quickselect(values, half)
  if (values.length % 2 === 1) return values[half]
  let below = values[0]
  for (let i = 1; i < half; i++) if (values[i] > below) below = values[i]
  return (below + values[half]) / 2
}

/** The baseline as a row of numbers, and back. */
export function figuresOf(b: Baseline): number[] {
  return [b.days, b.medianTotal, b.madTotal, b.usualPeak, b.zeroDays, b.zeroShare, b.longestRun, b.medianSlot, ...b.profile]
}

export function baselineOf(figures: readonly number[]): Baseline {
  const [days, medianTotal, madTotal, usualPeak, zeroDays, zeroShare, longestRun, medianSlot, ...profile] = figures
  return { days, medianTotal, madTotal, usualPeak, zeroDays, zeroShare, longestRun, medianSlot, profile }
}
