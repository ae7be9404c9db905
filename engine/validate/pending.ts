import { arrayParsers } from '../store/array-text.js'
import type { Queryable } from '../store/db.js'
import { dayNumber, dayText } from '../time/text.js'

/** Channels in one row: a delivery of the whole fleet adds some dozens of rows. */
const ROW_CHANNELS = 1000

/** Leaves channel-days to validation, in the transaction that changes them. A channelId of 0 is none. */
export async function enqueuePending(
  db: Queryable, utilityId: number, changed: Iterable<{ channelId: number; day: number }>,
): Promise<void> {
  const open = new Map<number, number[]>()
  const rows: { day: number; channels: number[] }[] = []
  for (const { channelId, day } of changed) {
    if (channelId <= 0) continue
    let channels = open.get(day)
    if (channels === undefined || channels.length === ROW_CHANNELS) {
      open.set(day, channels = [])
      rows.push({ day, channels })
    }
    channels.push(channelId)
  }
  if (rows.length === 0) return
  await db.query(
    `insert into vee_pending (utility_id, day, channel_ids)
     select $1, day, channels::int[] from unnest($2::date[], $3::text[]) as p(day, channels)`,
    [utilityId, rows.map((r) => dayText(r.day)), rows.map((r) => `{${r.channels.join(',')}}`)])
}

/** Rows taken in one transaction, and the channel-days that end a batch. */
const ROWS_AT_A_TIME = 1024
const DAYS_AT_A_TIME = 4_000

/**
 * Takes some of what waits, for good once the transaction commits: days by channel, of as few channels as may be. The
 * caller holds the utility's validation lock, so that nobody else judges the same days at the same time.
 */
export async function takePending(db: Queryable, utilityId: number): Promise<Map<number, Set<number>>> {
  const { rows } = await db.query<{ day: string; channel_ids: Int32Array }>({
    text: `delete from vee_pending where pending_id in (
             select pending_id from (
               select pending_id, sum(cardinality(channel_ids)) over (order by channel_ids[1], pending_id) - cardinality(channel_ids) as before
                 from (select * from vee_pending where utility_id = $1 order by channel_ids[1], pending_id limit ${ROWS_AT_A_TIME}) w) b
              where before < ${DAYS_AT_A_TIME})
           returning day, channel_ids`,
    values: [utilityId], types: arrayParsers })
  const taken = new Map<number, Set<number>>()
  for (const { day, channel_ids } of rows) {
    const number = dayNumber(day)
    for (const id of channel_ids) {
      const days = taken.get(id)
      if (days === undefined) taken.set(id, new Set([number]))
      else days.add(number)
    }
  }
  return taken
}

/**
 * Which of the days after the taken ones still wait themselves, of the channels taken: keys as {@link dayKey} gives them.
 * @param reach days to look ahead
 */
export async function stillPending(
  db: Queryable, utilityId: number, taken: ReadonlyMap<number, ReadonlySet<number>>, reach: number,
): Promise<Set<number>> {
  const wanted = new Set<number>()
  for (const days of taken.values()) for (const day of days) for (let d = day + 1; d <= day + reach; d++) wanted.add(d)
  const { rows } = await db.query<{ day: string; channel_ids: Int32Array }>({
    text: 'select day, channel_ids from vee_pending where utility_id = $1 and day = any($2::date[])',
    values: [utilityId, `{${[...wanted].map(dayText).join(',')}}`], types: arrayParsers })
  const keys = new Set<number>()
  for (const { day, channel_ids } of rows) {
    const number = dayNumber(day)
    for (const id of channel_ids) if (taken.has(id)) keys.add(dayKey(id, number))
  }
  return keys
}

/** A channel's day as one number. */
export function dayKey(channelId: number, day: number): number {
  return channelId * 65_536 + day
}
