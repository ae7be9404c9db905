import type { QuantityCode } from '../quantity.js'
import { Flow, type FlowCode } from '../read-batch.js'
import { inTransaction, type Client, type Pool, type Queryable } from '../store/db.js'
import { isReplicaFault, type ReadSource } from '../store/replica.js'
import type { BillingCycle } from '../time/billing.js'
import type { Zone } from '../time/zone.js'
import { bucketsOf, type Bucket } from './buckets.js'
import { ExactSum } from './decimal.js'
import { expectedThrough } from './freshness.js'
import { loadOccupancy, loadPeriods } from './occupancy.js'
import { loadMeterSegments, loadSegments, type Segment, type TimeWindow } from './segments.js'
import { slotDaysOf } from './slots.js'
import { groupsOf, loadSpan, type Group, type Span } from './span.js'
import { addTally, emptyTally, longestInterval, tallyPeriods, tallySteps, type Counts, type StepTally, type Tally } from './tally.js'

export const resolutions = ['interval', 'hour', 'day', 'month', 'billing'] as const
export type Resolution = (typeof resolutions)[number]

/** Whose usage: an account's, or a meter's. */
export interface Subject {
  zone: Zone
  segments: Segment[]
  /** Times of this account (or that the caller may see of the meter): comparisons never leave them. */
  occupancy: readonly TimeWindow[]
  cycle: BillingCycle
}

/** A question of usage; times are epoch seconds, the end exclusive. */
export interface UsageRequest {
  fromS: number
  toS: number
  resolution: Resolution
  by: 'account' | 'meter'
  /** null: every flow that is metered. */
  flow: FlowCode | null
  /** RFC 3339: what was known then; null: what is known. */
  asOf: string | null
  /** Now; with asOf, that instant: reads that were not due then were not missing. */
  nowS: number
}

interface SeriesHead {
  flow: FlowCode
  /** Public id with by=meter, else null. */
  meter: string | null
  /** Longest interval of the channels summed, seconds. */
  intervalS: number
  /** True for net energy that was computed from delivered and received. */
  derived: boolean
}

export interface PeriodSeries extends SeriesHead {
  kind: 'periods'
  buckets: Bucket[]
  tallies: Tally[]
}

export interface StepSeries extends SeriesHead {
  kind: 'steps'
  steps: StepTally
}

export type Series = PeriodSeries | StepSeries

/** Energy per flow over the range: null where nothing is held. */
export type Totals = Record<'delivered' | 'received' | 'net', ExactSum | null>

export interface UsageResult extends Counts {
  series: Series[]
  totals: Totals
  /** Epoch seconds up to which reads are due. */
  dueS: number
  /** Newest change of a value that stood, microseconds; 0 for none. */
  restatedAtUs: number
}

/**
 * Runs reads in one snapshot: rows, revisions and segments of one moment. What a replica breaks off is run again on the
 * primary, so `work` must do nothing else before it reads the last.
 */
export async function inSnapshot<T>(source: ReadSource, work: (db: Client) => Promise<T>): Promise<T> {
  const read = (from: Pick<Pool, 'connect'>): Promise<T> => inTransaction(from, async (client) => {
    await client.query('set transaction isolation level repeatable read, read only')
    return work(client)
  })
  try {
    return await read(source)
  } catch (err) {
    if (source.fallback === undefined || !isReplicaFault(err)) throw err
    return read(source.fallback)
  }
}

/** An account's main meters over all its time, and its billing periods. */
export async function loadAccountSubject(
  db: Queryable, zone: Zone, accountId: number, billingDay: number | null,
): Promise<Subject> {
  const segments = await loadSegments(db, [accountId])
  const occupancy = await loadOccupancy(db, [accountId])
  const periods = await loadPeriods(db, [accountId])
  return {
    zone,
    segments,
    occupancy: occupancy.get(accountId) ?? [],
    cycle: { billingDay, periods: periods.get(accountId) ?? [] },
  }
}

/** A meter in the windows that the caller may see; its periods are calendar months. */
export async function loadMeterSubject(
  db: Queryable, zone: Zone, meterId: number, windows: readonly TimeWindow[], quantity?: QuantityCode,
): Promise<Subject> {
  return {
    zone,
    segments: await loadMeterSegments(db, meterId, windows, quantity),
    occupancy: windows,
    cycle: { billingDay: null, periods: [] },
  }
}

