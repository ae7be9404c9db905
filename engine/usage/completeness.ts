import type { Queryable } from '../store/db.js'
import { dayText } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import { expectedThrough } from './freshness.js'
import { SPANS } from './segments.js'

interface Counts {
  expected: number
  present: number
  estimated: number
  missing: number
}

export interface CompletenessAnswer extends Counts {
  day: string
  timeZone: string
  /** False while the day's reads are not due yet. */
  due: boolean
  /** Main meters that served an account on the day and had read before its end. */
  meters: number
  /** Active main meters that served an account on the day and have never read: nothing is expected of them yet. */
  neverRead: number
  /** With by=source the source of each channel's newest delivery, with by=group each value of the accounts' groups. */
  groups?: (Counts & { source?: string | null; group?: string; value?: string })[]
  /** The twenty meters that lack the most. */
  worst: (Counts & { meter: string; account: string })[]
}

/**
 * One row per channel that counts on the day: how many slots start where it counts, and how many hold a read. Channels
 * that had never read by then are left out, as in usage answers. Where the channel counts all day the stored counts
 * answer; where an assignment begins or ends within the day, the slots do.
 *
 * $1 utility, $2 day, $3 and $4 its start and end (epoch seconds).
 */
const CHANNELS = `
  counting as (
    select m.meter_id, m.id as meter, a.account_id, c.channel_id, c.interval_s,
           extract(epoch from greatest(a.from_at, s.from_at, to_timestamp($3)))::float8 as from_s,
           extract(epoch from least(a.to_at, s.to_at, to_timestamp($4)))::float8 as to_s
      from meter m
      join meter_assignment a using (meter_id)
      join channel c on c.meter_id = m.meter_id and c.quantity = 1
      ${SPANS}
     where m.utility_id = $1 and m.role = 'main'
       and a.from_at < to_timestamp($4) and (a.to_at is null or a.to_at > to_timestamp($3))
       and (not c.shared or (s.channel_id is not null and coalesce(s.from_at, '-infinity') < to_timestamp($4) and coalesce(s.to_at, 'infinity') > to_timestamp($3)))
       and (s.channel_id is null or tstzrange(a.from_at, a.to_at) && tstzrange(s.from_at, s.to_at))
  ), held as (
    select k.*, d.channel_id is not null as has_row, coalesce(d.delivery_no, e.delivery_no) as delivery_no, d.vals, d.lane,
           d.present, d.estimated,
           coalesce(extract(epoch from d.first_at)::float8, $3) as first_s,
           k.from_s = $3 and k.to_s = $4 as whole
      from counting k
      left join channel_day d on d.channel_id = k.channel_id and d.day = $2::date
      left join lateral (
           select delivery_no from channel_day e
            where d.channel_id is null and e.channel_id = k.channel_id and e.day < $2::date
            order by e.day desc limit 1) e on true
     where d.channel_id is not null or e.delivery_no is not null
  ), counted as (
    select h.meter_id, h.meter, h.account_id, h.delivery_no,
           case when interval_s = 86400 then (from_s <= $3)::int
                else greatest(0, ceil((to_s - first_s) / interval_s) - greatest(0, ceil((from_s - first_s) / interval_s)))
           end::int as expected,
           case when not has_row then 0 when whole then h.present else p.present end::int as present,
           case when not has_row then 0 when whole then h.estimated else p.estimated end::int as estimated
      from held h
      left join lateral (
           select count(*) as present, count(*) filter (where h.lane[i] & 7 = 1) as estimated
             from unnest(h.vals) with ordinality as v(value, i)
            where not h.whole and value is not null
              and h.first_s + (i - 1) * h.interval_s >= h.from_s and h.first_s + (i - 1) * h.interval_s < h.to_s) p on true
  )`

const SUMS = `sum(expected)::int8 as expected, sum(present)::int8 as present, sum(estimated)::int8 as estimated,
  sum(greatest(0, expected - present))::int8 as missing`

const GROUPS = {
  source: `
    select s.name as source, ${SUMS}
      from counted
      left join (select distinct delivery_no, source_id from delivery
                  where utility_id = $1 and delivery_no = any(array(select distinct delivery_no from counted))) d
           using (delivery_no)
      left join source s on s.source_id = d.source_id
     group by s.name order by s.name nulls last`,
  group: `
    select g.key as "group", g.value, ${SUMS}
      from counted join account using (account_id) cross join lateral jsonb_each_text(groups) g
     group by g.key, g.value order by g.key, g.value`,
}

interface Row {
  totals: Counts & { meters: number }
  never_read: number
  worst: CompletenessAnswer['worst']
  groups: CompletenessAnswer['groups'] | null
}

/** How much of a day is in, over the utility's main meters. @param nowS epoch seconds */
export async function completeness(
  db: Queryable, zone: Zone, utilityId: number, day: number, by: 'source' | 'group' | null, nowS: number,
): Promise<CompletenessAnswer> {
  const startS = zone.dayStart(day)
  const endS = zone.dayStart(day + 1)
  const groups = by === null ? 'null' : `coalesce((select json_agg(g) from (${GROUPS[by]}) g), '[]')`
  const { rows: [row] } = await db.query<Row>(
    `with ${CHANNELS}
     select (select row_to_json(t) from (
              select count(distinct meter_id)::int as meters, coalesce(sum(expected), 0)::int8 as expected,
                     coalesce(sum(present), 0)::int8 as present, coalesce(sum(estimated), 0)::int8 as estimated,
                     coalesce(sum(greatest(0, expected - present)), 0)::int8 as missing
                from counted) t) as totals,
            (select count(distinct m.meter_id)::int
               from meter m join meter_assignment a using (meter_id)
              where m.utility_id = $1 and m.role = 'main' and m.status = 'active'
                and a.from_at < to_timestamp($4) and (a.to_at is null or a.to_at > to_timestamp($3))
                and not exists (select from channel c where c.meter_id = m.meter_id)) as never_read,
            coalesce((select json_agg(w) from (
              select meter, id as account, ${SUMS}
                from counted join account using (account_id)
               group by meter, id having sum(greatest(0, expected - present)) > 0
               order by missing desc, meter limit 20) w), '[]') as worst,
            ${groups} as groups`, [utilityId, dayText(day), startS, endS])
  return {
    day: dayText(day),
    timeZone: zone.name,
    due: endS <= expectedThrough(zone, nowS),
    ...row.totals,
    neverRead: row.never_read,
    ...(row.groups === null ? {} : { groups: row.groups }),
    worst: row.worst,
  }
}

/** Newest day whose reads are due. */
export function newestDueDay(zone: Zone, nowS: number): number {
  return zone.dayOf(expectedThrough(zone, nowS)) - 1
}

