import { MISSING, QUALITY_MASK, Quality, rankOf } from '../read-batch.js'
import type { Bucket } from './buckets.js'
import type { DayRow } from './day-rows.js'
import { ExactSum, powerKw } from './decimal.js'
import { DAILY_S, powerGrid, powerInterval } from './grid.js'
import { BucketWalk, daysOf, eachSlot, Grids, isExpected, isWhole, type GroupDay } from './slots.js'
import type { Group, Piece, Span } from './span.js'

/** Reads that are due, and what of them is there. missing = expected - present. */
export interface Counts {
  expected: number
  /** Estimates included. */
  present: number
  estimated: number
}

export interface Tally extends Counts {
  sum: ExactSum
  /** Reads held, also those that are not due yet; 0: nothing is known, and the value is null. */
  held: number
  /** Greatest mean power of an interval, and the interval's start in epoch seconds; null where nothing is held. */
  peak: { kw: number; atS: number } | null
}

export function emptyTally(): Tally {
  return { expected: 0, present: 0, estimated: 0, sum: new ExactSum(), held: 0, peak: null }
}

/** Adds counts and energy up. The peak of a sum is not the sum of peaks: it is left as it is. */
export function addTally(into: Tally, tally: Tally): void {
  into.expected += tally.expected
  into.present += tally.present
  into.estimated += tally.estimated
  into.held += tally.held
  into.sum.addSum(tally.sum)
}

/** Sums a group over each bucket. Days that one channel fills alone come from their stored aggregates (design C3). */
export function tallyPeriods(group: Group, buckets: readonly Bucket[], span: Span): Tally[] {
  const tallies = buckets.map(emptyTally)
  const walk = new BucketWalk(buckets)
  const grids = new Grids()
  for (const at of daysOf(group, span.zone)) {
    const index = walk.at(Math.max(at.startS, buckets[0].startS))
    if (isWhole(at, buckets[index])) addWholeDay(tallies[index], at, span, grids)
    else addSlots(tallies, at, walk, span, grids)
  }
  return tallies
}

function addWholeDay(tally: Tally, at: GroupDay, span: Span, grids: Grids): void {
  const [piece] = at.pieces
  const row = span.row(piece.channelId, at.day)
  const grid = grids.of(piece, at, row)
  if (isExpected(piece, at, span)) {
    tally.expected += grid.slots
    tally.present += row?.present ?? 0
    tally.estimated += row?.estimated ?? 0
  }
  if (row === undefined || row.present === 0) return
  tally.held += row.present
  tally.sum.add(row.total, row.exponent)
  raisePeak(tally, powerKw(row.peak, row.exponent, piece.intervalS === DAILY_S ? at.endS - at.startS : piece.intervalS), row.firstS + row.peakSlot * row.intervalS)
}

function raisePeak(tally: Tally, kw: number, atS: number): void {
  if (tally.peak === null || kw > tally.peak.kw) tally.peak = { kw, atS }
}

/**
 * The day slot by slot. The peak of several channels is the peak of their sum per interval; where their intervals are of
 * unlike length, it is taken over the longest that has a read in the range on that day ({@link powerGrid}).
 */
function addSlots(tallies: Tally[], at: GroupDay, walk: BucketWalk, span: Span, grids: Grids): void {
  const parts = at.pieces.map((piece) => {
    const row = span.row(piece.channelId, at.day)
    return { piece, row, grid: grids.of(piece, at, row), expected: isExpected(piece, at, span) }
  })
  const power = powerGrid(parts.filter(({ piece, row, grid }) => hasReads(piece, at, row, grid))
    .map(({ piece: { intervalS }, grid: { firstS } }) => ({ intervalS, firstS })))
  /** Sums per bucket and interval, in the order of time. */
  const intervals = new Map<string, { bucket: number; atS: number; endS: number; sum: ExactSum }>()
  for (const { piece, row, grid, expected } of parts) {
    eachSlot(piece, at, row, grid, (startS, mantissa, lane) => {
      const bucket = walk.at(startS)
      const tally = tallies[bucket]
      if (expected) countSlot(tally, mantissa, lane)
      if (mantissa === MISSING) return
      const exponent = (row as DayRow).exponent
      tally.held++
      tally.sum.add(mantissa, exponent)
      const { atS, endS } = powerInterval(power, startS, at.endS)
      const key = `${bucket} ${atS}`
      let interval = intervals.get(key)
      if (interval === undefined) intervals.set(key, interval = { bucket, atS, endS, sum: new ExactSum() })
      interval.sum.add(mantissa, exponent)
    })
  }
  for (const { bucket, atS, endS, sum } of [...intervals.values()].sort((a, b) => a.atS - b.atS)) {
    raisePeak(tallies[bucket], sum.powerKw(endS - atS), atS)
  }
}

function hasReads(piece: Piece, at: GroupDay, row: DayRow | undefined, grid: { firstS: number; slots: number }): boolean {
  let has = false
  eachSlot(piece, at, row, grid, (_startS, mantissa) => { has ||= mantissa !== MISSING })
  return has
}

