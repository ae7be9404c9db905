import { MISSING } from '../read-batch.js'
import type { Zone } from '../time/zone.js'
import type { Bucket } from './buckets.js'
import type { DayRow, SlotDays } from './day-rows.js'
import { DAILY_S, gridAtOrAfter, slotsOfDay } from './grid.js'
import type { Group, Piece, Span } from './span.js'

/** One local day of a group: epoch seconds, the end exclusive, and the pieces that touch it. */
export interface GroupDay {
  day: number
  startS: number
  endS: number
  pieces: Piece[]
}

/** The local days that a group's pieces touch, ascending. */
export function* daysOf(group: Group, zone: Zone): Generator<GroupDay> {
  if (group.pieces.length === 0) return
  const fromDay = zone.dayOf(Math.min(...group.pieces.map((p) => p.fromS)))
  const lastDay = zone.dayOf(Math.max(...group.pieces.map((p) => p.toS)) - 1)
  let startS = zone.dayStart(fromDay)
  for (let day = fromDay; day <= lastDay; day++) {
    const endS = zone.dayStart(day + 1)
    const pieces = group.pieces.filter((p) => p.fromS < endS && p.toS > startS)
    if (pieces.length > 0 && endS > startS) yield { day, startS, endS, pieces }
    startS = endS
  }
}

/** True where the day's stored aggregates answer for the group: one channel, which counts all day, within one bucket. */
export function isWhole(at: GroupDay, bucket: Bucket): boolean {
  if (at.pieces.length !== 1) return false
  const [piece] = at.pieces
  return piece.fromS <= at.startS && piece.toS >= at.endS && bucket.startS <= at.startS && bucket.endS >= at.endS
}

/** The days whose slots are needed: where a segment or a bucket begins or ends within the day, or channels are summed. */
export function slotDaysOf(groups: readonly Group[], buckets: readonly Bucket[], zone: Zone): SlotDays {
  const days = new Set<number>()
  for (const group of groups) {
    const walk = new BucketWalk(buckets)
    for (const at of daysOf(group, zone)) {
      const bucket = walk.at(Math.max(at.startS, buckets[0].startS))
      if (!isWhole(at, buckets[bucket])) days.add(at.day)
    }
  }
  return [...days].sort((a, b) => a - b)
}

/** Finds the bucket of ascending instants. */
export class BucketWalk {
  readonly #buckets: readonly Bucket[]
  #index = 0

  constructor(buckets: readonly Bucket[]) {
    this.#buckets = buckets
  }

  /** Index of the bucket in which an instant lies; the last one for later instants. */
  at(s: number): number {
    if (s < this.#buckets[this.#index].startS) this.#index = 0
    while (this.#index < this.#buckets.length - 1 && s >= this.#buckets[this.#index].endS) this.#index++
    return this.#index
  }
}

/** The grid of channels, also on days without a stored row: that of the last row seen, else local midnight. */
export class Grids {
  readonly #anchors = new Map<number, number>()

  /** First slot and number of slots of the piece's channel on the day. */
  of(piece: Piece, at: GroupDay, row: DayRow | undefined): { firstS: number; slots: number } {
    if (row !== undefined) this.#anchors.set(piece.channelId, row.firstS)
    const anchor = piece.intervalS === DAILY_S ? at.startS : this.#anchors.get(piece.channelId) ?? at.startS
    const firstS = row?.firstS ?? gridAtOrAfter(at.startS, anchor, piece.intervalS)
    return { firstS, slots: slotsOfDay(firstS, piece.intervalS, at.endS) }
  }
}

/** Whether what the day lacks of the channel is missing: its reads are due, and it had begun to read. */
export function isExpected(piece: Piece, at: GroupDay, span: Span): boolean {
  return at.startS < span.dueS && at.day >= span.knownFrom(piece.channelId)
}

/** Told of each slot of a piece, ascending; MISSING where there is no read. */
export type SlotVisitor = (startS: number, mantissa: number, lane: number) => void

/** Visits the slots of a piece on one day that start in the piece. */
export function eachSlot(
  piece: Piece, at: GroupDay, row: DayRow | undefined, grid: { firstS: number; slots: number }, visit: SlotVisitor,
): void {
  if (row !== undefined && row.vals === null) throw new Error(`slots of channel ${piece.channelId}, day ${at.day} were not read`)
  const slots = Math.max(grid.slots, row?.vals?.length ?? 0)
  for (let i = 0; i < slots; i++) {
    const startS = grid.firstS + i * piece.intervalS
    if (startS < piece.fromS) continue
    if (startS >= piece.toS) return
    visit(startS, row?.vals?.[i] ?? MISSING, row?.lane?.[i] ?? 0)
  }
}
