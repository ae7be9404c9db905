import { Flow, type FlowCode } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import { periodOf, type BillingCycle, type BillingPeriod, type DaySpan } from '../time/billing.js'
import { instantText } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import { countsAnswer, totalsAnswer, type CountsAnswer, type TotalsAnswer } from './answer.js'
import type { Bucket } from './buckets.js'
import { expectedThrough } from './freshness.js'
import { newestHeld, newestOf } from './newest.js'
import { byAccount, loadOccupancy, loadPeriods } from './occupancy.js'
import { comparedRange, isCovered } from './range.js'
import { loadSegments, type Segment, type TimeWindow } from './segments.js'
import { slotDaysOf } from './slots.js'
import { groupsOf, loadSpan, type Group, type Span } from './span.js'
import { LOOK_BACK_DAYS, projectUsage, type PastDay } from './projection.js'
import { addTally, emptyTally, tallyPeriods, type Tally } from './tally.js'
import { differenceOf, type Totals } from './usage.js'

/** An account to summarise. */
export interface SummaryAccount {
  accountId: number
  account: string
  billingDay: number | null
}

export interface StretchAnswer extends CountsAnswer {
  start: string
  end: string
  total: TotalsAnswer
}

export interface SummaryAnswer {
  account: string
  timeZone: string
  unit: 'kWh'
  /** The running billing period, to date. */
  period: StretchAnswer & { periodSource: string }
  today: StretchAnswer
  yesterday: StretchAnswer
  /** The same period a year ago: whole, and up to as many days as are complete in the running one. */
  lastYear: {
    start: string
    end: string
    total: TotalsAnswer | null
    toDate: { end: string; total: TotalsAnswer } | null
    reason: 'outside-occupancy' | 'no-data' | null
  }
  dataThrough: string | null
  expectedThrough: string
  /** What the delivered energy of the running period comes to; null where too few of the account's days are complete. */
  projection: ProjectionAnswer | null
}

/** Energy in kWh; the rest of the period is taken to be like the own days of the same kind (`projection.ts`). */
export interface ProjectionAnswer {
  value: number
  /** The range if the rest is like the middle half of those days. */
  low: number
  high: number
  /** End of the last complete day; days after it are projected. */
  through: string
  /** Held up to there. */
  toDate: number
  daysProjected: number
  /** Complete days of the last four weeks that it rests on. */
  basedOnDays: number
}

interface Work {
  account: SummaryAccount
  segments: Segment[]
  occupancy: TimeWindow[]
  period: BillingPeriod
  lastYear: Bucket[] | null
  lastYearSpan: { fromS: number; toS: number }
}

/** Summaries of many accounts of one utility, in the order given, with a few statements in all. @param nowS epoch seconds */
export async function summarise(
  db: Queryable, zone: Zone, accounts: readonly SummaryAccount[], nowS: number,
): Promise<SummaryAnswer[]> {
  const ids = accounts.map((a) => a.accountId)
  const segments = byAccount(await loadSegments(db, ids), (s) => s.accountId)
  const occupancy = await loadOccupancy(db, ids)
  const periods = await loadPeriods(db, ids)
  const today = zone.dayOf(nowS)
  const dueS = expectedThrough(zone, nowS)
  const work = accounts.map((account): Work => {
    const cycle = { billingDay: account.billingDay, periods: periods.get(account.accountId) ?? [] }
    const windows = occupancy.get(account.accountId) ?? []
    const period = periodOf(today, cycle)
    const lastYearSpan = lastYearOf(period, zone, cycle)
    return {
      account, period, lastYearSpan,
      segments: segments.get(account.accountId) ?? [],
      occupancy: windows,
      lastYear: isCovered(windows, lastYearSpan) ? cutAt(lastYearSpan, period, today, zone) : null,
    }
  })
  const recent = work.map((w) => recentBuckets(w.period, today, zone))
  const recentSpan = await loadFor(db, zone, dueS, work.map((w, i) => ({ segments: w.segments, buckets: recent[i] })))
  const oldSpan = await loadFor(db, zone, dueS, work.map((w) => ({ segments: w.segments, buckets: w.lastYear ?? [] })))
  const days = work.map((w) => dailyBuckets(w.period, today, zone))
  const daySpan = await loadFor(db, zone, dueS, work.map((w, i) => ({ segments: w.segments, buckets: days[i] })))
  const newest = await newestHeld(db, zone, work.flatMap((w) => w.segments), nowS, null)
  let seen = 0
  return work.map((w, i) => {
    const [period, yesterday, running] = recent[i].map((b) => stretch(w.segments, b, recentSpan, zone))
    const dataThrough = newestOf(newest.slice(seen, seen += w.segments.length))
    return {
      account: w.account.account,
      timeZone: zone.name,
      unit: 'kWh',
      period: { ...period, periodSource: w.period.source },
      today: running,
      yesterday,
      lastYear: lastYearAnswer(w, oldSpan, zone),
      dataThrough: dataThrough === null ? null : instantText(dataThrough, zone),
      expectedThrough: instantText(dueS, zone),
      projection: projectionAnswer(w, days[i], daySpan, zone),
    }
  })
}

/** The running period, yesterday and today; they overlap, so each is summed by itself. */
function recentBuckets(period: DaySpan, today: number, zone: Zone): Bucket[] {
  const days = (fromDay: number, toDay: number): Bucket => ({ startS: zone.dayStart(fromDay), endS: zone.dayStart(toDay) })
  return [days(period.startDay, period.endDay), days(today - 1, today), days(today, today + 1)]
}

