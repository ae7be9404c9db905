import { createHash, randomUUID } from 'node:crypto'
import { writeAudit } from '../audit.js'
import type { Sealer } from '../contacts/seal.js'
import { ApiError } from '../problem.js'
import { inTransaction, type Pool, type Queryable } from '../store/db.js'
import type { Category, NoticeParams, NoticeTemplate } from './content.js'
import { addresseesOf, deliverNotice } from './deliver-notice.js'

export type Audience = { readonly accounts: readonly string[] } | { readonly groups: Readonly<Record<string, string>> }

export interface NewNotice {
  readonly category: Exclude<Category, 'usage'>
  readonly template: NoticeTemplate
  readonly params: NoticeParams
  readonly audience: Audience
  readonly expiresAt: Date | null
  /** Counts and writes nothing. */
  readonly dryRun: boolean
}

export interface NoticeReceipt {
  /** null of a dry run. */
  notice: string | null
  /** Accounts of the audience that there are. */
  accounts: number
  /** Ids of the audience that name no account: the first 100. */
  unknownAccounts: string[]
  /** Messages to contacts that want the category. */
  messages: number
  dryRun: boolean
}

const SHOWN = 100

/**
 * Tells the audience's contacts of something; the same key with the same notice answers the first receipt and tells nobody twice.
 * @throws ApiError 422 `idempotency-key-reused`, `empty-audience`, `invalid-instant`
 */
export async function sendNotice(
  pool: Pool, sealer: Sealer, writer: { utilityId: number; actor: string; now: Date }, key: string, notice: NewNotice,
): Promise<NoticeReceipt> {
  if (notice.expiresAt !== null && notice.expiresAt <= writer.now) {
    throw new ApiError(422, 'invalid-instant', 'expiresAt has passed: nobody would be told.', { at: '/expiresAt' })
  }
  const hash = createHash('sha256').update(JSON.stringify(notice)).digest()
  return inTransaction(pool, async (client) => {
    // Two calls with one key come one after the other.
    await client.query('select pg_advisory_xact_lock(hashtextextended($1, $2))', [key, writer.utilityId])
    const before = await findNotice(client, writer.utilityId, key, hash)
    if (before !== undefined) return before
    const { ids, unknown } = await accountsOf(client, writer.utilityId, notice.audience)
    if (ids.length === 0) throw new ApiError(422, 'empty-audience', 'There is no account in the audience.', { at: '/audience' })
    const addressees = await addresseesOf(client, ids, notice.category)
    const receipt = { accounts: ids.length, unknownAccounts: unknown.slice(0, SHOWN) }
    if (notice.dryRun) return { notice: null, ...receipt, messages: addressees.length, dryRun: true }
    const noticeId = randomUUID()
    const messages = await deliverNotice(client, sealer, { noticeId, utilityId: writer.utilityId, ...notice }, addressees, writer.now)
    await client.query(
      `insert into notice (notice_id, utility_id, idempotency_key, body_hash, category, template, params, audience, expires_at, accounts,
                           messages, actor, created_at)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
      [noticeId, writer.utilityId, key, hash, notice.category, notice.template, JSON.stringify(notice.params),
        JSON.stringify({ ...notice.audience, unknown: receipt.unknownAccounts }), notice.expiresAt, ids.length, messages, writer.actor, writer.now])
    await writeAudit(client, {
      utilityId: writer.utilityId, actor: writer.actor, action: 'notice.send', subject: noticeId,
      detail: { category: notice.category, template: notice.template, accounts: ids.length, messages } })
    return { notice: noticeId, ...receipt, messages, dryRun: false }
  })
}

async function findNotice(db: Queryable, utilityId: number, key: string, hash: Buffer): Promise<NoticeReceipt | undefined> {
  const { rows } = await db.query<{ notice_id: string; body_hash: Buffer; accounts: number; messages: number; unknown: string[] }>(
    `select notice_id, body_hash, accounts, messages, audience->'unknown' as unknown from notice where utility_id = $1 and idempotency_key = $2`,
    [utilityId, key])
  if (rows.length === 0) return undefined
  const [row] = rows
  if (!row.body_hash.equals(hash)) {
    throw new ApiError(422, 'idempotency-key-reused', 'The Idempotency-Key was used for another notice.')
  }
  return { notice: row.notice_id, accounts: row.accounts, unknownAccounts: row.unknown, messages: row.messages, dryRun: false }
}

async function accountsOf(db: Queryable, utilityId: number, audience: Audience): Promise<{ ids: number[]; unknown: string[] }> {
  if ('groups' in audience) {
    const { rows } = await db.query<{ account_id: number }>(
      'select account_id from account where utility_id = $1 and groups @> $2::jsonb order by account_id', [utilityId, JSON.stringify(audience.groups)])
    return { ids: rows.map((r) => r.account_id), unknown: [] }
  }
  const wanted = [...new Set(audience.accounts)]
  const { rows } = await db.query<{ id: string; account_id: number }>(
    'select id, account_id from account where utility_id = $1 and id = any($2::text[]) order by account_id', [utilityId, wanted])
  const known = new Set(rows.map((r) => r.id))
  return { ids: rows.map((r) => r.account_id), unknown: wanted.filter((id) => !known.has(id)) }
}
