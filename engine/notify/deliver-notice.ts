import { randomUUID } from 'node:crypto'
import type { Sealer } from '../contacts/seal.js'
import type { Queryable } from '../store/db.js'
import { getZone } from '../time/zone.js'
import type { Category, NoticeParams, NoticeTemplate } from './content.js'
import { nextDigest, quietOf, quietUntil, type QuietSettings } from './quiet.js'

/** A notice for some accounts of a utility. */
export interface NoticeToDeliver {
  readonly noticeId: string
  readonly utilityId: number
  readonly category: Category
  readonly template: NoticeTemplate
  readonly params: NoticeParams
  readonly expiresAt: Date | null
}

interface Addressee {
  contact_id: string
  account_id: number
  account: string
  channel: 'email' | 'sms'
  mode: 'now' | 'digest'
  zone: string | null
  quiet_hours: QuietSettings | null
}

/** Active contacts of the accounts that want the category. */
export async function addresseesOf(db: Queryable, accountIds: readonly number[], category: Category): Promise<Addressee[]> {
  const { rows } = await db.query<Addressee>(
    `select c.contact_id, c.account_id, coalesce(a.nickname, a.id) as account, c.channel, contact_mode(c, $2) as mode,
            coalesce(a.zone, u.zone) as zone, p.quiet_hours
       from contact c join account a using (account_id) join utility u on u.utility_id = c.utility_id
       left join account_preference p using (account_id)
      where c.account_id = any($1::int[]) and c.state = 'active' and c.deleted_at is null and contact_mode(c, $2) <> 'off'
      order by c.contact_id`, [accountIds, category])
  return rows
}

/**
 * Writes the notice's messages into the outbox, in the caller's transaction: at most one to a contact. One that would wait
 * for the end of quiet hours, or for a digest, until it is not worth telling any more is not written.
 * @returns the number of messages written
 */
export async function deliverNotice(
  db: Queryable, sealer: Sealer, notice: NoticeToDeliver, addressees: readonly Addressee[], now: Date,
): Promise<number> {
  const nowS = now.getTime() / 1000
  const expiresS = notice.expiresAt === null ? Infinity : notice.expiresAt.getTime() / 1000
  const messages = addressees.flatMap((to) => {
    const zone = getZone(to.zone ?? 'UTC')
    const quiet = quietOf(to.quiet_hours, to.channel, notice.category)
    // What cannot wait for a digest goes at once.
    const digestS = nextDigest(nowS, zone, quiet)
    const digest = to.mode === 'digest' && digestS < expiresS
    const atS = digest ? digestS : quietUntil(nowS, zone, quiet)
    return atS < expiresS ? [{ id: randomUUID(), to, digest, atS, zone: zone.name }] : []
  })
  if (messages.length === 0) return 0
  const { rowCount } = await db.query(
    `insert into message (message_id, utility_id, account_id, contact_id, notice_id, purpose, category, channel, body_enc, state, next_at,
                          digest, expires_at, created_at)
     select r.id, $1, r.account_id, r.contact_id, $2, 'notice', $3, r.channel, r.body, 'pending', to_timestamp(r.at_s), r.digest, $4, $5
       from unnest($6::uuid[], $7::int[], $8::uuid[], $9::text[], $10::bytea[], $11::float8[], $12::boolean[])
         as r(id, account_id, contact_id, channel, body, at_s, digest)
     on conflict (notice_id, contact_id) do nothing`,
    [notice.utilityId, notice.noticeId, notice.category, notice.expiresAt, now, messages.map((m) => m.id),
      messages.map((m) => m.to.account_id), messages.map((m) => m.to.contact_id), messages.map((m) => m.to.channel),
      messages.map((m) => sealer.seal('message', m.id, JSON.stringify({
        t: 'notice', account: m.to.account, template: notice.template, zone: m.zone, params: notice.params }))),
      messages.map((m) => m.atS), messages.map((m) => m.digest)])
  return rowCount ?? 0
}
