import { isDeepStrictEqual } from 'node:util'
import type { Queryable } from '../store/db.js'
import type { Assignment } from './assignments.js'
import { pieces } from './write.js'

/** What a meter's records set; named like the columns. */
export interface MeterFields {
  readonly aliases: readonly string[]
  readonly role: string
  readonly status: string
  readonly interval_s: number | null
  readonly flows: readonly string[] | null
  readonly multiplier: number
  readonly service_kw: number | null
  /** Sorted by start. */
  readonly assignments: readonly Assignment[]
}

/** A meter before and after a registry write. */
export interface MeterState {
  readonly id: string
  /** Null until it is inserted. */
  meterId: number | null
  readonly before: MeterFields | null
  now: MeterFields
}

interface Row {
  meter_id: number
  id: string
  aliases: string[]
  role: string
  status: string
  interval_s: number | null
  flows: string[] | null
  multiplier: string
  service_kw: string | null
}

interface AssignmentRow {
  meter_id: number
  account: string
  service_point: string | null
  from_s: number
  to_s: number | null
}

/** Meters that go by one of the names, as id or as alias. */
export async function loadMeters(db: Queryable, utilityId: number, names: string[]): Promise<MeterState[]> {
  const { rows } = await db.query<Row>(
    `select meter_id, id, aliases, role, status, interval_s, flows, multiplier, service_kw from meter
      where utility_id = $1 and (id = any($2::text[]) or meter_id in (
              select meter_id from meter_alias where utility_id = $1 and alias = any($2::text[])))`, [utilityId, names])
  const assignments = await db.query<AssignmentRow>(
    `select s.meter_id, a.id as account, s.service_point, extract(epoch from s.from_at)::float8 as from_s,
            extract(epoch from s.to_at)::float8 as to_s
       from meter_assignment s join account a using (account_id)
      where s.meter_id = any($1::int[]) order by s.meter_id, s.from_at`, [rows.map((r) => r.meter_id)])
  const byMeter = new Map<number, Assignment[]>()
  for (const a of assignments.rows) {
    const list = byMeter.get(a.meter_id) ?? []
    if (list.length === 0) byMeter.set(a.meter_id, list)
    list.push({ account: a.account, servicePoint: a.service_point, fromS: a.from_s, toS: a.to_s })
  }
  return rows.map((r) => {
    const fields: MeterFields = {
      aliases: [...r.aliases].sort(), role: r.role, status: r.status, interval_s: r.interval_s, flows: r.flows,
      multiplier: Number(r.multiplier), service_kw: r.service_kw === null ? null : Number(r.service_kw),
      assignments: byMeter.get(r.meter_id) ?? [],
    }
    return { id: r.id, meterId: r.meter_id, before: fields, now: fields }
  })
}

/** Internal ids of the accounts that exist, by public id. */
export async function loadAccountIds(db: Queryable, utilityId: number, ids: string[]): Promise<Map<string, number>> {
  const { rows } = await db.query<{ account_id: number; id: string }>(
    'select account_id, id from account where utility_id = $1 and id = any($2::text[])', [utilityId, ids])
  return new Map(rows.map((r) => [r.id, r.account_id]))
}

export interface MeterWrite {
  readonly utilityId: number
  readonly epoch: number
  readonly created: readonly MeterState[]
  readonly changed: readonly MeterState[]
  /** Internal ids of every account that the assignments name. */
  readonly accounts: ReadonlyMap<string, number>
}

/** Writes the meters, then their aliases, then their assignments; gives the created ones their internal ids. */
export async function writeMeters(db: Queryable, write: MeterWrite): Promise<void> {
  await insertMeters(db, write)
  await updateMeters(db, write)
  await writeAliases(db, write)
  await writeAssignments(db, write)
}

const COLUMNS = `id text, meter_id int, aliases text[], role text, status text, interval_s int, flows text[],
  multiplier numeric, service_kw numeric`

function rowsOf(states: readonly MeterState[]): string {
  return JSON.stringify(states.map((s) => ({ id: s.id, meter_id: s.meterId, ...s.now, assignments: undefined })))
}

