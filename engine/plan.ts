import { canonicalBlock } from './canonical-block.js'
import { isScaledByMultiplier, Quantity, type QuantityCode } from './quantity.js'
import type { RecordProblem } from './problem.js'
import { Flow, flowNames, MAX_MANTISSA, MISSING, type FlowCode, type ReadBatch } from './read-batch.js'
import { isChannel, type ChannelRef, type MeterRef, type RegistryMap } from './registry-map.js'
import { dayText } from './time/text.js'
import type { Zone } from './time/zone.js'

/** Reads of one channel and local day out of one delivery: what settlement merges into a stored block. */
export interface Piece {
  channel: ChannelRef
  /** Local day, days since 1970-01-01. */
  day: number
  /** Grid of the day, as this piece sees it: first grid point at or after local midnight, and the number of slots. */
  firstS: number
  slots: number
  /** First slot of the piece, and how many. */
  slot: number
  count: number
  /** Index of the first mantissa in the batch's values. */
  offset: number
  /** Block of the batch, and the index of the delivery in its group. */
  block: number
  delivery: number
}

export interface PlanContext {
  map: RegistryMap
  /** The utility's zone: local days are its days. */
  zone: Zone
  /** Now, epoch seconds: reads that start more than ten minutes later are quarantined. */
  nowS: number
  /** Reads of days before this are refused; -Infinity for none. */
  horizonDay: number
  /** Starts this close to the grid are moved onto it, and counted. Seconds. */
  toleranceS: number
  unknownMeters: 'quarantine' | 'register' | 'reject'
  /** False: values are raw, and the meter's multiplier has yet to be applied. */
  multiplierApplied: boolean
  /** Rules that the source's settings switch off; none where not given. */
  skipRules?: readonly string[]
  /** Index of the delivery in its group. */
  delivery: number
}

export interface Plan {
  pieces: Piece[]
  problems: RecordProblem[]
  /** Reads moved onto the grid. */
  snapped: number
  /** Names that the registry does not know; with `unknownMeters: register` they are registered and planned again. */
  unknown: Set<string>
  /** Span of the reads that go to settlement, epoch seconds; Infinity and -Infinity when there are none. */
  fromS: number
  toS: number
}

const FUTURE_S = 600
const DAY_S = 86_400
/** No AMI read is older; keeps nonsense years from making partitions. */
const FIRST_DAY = 3652 // 1980-01-01

/**
 * Resolves every block of the batch to a channel, checks what can be checked without history (structure, grid, future,
 * horizon, sign), and cuts it into pieces at local midnights. Refused reads are set to MISSING in the batch itself and
 * multipliers are applied in place: a batch is planned once, and decoded again where it must be planned again.
 */
export function planBatch(batch: ReadBatch, context: PlanContext): Plan {
  const plan: Plan = { pieces: [], problems: [], snapped: 0, unknown: new Set(), fromS: Infinity, toS: -Infinity }
  for (let b = 0; b < batch.count; b++) planBlock(batch, b, context, plan)
  return plan
}

function planBlock(batch: ReadBatch, b: number, context: PlanContext, plan: Plan): void {
  if (!hasReads(batch, batch.offset[b], batch.length[b])) return
  const name = batch.meters[b]
  const meter = context.map.meter(name)
  if (meter === undefined) {
    plan.unknown.add(name)
    if (context.unknownMeters === 'register') return
    plan.problems.push(refusal(batch, b, {
      code: 'unknown-meter', outcome: context.unknownMeters === 'reject' ? 'rejected' : 'quarantined',
      message: `meter ${name} is not registered`,
      help: context.unknownMeters === 'reject'
        ? 'register it with PUT /v1/meters, then push again'
        : 'register it with PUT /v1/meters: these reads then settle by themselves',
    }))
    return
  }
  const factor = context.multiplierApplied || !isScaledByMultiplier(batch.quantity[b]) ? 1 : meter.multiplier
  if (factor !== 1 && !fits(batch, b, factor)) {
    plan.problems.push(refusal(batch, b, {
      code: 'value-range', outcome: 'quarantined',
      message: `values times the meter's multiplier ${meter.multiplier} do not fit`, help: 'check the multiplier and the unit',
    }))
    return
  }
  if (batch.flow[b] !== Flow.net && batch.quantity[b] === Quantity.energy
    && context.skipRules?.includes('negative-energy') !== true) refuseNegative(batch, b, plan)
  const interval = batch.intervalS[b]
  const startS = onGrid(batch.startS[b], interval, context)
  if (startS === undefined) {
    plan.problems.push(refusal(batch, b, {
      code: 'off-grid', outcome: 'quarantined',
      message: `reads of ${interval} s cannot start at ${new Date(batch.startS[b] * 1000).toISOString()}`,
      help: 'intervals start on whole multiples of their length, in UTC or in the local time of the utility',
    }))
    return
  }
  if (startS !== batch.startS[b]) plan.snapped += countReads(batch, b)
  if (interval === DAY_S) splitDaily(batch, b, startS, meter, context, plan)
  else splitByDay(batch, b, startS, meter, context, plan)
  // Last, so that every record kept in quarantine has the values as they came, and a replay multiplies them once.
  if (factor !== 1) multiply(batch, b, factor)
}

