/** Daily reads: one slot per local day, whatever the day's length. */
export const DAILY_S = 86_400

/**
 * Slots of a local day: how many grid points lie in [firstS, dayEndS). Instants are epoch seconds.
 * @param firstS first grid point at or after local midnight
 */
export function slotsOfDay(firstS: number, intervalS: number, dayEndS: number): number {
  if (dayEndS <= firstS) return 0
  return intervalS === DAILY_S ? 1 : Math.ceil((dayEndS - firstS) / intervalS)
}

/** First grid point at or after fromS on the grid that has a point at anchorS. */
export function gridAtOrAfter(fromS: number, anchorS: number, intervalS: number): number {
  return fromS + mod(anchorS - fromS, intervalS)
}

/** The remainder in [0, n), also for a negative dividend. */
export function mod(a: number, n: number): number {
  return ((a % n) + n) % n
}

/** Intervals of one local day over which the mean power of several channels is taken. */
export interface PowerGrid {
  readonly intervalS: number
  /** Start of the first whole one, epoch seconds. */
  readonly originS: number
}

/**
 * The longest intervals of the channels, because nobody knows how a long read spreads over short ones; of several grids
 * of that length the earliest.
 * @param channels those whose reads count on the day, and nobody else's: a daily channel that is masked, or has no read,
 * would spread the others' greatest hour over the day. firstS is the first grid point of the day, epoch seconds
 */
export function powerGrid(channels: Iterable<{ readonly intervalS: number; readonly firstS: number }>): PowerGrid {
  let grid: PowerGrid = { intervalS: 0, originS: Infinity }
  for (const { intervalS, firstS } of channels) {
    if (intervalS > grid.intervalS || (intervalS === grid.intervalS && firstS < grid.originS)) grid = { intervalS, originS: firstS }
  }
  return grid
}

/** The interval in which an instant of the day lies: its start, and its end, both epoch seconds. */
export function powerInterval({ intervalS, originS }: PowerGrid, s: number, dayEndS: number): { atS: number; endS: number } {
  if (intervalS === DAILY_S) return { atS: originS, endS: dayEndS }
  const atS = originS + Math.floor((s - originS) / intervalS) * intervalS
  return { atS, endS: atS + intervalS }
}
