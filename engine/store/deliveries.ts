import type { RecordProblem } from '../problem.js'
import { RECEIPT_COLUMNS, receiptOf, type Receipt, type ReceiptRow } from '../receipt.js'
import type { Client, Queryable } from './db.js'

/** Deliveries: their claims, their rows, their receipts, and what was quarantined of them. */

export interface IdempotencyClaim {
  sourceId: number
  key: string
  sha256: Buffer
  deliveryId: string
}

/**
 * Claims idempotency keys in key order. Returns, per claim, null when it is ours, else the claim that stands
 * (another process's uncommitted claim is waited for).
 */
export async function claimKeys(
  client: Client, utilityId: number, claims: readonly IdempotencyClaim[],
): Promise<Map<string, { deliveryId: string; sha256: Buffer } | null>> {
  const result = new Map<string, { deliveryId: string; sha256: Buffer } | null>()
  if (claims.length === 0) return result
  const sorted = [...claims].sort((a, b) => a.sourceId - b.sourceId || (a.key < b.key ? -1 : 1))
  const mine = await client.query<{ source_id: number; key: string }>(
    `insert into idempotency (utility_id, source_id, key, sha256, delivery_id)
     select $1, source_id, key, sha256, delivery_id
       from unnest($2::int[], $3::text[], $4::bytea[], $5::uuid[]) as c(source_id, key, sha256, delivery_id)
         on conflict do nothing returning source_id, key`,
    [utilityId, sorted.map((c) => c.sourceId), sorted.map((c) => c.key), sorted.map((c) => c.sha256),
      sorted.map((c) => c.deliveryId)])
  for (const row of mine.rows) result.set(claimId(row.source_id, row.key), null)
  const others = sorted.filter((c) => !result.has(claimId(c.sourceId, c.key)))
  if (others.length > 0) {
    const { rows } = await client.query<{ source_id: number; key: string; delivery_id: string; sha256: Buffer }>(
      `select i.source_id, i.key, i.delivery_id, i.sha256
         from idempotency i join unnest($2::int[], $3::text[]) as c(source_id, key) using (source_id, key)
        where i.utility_id = $1`, [utilityId, others.map((c) => c.sourceId), others.map((c) => c.key)])
    for (const r of rows) result.set(claimId(r.source_id, r.key), { deliveryId: r.delivery_id, sha256: r.sha256 })
  }
  return result
}

/** Key of a claim in {@link claimKeys}' answer. */
export function claimId(sourceId: number, key: string): string {
  return `${sourceId}|${key}`
}

/** Points a claim at the delivery that takes up where an interrupted one stopped. */
export async function retakeKey(
  client: Client, utilityId: number, sourceId: number, key: string, deliveryId: string,
): Promise<void> {
  await client.query('update idempotency set delivery_id = $4, at = now() where utility_id = $1 and source_id = $2 and key = $3',
    [utilityId, sourceId, key, deliveryId])
}

/**
 * The versions that these bodies keep: the version of the first delivery of an identical body from the same source (C4),
 * else the one offered, which is claimed. In the order given.
 */
export async function claimVersions(
  client: Client, bodies: readonly { sourceId: number; sha256: Buffer; version: number }[],
): Promise<number[]> {
  const order = bodies.map((b, i) => ({ ...b, i, id: `${b.sourceId}|${b.sha256.toString('latin1')}` }))
    .sort((a, b) => a.sourceId - b.sourceId || Buffer.compare(a.sha256, b.sha256))
  const columns = [order.map((b) => b.sourceId), order.map((b) => b.sha256), order.map((b) => b.version)]
  const versions = new Map<string, number>()
  const take = (rows: { source_id: number; sha256: Buffer; version: number }[]): void => {
    for (const r of rows) versions.set(`${r.source_id}|${r.sha256.toString('latin1')}`, r.version)
  }
  take((await client.query<{ source_id: number; sha256: Buffer; version: number }>(
    `insert into body_version (source_id, sha256, version)
     select * from unnest($1::int[], $2::bytea[], $3::bigint[]) on conflict do nothing returning source_id, sha256, version`,
    columns)).rows)
  if (order.some((b) => !versions.has(b.id))) {
    take((await client.query<{ source_id: number; sha256: Buffer; version: number }>(
      `select v.source_id, v.sha256, v.version from body_version v
         join unnest($1::int[], $2::bytea[]) as b(source_id, sha256) using (source_id, sha256)`, columns.slice(0, 2))).rows)
  }
  const out = new Array<number>(bodies.length)
  for (const b of order) out[b.i] = versions.get(b.id) ?? b.version
  return out
}

