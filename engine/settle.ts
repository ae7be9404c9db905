import { MAX_MANTISSA, MISSING, QUALITY_MASK, Quality, rankOf } from './read-batch.js'
import { cutFloat64, cutInt32 } from './slab.js'

/**
 * Settlement: merging pieces of reads into day blocks. Pure; the database stands in commit.ts.
 *
 * What stands in a slot is the greatest (rank, version, value, lane) ever offered to it (design C4). A greatest element
 * does not depend on the order in which it is looked for, so arrival order, splits and repetitions cannot matter (C2).
 */

/** Exponent of a block whose values are all whole watt-hours: what nearly every meter sends. */
export const WH_EXPONENT = -3
const FINEST = -9
const COARSEST = 6

/** One channel's local day, as it stands in channel_day. */
export interface Block {
  channelId: number
  /** Local day, days since 1970-01-01. */
  day: number
  /** First grid point at or after local midnight, epoch seconds. */
  firstS: number
  intervalS: number
  /** value = mantissa x 10^exponent kWh */
  exponent: number
  /** One mantissa per slot of the day; MISSING where there is no read. */
  vals: Int32Array
  /** Quality, method and flags per slot; null while every read is a plain actual. */
  lane: Int16Array | null
  /** Version of all present slots, microseconds; where they differ the greatest, and `versions` has each (0 where missing). */
  version: number
  versions: Float64Array | null
  present: number
  estimated: number
  /** Sum of the mantissas. */
  total: number
  peak: number
  peakSlot: number
  /** Who created the block, and when (microseconds since the epoch); later merges are in the revisions. */
  deliveryNo: number
  settledAtUs: number
  /** Last change of a value that already stood; 0 never. */
  restatedAtUs: number
}

/** Consecutive slots of one day offered to a block. */
export interface Offer {
  /** First slot offered. */
  slot: number
  count: number
  values: Int32Array
  /** Index of the first offered mantissa in `values`. */
  offset: number
  exponent: number
  /** Lane of every read, where `lanes` is null. */
  lane: number
  /** Lanes beside `values`, same index. */
  lanes: Int16Array | null
  /** Microseconds since the epoch, greater than 0. */
  version: number
}

/** What a merge came to, in reads (contract §4). */
export interface MergeCounts {
  stored: number
  duplicate: number
  corrected: number
  outranked: number
  /** Reads that no exponent of the block can hold beside its other values: not merged. */
  unfit: number
}

/** What stood in (or was offered in vain to) some slots of a block: enough to undo the merge, or to tell what lost. */
export interface SlotRecord {
  slots: number[]
  exponent: number
  vals: number[]
  lanes: number[]
  versions: number[]
}

export interface MergeResult extends MergeCounts {
  /** Slots whose value, lane or version changed, as they were before; null when nothing changed. */
  before: SlotRecord | null
  /** Reads of another value that did not win, as they were offered. */
  lost: SlotRecord | null
  /** Slots of the offer that were refused as unfit. */
  unfitSlots: number[]
  /** True when a value that already stood was replaced. */
  restated: boolean
}

/** An empty block, for the day's slots: all missing. */
export function emptyBlock(
  channelId: number, day: number, firstS: number, intervalS: number, slots: number, deliveryNo: number, atUs: number,
): Block {
  return {
    channelId, day, firstS, intervalS, exponent: WH_EXPONENT, vals: cutInt32(slots).fill(MISSING), lane: null,
    version: 0, versions: null, present: 0, estimated: 0, total: 0, peak: 0, peakSlot: -1,
    deliveryNo, settledAtUs: atUs, restatedAtUs: 0,
  }
}

/** A copy that later merges do not touch. */
export function cloneBlock(block: Block): Block {
  return {
    ...block,
    vals: copied(cutInt32(block.vals.length), block.vals),
    lane: block.lane === null ? null : block.lane.slice(),
    versions: block.versions === null ? null : copied(cutFloat64(block.versions.length), block.versions),
  }
}

/** Count, total and peak of a block of reads that are not estimated, anew from its slots. */
export function sumUp(block: Block): void {
  const { vals } = block
  let total = 0
  let present = 0
  let peak = MISSING
  let peakSlot = -1
  for (let i = 0; i < vals.length; i++) {
    const v = vals[i]
    if (v === MISSING) continue
    present++
    total += v
    if (v > peak) {
      peak = v
      peakSlot = i
    }
  }
  block.present = present
  block.total = total
  block.peak = present === 0 ? 0 : peak
  block.peakSlot = peakSlot
}

function copied<T extends Int32Array | Float64Array>(to: T, from: T): T {
  to.set(from)
  return to
}

