import { MISSING } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import type { Zone } from '../time/zone.js'
import { loadBlocksAsOf } from './as-of.js'
import { loadNewest, type DayRow } from './day-rows.js'
import { DAILY_S } from './grid.js'
import type { Segment } from './segments.js'

/** First day that any read may have: 1980-01-01. */
const FIRST_DAY = 3652
/** How far back a past state is searched for its newest read: meters that were silent for longer have none. */
const AS_OF_DAYS = 40

/**
 * End of the newest interval held in each segment, epoch seconds, beside the segments; null where nothing is held.
 * @param asOf RFC 3339: what was held then (of the 40 days before it); null: what is held
 */
export async function newestHeld(
  db: Queryable, zone: Zone, segments: readonly Segment[], nowS: number, asOf: string | null,
): Promise<(number | null)[]> {
  const lastDay = zone.dayOf(nowS) + 1
  const rows = asOf === null
    ? await loadNewest(db, segments.map((s) => ({
      channelId: s.channelId,
      fromDay: Math.max(FIRST_DAY, s.fromS === -Infinity ? FIRST_DAY : zone.dayOf(s.fromS)),
      toDay: s.toS === Infinity ? lastDay : Math.min(lastDay, zone.dayOf(s.toS - 1)),
    })))
    : await loadBlocksAsOf(db, zone, new Map(segments.map((s) => [s.channelId, s.intervalS])),
      lastDay - AS_OF_DAYS, lastDay + 1, asOf)
  const byChannel = new Map<number, DayRow[]>()
  for (const row of rows) {
    const known = byChannel.get(row.channelId)
    if (known === undefined) byChannel.set(row.channelId, [row])
    else known.push(row)
  }
  return segments.map((s) => {
    let newest: number | null = null
    for (const row of byChannel.get(s.channelId) ?? []) {
      const endS = lastEnd(row, s, zone)
      if (endS !== null && (newest === null || endS > newest)) newest = endS
    }
    return newest
  })
}

/** End of the last read of a row that starts in the segment. */
function lastEnd(row: DayRow, segment: Segment, zone: Zone): number | null {
  const vals = row.vals!
  for (let i = vals.length - 1; i >= 0; i--) {
    const startS = row.firstS + i * row.intervalS
    if (vals[i] === MISSING || startS < segment.fromS || startS >= segment.toS) continue
    return row.intervalS === DAILY_S ? zone.dayStart(row.day + 1) : startS + row.intervalS
  }
  return null
}

/** The greatest of the instants; null where there is none. */
export function newestOf(ends: readonly (number | null)[]): number | null {
  return ends.reduce((a, b) => b !== null && (a === null || b > a) ? b : a, null)
}
