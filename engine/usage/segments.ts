import { Quantity, type QuantityCode } from '../quantity.js'
import type { FlowCode } from '../read-batch.js'
import type { Queryable } from '../store/db.js'

/**
 * A stretch of time in which a channel counts for an account: the meter is `main`, assigned to the account, and the
 * channel is the one that counts (channel_span). A slot belongs to the segment when its start lies in [fromS, toS).
 */
export interface Segment {
  accountId: number
  meterId: number
  meter: string
  channelId: number
  flow: FlowCode
  intervalS: number
  /** Epoch seconds, inclusive; -Infinity where open. */
  fromS: number
  /** Epoch seconds, exclusive; Infinity where open. */
  toS: number
}

interface Row {
  account_id: number
  meter_id: number
  meter: string
  channel_id: number
  flow: FlowCode
  interval_s: number
  from_s: number | null
  to_s: number | null
}

/**
 * Joins the spans of channel c as s; from_at and to_at are null where the span is open. Spans begin and end with reads, and
 * between two of them, or before the first and after the last, no channel has any. The channel that read last is taken to
 * count on until another does, and the first to count from ever, as a channel without siblings does: the flow is metered
 * all the time, and reads that fail to come are missing.
 */
export const SPANS = `
  left join lateral (
       select sp.channel_id,
              case when exists (select from channel_span b
                                 where b.meter_id = sp.meter_id and b.quantity = sp.quantity and b.flow = sp.flow and b.from_at < sp.from_at)
                   then sp.from_at end as from_at,
              (select min(n.from_at) from channel_span n
                where n.meter_id = sp.meter_id and n.quantity = sp.quantity and n.flow = sp.flow and n.from_at >= sp.to_at) as to_at
         from channel_span sp where sp.channel_id = c.channel_id) s on c.shared`

const SELECT = `
  select a.account_id, m.meter_id, m.id as meter, c.channel_id, c.flow, c.interval_s,
         extract(epoch from greatest(a.from_at, s.from_at))::float8 as from_s,
         extract(epoch from least(a.to_at, s.to_at))::float8 as to_s
    from meter_assignment a
    join meter m using (meter_id)
    join channel c on c.meter_id = m.meter_id and c.quantity = 1
    ${SPANS}
   where m.role = 'main'
     and (not c.shared or s.channel_id is not null)
     and (s.channel_id is null or tstzrange(a.from_at, a.to_at) && tstzrange(s.from_at, s.to_at))`

/** Segments of main meters for the accounts, ordered by account, meter, channel and start. */
export async function loadSegments(db: Queryable, accountIds: number[]): Promise<Segment[]> {
  const { rows } = await db.query<Row>(
    `${SELECT} and a.account_id = any($1::int[]) order by 1, 2, 4, from_s nulls first`, [accountIds])
  return rows.map(toSegment)
}

function toSegment(r: Row): Segment {
  return {
    accountId: r.account_id,
    meterId: r.meter_id,
    meter: r.meter,
    channelId: r.channel_id,
    flow: r.flow,
    intervalS: r.interval_s,
    fromS: r.from_s ?? -Infinity,
    toS: r.to_s ?? Infinity,
  }
}

/** A stretch of time, epoch seconds: fromS inclusive, toS exclusive; infinite where open. */
export interface TimeWindow {
  readonly fromS: number
  readonly toS: number
}

/**
 * Segments of one meter, whatever its role: its channels where they count, cut to the windows that the caller may see.
 * The account is 0: who was served does not matter here.
 */
export async function loadMeterSegments(
  db: Queryable, meterId: number, windows: readonly TimeWindow[], quantity: QuantityCode = Quantity.energy,
): Promise<Segment[]> {
  const { rows } = await db.query<Row>(
    `select 0 as account_id, m.meter_id, m.id as meter, c.channel_id, c.flow, c.interval_s,
            extract(epoch from s.from_at)::float8 as from_s, extract(epoch from s.to_at)::float8 as to_s
       from meter m
       join channel c on c.meter_id = m.meter_id and c.quantity = $2
       ${SPANS}
      where m.meter_id = $1 and (not c.shared or s.channel_id is not null)
      order by c.channel_id, from_s nulls first`, [meterId, quantity])
  return rows.map(toSegment).flatMap((s) => windows
    .map((w) => ({ ...s, fromS: Math.max(s.fromS, w.fromS), toS: Math.min(s.toS, w.toS) }))
    .filter((cut) => cut.fromS < cut.toS))
}
