import { canonicalBlock } from './canonical-block.js'
import { fillEmpty, fillMissing } from './fill.js'
import type { Piece } from './plan.js'
import type { RecordProblem } from './problem.js'
import { MISSING, type ReadBatch } from './read-batch.js'
import type { ChannelRef } from './registry-map.js'
import { cloneBlock, emptyBlock, merge, type Block, type MergeResult, type Offer, type SlotRecord } from './settle.js'
import { takeWhole } from './whole-day.js'
import { blockKey, RevisionKind, type Revision } from './store/blocks.js'

/** A channel's day before and after a commit; null where no block stood. A block of which nothing stands any more stays, empty. */
export interface BlockChange {
  channel: ChannelRef
  before: Block | null
  after: Block
}

/** What one delivery's reads came to. received is kept by the caller. */
export interface Tally {
  stored: number
  duplicate: number
  corrected: number
  outranked: number
  problems: RecordProblem[]
}

export interface MergeInput {
  /** Whole channel-days, sorted by channel id and day; the pieces of one delivery in the order of its body. */
  pieces: readonly Piece[]
  /** Per delivery: its reads, number and version (microseconds), the version for blocks whose source stated none. */
  deliveries: readonly { batch: ReadBatch; deliveryNo: number; version: number }[]
  stored: ReadonlyMap<number, Block>
  /** Microseconds since the epoch: when this commit settles. */
  atUs: number
}

export function emptyTally(): Tally {
  return { stored: 0, duplicate: 0, corrected: 0, outranked: 0, problems: [] }
}

export interface MergeOutput {
  changes: BlockChange[]
  revisions: Revision[]
}

interface Merging extends MergeOutput {
  tallies: readonly Tally[]
}

/**
 * Merges pieces of a commit into the blocks that stand. Pure but for the tallies.
 * @param tallies one per delivery, to which is added what its reads came to
 */
export function mergePieces(input: MergeInput, tallies: readonly Tally[]): MergeOutput {
  const { pieces, stored } = input
  const output: Merging = { changes: [], revisions: [], tallies }
  let i = 0
  while (i < pieces.length) {
    const first = pieces[i]
    const { channelId } = first.channel
    let end = i + 1
    while (end < pieces.length && pieces[end].day === first.day && pieces[end].channel.channelId === channelId) end++
    mergeDay(pieces, i, end, stored.get(blockKey(channelId, first.day)) ?? null, input, output)
    i = end
  }
  return output
}

function mergeDay(
  pieces: readonly Piece[], from: number, to: number, before: Block | null, input: MergeInput, output: Merging,
): void {
  const first = pieces[from]
  const creator = input.deliveries[first.delivery].deliveryNo
  if (before === null && to === from + 1) {
    const { channel: { channelId, intervalS }, day, firstS, slots } = first
    const whole = takeWhole(offerOf(first, input), channelId, day, firstS, intervalS, slots, creator, input.atUs)
    if (whole !== null) {
      output.tallies[first.delivery].stored += whole.present
      output.changes.push({ channel: first.channel, before, after: whole })
      return
    }
  }
  const block = before === null
    ? emptyBlock(first.channel.channelId, first.day, first.firstS, first.channel.intervalS, first.slots, creator, input.atUs)
    : cloneBlock(before)
  let changed = false
  let filled: Revision | null = null
  for (let i = from; i < to; i++) {
    const piece = pieces[i]
    const { batch, deliveryNo } = input.deliveries[piece.delivery]
    const tally = output.tallies[piece.delivery]
    if (piece.firstS !== block.firstS || piece.slots !== block.vals.length) {
      tally.problems.push(offGrid(batch, piece, block))
      continue
    }
    const offer = offerOf(piece, input)
    if (before === null && !changed) {
      const stored = fillEmpty(block, offer)
      if (stored >= 0) {
        tally.stored += stored
        changed = stored > 0
        continue
      }
    }
    const stored = fillMissing(block, offer)
    if (stored >= 0) {
      if (stored === 0) continue
      tally.stored += stored
      changed = true
      if (before === null && deliveryNo === block.deliveryNo) continue
      // One revision for all that a delivery adds to the day: intervals come one by one.
      if (filled?.deliveryNo !== deliveryNo) output.revisions.push(filled = noRevision(block, deliveryNo))
      noteFilled(filled.slots, offer)
      continue
    }
    const result = merge(block, offer)
    count(tally, result)
    if (result.unfitSlots.length > 0) tally.problems.push(...unfit(batch, piece, result.unfitSlots))
    if (result.before !== null) {
      changed = true
      if (result.restated) block.restatedAtUs = input.atUs
      // A piece of the delivery that makes the block is the block itself, unless it replaced something.
      if (before !== null || deliveryNo !== block.deliveryNo || result.before.vals.some((v) => v !== MISSING)) {
        output.revisions.push({ channelId: block.channelId, day: block.day, kind: RevisionKind.merged, deliveryNo, slots: result.before })
      }
    }
    if (result.lost !== null) {
      output.revisions.push({ channelId: block.channelId, day: block.day, kind: RevisionKind.outranked, deliveryNo, slots: result.lost })
    }
  }
  if (changed) output.changes.push({ channel: first.channel, before, after: block })
}

