import { billOf, currencyExponent, isRising, type Bill, type Quantity } from '../rates/bill.js'
import { partsOf, type Part } from '../rates/calendar.js'
import { quantitiesOf } from '../rates/quantities.js'
import { Flow } from '../read-batch.js'
import { dayText } from '../time/text.js'
import { LOOK_BACK_DAYS, outlookOf, projectedDays, type PastDay } from '../usage/projection.js'
import type { Case } from './cases.js'
import { addExact, compareExact, exactNumber, exactText, parseExact, ZERO, type Exact } from './exact.js'
import { PLAIN, waitOf, type Measured, type MeasureContext } from './measure.js'
import { eachReadings, expectedReads, type Reading, type ReadingQuestion } from './readings.js'

/** Measures the kinds that watch the account's bill. Without a rate for all of the period nothing can be told. */
export async function measureCosts(context: MeasureContext, cases: readonly Case[], found: Map<Case, Measured>): Promise<void> {
  const { zone } = context
  const questions = cases.map((c): ReadingQuestion => ({
    accountId: c.threshold.accountId, flow: Flow.delivered, flows: [Flow.delivered, Flow.received], meterId: null,
    startS: zone.dayStart(c.period.startDay - (c.threshold.kind === 'projected-cost' ? LOOK_BACK_DAYS : 0)), endS: c.period.endS,
  }))
  await eachReadings(context, questions, (i, readings) => {
    const c = cases[i]
    const parts = partsOf(c.period.startDay, c.period.endDay, (day) => context.rates.versionAt(c.threshold.accountId, day))
    found.set(c, parts === null ? notTold(c)
      : c.threshold.kind === 'projected-cost' ? measureProjected(context, c, parts, readings, questions[i])
        : measurePeriod(context, c, parts, readings, questions[i]))
  })
}

function notTold(c: Case): Measured {
  return {
    ...PLAIN, value: ZERO, limit: c.limit ?? ZERO, isBreach: false, isTold: false, againAtS: null, crossedAtS: null,
    usage: { sum: ZERO, expected: 0, present: 0, estimated: 0 } }
}

function measurePeriod(
  context: MeasureContext, c: Case, parts: readonly Part[], readings: readonly Reading[], question: ReadingQuestion,
): Measured {
  const { quantities, isTold, present, estimated } = quantitiesOf(parts, readings, context.zone)
  const bill = billOf(parts, quantities, currencyExponent(c.threshold.currency))
  const limit = c.limit ?? ZERO
  const usage = { sum: ZERO, expected: expectedReads(context, question, c.period.startS, c.period.endS), present, estimated }
  const rising = isRising(parts)
  const wait = waitOf(context, c.period.endS, usage)
  return {
    ...PLAIN, value: bill.amount, limit, usage, isBreach: compareExact(bill.amount, limit) > 0,
    // Without any read there is a fixed charge to pay, and nothing that anybody did to pass a limit.
    isTold: isTold && present > 0 && (rising || wait.isRipe), againAtS: rising ? null : wait.againAtS, crossedAtS: null, isForSchedule: !rising,
    detail: { rates: ratesOf(parts) },
  }
}

export function ratesOf(parts: readonly Part[]): string[] {
  return [...new Set(parts.map((p) => `${p.version.rate} ${dayText(p.version.fromDay)}`))]
}

interface DayOfUse extends PastDay {
  readonly readings: readonly Reading[]
  readonly isRipe: boolean
}

/** The first day by whose end the projected bill passed the limit. */
function measureProjected(
  context: MeasureContext, c: Case, parts: readonly Part[], readings: readonly Reading[], question: ReadingQuestion,
): Measured {
  const { period, limit: given } = c
  const limit = given ?? ZERO
  const days = daysOf(context, c, readings, question)
  let againAtS: number | null = null
  let reachedDay = -Infinity
  for (let d = period.startDay; d < period.endDay; d++) {
    const wait = waitOf(context, context.zone.dayStart(d + 1), days.get(d)!.usage)
    if (!wait.isRipe) {
      againAtS = wait.againAtS
      break
    }
    reachedDay = d
  }
  const inPeriod = [...days.values()].filter((d) => d.day >= period.startDay)
  const usage = { sum: ZERO, expected: 0, present: 0, estimated: 0 }
  for (const d of inPeriod) {
    usage.expected += d.usage.expected
    usage.present += d.usage.present
  }
  const base = {
    ...PLAIN, limit, usage, againAtS, isTold: true, isLate: context.nowS >= context.zone.dayStart(period.endDay - 2), isForSchedule: true,
  }
  const span = projectedDays(period)
  let last: Measured | null = null
  for (let d = span.startDay; d < span.endDay && d <= reachedDay; d++) {
    const projection = projectCost(context, c, parts, days, d)
    if (projection === null) continue
    const isBreach = compareExact(projection.value.amount, limit) > 0
    last = {
      ...base, value: projection.value.amount, isBreach, crossedAtS: context.zone.dayStart(d + 1),
      range: { low: exactText(projection.low.amount), high: exactText(projection.high.amount) },
      detail: { throughDay: dayText(d), basedOnDays: projection.basedOn, rates: ratesOf(parts) },
    }
    if (isBreach) return last
  }
  return last ?? { ...base, value: ZERO, isBreach: false, isTold: false, crossedAtS: null }
}

