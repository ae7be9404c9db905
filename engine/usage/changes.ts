import { ApiError } from '../problem.js'
import { intArray } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'

/** One changed account-day. */
export interface ChangeItem {
  account: string
  /** Local day, `YYYY-MM-DD`. */
  day: string
  /** True where a value that already stood was changed. */
  restated: boolean
  /** When the change was made, RFC 3339. */
  at: string
}

export interface ChangePage {
  items: ChangeItem[]
  /** Where to go on; always there, also after an empty page. */
  next: string
  /** True where more can be read at once. */
  more: boolean
}

export interface ChangeRequest {
  utilityId: number
  /** What an earlier page gave as `next`; `now`: only what comes; null: from the oldest change kept. */
  since: string | null
  /** Greatest number of items. */
  limit: number
  /** Only these accounts (a member's); null: all of the utility's. */
  accountIds: readonly number[] | null
  /** Milliseconds since the epoch. */
  nowMs: number
}

/** How long changes are kept; a reader that comes back later has to read everything anew. */
export const CHANGE_DAYS = 14

/** A place in the feed: after `taken` accounts of the row (xid, seq), as it was told at issuedS. */
interface Cursor {
  xid: bigint
  seq: number
  taken: number
  /** Epoch seconds. */
  issuedS: number
}

interface Row {
  xid: string
  seq: number
  at: Date
  day: string
  restated: boolean
  ids: number[]
}

/** Rows looked at per page, for a member whose accounts change seldom. */
const ROWS_PER_PAGE = 2000

/**
 * A page of the change feed. Run it in one snapshot: the rows read are those of transactions below its oldest running
 * one, so that a transaction that commits late is never skipped; it is read by a later page.
 *
 * @throws ApiError 410 `cursor-expired` where changes after the cursor may have been dropped, 422 `invalid-cursor`
 */
export async function readChanges(db: Queryable, request: ChangeRequest): Promise<ChangePage> {
  const { rows: [horizon] } = await db.query<{ xmin: string; xmax: string }>(
    `select pg_snapshot_xmin(s)::text as xmin, pg_snapshot_xmax(s)::text as xmax from pg_current_snapshot() as s`)
  const issuedS = Math.floor(request.nowMs / 1000)
  /** Everything below is finished: what is read from here on misses nothing. */
  const frontier: Cursor = { xid: BigInt(horizon.xmin), seq: 0, taken: 0, issuedS }
  if (request.since === 'now') return { items: [], next: encode(frontier), more: false }
  const cursor = request.since === null ? { xid: 0n, seq: 0, taken: 0, issuedS } : decode(request.since)
  if (request.since !== null) await refuseExpired(db, cursor, request, BigInt(horizon.xmax))
  const rows = await readRows(db, request, cursor, horizon.xmin)
  const taken: { id: number; row: Row }[] = []
  let next: Cursor | null = null
  for (const row of rows) {
    const skip = BigInt(row.xid) === cursor.xid && row.seq === cursor.seq ? cursor.taken : 0
    const room = request.limit - taken.length
    const ids = row.ids.slice(skip, skip + room)
    for (const id of ids) taken.push({ id, row })
    if (skip + ids.length < row.ids.length) {
      next = { xid: BigInt(row.xid), seq: row.seq, taken: skip + ids.length, issuedS }
      break
    }
  }
  const last = rows.at(-1)
  if (next === null && last !== undefined && rows.length === ROWS_PER_PAGE) {
    next = { xid: BigInt(last.xid), seq: last.seq, taken: Number.MAX_SAFE_INTEGER, issuedS }
  }
  const names = await accountNames(db, [...new Set(taken.map((t) => t.id))])
  const items = taken.flatMap(({ id, row }): ChangeItem[] => {
    const account = names.get(id)
    return account === undefined ? [] : [{ account, day: row.day, restated: row.restated, at: row.at.toISOString() }]
  })
  return { items, next: encode(next ?? frontier), more: next !== null }
}

async function readRows(db: Queryable, request: ChangeRequest, cursor: Cursor, xmin: string): Promise<Row[]> {
  // A row may name 50,000 accounts: rows are taken only until the page is full. A member's rows are told apart by the
  // database, so that nobody else's accounts leave it.
  const { rows } = await db.query<Row>(
    `select xid::text as xid, seq, at, day, restated, ids
       from (select c.*, sum(cardinality(ids)) over (order by xid, seq) - cardinality(ids) as before
               from (select xid, seq, at, day, restated,
                            case when $6::int[] is null then account_ids
                                 else array(select a from unnest(account_ids) with ordinality as u(a, place)
                                             where a = any($6::int[]) order by place) end as ids
                       from change
                      where (xid, seq) >= ($2::xid8, $3::int8) and xid < $4::xid8 and utility_id = $1
                      order by xid, seq
                      limit ${ROWS_PER_PAGE}) c) c
      where before <= $5::int8
      order by c.xid, c.seq`,
    [request.utilityId, String(cursor.xid), cursor.seq, xmin,
      request.limit + Math.min(cursor.taken, 1_000_000), request.accountIds === null ? null : intArray(request.accountIds)])
  return rows
}

async function accountNames(db: Queryable, ids: number[]): Promise<Map<number, string>> {
  const { rows } = await db.query<{ account_id: number; id: string }>(
    'select account_id, id from account where account_id = any($1::int[])', [intArray(ids)])
  return new Map(rows.map((r) => [r.account_id, r.id]))
}

/**
 * A cursor has expired where rows after it may have been dropped: it is older than changes are kept, and no row at or
 * before it is left. One from ahead of the database (restored from a backup) is told the same.
 */
async function refuseExpired(db: Queryable, cursor: Cursor, request: ChangeRequest, xmax: bigint): Promise<void> {
  // A day's grace: a transaction may have begun well before the cursor was told.
  const isOld = request.nowMs / 1000 - cursor.issuedS > (CHANGE_DAYS - 1) * 86_400
  if (!isOld && cursor.xid <= xmax) return
  if (cursor.xid <= xmax) {
    const { rows } = await db.query(
      'select 1 from change where (xid, seq) <= ($1::xid8, $2::int8) and utility_id = $3 limit 1',
      [String(cursor.xid), cursor.seq, request.utilityId])
    if (rows.length > 0) return
  }
  throw new ApiError(410, 'cursor-expired', `Changes are kept for ${CHANGE_DAYS} days; some after this cursor may be gone.`, {
    at: '/since', in: 'query', help: 'take a cursor with since=now, read the usage anew, then follow the changes from that cursor' })
}

function encode(c: Cursor): string {
  return Buffer.from(`${c.xid}.${c.seq}.${c.taken}.${c.issuedS}`).toString('base64url')
}

function decode(text: string): Cursor {
  const parts = /^(\d{1,19})\.(\d{1,16})\.(\d{1,16})\.(\d{1,12})$/.exec(Buffer.from(text, 'base64url').toString('latin1'))
  if (parts === null) {
    throw new ApiError(422, 'invalid-cursor', 'This is not a cursor that the change feed gave.', { at: '/since', in: 'query' })
  }
  return { xid: BigInt(parts[1]), seq: Number(parts[2]), taken: Number(parts[3]), issuedS: Number(parts[4]) }
}
