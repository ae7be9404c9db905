import { billOf, currencyExponent, lineAnswer } from '../rates/bill.js'
import { partsOf, type Part, type RateVersion } from '../rates/calendar.js'
import { quantitiesOf } from '../rates/quantities.js'
import { loadRateBook, type RateBook } from '../rates/book.js'
import { Flow } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import { exactNumber } from '../thresholds/exact.js'
import { eachReadings, expectedReads, type Reading, type ReadingQuestion } from '../thresholds/readings.js'
import { segmentsOf, type BookContext } from '../thresholds/usage-book.js'
import { periodOf, type BillingCycle, type DaySpan } from '../time/billing.js'
import { dayText, instantText } from '../time/text.js'
import type { Zone } from '../time/zone.js'

/**
 * `final`: every read of the ended period is held; `to-date`: the period runs; `incomplete`: reads are missing, and the
 * amount is of those that are held; `unavailable`: it cannot be told, `reason` says why.
 */
export type CostStatus = 'final' | 'to-date' | 'incomplete' | 'unavailable'

export interface CostAnswer {
  start: string
  end: string
  /** In the currency, to its smallest unit; null where it cannot be told. */
  amount: number | null
  currency: string
  status: CostStatus
  reason: 'no-rate' | 'interval-too-long' | 'not-a-billing-period' | 'period-charges' | 'no-reads' | null
  estimated: number
  missing: number
  rates: { rate: string; version: string }[]
  lines: { kind: string; name: string; quantity: number; unit: string; price: number; amount: number; rate: string; version: string }[]
}

/** Whose cost, over which buckets. */
export interface CostRequest {
  readonly utilityId: number
  readonly accountId: number
  readonly zone: Zone
  readonly cycle: BillingCycle
  readonly currency: string
  readonly nowS: number
  readonly resolution: 'day' | 'month' | 'billing'
  /** Epoch seconds. */
  readonly buckets: readonly { startS: number; endS: number }[]
}

/**
 * The cost of each bucket. A billing period's is its bill. A month's is told where it is a billing period. A day's is its
 * energy and what is charged by the day, and is told where the rate has no tiers, no demand charge and no netting over
 * the period; charges per period are left out of it.
 */
export async function costOf(db: Queryable, request: CostRequest): Promise<CostAnswer[]> {
  const { accountId, zone, nowS, utilityId } = request
  const rates = await loadRateBook(db, utilityId, zone, [accountId])
  const context: BookContext = { db, zone, nowS, segments: await segmentsOf(db, [accountId]), isMeasuredOnly: false }
  const asked = request.buckets.map((bucket) => ({ bucket, ...planOf(request, rates, bucket) }))
  const answers = new Map<number, CostAnswer>()
  const open = asked.flatMap((a, i) => a.parts === null ? [] : [{ i, parts: a.parts, bucket: a.bucket }])
  asked.forEach((a, i) => {
    if (a.parts === null) answers.set(i, unavailable(request, a.bucket, a.reason))
  })
  const questions = open.map(({ bucket }): ReadingQuestion => ({
    accountId, flow: Flow.delivered, flows: [Flow.delivered, Flow.received], meterId: null, startS: bucket.startS, endS: bucket.endS }))
  await eachReadings(context, questions, (k, readings) => {
    const { i, parts, bucket } = open[k]
    answers.set(i, costIn(request, context, bucket, parts, readings, questions[k]))
  })
  return asked.map((_, i) => answers.get(i)!)
}

type Plan = { parts: Part[]; reason: null } | { parts: null; reason: CostAnswer['reason'] }

function planOf({ zone, cycle, resolution, accountId }: CostRequest, rates: RateBook, bucket: { startS: number; endS: number }): Plan {
  const span: DaySpan = { startDay: zone.dayOf(bucket.startS), endDay: zone.dayOf(bucket.endS - 1) + 1 }
  const isWhole = zone.dayStart(span.startDay) === bucket.startS && zone.dayStart(span.endDay) === bucket.endS
  if (resolution !== 'day') {
    const period = periodOf(span.startDay, cycle)
    if (!isWhole || period.startDay !== span.startDay || period.endDay !== span.endDay) return { parts: null, reason: 'not-a-billing-period' }
  }
  const parts = partsOf(span.startDay, span.endDay, (day) => rates.versionAt(accountId, day))
  if (parts === null) return { parts: null, reason: 'no-rate' }
  if (resolution === 'day' && (!isWhole || !isBilledByDay(parts[0].version))) return { parts: null, reason: 'period-charges' }
  return { parts: resolution === 'day' ? parts.map((p) => ({ ...p, version: p.version.withoutPeriodCharges() })) : parts, reason: null }
}

function isBilledByDay({ body }: RateVersion): boolean {
  return body.energy.every((e) => e.tiers.length === 1) && (body.demand ?? []).length === 0 && body.netMetering?.method !== 'net'
}

function costIn(
  request: CostRequest, context: BookContext, bucket: { startS: number; endS: number }, parts: readonly Part[],
  readings: readonly Reading[], question: ReadingQuestion,
): CostAnswer {
  const { zone, nowS, currency } = request
  const { quantities, isTold, present, estimated } = quantitiesOf(parts, readings, zone)
  if (!isTold) return unavailable(request, bucket, 'interval-too-long')
  if (present === 0) return unavailable(request, bucket, 'no-reads')
  const bill = billOf(parts, quantities, currencyExponent(currency))
  const missing = Math.max(0, expectedReads(context, question, bucket.startS, bucket.endS) - present)
  return {
    ...headOf(request, bucket), amount: exactNumber(bill.amount), reason: null, estimated, missing,
    status: missing > 0 ? 'incomplete' : nowS < bucket.endS ? 'to-date' : 'final',
    rates: [...new Set(parts.map((p) => p.version))].map((v) => ({ rate: v.rate, version: dayText(v.fromDay) })),
    lines: bill.lines.map((line) => ({ ...lineAnswer(line), rate: line.part.version.rate, version: dayText(line.part.version.fromDay) })),
  }
}

function headOf({ zone, currency }: CostRequest, bucket: { startS: number; endS: number }): Pick<CostAnswer, 'start' | 'end' | 'currency'> {
  return { start: instantText(bucket.startS, zone), end: instantText(bucket.endS, zone), currency }
}

function unavailable(request: CostRequest, bucket: { startS: number; endS: number }, reason: CostAnswer['reason']): CostAnswer {
  return { ...headOf(request, bucket), amount: null, status: 'unavailable', reason, estimated: 0, missing: 0, rates: [], lines: [] }
}
