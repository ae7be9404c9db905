import { writeAudit } from '../audit.js'
import { messageView, plainText } from '../notify/render.js'
import { openContent } from '../notify/parcel.js'
import type { Category } from '../notify/content.js'
import { beginRegistryWrite, inTransaction, type Pool, type Queryable } from '../store/db.js'
import { categories } from '../notify/content.js'
import { listConsent, recordConsent } from './consent.js'
import type { AccountOwner } from './contacts.js'
import { readPreferences } from './preferences.js'
import type { Sealer } from './seal.js'

export interface Erasure {
  contacts: number
  messages: number
  thresholds: number
}

interface ContactRow {
  contact_id: string
  channel: 'email' | 'sms'
  address_enc: Buffer
  address_hash: Buffer
  label: string | null
  language: string
  state: string
  consent: Record<string, unknown>
  stopped: string[]
  created_at: Date
  verified_at: Date | null
  deleted_at: Date | null
}

/**
 * Erases the member of an account: name, nickname, contacts, what they were sent, and the thresholds that they set. Reads, alerts
 * and the proof of consent (a hash of the address, no name) stay.
 */
export async function eraseMember(pool: Pool, owner: AccountOwner, actor: string, now: Date): Promise<Erasure> {
  return inTransaction(pool, async (client) => {
    const epoch = await beginRegistryWrite(client, owner.utilityId)
    await client.query(
      'update account set name = null, nickname = null, thresholds = 0, epoch = $2 where account_id = $1', [owner.accountId, epoch])
    const thresholds = await client.query(
      'update threshold set deleted_at = $2, contacts = null where account_id = $1 and deleted_at is null', [owner.accountId, now])
    // Messages first, in the order in which others lock: a sender that has one handed over finishes with the row gone.
    const { rows: contacts } = await client.query<ContactRow>(
      `select contact_id, channel, address_hash, consent from contact where account_id = $1 order by contact_id for update`, [owner.accountId])
    await recordConsent(client, contacts.map((c) => ({
      utilityId: owner.utilityId, account: owner.account, contactId: c.contact_id, channel: c.channel, addressHash: c.address_hash,
      action: 'erased' as const, categories, actor, via: null, wording: null,
    })), now)
    const messages = await client.query('delete from message where account_id = $1', [owner.accountId])
    await client.query('delete from contact where account_id = $1', [owner.accountId])
    await client.query('delete from account_preference where account_id = $1', [owner.accountId])
    const erasure = { contacts: contacts.length, messages: messages.rowCount ?? 0, thresholds: thresholds.rowCount ?? 0 }
    await writeAudit(client, { utilityId: owner.utilityId, actor, action: 'member.erase', subject: owner.account, detail: { ...erasure } })
    return erasure
  })
}

/** Everything held about the member of an account but the reads, which the usage routes give. Addresses in full: it is the member's own. */
export async function exportMember(db: Queryable, sealer: Sealer, owner: AccountOwner, now: Date): Promise<Record<string, unknown>> {
  const { rows: accounts } = await db.query<Record<string, unknown>>(
    `select id as account, name, nickname, billing_day as "billingDay", rate, groups, zone, created_at as "createdAt" from account where account_id = $1`,
    [owner.accountId])
  const { rows: meters } = await db.query<Record<string, unknown>>(
    `select m.id as meter, s.service_point as "servicePoint", s.from_at as "from", s.to_at as "to"
       from meter_assignment s join meter m using (meter_id) where s.account_id = $1 order by s.from_at`, [owner.accountId])
  const { rows: contacts } = await db.query<ContactRow>('select * from contact where account_id = $1 order by created_at', [owner.accountId])
  const { rows: thresholds } = await db.query<Record<string, unknown>>(
    `select threshold_id as id, kind, limit_value::float8 as limit, version, contacts, params, created_at as "createdAt", deleted_at as "deletedAt"
       from threshold where account_id = $1 order by created_at`, [owner.accountId])
  const { rows: alerts } = await db.query<Record<string, unknown>>(
    `select alert_id as id, threshold_id as threshold, kind, period_start as "from", period_end as "to", limit_value::float8 as limit,
            value::float8 as value, state, history from alert where account_id = $1 order by raised_at`, [owner.accountId])
  return {
    exportedAt: now.toISOString(),
    account: accounts[0], meters,
    contacts: contacts.map((c) => ({
      id: c.contact_id, channel: c.channel, address: openAddress(sealer, c), label: c.label, language: c.language, state: c.state,
      consent: c.consent, stopped: c.stopped, createdAt: c.created_at, verifiedAt: c.verified_at, removedAt: c.deleted_at })),
    preferences: await readPreferences(db, owner.accountId),
    consent: await listConsent(db, owner.utilityId, owner.account),
    thresholds, alerts,
    messages: await messagesOf(db, sealer, owner.accountId),
  }
}

function openAddress(sealer: Sealer, c: ContactRow): string | null {
  try {
    return sealer.open('address', c.contact_id, c.address_enc)
  } catch {
    // Removed, or sealed under another key.
    return null
  }
}

async function messagesOf(db: Queryable, sealer: Sealer, accountId: number): Promise<object[]> {
  const { rows } = await db.query<{
    message_id: string; body_enc: Buffer; purpose: string; category: Category; channel: string; contact_id: string; state: string
    created_at: Date; done_at: Date | null; language: string; name: string | null; phone: string | null
  }>(
    `select m.message_id, m.body_enc, m.purpose, m.category, m.channel, m.contact_id, m.state, m.created_at, m.done_at, c.language, u.name, u.phone
       from message m join contact c using (contact_id) join utility u on u.utility_id = m.utility_id
      where m.account_id = $1 order by m.created_at`, [accountId])
  return rows.map((r) => ({
    id: r.message_id, contact: r.contact_id, channel: r.channel, purpose: r.purpose, category: r.category, state: r.state,
    createdAt: r.created_at, doneAt: r.done_at, ...wordsOf(sealer, r),
  }))
}

function wordsOf(
  sealer: Sealer, r: { message_id: string; body_enc: Buffer; purpose: string; category: Category; channel: string; language: string; name: string | null; phone: string | null },
): { subject: string | null; text: string | null } {
  // A code proves who holds an address: it is nobody's record.
  if (r.purpose === 'code') return { subject: null, text: null }
  try {
    const view = messageView(openContent(sealer, r), {
      language: r.language, category: r.category, unsubscribeUrl: null, utility: { name: r.name, phone: r.phone, links: {} } })
    return { subject: view.subject, text: r.channel === 'sms' ? view.sms : plainText(view) }
  } catch {
    return { subject: null, text: null }
  }
}
