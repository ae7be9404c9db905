import { quantile } from 'simple-statistics'
import { loadRateBook } from '../rates/book.js'
import { ApiError } from '../problem.js'
import { Flow } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import { instantText } from '../time/text.js'
import { getZone } from '../time/zone.js'
import { loadPeriods } from '../usage/occupancy.js'
import { casesOf, periodsTouched } from './cases.js'
import { unitOf } from './evaluate.js'
import { exactNumber, parseExact } from './exact.js'
import { isThresholdKind, kindInfo } from './kinds.js'
import { measure, type Measured } from './measure.js'
import { checkThreshold, type ThresholdWish } from './params.js'
import type { ThresholdRow } from './store.js'
import { segmentsOf } from './usage-book.js'

export interface PreviewAnswer {
  from: string
  to: string
  days: number
  unit: string
  /** Periods that ended in these days and whose data tell something. */
  judged: number
  /** How many of them would have raised an alert; null where no limit was given that needs one. */
  wouldHaveFired: number | null
  /** The newest hundred of those. */
  alerts: { start: string; end: string; value: number; limit: number }[]
  /** Limits by the account's own periods: so many of them would have been passed. */
  suggestions: { limit: number; quantile: number; wouldHaveFired: number }[]
}

interface PreviewInput extends ThresholdWish {
  /** Local days back from today; 90 where not given. */
  readonly days?: number
}

const DAYS = 90
const SHOWN = 100
const HIGH = [0.8, 0.9, 0.95]
const LOW = [0.05, 0.1]

/**
 * What a threshold would have done over the account's last days: the code that judges them, run over what is stored.
 * Says at the same time which limits the account's own periods suggest.
 * @throws ApiError 422 as for a threshold that is made; a limit may be left out
 */
export async function previewThreshold(
  db: Queryable, account: { utilityId: number; accountId: number; account: string; zone: string }, input: PreviewInput, now: Date,
): Promise<PreviewAnswer> {
  const hasLimit = typeof input.limit === 'number'
  const needsLimit = !isThresholdKind(input.kind) || kindInfo(input.kind).hasLimit
  const checked = checkThreshold({ ...input, limit: needsLimit ? input.limit ?? 1 : input.limit ?? null })
  const info = kindInfo(checked.kind)
  const zone = getZone(account.zone)
  const nowS = now.getTime() / 1000
  const today = zone.dayOf(nowS)
  const count = input.days ?? DAYS
  const { rows: [row] } = await db.query<{ billing_day: number | null; currency: string; alert_on_estimates: boolean; meter_id: number | null }>(
    `select a.billing_day, u.currency, u.alert_on_estimates, (
              select m.meter_id from meter m join meter_assignment s using (meter_id) where m.utility_id = a.utility_id and m.id = $2 and s.account_id = a.account_id limit 1) as meter_id
       from account a join utility u using (utility_id) where a.account_id = $1`, [account.accountId, input.meter ?? null])
  if (typeof input.meter === 'string' && row.meter_id === null) {
    throw new ApiError(422, 'unknown-meter', 'The account has no such meter.', { at: '/meter' })
  }
  const periods = (await loadPeriods(db, [account.accountId])).get(account.accountId) ?? []
  const threshold: ThresholdRow = {
    thresholdId: 'preview', accountId: account.accountId, kind: checked.kind, flow: Flow[checked.flow], meterId: row.meter_id,
    meter: input.meter ?? null, limit: checked.limit === null ? null : parseExact(checked.limit), touPeriod: checked.touPeriod,
    params: checked.params, version: 1, versionFromS: -Infinity, contacts: null, account: account.account, nickname: null, utilityName: null,
    currency: row.currency, alertOnEstimates: row.alert_on_estimates, cycle: { billingDay: row.billing_day, periods },
  }
  const days = Array.from({ length: count }, (_, i) => today - count + i)
  const asked = periodsTouched(threshold, days, zone).filter((p) => p.endS <= nowS && p.startDay >= days[0])
  const cases = casesOf(threshold, { periods: asked, alerts: [], days, mode: 'loud', zone, nowS })
  const measurement = await measure({
    // What is missing of days gone by is not waited for.
    db, zone, nowS, settleS: 0, isMeasuredOnly: !row.alert_on_estimates, segments: await segmentsOf(db, [account.accountId]),
    rates: await loadRateBook(db, account.utilityId, zone, [account.accountId]),
  }, cases)
  const told = cases.map((c) => ({ c, m: measurement.of(c) })).filter(({ m }) => m.isTold && m.usage.present > 0)
  const fired = told.filter(({ m }) => m.isBreach)
  const isCounted = hasLimit || !info.hasLimit
  return {
    from: instantText(zone.dayStart(days[0]), zone), to: instantText(zone.dayStart(today), zone), days: count, unit: unitOf(threshold),
    judged: told.length,
    wouldHaveFired: isCounted ? fired.length : null,
    alerts: !isCounted ? [] : fired.slice(-SHOWN).map(({ c, m }) => ({
      start: instantText(c.period.startS, zone), end: instantText(c.period.endS, zone), value: exactNumber(m.value), limit: exactNumber(m.limit) })),
    suggestions: info.hasLimit ? suggestionsOf(told.map(({ m }) => m), info.direction) : [],
  }
}

/** Limits at which one period in five, ten or twenty would have been told, in steps that a member would choose. */
function suggestionsOf(measured: readonly Measured[], direction: 'above' | 'below'): PreviewAnswer['suggestions'] {
  const values = measured.map((m) => exactNumber(m.value)).filter((v) => v > 0)
  if (values.length < 10) return []
  const seen = new Set<number>()
  return (direction === 'above' ? HIGH : LOW).flatMap((q) => {
    const value = quantile(values, q)
    const step = value >= 20 ? 1 : value >= 2 ? 0.1 : 0.01
    const limit = Math.round(Math.ceil(value / step) * step * 1000) / 1000
    if (seen.has(limit)) return []
    seen.add(limit)
    return [{ limit, quantile: q, wouldHaveFired: values.filter((v) => direction === 'above' ? v > limit : v < limit).length }]
  })
}
