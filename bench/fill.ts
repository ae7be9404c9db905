import type pg from 'pg'
import { openPool } from '../engine/store/db.js'
import { openStorage } from '../engine/store/storage.js'
import { dayText } from '../engine/time/text.js'
import { getZone } from '../engine/time/zone.js'
import type { Instance } from './instance.js'

export interface FillOptions {
  fromDay: number
  days: number
  /** 900 or 3600. */
  intervalS: number
  /** Told after each month. */
  onProgress: (rows: number) => void
}

const ZONE = 'America/Chicago'
const TEMPLATES = 64
const CONNECTIONS = 2

/**
 * Fills channel_day for every registered meter (its delivered channel), day by day, as daily pushes would leave it: rows of
 * one day beside each other. Inserted inside the database from templates, because pushing billions of reads would take
 * hours; what is measured afterwards is reading. Returns the rows.
 */
export async function fillDays(instance: Instance, options: FillOptions): Promise<number> {
  const { fromDay, days, intervalS } = options
  const pool = openPool(instance.databaseUrl, 2, 'meterline bench', () => undefined)
  try {
    const storage = await openStorage(pool)
    await storage.ensureForDays(Array.from({ length: days }, (_, i) => fromDay + i))
    await pool.query(
      `insert into channel (utility_id, meter_id, quantity, flow, interval_s)
       select utility_id, meter_id, 1, 1, $1 from meter order by meter_id on conflict do nothing`, [intervalS])
    await pool.query('update utility set holds_reads = true')
  } finally {
    await pool.end()
  }
  const clients = await Promise.all(Array.from({ length: CONNECTIONS }, () => instance.connect()))
  try {
    let rows = 0
    let next = 0
    await Promise.all(clients.map(async (client) => {
      await makeTemplates(client, intervalS)
      for (let i = next++; i < days; i = next++) {
        // Not `rows += await …`, which would read rows before the other connection's day is added.
        const added = await fillDay(client, fromDay + i, intervalS)
        rows += added
        if (i % 30 === 29) options.onProgress(rows)
      }
    }))
    await clients[0].query('analyze channel_day')
    await clients[0].query('checkpoint')
    return rows
  } finally {
    for (const client of clients) await client.end()
  }
}

/** Days of each length that the zone has, with whole watt-hours that rise to the evening. */
async function makeTemplates(client: pg.Client, intervalS: number): Promise<void> {
  await client.query('set synchronous_commit = off')
  await client.query('create temp table template (slots int, k int, vals int[], total bigint, peak int, peak_slot smallint)')
  const perHour = 3600 / intervalS
  for (const slots of [23 * perHour, 24 * perHour, 25 * perHour]) {
    for (let k = 0; k < TEMPLATES; k++) {
      const vals = Array.from({ length: slots }, (_, i) => Math.round((120 + 90 * Math.sin(i / slots * 6.28 + 3.6) + (k * 7919 + i * 104_729) % 97) * 4 / perHour))
      const peak = Math.max(...vals)
      await client.query('insert into template values ($1, $2, $3::int[], $4, $5, $6)',
        [slots, k, vals, vals.reduce((a, b) => a + b, 0), peak, vals.indexOf(peak)])
    }
  }
  await client.query('analyze template')
}

async function fillDay(client: pg.Client, day: number, intervalS: number): Promise<number> {
  const zone = getZone(ZONE)
  const firstS = zone.dayStart(day)
  const slots = (zone.dayStart(day + 1) - firstS) / intervalS
  const settledS = firstS + 86_400 + 4 * 3600
  const { rowCount } = await client.query(
    `insert into channel_day (channel_id, day, first_at, interval_s, exponent, total, peak, peak_slot, present, estimated, version,
                              delivery_no, settled_at, vals)
     select c.channel_id, $1::date, to_timestamp($2), $3, -3, t.total, t.peak, t.peak_slot, $4::int, 0, $5::float8 * 1000000, 1,
            to_timestamp($5), t.vals
       from channel c join template t on t.slots = $4::int and t.k = (c.channel_id + $6::int) % ${TEMPLATES}
      where c.flow = 1 and c.interval_s = $3
      order by c.channel_id`, [dayText(day), firstS, intervalS, slots, settledS, day])
  return rowCount ?? 0
}