/** The grid point that a start stands for: itself, or the nearest within the tolerance; undefined when off the grid. */
function onGrid(startS: number, interval: number, context: PlanContext): number | undefined {
  const tolerance = Math.min(context.toleranceS, interval / 10)
  if (interval === DAY_S) {
    const near = context.zone.dayStart(context.zone.dayOf(startS + tolerance))
    return Math.abs(near - startS) <= tolerance ? near : undefined
  }
  const utc = Math.round(startS / interval) * interval
  if (Math.abs(utc - startS) <= tolerance) return utc
  const offset = context.zone.offsetAt(startS)
  const local = Math.round((startS + offset) / interval) * interval - offset
  return Math.abs(local - startS) <= tolerance ? local : undefined
}

function splitByDay(
  batch: ReadBatch, b: number, startS: number, meter: MeterRef, context: PlanContext, plan: Plan,
): void {
  const interval = batch.intervalS[b]
  let offset = batch.offset[b]
  let left = batch.length[b]
  let at = startS
  // Reads from here on lie in the future.
  const futureAt = Math.ceil((context.nowS + FUTURE_S + 1 - startS) / interval)
  if (futureAt < left) {
    const from = Math.max(0, futureAt)
    refuseRange(batch, b, offset + from, left - from, plan, {
      code: 'future-read', outcome: 'quarantined',
      message: `reads from ${new Date((startS + from * interval) * 1000).toISOString()} on lie in the future`,
      help: 'check the clock and the zone of the source; replay them once their time has come',
    })
    left = from
  }
  let channel: ChannelRef | undefined
  while (left > 0) {
    const day = context.zone.dayOf(at)
    const dayStart = context.zone.dayStart(day)
    const dayEnd = context.zone.dayStart(day + 1)
    const firstS = dayStart + mod(at - dayStart, interval)
    const slots = Math.ceil((dayEnd - firstS) / interval)
    const slot = (at - firstS) / interval
    const count = Math.min(left, slots - slot)
    if (day < context.horizonDay || day < FIRST_DAY) refusePast(batch, b, offset, count, day, plan)
    else if (hasReads(batch, offset, count)) {
      channel ??= channelOf(meter, batch, b)
      plan.pieces.push({ channel, day, firstS, slots, slot, count, offset, block: b, delivery: context.delivery })
      if (at < plan.fromS) plan.fromS = at
      if (at + count * interval > plan.toS) plan.toS = at + count * interval
    }
    offset += count
    left -= count
    at += count * interval
  }
}

/** Daily reads: each is the one slot of its local day, whatever the day's length; days that do not exist have none. */
function splitDaily(
  batch: ReadBatch, b: number, startS: number, meter: MeterRef, context: PlanContext, plan: Plan,
): void {
  let day = context.zone.dayOf(startS)
  const channel = channelOf(meter, batch, b)
  for (let i = 0; i < batch.length[b]; i++, day++) {
    const offset = batch.offset[b] + i
    while (context.zone.dayStart(day + 1) === context.zone.dayStart(day)) day++
    const firstS = context.zone.dayStart(day)
    const endS = context.zone.dayStart(day + 1)
    if (batch.values[offset] === MISSING) continue
    if (firstS > context.nowS + FUTURE_S) {
      refuseRange(batch, b, offset, batch.length[b] - i, plan, {
        code: 'future-read', outcome: 'quarantined', message: `reads from ${dayText(day)} on lie in the future`,
        help: 'check the clock and the zone of the source; replay them once their time has come',
      })
      return
    }
    if (day < context.horizonDay || day < FIRST_DAY) {
      refusePast(batch, b, offset, 1, day, plan)
      continue
    }
    plan.pieces.push({ channel, day, firstS, slots: 1, slot: 0, count: 1, offset, block: b, delivery: context.delivery })
    if (firstS < plan.fromS) plan.fromS = firstS
    if (endS > plan.toS) plan.toS = endS
  }
}

