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
    expected += expectedReads(segment.intervalS, fromS, Math.min(toS, nowS), zone)
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

/** Reads that start in [fromS, toS) and have ended by toS; a daily read is as long as its local day. */
function expectedReads(intervalS: number, fromS: number, toS: number, zone: Zone): number {
  if (toS <= fromS) return 0
  if (intervalS !== DAY_S) return Math.floor((toS - fromS) / intervalS)
  const first = zone.dayOf(Math.ceil(fromS))
  const skipped = zone.dayStart(first) < fromS ? 1 : 0
  return Math.max(0, zone.dayOf(Math.floor(toS)) - first - skipped)
}