/** A delivery's row; counts are of this part alone where the delivery has several. */
export interface DeliveryRow {
  delivery_id: string
  accepted_at: string
  delivery_no: number
  utility_id: number
  source_id: number
  kind: 'push' | 'replay' | 'withdrawal' | 'estimate' | 'edit'
  door: string
  format: string | null
  history: boolean
  idempotency_key: string | null
  /** hex */
  sha256: string | null
  bytes: number
  version: number
  complete: boolean
  parts: number
  received: number
  stored: number
  duplicate: number
  corrected: number
  outranked: number
  quarantined: number
  rejected: number
  snapped: number
  rounded: number
  first_s: number | null
  last_s: number | null
  alerts_raised: number
  alerts_retracted: number
  problems: { code: string; at: string; message: string; help?: string }[]
  problem_count: number
  withdraws: number | null
  /** Of messages from Kafka: the batch that they were a part of. */
  kafka_topic?: string
  kafka_partition?: number
  first_offset?: number
  next_offset?: number
}

const COUNTS = ['received', 'stored', 'duplicate', 'corrected', 'outranked', 'quarantined', 'rejected', 'snapped', 'rounded',
  'alerts_raised', 'alerts_retracted', 'problem_count']
const COLUMNS = ['delivery_id', 'accepted_at', 'delivery_no', 'utility_id', 'source_id', 'kind', 'door', 'format', 'history',
  'idempotency_key', 'bytes', 'version', 'complete', 'parts', 'problems', 'withdraws',
  'kafka_topic', 'kafka_partition', 'first_offset', 'next_offset', ...COUNTS]
const TYPES: Record<string, string> = {
  delivery_id: 'uuid', accepted_at: 'timestamptz', kind: 'text', door: 'text', format: 'text', history: 'boolean',
  idempotency_key: 'text', complete: 'boolean', problems: 'jsonb', utility_id: 'int', source_id: 'int', parts: 'int',
  kafka_topic: 'text', kafka_partition: 'int',
}

/** Writes the rows of deliveries that begin with this commit. */
export async function insertDeliveries(client: Client, rows: readonly DeliveryRow[]): Promise<void> {
  const types = COLUMNS.map((c) => `${c} ${TYPES[c] ?? 'bigint'}`).join(', ')
  await client.query(
    `insert into delivery (${COLUMNS.join(', ')}, sha256, settled_at, first_at, last_end)
     select ${COLUMNS.join(', ')}, decode(sha256, 'hex'), clock_timestamp(), to_timestamp(first_s), to_timestamp(last_s)
       from jsonb_to_recordset($1::jsonb) as d(${types}, sha256 text, first_s float8, last_s float8)`,
    [JSON.stringify(rows)])
}

/** Adds a further part's counts to a delivery that is under way. */
export async function extendDelivery(client: Client, row: DeliveryRow): Promise<void> {
  const sums = COUNTS.map((c, i) => `${c} = ${c} + $${i + 9}`).join(', ')
  const { rowCount } = await client.query(
    `update delivery set ${sums}, parts = $3, complete = $4, sha256 = decode($5, 'hex'), bytes = bytes + $6,
            settled_at = clock_timestamp(),
            first_at = least(first_at, to_timestamp($7)), last_end = greatest(last_end, to_timestamp($8)),
            problems = case when jsonb_array_length(problems) >= 100 then problems
                            else problems || coalesce((select jsonb_agg(p) from (
                              select p from jsonb_array_elements($${COUNTS.length + 9}::jsonb) with ordinality as e(p, o)
                               order by o limit 100 - jsonb_array_length(problems)) x), '[]') end
      where delivery_id = $1 and accepted_at = $2 and not complete`,
    [row.delivery_id, row.accepted_at, row.parts, row.complete, row.sha256, row.bytes, row.first_s, row.last_s,
      ...COUNTS.map((c) => row[c as keyof DeliveryRow]), JSON.stringify(row.problems)])
  if (rowCount !== 1) throw new Error(`delivery ${row.delivery_id} is not open`)
}

