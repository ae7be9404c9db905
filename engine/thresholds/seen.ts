import { MISSING, type FlowCode } from '../read-batch.js'
import type { Block } from '../settle.js'
import { periodOf, type BillingCycle, type DaySpan } from '../time/billing.js'
import { DAY_S } from '../time/civil.js'
import type { Zone } from '../time/zone.js'
import type { Watch } from './watch.js'

/**
 * What a commit knows of a day block that it wrote, as upper bounds of what the day can count for its account: parts of
 * a day, or of its hours, can only be less, because energy delivered or received is never negative.
 */
export interface Seen {
  readonly channelId: number
  readonly flow: FlowCode
  /** True: another channel of the meter has the same flow. */
  readonly isShared: boolean
  readonly kwh: number
  /** By how much the commit raised the day's energy; 0 where it lowered it. */
  readonly addedKwh: number
  /** Of any hour; 0 where the reads are longer than an hour. */
  readonly hourKwh: number
  readonly kw: number
}

const HOUR_S = 3600

/**
 * The bounds of a block.
 * @param before as it stood before the commit; null where none did
 * @param ofHours false: no threshold is about an hour, and `hourKwh` is left at 0
 */
export function seenOf(block: Block, before: Block | null, flow: FlowCode, isShared: boolean, zone: Zone, ofHours: boolean): Seen {
  const unit = 10 ** block.exponent
  const kwh = block.total * unit
  const intervalS = block.intervalS === DAY_S ? zone.dayStart(block.day + 1) - zone.dayStart(block.day) : block.intervalS
  return {
    channelId: block.channelId, flow, isShared, kwh,
    addedKwh: before === null ? kwh : Math.max(0, kwh - before.total * 10 ** before.exponent),
    hourKwh: !ofHours || block.intervalS > HOUR_S ? 0 : greatestHour(block) * unit,
    kw: block.present === 0 ? 0 : block.peak * unit * HOUR_S / intervalS,
  }
}

/** Greatest sum of as many slots in a row as begin in an hour. */
function greatestHour({ vals, intervalS }: Block): number {
  const slots = Math.ceil(HOUR_S / intervalS)
  let sum = 0
  let greatest = 0
  for (let i = 0; i < vals.length; i++) {
    if (vals[i] !== MISSING) sum += vals[i]
    if (i >= slots && vals[i - slots] !== MISSING) sum -= vals[i - slots]
    if (sum > greatest) greatest = sum
  }
  return greatest
}

/** Far below any decimal that a limit or a read may have. */
export const MARGIN = 1 - 1e-9

/** Whether a day may have passed a limit on a day, an hour or a demand; any other kind is not known to be kept. */
export function isPassed({ kind, limit }: Watch, { kwh, hourKwh, kw }: Pick<Seen, 'kwh' | 'hourKwh' | 'kw'>): boolean {
  const value = kind === 'day-usage' ? kwh : kind === 'hour-usage' ? hourKwh : kind === 'demand' ? kw : Infinity
  return value > limit * MARGIN
}

/** Billing periods by day and billing day: a fleet has few of them. */
export class Cycles {
  readonly #known = new Map<number, DaySpan>()

  periodOf(day: number, cycle: BillingCycle): DaySpan {
    if (cycle.periods.length > 0) return periodOf(day, cycle)
    const key = day * 32 + (cycle.billingDay ?? 0)
    let period = this.#known.get(key)
    if (period === undefined) this.#known.set(key, period = periodOf(day, cycle))
    return period
  }
}
