import { Quality, QUALITY_MASK } from '../read-batch.js'
import type { Zone } from '../time/zone.js'
import { ExactSum } from '../usage/decimal.js'
import { powerGrid, powerInterval } from '../usage/grid.js'
import { eachSlot, endOf, hasReads } from './crossing.js'
import { compareExact, divideExact, exactNumber, multiplyExact, parseExact, roundExact, ZERO, type Exact } from './exact.js'
import { hourStart } from './kinds.js'
import type { Reading } from './readings.js'

const HOUR_S = 3600

export interface SlotSum {
  readonly sum: ExactSum
  present: number
  estimated: number
}

/** Energy per hour of the local clock, by the hour's start. Reads longer than an hour belong to none. */
export function hourSums(readings: readonly Reading[], zone: Zone): Map<number, SlotSum> {
  const hours = new Map<number, SlotSum>()
  for (const block of readings) {
    if (block.intervalS > HOUR_S) continue
    let current: SlotSum | undefined
    let at = NaN
    eachSlot(block, (value, slot, startS) => {
      const hour = hourStart(startS, zone)
      if (hour !== at || current === undefined) {
        at = hour
        current = hours.get(hour)
        if (current === undefined) hours.set(hour, current = emptySum())
      }
      addSlot(current, block, value, slot)
    })
  }
  return hours
}

/** The sum of all slots that count. */
export function totalOf(readings: readonly Reading[]): SlotSum {
  const total = emptySum()
  for (const block of readings) eachSlot(block, (value, slot) => addSlot(total, block, value, slot))
  return total
}

export interface Demand {
  /** kW, to a billionth. */
  readonly kw: Exact
  /** Start and end of the interval with the greatest mean power, the earliest of several. */
  readonly atS: number
  readonly endS: number
  /** End of the first interval that was above the limit. */
  readonly crossedAtS: number | null
  readonly present: number
  readonly estimated: number
}

/**
 * The greatest mean power of any interval, over the sum of the channels. Where channels of unlike intervals are summed,
 * it is taken over the longest that has a read which counts on that day ({@link powerGrid}). In a net only intervals count
 * of which both sides are held. null where nothing is held.
 */
export function demandOf(readings: readonly Reading[], limit: Exact): Demand | null {
  const isNet = readings.some((r) => r.sign === -1)
  const days = new Map<number, Reading[]>()
  for (const r of readings) if (hasReads(r)) days.set(r.dayEndS, [...days.get(r.dayEndS) ?? [], r])
  let present = 0
  let estimated = 0
  let best: { kw: Exact; atS: number; endS: number } | null = null
  let crossedAtS: number | null = null
  for (const dayEndS of [...days.keys()].sort((a, b) => a - b)) {
    const blocks = days.get(dayEndS)!
    if (blocks.length === 1 && !isNet) {
      const day = demandOfBlock(blocks[0], limit)
      if (day === null) continue
      present += day.present
      estimated += day.estimated
      crossedAtS ??= day.crossedAtS
      if (best === null || compareExact(day.kw, best.kw) > 0) best = day
      continue
    }
    const grid = powerGrid(blocks.map((b) => ({ intervalS: b.intervalS, firstS: b.firstAtS })))
    const intervals = new Map<number, { sum: SlotSum; endS: number; signs: Set<number> }>()
    for (const block of blocks) {
      eachSlot(block, (value, slot, startS) => {
        const { atS, endS } = powerInterval(grid, startS, dayEndS)
        let interval = intervals.get(atS)
        if (interval === undefined) intervals.set(atS, interval = { sum: emptySum(), endS, signs: new Set() })
        addSlot(interval.sum, block, value, slot)
        interval.signs.add(block.sign)
      })
    }
    for (const [atS, { sum, endS, signs }] of [...intervals].sort(([a], [b]) => a - b)) {
      present += sum.present
      estimated += sum.estimated
      if (isNet && signs.size < 2) continue
      const kw = powerOf(exactOf(sum.sum), endS - atS)
      if (crossedAtS === null && compareExact(kw, limit) > 0) crossedAtS = endS
      if (best === null || compareExact(kw, best.kw) > 0) best = { kw, atS, endS }
    }
  }
  return best === null ? null : { ...best, crossedAtS, present, estimated }
}

/** The demand of one block by itself: its reads compare as whole numbers, and two of them alone need exact power. */
function demandOfBlock(block: Reading, limit: Exact): Demand | null {
  let present = 0
  let estimated = 0
  let greatest = -Infinity
  let atS = 0
  let firstAbove: number | null = null
  const intervalS = endOf(block, block.firstAtS) - block.firstAtS
  const kwOf = (value: number): Exact => powerOf({ mantissa: BigInt(value), exponent: block.exponent }, intervalS)
  // A read well below cannot be above once rounded to a billionth.
  const nearly = exactNumber(limit) * intervalS / HOUR_S / 10 ** block.exponent * (1 - 1e-9) - 2e-9 / 10 ** block.exponent
  eachSlot(block, (value, slot, startS) => {
    present++
    if (block.lanes !== null && (block.lanes[slot] & QUALITY_MASK) === Quality.estimated) estimated++
    if (value > greatest) {
      greatest = value
      atS = startS
    }
    if (firstAbove === null && value >= nearly && compareExact(kwOf(value), limit) > 0) firstAbove = endOf(block, startS)
  })
  return present === 0 ? null : { kw: kwOf(greatest), atS, endS: endOf(block, atS), crossedAtS: firstAbove, present, estimated }
}

/** Mean power in kW of energy in kWh over an interval, to a billionth. */
export function powerOf(energy: Exact, intervalS: number): Exact {
  const perHour = { mantissa: BigInt(HOUR_S), exponent: 0 }
  return roundExact(divideExact(multiplyExact(energy, perHour), { mantissa: BigInt(intervalS), exponent: 0 }, -9), -9)
}

export function exactOf(sum: ExactSum): Exact {
  const text = sum.text()
  return text === '0' ? ZERO : parseExact(text)
}

function emptySum(): SlotSum {
  return { sum: new ExactSum(), present: 0, estimated: 0 }
}

function addSlot(into: SlotSum, block: Reading, value: number, slot: number): void {
  into.sum.add(block.sign * value, block.exponent)
  into.present++
  if (block.lanes !== null && (block.lanes[slot] & QUALITY_MASK) === Quality.estimated) into.estimated++
}