/** Answers a question of usage. The range must not be empty. */
export async function measureUsage(db: Queryable, subject: Subject, request: UsageRequest): Promise<UsageResult> {
  const { zone } = subject
  const { fromS, toS, resolution, flow } = request
  const asked = flow === null || flow === Flow.net
    ? subject.segments
    : subject.segments.filter((s) => s.flow === flow)
  const groups = groupsOf(asked, request.by, fromS, toS)
  const dueS = expectedThrough(zone, request.nowS)
  const buckets = resolution === 'interval' || resolution === 'hour'
    ? null
    : bucketsOf(resolution, fromS, toS, zone, subject.cycle)
  const span = await loadSpan(db, {
    zone, dueS, asOf: request.asOf,
    pieces: groups.flatMap((g) => g.pieces),
    slots: buckets === null ? 'all' : slotDaysOf(groups, buckets, zone),
  })
  const series = groups.map((group) => seriesOf(group, groups, buckets, request, span))
  const totals = totalsOf(series, flow)
  const shown = flow === Flow.net ? netSeries(series) : series
  const counts: Counts = { expected: 0, present: 0, estimated: 0 }
  for (const s of shown) {
    for (const c of s.kind === 'periods' ? s.tallies : [s.steps]) {
      counts.expected += c.expected
      counts.present += c.present
      counts.estimated += c.estimated
    }
  }
  return { ...counts, series: shown, totals, dueS, restatedAtUs: span.restatedAtUs }
}

function seriesOf(
  group: Group, groups: readonly Group[], buckets: Bucket[] | null, request: UsageRequest, span: Span,
): Series {
  const head = {
    flow: group.flow, meter: group.meter, intervalS: longestInterval(group.pieces), derived: false,
  }
  if (buckets !== null) return { ...head, kind: 'periods', buckets, tallies: tallyPeriods(group, buckets, span) }
  const { resolution, fromS, toS } = request
  // A net that is to be computed needs both flows at the same steps.
  const peers = request.flow === Flow.net ? groups.filter((g) => g.meter === group.meter) : [group]
  const longest = longestInterval(peers.flatMap((g) => g.pieces))
  const stepS = resolution === 'hour' ? Math.max(3600, longest) : longest
  return { ...head, kind: 'steps', steps: tallySteps(group, stepS === longest ? 'interval' : 'hour', stepS, fromS, toS, span) }
}

function totalsOf(series: readonly Series[], flow: FlowCode | null): Totals {
  const sums = new Map<FlowCode, Tally>()
  for (const s of series) {
    const total = sums.get(s.flow) ?? emptyTally()
    if (s.kind === 'periods') for (const t of s.tallies) addTally(total, t)
    else for (const sum of s.steps.sums) if (sum !== null) addTally(total, { ...emptyTally(), sum, held: 1 })
    sums.set(s.flow, total)
  }
  const held = (f: FlowCode): ExactSum | null => {
    const total = sums.get(f)
    return total === undefined || total.held === 0 ? null : total.sum
  }
  const delivered = held(Flow.delivered)
  const received = held(Flow.received)
  // Where both are metered, net is their difference; a net channel beside them says the same again and is not added.
  const net = sums.has(Flow.delivered) && sums.has(Flow.received) ? differenceOf(delivered, received) : held(Flow.net)
  if (flow === Flow.net) return { delivered: null, received: null, net }
  return { delivered, received, net }
}

/** a - b; null where either is. */
export function differenceOf(a: ExactSum | null, b: ExactSum | null): ExactSum | null {
  if (a === null || b === null) return null
  const sum = new ExactSum()
  sum.addSum(a)
  sum.subtract(b)
  return sum
}

/** What flow=net shows: the pushed net channel, or where there is none delivered less received. */
function netSeries(series: readonly Series[]): Series[] {
  const found: Series[] = []
  for (const meter of new Set(series.map((s) => s.meter))) {
    const of = (flow: FlowCode): Series | undefined => series.find((s) => s.meter === meter && s.flow === flow)
    const pushed = of(Flow.net)
    const delivered = of(Flow.delivered)
    const received = of(Flow.received)
    if (pushed !== undefined) found.push(pushed)
    else if (delivered !== undefined && received !== undefined) found.push(netOf(delivered, received))
  }
  return found
}

function netOf(delivered: Series, received: Series): Series {
  const head = {
    flow: Flow.net, meter: delivered.meter, derived: true, intervalS: Math.max(delivered.intervalS, received.intervalS),
  }
  if (delivered.kind === 'periods' && received.kind === 'periods') {
    const tallies = delivered.tallies.map((d, i) => {
      const r = received.tallies[i]
      const sum = differenceOf(d.held > 0 ? d.sum : null, r.held > 0 ? r.sum : null)
      return {
        ...addCounts(d, r), sum: sum ?? new ExactSum(), held: sum === null ? 0 : d.held + r.held,
        // The peak of a difference cannot be told from two peaks.
        peak: null,
      }
    })
    return { ...head, kind: 'periods', buckets: delivered.buckets, tallies }
  }
  const d = (delivered as StepSeries).steps
  const r = (received as StepSeries).steps
  const shift = (d.startS - r.startS) / d.stepS
  return {
    ...head, kind: 'steps',
    steps: {
      ...d, ...addCounts(d, r),
      sums: d.sums.map((sum, i) => differenceOf(sum, r.sums[i + shift] ?? null)),
      missing: d.missing.map((n, i) => n + (r.missing[i + shift] ?? 0)),
    },
  }
}

function addCounts(a: Counts, b: Counts): Counts {
  return {
    expected: a.expected + b.expected, present: a.present + b.present, estimated: a.estimated + b.estimated,
  }
}
