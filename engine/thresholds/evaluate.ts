import { randomUUID } from 'node:crypto'
import type { NotifySecrets } from '../contacts/seal.js'
import { groupBy } from '../group-by.js'
import { announce, type Announcement } from '../notify/announce.js'
import type { AlertSnapshot } from '../notify/content.js'
import { loadRateBook, type RateBook } from '../rates/book.js'
import { Flow } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import type { Zone } from '../time/zone.js'
import { insertAlerts, loadAlerts, updateAlerts, type AlertInsert, type AlertRow, type AlertUpdate } from './alert-rows.js'
import { casesOf, daysReached, periodsTouched, type Case } from './cases.js'
import { compareExact, exactText, parseExact } from './exact.js'
import { judge, type Finding, type Move } from './judge.js'
import { isDeferred, isJudgedInSettling, kindInfo, windowOf, type Period } from './kinds.js'
import { measure, type AlertDetail, type Measured } from './measure.js'
import type { Suspects } from './screen.js'
import { loadThresholds, type ThresholdRow } from './store.js'
import { segmentsOf } from './usage-book.js'

/** Which thresholds are judged: those whose value reads can only raise, those that wait for the period's end, or all. */
export type Judged = 'settling' | 'deferred' | 'all'

export interface EvaluationContext {
  readonly utilityId: number
  /** The utility's zone: it cuts the stored days and every period. */
  readonly zone: Zone
  readonly now: Date
  /** The delivery that this is done for; null for a registry write, a changed threshold or the schedule. */
  readonly deliveryId: string | null
  readonly secrets: NotifySecrets
}

export interface EvaluationInput extends EvaluationContext {
  /** Local days (day numbers) of the accounts in which stored values changed. */
  readonly days: ReadonlyMap<number, Iterable<number>>
  /** Of which accounts only the thresholds of some kinds can have changed; all are judged where it is not given. */
  readonly suspects?: Suspects
  /** A history load raises nothing; what its values take away is retracted all the same. */
  readonly history: boolean
  /** Where it is not given: what settling judges. */
  readonly judged?: Judged
  /** How long after a period's end its reads are waited for, seconds; settling waits for nothing. */
  readonly settleS?: number
}

export interface ReevaluationInput extends EvaluationContext {
  readonly accountIds: readonly number[]
  /** First local day that the change reaches; without it, the current day and period and those that have an alert. */
  readonly fromDay?: number
}

/** Periods that time alone may change the finding of: local days [startDay, endDay), to be looked at again then. */
export interface Waiting {
  readonly accountId: number
  readonly startDay: number
  readonly endDay: number
  /** Epoch seconds. */
  readonly againAtS: number
  readonly history: boolean
}

export interface EvaluationResult {
  raised: number
  retracted: number
  /** Messages written; when there are any, wake the outbox after the commit. */
  messages: number
  waiting: Waiting[]
}

const nothing = (): EvaluationResult => ({ raised: 0, retracted: 0, messages: 0, waiting: [] })

/**
 * Judges the touched days and their billing periods on the stored data, raises and retracts alerts and writes their
 * messages. Runs in the settling transaction, after its blocks were written, with the accounts locked: without the
 * lock two commits for two meters of one account would each miss the crossing that only their sum makes.
 */
export async function evaluateThresholds(db: Queryable, input: EvaluationInput): Promise<EvaluationResult> {
  const thresholds = (await loadThresholds(db, [...input.days.keys()]))
    .filter((t) => isAsked(t, input.judged ?? 'settling') && (input.suspects?.get(t.accountId)?.has(t.kind) ?? true))
  if (thresholds.length === 0) return nothing()
  const touched = new Map<number, number[]>()
  for (const [accountId, days] of input.days) touched.set(accountId, [...new Set(days)].sort((a, b) => a - b))
  return evaluate(db, input, thresholds, input.history ? 'quiet' : 'loud', touched, false)
}

function isAsked({ kind, flow }: ThresholdRow, judged: Judged): boolean {
  const isNet = flow === Flow.net
  return judged === 'all' || (judged === 'settling' ? isJudgedInSettling(kind, isNet) : isDeferred(kind, isNet))
}

/**
 * Judges accounts anew after something other than reads changed: a threshold, an assignment, the billing day. Runs in
 * the registry write's transaction: its exclusive lock keeps settling out. What waits for a period's end is left to the
 * schedule.
 */
