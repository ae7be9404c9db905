import { Quantity } from '../quantity.js'
import type { FlowCode } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import { intArray } from '../store/blocks.js'
import { dayText } from '../time/text.js'
import { flowCodes } from './siblings.js'

/** What rules and estimates need to know about a channel beside its blocks. */
export interface ChannelFacts {
  channelId: number
  meterId: number
  meter: string
  flow: FlowCode
  /** Flows that the registry names for the meter; none where it names none. */
  registeredFlows: FlowCode[]
  intervalS: number
  isActive: boolean
  serviceKw: number | null
  multiplier: number
  /** Stretches without power, epoch seconds; one that goes on ends at Infinity. */
  outages: { fromS: number; toS: number }[]
  /** Actual reads of the channel's register, ascending: epoch seconds, kWh. */
  registers: { atS: number; kwh: number }[]
}

interface Row {
  channel_id: number
  meter_id: number
  meter: string
  flow: FlowCode
  flows: string[] | null
  interval_s: number
  status: string
  service_kw: string | null
  multiplier: string
}

/** Facts of energy channels; outages and registers of the local days [fromDay, toDay), and a day around them. */
export async function loadFacts(
  db: Queryable, channelIds: readonly number[], fromDay: number, toDay: number,
): Promise<Map<number, ChannelFacts>> {
  const { rows } = await db.query<Row>(
    `select c.channel_id, c.meter_id, m.id as meter, c.flow, m.flows, c.interval_s, m.status, m.service_kw, m.multiplier
       from channel c join meter m using (meter_id) where c.channel_id = any($1::int[]) and c.quantity = ${Quantity.energy}`,
    [intArray(channelIds)])
  const facts = new Map(rows.map((r): [number, ChannelFacts] => [r.channel_id, {
    channelId: r.channel_id, meterId: r.meter_id, meter: r.meter, flow: r.flow, registeredFlows: flowCodes(r.flows), intervalS: r.interval_s, isActive: r.status === 'active',
    serviceKw: r.service_kw === null ? null : Number(r.service_kw), multiplier: Number(r.multiplier), outages: [], registers: [],
  }]))
  const meters = intArray([...new Set(rows.map((r) => r.meter_id))])
  const span = [dayText(fromDay - 1), dayText(toDay + 1)]
  const outages = await db.query<{ meter_id: number; from_s: number; to_s: number | null }>(
    `select meter_id, extract(epoch from down_at)::float8 as from_s, extract(epoch from up_at)::float8 as to_s from outage
      where meter_id = any($1::int[]) and down_at < $3::date and (up_at is null or up_at > $2::date) order by down_at`, [meters, ...span])
  const registers = await db.query<{ meter_id: number; flow: number; at_s: number; value: string }>(
    `select meter_id, flow, extract(epoch from at)::float8 as at_s, value from register_read
      where meter_id = any($1::int[]) and quantity = ${Quantity.energy} and tou = '' and at between $2::date and $3::date and (lane & 7) in (0, 4, 5)
      order by at`, [meters, ...span])
  if (outages.rows.length + registers.rows.length === 0) return facts
  for (const f of facts.values()) {
    f.outages = outages.rows.filter((o) => o.meter_id === f.meterId).map((o) => ({ fromS: o.from_s, toS: o.to_s ?? Infinity }))
    f.registers = registers.rows.filter((r) => r.meter_id === f.meterId && r.flow === f.flow).map((r) => ({ atS: r.at_s, kwh: Number(r.value) }))
  }
  return facts
}
