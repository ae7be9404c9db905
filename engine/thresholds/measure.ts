import { Flow } from '../read-batch.js'
import type { DaySpan } from '../time/billing.js'
import { dayText, instantText } from '../time/text.js'
import { projectedDays, projectUsage, LOOK_BACK_DAYS, type PastDay } from '../usage/projection.js'
import type { RateBook } from '../rates/book.js'
import type { Case } from './cases.js'
import { crossingOf } from './crossing.js'
import { compareExact, exactNumber, parseExact, ZERO, type Exact } from './exact.js'
import { hourStart, kindInfo } from './kinds.js'
import { measureCosts } from './measure-cost.js'
import { eachReadings, expectedReads, type Reading, type ReadingQuestion } from './readings.js'
import { demandOf, exactOf, hourSums, totalOf, type SlotSum } from './slots.js'
import { unusualLevel, WEEKS } from './unusual.js'
import { createUsageBook, type BookContext, type PeriodUsage, type UsageBook, type UsageQuestion } from './usage-book.js'

/** Facts of an alert besides its value and limit: what was compared with, or the range of a projection. */
export type AlertDetail = Readonly<Record<string, unknown>>

/** What a period's stored data come to. */
export interface Measured {
  readonly value: Exact
  /** What the value is held against. */
  readonly limit: Exact
  readonly isBreach: boolean
  /** False: it cannot be told yet, or not any more. */
  readonly isTold: boolean
  /** Epoch seconds at which to look again, where time alone may change the finding; null: only new reads can. */
  readonly againAtS: number | null
  /** Only the schedule may judge it, though its kind is judged in settling elsewhere. */
  readonly isForSchedule: boolean
  /** Too late to be told of for the first time. */
  readonly isLate: boolean
  readonly usage: PeriodUsage
  /** Epoch seconds; null: none is known; undefined: the running sum must be asked. */
  readonly crossedAtS: number | null | undefined
  readonly detail: AlertDetail | null
  /** Of projections: exact decimal text. */
  readonly range: { readonly low: string; readonly high: string } | null
  /** Of what is unusual: the median, and on how many days it rests. */
  readonly usual: { readonly value: string; readonly days: number } | null
}

export const PLAIN = { isLate: false, isForSchedule: false, detail: null, range: null, usual: null } as const

export interface MeasureContext extends BookContext {
  /** How long after a period's end its reads are waited for, seconds. */
  readonly settleS: number
  readonly rates: RateBook
}

export interface Measurement {
  readonly of: (c: Case) => Measured
  /** When the running sum of each case passed its limit, for those whose `crossedAtS` is undefined. */
  readonly crossings: (cases: readonly Case[]) => Promise<(number | undefined)[]>
}

/** Measures all cases with a number of statements that does not depend on how many there are. */
export async function measure(context: MeasureContext, cases: readonly Case[]): Promise<Measurement> {
  const found = new Map<Case, Measured>()
  const bySlots = cases.filter(needsSlots)
  await measureSlots(context, bySlots, found)
  await measureCosts(context, cases.filter(isOfBill), found)
  const bySums = cases.filter((c) => !needsSlots(c) && !isOfBill(c))
  const book = await createUsageBook(context, bySums.flatMap((c) => questionsOf(c)))
  for (const c of bySums) found.set(c, measureSum(context, c, book))
  return {
    of: (c) => {
      const measured = found.get(c)
      if (measured === undefined) throw new Error('the case was not measured')
      return measured
    },
    crossings: (asked) => book.crossings(asked.map((c) => ({ ...questionOf(c, c.period), limit: c.limit ?? ZERO }))),
  }
}

/** True for what the stored sums of days cannot tell. */
function needsSlots({ threshold: { kind, touPeriod } }: Case): boolean {
  return kind === 'hour-usage' || kind === 'demand' || touPeriod !== null
}

function isOfBill({ threshold: { kind } }: Case): boolean {
  return kindInfo(kind).watches === 'account'
}

function questionOf({ threshold: { accountId, flow, meterId } }: Case, period: DaySpan): UsageQuestion {
  return { accountId, flow, meterId, period: { startDay: period.startDay, endDay: period.endDay } }
}

function day(d: number): DaySpan {
  return { startDay: d, endDay: d + 1 }
}

function questionsOf(c: Case): UsageQuestion[] {
  const { period } = c
  switch (c.threshold.kind) {
    case 'unusual':
      return [0, ...weeksBefore()].map((n) => questionOf(c, day(period.startDay - n)))
    case 'projected-usage':
      return daysBetween(period.startDay - LOOK_BACK_DAYS, period.endDay).map((d) => questionOf(c, day(d)))
    default:
      return [questionOf(c, period)]
  }
}

