import { isDeepStrictEqual } from 'node:util'
import { writeAudit } from '../audit.js'
import { ApiError } from '../problem.js'
import type { WriteOptions } from '../registry/accounts.js'
import { registryWrite } from '../registry/write.js'
import type { Pool, Queryable } from '../store/db.js'
import { enqueueDue } from '../thresholds/due.js'
import { dayNumber } from '../time/text.js'
import { getZone } from '../time/zone.js'
import { checkVersions, type RateRecord, type RateVersionRecord } from './schema.js'

/** A rate with its versions, the oldest first. */
export interface RateView {
  rate: string
  name: string | null
  versions: RateVersionRecord[]
}

/** Rates of a utility in the order of their ids, from after one on; or the one named. */
export async function readRates(
  db: Queryable, utilityId: number, options: { id?: string; after?: string | null; limit: number },
): Promise<RateView[]> {
  const { rows } = await db.query<{ id: string; name: string | null; versions: RateVersionRecord[] }>(
    `select r.id, r.name, (select jsonb_agg(v.body order by v.from_day) from rate_version v where v.rate_id = r.rate_id) as versions
       from rate r
      where r.utility_id = $1 and ($2::text is null or r.id = $2) and ($3::text is null or r.id > $3)
      order by r.id limit $4`, [utilityId, options.id ?? null, options.after ?? null, options.limit])
  return rows.map((r) => ({ rate: r.id, name: r.name, versions: r.versions }))
}

/**
 * Makes a rate, or adds to it: a version replaces the one that begins on the same day, and those that are left out stay.
 * Idempotent. What was judged by it is judged anew by the schedule.
 * @throws ApiError 422 `invalid-rate`
 */
export async function putRate(
  pool: Pool, utilityId: number, id: string, record: RateRecord, { actor, now }: Pick<WriteOptions, 'actor' | 'now'>,
): Promise<'created' | 'changed' | 'unchanged'> {
  checkVersions(record.versions)
  return registryWrite(pool, utilityId, async (client) => {
    const before = (await readRates(client, utilityId, { id, limit: 1 })).at(0)
    const stood = new Map<string, RateVersionRecord>(before?.versions.map((v) => [v.from, v]))
    const fresh = record.versions.filter((v) => !isDeepStrictEqual(v, stood.get(v.from)))
    const name = record.name === undefined ? before?.name ?? null : record.name
    if (before !== undefined && fresh.length === 0 && name === before.name) return { changed: false, result: 'unchanged' as const }
    const { rows: [{ rate_id: rateId }] } = await client.query<{ rate_id: number }>(
      `insert into rate (utility_id, id, name) values ($1, $2, $3)
       on conflict (utility_id, id) do update set name = excluded.name returning rate_id`, [utilityId, id, name])
    await client.query(
      `insert into rate_version (rate_id, from_day, body)
       select $1, (v->>'from')::date, v from jsonb_array_elements($2::jsonb) v
       on conflict (rate_id, from_day) do update set body = excluded.body, made_at = now()`, [rateId, JSON.stringify(fresh)])
    if (fresh.length > 0) await judgeLater(client, utilityId, id, Math.min(...fresh.map((v) => dayNumber(v.from))), now)
    await writeAudit(client, {
      utilityId, actor, action: 'rate.write', subject: id, detail: { versions: fresh.map((v) => v.from) } })
    return { changed: true, result: before === undefined ? 'created' as const : 'changed' as const }
  })
}

/** What depends on the rate is judged anew, for the periods that its thresholds judge. */
async function judgeLater(db: Queryable, utilityId: number, rate: string, fromDay: number, now: Date): Promise<void> {
  const { rows: [{ zone }] } = await db.query<{ zone: string | null }>('select zone from utility where utility_id = $1', [utilityId])
  if (zone === null) return
  const { rows } = await db.query<{ account_id: number; from_s: number }>(
    `select t.account_id, extract(epoch from min(t.version_from))::float8 as from_s
       from threshold t
      where t.utility_id = $1 and t.deleted_at is null and (t.tou_period is not null or t.kind in ('period-cost', 'projected-cost'))
        and exists (select from account_rate a where a.account_id = t.account_id and a.rate = $2)
      group by t.account_id order by t.account_id`, [utilityId, rate])
  if (rows.length === 0) return
  const nowS = now.getTime() / 1000
  const today = getZone(zone).dayOf(nowS)
  const since = Math.max(fromDay, getZone(zone).dayOf(rows.reduce((least, r) => Math.min(least, r.from_s), Infinity)))
  await enqueueDue(db, utilityId, [{
    fromDay: Math.min(since, today), toDay: today + 1, dueS: nowS, everyKind: true, history: false, accountIds: rows.map((r) => r.account_id) }])
}

/** From which local day on an account has a rate. */
export interface AccountRate {
  readonly account: string
  readonly rate: { readonly id: string; readonly from: string } | null
}

/** Writes accounts' rates: from that day on it is this one, and what was before stays. No rate: none is known any more. */
export async function writeAccountRates(db: Queryable, utilityId: number, rates: readonly AccountRate[]): Promise<void> {
  if (rates.length === 0) return
  const list = JSON.stringify(rates.map((r) => ({ account: r.account, rate: r.rate?.id ?? null, from_day: r.rate?.from.slice(0, 10) ?? null })))
  const from = `from jsonb_to_recordset($2::jsonb) as r(account text, rate text, from_day date)
                join account a on a.utility_id = $1 and a.id = r.account`
  await db.query(
    `delete from account_rate t using (select a.account_id, r.from_day ${from}) r
      where t.account_id = r.account_id and (r.from_day is null or t.from_day >= r.from_day)`, [utilityId, list])
  await db.query(
    `insert into account_rate (account_id, from_day, rate) select a.account_id, r.from_day, r.rate ${from} where r.rate is not null`,
    [utilityId, list])
}

export function rateNotFound(): ApiError {
  return new ApiError(404, 'rate-not-found', 'There is no such rate.')
}