export async function reevaluateAccounts(db: Queryable, input: ReevaluationInput): Promise<EvaluationResult> {
  const thresholds = (await loadThresholds(db, [...input.accountIds])).filter((t) => isAsked(t, 'settling'))
  if (thresholds.length === 0) return nothing()
  const today = input.zone.dayOf(seconds(input.now))
  const days: number[] = []
  for (let day = Math.min(input.fromDay ?? today, today); day <= today; day++) days.push(day)
  return evaluate(db, input, thresholds, 'loud', new Map(input.accountIds.map((id) => [id, days])), true)
}

async function evaluate(
  db: Queryable, context: EvaluationContext & Pick<EvaluationInput, 'judged' | 'settleS'>, thresholds: ThresholdRow[],
  mode: 'loud' | 'quiet', touched: ReadonlyMap<number, readonly number[]>, allAlerts: boolean,
): Promise<EvaluationResult> {
  const { zone } = context
  const nowS = seconds(context.now)
  const days = new Map(thresholds.map((t) => [t.thresholdId, daysReached(t.kind, touched.get(t.accountId) ?? [], zone.dayOf(nowS))]))
  const periods = new Map(thresholds.map((t) => [t.thresholdId, periodsTouched(t, days.get(t.thresholdId) ?? [], zone)]))
  const alerts = await loadAlertsOf(db, [...periods], allAlerts)
  const cases = thresholds.flatMap((t) => casesOf(t, {
    periods: periods.get(t.thresholdId) ?? [],
    alerts: alerts.get(t.thresholdId) ?? [],
    days: allAlerts ? null : days.get(t.thresholdId) ?? [],
    mode, zone, nowS,
  }))
  if (cases.length === 0) return nothing()
  const segments = await segmentsOf(db, cases.map((c) => c.threshold.accountId))
  const measurement = await measure({
    db, zone, nowS, segments, settleS: context.settleS ?? 0, isMeasuredOnly: !thresholds[0].alertOnEstimates,
    rates: await ratesFor(db, context, cases),
  }, cases)
  const measured = cases.map((c) => ({ c, m: measurement.of(c) })).filter(({ m }) => context.judged !== undefined || !m.isForSchedule)
  const result = await write(db, context, measured, measurement.crossings)
  return { ...result, waiting: measured.flatMap(({ c, m }) => m.againAtS === null || c.mode === 'void' ? [] : [{
    accountId: c.threshold.accountId, startDay: c.period.startDay, endDay: c.period.endDay, againAtS: m.againAtS,
    history: mode === 'quiet' }]) }
}

/** The rates of those accounts that have a threshold which depends on one. */
function ratesFor(db: Queryable, { utilityId, zone }: EvaluationContext, cases: readonly Case[]): Promise<RateBook> {
  return loadRateBook(db, utilityId, zone, cases.flatMap(({ threshold: { accountId, kind, touPeriod } }) =>
    touPeriod !== null || kindInfo(kind).watches === 'account' ? [accountId] : []))
}

async function loadAlertsOf(db: Queryable, periods: [string, Period[]][], all: boolean): Promise<Map<string, AlertRow[]>> {
  let fromS = Infinity
  let toS = -Infinity
  for (const [, spans] of periods) {
    for (const { startS, endS } of spans) {
      fromS = Math.min(fromS, startS)
      toS = Math.max(toS, endS)
    }
  }
  if (all) [fromS, toS] = [-Infinity, Infinity]
  if (fromS >= toS) return new Map()
  return groupBy(await loadAlerts(db, periods.map(([id]) => id), fromS, toS), (a) => a.threshold_id)
}

interface Judgement {
  c: Case
  m: Measured
  move: Move
}

function findingOf(c: Case, m: Measured): Finding {
  if (c.mode === 'void') return 'void'
  if (!m.isTold) return 'open'
  if (!m.isBreach) return 'clear'
  return c.mode === 'quiet' || m.isLate ? 'breach-quiet' : 'breach'
}

