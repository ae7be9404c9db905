import { writeAudit } from '../audit.js'
import { ApiError } from '../problem.js'
import { afterRegistryChange } from '../registry-effects.js'
import type { Pool, Queryable } from '../store/db.js'
import { parseDay } from '../time/text.js'
import type { WriteOptions } from './accounts.js'
import { registryWrite } from './write.js'

/** A billing period that the customer system states: local dates, end exclusive. */
export interface BillingSpan {
  readonly start: string
  readonly end: string
}

/** Explicit billing periods of the account, ascending. */
export async function listBillingPeriods(db: Queryable, accountId: number): Promise<BillingSpan[]> {
  const { rows } = await db.query<BillingSpan>(
    'select start_day as start, end_day as "end" from billing_period where account_id = $1 order by start_day', [accountId])
  return rows
}

/**
 * Adds explicit billing periods to an account's. A period that is there already changes nothing.
 * @returns how many were new
 * @throws ApiError 422 `invalid-period`, 409 `billing-period-overlap`
 */
export async function addBillingPeriods(
  pool: Pool, account: { utilityId: number; accountId: number; account: string }, spans: readonly BillingSpan[],
  options: WriteOptions,
): Promise<number> {
  spans.forEach((s, i) => {
    const start = parseDay(s.start)
    const end = parseDay(s.end)
    if (start === undefined || end === undefined || end <= start) {
      throw new ApiError(422, 'invalid-period', 'A billing period has a start and a later, exclusive end, both local dates.',
        { at: `/periods/${i}` })
    }
  })
  return registryWrite(pool, account.utilityId, async (client, epoch) => {
    const known = await listBillingPeriods(client, account.accountId)
    const fresh: BillingSpan[] = []
    for (const [i, s] of spans.entries()) {
      const all = [...known, ...fresh]
      if (all.some((k) => k.start === s.start && k.end === s.end)) continue
      const clash = all.find((k) => s.start < k.end && k.start < s.end)
      if (clash !== undefined) {
        throw new ApiError(409, 'billing-period-overlap', `The period overlaps the one from ${clash.start} to ${clash.end}.`,
          { at: `/periods/${i}` })
      }
      fresh.push(s)
    }
    if (fresh.length === 0) return { changed: false, result: 0 }
    await client.query(
      'insert into billing_period (account_id, start_day, end_day) select $1, s, e from unnest($2::date[], $3::date[]) as p(s, e)',
      [account.accountId, fresh.map((s) => s.start), fresh.map((s) => s.end)])
    await client.query('update account set epoch = $2 where account_id = $1', [account.accountId, epoch])
    await afterRegistryChange(client,
      { utilityId: account.utilityId, epoch, moves: [], accountIds: [account.accountId], roleChanges: [] }, options)
    await writeAudit(client, {
      utilityId: account.utilityId, actor: options.actor, action: 'billing-periods.add', subject: account.account,
      detail: { added: fresh.length },
    })
    return { changed: true, result: fresh.length }
  })
}