function weeksBefore(): number[] {
  return Array.from({ length: WEEKS }, (_, i) => 7 * (i + 1))
}

function daysBetween(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i)
}

/** What is known of a period that waits for its end. */
interface Wait {
  readonly isEnded: boolean
  readonly isComplete: boolean
  /** Complete, or past its settle time. */
  readonly isRipe: boolean
  readonly againAtS: number | null
}

export function waitOf(context: MeasureContext, endS: number, { expected, present }: { expected: number; present: number }): Wait {
  const { nowS, settleS } = context
  const isEnded = nowS >= endS
  const isComplete = expected > 0 && present >= expected
  const isRipe = isEnded && (isComplete || nowS >= endS + settleS)
  return { isEnded, isComplete, isRipe, againAtS: !isEnded ? endS : isRipe ? null : endS + settleS }
}

function measureSum(context: MeasureContext, c: Case, book: UsageBook): Measured {
  switch (c.threshold.kind) {
    case 'unusual':
      return measureUnusual(context, c, book)
    case 'projected-usage':
      return measureProjected(context, c, book)
    default: {
      const usage = book.of(questionOf(c, c.period))
      return held(context, c, usage, usage.sum, c.threshold.flow === Flow.net ? null : undefined)
    }
  }
}

/** Holds a value against the limit, as the kind's direction and the flow have it. */
function held(context: MeasureContext, c: Case, usage: PeriodUsage, value: Exact, crossedAtS: number | null | undefined): Measured {
  const limit = c.limit ?? ZERO
  const { direction } = kindInfo(c.threshold.kind)
  const base = { ...PLAIN, value, limit, usage }
  if (direction === 'below') {
    const wait = waitOf(context, c.period.endS, usage)
    // Missing reads could bring it above: only a period that is complete may be told to be low.
    return {
      ...base, isTold: wait.isEnded && wait.isComplete, againAtS: wait.isEnded ? null : c.period.endS, crossedAtS: null,
      isBreach: c.limit === null ? compareExact(value, ZERO) === 0 : compareExact(value, limit) < 0,
    }
  }
  const isBreach = compareExact(value, limit) > 0
  if (c.threshold.flow !== Flow.net) return { ...base, isBreach, isTold: true, againAtS: null, crossedAtS }
  const wait = waitOf(context, c.period.endS, usage)
  return { ...base, isBreach, isTold: wait.isRipe, againAtS: wait.againAtS, crossedAtS: crossedAtS ?? null }
}

function measureUnusual(context: MeasureContext, c: Case, book: UsageBook): Measured {
  const usage = book.of(questionOf(c, c.period))
  const before = weeksBefore().map((n) => c.period.startDay - n).reverse().flatMap((d) => {
    const { sum, expected, present } = book.of(questionOf(c, day(d)))
    return expected > 0 && present >= expected ? [{ day: d, kwh: exactNumber(sum) }] : []
  })
  const found = unusualLevel(before, c.threshold.params)
  const wait = waitOf(context, c.period.endS, usage)
  const base = { ...PLAIN, value: usage.sum, usage, againAtS: wait.againAtS, crossedAtS: null }
  if (found === null) return { ...base, limit: ZERO, isBreach: false, isTold: false }
  const limit = c.limit ?? parseExact(String(found.level))
  const kwh = exactNumber(usage.sum)
  return {
    ...base, limit, isBreach: compareExact(usage.sum, limit) > 0, isTold: wait.isRipe,
    usual: { value: String(wattHours(found.median)), days: before.length },
    detail: {
      comparedDays: before.map((b) => dayText(b.day)), median: wattHours(found.median), mad: wattHours(found.mad),
      percentAbove: found.median === 0 ? null : Math.round((kwh / found.median - 1) * 1000) / 10 },
  }
}

