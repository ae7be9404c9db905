import { flowNames, type FlowCode } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import { instantText } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import type { LoadHour } from './system-load.js'
import type { Range } from './range.js'

/** The load of the accounts that share a value of a group, such as substation S1. */
export interface GroupLoad {
  /** The group's value; null: accounts without one, and meters that serve nobody. */
  group: string | null
  hours: LoadHour[]
  peak: { hour: string; value: number } | null
}

/** Longest range of a load by group, days: it is summed from the intervals when it is asked for. */
export const GROUP_LOAD_DAYS = 31

/**
 * Energy per local-clock hour and value of an account group, over main meters, by whom each served at the time. The
 * groups are those the accounts have now.
 * @param by name of the group, such as `substation`
 */
export async function loadByGroup(
  db: Queryable, zone: Zone, utilityId: number, flow: FlowCode, by: string, range: Range,
): Promise<GroupLoad[]> {
  const { rows } = await db.query<{ grp: string | null; hour_s: number; energy: string; coarse: string }>(
    `with reads as (
       select i.meter_id, i.start_at, i.kwh, i.interval_s > 3600 as coarse,
              extract(epoch from i.start_at) - mod(extract(epoch from i.start_at)
                + extract(epoch from (i.start_at at time zone i.zone) - (i.start_at at time zone 'UTC')), 3600) as hour_s
         from usage_interval i join meter m using (meter_id)
        where m.utility_id = $1 and i.role = 'main' and i.flow = $2
          and i.day >= (to_timestamp($3) at time zone 'UTC')::date - 1 and i.day <= (to_timestamp($4) at time zone 'UTC')::date + 1
          and i.start_at >= to_timestamp($3) and i.start_at < to_timestamp($4))
     select a.groups ->> $5 as grp, hour_s::float8,
            trim_scale(coalesce(sum(kwh) filter (where not coarse), 0)) as energy,
            trim_scale(coalesce(sum(kwh) filter (where coarse), 0)) as coarse
       from reads r
       left join meter_assignment s on s.meter_id = r.meter_id and r.start_at >= s.from_at
                                   and (s.to_at is null or r.start_at < s.to_at)
       left join account a using (account_id)
      group by 1, 2 order by 1 nulls last, 2`, [utilityId, flowNames[flow], range.fromS, range.toS, by])
  const groups: GroupLoad[] = []
  for (const row of rows) {
    let group = groups.at(-1)
    if (group === undefined || group.group !== row.grp) groups.push(group = { group: row.grp, hours: [], peak: null })
    const value = Number(row.energy)
    const hour = instantText(row.hour_s, zone)
    group.hours.push({ start: hour, value, ...(Number(row.coarse) === 0 ? {} : { notHourly: Number(row.coarse) }) })
    if (group.peak === null || value > group.peak.value) group.peak = { hour, value }
  }
  return groups
}
