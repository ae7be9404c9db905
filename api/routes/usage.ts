import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Type, type Static } from 'typebox'
import { ApiError } from '../../engine/problem.js'
import { isAdditive, Quantity, quantityNames, unitOfQuantity, type QuantityName } from '../../engine/quantity.js'
import { Flow } from '../../engine/read-batch.js'
import type { Client } from '../../engine/store/db.js'
import { periodOf } from '../../engine/time/billing.js'
import { instantText } from '../../engine/time/text.js'
import { getZone } from '../../engine/time/zone.js'
import { countsAnswer, seriesAnswers, stampAnswer, totalsAnswer, usageCsv, type SeriesAnswer } from '../../engine/usage/answer.js'
import { bucketsOf } from '../../engine/usage/buckets.js'
import { compareUsage } from '../../engine/usage/compare.js'
import { costOf, type CostAnswer } from '../../engine/usage/cost.js'
import { newestHeld, newestOf } from '../../engine/usage/newest.js'
import { checkSize, rangeOf } from '../../engine/usage/range.js'
import {
  inSnapshot, loadAccountSubject, loadMeterSubject, measureUsage, resolutions, type Resolution, type Subject,
  type UsageRequest,
} from '../../engine/usage/usage.js'
import { sendCsv, sendJson, wantsCsv } from '../conditional.js'
import type { ApiContext, Role } from '../context.js'
import { requireAccount, requireMeter } from '../guards.js'
import { instantParameter } from '../instant.js'
import { nullable, words } from '../schemas.js'

/** Who may read usage, beside members of their own accounts. */
export const USAGE_READERS: Role[] = ['portal', 'viewer', 'operator']

export const FlowWord = words(['delivered', 'received', 'net'])
const Energy = nullable(Type.Number({ description: 'kWh, an exact decimal' }))
export const TotalSchema = Type.Object({ delivered: Energy, received: Energy, net: Energy })
export const countSchemas = {
  expected: Type.Integer({ description: 'Reads that are due.' }),
  present: Type.Integer({ description: 'Those that are there, estimates included.' }),
  estimated: Type.Integer(),
  missing: Type.Integer(),
}

const meterQuery = {
  from: Type.Optional(Type.String({ maxLength: 40, description: 'Local date or instant; without it the running billing period.' })),
  to: Type.Optional(Type.String({ maxLength: 40, description: 'Exclusive; without it the end of today.' })),
  last: Type.Optional(Type.Integer({ minimum: 1, maximum: 240, description: 'The last N billing periods, or months with resolution=month.' })),
  resolution: Type.Optional(words(resolutions)),
  flow: Type.Optional(FlowWord),
  compare: Type.Optional(words(['previous', 'last-year'])),
  asOf: Type.Optional(Type.String({ maxLength: 40, description: 'An instant: what was known then.' })),
}
const MeterUsageQuery = Type.Object({
  ...meterQuery,
  quantity: Type.Optional(words(quantityNames)),
})
const AccountUsageQuery = Type.Object({
  ...meterQuery,
  cost: Type.Optional(Type.Boolean({ description: 'By the account\'s rate; at resolution billing, month or day.' })),
  by: Type.Optional(words(['account', 'meter'])),
})
type UsageQuery = Static<typeof AccountUsageQuery> & { quantity?: QuantityName }

const Series = Type.Object({
  meter: Type.Optional(Type.String()),
  flow: Type.String(),
  unit: Type.String(),
  intervalSeconds: Type.Integer({ description: '86400 stands for local days of whatever length.' }),
  derived: Type.Optional(Type.Boolean({ description: 'A net that was computed from delivered and received.' })),
  start: Type.Optional(Type.String()),
  values: Type.Optional(Type.Array(Energy)),
  offsets: Type.Optional(Type.Array(Type.Object({ at: Type.Integer(), offset: Type.String() }))),
  quality: Type.Optional(Type.Array(Type.Object({
    from: Type.Integer(), count: Type.Integer(), quality: Type.String(), method: Type.Optional(Type.String()) }))),
  missing: Type.Optional(Type.Array(Type.Object({ at: Type.Integer(), count: Type.Integer() }), {
    description: 'Values that lack some of their reads.' })),
  periods: Type.Optional(Type.Array(Type.Object({
    start: Type.String(), end: Type.String(), value: Energy, peakKw: nullable(Type.Number()), peakAt: nullable(Type.String()),
    ...countSchemas, periodSource: Type.Optional(Type.String()) }))),
})

