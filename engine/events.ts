import type { Queryable } from './store/db.js'
import { instantText } from './time/text.js'
import type { Zone } from './time/zone.js'

/** Kinds that have a meaning here; a head-end may send others, which are kept and shown. */
export const eventKinds = ['power-down', 'power-up', 'tamper', 'cover-open', 'reverse-flow', 'low-battery', 'clock-change'] as const

/** Something that a meter reported. */
export interface MeterEvent {
  /** Public id or alias. */
  readonly meter: string
  /** One of {@link eventKinds} or the head-end's own word: lower case, at most 60 characters. */
  readonly kind: string
  /** Epoch seconds. */
  readonly atS: number
  /** What else was said; no personal data. */
  readonly details?: Readonly<Record<string, unknown>>
}

/** Where events came from. */
export interface EventOrigin {
  readonly utilityId: number
  readonly source: string
  /** The delivery that carried them; null where they came by POST /v1/events. */
  readonly deliveryId: string | null
  readonly now: Date
}

/** received = stored + duplicate. */
export interface EventReceipt {
  received: number
  stored: number
  duplicate: number
}

/**
 * Stores a batch in the caller's transaction; an event that is known (meter, kind, instant) does nothing. Events of
 * unknown meters are kept under the id that was sent. One statement, whatever the size of the batch.
 */
export async function storeEvents(db: Queryable, origin: EventOrigin, events: readonly MeterEvent[]): Promise<EventReceipt> {
  if (events.length === 0) return { received: 0, stored: 0, duplicate: 0 }
  const { rowCount } = await db.query(
    `insert into meter_event (utility_id, meter, meter_id, kind, at, source, delivery_id, details, received_at)
     select $1, coalesce(m.id, e.meter), m.meter_id, e.kind, to_timestamp(e.at_s), $2, $3, e.details::jsonb, $4
       from unnest($5::text[], $6::text[], $7::float8[], $8::text[])
            with ordinality as e(meter, kind, at_s, details, n)
       left join meter_alias a on a.utility_id = $1 and a.alias = e.meter
       left join meter m on m.utility_id = $1
        and m.meter_id = coalesce((select meter_id from meter where utility_id = $1 and id = e.meter), a.meter_id)
      -- In one order, so that two batches with the same events do not wait for each other in a circle; of equal ones the first stays.
      order by 2, 4, 5, e.n
     on conflict (utility_id, meter, kind, at) do nothing`,
    [origin.utilityId, origin.source, origin.deliveryId, origin.now, events.map((e) => e.meter), events.map((e) => e.kind),
      events.map((e) => e.atS), events.map((e) => JSON.stringify(e.details ?? {}))])
  const stored = rowCount ?? 0
  return { received: events.length, stored, duplicate: events.length - stored }
}

export interface MeterEventView {
  id: number
  meter: string
  registered: boolean
  kind: string
  at: string
  source: string
  delivery: string | null
  details: Record<string, unknown>
}

export interface EventFilter {
  readonly limit: number
  readonly meter?: string
  readonly kind?: string
  /** Epoch seconds, inclusive and exclusive. */
  readonly fromS?: number
  readonly toS?: number
  /** Sources that the caller may see; null: all. */
  readonly sources: readonly string[] | null
  /** Id of the last event seen. */
  readonly before?: number
}

interface Row {
  event_id: number
  meter: string
  meter_id: number | null
  kind: string
  at_s: number
  source: string
  delivery_id: string | null
  details: Record<string, unknown>
}

/** One more than a page of the utility's events, those that arrived last first. */
export async function listEvents(db: Queryable, utilityId: number, filter: EventFilter, zone: Zone): Promise<MeterEventView[]> {
  const { rows } = await db.query<Row>(
    `select event_id, meter, meter_id, kind, extract(epoch from at)::float8 as at_s, source, delivery_id, details
       from meter_event
      where utility_id = $1 and ($2::text is null or meter = $2) and ($3::text is null or kind = $3)
        and ($4::float8 is null or at >= to_timestamp($4::float8)) and ($5::float8 is null or at < to_timestamp($5::float8))
        and ($6::text[] is null or source = any($6)) and ($7::bigint is null or event_id < $7)
      order by event_id desc limit $8`,
    [utilityId, filter.meter ?? null, filter.kind ?? null, filter.fromS ?? null, filter.toS ?? null, filter.sources,
      filter.before ?? null, filter.limit + 1])
  return rows.map((r) => ({
    id: r.event_id, meter: r.meter, registered: r.meter_id !== null, kind: r.kind, at: instantText(r.at_s, zone),
    source: r.source, delivery: r.delivery_id, details: r.details,
  }))
}
