import type { Problem } from './problem.js'
import { instantText } from './time/text.js'
import { getZone } from './time/zone.js'

/** What a delivery came to, as the contract (§4) shows it. received is the sum of the six outcomes. */
export interface Receipt {
  delivery: string
  source: string
  /** False while parts of a large body are missing. */
  complete: boolean
  received: number
  stored: number
  duplicate: number
  corrected: number
  outranked: number
  quarantined: number
  rejected: number
  /** Values that were rounded by the source's `round` setting. */
  rounded: number
  /** First start and last end of the reads taken, RFC 3339; null where there are none. */
  from: string | null
  to: string | null
  alerts: { raised: number; retracted: number }
  /** The first 100; problemCount says how many there are. */
  problems: Problem[]
  problemCount: number
}

/** Columns of `delivery`, joined with its source's name, that a receipt is made of. */
export interface ReceiptRow {
  delivery_id: string
  source: string
  complete: boolean
  received: number
  stored: number
  duplicate: number
  corrected: number
  outranked: number
  quarantined: number
  rejected: number
  rounded: number
  first_at: Date | null
  last_end: Date | null
  alerts_raised: number
  alerts_retracted: number
  problems: Problem[]
  problem_count: number
}

/** The select list of a receipt's row, for `delivery d` joined with `source s`. */
export const RECEIPT_COLUMNS = `d.delivery_id, s.name as source, d.complete, d.received, d.stored, d.duplicate,
  d.corrected, d.outranked, d.quarantined, d.rejected, d.rounded, d.first_at, d.last_end, d.alerts_raised,
  d.alerts_retracted, d.problems, d.problem_count`

/** The contract's receipt of a delivery. @param zone the utility's, for the offsets of from and to; null: UTC */
export function receiptOf(row: ReceiptRow, zone: string | null): Receipt {
  const text = (at: Date | null): string | null =>
    at === null ? null : instantText(Math.floor(at.getTime() / 1000), getZone(zone ?? 'UTC'))
  return {
    delivery: row.delivery_id,
    source: row.source,
    complete: row.complete,
    received: row.received,
    stored: row.stored,
    duplicate: row.duplicate,
    corrected: row.corrected,
    outranked: row.outranked,
    quarantined: row.quarantined,
    rejected: row.rejected,
    rounded: row.rounded,
    from: text(row.first_at),
    to: text(row.last_end),
    alerts: { raised: row.alerts_raised, retracted: row.alerts_retracted },
    problems: row.problems,
    problemCount: row.problem_count,
  }
}
