import { flowNames, methodOf, qualityName, Quality, QUALITY_MASK } from '../read-batch.js'
import { instantText, offsetText } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import type { ExactSum } from './decimal.js'
import type { StepTally } from './tally.js'
import type { PeriodSeries, Series, StepSeries, Totals, UsageResult } from './usage.js'

/** The shapes of the contract (§6), made from what was measured. Energy is in kWh, instants carry the zone's offset. */

export interface TotalsAnswer {
  delivered: number | null
  received: number | null
  net: number | null
}

export interface CountsAnswer {
  expected: number
  present: number
  estimated: number
  missing: number
}

export interface PeriodAnswer extends CountsAnswer {
  start: string
  end: string
  value: number | null
  peakKw: number | null
  peakAt: string | null
  /** Of billing periods: cis, billingDay or calendar. */
  periodSource?: string
}

interface SeriesHeadAnswer {
  meter?: string
  flow: string
  unit: 'kWh'
  intervalSeconds: number
  /** True for a net that was computed from delivered and received. */
  derived?: true
}

export interface PeriodSeriesAnswer extends SeriesHeadAnswer {
  periods: PeriodAnswer[]
}

export interface StepSeriesAnswer extends SeriesHeadAnswer {
  start: string
  values: (number | null)[]
  offsets: { at: number; offset: string }[]
  quality?: QualityRun[]
  /** Steps whose value lacks some of its reads. */
  missing?: { at: number; count: number }[]
}

export interface QualityRun {
  from: number
  count: number
  quality: string
  method?: string
}

export type SeriesAnswer = PeriodSeriesAnswer | StepSeriesAnswer

const METHODS = ['', 'linear', 'like-day', 'linear-register', 'like-day-register', 'outage-zero']

/** Name of the method by which a read was estimated or edited; undefined where the lane has none. */
export function methodName(lane: number): string | undefined {
  const method = methodOf(lane)
  return method === 0 ? undefined : METHODS[method] ?? `method-${method}`
}

export function totalsAnswer(totals: Totals): TotalsAnswer {
  return { delivered: valueOf(totals.delivered), received: valueOf(totals.received), net: valueOf(totals.net) }
}

export function countsAnswer(c: { expected: number; present: number; estimated: number }): CountsAnswer {
  return { expected: c.expected, present: c.present, estimated: c.estimated, missing: Math.max(0, c.expected - c.present) }
}

export function valueOf(sum: ExactSum | null): number | null {
  return sum === null ? null : sum.number()
}

/** RFC 3339 of microseconds since the epoch, to the second; null for 0, which stands for never. */
export function stampAnswer(us: number, zone: Zone): string | null {
  return us === 0 ? null : instantText(us / 1_000_000, zone)
}

export function seriesAnswers(result: UsageResult, zone: Zone): SeriesAnswer[] {
  return result.series.map((s) => s.kind === 'periods' ? periodSeries(s, zone) : stepSeries(s, zone))
}

function headOf(s: Series, intervalSeconds: number): SeriesHeadAnswer {
  return {
    ...(s.meter === null ? {} : { meter: s.meter }),
    flow: flowNames[s.flow], unit: 'kWh', intervalSeconds, ...(s.derived ? { derived: true as const } : {}),
  }
}

function periodSeries(s: PeriodSeries, zone: Zone): PeriodSeriesAnswer {
  const periods = s.buckets.map((b, i): PeriodAnswer => {
    const t = s.tallies[i]
    return {
      start: instantText(b.startS, zone),
      end: instantText(b.endS, zone),
      value: t.held === 0 ? null : t.sum.number(),
      peakKw: t.peak?.kw ?? null,
      peakAt: t.peak === null ? null : instantText(t.peak.atS, zone),
      ...countsAnswer(t),
      ...(b.source === undefined ? {} : { periodSource: b.source }),
    }
  })
  return { ...headOf(s, s.intervalS), periods }
}

