import type { Pool } from './db.js'
import { inTransaction, type Client, type Queryable } from './db.js'
import { clean } from './deliveries.js'

/**
 * Positions of the Kafka door (design C5). A position moves in the transaction that settles the reads, where the epoch and
 * the position are the ones that the owner knows; whoever is assigned a partition raises its epoch first, so that a
 * former owner's late commit finds another one.
 */

/** A partition of a consumer group. */
export interface PartitionKey {
  group: string
  topic: string
  partition: number
}

/** How far a transaction moves a partition. */
export interface PositionMove extends PartitionKey {
  epoch: number
  /** Offset at which the partition must stand. */
  expected: number
  /** Offset of the first message after the batch. */
  next: number
  /** The utility whose messages this settles while others of the batch are to come; null: the last, the position moves. */
  mark: string | null
  /** Greatest version of the batch, microseconds. */
  lastVersion: number
}

/** A position as its owner holds it. */
export interface Position {
  epoch: number
  next: number
  lastVersion: number
  /** Per utility: offset up to which its messages are settled beyond next. */
  ahead: Record<string, number>
}

interface PositionRow { epoch: number; next_offset: number; last_version: number; ahead: Record<string, number> }

function positionOf(row: PositionRow): Position {
  return { epoch: row.epoch, next: row.next_offset, lastVersion: row.last_version, ahead: row.ahead }
}

/**
 * Takes a partition over: raises its epoch, and with it refuses every commit of the owner before. While a commit of that
 * owner is under way the position is `held`, and no connection waits for it; undefined where nobody has read the partition.
 */
export async function claimPosition(pool: Pool, key: PartitionKey): Promise<Position | 'held' | undefined> {
  const { rows } = await pool.query<PositionRow>(
    `with free as (
       select from kafka_position where (consumer_group, topic, kafka_partition) = ($1, $2, $3) for update skip locked)
     update kafka_position p set epoch = p.epoch + 1, updated_at = now()
      where (p.consumer_group, p.topic, p.kafka_partition) = ($1, $2, $3) and exists (select from free)
     returning epoch, next_offset, last_version, ahead`, [key.group, key.topic, key.partition])
  if (rows.length > 0) return positionOf(rows[0])
  return await readPosition(pool, key) === undefined ? undefined : 'held'
}

/** Takes over a partition that nobody has read yet; undefined where somebody has, by now. @param beginning its first offset */
export async function beginPosition(pool: Pool, key: PartitionKey, beginning: number): Promise<Position | undefined> {
  const { rows } = await pool.query<PositionRow>(
    `insert into kafka_position (consumer_group, topic, kafka_partition, epoch, next_offset) values ($1, $2, $3, 1, $4)
         on conflict (consumer_group, topic, kafka_partition) do nothing
     returning epoch, next_offset, last_version, ahead`, [key.group, key.topic, key.partition, beginning])
  return rows.length === 0 ? undefined : positionOf(rows[0])
}

/** The position as it stands; undefined where nobody has claimed it. */
export async function readPosition(db: Queryable, key: PartitionKey): Promise<Position | undefined> {
  const { rows } = await db.query<PositionRow>(
    `select epoch, next_offset, last_version, ahead from kafka_position
      where consumer_group = $1 and topic = $2 and kafka_partition = $3`, [key.group, key.topic, key.partition])
  return rows.length === 0 ? undefined : positionOf(rows[0])
}

/** Key of a partition in {@link movePositions}' answer. */
export function partitionId(key: PartitionKey): string {
  return `${key.partition} ${key.topic} ${key.group}`
}

/**
 * Moves the positions that stand where they are expected, under the epoch expected; locks them in one order. Returns those
 * that moved: of any other partition nothing may be settled.
 */
export async function movePositions(client: Client, moves: readonly PositionMove[]): Promise<Set<string>> {
  const columns = [moves.map((m) => m.group), moves.map((m) => m.topic), moves.map((m) => m.partition)]
  const { rows } = await client.query<{ consumer_group: string; topic: string; kafka_partition: number; epoch: number; next_offset: number }>(
    `select p.consumer_group, p.topic, p.kafka_partition, p.epoch, p.next_offset
       from kafka_position p join unnest($1::text[], $2::text[], $3::int[]) as m(consumer_group, topic, kafka_partition)
            using (consumer_group, topic, kafka_partition)
      order by p.consumer_group, p.topic, p.kafka_partition for update of p`, columns)
  const standing = new Map(rows.map((r) => [partitionId({ group: r.consumer_group, topic: r.topic, partition: r.kafka_partition }), r]))
  const good = moves.filter((m) => {
    const p = standing.get(partitionId(m))
    return p !== undefined && p.epoch === m.epoch && p.next_offset === m.expected
  })
  if (good.length > 0) {
    await client.query(
      `update kafka_position p
          set next_offset = case when m.mark is null then m.next else p.next_offset end,
              ahead = case when m.mark is not null then p.ahead || jsonb_build_object(m.mark, m.next)
                           else (select coalesce(jsonb_object_agg(k, v), '{}') from jsonb_each(p.ahead) as a(k, v) where v::bigint > m.next) end,
              last_version = greatest(p.last_version, m.last_version), updated_at = now()
         from unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::bigint[])
              as m(consumer_group, topic, kafka_partition, next, mark, last_version)
        where (p.consumer_group, p.topic, p.kafka_partition) = (m.consumer_group, m.topic, m.kafka_partition)`,
      [good.map((m) => m.group), good.map((m) => m.topic), good.map((m) => m.partition), good.map((m) => m.next),
        good.map((m) => m.mark), good.map((m) => m.lastVersion)])
  }
  return new Set(good.map(partitionId))
}

