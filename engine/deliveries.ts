import { RECEIPT_COLUMNS, receiptOf, type Receipt, type ReceiptRow } from './receipt.js'
import type { Queryable } from './store/db.js'

/** A delivery as answers show it: its receipt and where it came from. */
export interface DeliveryView extends Receipt {
  kind: string
  door: string
  format: string | null
  history: boolean
  idempotencyKey: string | null
  bytes: number
  /** Of the body, hexadecimal. */
  sha256: string | null
  acceptedAt: string
  settledAt: string | null
  withdrawnAt: string | null
  /** The messages that it is of; null for any other door. */
  kafka: KafkaRange | null
}

/** Offsets of the batch of messages that a delivery was read from, both included; another utility's may be among them. */
export interface KafkaRange {
  topic: string
  partition: number
  from: number
  to: number
}

/** Which deliveries are asked for. */
export interface DeliveryQuery {
  readonly utilityId: number
  /** Names of the sources that the caller may see; null: all of the utility's. */
  readonly sources: readonly string[] | null
  readonly source: string | null
  readonly idempotencyKey: string | null
  /** Accepted at or after, milliseconds. */
  readonly fromMs: number | null
  /** Those that come after this one in the list. */
  readonly after: { acceptedAt: string; id: string } | null
  readonly limit: number
}

interface Row extends ReceiptRow {
  kind: string
  door: string
  format: string | null
  history: boolean
  idempotency_key: string | null
  bytes: number
  sha256: Buffer | null
  accepted_at: Date
  accepted_text: string
  settled_at: Date | null
  withdrawn_at: Date | null
  kafka_topic: string | null
  kafka_partition: number
  first_offset: number
  next_offset: number
  zone: string | null
}

const SELECT = `
  select ${RECEIPT_COLUMNS}, d.kind, d.door, d.format, d.history, d.idempotency_key, d.bytes, d.sha256, d.accepted_at,
         d.accepted_at::text as accepted_text, d.settled_at, d.withdrawn_at, d.kafka_topic, d.kafka_partition, d.first_offset,
         d.next_offset, u.zone
    from delivery d join source s using (source_id) join utility u on u.utility_id = d.utility_id`

/** A row of the list with its place in it. */
export interface ListedDelivery {
  readonly view: DeliveryView
  readonly place: { acceptedAt: string; id: string }
}

/** Deliveries, newest first. */
export async function listDeliveries(db: Queryable, query: DeliveryQuery): Promise<ListedDelivery[]> {
  const { rows } = await db.query<Row>(
    `${SELECT}
      where d.utility_id = $1 and ($2::text[] is null or s.name = any($2)) and ($3::text is null or s.name = $3)
        and ($4::text is null or d.idempotency_key = $4) and ($5::float8 is null or d.accepted_at >= to_timestamp($5 / 1000))
        and ($6::timestamptz is null or (d.accepted_at, d.delivery_id) < ($6, $7::uuid))
      order by d.accepted_at desc, d.delivery_id desc limit $8`,
    [query.utilityId, query.sources, query.source, query.idempotencyKey, query.fromMs, query.after?.acceptedAt ?? null,
      query.after?.id ?? null, query.limit])
  return rows.map((row) => ({ view: viewOf(row), place: { acceptedAt: row.accepted_text, id: row.delivery_id } }))
}

/** The delivery of this id, if it is the utility's and of one of the sources; undefined also for what is no UUID. */
export async function findDelivery(
  db: Queryable, utilityId: number, id: string, sources: readonly string[] | null,
): Promise<DeliveryView | undefined> {
  const ms = acceptedMs(id)
  if (ms === undefined) return undefined
  const { rows } = await db.query<Row>(
    `${SELECT}
      where d.delivery_id = $1 and d.accepted_at between to_timestamp($2::float8 / 1000 - 1) and to_timestamp($2::float8 / 1000 + 1)
        and d.utility_id = $3 and ($4::text[] is null or s.name = any($4))`, [id, ms, utilityId, sources])
  return rows.length === 0 ? undefined : viewOf(rows[0])
}

/** Milliseconds since the epoch in a UUIDv7: they name the partition that the delivery stands in. */
function acceptedMs(id: string): number | undefined {
  if (!/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(id)) return undefined
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)
}

function viewOf(row: Row): DeliveryView {
  return {
    ...receiptOf(row, row.zone),
    kind: row.kind,
    door: row.door,
    format: row.format,
    history: row.history,
    idempotencyKey: row.idempotency_key,
    bytes: row.bytes,
    sha256: row.sha256?.toString('hex') ?? null,
    acceptedAt: row.accepted_at.toISOString(),
    settledAt: row.settled_at?.toISOString() ?? null,
    withdrawnAt: row.withdrawn_at?.toISOString() ?? null,
    kafka: row.kafka_topic === null
      ? null : { topic: row.kafka_topic, partition: row.kafka_partition, from: row.first_offset, to: row.next_offset - 1 },
  }
}

/** A record that waits in quarantine. */
export interface QuarantineView {
  id: number
  at: string
  reason: string
  message: string
  place: string | null
  source: string
  meter: string | null
  reads: number
  format: string | null
  /** The record as a JSON block where it could be decoded. */
  record: unknown
  /** What the source wrote, as text, the first 2000 characters, where it could not. */
  raw: string | null
}

export interface QuarantineQuery {
  readonly utilityId: number
  readonly reason: string | null
  readonly source: string | null
  readonly meter: string | null
  readonly before: number | null
  readonly limit: number
}

/** Records in quarantine that have not settled, newest first. */
export async function listQuarantine(db: Queryable, query: QuarantineQuery): Promise<QuarantineView[]> {
  const { rows } = await db.query<Omit<QuarantineView, 'at' | 'raw'> & { at: Date; raw: Buffer | null }>(
    `select q.quarantine_id as id, q.at, q.reason, q.message, q.place, s.name as source, q.meter, q.reads, q.format,
            q.record, case when q.record is null then substring(q.raw for 8000) end as raw
       from quarantine q join source s using (source_id)
      where q.utility_id = $1 and q.settled_by is null and ($2::text is null or q.reason = $2)
        and ($3::text is null or s.name = $3) and ($4::text is null or q.meter = $4)
        and ($5::bigint is null or q.quarantine_id < $5)
      order by q.quarantine_id desc limit $6`,
    [query.utilityId, query.reason, query.source, query.meter, query.before, query.limit])
  return rows.map((row) => ({
    ...row,
    at: row.at.toISOString(),
    record: typeof row.record === 'string' ? parsed(row.record) : null,
    raw: row.raw === null ? null : row.raw.toString('utf8').slice(0, 2000),
  }))
}

function parsed(record: string): unknown {
  try {
    return JSON.parse(record)
  } catch {
    return record
  }
}