/** The receipt as it stands; undefined when the delivery is not there. @param zone of the utility, for from and to */
export async function readReceipt(
  db: Queryable, deliveryId: string, zone: string | null,
): Promise<{ receipt: Receipt; parts: number; complete: boolean } | undefined> {
  const { rows } = await db.query<ReceiptRow & { parts: number }>(
    `select ${RECEIPT_COLUMNS}, d.parts from delivery d join source s using (source_id)
      where d.delivery_id = $1 and d.accepted_at = to_timestamp($2)`, [deliveryId, acceptedMsOf(deliveryId) / 1000])
  return rows.length === 0 ? undefined : { receipt: receiptOf(rows[0], zone), parts: rows[0].parts, complete: rows[0].complete }
}

/** The receipts of deliveries that stand, in the order of their ids. @throws Error when one is not there */
export async function readReceipts(db: Queryable, deliveryIds: readonly string[], zone: string | null): Promise<Receipt[]> {
  const { rows } = await db.query<ReceiptRow>(
    `select ${RECEIPT_COLUMNS} from unnest($1::uuid[], $2::timestamptz[]) as k(delivery_id, accepted_at)
       join delivery d using (delivery_id, accepted_at) join source s using (source_id)
      where d.accepted_at between $3 and $4`, idsAndBounds(deliveryIds))
  const found = new Map(rows.map((r) => [r.delivery_id, receiptOf(r, zone)]))
  return deliveryIds.map((id) => {
    const receipt = found.get(id)
    if (receipt === undefined) throw new Error(`delivery ${id} was not written`)
    return receipt
  })
}

/** The numbers of deliveries that wait for further parts, by id: all parts of a delivery have one number. */
export async function openDeliveries(db: Queryable, deliveryIds: readonly string[]): Promise<Map<string, number>> {
  if (deliveryIds.length === 0) return new Map()
  const { rows } = await db.query<{ delivery_id: string; delivery_no: number }>(
    `select d.delivery_id, d.delivery_no from unnest($1::uuid[], $2::timestamptz[]) as k(delivery_id, accepted_at)
       join delivery d using (delivery_id, accepted_at)
      where d.accepted_at between $3 and $4 and not d.complete`, idsAndBounds(deliveryIds))
  return new Map(rows.map((r) => [r.delivery_id, r.delivery_no]))
}

/** Ids, when they were accepted, and the first and last of those instants, which let the planner drop partitions. */
function idsAndBounds(deliveryIds: readonly string[]): [readonly string[], Date[], Date, Date] {
  const ms = deliveryIds.map(acceptedMsOf)
  const ends = ms.reduce(([a, b], t) => [Math.min(a, t), Math.max(b, t)], [Infinity, -Infinity])
  return [deliveryIds, ms.map((t) => new Date(t)), new Date(ends[0]), new Date(ends[1])]
}

/** Milliseconds since the epoch that a UUIDv7 carries: a delivery's accepted_at. */
export function acceptedMsOf(deliveryId: string): number {
  return parseInt(deliveryId.replaceAll('-', '').slice(0, 12), 16)
}

export interface QuarantineRow {
  sourceId: number
  deliveryNo: number
  version: number
  history: boolean
  format: string | null
  problem: RecordProblem
  raw: Buffer | null
}

const MAX_RAW = 65_536

/** Keeps quarantined records, with what a replay needs. */
export async function insertQuarantine(client: Client, utilityId: number, rows: readonly QuarantineRow[]): Promise<void> {
  for (let from = 0; from < rows.length; from += 5000) {
    const part = rows.slice(from, from + 5000)
    await client.query(
      `insert into quarantine (utility_id, source_id, delivery_no, reason, message, place, meter, reads, version, history, record, raw, format)
       select $1, * from unnest($2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[],
                                $9::bigint[], $10::boolean[], $11::text[], $12::bytea[], $13::text[])`,
      [utilityId, part.map((r) => r.sourceId), part.map((r) => r.deliveryNo), part.map((r) => r.problem.code),
        part.map((r) => clean(r.problem.message)), part.map((r) => clean(r.problem.at)),
        part.map((r) => r.problem.meter === undefined ? null : clean(r.problem.meter)), part.map((r) => r.problem.reads),
        part.map((r) => r.version), part.map((r) => r.history),
        part.map((r) => r.problem.record === undefined ? null : clean(r.problem.record)),
        part.map((r) => r.raw === null ? null : r.raw.subarray(0, MAX_RAW)), part.map((r) => r.format)])
  }
}

/** PostgreSQL's text holds no NUL and no half of a surrogate pair: shown as U+FFFD, the raw bytes keep them. */
export function clean(text: string): string {
  return text.replace(/\0|\p{Surrogate}/gu, '\ufffd')
}
