/** The parts of answers that the sample tests look at. */

export interface LoadReceipt {
  received: number
  stored: number
  duplicate: number
  corrected: number
  outranked: number
  quarantined: number
  rejected: number
  problems: { code: string }[]
}

export interface PeriodUsage {
  total: { delivered: number }
  series: { periods: { start: string; value: number | null; missing: number }[] }[]
}

export interface IntervalUsage {
  total: { delivered: number }
  missing: number
  series: { values: (number | null)[] }[]
}