function stepSeries(s: StepSeries, zone: Zone): StepSeriesAnswer {
  const { steps } = s
  const quality = qualityRuns(steps)
  const missing: { at: number; count: number }[] = []
  steps.missing.forEach((count, at) => {
    if (count > 0 && steps.sums[at] !== null) missing.push({ at, count })
  })
  return {
    ...headOf(s, steps.stepS),
    start: instantText(steps.startS, zone),
    values: steps.sums.map(valueOf),
    offsets: offsetRuns(steps.starts, zone),
    ...(quality.length === 0 ? {} : { quality }),
    ...(missing.length === 0 ? {} : { missing }),
  }
}

/** Where the local clock's offset changes: `at` is the first step that has it. */
function offsetRuns(starts: readonly number[], zone: Zone): { at: number; offset: string }[] {
  const runs: { at: number; offset: string }[] = []
  let current: number | undefined
  starts.forEach((s, at) => {
    const offset = zone.offsetAt(s)
    if (offset === current) return
    runs.push({ at, offset: offsetText(offset) })
    current = offset
  })
  return runs
}

function qualityRuns(steps: StepTally): QualityRun[] {
  const runs: QualityRun[] = []
  let last: QualityRun | undefined
  steps.lanes.forEach((lane, at) => {
    if ((lane & QUALITY_MASK) === Quality.actual || steps.sums[at] === null) return
    const quality = qualityName(lane)
    const method = methodName(lane)
    if (last !== undefined && last.from + last.count === at && last.quality === quality && last.method === method) {
      last.count++
      return
    }
    last = { from: at, count: 1, quality, ...(method === undefined ? {} : { method }) }
    runs.push(last)
  })
  return runs
}

const STEP_COLUMNS = ['start', 'end', 'value', 'unit', 'quality', 'method']
const PERIOD_COLUMNS = ['start', 'end', 'value', 'unit', 'peakKw', 'peakAt', 'expected', 'present', 'estimated', 'missing']

/** The same rows as CSV: one line per series and step or period; a value that is not there is an empty field. */
export function usageCsv(result: UsageResult, zone: Zone, columns: { resolution: string; byMeter: boolean }): string {
  const isStep = columns.resolution === 'interval' || columns.resolution === 'hour'
  const lines = [[...(columns.byMeter ? ['meter'] : []), 'flow', ...(isStep ? STEP_COLUMNS : PERIOD_COLUMNS)].join(',')]
  for (const s of result.series) {
    const head = `${s.meter === null ? '' : `${csvField(s.meter)},`}${flowNames[s.flow]},`
    for (const row of s.kind === 'periods' ? periodRows(s, zone) : stepRows(s, zone)) lines.push(head + row)
  }
  return lines.join('\n') + '\n'
}

function* stepRows(s: StepSeries, zone: Zone): Generator<string> {
  const { steps } = s
  for (let i = 0; i < steps.starts.length; i++) {
    const sum = steps.sums[i]
    const lane = steps.lanes[i]
    const endS = i + 1 < steps.starts.length ? steps.starts[i + 1] : nextStart(steps, zone)
    const quality = sum === null ? ',' : `${qualityName(lane)},${methodName(lane) ?? ''}`
    yield `${instantText(steps.starts[i], zone)},${instantText(endS, zone)},${sum?.text() ?? ''},kWh,${quality}`
  }
}

function nextStart(steps: StepTally, zone: Zone): number {
  const last = steps.starts[steps.starts.length - 1]
  return steps.stepS === 86_400 ? zone.dayStart(zone.dayOf(last) + 1) : last + steps.stepS
}

function* periodRows(s: PeriodSeries, zone: Zone): Generator<string> {
  for (const [i, b] of s.buckets.entries()) {
    const t = s.tallies[i]
    const c = countsAnswer(t)
    const peak = t.peak === null ? ',' : `${t.peak.kw},${instantText(t.peak.atS, zone)}`
    const value = t.held === 0 ? '' : t.sum.text()
    yield `${instantText(b.startS, zone)},${instantText(b.endS, zone)},${value},kWh,${peak},` +
      `${c.expected},${c.present},${c.estimated},${c.missing}`
  }
}

/** Quotes a field where it must be. */
export function csvField(text: string): string {
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