/** Each day of the weeks that a projection looks at and of the running period, up to yesterday. */
function dailyBuckets(period: DaySpan, today: number, zone: Zone): Bucket[] {
  const first = Math.min(period.startDay, today - LOOK_BACK_DAYS)
  return Array.from({ length: today - first }, (_, i) => ({ startS: zone.dayStart(first + i), endS: zone.dayStart(first + i + 1) }))
}

function projectionAnswer({ segments, period }: Work, buckets: readonly Bucket[], span: Span, zone: Zone): ProjectionAnswer | null {
  const delivered = segments.filter((s) => s.flow === Flow.delivered)
  const past = buckets.map((bucket): PastDay => {
    const tally = tallyFlows(delivered, bucket, span).get(Flow.delivered)
    return {
      day: zone.dayOf(bucket.startS), kwh: tally === undefined ? 0 : Number(tally.sum.text()),
      isComplete: tally !== undefined && tally.expected > 0 && tally.present >= tally.expected }
  })
  const through = past.findLast((p) => p.isComplete)?.day
  if (through === undefined) return null
  const found = projectUsage(period, through, past)
  if (found === null) return null
  const { value, low, high, toDate, days, basedOn } = found
  return {
    value, low, high, toDate, through: instantText(zone.dayStart(through + 1), zone), daysProjected: Math.min(days, period.endDay - period.startDay),
    basedOnDays: basedOn }
}

function lastYearOf(period: DaySpan, zone: Zone, cycle: BillingCycle): { fromS: number; toS: number } {
  const range = { fromS: zone.dayStart(period.startDay), toS: zone.dayStart(period.endDay) }
  return comparedRange(range, 'last-year', 'billing', zone, cycle)
}

/** Last year's period in two: as many days as are complete now, and the rest. */
function cutAt(span: { fromS: number; toS: number }, period: DaySpan, today: number, zone: Zone): Bucket[] {
  const cutS = Math.min(span.toS, zone.dayStart(zone.dayOf(span.fromS) + today - period.startDay))
  return [{ startS: span.fromS, endS: cutS }, { startS: cutS, endS: span.toS }].filter((b) => b.startS < b.endS)
}

/** Groups of one piece each: sums and counts add up, and no day needs its slots for the peak of a sum. */
function groupsIn(segments: readonly Segment[], bucket: Bucket): Group[] {
  return groupsOf(segments, 'account', bucket.startS, bucket.endS)
    .flatMap((g) => g.pieces.map((piece) => ({ ...g, pieces: [piece] })))
}

async function loadFor(
  db: Queryable, zone: Zone, dueS: number, asks: readonly { segments: Segment[]; buckets: Bucket[] }[],
): Promise<Span> {
  const slots = new Set<number>()
  const pieces = asks.flatMap(({ segments, buckets }) => buckets.flatMap((bucket) => {
    const groups = groupsIn(segments, bucket)
    for (const day of slotDaysOf(groups, [bucket], zone)) if (typeof day === 'number') slots.add(day)
    return groups.flatMap((g) => g.pieces)
  }))
  return loadSpan(db, { zone, dueS, pieces, slots: [...slots], asOf: null })
}

function tallyFlows(segments: readonly Segment[], bucket: Bucket, span: Span): Map<FlowCode, Tally> {
  const flows = new Map<FlowCode, Tally>()
  for (const group of groupsIn(segments, bucket)) {
    const total = flows.get(group.flow) ?? emptyTally()
    addTally(total, tallyPeriods(group, [bucket], span)[0])
    flows.set(group.flow, total)
  }
  return flows
}

function stretch(segments: readonly Segment[], bucket: Bucket, span: Span, zone: Zone): StretchAnswer {
  const flows = tallyFlows(segments, bucket, span)
  const all = emptyTally()
  for (const t of flows.values()) addTally(all, t)
  return {
    start: instantText(bucket.startS, zone), end: instantText(bucket.endS, zone),
    total: totalsAnswer(totalsOfFlows(flows)), ...countsAnswer(all),
  }
}

function totalsOfFlows(flows: ReadonlyMap<FlowCode, Tally>): Totals {
  const sum = (flow: FlowCode): Totals['net'] => {
    const t = flows.get(flow)
    return t === undefined || t.held === 0 ? null : t.sum
  }
  const delivered = sum(Flow.delivered)
  const received = sum(Flow.received)
  const both = flows.has(Flow.delivered) && flows.has(Flow.received)
  return { delivered, received, net: both ? differenceOf(delivered, received) : sum(Flow.net) }
}

function lastYearAnswer(w: Work, span: Span, zone: Zone): SummaryAnswer['lastYear'] {
  const head = { start: instantText(w.lastYearSpan.fromS, zone), end: instantText(w.lastYearSpan.toS, zone) }
  if (w.lastYear === null) return { ...head, total: null, toDate: null, reason: 'outside-occupancy' }
  const parts = w.lastYear.map((bucket) => tallyFlows(w.segments, bucket, span))
  const whole = new Map<FlowCode, Tally>()
  for (const part of parts) {
    for (const [flow, tally] of part) {
      const total = whole.get(flow) ?? emptyTally()
      addTally(total, tally)
      whole.set(flow, total)
    }
  }
  if (![...whole.values()].some((t) => t.held > 0)) return { ...head, total: null, toDate: null, reason: 'no-data' }
  const [first] = w.lastYear
  return {
    ...head, total: totalsAnswer(totalsOfFlows(whole)), reason: null,
    toDate: { end: instantText(first.endS, zone), total: totalsAnswer(totalsOfFlows(parts[0])) },
  }
}