async function write(
  db: Queryable, context: EvaluationContext, measured: readonly { c: Case; m: Measured }[],
  crossingsOf: (cases: readonly Case[]) => Promise<(number | undefined)[]>,
): Promise<Omit<EvaluationResult, 'waiting'>> {
  const moves: Judgement[] = []
  for (const { c, m } of measured) {
    const move = judge(c.row?.state ?? 'none', findingOf(c, m))
    if (move !== 'nothing' && !(move === 'update' && isSame(c, m))) moves.push({ c, m, move })
  }
  const asked = moves.filter(({ move, m }) => (move === 'raise' || move === 'raise-again') && m.crossedAtS === undefined)
  const crossings = await crossingsOf(asked.map(({ c }) => c))
  const crossedAt = new Map(asked.map(({ c }, i) => [c, crossings[i] ?? null]))
  const inserts: AlertInsert[] = []
  const updates: AlertUpdate[] = []
  const announcements: Announcement[] = []
  const result = { raised: 0, retracted: 0 }
  for (const { c, m, move } of moves) {
    const crossedAtS = m.crossedAtS ?? crossedAt.get(c) ?? null
    const alertId = c.row?.alert_id ?? randomUUID()
    if (c.row === undefined) inserts.push(toInsert(context, c, alertId, m, crossedAtS))
    else updates.push(toUpdate(context, c, c.row, move, m, crossedAtS))
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
      snapshot: toSnapshot(context, c, m, crossedAtS),
    })
  }
  await insertAlerts(db, inserts)
  await updateAlerts(db, updates)
  const messages = await announce(db, announcements, context)
  return { ...result, messages }
}

function isSame({ row, period }: Case, { value, limit, usage }: Measured): boolean {
  return row !== undefined && compareExact(parseExact(row.value), value) === 0 && compareExact(parseExact(row.limit_value), limit) === 0
    && row.expected === usage.expected && row.present === usage.present && row.estimated === usage.estimated && row.end_s === period.endS
}

/** The unit of a threshold's values: kWh, kW or the utility's currency. */
export function unitOf({ kind, currency }: Pick<ThresholdRow, 'kind' | 'currency'>): string {
  const { unit } = kindInfo(kind)
  return unit === 'currency' ? currency : unit
}

function toInsert(context: EvaluationContext, c: Case, alertId: string, m: Measured, crossedAtS: number | null): AlertInsert {
  return {
    alert_id: alertId,
    utility_id: context.utilityId,
    account_id: c.threshold.accountId,
    threshold_id: c.threshold.thresholdId,
    version: c.version,
    kind: c.threshold.kind,
    unit: unitOf(c.threshold),
    flow: c.threshold.flow,
    period_start: isoText(c.period.startS),
    period_end: isoText(c.period.endS),
    limit_value: exactText(m.limit),
    value: exactText(m.value),
    crossed_at: crossedAtS === null ? null : isoText(crossedAtS),
    raised_at: context.now.toISOString(),
    delivery: context.deliveryId,
    expected: m.usage.expected,
    present: m.usage.present,
    estimated: m.usage.estimated,
    detail: detailOf(m),
  }
}

function toUpdate(
  context: EvaluationContext, c: Case, row: AlertRow, move: Move, m: Measured, crossedAtS: number | null,
): AlertUpdate {
  return {
    alert_id: row.alert_id,
    period_end: isoText(c.period.endS),
    limit_value: exactText(m.limit),
    value: exactText(m.value),
    state: move === 'retract' ? 'retracted' : move === 'raise-again' ? 'raised' : null,
    crossed_at: crossedAtS === null ? null : isoText(crossedAtS),
    at: context.now.toISOString(),
    delivery: context.deliveryId,
    expected: m.usage.expected,
    present: m.usage.present,
    estimated: m.usage.estimated,
    detail: detailOf(m),
  }
}

function toSnapshot(context: EvaluationContext, c: Case, m: Measured, crossedAtS: number | null): AlertSnapshot {
  const { threshold, period } = c
  return {
    account: threshold.nickname ?? threshold.account,
    kind: threshold.kind,
    flow: threshold.flow,
    meter: threshold.meter,
    limit: exactText(m.limit),
    value: exactText(m.value),
    unit: unitOf(threshold),
    period: { startDay: period.startDay, endDay: period.endDay },
    hour: windowOf(threshold.kind, threshold.params) === 'hour' ? { startS: period.startS, endS: period.endS } : null,
    zone: context.zone,
    crossedAtS,
    expected: m.usage.expected,
    present: m.usage.present,
    estimated: m.usage.estimated,
    touPeriod: threshold.touPeriod,
    range: m.range,
    usual: m.usual,
  }
}

function detailOf({ detail, range, usual }: Measured): AlertDetail | null {
  if (detail === null && range === null && usual === null) return null
  return { ...detail, ...(range === null ? {} : { range }), ...(usual === null ? {} : { usual }) }
}

function isoText(s: number): string {
  return new Date(s * 1000).toISOString()
}

function seconds(date: Date): number {
  return date.getTime() / 1000
}
