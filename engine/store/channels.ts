import { Quantity, type QuantityCode } from '../quantity.js'
import type { ChannelRef } from '../registry-map.js'
import type { FlowCode } from '../read-batch.js'
import { spansOf, type ChannelReach } from '../spans.js'
import { intArray } from './blocks.js'
import type { Queryable } from './db.js'

/** Channels: making them, locking them and the accounts that they count for, and which of several counts. */

/** A channel that stands in the database. */
export interface StoredChannel {
  meterId: number
  channelId: number
  quantity: QuantityCode
  flow: FlowCode
  intervalS: number
}

/**
 * Makes the channels that do not exist yet and fills in their ids. The meters are locked first, in id order, so that two
 * processes that make channels of one meter see each other's. Returns the channels made or found; the caller enters them
 * in the map after the commit.
 */
export async function makeChannels(
  db: Queryable, utilityId: number, refs: readonly ChannelRef[],
): Promise<StoredChannel[]> {
  const meterIds = [...new Set(refs.map((r) => r.meter.meterId))].sort((a, b) => a - b)
  await db.query('select 1 from meter where meter_id = any($1::int[]) order by meter_id for no key update', [intArray(meterIds)])
  const wanted = new Map<string, ChannelRef[]>()
  for (const r of refs) {
    const key = `${r.meter.meterId}|${r.quantity ?? Quantity.energy}|${r.flow}|${r.intervalS}`
    const list = wanted.get(key)
    if (list === undefined) wanted.set(key, [r])
    else list.push(r)
  }
  const distinct = [...wanted.values()].map((list) => list[0])
  await db.query(
    `insert into channel (utility_id, meter_id, quantity, flow, interval_s)
     select $1, meter_id, quantity, flow, interval_s
       from unnest($2::int[], $3::smallint[], $4::smallint[], $5::int[]) as n(meter_id, quantity, flow, interval_s)
      order by meter_id, quantity, flow, interval_s on conflict do nothing`,
    [utilityId, intArray(distinct.map((r) => r.meter.meterId)), intArray(distinct.map((r) => r.quantity ?? Quantity.energy)),
      intArray(distinct.map((r) => r.flow)), intArray(distinct.map((r) => r.intervalS))])
  const made = await readChannelsOf(db, meterIds)
  for (const c of made) {
    for (const ref of wanted.get(`${c.meterId}|${c.quantity}|${c.flow}|${c.intervalS}`) ?? []) ref.channelId = c.channelId
  }
  return made
}

/**
 * Marks the channels of these meters that are not alone any more as shared. Called with the channels locked, so that a
 * settler of the first channel and the maker of the second take turns. Returns the ids that became shared.
 */
export async function markShared(db: Queryable, meterIds: readonly number[]): Promise<number[]> {
  const { rows } = await db.query<{ channel_id: number }>(
    `update channel c set shared = true
      where c.meter_id = any($1::int[]) and not c.shared and exists (
        select from channel o where o.meter_id = c.meter_id and o.quantity = c.quantity and o.flow = c.flow
           and o.channel_id <> c.channel_id)
     returning c.channel_id`, [intArray(meterIds)])
  return rows.map((r) => r.channel_id)
}

/**
 * Locks accounts in id order: no other commit judges them until this one has ended, and what it wrote is seen by the next.
 *
 * Design §4 has it before the channels. It comes after the blocks here, and before the alerts: two deliveries that each
 * hold a meter of one account settle side by side then, and wait for each other only to judge. Locked first, the few
 * accounts of several meters kept a fleet's deliveries one behind the other (bench `thresholds`: one core of two). Nobody
 * who holds an account waits for a channel.
 * @param accountIds as an array's text
 */
export async function lockAccounts(db: Queryable, accountIds: string): Promise<void> {
  // Counted there: a row for each would cost more than the locks.
  await db.query(
    'select count(*) from (select 1 from account where account_id = any($1::int[]) order by account_id for no key update) locked', [accountIds])
}

/**
 * Locks the channels in id order (design §4) and says which are shared: their meter has several channels of that flow,
 * and channel_span decides which counts.
 * @param channelIds ascending
 */
export async function lockChannels(db: Queryable, channelIds: ArrayLike<number>): Promise<Set<number>> {
  // All are locked and only the few that are shared come back: a row for each would cost more than the locks.
  const { rows } = await db.query<{ shared: number[] | null }>(
    `select array_agg(channel_id) filter (where shared) as shared
       from (select channel_id, shared from channel where channel_id = any($1::int[])
              order by channel_id for no key update) locked`,
    [intArray(channelIds)])
  return new Set(rows[0].shared ?? [])
}

