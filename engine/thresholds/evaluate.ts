import { randomUUID } from 'node:crypto'
import type { NotifySecrets } from '../contacts/seal.js'
import { groupBy } from '../group-by.js'
import { announce, type Announcement } from '../notify/announce.js'
import type { AlertSnapshot } from '../notify/content.js'
import type { Queryable } from '../store/db.js'
import type { DaySpan } from '../time/billing.js'
import type { Zone } from '../time/zone.js'
import { compareExact, exactText, parseExact, type Exact } from './exact.js'
import { judge, type Finding, type Move } from './judge.js'
import { windowOf } from './kinds.js'
import {
  insertAlerts, loadAlerts, loadThresholds, updateAlerts, type AlertInsert, type AlertRow, type AlertUpdate,
  type ThresholdRow,
} from './store.js'
import { createUsageBook, type PeriodUsage, type UsageBook } from './usage-book.js'

interface Context {
  readonly utilityId: number
  /** The utility's zone: it cuts the stored days and every period. */
  readonly zone: Zone
  readonly now: Date
  /** The delivery that this is done for; null for a registry write or a changed threshold. */
  readonly deliveryId: string | null
  readonly secrets: NotifySecrets
}

export interface EvaluationInput extends Context {
  /** Local days (day numbers) of the accounts in which stored values changed. */
  readonly days: ReadonlyMap<number, Iterable<number>>
  /** A history load raises nothing; what its values take away is retracted all the same. */
  readonly history: boolean
}

export interface ReevaluationInput extends Context {
  readonly accountIds: readonly number[]
  /** First local day that the change reaches; without it, the current day and period and those that have an alert. */
  readonly fromDay?: number
}

export interface EvaluationResult {
  raised: number
  retracted: number
  /** Messages written; when there are any, wake the outbox after the commit. */
  messages: number
}

/** One period of one threshold version to be judged. */
interface Case {
  threshold: ThresholdRow
  version: number
  limit: Exact
  period: DaySpan
  row: AlertRow | undefined
  /** `quiet`: may raise nothing. `void`: the period is none any more, so that nothing can stand on it. */
  mode: 'loud' | 'quiet' | 'void'
}

const NOTHING: EvaluationResult = { raised: 0, retracted: 0, messages: 0 }

/**
 * Judges the touched days and their billing periods on the stored data, raises and retracts alerts and writes their
 * messages. Runs in the settling transaction, after its blocks were written, with the accounts locked: without the
 * lock two commits for two meters of one account would each miss the crossing that only their sum makes.
 */
export async function evaluateThresholds(db: Queryable, input: EvaluationInput): Promise<EvaluationResult> {
  const thresholds = await loadThresholds(db, [...input.days.keys()])
  if (thresholds.length === 0) return NOTHING
  const touched = new Map<number, number[]>()
  for (const [accountId, days] of input.days) touched.set(accountId, [...new Set(days)].sort((a, b) => a - b))
  return evaluate(db, input, thresholds, input.history ? 'quiet' : 'loud', touched, false)
}

/**
 * Judges accounts anew after something other than reads changed: a threshold, an assignment, the billing day. Runs in
 * the registry write's transaction: its exclusive lock keeps settling out.
 */
export async function reevaluateAccounts(db: Queryable, input: ReevaluationInput): Promise<EvaluationResult> {
  const thresholds = await loadThresholds(db, [...input.accountIds])
  if (thresholds.length === 0) return NOTHING
  const today = input.zone.dayOf(seconds(input.now))
  const days: number[] = []
  for (let day = Math.min(input.fromDay ?? today, today); day <= today; day++) days.push(day)
  return evaluate(db, input, thresholds, 'loud', new Map(input.accountIds.map((id) => [id, days])), true)
}

async function evaluate(
  db: Queryable, context: Context, thresholds: ThresholdRow[], mode: 'loud' | 'quiet',
  touched: ReadonlyMap<number, readonly number[]>, allAlerts: boolean,
): Promise<EvaluationResult> {
  const periods = new Map(thresholds.map((t) => [t.thresholdId, periodsOf(t, touched.get(t.accountId) ?? [])]))
  const alerts = await loadAlertsOf(db, context.zone, [...periods], allAlerts)
  const cases = thresholds.flatMap((t) => casesOf(t, {
    periods: periods.get(t.thresholdId) ?? [],
    alerts: alerts.get(t.thresholdId) ?? [],
    days: allAlerts ? null : touched.get(t.accountId) ?? [],
    mode, context,
  }))
  if (cases.length === 0) return NOTHING
  const usage = await createUsageBook(db, context.zone, seconds(context.now), cases.map(toQuestion))
  return write(db, context, cases, usage)
}