/** The meter's channel, or a new one that the settling transaction has yet to create. */
function channelOf(meter: MeterRef, batch: ReadBatch, b: number): ChannelRef {
  const flow = batch.flow[b] as FlowCode
  const quantity = batch.quantity[b] as QuantityCode
  const intervalS = batch.intervalS[b]
  for (const c of meter.channels) if (isChannel(c, flow, intervalS, quantity)) return c
  return { channelId: -1, meter, quantity, flow, intervalS }
}

/** Energy delivered or received cannot be negative: such reads alone are refused, neighbours together. */
function refuseNegative(batch: ReadBatch, b: number, plan: Plan): void {
  const from = batch.offset[b]
  const to = from + batch.length[b]
  const isNegative = (v: number): boolean => v < 0 && v !== MISSING
  for (let i = from; i < to; i++) {
    if (!isNegative(batch.values[i])) continue
    let end = i + 1
    while (end < to && isNegative(batch.values[end])) end++
    refuseRange(batch, b, i, end - i, plan, {
      code: 'negative-energy', outcome: 'quarantined',
      message: `${flowNames[batch.flow[b] as FlowCode]} energy cannot be negative`,
      help: 'push it as flow "net", or as flow "received" with its magnitude',
    })
  }
}

function refusePast(batch: ReadBatch, b: number, offset: number, count: number, day: number, plan: Plan): void {
  refuseRange(batch, b, offset, count, plan, {
    code: 'past-retention', outcome: 'rejected', message: `${dayText(day)} is before the days that are kept`,
    help: day < FIRST_DAY ? `no read before ${dayText(FIRST_DAY)} is taken: check the date` : 'raise RETENTION_READS to load older reads',
  })
}

type Refusal = Pick<RecordProblem, 'code' | 'outcome' | 'message' | 'help'>

/** A problem for a whole block, with its record for replay. */
function refusal(batch: ReadBatch, b: number, why: Refusal): RecordProblem {
  return {
    ...why, at: placeOf(batch, b), meter: batch.meters[b], reads: countReads(batch, b),
    record: canonicalBlock(batch, b, batch.offset[b], batch.length[b]),
  }
}

/** A problem for some slots of a block, which become MISSING in the batch. */
function refuseRange(batch: ReadBatch, b: number, offset: number, count: number, plan: Plan, why: Refusal): void {
  let reads = 0
  for (let i = offset; i < offset + count; i++) if (batch.values[i] !== MISSING) reads++
  if (reads === 0) return
  const index = offset - batch.offset[b]
  plan.problems.push({
    ...why, at: `${placeOf(batch, b)}, values/${index}`, meter: batch.meters[b], reads,
    record: canonicalBlock(batch, b, offset, count),
  })
  batch.values.fill(MISSING, offset, offset + count)
}

function placeOf(batch: ReadBatch, b: number): string {
  return `record ${batch.place[b]}`
}

function countReads(batch: ReadBatch, b: number): number {
  let reads = 0
  for (let i = batch.offset[b]; i < batch.offset[b] + batch.length[b]; i++) if (batch.values[i] !== MISSING) reads++
  return reads
}

function hasReads(batch: ReadBatch, offset: number, count: number): boolean {
  for (let i = offset; i < offset + count; i++) if (batch.values[i] !== MISSING) return true
  return false
}

/** A multiplier as a whole factor and a power of ten: 0.6 is 6 x 10^-1. */
export function decimalFactor(multiplier: number): { factor: number; shift: number } {
  let shift = 0
  while (shift < 9 && !Number.isInteger(round9(multiplier * 10 ** shift))) shift++
  return { factor: Math.round(multiplier * 10 ** shift), shift }
}

function fits(batch: ReadBatch, b: number, multiplier: number): boolean {
  const { factor, shift } = decimalFactor(multiplier)
  if (batch.exponent[b] - shift < -9) return false
  for (let i = batch.offset[b]; i < batch.offset[b] + batch.length[b]; i++) {
    if (batch.values[i] !== MISSING && Math.abs(batch.values[i] * factor) > MAX_MANTISSA) return false
  }
  return true
}

/** Applies a multiplier to a block's mantissas, exactly; fits() said that they fit. */
function multiply(batch: ReadBatch, b: number, multiplier: number): void {
  const { factor, shift } = decimalFactor(multiplier)
  for (let i = batch.offset[b]; i < batch.offset[b] + batch.length[b]; i++) {
    if (batch.values[i] !== MISSING) batch.values[i] *= factor
  }
  batch.exponent[b] -= shift
}

function round9(x: number): number {
  return Math.round(x * 1e9) / 1e9
}

function mod(a: number, n: number): number {
  return ((a % n) + n) % n
}
