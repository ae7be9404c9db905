import { MISSING } from '../read-batch.js'
import type { Block, SlotRecord } from '../settle.js'
import { arrayParsers } from './array-text.js'
import { CopyWriter } from './copy.js'
import type { Client } from './db.js'

/** The day blocks: reading what stands, writing new and changed ones, and their revisions. */

const COLUMNS = ['channel_id', 'day', 'first_at', 'interval_s', 'exponent', 'total', 'peak', 'peak_slot', 'present',
  'estimated', 'version', 'delivery_no', 'settled_at', 'restated_at', 'vals', 'lane', 'versions'] as const

/** Key of a block in a map: channel and day as one number. */
export function blockKey(channelId: number, day: number): number {
  return channelId * 65_536 + day
}

/** The select list of a whole block; read it with {@link arrayParsers} and {@link blockOf}. @param t alias of channel_day */
export function blockColumns(t: string): string {
  return `${t}.channel_id, ${t}.day - date '1970-01-01' as day, extract(epoch from ${t}.first_at)::float8 as first_s,
    ${t}.interval_s, ${t}.exponent, ${t}.total, ${t}.peak, ${t}.peak_slot, ${t}.present, ${t}.estimated, ${t}.version,
    ${t}.delivery_no, (extract(epoch from ${t}.settled_at) * 1000000)::int8 as settled_us,
    (extract(epoch from ${t}.restated_at) * 1000000)::int8 as restated_us, ${t}.vals, ${t}.lane, ${t}.versions`
}

export interface BlockRow {
  channel_id: number
  day: number
  first_s: number
  interval_s: number
  exponent: number
  total: number
  peak: number | null
  peak_slot: number | null
  present: number
  estimated: number
  version: number
  delivery_no: number
  settled_us: number
  restated_us: number | null
  vals: Int32Array
  lane: Int16Array | null
  versions: Float64Array | null
}

const SELECT = `
  select ${blockColumns('c')}
    from unnest($1::int[], $2::date[]) as k(channel_id, day)
    join channel_day c on c.channel_id = k.channel_id and c.day = k.day
   where c.day between date '1970-01-01' + $3::int and date '1970-01-01' + $4::int`

/**
 * The stored blocks among the channel-days asked for, by blockKey(). Plain reads: the caller holds the channels' locks.
 * @param days days since 1970-01-01, beside channelIds
 */
export async function readBlocks(client: Client, channelIds: number[], days: number[]): Promise<Map<number, Block>> {
  const found = new Map<number, Block>()
  if (channelIds.length === 0) return found
  const { rows } = await client.query<BlockRow>({
    text: SELECT, values: [intArray(channelIds), dateArray(days), ...bounds(days)], types: arrayParsers,
  })
  for (const row of rows) found.set(blockKey(row.channel_id, row.day), blockOf(row))
  return found
}

/** The block of a row that was read with {@link blockColumns}. */
export function blockOf(row: BlockRow): Block {
  return {
    channelId: row.channel_id,
    day: row.day,
    firstS: row.first_s,
    intervalS: row.interval_s,
    exponent: row.exponent,
    vals: row.vals,
    lane: row.lane,
    version: row.version,
    versions: row.versions,
    present: row.present,
    estimated: row.estimated,
    total: row.total,
    peak: row.peak ?? 0,
    peakSlot: row.peak_slot ?? -1,
    deliveryNo: row.delivery_no,
    settledAtUs: row.settled_us,
    restatedAtUs: row.restated_us ?? 0,
  }
}

/** Inserts blocks that do not stand yet, by binary COPY. The caller gives them in key order. */
export async function insertBlocks(client: Client, blocks: readonly Block[]): Promise<void> {
  if (blocks.length > 0) await copyBlocks(client, 'channel_day', blocks)
}

/** Replaces blocks that stand: staged, then merged in key order (design §4; UPDATE … FROM fails on compressed chunks). */
export async function updateBlocks(client: Client, blocks: readonly Block[]): Promise<void> {
  if (blocks.length === 0) return
  await client.query(
    'create temp table if not exists channel_day_stage (like channel_day including defaults) on commit delete rows')
  await copyBlocks(client, 'channel_day_stage', blocks)
  const set = COLUMNS.slice(2).map((c) => `${c} = excluded.${c}`).join(', ')
  await client.query(
    `insert into channel_day (${COLUMNS.join(', ')}) select ${COLUMNS.join(', ')} from channel_day_stage
      order by channel_id, day on conflict (channel_id, day) do update set ${set}`)
  // Not truncate, which writes to the catalog each time; what is deleted here goes at the commit.
  await client.query('delete from channel_day_stage')
}

async function copyBlocks(client: Client, table: string, blocks: readonly Block[]): Promise<void> {
  const copy = new CopyWriter(client, table, COLUMNS)
  try {
    for (const b of blocks) {
      const bytes = 320 + b.vals.length * 26
      if (copy.mustWait(bytes)) await copy.row(COLUMNS.length, bytes)
      else copy.rowNow(COLUMNS.length)
      copy.int4(b.channelId)
      copy.date(b.day)
      copy.instantS(b.firstS)
      copy.int4(b.intervalS)
      copy.int2(b.exponent)
      copy.int8(b.total)
      if (b.present === 0) copy.null()
      else copy.int4(b.peak)
      if (b.present === 0) copy.null()
      else copy.int2(b.peakSlot)
      copy.int2(b.present)
      copy.int2(b.estimated)
      copy.int8(b.version)
      copy.int8(b.deliveryNo)
      copy.instantUs(b.settledAtUs)
      if (b.restatedAtUs === 0) copy.null()
      else copy.instantUs(b.restatedAtUs)
      copy.int4Array(b.vals, MISSING)
      if (b.lane === null) copy.null()
      else copy.int2Array(b.lane)
      if (b.versions === null) copy.null()
      else copy.int8Array(b.versions)
    }
  } catch (err) {
    copy.abort(err instanceof Error ? err : new Error(String(err)))
    throw err
  }
  await copy.end()
}