/** Merges the offer into the block in place and brings its aggregates up to date. */
export function merge(block: Block, offer: Offer): MergeResult {
  const result: MergeResult = {
    stored: 0, duplicate: 0, corrected: 0, outranked: 0, unfit: 0,
    before: null, lost: null, unfitSlots: [], restated: false,
  }
  const common = Math.min(block.exponent, offer.exponent)
  const blockScale = 10 ** (block.exponent - common)
  const offerScale = 10 ** (offer.exponent - common)
  const work = new Float64Array(block.vals.length)
  for (let i = 0; i < work.length; i++) work[i] = block.vals[i] === MISSING ? NaN : block.vals[i] * blockScale
  // At one exponent everything fits; else what is offered must fit beside what would stand.
  const range = blockScale === offerScale ? null : fitRange(block, work, offer, offerScale)
  let changed = false

  for (let i = 0; i < offer.count; i++) {
    const raw = offer.values[offer.offset + i]
    if (raw === MISSING) continue
    const slot = offer.slot + i
    const value = raw * offerScale
    const lane = offer.lanes === null ? offer.lane : offer.lanes[offer.offset + i]
    const stood = work[slot]
    if (Number.isNaN(stood)) {
      if (range !== null && !range.admits(value)) {
        result.unfit++
        result.unfitSlots.push(slot)
        continue
      }
      result.stored++
    } else {
      const stoodLane = block.lane === null ? 0 : block.lane[slot]
      const stoodVersion = block.versions === null ? block.version : block.versions[slot]
      const wins = order(lane, offer.version, value, stoodLane, stoodVersion, stood) > 0
      if (wins && value !== stood && range !== null && !range.admits(value)) {
        result.unfit++
        result.unfitSlots.push(slot)
        continue
      }
      if (value === stood && rankOf(lane) <= rankOf(stoodLane)) result.duplicate++
      else if (wins) {
        result.corrected++
        result.restated ||= value !== stood
      } else {
        result.outranked++
        result.lost = record(result.lost, slot, offer.exponent, raw, lane, offer.version)
      }
      if (!wins) continue
    }
    result.before = record(result.before, slot, block.exponent, block.vals[slot],
      block.lane === null ? 0 : block.lane[slot], Number.isNaN(stood) ? 0 : block.versions === null ? block.version : block.versions[slot])
    work[slot] = value
    setSlot(block, slot, lane, offer.version)
    changed = true
  }
  if (changed) normalise(block, work, common)
  return result
}

/** The order of C4: rank, then version, then value; the lane last, so that equal reads of unlike flags settle alike too. */
function order(laneA: number, versionA: number, a: number, laneB: number, versionB: number, b: number): number {
  return rankOf(laneA) - rankOf(laneB) || versionA - versionB || a - b || laneA - laneB
}

function setSlot(block: Block, slot: number, lane: number, version: number): void {
  if (lane !== 0 || block.lane !== null) {
    block.lane ??= new Int16Array(block.vals.length)
    block.lane[slot] = lane
  }
  if (block.versions === null) {
    if (block.present === 0 && block.version === 0) block.version = version
    if (block.version === version) {
      // Marks the slot as present for the next setSlot of this merge; normalise() counts afresh.
      block.present++
      return
    }
    const versions = new Float64Array(block.vals.length)
    for (let i = 0; i < versions.length; i++) versions[i] = block.version
    block.versions = versions
  }
  block.versions[slot] = version
}

/**
 * Puts the slots back as a record says they were (a withdrawal, or telling a past state), then brings the aggregates up
 * to date. Slots of the record that were missing become missing again.
 */
export function restoreSlots(block: Block, was: SlotRecord): void {
  const common = Math.min(block.exponent, was.exponent)
  const blockScale = 10 ** (block.exponent - common)
  const wasScale = 10 ** (was.exponent - common)
  const work = new Float64Array(block.vals.length)
  for (let i = 0; i < work.length; i++) work[i] = block.vals[i] === MISSING ? NaN : block.vals[i] * blockScale
  block.versions ??= new Float64Array(block.vals.length).fill(block.version)
  block.lane ??= new Int16Array(block.vals.length)
  was.slots.forEach((slot, i) => {
    work[slot] = was.vals[i] === MISSING ? NaN : was.vals[i] * wasScale
    block.lane![slot] = was.lanes[i]
    block.versions![slot] = was.versions[i]
  })
  normalise(block, work, common)
}

/**
 * Writes the working values back in the block's canonical form, which depends on what stands and on nothing else:
 * exponent -3 where it fits, else the coarsest that loses nothing; lanes null where they say nothing; aggregates anew.
 */
