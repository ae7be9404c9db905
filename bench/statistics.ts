/** Figures of repeated measurements. */

export interface Spread {
  median: number
  min: number
  max: number
  samples: number[]
}

export function spreadOf(samples: readonly number[]): Spread {
  if (samples.length === 0) throw new RangeError('no samples')
  const sorted = samples.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const median = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  return { median, min: sorted[0], max: sorted[sorted.length - 1], samples: [...samples] }
}

/** Nearest-rank percentile, p from 0 to 100. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(sorted.length * p / 100) - 1))]
}

/** 4200000 → `4.20 M`, 1234 → `1.23 k`, 12.3 → `12.3`. */
export function figure(n: number): string {
  if (Math.abs(n) >= 1e6) return `${(n / 1e6).toPrecision(3)} M`
  if (Math.abs(n) >= 1e4) return `${(n / 1e3).toPrecision(3)} k`
  return n >= 100 ? n.toFixed(0) : Number(n.toPrecision(3)).toString()
}

export function spreadText(s: Spread): string {
  return `${figure(s.median)} (${figure(s.min)} - ${figure(s.max)})`
}
