import { median, medianAbsoluteDeviation } from 'simple-statistics'

/** Fewer days than this say nothing about what is usual. */
export const LEAST_DAYS = 4
/** Weeks that a day is compared with. */
export const WEEKS = 8
const PERCENT = 30
const MADS = 3

/** What a day was compared with: told with the alert. */
export interface UnusualDetail {
  /** Day numbers of the same weekday that were complete, oldest first. */
  readonly days: readonly number[]
  /** kWh. */
  readonly median: number
  readonly mad: number
  readonly percentAbove: number | null
}

/**
 * The level above which a day's energy is unusual: at least so many percent above the median of the same weekdays before
 * it, and at least so many median absolute deviations. null with fewer than {@link LEAST_DAYS} days to compare with.
 * @param before day numbers and kWh
 */
export function unusualLevel(
  before: readonly { day: number; kwh: number }[], params: { percent?: number; mads?: number },
): { level: number; median: number; mad: number } | null {
  if (before.length < LEAST_DAYS) return null
  const values = before.map((b) => b.kwh)
  const middle = median(values)
  const mad = medianAbsoluteDeviation(values)
  const level = Math.max(middle * (1 + (params.percent ?? PERCENT) / 100), middle + (params.mads ?? MADS) * mad)
  // Watt-hours: what is stored and told.
  return { level: Math.round(level * 1000) / 1000, median: middle, mad }
}
