import { arrayParsers } from '../store/array-text.js'
import { blockKey, intArray } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import { dayText } from '../time/text.js'
import type { DayRow } from '../usage/day-rows.js'
import { hoursOf, SHIFT_DAYS } from './shift.js'

/** A channel's stored days, by day number. */
export type DayRows = ReadonlyMap<number, DayRow>

type Hours = Float64Array | null

/**
 * The hours of the days before each of some channel-days, by blockKey(), the nearest first. One statement, and only for
 * days whose slots were not read before.
 */
export async function hoursBefore(
  db: Queryable, wanted: readonly { channelId: number; day: number }[], rows: ReadonlyMap<number, DayRows>,
): Promise<Map<number, Hours[]>> {
  const lacking = new Map<number, DayRow>()
  for (const { channelId, day } of wanted) {
    for (let d = day - 1; d > day - SHIFT_DAYS; d--) {
      const row = rows.get(channelId)?.get(d)
      if (row?.vals === null && row.present > 0) lacking.set(blockKey(channelId, d), row)
    }
  }
  const loaded = await loadSlots(db, [...lacking.values()])
  return new Map(wanted.map(({ channelId, day }) => [blockKey(channelId, day), Array.from({ length: SHIFT_DAYS - 1 }, (_, k) => {
    const row = rows.get(channelId)?.get(day - 1 - k)
    const vals = row?.vals ?? loaded.get(blockKey(channelId, day - 1 - k))
    return row === undefined || vals === undefined ? null : hoursOf(vals, vals.length, row.present, row.intervalS)
  })]))
}

async function loadSlots(db: Queryable, rows: readonly DayRow[]): Promise<Map<number, Int32Array>> {
  if (rows.length === 0) return new Map()
  const days = rows.map((r) => r.day)
  const { rows: found } = await db.query<{ channel_id: number; day: number; vals: Int32Array }>({
    text: `select c.channel_id, c.day - date '1970-01-01' as day, c.vals from unnest($1::int[], $2::date[]) as k(channel_id, day)
             join channel_day c on c.channel_id = k.channel_id and c.day = k.day where c.day between $3::date and $4::date`,
    values: [intArray(rows.map((r) => r.channelId)), `{${days.map(dayText).join(',')}}`, dayText(Math.min(...days)), dayText(Math.max(...days))],
    types: arrayParsers,
  })
  return new Map(found.map((r) => [blockKey(r.channel_id, r.day), r.vals]))
}