/** Offsets that were accepted before, with the version of the first of them. */
export interface AcceptedRange {
  first: number
  next: number
  version: number
  /** Milliseconds. */
  acceptedMs: number
}

/** The ranges of a partition that deliveries of [from, to) recorded, the first accepted first. */
export async function acceptedRanges(db: Queryable, topic: string, partition: number, from: number, to: number): Promise<AcceptedRange[]> {
  const { rows } = await db.query<{ first_offset: number; next_offset: number; version: number; accepted_ms: number }>(
    `select first_offset, next_offset, min(version) as version, min(extract(epoch from accepted_at)::float8) * 1000 as accepted_ms
       from delivery where kafka_topic = $1 and kafka_partition = $2 and next_offset > $3 and first_offset < $4
      group by first_offset, next_offset order by accepted_ms`, [topic, partition, from, to])
  return rows.map((r) => ({ first: r.first_offset, next: r.next_offset, version: r.version, acceptedMs: r.accepted_ms }))
}

/** Offset before which messages of the partition may have been accepted before; 0 where none were. */
export async function acceptedTo(db: Queryable, topic: string, partition: number): Promise<number> {
  const { rows } = await db.query<{ to: number | null }>(
    'select max(next_offset) as to from delivery where kafka_topic = $1 and kafka_partition = $2', [topic, partition])
  return rows[0].to ?? 0
}

/** Notes where partitions end, for the lag that `meterline status` shows. Rows that a commit holds are left for the next time. */
export async function noteEnds(db: Queryable, group: string, topic: string, ends: readonly { partition: number; end: number }[]): Promise<void> {
  await db.query(
    `with free as (
       select kafka_partition from kafka_position
        where consumer_group = $1 and topic = $2 and kafka_partition = any($3::int[])
        order by kafka_partition for update skip locked)
     update kafka_position p set end_offset = e.end_offset, end_seen_at = now()
       from unnest($3::int[], $4::bigint[]) as e(kafka_partition, end_offset) join free using (kafka_partition)
      where p.consumer_group = $1 and p.topic = $2 and p.kafka_partition = e.kafka_partition`,
    [group, topic, ends.map((e) => e.partition), ends.map((e) => e.end)])
}

/** A message for the dead topic. */
export interface DeadLetter extends PartitionKey {
  offset: number
  key: Uint8Array | null
  value: Uint8Array | null
  headers: [name: string, base64: string][]
  code: string
  message: string
}

/** Keeps dead letters until they are published: in the transaction that moves the position. */
export async function insertDeadLetters(client: Queryable, letters: readonly DeadLetter[]): Promise<void> {
  for (let from = 0; from < letters.length; from += 1000) {
    const part = letters.slice(from, from + 1000)
    await client.query(
      `insert into dead_letter (consumer_group, topic, kafka_partition, message_offset, key, value, headers, code, message)
       select * from unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[], $7::jsonb[], $8::text[], $9::text[])`,
      [part.map((l) => l.group), part.map((l) => l.topic), part.map((l) => l.partition), part.map((l) => l.offset),
        part.map((l) => bytea(l.key)), part.map((l) => bytea(l.value)), part.map((l) => JSON.stringify(l.headers)),
        part.map((l) => l.code), part.map((l) => clean(l.message))])
  }
}

function bytea(bytes: Uint8Array | null): Buffer | null {
  return bytes === null ? null : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}

/** Moves positions over messages of which nothing is settled, because they belong to no utility. Returns those that moved. */
export async function passOver(pool: Pool, moves: readonly PositionMove[], letters: readonly DeadLetter[]): Promise<Set<string>> {
  return inTransaction(pool, async (client) => {
    const moved = await movePositions(client, moves)
    await insertDeadLetters(client, letters.filter((l) => moved.has(partitionId(l))))
    return moved
  })
}

export type KeptDeadLetter = DeadLetter & { id: number; atMs: number }

/**
 * Hands the oldest dead letters to `publish` and removes those that it says the broker has. At least once: a crash in
 * between publishes them again. Returns how many were removed and how many were left.
 */
export async function publishDeadLetters(
  pool: Pool, group: string, topic: string, limit: number, publish: (letters: KeptDeadLetter[]) => Promise<number[]>,
): Promise<{ published: number; failed: number }> {
  return inTransaction(pool, async (client) => {
    const { rows } = await client.query<{
      dead_letter_id: number; kafka_partition: number; message_offset: number; at: Date; key: Buffer | null; value: Buffer | null
      headers: [string, string][]; code: string; message: string
    }>(
      `select dead_letter_id, kafka_partition, message_offset, at, key, value, headers, code, message from dead_letter
        where consumer_group = $1 and topic = $2 order by dead_letter_id limit $3 for update skip locked`, [group, topic, limit])
    if (rows.length === 0) return { published: 0, failed: 0 }
    const done = await publish(rows.map((r) => ({
      id: r.dead_letter_id, group, topic, partition: r.kafka_partition, offset: r.message_offset, atMs: r.at.getTime(), key: r.key,
      value: r.value, headers: r.headers, code: r.code, message: r.message })))
    if (done.length > 0) await client.query('delete from dead_letter where dead_letter_id = any($1::bigint[])', [done])
    return { published: done.length, failed: rows.length - done.length }
  })
}