const Cost = Type.Object({
  start: Type.String(), end: Type.String(),
  amount: nullable(Type.Number({ description: 'The sum of the lines, each rounded half away from zero to the currency\'s smallest unit' })),
  currency: Type.String(),
  status: Type.String({ description: 'final, to-date, incomplete, unavailable' }),
  reason: nullable(Type.String({ description: 'Why it is unavailable: no-rate, interval-too-long, not-a-billing-period, period-charges, no-reads' })),
  estimated: Type.Integer(), missing: Type.Integer(),
  rates: Type.Array(Type.Object({ rate: Type.String(), version: Type.String() })),
  lines: Type.Array(Type.Object({
    kind: Type.String(), name: Type.String(), quantity: Type.Number(), unit: Type.String(), price: Type.Number(), amount: Type.Number(),
    rate: Type.String(), version: Type.String() })),
})

const UsageSchema = Type.Object({
  account: Type.Optional(Type.String()),
  meter: Type.Optional(Type.String()),
  timeZone: Type.String(),
  resolution: Type.String(),
  from: Type.String(),
  to: Type.String(),
  asOf: nullable(Type.String()),
  dataThrough: nullable(Type.String({ description: 'End of the newest interval held.' })),
  expectedThrough: Type.String({ description: 'Reads up to here are due; the counts run to it or to `to`.' }),
  ...countSchemas,
  restatedAt: nullable(Type.String({ description: 'Last change of a value that already stood.' })),
  periodSource: Type.Optional(Type.String({ description: 'cis, billingDay or calendar, where the range is the running period.' })),
  total: TotalSchema,
  series: Type.Array(Series),
  cost: Type.Optional(Type.Array(Cost, { description: 'One per period, in their order.' })),
  compare: Type.Optional(Type.Object({
    kind: Type.String(), from: Type.String(), to: Type.String(), total: nullable(TotalSchema),
    expected: Type.Optional(Type.Integer()), present: Type.Optional(Type.Integer()),
    estimated: Type.Optional(Type.Integer()), missing: Type.Optional(Type.Integer()),
    series: nullable(Type.Array(Series)), reason: nullable(Type.String()) })),
})

const PROBLEMS = ['quantity-not-additive', 'cost-undefined', 'invalid-range', 'range-too-large', 'invalid-instant', 'not-acceptable']

/** Usage of accounts and meters (contract §6). */
export function usageRoutes(app: FastifyInstance, context: ApiContext): void {
  app.get<{ Params: { account: string }; Querystring: UsageQuery }>('/v1/accounts/:account/usage', {
    config: { roles: USAGE_READERS, member: true, problems: PROBLEMS },
    schema: {
      operationId: 'getAccountUsage', tags: ['usage'], summary: 'Usage of an account, over its main meters',
      params: Type.Object({ account: Type.String() }), querystring: AccountUsageQuery, response: { 200: UsageSchema },
    },
  }, async (request, reply) => {
    const account = await requireAccount(context, request.principal, request.params.account)
    return answerUsage(context, request, reply, { account: account.account }, request.query.by ?? 'account', account.zone,
      (db) => loadAccountSubject(db, getZone(account.zone), account.accountId, account.row.billing_day), account)
  })

  app.get<{ Params: { meter: string }; Querystring: Static<typeof MeterUsageQuery> }>('/v1/meters/:meter/usage', {
    config: { roles: USAGE_READERS, member: true, problems: PROBLEMS },
    schema: {
      operationId: 'getMeterUsage', tags: ['usage'], summary: 'Usage of a meter, whatever its role',
      params: Type.Object({ meter: Type.String() }), querystring: MeterUsageQuery, response: { 200: UsageSchema },
    },
  }, async (request, reply) => {
    const meter = await requireMeter(context, request.principal, request.params.meter)
    return answerUsage(context, request, reply, { meter: meter.meter }, 'account', meter.zone,
      (db) => loadMeterSubject(db, getZone(meter.zone), meter.meterId, meter.windows, Quantity[request.query.quantity ?? 'energy']))
  })
}