/** Of slots that a delivery fills: nothing stood in them. */
function noRevision(block: Block, deliveryNo: number): Revision {
  return {
    channelId: block.channelId, day: block.day, kind: RevisionKind.merged, deliveryNo,
    slots: { slots: [], exponent: block.exponent, vals: [], lanes: [], versions: [] },
  }
}

function noteFilled({ slots, vals, lanes, versions }: SlotRecord, { slot, count, values, offset }: Offer): void {
  for (let i = 0; i < count; i++) {
    if (values[offset + i] === MISSING) continue
    slots.push(slot + i)
    vals.push(MISSING)
    lanes.push(0)
    versions.push(0)
  }
}

function offerOf(piece: Piece, input: MergeInput): Offer {
  const { batch, version } = input.deliveries[piece.delivery]
  return {
    slot: piece.slot, count: piece.count, values: batch.values, offset: piece.offset, exponent: batch.exponent[piece.block],
    lane: batch.lane[piece.block], lanes: batch.lanes, version: batch.version[piece.block] || version,
  }
}

function count(tally: Tally, result: MergeResult): void {
  tally.stored += result.stored
  tally.duplicate += result.duplicate
  tally.corrected += result.corrected
  tally.outranked += result.outranked
}

function offGrid(batch: ReadBatch, piece: Piece, block: Block): RecordProblem {
  let reads = 0
  for (let i = piece.offset; i < piece.offset + piece.count; i++) if (batch.values[i] !== MISSING) reads++
  return {
    code: 'off-grid', outcome: 'quarantined', reads, meter: batch.meters[piece.block], at: `record ${batch.place[piece.block]}`,
    message: `that day's reads start at ${new Date(block.firstS * 1000).toISOString()} and these do not fit their grid`,
    help: 'intervals of one channel keep one grid within a day',
    record: canonicalBlock(batch, piece.block, piece.offset, piece.count),
  }
}

function unfit(batch: ReadBatch, piece: Piece, slots: number[]): RecordProblem[] {
  return slots.map((slot) => {
    const offset = piece.offset + slot - piece.slot
    return {
      code: 'value-range', outcome: 'quarantined' as const, reads: 1, meter: batch.meters[piece.block],
      at: `record ${batch.place[piece.block]}, values/${offset - batch.offset[piece.block]}`,
      message: 'no power of ten holds this value beside the others of its day',
      help: 'check the unit; a day holds values of up to nine digits between its finest and its greatest',
      record: canonicalBlock(batch, piece.block, offset, 1),
    }
  })
}