/** The threshold's periods that contain the days (ascending), in order. */
function periodsOf(threshold: ThresholdRow, days: readonly number[]): DaySpan[] {
  const periods: DaySpan[] = []
  for (const day of days) {
    const last = periods.at(-1)
    if (last !== undefined && day < last.endDay) continue
    periods.push(windowOf(threshold.kind, day, threshold.cycle))
  }
  return periods
}

async function loadAlertsOf(
  db: Queryable, zone: Zone, periods: [string, DaySpan[]][], all: boolean,
): Promise<Map<string, AlertRow[]>> {
  let fromS = Infinity
  let toS = -Infinity
  for (const [, spans] of periods) {
    for (const span of spans) {
      fromS = Math.min(fromS, zone.dayStart(span.startDay))
      toS = Math.max(toS, zone.dayStart(span.endDay))
    }
  }
  if (all) [fromS, toS] = [-Infinity, Infinity]
  if (fromS >= toS) return new Map()
  return groupBy(await loadAlerts(db, periods.map(([id]) => id), fromS, toS), (a) => a.threshold_id)
}

interface CaseInput {
  periods: DaySpan[]
  alerts: AlertRow[]
  /** Days that an alert's period must touch to be judged; null: all alerts are. */
  days: readonly number[] | null
  mode: 'loud' | 'quiet'
  context: Context
}

function casesOf(threshold: ThresholdRow, { periods, alerts, days, mode, context }: CaseInput): Case[] {
  const { zone } = context
  const rows = new Map(alerts.map((a) => [`${a.version} ${a.start_s}`, a]))
  const cases: Case[] = []
  const judged = new Set<AlertRow>()
  for (const period of periods) {
    // A version judges periods that end after it was made.
    if (zone.dayStart(period.endDay) <= threshold.versionFromS) continue
    const row = rows.get(`${threshold.version} ${zone.dayStart(period.startDay)}`)
    if (row !== undefined) judged.add(row)
    cases.push({ threshold, version: threshold.version, limit: threshold.limit, period, row, mode })
  }
  for (const row of alerts) {
    if (judged.has(row)) continue
    const period = { startDay: zone.dayOf(row.start_s), endDay: zone.dayOf(row.end_s - 1) + 1 }
    if (days !== null && !days.some((d) => d >= period.startDay && d < period.endDay)) continue
    cases.push({
      threshold, version: row.version, limit: parseExact(row.limit_value), period, row,
      mode: modeOfOld(threshold, row, period, mode, context),
    })
  }
  return cases
}

/** How an alert is judged that is not at the present version, or not at a period of the present billing cycle. */
function modeOfOld(
  threshold: ThresholdRow, row: AlertRow, period: DaySpan, mode: 'loud' | 'quiet', { now }: Context,
): Case['mode'] {
  if (row.version !== threshold.version) return 'quiet'
  const current = windowOf(threshold.kind, period.startDay, threshold.cycle)
  if (current.startDay === period.startDay && current.endDay === period.endDay) return mode
  // A past period was billed as it was told; one that still runs follows the new cycle.
  return row.end_s > seconds(now) ? 'void' : 'quiet'
}

function toQuestion(c: Case): { accountId: number; flow: number; meterId: number | null; period: DaySpan } {
  return { accountId: c.threshold.accountId, flow: c.threshold.flow, meterId: c.threshold.meterId, period: c.period }
}

function findingOf(c: Case, usage: PeriodUsage): Finding {
  if (c.mode === 'void' || compareExact(usage.sum, c.limit) <= 0) return 'not-above'
  return c.mode === 'quiet' ? 'above-quiet' : 'above'
}

