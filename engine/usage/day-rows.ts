import { blockOf, int2Values, int4Values, intArray, rawBinary, type RawRow } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import type { Block } from '../settle.js'
import { dayText } from '../time/text.js'

/** A stored channel day as queries need it: its aggregates, and its slots where they were asked for. */
export interface DayRow extends Pick<Block, 'channelId' | 'day' | 'firstS' | 'intervalS' | 'exponent' | 'total' | 'peak'
  | 'peakSlot' | 'present' | 'estimated' | 'restatedAtUs'> {
  vals: Int32Array | null
  lane: Int16Array | null
}

/** Of which days the slots are read: a year of aggregates is a tenth of the bytes of a year of slots. */
export type SlotDays = 'all' | readonly number[]

const PG_EPOCH_US = 946_684_800_000_000
const PG_EPOCH_DAY = 10_957

// Plain conditions on the key, so that partitions are pruned when the statement is planned and each row that is read is
// a row that was asked for.
export const DAY_ROWS_SQL = `
  select channel_id, day, first_at, interval_s, exponent, total, peak, peak_slot, present, estimated, restated_at,
         case when $4 or day = any($5::date[]) then vals end as vals,
         case when $4 or day = any($5::date[]) then lane end as lane
    from channel_day
   where channel_id = any($1::int[]) and day >= $2::date and day < $3::date`

/** Parameters of {@link DAY_ROWS_SQL}. Days are day numbers, toDay exclusive. */
export function dayRowsParameters(
  channelIds: readonly number[], fromDay: number, toDay: number, slots: SlotDays,
): unknown[] {
  const days = slots === 'all' ? '{}' : `{${slots.map(dayText).join(',')}}`
  return [intArray(channelIds), dayText(fromDay), dayText(toDay), slots === 'all', days]
}

/** The stored days of the channels in [fromDay, toDay), in no order. */
export async function loadDayRows(
  db: Queryable, channelIds: readonly number[], fromDay: number, toDay: number, slots: SlotDays,
): Promise<DayRow[]> {
  if (channelIds.length === 0 || fromDay >= toDay) return []
  // pg's declarations know nothing of the binary flag. Binary halves the time that reading slots takes.
  const query = {
    text: DAY_ROWS_SQL, values: dayRowsParameters(channelIds, fromDay, toDay, slots), binary: true, types: rawBinary,
  }
  const { rows } = await db.query<RawRow>(query)
  return rows.map(dayRowOf)
}

function dayRowOf(row: RawRow): DayRow {
  return {
    channelId: row.channel_id!.readInt32BE(0),
    day: row.day!.readInt32BE(0) + PG_EPOCH_DAY,
    firstS: instantUs(row.first_at!) / 1_000_000,
    intervalS: row.interval_s!.readInt32BE(0),
    exponent: row.exponent!.readInt16BE(0),
    total: Number(row.total!.readBigInt64BE(0)),
    peak: row.peak === null ? 0 : row.peak.readInt32BE(0),
    peakSlot: row.peak_slot === null ? -1 : row.peak_slot.readInt16BE(0),
    present: row.present!.readInt16BE(0),
    estimated: row.estimated!.readInt16BE(0),
    restatedAtUs: row.restated_at === null ? 0 : instantUs(row.restated_at),
    vals: row.vals === null ? null : int4Values(row.vals),
    lane: row.lane === null ? null : int2Values(row.lane),
  }
}

function instantUs(b: Buffer): number {
  return Number(b.readBigInt64BE(0)) + PG_EPOCH_US
}

const BLOCK_COLUMNS = `channel_id, day, first_at, interval_s, exponent, total, peak, peak_slot, present, estimated,
  version, delivery_no, settled_at, restated_at, vals, lane, versions`

/** Whole blocks of the channels in [fromDay, toDay). @param asOf RFC 3339: only those created by then */
export async function loadBlocks(
  db: Queryable, channelIds: readonly number[], fromDay: number, toDay: number, asOf: string | null,
): Promise<Block[]> {
  if (channelIds.length === 0 || fromDay >= toDay) return []
  const query = {
    text: `select ${BLOCK_COLUMNS} from channel_day
            where channel_id = any($1::int[]) and day >= $2::date and day < $3::date
              and ($4::timestamptz is null or settled_at <= $4::timestamptz)`,
    values: [intArray(channelIds), dayText(fromDay), dayText(toDay), asOf], binary: true, types: rawBinary,
  }
  const { rows } = await db.query<RawRow>(query)
  return rows.map(blockOf)
}

/** A stretch of one channel's days, day numbers, both inclusive. */
export interface DayStretch {
  channelId: number
  fromDay: number
  toDay: number
}

/** The newest two days with reads in each stretch (two, because the newest may have its reads outside of a segment). */
export async function loadNewest(db: Queryable, stretches: readonly DayStretch[]): Promise<DayRow[]> {
  if (stretches.length === 0) return []
  const query = {
    text: `select c.channel_id, c.day, c.first_at, c.interval_s, c.exponent, c.total, c.peak, c.peak_slot, c.present,
                  c.estimated, c.restated_at, c.vals, c.lane
             from unnest($1::int[], $2::date[], $3::date[]) as s(channel_id, from_day, to_day)
            cross join lateral (
                  select * from channel_day d
                   where d.channel_id = s.channel_id and d.day >= s.from_day and d.day <= s.to_day and d.present > 0
                   order by d.day desc limit 2) c`,
    values: [
      intArray(stretches.map((s) => s.channelId)),
      `{${stretches.map((s) => dayText(s.fromDay)).join(',')}}`,
      `{${stretches.map((s) => dayText(s.toDay)).join(',')}}`,
    ],
    binary: true,
    types: rawBinary,
  }
  const { rows } = await db.query<RawRow>(query)
  return rows.map(dayRowOf)
}

/** Those of the channels that have a stored day before `day`. */
export async function channelsKnownBefore(
  db: Queryable, channelIds: readonly number[], day: number, asOf: string | null,
): Promise<Set<number>> {
  if (channelIds.length === 0) return new Set()
  const { rows } = await db.query<{ channel_id: number }>(
    // A lateral limit, not exists(): a semi-join may be planned as a scan of the whole table.
    `select k.channel_id from unnest($1::int[]) as k(channel_id)
      cross join lateral (
            select 1 from channel_day d
             where d.channel_id = k.channel_id and d.day < $2::date
               and ($3::timestamptz is null or d.settled_at <= $3::timestamptz)
             order by d.day desc limit 1) d`,
    [intArray(channelIds), dayText(day), asOf])
  return new Set(rows.map((r) => r.channel_id))
}
