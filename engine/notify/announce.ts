import { randomUUID } from 'node:crypto'
import { createSealer, type NotifySecrets } from '../contacts/seal.js'
import { groupBy } from '../group-by.js'
import type { Queryable } from '../store/db.js'
import { getZone, type Zone } from '../time/zone.js'
import { alertContent, breachAtS, correctionContent, type AlertSnapshot } from './content.js'
import { nextDigest, quietOf, quietUntil, type QuietSettings } from './quiet.js'
import { announceToWebhooks } from './webhook-store.js'

/** A step of an alert that its contacts are to know about. */
export interface Announcement {
  alertId: string
  /** The step that the alert has now. */
  step: number
  accountId: number
  purpose: 'alert' | 'correction'
  /** Contacts that the threshold names; null: every active one of the account. */
  contacts: string[] | null
  snapshot: AlertSnapshot
}

interface ContactRow {
  contact_id: string
  account_id: number
  channel: 'email' | 'sms'
  /** How the contact wants usage alerts. */
  mode: 'now' | 'digest' | 'off'
  /** The account's own zone, where it has one. */
  zone: string | null
  quiet_hours: QuietSettings | null
}

interface NewMessage {
  id: string
  announcement: Announcement
  contact: ContactRow
  /** Epoch seconds. */
  atS: number
  digest: boolean
}

interface Input {
  utilityId: number
  secrets: NotifySecrets
  now: Date
}

/** A breach older than this when it would be told joins the digest, instead of coming out of the blue. */
export const LATE_S = 24 * 3600

/**
 * Writes the messages of alert steps into the outbox, in the transaction that changed the alerts. Each contact is told
 * what it does not know: an alert goes to those who were not told that it stands, a correction to those who were, and the
 * way that the alert went. Messages of earlier steps that have not been handed over are dropped. Where one is with the
 * server just now, nobody can say yet what the contact knows: the new one is written, waits for its end, and is dropped
 * if it is not needed.
 *
 * @returns the number of messages written
 */
export async function announce(db: Queryable, announcements: Announcement[], input: Input): Promise<number> {
  if (announcements.length === 0) return 0
  const alertIds = announcements.map((a) => a.alertId)
  await announceToWebhooks(db, input.utilityId, alertIds, input.now)
  await dropUnsent(db, alertIds, input.now)
  // Only now: what a sender handed over before the drop is seen here, and after it nothing can be handed over.
  const told = await lastTold(db, alertIds)
  const contacts = await activeContacts(db, [...new Set(announcements.map((a) => a.accountId))])
  const byAccount = groupBy(contacts, (c) => c.account_id)
  const messages: NewMessage[] = []
  for (const announcement of announcements) {
    for (const contact of byAccount.get(announcement.accountId) ?? []) {
      const last = told.get(`${announcement.alertId} ${contact.contact_id}`)
      const isNews = last?.is_open === true || (last?.purpose === 'alert') === (announcement.purpose === 'correction')
      if (!isNews || (announcement.purpose === 'alert' && !isAddressed(announcement, contact))) continue
      messages.push({ id: randomUUID(), announcement, contact, ...whenTold(announcement, contact, last, input.now.getTime() / 1000) })
    }
  }
  await insertMessages(db, messages, input)
  return messages.length
}

/** True where the contact wants usage alerts and the threshold does not name others. */
function isAddressed(announcement: Announcement, contact: ContactRow): boolean {
  return contact.mode !== 'off' && (announcement.contacts?.includes(contact.contact_id) ?? true)
}

/** At once, after quiet hours, or with the next digest. */
function whenTold(
  { purpose, snapshot }: Announcement, contact: ContactRow, last: LastTold | undefined, nowS: number,
): { atS: number; digest: boolean } {
  const zone: Zone = contact.zone === null ? snapshot.zone : getZone(contact.zone)
  const quiet = quietOf(contact.quiet_hours, contact.channel, 'usage')
  const atS = quietUntil(nowS, zone, quiet)
  const digest = contact.mode === 'digest'
    || (purpose === 'correction' ? last?.digest === true : atS - breachAtS(snapshot) > LATE_S)
  return digest ? { atS: nextDigest(nowS, zone, quiet), digest } : { atS, digest }
}

