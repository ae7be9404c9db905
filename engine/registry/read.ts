import type { Queryable } from '../store/db.js'
import { instantText } from '../time/text.js'
import { getZone } from '../time/zone.js'

/** Which registry rows are asked for. */
export interface RegistryQuery {
  readonly utilityId: number
  /** Public id of one row, or a meter's alias; null: a page. */
  readonly id: string | null
  /** Rows with a greater id. */
  readonly after: string | null
  readonly limit: number
  /** Public ids of the accounts that the caller may see; null: all of the utility's. */
  readonly accounts: readonly string[] | null
  /** Meters only: those that serve or served this account. */
  readonly account?: string | null
}

/** An account as answers show it. */
export interface AccountView {
  account: string
  nickname: string | null
  name: string | null
  billingDay: number | null
  periodSource: 'cis' | 'billingDay' | 'calendar'
  rate: { id: string; from: string } | null
  groups: Record<string, string>
  zone: string | null
}

/** A meter as answers show it. */
export interface MeterView {
  meter: string
  aliases: string[]
  role: string
  status: string
  intervalSeconds: number | null
  flows: string[] | null
  multiplier: number
  serviceKw: number | null
  assignments: { account: string; servicePoint: string | null; from: string; to: string | null }[]
}

/** Accounts in the order of their ids. */
export async function readAccounts(db: Queryable, query: RegistryQuery): Promise<AccountView[]> {
  const { rows } = await db.query<AccountView>(
    `select a.id as account, a.nickname, a.name, a.billing_day as "billingDay", a.rate, a.groups, a.zone,
            case when exists (select 1 from billing_period b where b.account_id = a.account_id) then 'cis'
                 when a.billing_day is not null then 'billingDay' else 'calendar' end as "periodSource"
       from account a
      where a.utility_id = $1 and ($2::text is null or a.id = $2) and ($3::text is null or a.id > $3)
        and ($4::text[] is null or a.id = any($4))
      order by a.id limit $5`, [query.utilityId, query.id, query.after, query.accounts, query.limit])
  return rows
}

interface MeterRow {
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

/**
 * Meters in the order of their ids, with their assignments in the utility's offsets. Where the caller sees some accounts
 * only, meters that never served one are left out, and so are the assignments to others.
 */
export async function readMeters(db: Queryable, query: RegistryQuery): Promise<MeterView[]> {
  const { rows } = await db.query<MeterRow>(
    `select m.meter_id, m.id, m.aliases, m.role, m.status, m.interval_s, m.flows, m.multiplier, m.service_kw from meter m
      where m.utility_id = $1 and ($2::text is null or m.meter_id = coalesce(
              (select meter_id from meter where utility_id = $1 and id = $2),
              (select meter_id from meter_alias where utility_id = $1 and alias = $2)))
        and ($3::text is null or m.id > $3)
        and ($4::text[] is null or exists (
              select 1 from meter_assignment s join account a using (account_id)
               where s.meter_id = m.meter_id and a.id = any($4)))
        and ($6::text is null or m.meter_id in (
              select s.meter_id from meter_assignment s join account a using (account_id)
               where a.utility_id = $1 and a.id = $6 and ($4::text[] is null or a.id = any($4))))
      order by m.id limit $5`,
    [query.utilityId, query.id, query.after, query.accounts, query.limit, query.account ?? null])
  const assignments = await db.query<AssignmentRow>(
    `select s.meter_id, a.id as account, s.service_point, extract(epoch from s.from_at)::float8 as from_s,
            extract(epoch from s.to_at)::float8 as to_s
       from meter_assignment s join account a using (account_id)
      where s.meter_id = any($1::int[]) and ($2::text[] is null or a.id = any($2))
      order by s.meter_id, s.from_at`, [rows.map((r) => r.meter_id), query.accounts])
  const utility = await db.query<{ zone: string | null }>('select zone from utility where utility_id = $1', [query.utilityId])
  const zone = getZone(utility.rows[0]?.zone ?? 'UTC')
  return rows.map((r) => ({
    meter: r.id,
    aliases: r.aliases,
    role: r.role,
    status: r.status,
    intervalSeconds: r.interval_s,
    flows: r.flows,
    multiplier: Number(r.multiplier),
    serviceKw: r.service_kw === null ? null : Number(r.service_kw),
    assignments: assignments.rows.filter((a) => a.meter_id === r.meter_id).map((a) => ({
      account: a.account,
      servicePoint: a.service_point,
      from: instantText(a.from_s, zone),
      to: a.to_s === null ? null : instantText(a.to_s, zone),
    })),
  }))
}