async function insertMeters(db: Queryable, { utilityId, epoch, created }: MeterWrite): Promise<void> {
  for (const piece of pieces(created)) {
    const { rows } = await db.query<{ meter_id: number; id: string }>(
      `insert into meter (utility_id, id, aliases, role, status, interval_s, flows, multiplier, service_kw, epoch)
       select $1, r.id, r.aliases, r.role, r.status, r.interval_s, r.flows, r.multiplier, r.service_kw, $2
         from jsonb_to_recordset($3::jsonb) as r(${COLUMNS})
       returning meter_id, id`, [utilityId, epoch, rowsOf(piece)])
    const ids = new Map(rows.map((r) => [r.id, r.meter_id]))
    for (const state of piece) state.meterId = ids.get(state.id) ?? null
  }
}

async function updateMeters(db: Queryable, { epoch, changed }: MeterWrite): Promise<void> {
  for (const piece of pieces(changed)) {
    await db.query(
      `update meter m
          set aliases = r.aliases, role = r.role, status = r.status, interval_s = r.interval_s, flows = r.flows,
              multiplier = r.multiplier, service_kw = r.service_kw, epoch = $1
         from jsonb_to_recordset($2::jsonb) as r(${COLUMNS})
        where m.meter_id = r.meter_id`, [epoch, rowsOf(piece)])
  }
}

async function writeAliases(db: Queryable, { utilityId, created, changed }: MeterWrite): Promise<void> {
  const renamed = changed.filter((s) => !isDeepStrictEqual(s.before?.aliases, s.now.aliases))
  // First every alias goes, then the new ones come: an alias may move from one meter to another in one write.
  if (renamed.length > 0) {
    await db.query('delete from meter_alias where meter_id = any($1::int[])', [renamed.map((s) => s.meterId)])
  }
  const rows = [...created, ...renamed].flatMap((s) => s.now.aliases.map((alias) => ({ alias, meter_id: s.meterId })))
  for (const piece of pieces(rows)) {
    await db.query(
      `insert into meter_alias (utility_id, alias, meter_id)
       select $1, r.alias, r.meter_id from jsonb_to_recordset($2::jsonb) as r(alias text, meter_id int)`,
      [utilityId, JSON.stringify(piece)])
  }
}

async function writeAssignments(db: Queryable, { created, changed, accounts }: MeterWrite): Promise<void> {
  const gone: { meter_id: number | null; from_s: number }[] = []
  const rows: { meter_id: number | null; account_id?: number; service_point: string | null; from_s: number; to_s: number | null }[] = []
  for (const s of [...created, ...changed]) {
    const before = s.before?.assignments ?? []
    if (before === s.now.assignments) continue
    for (const a of before) {
      if (!s.now.assignments.some((b) => isDeepStrictEqual(a, b))) gone.push({ meter_id: s.meterId, from_s: a.fromS })
    }
    for (const a of s.now.assignments) {
      if (before.some((b) => isDeepStrictEqual(a, b))) continue
      rows.push({
        meter_id: s.meterId, account_id: accounts.get(a.account), service_point: a.servicePoint, from_s: a.fromS, to_s: a.toS })
    }
  }
  // What ends or goes makes room before anything is written: the exclusion constraint is checked row by row.
  for (const piece of pieces(gone)) {
    await db.query(
      `delete from meter_assignment a
        using jsonb_to_recordset($1::jsonb) as r(meter_id int, from_s float8)
        where a.meter_id = r.meter_id and a.from_at = to_timestamp(r.from_s)`, [JSON.stringify(piece)])
  }
  for (const piece of pieces(rows)) {
    await db.query(
      `insert into meter_assignment (meter_id, account_id, service_point, from_at, to_at)
       select r.meter_id, r.account_id, r.service_point, to_timestamp(r.from_s), to_timestamp(r.to_s)
         from jsonb_to_recordset($1::jsonb)
              as r(meter_id int, account_id int, service_point text, from_s float8, to_s float8)`, [JSON.stringify(piece)])
  }
}
