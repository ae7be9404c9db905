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