type CostDay = DayOfUse & { usage: { expected: number; present: number } }

function daysOf(context: MeasureContext, c: Case, readings: readonly Reading[], question: ReadingQuestion): Map<number, CostDay> {
  const { zone } = context
  const byDay = new Map<number, Reading[]>()
  for (const r of readings) {
    const day = zone.dayOf(r.dayEndS - 1)
    byDay.set(day, [...byDay.get(day) ?? [], r])
  }
  const days = new Map<number, CostDay>()
  for (let day = c.period.startDay - LOOK_BACK_DAYS; day < c.period.endDay; day++) {
    const of = byDay.get(day) ?? []
    const version = context.rates.versionAt(c.threshold.accountId, day)
    const found = version === undefined ? null : quantitiesOf([{ startDay: day, endDay: day + 1, version, season: undefined }], of, zone)
    const usage = { expected: expectedReads(context, question, zone.dayStart(day), zone.dayStart(day + 1)), present: found?.present ?? 0 }
    const wait = waitOf(context, zone.dayStart(day + 1), usage)
    const kwh = found === null ? 0 : found.quantities[0].reduce((n, q) => n + exactNumber(q.delivered), 0)
    days.set(day, {
      day, kwh, isComplete: wait.isEnded && wait.isComplete && found?.isTold === true, isRipe: wait.isRipe, readings: of, usage })
  }
  return days
}

/** The bill if the days after `throughDay` are like the own days of the same kind were, by time-of-use period. */
function projectCost(
  context: MeasureContext, c: Case, parts: readonly Part[], days: ReadonlyMap<number, CostDay>, throughDay: number,
): { value: Bill; low: Bill; high: Bill; basedOn: number } | null {
  const { zone } = context
  const found = outlookOf(throughDay, [...days.values()])
  if (found === null) return null
  const held = [...days.values()].filter((d) => d.day >= c.period.startDay && d.day <= throughDay).flatMap((d) => d.readings)
  const { quantities, isTold } = quantitiesOf(parts, held, zone)
  if (!isTold) return null
  const exponent = currencyExponent(c.threshold.currency)
  const shares = new Map<PastDay, Map<string, { delivered: number; received: number }>>()
  const sharesOf = (day: PastDay): Map<string, { delivered: number; received: number }> => {
    const known = shares.get(day)
    if (known !== undefined) return known
    const version = context.rates.versionAt(c.threshold.accountId, day.day)!
    const [of] = quantitiesOf([{ startDay: day.day, endDay: day.day + 1, version, season: undefined }], days.get(day.day)!.readings, zone).quantities
    const made = new Map(of.map((q, i) => [version.periods[i], { delivered: exactNumber(q.delivered), received: exactNumber(q.received) }]))
    shares.set(day, made)
    return made
  }
  const bill = (by: 'value' | 'low' | 'high'): Bill => billOf(parts, parts.map((part, i) => {
    const rest = part.version.periods.map(() => ({ delivered: 0, received: 0 }))
    for (let day = Math.max(part.startDay, throughDay + 1); day < part.endDay; day++) {
      const outlook = found.outlook(day)
      const factor = outlook.value === 0 ? 0 : outlook[by] / outlook.value
      for (const past of outlook.days) {
        for (const [name, { delivered, received }] of sharesOf(past)) {
          const index = part.version.periods.indexOf(name)
          const into = rest[index < 0 ? rest.length - 1 : index]
          into.delivered += delivered * factor / outlook.days.length
          into.received += received / outlook.days.length
        }
      }
    }
    return quantities[i].map((q, k): Quantity => ({
      delivered: addExact(q.delivered, wattHours(rest[k].delivered)), received: addExact(q.received, wattHours(rest[k].received)), demand: q.demand }))
  }), exponent)
  return { value: bill('value'), low: bill('low'), high: bill('high'), basedOn: found.basedOn }
}

function wattHours(kwh: number): Exact {
  return parseExact((Math.round(kwh * 1000) / 1000).toFixed(3))
}
