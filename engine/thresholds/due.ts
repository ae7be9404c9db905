import { groupBy } from '../group-by.js'
import { intArray } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import { dayNumber, dayText } from '../time/text.js'
import type { Zone } from '../time/zone.js'

/** Accounts whose thresholds are to be judged on the local days [fromDay, toDay) at or after dueS, epoch seconds. */
export interface Due {
  readonly fromDay: number
  readonly toDay: number
  readonly dueS: number
  /** False: only what settling does not judge itself. */
  readonly everyKind: boolean
  readonly history: boolean
  readonly accountIds: readonly number[]
}

/** Accounts in one row: a delivery of the whole fleet adds some dozens of rows. */
const ROW_ACCOUNTS = 1000
/** Rows taken in one transaction. */
const ROWS_AT_A_TIME = 4

/** Writes what is to be judged later, in the transaction that gives the reason. */
export async function enqueueDue(db: Queryable, utilityId: number, due: readonly Due[]): Promise<void> {
  const rows = due.flatMap((d) => {
    const parts: { d: Due; accounts: readonly number[] }[] = []
    for (let i = 0; i < d.accountIds.length; i += ROW_ACCOUNTS) parts.push({ d, accounts: d.accountIds.slice(i, i + ROW_ACCOUNTS) })
    return parts
  })
  if (rows.length === 0) return
  await db.query(
    `insert into threshold_due (utility_id, due_at, from_day, to_day, every_kind, history, account_ids)
     select $1, to_timestamp(due_s), from_day, to_day, every_kind, history, accounts::int[]
       from unnest($2::float8[], $3::date[], $4::date[], $5::boolean[], $6::boolean[], $7::text[])
         as d(due_s, from_day, to_day, every_kind, history, accounts)`,
    [utilityId, rows.map(({ d }) => d.dueS), rows.map(({ d }) => dayText(d.fromDay)), rows.map(({ d }) => dayText(d.toDay)),
      rows.map(({ d }) => d.everyKind), rows.map(({ d }) => d.history), rows.map(({ accounts }) => intArray(accounts))])
}

/** Leaves all that the utility's thresholds judge to the schedule, from the first of them on. */
export async function judgeAllLater(db: Queryable, utilityId: number, zone: Zone, now: Date): Promise<void> {
  const { rows } = await db.query<{ account_id: number; from_s: number }>(
    `select account_id, extract(epoch from min(version_from))::float8 as from_s from threshold
      where utility_id = $1 and deleted_at is null group by account_id order by account_id`, [utilityId])
  if (rows.length === 0) return
  const nowS = now.getTime() / 1000
  await enqueueDue(db, utilityId, [{
    fromDay: zone.dayOf(rows.reduce((least, r) => Math.min(least, r.from_s), nowS)), toDay: zone.dayOf(nowS) + 1, dueS: nowS,
    everyKind: true, history: false, accountIds: rows.map((r) => r.account_id) }])
}

/** Puts what waits for the same instant, and for the same days, into one. */
export function joinDue(
  waiting: readonly { accountId: number; startDay: number; endDay: number; againAtS: number; history: boolean }[],
): Due[] {
  return [...groupBy(waiting, (w) => `${w.againAtS} ${w.startDay} ${w.endDay} ${w.history}`).values()].map((group) => ({
    fromDay: group[0].startDay, toDay: group[0].endDay, dueS: group[0].againAtS, everyKind: false, history: group[0].history,
    accountIds: [...new Set(group.map((w) => w.accountId))].sort((a, b) => a - b),
  }))
}

interface Row {
  due_id: number
  from_day: string
  to_day: string
  every_kind: boolean
  history: boolean
  account_ids: number[]
}

/**
 * Takes some of what is due, for good once the transaction commits; none where nothing is. The caller holds the
 * utility's judging lock, so that nobody else takes the same accounts at the same time.
 */
export async function takeDue(db: Queryable, utilityId: number, nowS: number): Promise<Due[]> {
  const { rows } = await db.query<Row>(
    `delete from threshold_due where due_id in (
       select due_id from threshold_due where utility_id = $1 and due_at <= to_timestamp($2) order by due_at, due_id limit ${ROWS_AT_A_TIME})
     returning due_id, from_day, to_day, every_kind, history, account_ids`, [utilityId, nowS])
  return rows.map((r) => ({
    fromDay: dayNumber(r.from_day), toDay: dayNumber(r.to_day), dueS: nowS, everyKind: r.every_kind, history: r.history,
    accountIds: r.account_ids,
  }))
}

/** Utilities that have something due. */
export async function utilitiesWithDue(db: Queryable, nowS: number): Promise<{ utilityId: number; zone: string }[]> {
  const { rows } = await db.query<{ utilityId: number; zone: string }>(
    `select utility_id as "utilityId", zone from utility u
      where zone is not null and exists (select from threshold_due d where d.utility_id = u.utility_id and d.due_at <= to_timestamp($1))
      order by utility_id`, [nowS])
  return rows
}
