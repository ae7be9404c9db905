import { DAY_S } from '../time/civil.js'
import type { DaySpan } from '../time/billing.js'
import type { Zone } from '../time/zone.js'
import type { Segment } from '../usage/segments.js'

/** Whole days of a channel: their totals stand in the rows. */
export interface WholePiece extends DaySpan {
  channelId: number
}

/** A day of a channel that counts in part: it is summed from the slots that start in [fromS, toS). */
export interface SplitPiece {
  readonly channelId: number
  readonly day: number
  readonly fromS: number
  readonly toS: number
}

export interface Pieces {
  readonly whole: WholePiece[]
  readonly split: SplitPiece[]
  /** Reads that were due by `nowS`. */
  readonly expected: number
}

/** Cuts a period into what each segment gives to it. Days are local days of `zone`; `nowS` is in epoch seconds. */
export function piecesOf(segments: readonly Segment[], range: DaySpan, zone: Zone, nowS: number): Pieces {
  return piecesBetween(segments, zone.dayStart(range.startDay), zone.dayStart(range.endDay), zone, nowS)
}

/** The same for [startS, endS), epoch seconds. */
export function piecesBetween(
  segments: readonly Segment[], startS: number, endS: number, zone: Zone, nowS: number,
): Pieces {
  const whole: WholePiece[] = []
  const split: SplitPiece[] = []
  let expected = 0
  for (const segment of segments) {
    const fromS = Math.max(segment.fromS, startS)
    const toS = Math.min(segment.toS, endS)
    if (fromS >= toS) continue
    expected += expectedReads(segment.intervalS, fromS, toS, nowS, zone)
    if (restOfDay(segment, segments, zone, startS, endS, nowS) !== null) expected++
    const { channelId } = segment
    let first = zone.dayOf(Math.floor(fromS))
    let last = zone.dayOf(Math.ceil(toS) - 1)
    if (first === last && (fromS > zone.dayStart(first) || toS < zone.dayStart(first + 1))) {
      split.push({ channelId, day: first, fromS, toS })
      continue
    }
    if (fromS > zone.dayStart(first)) split.push({ channelId, day: first++, fromS, toS })
    if (toS < zone.dayStart(last + 1)) split.push({ channelId, day: last--, fromS, toS })
    if (first <= last) whole.push({ channelId, startDay: first, endDay: last + 1 })
  }
  return { whole, split, expected }
}

/** Reads that start in [fromS, toS) and have ended by nowS; a daily read is as long as its local day. */
function expectedReads(intervalS: number, fromS: number, toS: number, nowS: number, zone: Zone): number {
  if (toS <= fromS || nowS <= fromS) return 0
  const day = zone.dayOf(Math.ceil(fromS))
  if (intervalS === DAY_S) {
    const first = zone.dayStart(day) < fromS ? day + 1 : day
    const end = zone.dayOf(Math.floor(nowS))
    return Math.max(0, (Number.isFinite(toS) ? Math.min(end, zone.dayOf(Math.ceil(toS) - 1) + 1) : end) - first)
  }
  const anchorS = zone.dayStart(day)
  const before = (s: number): number => Math.ceil((s - anchorS) / intervalS)
  return Math.max(0, before(Math.min(toS, Math.floor(nowS) - intervalS + 1)) - before(fromS))
}

/** What is left of a day after a finer channel ended in it. */
export interface RestOfDay {
  readonly fromS: number
  readonly toS: number
  /** Of the channel that ended. */
  readonly intervalS: number
}

/**
 * The rest of a day of [startS, endS), ended by nowS, in which a daily channel takes over from a finer one: its read of
 * that day began before it counts, so that no read tells of the rest. It is expected as one read, which lacks, or the day
 * would be held to be whole with the hours before alone. null where there is none.
 */
export function restOfDay(
  { meterId, intervalS, fromS }: Segment, segments: readonly Segment[], zone: Zone, startS: number, endS: number, nowS: number,
): RestOfDay | null {
  if (intervalS !== DAY_S || fromS < startS || fromS >= endS) return null
  const day = zone.dayOf(Math.floor(fromS))
  const toS = zone.dayStart(day + 1)
  if (fromS <= zone.dayStart(day) || toS > nowS) return null
  const finer = segments.find((s) => s.meterId === meterId && s.intervalS < DAY_S && s.toS === fromS)
  return finer === undefined ? null : { fromS, toS, intervalS: finer.intervalS }
}
