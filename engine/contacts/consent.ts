import type { Category } from '../notify/content.js'
import type { Queryable } from '../store/db.js'

/** `granted`: agreed to; `verified`: the code proved who holds the address; `withdrawn`: taken back in the portal. */
export type ConsentAction = 'granted' | 'verified' | 'withdrawn' | 'stopped' | 'resumed' | 'bounced' | 'removed' | 'erased'

/** What somebody agreed to or ended: kept for ever, with a hash of the address and no name. */
export interface ConsentEvent {
  readonly utilityId: number
  /** Public id. */
  readonly account: string | null
  readonly contactId: string
  readonly channel: 'email' | 'sms'
  readonly addressHash: Buffer
  readonly action: ConsentAction
  readonly categories: readonly string[]
  /** `key:<name>`, `member:<subject>`, or `holder` where it came from the address itself. */
  readonly actor: string
  /** How: a web form, a text message, a mail program's button. */
  readonly via: string | null
  /** In the words that were shown or written. */
  readonly wording: string | null
}

/** Adds to the ledger, in the transaction that makes the change. */
export async function recordConsent(db: Queryable, events: readonly ConsentEvent[], now: Date): Promise<void> {
  if (events.length === 0) return
  await db.query(
    `insert into consent_event (utility_id, account, contact_id, channel, address_hash, action, categories, actor, via, wording, at)
     select r.utility_id, r.account, r.contact_id, r.channel, r.address_hash, r.action,
            string_to_array(r.categories, ' '), r.actor, r.via, r.wording, $1
       from unnest($2::int[], $3::text[], $4::uuid[], $5::text[], $6::bytea[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[])
         as r(utility_id, account, contact_id, channel, address_hash, action, categories, actor, via, wording)`,
    [now, events.map((e) => e.utilityId), events.map((e) => e.account), events.map((e) => e.contactId), events.map((e) => e.channel),
      events.map((e) => e.addressHash), events.map((e) => e.action), events.map((e) => e.categories.join(' ')),
      events.map((e) => e.actor), events.map((e) => e.via), events.map((e) => e.wording)])
}

export interface ConsentView {
  contact: string | null
  channel: string
  action: string
  categories: string[]
  actor: string
  via: string | null
  wording: string | null
  at: string
}

/** The ledger of an account, oldest first. */
export async function listConsent(db: Queryable, utilityId: number, account: string): Promise<ConsentView[]> {
  const { rows } = await db.query<Omit<ConsentView, 'at'> & { at: Date }>(
    `select contact_id as contact, channel, action, categories, actor, via, wording, at
       from consent_event where utility_id = $1 and account = $2 order by consent_id`, [utilityId, account])
  return rows.map((r) => ({ ...r, at: r.at.toISOString() }))
}

/** Categories in the order in which they are always named. */
export function inOrder(list: Iterable<string>): Category[] {
  const set = new Set(list)
  return (['usage', 'service', 'billing'] as const).filter((c) => set.has(c))
}
