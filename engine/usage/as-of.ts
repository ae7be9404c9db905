import { MISSING } from '../read-batch.js'
import { emptyBlock, restoreSlots, type Block, type SlotRecord } from '../settle.js'
import { blockKey, intArray } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import { dayNumber, dayText } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import { loadBlocks } from './day-rows.js'
import { slotsOfDay } from './grid.js'

interface RevisionRow {
  channel_id: number
  day: string
  slots: number[]
  exponent: number
  old_vals: (number | null)[] | null
  old_lane: number[] | null
  old_versions: number[] | null
}

/** Length of each channel's intervals, seconds, by channel. */
export type Intervals = ReadonlyMap<number, number>

/**
 * The blocks of the channels in [fromDay, toDay) as they stood at an instant: what stands now, with every later merge
 * and withdrawal taken back, newest first, and without the blocks that were made later. What was offered and lost
 * (kind 2) never stood and changes nothing. Run it in one snapshot, or a merge may be seen without its revision.
 *
 * @param asOf RFC 3339
 */
export async function loadBlocksAsOf(
  db: Queryable, zone: Zone, intervals: Intervals, fromDay: number, toDay: number, asOf: string,
): Promise<Block[]> {
  const channelIds = [...intervals.keys()]
  const blocks = new Map<number, Block>()
  for (const b of await loadBlocks(db, channelIds, fromDay, toDay, null)) blocks.set(blockKey(b.channelId, b.day), b)
  const { rows } = await db.query<RevisionRow>(
    `select channel_id, day, slots, exponent, old_vals, old_lane, old_versions
       from revision
      where channel_id = any($1::int[]) and day >= $2::date and day < $3::date and at > $4::timestamptz
        and kind in (1, 3)
      order by at desc, seq desc`, [intArray(channelIds), dayText(fromDay), dayText(toDay), asOf])
  for (const r of rows) {
    const day = dayNumber(r.day)
    const key = blockKey(r.channel_id, day)
    let block = blocks.get(key)
    if (block === undefined) {
      // A withdrawal that left nothing standing took the row away with it.
      block = vanishedBlock(r, day, zone, intervals.get(r.channel_id)!)
      blocks.set(key, block)
    }
    restoreSlots(block, recordOf(r))
  }
  const asOfUs = instantUs(asOf)
  return [...blocks.values()].filter((b) => b.settledAtUs <= asOfUs && b.present > 0)
}

function vanishedBlock(r: RevisionRow, day: number, zone: Zone, intervalS: number): Block {
  const firstS = zone.dayStart(day)
  const slots = Math.max(slotsOfDay(firstS, intervalS, zone.dayStart(day + 1)), ...r.slots.map((s) => s + 1))
  return emptyBlock(r.channel_id, day, firstS, intervalS, slots, 0, 0)
}

function recordOf(r: RevisionRow): SlotRecord {
  const n = r.slots.length
  return {
    slots: r.slots,
    exponent: r.exponent,
    vals: r.old_vals === null ? new Array<number>(n).fill(MISSING) : r.old_vals.map((v) => v ?? MISSING),
    lanes: r.old_lane ?? new Array<number>(n).fill(0),
    versions: r.old_versions ?? new Array<number>(n).fill(0),
  }
}

/** A stretch of time within one stored day, epoch seconds. */
export interface Part {
  channelId: number
  day: number
  intervalS: number
  /** Start of the day's first slot. */
  firstS: number
  fromS: number
  toS: number
}

/**
 * Newest change, at or before an instant where one is given, of a value that stood in the parts; microseconds, 0 for none.
 * @param asOf RFC 3339, or null
 */
export async function restatedWithin(db: Queryable, parts: readonly Part[], asOf: string | null): Promise<number> {
  if (parts.length === 0) return 0
  const { rows } = await db.query<{ at_us: number | null }>(
    `select (extract(epoch from max(r.at)) * 1000000)::int8 as at_us
       from jsonb_to_recordset($1::jsonb) as p(channel_id int, day date, from_slot int, to_slot int)
       join revision r on r.channel_id = p.channel_id and r.day = p.day
      where r.kind in (1, 3) and r.old_vals is not null and ($2::timestamptz is null or r.at <= $2::timestamptz)
        and exists (select from unnest(r.slots, r.old_vals) as s(slot, old)
                     where s.old is not null and s.slot >= p.from_slot and s.slot < p.to_slot)`,
    [JSON.stringify(parts.map((p) => ({
      channel_id: p.channelId, day: dayText(p.day), from_slot: slotFrom(p, p.fromS), to_slot: slotFrom(p, p.toS) }))), asOf])
  return rows[0].at_us ?? 0
}

/** First slot that starts at or after an instant. */
function slotFrom(part: Part, s: number): number {
  return Math.min(32_767, Math.max(0, Math.ceil((s - part.firstS) / part.intervalS)))
}

/**
 * Newest change, at or before an instant, of a value that stood in [fromDay, toDay), without the days of `except` (by
 * block); microseconds, 0 for none.
 */
export async function restatedAsOf(
  db: Queryable, channelIds: readonly number[], fromDay: number, toDay: number, asOf: string,
  except: ReadonlyMap<number, readonly { channelId: number; day: number }[]>,
): Promise<number> {
  const days = [...except.values()].map(([part]) => part)
  const { rows } = await db.query<{ at_us: number | null }>(
    `select (extract(epoch from max(at)) * 1000000)::int8 as at_us
       from revision
      where channel_id = any($1::int[]) and day >= $2::date and day < $3::date and at <= $4::timestamptz
        and kind in (1, 3) and old_vals is not null
        and (channel_id, day) not in (select * from unnest($5::int[], $6::date[]))`,
    [intArray(channelIds), dayText(fromDay), dayText(toDay), asOf, intArray(days.map((d) => d.channelId)),
      `{${days.map((d) => dayText(d.day)).join(',')}}`])
  return rows[0].at_us ?? 0
}

/** Microseconds of an RFC 3339 instant that was checked before; finer digits are dropped. */
function instantUs(text: string): number {
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? ''
  return Date.parse(text.replace(/\.\d+/, '').replace(' ', 'T')) * 1000 + Number(fraction.padEnd(6, '0').slice(0, 6))
}
