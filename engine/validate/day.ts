import { MISSING, QUALITY_MASK, Quality, type FlowCode } from '../read-batch.js'
import type { Block } from '../settle.js'
import type { Severity } from './rule-set.js'
import type { SiblingDay } from './siblings.js'

/** A channel's local day as rules see it: the block's slots in the quantity's unit (kWh for energy), and one pass over them. */
export interface DayView {
  /** Local day, days since 1970-01-01. */
  readonly day: number
  readonly intervalS: number
  /** Value per slot; NaN where there is none. Valid until the next view is made. */
  readonly values: Float64Array
  readonly slots: number
  readonly present: number
  readonly estimated: number
  readonly total: number
  /** Greatest, second and third greatest value; NaN where there are fewer. */
  readonly top: readonly [number, number, number]
  readonly peakSlot: number
  readonly zeros: number
  /** Zeros at the end of what is present: where they begin, and how many. */
  readonly trailingZeros: number
  readonly lastPresent: number
  /** Longest run of one value other than zero: its first slot and length. */
  readonly run: { readonly slot: number; readonly count: number }
}

/** What is known about a channel and day beside its slots. */
export interface Circumstances {
  /** What the service can carry, kW; null: not known. */
  readonly serviceKw: number | null
  readonly multiplier: number
  /** False: the meter is disconnected or removed. */
  readonly isActive: boolean
  readonly flow: FlowCode
  /** Net energy may be negative and zero at any time. */
  readonly isNet: boolean
  /** True once all of the day's reads should have come. */
  readonly isDue: boolean
  /** Slots without power, [from, to). */
  readonly outages: readonly (readonly [number, number])[]
  /** Days in a row before this one that hold nothing but zeros. */
  readonly zeroDaysBefore: number
  /** Days in a row before this one that hold nothing but estimates. */
  readonly estimatedDaysBefore: number
  /** Registers read at two ends of slots of the day: their difference, and between which slots, [from, to). */
  readonly register: { readonly difference: number; readonly from: number; readonly to: number } | null
  /** Flows that the registry names for the meter; none where it names none. */
  readonly registeredFlows: readonly FlowCode[]
  /** The day of the meter's other energy channels, where they have one. */
  readonly siblings: readonly SiblingDay[]
  /** False where the first interval begins after the local day does: its energy is not just the day's. */
  readonly beginsWithDay: boolean
  /** Energy of the hours of the days before, the nearest first, null where a day has no 24 hours; none where they were not looked at. */
  readonly hoursBefore: readonly (Float64Array | null)[]
}

/** What a rule found. */
export interface Finding {
  /** Id of the rule; `dynamic:<name>` for a utility's own. */
  readonly rule: string
  readonly severity: Severity
  /** The slots meant; empty: the day as a whole. */
  readonly slots: readonly number[]
  /** The figures that were held against the parameters. */
  readonly inputs: Readonly<Record<string, number>>
  readonly parameters: Readonly<Record<string, unknown>>
}

let scratch = new Float64Array(100)

/** The view of a block; its values stand in memory that the next view takes. */
export function viewOf(block: Pick<Block, 'day' | 'intervalS' | 'exponent' | 'vals' | 'lane'>): DayView {
  const { vals, lane } = block
  const n = vals.length
  if (scratch.length < n) scratch = new Float64Array(n)
  const values = scratch
  const divisor = block.exponent < 0 ? 10 ** -block.exponent : 1
  const factor = block.exponent > 0 ? 10 ** block.exponent : 1
  let total = 0
  let present = 0
  let estimated = 0
  let a = NaN
  let b = NaN
  let c = NaN
  let peakSlot = -1
  let zeros = 0
  let trailing = 0
  let lastPresent = -1
  let runFrom = 0
  let runCount = 0
  let bestFrom = 0
  let bestCount = 0
  let before = MISSING
  for (let i = 0; i < n; i++) {
    const m = vals[i]
    if (m === MISSING) {
      values[i] = NaN
      before = MISSING
      continue
    }
    const v = m * factor / divisor
    values[i] = v
    present++
    total += m
    lastPresent = i
    if (lane !== null && (lane[i] & QUALITY_MASK) === Quality.estimated) estimated++
    if (!(v <= a)) {
      c = b
      b = a
      a = v
      peakSlot = i
    } else if (!(v <= b)) {
      c = b
      b = v
    } else if (!(v <= c)) c = v
    if (m === 0) {
      zeros++
      trailing++
      before = MISSING
      continue
    }
    trailing = 0
    if (m === before) runCount++
    else {
      runFrom = i
      runCount = 1
      before = m
    }
    if (runCount > bestCount) {
      bestFrom = runFrom
      bestCount = runCount
    }
  }
  return {
    day: block.day, intervalS: block.intervalS, values, slots: n, present, estimated, total: total * factor / divisor, top: [a, b, c],
    peakSlot, zeros, trailingZeros: trailing, lastPresent, run: { slot: bestFrom, count: bestCount },
  }
}

/** Intervals of an hour; below 1 for longer ones. */
export function perHour(day: Pick<DayView, 'intervalS'>): number {
  return 3600 / day.intervalS
}

/** Slots from one to another, exclusive. */
export function slotsFrom(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i)
}

/** Whether any of the slots had no power. */
export function wasOut(c: Circumstances, from: number, to: number): boolean {
  return c.outages.some(([a, b]) => a < to && b > from)
}
