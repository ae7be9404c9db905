import { Quantity, quantityName, unitOfQuantity, type QuantityName } from '../quantity.js'
import { consumptionOf } from '../register-consumption.js'
import { Flow, flowNames, qualityName, type FlowCode, type FlowName } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import { ApiError } from '../problem.js'
import { instantText } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import type { TimeWindow } from './segments.js'

/** The registers of a meter: their reads, and what was consumed between them. */

interface ReadAnswer { at: string; value: number; quality: string }
interface StepAnswer { from: string; to: string; kind: string; value: number | null }
export interface RegisterAnswer {
  quantity: string
  unit: string
  flow: string
  tou: string
  reads: ReadAnswer[]
  consumption: StepAnswer[]
}
export interface PeriodAnswer {
  quantity: string
  unit: string
  flow: string
  tou: string
  from: string
  to: string
  value: number
  quality: string
}

export interface RegisterFilter {
  quantity?: QuantityName
  flow?: FlowName
}

interface Row {
  quantity: number
  flow: FlowCode
  tou: string
  at_s: number
  from_s: number | null
  value: string
  nanos: string
  lane: number
}

/** Reads and periods in one answer at most. */
export const MAX_REGISTER_READS = 20_000
/** Kinds of meter events that put another device in the meter's place. */
const EXCHANGES = ['meter-exchange', 'install', 'uninstall']

/**
 * @param windows times that the caller may see, cut to the range asked for
 * @throws ApiError 422 `range-too-large`
 */
export async function meterRegisters(
  db: Queryable, zone: Zone, meter: { meterId: number; meter: string; utilityId: number }, windows: readonly TimeWindow[], filter: RegisterFilter,
): Promise<{ registers: RegisterAnswer[]; periods: PeriodAnswer[] }> {
  const registers: RegisterAnswer[] = []
  const periods: PeriodAnswer[] = []
  let count = 0
  // Differences never reach over what the caller may not see.
  for (const window of windows) {
    const range = [window.fromS, window.toS].map((s) => Number.isFinite(s) ? new Date(s * 1000).toISOString() : s > 0 ? 'infinity' : '-infinity')
    const values = [meter.meterId, ...range, filter.quantity === undefined ? null : Quantity[filter.quantity],
      filter.flow === undefined ? null : Flow[filter.flow]]
    const columns = 'quantity, flow, tou, value::text, trunc(value * 1000000000)::text as nanos, lane'
    const where = '($4::smallint is null or quantity = $4) and ($5::smallint is null or flow = $5)'
    const reads = await db.query<Row>(
      `select ${columns}, extract(epoch from at)::float8 as at_s, null::float8 as from_s from register_read
        where meter_id = $1 and at >= $2::timestamptz and at <= $3::timestamptz and ${where}
        order by quantity, flow, tou, at limit ${MAX_REGISTER_READS + 1}`, values)
    const spans = await db.query<Row>(
      `select ${columns}, extract(epoch from end_at)::float8 as at_s, extract(epoch from start_at)::float8 as from_s from period_read
        where meter_id = $1 and start_at >= $2::timestamptz and end_at <= $3::timestamptz and ${where}
        order by start_at, end_at, quantity, flow, tou limit ${MAX_REGISTER_READS + 1}`, values)
    count += reads.rows.length + spans.rows.length
    if (count > MAX_REGISTER_READS) {
      throw new ApiError(422, 'range-too-large', `The range holds more than ${MAX_REGISTER_READS} register reads.`, { help: 'Ask for a shorter one.' })
    }
    const exchanges = await db.query<{ s: number }>(
      `select extract(epoch from at)::float8 as s from meter_event
        where utility_id = $1 and meter = $2 and kind = any($3::text[]) and at >= $4::timestamptz and at <= $5::timestamptz`,
      [meter.utilityId, meter.meter, EXCHANGES, ...range])
    registers.push(...groupsOf(reads.rows).map((rows) => registerOf(rows, exchanges.rows.map((e) => e.s), zone)))
    periods.push(...spans.rows.map((r) => ({
      ...headOf(r), from: instantText(r.from_s!, zone), to: instantText(r.at_s, zone), value: Number(r.value), quality: qualityName(r.lane) })))
  }
  return { registers, periods }
}

function headOf(r: Row): { quantity: string; unit: string; flow: string; tou: string } {
  return { quantity: quantityName(r.quantity), unit: unitOfQuantity(r.quantity), flow: flowNames[r.flow], tou: r.tou }
}

function groupsOf(rows: readonly Row[]): Row[][] {
  const groups: Row[][] = []
  for (const row of rows) {
    const last = groups.at(-1)
    if (last !== undefined && last[0].quantity === row.quantity && last[0].flow === row.flow && last[0].tou === row.tou) last.push(row)
    else groups.push([row])
  }
  return groups
}

function registerOf(rows: readonly Row[], exchanges: readonly number[], zone: Zone): RegisterAnswer {
  const steps = consumptionOf(rows.map((r) => ({ atS: r.at_s, nanos: BigInt(r.nanos) })), exchanges)
  return {
    ...headOf(rows[0]),
    reads: rows.map((r) => ({ at: instantText(r.at_s, zone), value: Number(r.value), quality: qualityName(r.lane) })),
    consumption: steps.map((s) => ({
      from: instantText(s.fromS, zone), to: instantText(s.toS, zone), kind: s.kind, value: s.nanos === null ? null : Number(s.nanos) / 1e9 })),
  }
}