/** The first day by whose end the projection passed the limit; it is told once, whatever later days suggest. */
function measureProjected(context: MeasureContext, c: Case, book: UsageBook): Measured {
  const { period } = c
  const limit = c.limit ?? ZERO
  const past: PastDay[] = []
  let againAtS: number | null = null
  let reachedDay = -Infinity
  let isOpen = false
  for (const d of daysBetween(period.startDay - LOOK_BACK_DAYS, period.endDay)) {
    const usage = book.of(questionOf(c, day(d)))
    const wait = waitOf(context, context.zone.dayStart(d + 1), usage)
    past.push({ day: d, kwh: exactNumber(usage.sum), isComplete: wait.isEnded && wait.isComplete })
    if (d < period.startDay || isOpen) continue
    isOpen = !wait.isRipe
    if (isOpen) againAtS = wait.againAtS
    else reachedDay = d
  }
  const span = projectedDays(period)
  const base = {
    ...PLAIN, limit, usage: usageOf(book, c), againAtS, isTold: true,
    isLate: context.nowS >= context.zone.dayStart(period.endDay - 2),
  }
  let last: Measured | null = null
  for (let d = span.startDay; d < span.endDay && d <= reachedDay; d++) {
    const projection = projectUsage(period, d, past)
    if (projection === null) continue
    const value = parseExact(String(projection.value))
    const isBreach = compareExact(value, limit) > 0
    last = {
      ...base, value, isBreach, crossedAtS: context.zone.dayStart(d + 1),
      range: { low: String(projection.low), high: String(projection.high) },
      detail: { toDate: projection.toDate, throughDay: dayText(d), basedOnDays: projection.basedOn },
    }
    if (isBreach) return last
  }
  return last ?? { ...base, value: ZERO, isBreach: false, isTold: false, crossedAtS: null }
}

function wattHours(kwh: number): number {
  return Math.round(kwh * 1000) / 1000
}

function usageOf(book: UsageBook, c: Case): PeriodUsage {
  const total = { sum: ZERO, expected: 0, present: 0, estimated: 0 }
  for (const d of daysBetween(c.period.startDay, c.period.endDay)) {
    const { expected, present, estimated } = book.of(questionOf(c, day(d)))
    total.expected += expected
    total.present += present
    total.estimated += estimated
  }
  return total
}

async function measureSlots(context: MeasureContext, cases: readonly Case[], found: Map<Case, Measured>): Promise<void> {
  // The hours of a day are cut from one reading of it.
  const groups = new Map<string, Case[]>()
  for (const c of cases) {
    const key = c.threshold.kind === 'hour-usage' ? `${c.threshold.thresholdId} ${c.period.startDay}` : `${c.threshold.thresholdId} ${c.version} ${c.period.startS}`
    groups.set(key, [...groups.get(key) ?? [], c])
  }
  const list = [...groups.values()]
  const questions = list.map(([c]) => slotQuestion(context, c))
  await eachReadings(context, questions, (i, readings) => {
    const question = questions[i]
    const hours = list[i][0].threshold.kind === 'hour-usage' ? hourSums(readings, context.zone) : null
    for (const c of list[i]) {
      const expected = expectedReads(context, question, c.period.startS, c.period.endS, readings)
      if (c.threshold.kind === 'demand') {
        const demand = demandOf(readings, c.limit ?? ZERO)
        const usage = { sum: ZERO, expected, present: demand?.present ?? 0, estimated: demand?.estimated ?? 0 }
        const measured = held(context, c, usage, demand?.kw ?? ZERO, demand?.crossedAtS ?? null)
        found.set(c, { ...measured, detail: demand === null ? null : {
          peakAt: instantText(demand.atS, context.zone), intervalSeconds: demand.endS - demand.atS } })
        continue
      }
      const sum: SlotSum | undefined = hours === null ? totalOf(readings) : hours.get(c.period.startS)
      const value = sum === undefined ? ZERO : exactOf(sum.sum)
      const usage = { sum: value, expected, present: sum?.present ?? 0, estimated: sum?.estimated ?? 0 }
      const isAbove = c.limit !== null && compareExact(value, c.limit) > 0
      found.set(c, held(context, c, usage, value, isAbove ? crossingIn(context, c, readings) : null))
    }
  })
}

function slotQuestion(context: MeasureContext, c: Case): ReadingQuestion {
  const { accountId, flow, meterId, touPeriod } = c.threshold
  const { zone } = context
  const counts = touPeriod === null ? undefined : context.rates.touOf(accountId, touPeriod)
  return {
    accountId, flow, meterId, startS: zone.dayStart(c.period.startDay), endS: zone.dayStart(c.period.endDay),
    ...(counts === undefined ? {} : { counts }),
  }
}

/** When the running sum of the case's slots passed its limit; net energy goes up and down and has no such time. */
function crossingIn(context: MeasureContext, { threshold, period, limit }: Case, readings: readonly Reading[]): number | null {
  if (limit === null || threshold.flow === Flow.net) return null
  if (threshold.kind !== 'hour-usage') return crossingOf(readings, limit) ?? null
  return crossingOf(readings.map((r) => ({
    ...r, counts: (startS: number, intervalS: number) =>
      intervalS <= 3600 && hourStart(startS, context.zone) === period.startS && r.counts?.(startS, intervalS) !== false })), limit) ?? null
}