function normalise(block: Block, work: Float64Array, exponent: number): void {
  let e = exponent
  let scale = 1
  while (e < WH_EXPONENT && divisible(work, scale * 10)) {
    scale *= 10
    e++
  }
  while (e < COARSEST && beyond(work, scale)) {
    scale *= 10
    e++
  }
  // Coarser than watt-hours but fitting them: watt-hours.
  while (e > WH_EXPONENT && !beyond(work, scale / 10)) {
    scale /= 10
    e--
  }
  const { vals } = block
  let total = 0
  let present = 0
  let estimated = 0
  let peak = MISSING
  let peakSlot = -1
  let laned = false
  let version = 0
  let mixed = false
  for (let i = 0; i < vals.length; i++) {
    if (Number.isNaN(work[i])) {
      vals[i] = MISSING
      if (block.lane !== null) block.lane[i] = 0
      if (block.versions !== null) block.versions[i] = 0
      continue
    }
    const v = Math.round(work[i] / scale)
    vals[i] = v
    present++
    total += v
    if (v > peak) {
      peak = v
      peakSlot = i
    }
    if (block.lane !== null && block.lane[i] !== 0) {
      laned = true
      if ((block.lane[i] & QUALITY_MASK) === Quality.estimated) estimated++
    }
    if (block.versions !== null) {
      if (version !== 0 && block.versions[i] !== version) mixed = true
      if (block.versions[i] > version) version = block.versions[i]
    }
  }
  block.exponent = e
  block.total = total
  block.present = present
  block.estimated = estimated
  block.peak = present === 0 ? 0 : peak
  block.peakSlot = peakSlot
  if (!laned) block.lane = null
  if (block.versions !== null) {
    block.version = version
    if (!mixed) block.versions = null
  }
}

/** What the values of the offer must fit beside; null where all that win fit together, as they nearly always do. */
function fitRange(block: Block, work: Float64Array, offer: Offer, offerScale: number): FitRange | null {
  const would = work.slice()
  for (let i = 0; i < offer.count; i++) {
    const raw = offer.values[offer.offset + i]
    if (raw === MISSING) continue
    const slot = offer.slot + i
    const lane = offer.lanes === null ? offer.lane : offer.lanes[offer.offset + i]
    const wins = Number.isNaN(work[slot]) || order(lane, offer.version, raw * offerScale, block.lane === null ? 0 : block.lane[slot],
      block.versions === null ? block.version : block.versions[slot], work[slot]) > 0
    if (wins) would[slot] = raw * offerScale
  }
  return new FitRange(would).fits ? null : new FitRange(work)
}

/**
 * Says which values a block can take in beside those that stand: all must be whole multiples of one power of ten and
 * fit 31 bits there. Widened by each value admitted.
 */
class FitRange {
  #greatest = 0
  /** Coarsest scale that divides every value. */
  #unit = 10 ** (COARSEST - FINEST)

  constructor(values: Float64Array) {
    for (const v of values) if (!Number.isNaN(v)) this.#take(v)
  }

  get fits(): boolean {
    return this.#greatest / this.#unit <= MAX_MANTISSA && this.#greatest <= Number.MAX_SAFE_INTEGER
  }

  admits(value: number): boolean {
    const greatest = Math.max(this.#greatest, Math.abs(value))
    const unit = commonUnit(this.#unit, value)
    if (greatest / unit > MAX_MANTISSA || greatest > Number.MAX_SAFE_INTEGER) return false
    this.#greatest = greatest
    this.#unit = unit
    return true
  }

  #take(value: number): void {
    this.#greatest = Math.max(this.#greatest, Math.abs(value))
    this.#unit = commonUnit(this.#unit, value)
  }
}

function commonUnit(unit: number, value: number): number {
  let u = unit
  while (u > 1 && value % u !== 0) u /= 10
  return u
}

function divisible(work: Float64Array, by: number): boolean {
  for (const v of work) if (!Number.isNaN(v) && v % by !== 0) return false
  return true
}

function beyond(work: Float64Array, scale: number): boolean {
  for (const v of work) if (Math.abs(v) / scale > MAX_MANTISSA) return true
  return false
}

function record(
  into: SlotRecord | null, slot: number, exponent: number, value: number, lane: number, version: number,
): SlotRecord {
  const r = into ?? { slots: [], exponent, vals: [], lanes: [], versions: [] }
  r.slots.push(slot)
  r.vals.push(value)
  r.lanes.push(lane)
  r.versions.push(version)
  return r
}
