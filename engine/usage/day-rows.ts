import { arrayParsers } from '../store/array-text.js'
import { blockColumns, blockOf, intArray, type BlockRow } from '../store/blocks.js'
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

// Plain conditions on the key, so that partitions are pruned when the statement is planned and each row that is read is
// a row that was asked for.
export const DAY_ROWS_SQL = `
  select channel_id, day - date '1970-01-01' as day, extract(epoch from first_at)::float8 as first_s, interval_s, exponent,
         total, peak, peak_slot, present, estimated, (extract(epoch from restated_at) * 1000000)::int8 as restated_us,
         case when $4 or day = any($5::date[]) then vals end as vals,
         case when $4 or day = any($5::date[]) then lane end as lane
    from channel_day
   where channel_id = any($1::int[]) and day >= $2::date and day < $3::date`

type Row = Omit<BlockRow, 'vals' | 'version' | 'versions' | 'delivery_no' | 'settled_us'> & { vals: Int32Array | null }

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
  const { rows } = await db.query<Row>({
    text: DAY_ROWS_SQL, values: dayRowsParameters(channelIds, fromDay, toDay, slots), types: arrayParsers,
  })
  return rows.map(dayRowOf)
}

function dayRowOf(row: Row): DayRow {
  return {
    channelId: row.channel_id,
    day: row.day,
    firstS: row.first_s,
    intervalS: row.interval_s,
    exponent: row.exponent,
    total: row.total,
    peak: row.peak ?? 0,
    peakSlot: row.peak_slot ?? -1,
    present: row.present,
    estimated: row.estimated,
    restatedAtUs: row.restated_us ?? 0,
    vals: row.vals,
    lane: row.lane,
  }
}

/** Whole blocks of the channels in [fromDay, toDay). @param asOf RFC 3339: only those created by then */
export async function loadBlocks(
  db: Queryable, channelIds: readonly number[], fromDay: number, toDay: number, asOf: string | null,
): Promise<Block[]> {
  if (channelIds.length === 0 || fromDay >= toDay) return []
  const { rows } = await db.query<BlockRow>({
    text: `select ${blockColumns('d')} from channel_day d
            where channel_id = any($1::int[]) and day >= $2::date and day < $3::date
              and ($4::timestamptz is null or settled_at <= $4::timestamptz)`,
    values: [intArray(channelIds), dayText(fromDay), dayText(toDay), asOf], types: arrayParsers,
  })
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
  const { rows } = await db.query<Row>({
    text: `select ${blockColumns('c')}
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
    types: arrayParsers,
  })
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