/**
 * The stored spans of shared channels, by channel id. null: the spans were never worked out, so the channel was alone and
 * counted always; an empty list: it is masked by its siblings and counts nowhere.
 */
export async function readSpans(db: Queryable, channelIds: readonly number[]): Promise<Map<number, [number, number][] | null>> {
  const { rows } = await db.query<{ channel_id: number; known: boolean; from_s: number | null; to_s: number | null }>(
    `select c.channel_id, c.first_at is not null as known, extract(epoch from s.from_at)::float8 as from_s,
            extract(epoch from s.to_at)::float8 as to_s
       from channel c left join channel_span s using (channel_id)
      where c.channel_id = any($1::int[]) order by 1, 3`, [intArray(channelIds)])
  const spans = new Map<number, [number, number][] | null>()
  for (const r of rows) {
    if (!r.known) spans.set(r.channel_id, null)
    else if (!spans.has(r.channel_id)) spans.set(r.channel_id, [])
    if (r.known && r.from_s !== null && r.to_s !== null) spans.get(r.channel_id)!.push([r.from_s, r.to_s])
  }
  return spans
}

/**
 * Works out anew, from the blocks that stand, how far shared channels reach and which counts when, and stores it.
 * @param groups channels by meter, quantity and flow, each group whole
 * @returns the new spans per channel id
 */
export async function settleSpans(
  db: Queryable, groups: readonly (readonly ChannelRef[])[],
): Promise<Map<number, [number, number][]>> {
  const refs = groups.flat()
  const ids = refs.map((r) => r.channelId)
  const { rows } = await db.query<{ channel_id: number; first_s: number | null; end_s: number | null }>(
    `select k.channel_id,
            (select extract(epoch from d.first_at)::float8 + d.interval_s
                    * ((select min(o) from unnest(d.vals) with ordinality as u(v, o) where v is not null) - 1)
               from channel_day d where d.channel_id = k.channel_id and d.present > 0 order by d.day limit 1) as first_s,
            (select extract(epoch from d.first_at)::float8 + d.interval_s
                    * (select max(o) from unnest(d.vals) with ordinality as u(v, o) where v is not null)
               from channel_day d where d.channel_id = k.channel_id and d.present > 0 order by d.day desc limit 1) as end_s
       from unnest($1::int[]) as k(channel_id)`, [intArray(ids)])
  const reach = new Map(rows.map((r) => [r.channel_id, r]))
  const spans = new Map<number, [number, number][]>()
  for (const group of groups) {
    const reaches: ChannelReach[] = group.map((c) => ({
      channelId: c.channelId, flow: c.flow, intervalS: c.intervalS,
      firstS: reach.get(c.channelId)?.first_s ?? null, endS: reach.get(c.channelId)?.end_s ?? null,
    }))
    for (const [id, list] of spansOf(reaches)) spans.set(id, list)
  }
  const flat = refs.flatMap((r) => (spans.get(r.channelId) ?? []).map(([from, to]) => ({ r, from, to })))
  await db.query('delete from channel_span where channel_id = any($1::int[])', [intArray(ids)])
  await db.query(
    `insert into channel_span (channel_id, meter_id, quantity, flow, from_at, to_at)
     select channel_id, meter_id, quantity, flow, to_timestamp(from_s), to_timestamp(to_s)
       from unnest($1::int[], $2::int[], $3::smallint[], $4::smallint[], $5::float8[], $6::float8[])
         as s(channel_id, meter_id, quantity, flow, from_s, to_s)`,
    [flat.map((f) => f.r.channelId), flat.map((f) => f.r.meter.meterId), flat.map((f) => f.r.quantity ?? Quantity.energy),
      flat.map((f) => f.r.flow), flat.map((f) => f.from), flat.map((f) => f.to)])
  await db.query(
    `update channel c set first_at = to_timestamp(r.first_s), last_end = to_timestamp(r.end_s)
       from unnest($1::int[], $2::float8[], $3::float8[]) as r(channel_id, first_s, end_s) where c.channel_id = r.channel_id`,
    [ids, ids.map((id) => reach.get(id)?.first_s ?? null), ids.map((id) => reach.get(id)?.end_s ?? null)])
  return spans
}

/** Every channel of these meters, also those that another process made and the map does not know yet. */
export async function readChannelsOf(
  db: Queryable, meterIds: readonly number[],
): Promise<StoredChannel[]> {
  const { rows } = await db.query<StoredChannel>(
    `select channel_id as "channelId", meter_id as "meterId", quantity, flow, interval_s as "intervalS" from channel
      where meter_id = any($1::int[]) order by channel_id`, [intArray(meterIds)])
  return rows
}
