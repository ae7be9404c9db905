import { intArray } from './blocks.js'
import type { Queryable } from './db.js'

/** Register reads and the consumption of periods: two tables of one shape. */

/** Values are whole numbers of this many decimals: the finest that is kept. */
export const SCALE = 9

export type RegisterKind = 'register' | 'period'

export interface StoredRegister {
  meterId: number
  quantity: number
  flow: number
  tou: string
  atS: number
  /** NaN in `register_read`. */
  fromS: number
  /** Value x 10^9. */
  nanos: bigint
  lane: number
  version: number
  deliveryNo: number
}

/** An offer that does not stand: what a later one replaced, or one that lost. */
export interface SupersededRegister extends StoredRegister {
  replaced: boolean
}

interface Shape {
  table: string
  /** Key columns of the table, and how the arrays of the statement name them. */
  key: string
  join: string
}

const SHAPES: Record<RegisterKind, Shape> = {
  register: {
    table: 'register_read', key: 'meter_id, quantity, flow, tou, at',
    join: 'r.meter_id = k.meter_id and r.quantity = k.quantity and r.flow = k.flow and r.tou = k.tou and r.at = to_timestamp(k.at_s)',
  },
  period: {
    table: 'period_read', key: 'meter_id, quantity, flow, tou, start_at, end_at',
    join: 'r.meter_id = k.meter_id and r.quantity = k.quantity and r.flow = k.flow and r.tou = k.tou'
      + ' and r.start_at = to_timestamp(k.from_s) and r.end_at = to_timestamp(k.at_s)',
  },
}

/** SQL of the rank of a lane (design C4); the same order as rankOf(). */
const RANK = "(array[3,1,2,0,4,5,0,0])[(lane & 7) + 1]"

interface Row {
  meter_id: number
  quantity: number
  flow: number
  tou: string
  at_s: number
  from_s: number | null
  nanos: string
  lane: number
  version: number
  delivery_no: number
}

function columnsOf(kind: RegisterKind): string {
  const times = kind === 'register'
    ? 'extract(epoch from r.at)::float8 as at_s, null::float8 as from_s'
    : 'extract(epoch from r.end_at)::float8 as at_s, extract(epoch from r.start_at)::float8 as from_s'
  return `r.meter_id, r.quantity, r.flow, r.tou, ${times}, trunc(r.value * 1000000000)::text as nanos, r.lane, r.version, r.delivery_no`
}

function registerOf(r: Row): StoredRegister {
  return {
    meterId: r.meter_id, quantity: r.quantity, flow: r.flow, tou: r.tou, atS: r.at_s, fromS: r.from_s ?? NaN,
    nanos: BigInt(r.nanos), lane: r.lane, version: r.version, deliveryNo: r.delivery_no,
  }
}

function keyArrays(rows: readonly StoredRegister[]): unknown[] {
  return [
    intArray(rows.map((r) => r.meterId)), intArray(rows.map((r) => r.quantity)), intArray(rows.map((r) => r.flow)),
    rows.map((r) => r.tou), rows.map((r) => r.atS), rows.map((r) => Number.isNaN(r.fromS) ? null : r.fromS),
  ]
}

const KEYS = 'unnest($1::int[], $2::smallint[], $3::smallint[], $4::text[], $5::float8[], $6::float8[])'

/** What stands under these keys. */
export async function readRegisters(db: Queryable, kind: RegisterKind, keys: readonly StoredRegister[]): Promise<StoredRegister[]> {
  if (keys.length === 0) return []
  const { table, join } = SHAPES[kind]
  const { rows } = await db.query<Row>(
    `select ${columnsOf(kind)} from ${KEYS} as k(meter_id, quantity, flow, tou, at_s, from_s) join ${table} r on ${join}`,
    keyArrays(keys))
  return rows.map(registerOf)
}

