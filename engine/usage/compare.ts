import type { Queryable } from '../store/db.js'
import { instantText } from '../time/text.js'
import { countsAnswer, seriesAnswers, totalsAnswer, type CountsAnswer, type SeriesAnswer, type TotalsAnswer } from './answer.js'
import { comparedRange, isCovered, type Comparison } from './range.js'
import { measureUsage, type Subject, type UsageRequest } from './usage.js'

/** The compared range of an answer: total and series are null where there is a reason for it. */
export interface ComparisonAnswer extends Partial<CountsAnswer> {
  kind: Comparison
  from: string
  to: string
  total: TotalsAnswer | null
  series: SeriesAnswer[] | null
  /** outside-occupancy: the account did not have the service for all of that time; no-data: nothing is held of it. */
  reason: 'outside-occupancy' | 'no-data' | null
}

/**
 * Measures the range before, or a year before. Where the subject's occupancy does not cover it (somebody else may have
 * been served then), there is no comparison at all: a part of a month would mislead.
 */
export async function compareUsage(
  db: Queryable, subject: Subject, request: UsageRequest, kind: Comparison,
): Promise<ComparisonAnswer> {
  const { zone } = subject
  const range = comparedRange(request, kind, request.resolution, zone, subject.cycle)
  const head = { kind, from: instantText(range.fromS, zone), to: instantText(range.toS, zone) }
  // What lies ahead need not be covered yet.
  const past = { fromS: range.fromS, toS: Math.max(range.fromS, Math.min(range.toS, request.nowS)) }
  if (!isCovered(subject.occupancy, past)) return { ...head, total: null, series: null, reason: 'outside-occupancy' }
  const result = await measureUsage(db, subject, { ...request, ...range })
  const { totals } = result
  if (totals.delivered === null && totals.received === null && totals.net === null) {
    return { ...head, total: null, series: null, reason: 'no-data' }
  }
  return {
    ...head, total: totalsAnswer(totals), ...countsAnswer(result), series: seriesAnswers(result, zone), reason: null,
  }
}
