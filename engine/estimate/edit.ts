import { writeAudit } from '../audit.js'
import type { Receipt } from '../receipt.js'
import { ApiError } from '../problem.js'
import { MAX_MANTISSA, Quality, ReadBatchBuilder, type FlowCode } from '../read-batch.js'
import type { Settler } from '../settler.js'
import { readBlocks } from '../store/blocks.js'
import { onConnection, type Pool } from '../store/db.js'
import { dayNumber } from '../time/text.js'
import { getZone, type Zone } from '../time/zone.js'
import { loadFacts } from '../validate/facts.js'
import { slotsFrom } from '../validate/day.js'
import { slotsOf } from '../validate/judge-days.js'
import { loadRules } from '../validate/rule-set-store.js'
import { fillGaps } from './fill.js'
import { seriesOf } from './series.js'
import { ownSubmission } from './step.js'

/** What somebody decided about a flag: reads of his own, or those that estimation gives. */
export interface Edit {
  utilityId: number
  flagId: number
  actor: string
  reason: string
  /** kWh by the interval's start, epoch seconds; null: the flagged reads are estimated again. */
  values: readonly { startS: number; kwh: number }[] | null
}

interface FlagRow {
  channel_id: number
  day: string
  rule: string
  slots: number[]
  zone: string
  meter: string
  flow: FlowCode
  interval_s: number
}

const EXPONENT = -6

/**
 * Puts reads of a flagged day right, as reads of quality `edited` that outrank every other, with who did it and why; the
 * day is judged anew as after any change.
 * @throws ApiError 404 `exception-not-found`, 422 `edit-outside-day`, `not-estimable`
 */
export async function editFlagged(pool: Pool, settler: Settler, edit: Edit, nowMs: number): Promise<Receipt> {
  const { rows: [flag] }: { rows: (FlagRow | undefined)[] } = await pool.query<FlagRow>(
    `select f.channel_id, f.day, f.rule, f.slots, u.zone, m.id as meter, c.flow, c.interval_s
       from day_flag f join channel c using (channel_id) join meter m using (meter_id) join utility u on u.utility_id = f.utility_id
      where f.flag_id = $1 and f.utility_id = $2`, [edit.flagId, edit.utilityId])
  if (flag === undefined) throw new ApiError(404, 'exception-not-found', 'There is no such exception.')
  const zone = getZone(flag.zone)
  const day = dayNumber(flag.day)
  const builder = new ReadBatchBuilder(8, 128)
  const add = (startS: number, mantissa: number, exponent: number, method: number): void => {
    builder.addBlock({
      meter: flag.meter, startS, intervalS: flag.interval_s, flow: flag.flow, lane: Quality.edited | method << 3, exponent, version: nowMs * 1000,
      place: 1, rawFrom: 0, rawTo: 0 }, [mantissa])
  }
  if (edit.values === null) await estimateAgain(pool, zone, flag, day, edit.utilityId, add)
  else {
    for (const { startS, kwh } of edit.values) {
      const mantissa = Math.round(kwh * 10 ** -EXPONENT)
      if (startS < zone.dayStart(day) || startS >= zone.dayStart(day + 1) || Math.abs(mantissa) > MAX_MANTISSA) {
        throw new ApiError(422, 'edit-outside-day', 'An edit puts reads of the flagged day right, of up to 2147 kWh each.', { at: '/values' })
      }
      add(startS, mantissa, EXPONENT, 0)
    }
  }
  const [result] = await settler.settle(edit.utilityId, [{
    ...await ownSubmission(pool, edit.utilityId, nowMs, builder.finish(), 'edit'),
    after: async (client, deliveryNo) => {
      await client.query('insert into delivery_reason (delivery_no, actor, reason) values ($1, $2, $3)', [deliveryNo, edit.actor, edit.reason])
      await writeAudit(client, { utilityId: edit.utilityId, actor: edit.actor, action: edit.values === null ? 'exception.estimate' : 'exception.edit',
        subject: flag.meter, detail: { day: flag.day, rule: flag.rule, reason: edit.reason } })
    },
  }])
  if (result.status === 'failed') throw result.error
  if (!('receipt' in result)) throw new Error('an edit has no idempotency key, and does not come by Kafka')
  return result.receipt
}

/** What the flagged slots are filled with where they lacked. */
async function estimateAgain(
  pool: Pool, zone: Zone, flag: FlagRow, day: number, utilityId: number, add: (startS: number, mantissa: number, exponent: number, method: number) => void,
): Promise<void> {
  const { rules: { estimation } } = await loadRules(pool, utilityId)
  const from = day - Math.max(estimation.likeDayReach, estimation.maxGapDays) - 1
  const facts = await loadFacts(pool, [flag.channel_id], from, day + 2)
  const days = slotsFrom(from, day + 2)
  const stored = await onConnection(pool, (client) => readBlocks(client, days.map(() => flag.channel_id), days))
  const blocks = new Map([...stored.values()].filter((b) => b.present > 0).map((b) => [b.day, b]))
  const series = seriesOf(zone, blocks, from, day + 2, flag.interval_s)
  const own = series?.days.find((d) => d.day === day)
  if (series === null || own === undefined) throw notEstimable()
  const slots = flag.slots.length > 0 ? flag.slots : slotsFrom(0, slotsOf(zone, day, flag.interval_s))
  for (const slot of slots) series.values[own.offset + slot] = NaN
  const fact = facts.get(flag.channel_id)
  const scale = 10 ** -series.exponent
  const { estimates } = fillGaps(series, {
    outages: fact?.outages ?? [], registers: (fact?.registers ?? []).map((r) => ({ atS: r.atS, mantissa: Math.round(r.kwh * scale) })),
  }, estimation, own.offset + own.slots)
  const wanted = new Set(slots.map((s) => own.offset + s))
  const hits = estimates.filter((e) => wanted.has(e.slot))
  if (hits.length === 0) throw notEstimable()
  for (const e of hits) add(series.startS[e.slot], e.mantissa, series.exponent, e.method)
}

function notEstimable(): ApiError {
  return new ApiError(422, 'not-estimable', 'Nothing stands that these reads could be estimated by.', { help: 'Edit them with values of your own.' })
}