/** @throws ApiError 422 `cost-undefined` where no cost is told at the resolution, or of a past state */
async function costAnswer(
  db: Client, { zone, cycle }: Subject, { resolution, fromS, toS, nowS, asOf }: UsageRequest, { accountId, utilityId }: { accountId: number; utilityId: number },
): Promise<CostAnswer[]> {
  if (resolution === 'interval' || resolution === 'hour' || asOf !== null) {
    throw new ApiError(422, 'cost-undefined', 'A cost is told at resolution billing, month or day, and of the present state.', { at: '/cost', in: 'query' })
  }
  const { rows: [{ currency }] } = await db.query<{ currency: string }>('select currency from utility where utility_id = $1', [utilityId])
  const buckets = bucketsOf(resolution, fromS, toS, zone, cycle)
  return costOf(db, { utilityId, accountId, zone, cycle, currency, nowS, resolution, buckets })
}

async function answerUsage(
  context: ApiContext, request: FastifyRequest<{ Querystring: UsageQuery }>, reply: FastifyReply,
  subjectOf: { account: string } | { meter: string }, by: 'account' | 'meter', zoneName: string,
  load: (db: Client) => Promise<Subject>, billed?: { accountId: number; utilityId: number },
): Promise<FastifyReply> {
  const { query } = request
  const csv = wantsCsv(request)
  const zone = getZone(zoneName)
  const then = query.asOf === undefined ? null : instantParameter('asOf', query.asOf)
  // In the caller's words: a fraction of a second counts.
  const asOf = then?.text ?? null
  const nowS = Math.floor(then?.s ?? context.now() / 1000)
  const quantity = Quantity[query.quantity ?? 'energy']
  const resolution: Resolution = query.resolution ?? (isAdditive(quantity) ? 'day' : 'interval')
  if (!isAdditive(quantity) && resolution !== 'interval') {
    throw new ApiError(422, 'quantity-not-additive', 'Values of this quantity do not add up over time.', { help: 'Ask with resolution=interval.' })
  }
  return inSnapshot(context.readPool, async (db) => {
    const subject = await load(db)
    const range = rangeOf(query, resolution, zone, subject.cycle, nowS)
    checkSize(range, resolution)
    const asked: UsageRequest = {
      ...range, resolution, by, flow: query.flow === undefined ? null : Flow[query.flow], asOf, nowS,
    }
    const result = await measureUsage(db, subject, asked)
    if (csv) return sendCsv(request, reply, usageCsv(result, zone, { resolution, byMeter: by === 'meter' }))
    const segments = asked.flow === null || asked.flow === Flow.net
      ? subject.segments
      : subject.segments.filter((s) => s.flow === asked.flow)
    const dataThrough = newestOf(await newestHeld(db, zone, segments, nowS, asOf))
    const isRunning = query.from === undefined && query.last === undefined
    return sendJson(request, reply, {
      ...subjectOf,
      timeZone: zone.name,
      resolution,
      from: instantText(range.fromS, zone),
      to: instantText(range.toS, zone),
      asOf,
      dataThrough: dataThrough === null ? null : instantText(dataThrough, zone),
      expectedThrough: instantText(result.dueS, zone),
      ...countsAnswer(result),
      restatedAt: stampAnswer(result.restatedAtUs, zone),
      ...(isRunning ? { periodSource: periodOf(zone.dayOf(range.fromS), subject.cycle).source } : {}),
      total: isAdditive(quantity) ? totalsAnswer(result.totals) : { delivered: null, received: null, net: null },
      series: inUnitOf(quantity, seriesAnswers(result, zone)),
      ...(query.cost === true && billed !== undefined ? { cost: await costAnswer(db, subject, asked, billed) } : {}),
      ...(query.compare === undefined ? {} : { compare: relabel(quantity, await compareUsage(db, subject, asked, query.compare)) }),
    })
  })
}

/** Series of another quantity than energy: in its unit, and without a peak in kW. */
function inUnitOf(quantity: number, series: readonly SeriesAnswer[]): object[] {
  if (quantity === Quantity.energy) return [...series]
  return series.map((s) => ({
    ...s, unit: unitOfQuantity(quantity),
    ...('periods' in s ? { periods: s.periods.map((p) => ({ ...p, peakKw: null, peakAt: null })) } : {}),
  }))
}

function relabel<T extends { series: readonly SeriesAnswer[] | null }>(quantity: number, compare: T): object {
  return compare.series === null ? compare : { ...compare, series: inUnitOf(quantity, compare.series) }
}
