import type { FlowCode } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import { instantText } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import type { Range } from './range.js'

export interface LoadHour {
  start: string
  /** Energy of reads of an hour or shorter, kWh. */
  value: number
  /** Energy of longer reads that start in the hour: how it spreads over later hours is not known. */
  notHourly?: number
}

export interface SystemLoadAnswer {
  timeZone: string
  from: string
  to: string
  unit: 'kWh'
  intervalSeconds: 3600
  hours: LoadHour[]
  /** The hour of the greatest energy, which is the mean power in kW too. */
  peak: { hour: string; value: number } | null
  /** Energy of all hours, longer reads included. */
  total: number | null
  /** How much of it comes from reads longer than an hour; absent where none does. */
  notHourly?: number
}

interface Row {
  hour_s: number
  energy: string
  coarse: string
}

/** The utility's energy per hour, for the hours that start in the range; an hour without reads is left out. */
export async function systemLoad(
  db: Queryable, zone: Zone, utilityId: number, flow: FlowCode, range: Range,
): Promise<SystemLoadAnswer> {
  // The sums are made by the database: numeric is exact.
  const parameters = [utilityId, flow, range.fromS, range.toS]
  const where = `where utility_id = $1 and group_id = 0 and flow = $2
    and hour >= to_timestamp($3) and hour < to_timestamp($4)`
  const { rows } = await db.query<Row>(
    `select extract(epoch from hour)::float8 as hour_s, trim_scale(energy) as energy, trim_scale(coarse) as coarse
       from system_load ${where} order by hour`, parameters)
  const { rows: [sums] } = await db.query<{ total: string | null; coarse: string | null }>(
    `select sum(energy + coarse) as total, sum(coarse) as coarse from system_load ${where}`, parameters)
  let peak: Row | undefined
  for (const row of rows) if (peak === undefined || Number(row.energy) > Number(peak.energy)) peak = row
  return {
    timeZone: zone.name,
    from: instantText(range.fromS, zone),
    to: instantText(range.toS, zone),
    unit: 'kWh',
    intervalSeconds: 3600,
    hours: rows.map((r) => ({
      start: instantText(r.hour_s, zone), value: Number(r.energy), ...notHourly(r.coarse),
    })),
    peak: peak === undefined ? null : { hour: instantText(peak.hour_s, zone), value: Number(peak.energy) },
    total: sums.total === null ? null : Number(sums.total),
    ...notHourly(sums.coarse),
  }
}

function notHourly(coarse: string | null): { notHourly?: number } {
  return coarse === null || Number(coarse) === 0 ? {} : { notHourly: Number(coarse) }
}