/** Counts one slot that is due. */
function countSlot(counts: Counts, mantissa: number, lane: number): void {
  counts.expected++
  if (mantissa === MISSING) return
  counts.present++
  if ((lane & QUALITY_MASK) === Quality.estimated) counts.estimated++
}

/** Values at even steps: slot i covers [startS + i x stepS, startS + (i + 1) x stepS). */
export interface StepTally extends Counts {
  startS: number
  /** Seconds; 86400 stands for local days of whatever length. */
  stepS: number
  /** Start of each step, epoch seconds. */
  starts: number[]
  /** Energy per step; null where nothing is held. */
  sums: (ExactSum | null)[]
  /** Lane of the lowest rank among the reads of each step: a sum is as good as its worst read. */
  lanes: Int16Array
  /** Due reads that each step lacks. */
  missing: Int32Array
}

/** The longest interval of the pieces, seconds: what all of them can be told at. */
export function longestInterval(pieces: readonly Piece[]): number {
  return pieces.reduce((longest, p) => Math.max(longest, p.intervalS), 0)
}

/**
 * Sums a group at even steps over [fromS, toS). A read counts in the step in which it starts.
 * @param resolution interval: steps of stepS on the channels' own grid; hour: on the clock's hours of the first day
 */
export function tallySteps(
  group: Group, resolution: 'interval' | 'hour', stepS: number, fromS: number, toS: number, span: Span,
): StepTally {
  const { zone } = span
  // Where every channel is read at this step, a step that began before the range has no read in it.
  const even = group.pieces.every((p) => p.intervalS === stepS)
  const starts = stepS === DAILY_S
    ? dailyStarts(fromS, toS, even, span)
    : evenStarts(resolution === 'hour' ? hourAt(fromS, span) : gridStart(group, stepS, fromS, even, span), stepS, toS)
  const firstDay = starts.length === 0 ? 0 : zone.dayOf(starts[0])
  const tally: StepTally = {
    expected: 0, present: 0, estimated: 0, startS: starts[0] ?? fromS, stepS, starts,
    sums: new Array<ExactSum | null>(starts.length).fill(null),
    lanes: new Int16Array(starts.length), missing: new Int32Array(starts.length),
  }
  const grids = new Grids()
  for (const at of daysOf(group, zone)) {
    for (const piece of at.pieces) {
      const row = span.row(piece.channelId, at.day)
      const expected = isExpected(piece, at, span)
      eachSlot(piece, at, row, grids.of(piece, at, row), (startS, mantissa, lane) => {
        const step = stepS === DAILY_S ? at.day - firstDay : Math.max(0, Math.floor((startS - tally.startS) / stepS))
        if (expected) countSlot(tally, mantissa, lane)
        if (mantissa === MISSING) {
          if (expected) tally.missing[step]++
          return
        }
        const sum = tally.sums[step]
        if (sum === null) {
          tally.sums[step] = new ExactSum()
          tally.lanes[step] = lane
        } else if (rankOf(lane) < rankOf(tally.lanes[step])) tally.lanes[step] = lane
        tally.sums[step]!.add(mantissa, (row as DayRow).exponent)
      })
    }
  }
  return tally
}

function evenStarts(startS: number, stepS: number, toS: number): number[] {
  const starts: number[] = []
  for (let s = startS; s < toS; s += stepS) starts.push(s)
  return starts
}

/** Local midnights; from the one before the range on, unless `after`. */
function dailyStarts(fromS: number, toS: number, after: boolean, span: Span): number[] {
  const { zone } = span
  const starts: number[] = []
  const first = zone.dayOf(fromS)
  for (let day = after && zone.dayStart(first) < fromS ? first + 1 : first; zone.dayStart(day) < toS; day++) {
    starts.push(zone.dayStart(day))
  }
  return starts
}

/** Start of the hour in which an instant lies, by the local clock: in zones of :30 and :45, not the hour of UTC. */
function hourAt(s: number, span: Span): number {
  const offset = span.zone.offsetAt(s)
  return Math.floor((s + offset) / 3600) * 3600 - offset
}

/** The grid point of the longest interval nearest to fromS, before or `after` it; the grid is that of the first row. */
function gridStart(group: Group, stepS: number, fromS: number, after: boolean, span: Span): number {
  let anchorS: number | undefined
  for (const at of daysOf(group, span.zone)) {
    const row = at.pieces.filter((p) => p.intervalS === stepS).map((p) => span.row(p.channelId, at.day))
      .find((r) => r !== undefined)
    if (row !== undefined) {
      anchorS = row.firstS
      break
    }
  }
  anchorS ??= span.zone.dayStart(span.zone.dayOf(fromS))
  const steps = (fromS - anchorS) / stepS
  return anchorS + (after ? Math.ceil(steps) : Math.floor(steps)) * stepS
}