/** kind of a revision row, see migration 0001 */
export const RevisionKind = { merged: 1, outranked: 2, withdrawn: 3 } as const

export interface Revision {
  channelId: number
  day: number
  kind: (typeof RevisionKind)[keyof typeof RevisionKind]
  deliveryNo: number
  slots: SlotRecord
}

const REVISION_COLUMNS = ['channel_id', 'day', 'at', 'kind', 'delivery_no', 'slots', 'exponent', 'old_vals', 'old_lane',
  'old_versions']

/** Writes revision rows by binary COPY, all at the instant given (microseconds). */
export async function insertRevisions(client: Client, revisions: readonly Revision[], atUs: number): Promise<void> {
  if (revisions.length === 0) return
  const copy = new CopyWriter(client, 'revision', REVISION_COLUMNS)
  try {
    for (const r of revisions) {
      const s = r.slots
      const bytes = 256 + s.slots.length * 40
      if (copy.mustWait(bytes)) await copy.row(REVISION_COLUMNS.length, bytes)
      else copy.rowNow(REVISION_COLUMNS.length)
      copy.int4(r.channelId)
      copy.date(r.day)
      copy.instantUs(atUs)
      copy.int2(r.kind)
      copy.int8(r.deliveryNo)
      copy.int2Array(s.slots)
      copy.int2(s.exponent)
      const allMissing = s.vals.every((v) => v === MISSING)
      if (allMissing) copy.null()
      else copy.int4Array(s.vals, MISSING)
      if (allMissing || s.lanes.every((l) => l === 0)) copy.null()
      else copy.int2Array(s.lanes)
      if (allMissing) copy.null()
      else copy.int8Array(s.versions)
    }
  } catch (err) {
    copy.abort(err instanceof Error ? err : new Error(String(err)))
    throw err
  }
  await copy.end()
}

/** int4[] as text: pg's own array encoding is slow for tens of thousands of elements. */
export function intArray(values: ArrayLike<number>): string {
  return `{${Array.prototype.join.call(values, ',')}}`
}

function dateArray(days: readonly number[]): string {
  const cache = new Map<number, string>()
  const texts = new Array<string>(days.length)
  for (let i = 0; i < days.length; i++) {
    let text = cache.get(days[i])
    if (text === undefined) {
      text = new Date(days[i] * 86_400_000).toISOString().slice(0, 10)
      cache.set(days[i], text)
    }
    texts[i] = text
  }
  return `{${texts.join(',')}}`
}

/** First and last of the days: with them the planner leaves out the other partitions. */
function bounds(days: readonly number[]): [number, number] {
  let first = Infinity
  let last = -Infinity
  for (const day of days) {
    if (day < first) first = day
    if (day > last) last = day
  }
  return [first, last]
}

/** A revision as it was written; see migration 0001. */
export interface StoredRevision {
  channelId: number
  day: number
  kind: number
  deliveryNo: number
  slots: SlotRecord
}

/**
 * Revisions of the channel-days asked for, oldest first within each: in the order of their commits, which the sequence
 * has, as it is drawn under the channel's lock; the clocks of several machines may differ.
 */
export async function readRevisions(client: Client, channelIds: number[], days: number[]): Promise<StoredRevision[]> {
  const { rows } = await client.query<{
    channel_id: number; day: number; kind: number; delivery_no: number; slots: number[]; exponent: number
    old_vals: (number | null)[] | null; old_lane: number[] | null; old_versions: string[] | null
  }>(
    `select r.channel_id, r.day - date '1970-01-01' as day, r.kind, r.delivery_no, r.slots::int[] as slots, r.exponent,
            r.old_vals, r.old_lane::int[] as old_lane, r.old_versions::text[] as old_versions
       from unnest($1::int[], $2::date[]) as k(channel_id, day)
       join revision r on r.channel_id = k.channel_id and r.day = k.day
      order by r.channel_id, r.day, r.seq`, [intArray(channelIds), dateArray(days)])
  return rows.map((r) => ({
    channelId: r.channel_id, day: r.day, kind: r.kind, deliveryNo: r.delivery_no,
    slots: {
      slots: r.slots, exponent: r.exponent,
      vals: r.slots.map((_, i) => r.old_vals?.[i] ?? MISSING),
      lanes: r.slots.map((_, i) => r.old_lane?.[i] ?? 0),
      versions: r.slots.map((_, i) => Number(r.old_versions?.[i] ?? 0)),
    },
  }))
}

/** Channel-days that a delivery made or merged into. A scan of the days it reached: withdrawing is rare. */
export async function blocksOfDelivery(
  client: Client, deliveryNo: number, fromDay: number, toDay: number, settledFrom: Date, settledTo: Date,
): Promise<{ channelId: number; day: number }[]> {
  const { rows } = await client.query<{ channel_id: number; day: number }>(
    `select channel_id, day - date '1970-01-01' as day from (
       select channel_id, day from channel_day
        where day between date '1970-01-01' + $2::int and date '1970-01-01' + $3::int and delivery_no = $1
       union
       select channel_id, day from revision where delivery_no = $1 and at between $4 and $5) b
      order by channel_id, day`, [deliveryNo, fromDay, toDay, settledFrom, settledTo])
  return rows.map((r) => ({ channelId: r.channel_id, day: r.day }))
}