/** Writes what stands now, and keeps what does not. Each key once. @param atUs microseconds since the epoch */
export async function writeRegisters(
  db: Queryable, kind: RegisterKind, changed: readonly StoredRegister[], superseded: readonly SupersededRegister[], atUs: number,
): Promise<void> {
  const { table, key } = SHAPES[kind]
  const times = kind === 'register' ? 'to_timestamp(at_s)' : 'to_timestamp(from_s), to_timestamp(at_s)'
  if (changed.length > 0) {
    await db.query(
      `insert into ${table} (${key}, value, lane, version, delivery_no, settled_at)
       select meter_id, quantity, flow, tou, ${times}, value, lane, version, delivery_no, to_timestamp($11::float8 / 1000000)
         from unnest($1::int[], $2::smallint[], $3::smallint[], $4::text[], $5::float8[], $6::float8[], $7::numeric[], $8::smallint[],
                     $9::bigint[], $10::bigint[])
           as k(meter_id, quantity, flow, tou, at_s, from_s, value, lane, version, delivery_no)
       on conflict (${key}) do update set value = excluded.value, lane = excluded.lane, version = excluded.version,
          delivery_no = excluded.delivery_no, restated_at = excluded.settled_at`,
      [...keyArrays(changed), ...valueArrays(changed), atUs])
  }
  if (superseded.length > 0) {
    await db.query(
      `insert into register_revision (meter_id, quantity, flow, tou, at, from_at, value, lane, version, delivery_no, replaced, settled_at)
       select meter_id, quantity, flow, tou, to_timestamp(at_s), to_timestamp(from_s), value, lane, version, delivery_no, replaced,
              to_timestamp($12::float8 / 1000000)
         from unnest($1::int[], $2::smallint[], $3::smallint[], $4::text[], $5::float8[], $6::float8[], $7::numeric[], $8::smallint[],
                     $9::bigint[], $10::bigint[], $11::boolean[])
           as k(meter_id, quantity, flow, tou, at_s, from_s, value, lane, version, delivery_no, replaced)`,
      [...keyArrays(superseded), ...valueArrays(superseded), superseded.map((s) => s.replaced), atUs])
  }
}

function valueArrays(rows: readonly StoredRegister[]): unknown[] {
  return [rows.map((r) => nanosText(r.nanos)), intArray(rows.map((r) => r.lane)), rows.map((r) => r.version), rows.map((r) => r.deliveryNo)]
}

/** A value of 10^-9 units as a decimal, without zeros at its end. */
export function nanosText(nanos: bigint): string {
  const digits = String(nanos < 0n ? -nanos : nanos).padStart(SCALE + 1, '0')
  const fraction = digits.slice(-SCALE).replace(/0+$/, '')
  return `${nanos < 0n ? '-' : ''}${digits.slice(0, -SCALE)}${fraction === '' ? '' : `.${fraction}`}`
}

/** Locks meters in id order: writers of one meter's registers and channels take turns. */
export async function lockMeters(db: Queryable, meterIds: readonly number[]): Promise<void> {
  const sorted = [...new Set(meterIds)].sort((a, b) => a - b)
  await db.query('select 1 from meter where meter_id = any($1::int[]) order by meter_id for no key update', [intArray(sorted)])
}

/**
 * Takes a delivery's registers back: under each key the greatest of what other deliveries offered stands again, or nothing.
 * @returns how many stood by this delivery
 */
export async function withdrawRegisters(db: Queryable, deliveryNo: number, atUs: number): Promise<number> {
  let taken = 0
  for (const kind of ['register', 'period'] as const) {
    const { table, key } = SHAPES[kind]
    const { rows: meters } = await db.query<{ meter_id: number }>(
      `select distinct meter_id from ${table} where delivery_no = $1`, [deliveryNo])
    if (meters.length === 0) continue
    await lockMeters(db, meters.map((m) => m.meter_id))
    const { rows } = await db.query<Row>(`delete from ${table} r where r.delivery_no = $1 returning ${columnsOf(kind)}`, [deliveryNo])
    const gone = rows.map(registerOf)
    taken += gone.length
    const [times, same] = kind === 'register'
      ? ['r.at', 'r.at = to_timestamp(k.at_s) and r.from_at is null']
      : ['r.from_at, r.at', 'r.at = to_timestamp(k.at_s) and r.from_at = to_timestamp(k.from_s)']
    await db.query(
      `insert into ${table} (${key}, value, lane, version, delivery_no, settled_at, restated_at)
       select distinct on (r.meter_id, r.quantity, r.flow, r.tou, ${times})
              r.meter_id, r.quantity, r.flow, r.tou, ${times}, r.value, r.lane, r.version, r.delivery_no, r.settled_at,
              to_timestamp($8::float8 / 1000000)
         from ${KEYS} as k(meter_id, quantity, flow, tou, at_s, from_s)
         join register_revision r on r.meter_id = k.meter_id and r.quantity = k.quantity and r.flow = k.flow and r.tou = k.tou and ${same}
        where r.delivery_no <> $7 and not exists (select from delivery d where d.delivery_no = r.delivery_no and d.withdrawn_at is not null)
        order by r.meter_id, r.quantity, r.flow, r.tou, ${times}, ${RANK} desc, r.version desc, r.value desc`,
      [...keyArrays(gone), deliveryNo, atUs])
    await writeRegisters(db, kind, [], gone.map((g) => ({ ...g, replaced: true })), atUs)
  }
  return taken
}
