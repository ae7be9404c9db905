import type { Settler } from '../settler.js'
import type { Pool } from '../store/db.js'
import { sweepGaps, validateSome } from '../validate/step.js'
import { estimateSome } from './step.js'

/** What a turn of validation and estimation came to: channel-days judged, flags new or changed, reads estimated. */
export interface VeeTurn {
  judged: number
  flagged: number
  estimated: number
  /** True where another turn may find work. */
  more: boolean
}

/**
 * One turn for a utility: looks for gaps of days that became due, judges some of what changed and, once nothing waits to
 * be judged, fills some of what lacks. A turn is short, so that pushes that wait for the same worker need not wait long.
 */
export async function veeTurn(pool: Pool, settler: Settler, utilityId: number, nowMs: number): Promise<VeeTurn> {
  await sweepGaps(pool, utilityId, nowMs / 1000)
  const { judged, flagged, more } = await validateSome(pool, utilityId, nowMs / 1000)
  if (more) return { judged, flagged, estimated: 0, more }
  const { days, reads, more: further } = await estimateSome(pool, settler, utilityId, nowMs)
  // Estimates are changes, which are judged in their turn.
  return { judged, flagged, estimated: reads, more: further || (days > 0 && reads > 0) }
}
