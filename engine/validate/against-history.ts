import type { Baseline } from './baseline.js'
import { perHour, slotsFrom, wasOut, type Circumstances, type DayView } from './day.js'
import type { RuleSet } from './rule-set.js'
import { round, type Found } from './within-day.js'

/** Rules that hold a day against what the channel is used to (vee.md b1, b3). Without a baseline they are silent. */

type Parameters<K extends keyof RuleSet['rules']> = RuleSet['rules'][K]

/** HI/LO history, above: the day's energy is far more than usual. Part days are not judged. */
export function highUsage(day: DayView, b: Baseline | null, c: Circumstances, p: Parameters<'high-usage'>): Found | null {
  if (b === null || c.isNet || !(day.total > b.medianTotal * p.medianTimes)) return null
  const excess = day.total - b.medianTotal
  if (excess < p.minKwh || excess < p.madTimes * b.madTotal) return null
  return { slots: [], inputs: { total: round(day.total), medianTotal: round(b.medianTotal), madTotal: round(b.madTotal) } }
}

/** HI/LO history, below. A day that is not whole says nothing, nor does one of nothing but zeros: that is the zero rule's. */
export function lowUsage(day: DayView, b: Baseline | null, c: Circumstances, p: Parameters<'low-usage'>): Found | null {
  if (b === null || c.isNet || day.present < day.slots || day.zeros === day.present || wasOut(c, 0, day.slots)) return null
  if (!(day.total < b.medianTotal * p.medianTimes)) return null
  const lack = b.medianTotal - day.total
  if (lack < p.minKwh || lack < p.madTimes * b.madTotal) return null
  return { slots: [], inputs: { total: round(day.total), medianTotal: round(b.medianTotal), madTotal: round(b.madTotal) } }
}

/** MAXHIST: the day's peak against the usual one. */
export function maxHistory(day: DayView, b: Baseline | null, _: Circumstances, p: Parameters<'max-history'>): Found | null {
  if (b === null || !(day.top[0] > b.usualPeak * p.peakTimes) || day.top[0] * perHour(day) < p.minKw) return null
  return { slots: [day.peakSlot], inputs: { peak: round(day.top[0]), usualPeak: round(b.usualPeak) } }
}

/** STALE-SNAPSHOT: an interval of zero and then about what both would have used (amsreader-firmware issue 1119). */
export function staleSnapshot(day: DayView, b: Baseline | null, c: Circumstances, p: Parameters<'stale-snapshot'>): Found | null {
  if (b === null || b.zeroShare > p.usualZeroShare || day.zeros === 0) return null
  const { values } = day
  const slots: number[] = []
  let worst = 0
  for (let i = 1; i + 2 < day.slots; i++) {
    if (values[i] !== 0 || !(values[i - 1] > 0) || !(values[i + 1] > 0) || !(values[i + 2] > 0) || wasOut(c, i, i + 1)) continue
    const usual = (values[i - 1] + values[i + 2]) / 2
    const ratio = values[i + 1] / (2 * usual)
    if (Math.abs(ratio - 1) > p.tolerance) continue
    slots.push(i, i + 1)
    worst = ratio
  }
  return slots.length === 0 ? null : { slots, inputs: { ratioToTwoIntervals: round(worst), zeroShare: round(b.zeroShare) } }
}

/** PLACEHOLDER-ZERO: zeros for what a portal or head-end has not been given yet (haggle v0.2.1, core#167371). */
export function placeholderZero(day: DayView, b: Baseline | null, c: Circumstances, p: Parameters<'placeholder-zero'>): Found | null {
  const count = day.trailingZeros
  if (b === null || c.isNet || count < p.minHours * perHour(day) || day.zeros === day.present || b.zeroShare > p.usualZeroShare) return null
  const from = day.lastPresent + 1 - count
  if (wasOut(c, from, day.lastPresent + 1)) return null
  return { slots: slotsFrom(from, day.lastPresent + 1), inputs: { count, zeroShare: round(b.zeroShare) } }
}

/** SCALE-DRIFT: the wrong unit, interval length or multiplier: the day's energy and its middle interval are off by one factor. */
export function scaleDrift(day: DayView, b: Baseline | null, c: Circumstances, p: Parameters<'scale-drift'>): Found | null {
  if (b === null || c.isNet || day.present < day.slots / 2 || b.medianTotal <= 0 || b.medianSlot <= 0) return null
  const ratio = day.total / day.present * day.slots / b.medianTotal
  if (ratio > 0.5 && ratio < 2) return null
  const factors = c.multiplier === 1 ? p.factors : [...p.factors, c.multiplier, 1 / c.multiplier]
  const sorted = day.values.slice(0, day.slots).filter((v) => !Number.isNaN(v)).sort()
  const slotRatio = sorted[sorted.length >> 1] / b.medianSlot
  for (const factor of factors) {
    // Between a thousand and one there is no doubt; near to one both figures have to agree well.
    const tolerance = factor >= 100 || factor <= 0.01 ? 1 : p.tolerance
    if (Math.abs(Math.log(ratio / factor)) > Math.log(1 + tolerance) || !(Math.abs(Math.log(slotRatio / factor)) <= Math.log(1 + tolerance))) continue
    return { slots: [], inputs: { ratio: round(ratio), middleIntervalRatio: round(slotRatio), factor, medianTotal: round(b.medianTotal) } }
  }
  return null
}

/** CATCH-UP LUMP: intervals lack (or are zero), and the next one has the energy of all of them. */
export function catchUpLump(day: DayView, b: Baseline | null, c: Circumstances, p: Parameters<'catch-up-lump'>): Found | null {
  if (b === null || b.medianTotal <= 0 || (day.present === day.slots && day.zeros === 0)) return null
  const { values } = day
  const usual = b.medianTotal / day.slots
  let lacking = 0
  for (let i = 0; i < day.slots; i++) {
    const v = values[i]
    if (Number.isNaN(v) || (v === 0 && b.zeroShare < 0.01)) {
      lacking++
      continue
    }
    if (lacking >= p.minIntervals && v >= p.share * (lacking + 1) * usual && v > b.usualPeak * p.usualPeakTimes && !wasOut(c, i - lacking, i)) {
      return { slots: slotsFrom(i - lacking, i + 1), inputs: { value: round(v), intervals: lacking, usualInterval: round(usual), usualPeak: round(b.usualPeak) } }
    }
    lacking = 0
  }
  return null
}