async function write(db: Queryable, context: Context, cases: Case[], usage: UsageBook): Promise<EvaluationResult> {
  const moves: { c: Case; move: Move; used: PeriodUsage }[] = []
  for (const c of cases) {
    const used = usage.of(toQuestion(c))
    const move = judge(c.row?.state ?? 'none', findingOf(c, used))
    if (move !== 'nothing' && !(move === 'update' && isSame(c, used, context.zone))) moves.push({ c, move, used })
  }
  const raising = moves.filter((m) => m.move === 'raise' || m.move === 'raise-again')
  const crossings = await usage.crossings(raising.map((m) => ({ ...toQuestion(m.c), limit: m.c.limit })))
  const crossedAt = new Map(raising.map((m, i) => [m.c, crossings[i] ?? null]))
  const inserts: AlertInsert[] = []
  const updates: AlertUpdate[] = []
  const announcements: Announcement[] = []
  const result = { raised: 0, retracted: 0 }
  for (const { c, move, used } of moves) {
    const crossedAtS = crossedAt.get(c) ?? null
    const alertId = c.row?.alert_id ?? randomUUID()
    if (c.row === undefined) inserts.push(toInsert(context, c, alertId, used, crossedAtS))
    else updates.push(toUpdate(context, c, c.row, move, used, crossedAtS))
    if (move === 'update') continue
    const isRaised = move !== 'retract'
    if (isRaised) result.raised++
    else result.retracted++
    announcements.push({
      alertId,
      step: (c.row?.step ?? 0) + 1,
      accountId: c.threshold.accountId,
      purpose: isRaised ? 'alert' : 'correction',
      contacts: c.threshold.contacts,
      snapshot: toSnapshot(context, c, used, crossedAtS),
    })
  }
  await insertAlerts(db, inserts)
  await updateAlerts(db, updates)
  const messages = await announce(db, announcements, context)
  return { ...result, messages }
}

function isSame({ row, period }: Case, used: PeriodUsage, zone: Zone): boolean {
  return row !== undefined && compareExact(parseExact(row.value), used.sum) === 0 && row.expected === used.expected
    && row.present === used.present && row.estimated === used.estimated && row.end_s === zone.dayStart(period.endDay)
}

function toInsert(context: Context, c: Case, alertId: string, used: PeriodUsage, crossedAtS: number | null): AlertInsert {
  return {
    alert_id: alertId,
    utility_id: context.utilityId,
    account_id: c.threshold.accountId,
    threshold_id: c.threshold.thresholdId,
    version: c.version,
    kind: c.threshold.kind,
    period_start: isoText(context.zone.dayStart(c.period.startDay)),
    period_end: isoText(context.zone.dayStart(c.period.endDay)),
    limit_value: exactText(c.limit),
    value: exactText(used.sum),
    crossed_at: crossedAtS === null ? null : isoText(crossedAtS),
    raised_at: context.now.toISOString(),
    delivery: context.deliveryId,
    expected: used.expected,
    present: used.present,
    estimated: used.estimated,
  }
}

function toUpdate(
  context: Context, c: Case, row: AlertRow, move: Move, used: PeriodUsage, crossedAtS: number | null,
): AlertUpdate {
  return {
    alert_id: row.alert_id,
    period_end: isoText(context.zone.dayStart(c.period.endDay)),
    value: exactText(used.sum),
    state: move === 'retract' ? 'retracted' : move === 'raise-again' ? 'raised' : null,
    crossed_at: crossedAtS === null ? null : isoText(crossedAtS),
    at: context.now.toISOString(),
    delivery: context.deliveryId,
    expected: used.expected,
    present: used.present,
    estimated: used.estimated,
  }
}

function toSnapshot(context: Context, c: Case, used: PeriodUsage, crossedAtS: number | null): AlertSnapshot {
  const { threshold } = c
  return {
    account: threshold.nickname ?? threshold.account,
    kind: threshold.kind,
    flow: threshold.flow,
    meter: threshold.meter,
    limit: exactText(c.limit),
    value: exactText(used.sum),
    period: c.period,
    zone: context.zone,
    crossedAtS,
    expected: used.expected,
    present: used.present,
    estimated: used.estimated,
  }
}

function isoText(s: number): string {
  return new Date(s * 1000).toISOString()
}

function seconds(date: Date): number {
  return date.getTime() / 1000
}
