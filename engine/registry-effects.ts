import type { NotifySecrets } from './contacts/seal.js'
import { LoadDifference } from './load.js'
import type { FlowCode } from './read-batch.js'
import { blockColumns, blockOf, intArray, type BlockRow } from './store/blocks.js'
import { arrayParsers } from './store/array-text.js'
import { readSpans } from './store/channels.js'
import type { Queryable } from './store/db.js'
import { enqueueDue } from './thresholds/due.js'
import { reevaluateAccounts } from './thresholds/evaluate.js'
import { dayText } from './time/text.js'
import { getZone, type Zone } from './time/zone.js'

/** A meter serves an account from one instant to another: epoch seconds, the end exclusive, null while open. */
export interface ServiceSpan {
  meterId: number
  accountId: number
  fromS: number
  toS: number | null
}

/** What a registry write changed, as far as totals, load and alerts depend on it. */
export interface RegistryChange {
  utilityId: number
  /** The registry epoch that the write stamped. */
  epoch: number
  /** Assignments that began, ended or moved, as they were and as they are. */
  moves: ServiceSpan[]
  /** Accounts whose assignments, billing day or billing periods changed. */
  accountIds: number[]
  /** Meters whose role changed; only `main` meters count in the utility's load. */
  roleChanges: { meterId: number; from: string; to: string }[]
}

/**
 * Brings system load, change feed and alerts in line with a registry write; runs in its transaction, before the commit.
 * The exclusive registry lock keeps settling out.
 */
export async function afterRegistryChange(
  db: Queryable, change: RegistryChange, { now, secrets }: { readonly now: Date; readonly secrets: NotifySecrets },
): Promise<void> {
  const { rows } = await db.query<{ zone: string | null }>('select zone from utility where utility_id = $1', [change.utilityId])
  // Without a zone the utility has no reads yet.
  if (rows[0]?.zone == null) return
  const zone = getZone(rows[0].zone)
  const roles = change.roleChanges.filter((r) => (r.from === 'main') !== (r.to === 'main'))
  if (roles.length > 0) await moveLoad(db, change.utilityId, zone, roles)
  const served = await servedBy(db, roles.map((r) => r.meterId))
  const accountIds = [...new Set([...change.accountIds, ...served.map((s) => s.accountId)])].sort((a, b) => a - b)
  if (accountIds.length === 0) return
  await noteChanges(db, change.utilityId, zone, [...change.moves, ...served])
  // A meter may have moved at any time since a threshold was made: every period that it judges is judged anew.
  const { rows: [since] } = await db.query<{ from_s: number | null }>(
    `select extract(epoch from min(version_from))::float8 as from_s from threshold
      where account_id = any($1::int[]) and deleted_at is null`, [intArray(accountIds)])
  if (since.from_s === null) return
  const fromDay = zone.dayOf(since.from_s)
  await reevaluateAccounts(db, { utilityId: change.utilityId, zone, accountIds, fromDay, now, deliveryId: null, secrets })
  await enqueueDue(db, change.utilityId, [{
    fromDay, toDay: zone.dayOf(now.getTime() / 1000) + 1, dueS: now.getTime() / 1000, everyKind: false, history: false, accountIds }])
}

const CHUNK = 20_000

/** Takes out of the load what meters that are not `main` any more contributed, and puts in what those that became it do. */
async function moveLoad(db: Queryable, utilityId: number, zone: Zone, roles: RegistryChange['roleChanges']): Promise<void> {
  const becomesMain = new Map(roles.map((r) => [r.meterId, r.to === 'main']))
  const { rows: channels } = await db.query<{ channel_id: number; meter_id: number; flow: FlowCode; shared: boolean }>(
    'select channel_id, meter_id, flow, shared from channel where meter_id = any($1::int[]) and quantity = 1',
    [intArray([...becomesMain.keys()])])
  if (channels.length === 0) return
  const byId = new Map(channels.map((c) => [c.channel_id, c]))
  const spans = await readSpans(db, channels.filter((c) => c.shared).map((c) => c.channel_id))
  const load = new LoadDifference(zone)
  let after = { channel: 0, day: '-infinity' }
  for (;;) {
    const { rows } = await db.query<BlockRow & { day_text: string }>({
      text: `select ${blockColumns('d')}, d.day::text as day_text from channel_day d
              where d.channel_id = any($1::int[]) and (d.channel_id, d.day) > ($2::int, $3::date)
              order by d.channel_id, d.day limit ${CHUNK}`,
      values: [intArray([...byId.keys()]), after.channel, after.day], types: arrayParsers,
    })
    for (const row of rows) {
      const channel = byId.get(row.channel_id)!
      load.add(blockOf(row), channel.flow, channel.shared ? spans.get(row.channel_id) ?? null : null,
        becomesMain.get(channel.meter_id) === true ? 1 : -1)
    }
    if (rows.length < CHUNK) break
    const last = rows[rows.length - 1]
    after = { channel: last.channel_id, day: last.day_text }
  }
  await load.write(db, utilityId)
}

/** The assignments of the meters as they stand. */
async function servedBy(db: Queryable, meterIds: number[]): Promise<ServiceSpan[]> {
  if (meterIds.length === 0) return []
  const { rows } = await db.query<{ meter_id: number; account_id: number; from_s: number; to_s: number | null }>(
    `select meter_id, account_id, extract(epoch from from_at)::float8 as from_s, extract(epoch from to_at)::float8 as to_s
       from meter_assignment where meter_id = any($1::int[])`, [intArray(meterIds)])
  return rows.map((r) => ({ meterId: r.meter_id, accountId: r.account_id, fromS: r.from_s, toS: r.to_s }))
}

/** The year 2200. */
const FAR_S = Date.UTC(2200, 0, 1) / 1000
/** Accounts in one row of the change feed. */
const FEED_ROW = 1000

/**
 * The change feed's rows: for each account the stored days of the time in which the meter served it, before or after the
 * write. Never other days: an account must not learn when the meter was read for somebody else.
 */
async function noteChanges(db: Queryable, utilityId: number, zone: Zone, moves: readonly ServiceSpan[]): Promise<void> {
  for (let i = 0; i < moves.length; i += CHUNK) {
    const spans = moves.slice(i, i + CHUNK).map((m) => ({
      meter_id: m.meterId, account_id: m.accountId,
      // Other systems write the years 1 and 9999 for "always": their neighbours are no dates of the database.
      first: m.fromS < 0 ? '-infinity' : dayText(zone.dayOf(m.fromS)),
      last: m.toS === null || m.toS > FAR_S ? 'infinity' : dayText(zone.dayOf(m.toS - 1)),
    }))
    await db.query(
      `with days as (
         select distinct d.day, s.account_id
           from jsonb_to_recordset($2::jsonb) as s(meter_id int, account_id int, first date, last date)
           join channel c using (meter_id)
           join channel_day d on d.channel_id = c.channel_id and d.day >= s.first and d.day <= s.last),
       numbered as (
         select day, account_id, (row_number() over (partition by day order by account_id) - 1) / ${FEED_ROW} as part from days)
       insert into change (utility_id, day, restated, account_ids, delivery_no)
       select $1, day, true, array_agg(account_id order by account_id), 0 from numbered group by day, part order by day, part`,
      [utilityId, JSON.stringify(spans)])
  }
}
