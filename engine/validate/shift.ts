import type { Baseline } from './baseline.js'
import type { Circumstances, DayView } from './day.js'
import type { RuleSet } from './rule-set.js'
import { round, type Found } from './within-day.js'

/**
 * SHIFT-1H (vee.md b3): reads an hour too early or too late, as after a clock change that a head-end or meter missed.
 * One day of a household says too little, and a shift lasts: the day and the four before it are held together against
 * the channel's hourly profile, as it is and an hour off. What a day says for the shift is the gain in log-likelihood of
 * the shifted profile's fit (logarithms of the hours' energy, so that one appliance does not outweigh the rest).
 */

type Parameters = RuleSet['rules']['shift-hour']

/** Days that are held against the profile: the day judged, and those before it that its judgement rests on. */
export const SHIFT_DAYS = 5
/** Of these so many have to be whole and of 24 hours. */
const LEAST_DAYS = 3
const FITTED = 22

/** What a day says for being an hour late, and an hour early; above 0 where that fits better than as it is. */
export type ShiftGains = readonly [late: number, early: number]

/** Energy of each hour of a day, in whatever unit; null where the day is not whole, has not 24 hours, or no energy. */
export function hoursOf(values: ArrayLike<number>, slots: number, present: number, intervalS: number): Float64Array | null {
  const per = 3600 / intervalS
  if (!Number.isInteger(per) || slots !== 24 * per || present < slots) return null
  const hours = new Float64Array(24)
  let total = 0
  for (let h = 0, i = 0; h < 24; h++) {
    for (const end = i + per; i < end; i++) hours[h] += values[i]
    total += hours[h]
  }
  return total > 0 ? hours : null
}

const ownLogs = new Float64Array(24)
const usualLogs = new Float64Array(24)
let usualOf: readonly number[] = []

/** What the hours say; null where there is no profile to hold them against. */
export function shiftGains(hours: Float64Array, profile: readonly number[]): ShiftGains | null {
  if (profile.length !== 24 || !takeLogarithms(hours, ownLogs)) return null
  // Days of one channel come one after the other, mostly.
  if (usualOf !== profile) {
    usualOf = []
    if (!takeLogarithms(profile, usualLogs)) return null
    usualOf = profile
  }
  const asIs = misfit(0)
  return [FITTED / 2 * Math.log(asIs / misfit(1)), FITTED / 2 * Math.log(asIs / misfit(-1))]
}

/** Whether a day may be found shifted once those before it are looked at. */
export function mayBeShifted(gains: ShiftGains, p: Parameters): boolean {
  return Math.max(...gains) >= p.dayGain
}

/** SHIFT-1H: an hour too early or too late. Delivered energy alone: the sun, and what a meter with panels takes, keep no clock change. */
export function shiftHour(day: DayView, b: Baseline | null, c: Circumstances, p: Parameters): Found | null {
  if (b === null || c.hoursBefore.length === 0) return null
  const own = hoursOf(day.values, day.slots, day.present, day.intervalS)
  if (own === null) return null
  const all = [own, ...c.hoursBefore].map((hours) => hours === null ? null : shiftGains(hours, b.profile)).filter((g) => g !== null)
  if (all.length < LEAST_DAYS) return null
  for (const [k, hours] of [1, -1].entries()) {
    const gains = all.map((g) => g[k])
    const gain = gains.reduce((sum, g) => sum + g, 0)
    if (gains[0] < p.dayGain || gain < p.gain || Math.min(...gains) < -p.mostLoss) continue
    return { slots: [], inputs: { hours, gain: round(gain), dayGain: round(gains[0]), leastDayGain: round(Math.min(...gains)), days: all.length } }
  }
  return null
}

/** Logarithms that leave small hours alone: half the mean is added to each. False where there is no energy. */
function takeLogarithms(hours: ArrayLike<number>, into: Float64Array): boolean {
  let total = 0
  for (let h = 0; h < 24; h++) total += hours[h]
  if (!(total > 0)) return false
  for (let h = 0; h < 24; h++) into[h] = Math.log(Math.max(0, hours[h]) + total / 48)
  return true
}

/** Sum of squares that a line on the profile, moved by a lag, leaves of the day's inner hours. Never 0. */
function misfit(lag: number): number {
  let x = 0
  let p = 0
  let xx = 0
  let pp = 0
  let xp = 0
  for (let h = 1; h <= FITTED; h++) {
    const a = ownLogs[h]
    const b = usualLogs[h - lag]
    x += a
    p += b
    xx += a * a
    pp += b * b
    xp += a * b
  }
  const varianceX = xx - x * x / FITTED
  const varianceP = pp - p * p / FITTED
  const covariance = xp - x * p / FITTED
  const explained = covariance > 0 && varianceP > 1e-12 ? covariance * covariance / varianceP : 0
  return Math.max(0, varianceX - explained) + 1e-9
}