/** Drops messages that no sender has begun to hand over; in id order, so that two droppers cannot deadlock. */
async function dropUnsent(db: Queryable, alertIds: string[], now: Date): Promise<void> {
  await db.query(
    `with unsent as (
       select message_id from message
        where alert_id = any($1::uuid[]) and (state = 'pending' or state = 'sending' and handed_at is null)
        order by message_id for update)
     update message m set state = 'dropped', done_at = $2, lease = null, leased_until = null
       from unsent where m.message_id = unsent.message_id`, [alertIds, now])
}

interface LastTold {
  purpose: 'alert' | 'correction'
  /** It is with the server: it may yet turn out not to have been taken. */
  is_open: boolean
  digest: boolean
}

/** What each contact was told last about each alert; a message whose fate is unknown counts as told. */
async function lastTold(db: Queryable, alertIds: string[]): Promise<Map<string, LastTold>> {
  const { rows } = await db.query<LastTold & { alert_id: string; contact_id: string }>(
    `select distinct on (alert_id, contact_id) alert_id, contact_id, purpose, state = 'sending' as is_open, digest
       from message
      where alert_id = any($1::uuid[]) and state in ('sending', 'sent', 'unknown', 'captured')
      order by alert_id, contact_id, alert_step desc`, [alertIds])
  return new Map(rows.map((r) => [`${r.alert_id} ${r.contact_id}`, r]))
}

async function activeContacts(db: Queryable, accountIds: number[]): Promise<ContactRow[]> {
  const { rows } = await db.query<ContactRow>(
    `select c.contact_id, c.account_id, c.channel, contact_mode(c, 'usage') as mode, a.zone, p.quiet_hours
       from contact c join account a using (account_id) left join account_preference p using (account_id)
      where c.account_id = any($1::int[]) and c.state = 'active' and c.deleted_at is null
      order by c.contact_id`, [accountIds])
  return rows
}

async function insertMessages(db: Queryable, messages: NewMessage[], input: Input): Promise<void> {
  if (messages.length === 0) return
  const sealer = createSealer(input.secrets)
  const contentOf = ({ purpose, snapshot }: Announcement): string =>
    JSON.stringify((purpose === 'alert' ? alertContent : correctionContent)(snapshot))
  await db.query(
    `insert into message (message_id, utility_id, account_id, contact_id, alert_id, alert_step, purpose, channel,
                          body_enc, state, next_at, digest, created_at)
     select r.message_id, $1, r.account_id, r.contact_id, r.alert_id, r.alert_step, r.purpose, r.channel, r.body,
            'pending', to_timestamp(r.at_s), r.digest, $2
       from unnest($3::uuid[], $4::int[], $5::uuid[], $6::uuid[], $7::int[], $8::text[], $9::text[], $10::bytea[], $11::float8[],
                   $12::boolean[])
         as r(message_id, account_id, contact_id, alert_id, alert_step, purpose, channel, body, at_s, digest)
     on conflict (alert_id, alert_step, contact_id, purpose) do nothing`,
    [
      input.utilityId, input.now,
      messages.map((m) => m.id),
      messages.map((m) => m.contact.account_id),
      messages.map((m) => m.contact.contact_id),
      messages.map((m) => m.announcement.alertId),
      messages.map((m) => m.announcement.step),
      messages.map((m) => m.announcement.purpose),
      messages.map((m) => m.contact.channel),
      messages.map((m) => sealer.seal('message', m.id, contentOf(m.announcement))),
      messages.map((m) => m.atS),
      messages.map((m) => m.digest),
    ])
}
