import type { NotifySecrets } from '../contacts/seal.js'
import { intArray } from '../store/blocks.js'
import { lockAccounts } from '../store/channels.js'
import { inTransaction, REGISTRY_LOCK, type Client, type Pool } from '../store/db.js'
import { getZone } from '../time/zone.js'
import { enqueueDue, joinDue, takeDue, utilitiesWithDue, type Due } from './due.js'
import { evaluateThresholds, type EvaluationResult } from './evaluate.js'

/** Advisory lock class of judging: one process per utility at a time. */
export const JUDGING_LOCK = 0x4d03

export interface SweepOptions {
  readonly secrets: NotifySecrets
  /** How long after a period's end its reads are waited for, seconds. */
  readonly settleS: number
  readonly now: () => number
}

export interface SweepResult {
  raised: number
  retracted: number
  messages: number
}

/**
 * Judges what is due, of every utility: what waits for its period's end, and what a commit left to be looked at. Several
 * processes may do so at once: each utility is judged by one at a time, and what one took is gone for the others once it
 * has committed. A process that dies leaves what it had taken as it was.
 */
export async function judgeDue(pool: Pool, options: SweepOptions): Promise<SweepResult> {
  const total = { raised: 0, retracted: 0, messages: 0 }
  for (const { utilityId, zone } of await utilitiesWithDue(pool, options.now() / 1000)) {
    for (;;) {
      const done = await inTransaction(pool, (client) => judgeSome(client, utilityId, zone, options))
      if (done === null) break
      total.raised += done.raised
      total.retracted += done.retracted
      total.messages += done.messages
    }
  }
  return total
}

/** One transaction's worth, in the lock order of settling; null where nothing is due or another process is at it. */
async function judgeSome(client: Client, utilityId: number, zone: string, options: SweepOptions): Promise<SweepResult | null> {
  await client.query('select pg_advisory_xact_lock_shared($1::int, $2::int)', [REGISTRY_LOCK, utilityId])
  const { rows: [{ mine }] } = await client.query<{ mine: boolean }>(
    'select pg_try_advisory_xact_lock($1::int, $2::int) as mine', [JUDGING_LOCK, utilityId])
  if (!mine) return null
  const now = new Date(options.now())
  const due = await takeDue(client, utilityId, now.getTime() / 1000)
  if (due.length === 0) return null
  const accounts = [...new Set(due.flatMap((d) => d.accountIds))].sort((a, b) => a - b)
  // Whoever settles for one of these accounts has committed then, and its reads are seen.
  await lockAccounts(client, intArray(accounts))
  const total = { raised: 0, retracted: 0, messages: 0 }
  for (const [everyKind, history] of [[true, false], [true, true], [false, false], [false, true]] as const) {
    const days = daysOf(due.filter((d) => d.everyKind === everyKind && d.history === history))
    if (days.size === 0) continue
    const result: EvaluationResult = await evaluateThresholds(client, {
      utilityId, zone: getZone(zone), now, deliveryId: null, secrets: options.secrets, days, history,
      judged: everyKind ? 'all' : 'deferred', settleS: options.settleS,
    })
    await enqueueDue(client, utilityId, joinDue(result.waiting))
    total.raised += result.raised
    total.retracted += result.retracted
    total.messages += result.messages
  }
  return total
}

function daysOf(due: readonly Due[]): Map<number, Set<number>> {
  const days = new Map<number, Set<number>>()
  for (const d of due) {
    for (const id of d.accountIds) {
      const of = days.get(id) ?? new Set<number>()
      for (let day = d.fromDay; day < d.toDay; day++) of.add(day)
      days.set(id, of)
    }
  }
  return days
}
