import { MISSING, Quality, QUALITY_MASK } from '../read-batch.js'
import { DAY_S } from '../time/civil.js'
import { addExact, compareExact, ZERO, type Exact } from './exact.js'

/** A stored day block, or the part of it in [fromS, toS) that counts; slots start at firstAtS + i x intervalS. */
export interface Block {
  readonly firstAtS: number
  readonly intervalS: number
  readonly exponent: number
  /** null is a read that is not there. */
  readonly values: readonly (number | null)[]
  readonly lanes: readonly number[] | null
  readonly fromS: number
  readonly toS: number
  /** End of the block's local day: where a daily read ends. */
  readonly dayEndS: number
  /** Estimates that the engine made are passed over as if they were not there. */
  readonly isMeasuredOnly?: boolean
  /** Which of the slots count besides; all where it is not given. */
  readonly counts?: (startS: number, intervalS: number) => boolean
}

export interface BlockSum {
  readonly sum: Exact
  readonly present: number
  readonly estimated: number
}

/** Sum and counts of the slots that start in the block's [fromS, toS). */
export function sumBlock(block: Block): BlockSum {
  let mantissa = 0n
  let present = 0
  let estimated = 0
  eachSlot(block, (value, i) => {
    mantissa += BigInt(value)
    present++
    if (block.lanes !== null && (block.lanes[i] & QUALITY_MASK) === Quality.estimated) estimated++
  })
  return { sum: { mantissa, exponent: block.exponent }, present, estimated }
}

/**
 * The end (epoch seconds) of the interval in which the running sum of all blocks passes the limit; undefined where it
 * never does. Reads count at the end of their interval, since not until then has all of their energy flowed.
 */
export function crossingOf(blocks: readonly Block[], limit: Exact): number | undefined {
  const slots: { endS: number; value: Exact }[] = []
  for (const block of blocks) {
    eachSlot(block, (value, _slot, startS) => {
      slots.push({ endS: endOf(block, startS), value: { mantissa: BigInt(value), exponent: block.exponent } })
    })
  }
  slots.sort((a, b) => a.endS - b.endS)
  let sum = ZERO
  for (let i = 0; i < slots.length; i++) {
    sum = addExact(sum, slots[i].value)
    // Reads that end together have flowed together: judge after the last of them.
    if (slots[i + 1]?.endS === slots[i].endS) continue
    if (compareExact(sum, limit) > 0) return slots[i].endS
  }
  return undefined
}

/** Visits the reads of a block that count, ascending. */
export function eachSlot(block: Block, visit: (value: number, slot: number, startS: number) => void): void {
  for (let i = nextSlot(block, 0); i < block.values.length; i = nextSlot(block, i + 1)) {
    visit(block.values[i] as number, i, block.firstAtS + i * block.intervalS)
  }
}

/** True where any read of the block counts. */
export function hasReads(block: Block): boolean {
  return nextSlot(block, 0) < block.values.length
}

/** The first slot from `from` on whose read counts; the number of slots where none does. */
function nextSlot({ values, lanes, counts, isMeasuredOnly = false, firstAtS, intervalS, fromS, toS }: Block, from: number): number {
  for (let i = from; i < values.length; i++) {
    const value = values[i]
    const startS = firstAtS + i * intervalS
    if (value === null || value === MISSING || startS < fromS || startS >= toS) continue
    if (isMeasuredOnly && lanes !== null && isEngineEstimate(lanes[i])) continue
    if (counts?.(startS, intervalS) === false) continue
    return i
  }
  return values.length
}

/** An estimate that names its method was made by the engine; a source's own has none. */
function isEngineEstimate(lane: number): boolean {
  return (lane & QUALITY_MASK) === Quality.estimated && ((lane >> 3) & 0b11111) !== 0
}

/** End of a read: a daily one is as long as its local day. */
export function endOf(block: Block, startS: number): number {
  return block.intervalS === DAY_S ? block.dayEndS : startS + block.intervalS
}
