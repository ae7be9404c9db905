import { randomUUID } from 'node:crypto'
import type { Sealer } from '../contacts/seal.js'
import { inTransaction, type Pool, type Queryable } from '../store/db.js'
import { instantText } from '../time/text.js'
import { getZone } from '../time/zone.js'
import { addresseesOf, deliverNotice } from './deliver-notice.js'

/** A power-down is told when no power-up followed within so long: a recloser's blink is nobody's news. */
export const DEBOUNCE_S = 180
/** What arrives later than this is history: nobody is told of last night's outage at noon. */
const STALE_S = 6 * 3600
const LOCK = 0x4d03

interface Due {
  outage_id: string
  utility_id: number
  account_id: number
  state: 'waiting' | 'told'
  down_s: number
  up_s: number | null
  zone: string | null
}

/**
 * Makes outages of the power events that came in and tells the accounts' contacts (category service) of those that last,
 * and of the end of those that they were told of. Any number of processes may call it; one does the work at a time.
 * @returns the number of messages written
 */
export async function tellOutages(pool: Pool, sealer: Sealer, now: Date, debounceS = DEBOUNCE_S): Promise<number> {
  return inTransaction(pool, async (client) => {
    const { rows } = await client.query<{ mine: boolean }>('select pg_try_advisory_xact_lock($1::int, 0) as mine', [LOCK])
    if (!rows[0].mine) return 0
    await openOutages(client, now)
    await closeOutages(client)
    const nowS = now.getTime() / 1000
    let messages = 0
    for (const due of await dueOutages(client, nowS, debounceS)) messages += await tell(client, sealer, due, nowS, now)
    return messages
  })
}

/** A power-down of a registered meter opens an outage of the account that it served then; repetitions within one add nothing. */
async function openOutages(db: Queryable, now: Date): Promise<void> {
  await db.query(
    `insert into outage (outage_id, utility_id, meter_id, account_id, down_at, state)
     select gen_random_uuid(), e.utility_id, e.meter_id, s.account_id, e.at, 'waiting'
       from meter_event e
       join meter_assignment s on s.meter_id = e.meter_id and s.from_at <= e.at and (s.to_at is null or s.to_at > e.at)
      where e.kind = 'power-down' and e.received_at > $1::timestamptz - make_interval(secs => $2::float8) and e.at > $1::timestamptz - make_interval(secs => $2::float8)
        and not exists (select 1 from outage o where o.meter_id = e.meter_id and o.down_at <= e.at and (o.up_at is null or o.up_at > e.at))
        and not exists (select 1 from meter_event f where f.utility_id = e.utility_id and f.meter_id = e.meter_id and f.kind = 'power-down' and f.at < e.at
                           and not exists (select 1 from meter_event u where u.utility_id = f.utility_id and u.meter_id = f.meter_id
                                              and u.kind = 'power-up' and u.at > f.at and u.at <= e.at)
                           and f.at > $1::timestamptz - make_interval(secs => $2::float8))
     on conflict (meter_id, down_at) do nothing`, [now, STALE_S])
}

/** Of whatever state: one that nobody was told of, and that never ended, would hide every later one of its meter. */
async function closeOutages(db: Queryable): Promise<void> {
  await db.query(
    `update outage o set up_at = ended.at
       from (select p.outage_id, min(e.at) as at
               from outage p
               join meter_event e on e.utility_id = p.utility_id and e.meter_id = p.meter_id and e.kind = 'power-up' and e.at > p.down_at
              where p.up_at is null group by p.outage_id) ended
      where o.outage_id = ended.outage_id`)
}

async function dueOutages(db: Queryable, nowS: number, debounceS: number): Promise<Due[]> {
  const { rows } = await db.query<Due>(
    `select o.outage_id, o.utility_id, o.account_id, o.state, extract(epoch from o.down_at)::float8 as down_s, extract(epoch from o.up_at)::float8 as up_s,
            coalesce(a.zone, u.zone) as zone
       from outage o join account a using (account_id) join utility u on u.utility_id = o.utility_id
      where o.state = 'waiting' and (o.up_at is not null or extract(epoch from o.down_at) <= $1 - $2::float8)
         or o.state = 'told' and o.up_at is not null
      order by o.outage_id for update of o`, [nowS, debounceS])
  return rows
}

async function tell(db: Queryable, sealer: Sealer, due: Due, nowS: number, now: Date): Promise<number> {
  const wasTold = due.state === 'told'
  const isStale = nowS - (due.up_s ?? due.down_s) > STALE_S
  const next = due.up_s !== null ? (wasTold ? 'over' : 'ignored') : isStale ? 'ignored' : 'told'
  await db.query('update outage set state = $2 where outage_id = $1', [due.outage_id, next])
  if (next === 'ignored' || (next === 'over' && isStale)) return 0
  const zone = getZone(due.zone ?? 'UTC')
  return deliverNotice(db, sealer, {
    noticeId: randomUUID(), utilityId: due.utility_id, category: 'service', template: next === 'told' ? 'outage' : 'restoration',
    params: { startsAt: instantText(due.down_s, zone), ...(due.up_s === null ? {} : { endsAt: instantText(due.up_s, zone) }) },
    expiresAt: new Date((nowS + STALE_S) * 1000),
  }, await addresseesOf(db, [due.account_id], 'service'), now)
}
