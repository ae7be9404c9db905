import { MISSING, Quality, QUALITY_MASK } from '../read-batch.js'
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
    eachSlot(block, (value, i) => {
      const startS = block.firstAtS + i * block.intervalS
      const endS = block.intervalS === 86400 ? block.dayEndS : startS + block.intervalS
      slots.push({ endS, value: { mantissa: BigInt(value), exponent: block.exponent } })
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

function eachSlot(block: Block, visit: (value: number, slot: number) => void): void {
  for (let i = 0; i < block.values.length; i++) {
    const value = block.values[i]
    const startS = block.firstAtS + i * block.intervalS
    if (value === null || value === MISSING || startS < block.fromS || startS >= block.toS) continue
    visit(value, i)
  }
}
