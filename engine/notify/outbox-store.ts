import { groupBy } from '../group-by.js'
import type { Client, Pool, Queryable } from '../store/db.js'
import { inTransaction } from '../store/db.js'
import type { Category } from './content.js'
import { inStages, stagesBefore, type MessageEvent } from './life-cycle.js'
import type { QuietSettings } from './quiet.js'

export type MessagePurpose = 'alert' | 'correction' | 'code' | 'notice' | 'reply'

/** A message that this process holds the lease of, with what its words depend on. */
export interface LeasedMessage {
  message_id: string
  utility_id: number
  contact_id: string
  purpose: MessagePurpose
  category: Category
  channel: 'email' | 'sms'
  digest: boolean
  attempts: number
  body_enc: Buffer
  address_enc: Buffer
  created_at: Date
  account_id: number
  language: string
  /** The account's zone or the utility's; null where neither is set. */
  zone: string | null
  quiet_hours: QuietSettings | null
  utility_name: string | null
  utility_phone: string | null
  utility_links: Record<string, string>
  /** False: it says what does not hold any more, or may not be told to this contact. */
  is_due: boolean
  /** True: what the contact was told last is still on its way, and decides whether this one is needed. */
  waits: boolean
}

// What a contact was told last about the alert before this message; a message whose fate is unknown counts as told.
const TOLD = `(select e.purpose from message e
                where e.alert_id = m.alert_id and e.contact_id = m.contact_id and e.alert_step < m.alert_step
                  and e.state in ('sent', 'unknown', 'captured')
                order by e.alert_step desc limit 1)`

// Over m (message) and c (its contact); $1 is the present. Nothing but the code goes to a contact that is not verified;
// an alert goes out only while it stands at the step that the message tells of, and to those alone who do not know it;
// a correction only to those who were told what it takes back; nothing goes to who ended its category, but the answer
// that says so.
const IS_DUE = `(c.deleted_at is null and coalesce(m.expires_at > $1::timestamptz, true) and case m.purpose
    when 'code' then c.state = 'pending' and c.code_expires > $1::timestamptz
    when 'reply' then c.state in ('active', 'stopped')
    when 'notice' then c.state = 'active' and contact_mode(c, m.category) <> 'off'
    else c.state = 'active' and contact_mode(c, m.category) <> 'off'
     and exists (select 1 from alert a where a.alert_id = m.alert_id and a.step = m.alert_step
                    and a.state = case m.purpose when 'alert' then 'raised' else 'retracted' end)
     and (${TOLD} is not distinct from 'alert') = (m.purpose = 'correction') end)`

const WAITS = `exists (select 1 from message e
                where e.alert_id = m.alert_id and e.contact_id = m.contact_id and e.alert_step < m.alert_step
                  and e.state = 'sending' and e.handed_at is not null)`

const LEASABLE = `next_at <= $1 and channel = any($5::text[]) and (state = 'pending' or state = 'sending' and leased_until < $1 and handed_at is null)`

/**
 * Takes due messages of the channels under a lease until `until`: up to `count`, and up to `count` contacts' digests, each whole, so that no
 * two senders share one. A lease that ran out before hand-over is taken too.
 */
export async function leaseMessages(
  db: Queryable, lease: string, count: number, now: Date, until: Date, channels: readonly string[] = ['email', 'sms'],
): Promise<LeasedMessage[]> {
  const leased = await db.query(
    `with single as (
       select message_id from message where not digest and state in ('pending', 'sending') and ${LEASABLE}
        order by next_at limit $2 for update skip locked),
     holder as (
       select contact_id from contact
        where contact_id in (select contact_id from message
                              where digest and state in ('pending', 'sending') and ${LEASABLE} order by next_at limit $2)
        for no key update skip locked),
     grouped as (
       select message_id from message join holder using (contact_id)
        where digest and state in ('pending', 'sending') and ${LEASABLE} for update of message skip locked)
     update message m
        set state = 'sending', lease = $3, leased_until = $4, attempts = m.attempts + 1, handed_at = null
      where m.message_id in (select message_id from single union all select message_id from grouped)`, [now, count, lease, until, channels])
  if (leased.rowCount === 0) return []
  const { rows } = await db.query<LeasedMessage>(
    `select m.message_id, m.utility_id, m.contact_id, m.purpose, m.category, m.channel, m.digest, m.attempts, m.body_enc, c.address_enc,
            m.created_at, c.account_id, c.language, coalesce(a.zone, u.zone) as zone, p.quiet_hours, u.name as utility_name,
            u.phone as utility_phone, u.links as utility_links, ${IS_DUE} as is_due, ${WAITS} as waits
       from message m
       join contact c using (contact_id)
       join account a on a.account_id = c.account_id
       join utility u on u.utility_id = m.utility_id
       left join account_preference p on p.account_id = c.account_id
      where m.lease = $2 and m.state = 'sending' and m.handed_at is null
      order by m.next_at, m.created_at, m.message_id`, [now, lease])
  return rows
}

const HAND_OVER = `update message m set handed_at = $1, leased_until = $4
       from contact c
      where m.message_id = any($2::uuid[]) and m.lease = $3 and ${inStages(stagesBefore('hand-over'))}
        and c.contact_id = m.contact_id and ${IS_DUE}`

/**
 * Writes down that the messages may reach the other side from now on; false where one of them is not to be sent any more:
 * then none is handed over.
 */
export async function beginHandOver(pool: Pool, messageIds: readonly string[], lease: string, now: Date, until: Date): Promise<boolean> {
  const values = [now, messageIds, lease, until]
  if (messageIds.length === 1) return (await pool.query(HAND_OVER, values)).rowCount === 1
  return inTransaction(pool, async (client: Client) => {
    const { rowCount } = await client.query(HAND_OVER, values)
    if (rowCount === messageIds.length) return true
    await client.query('rollback; begin')
    return false
  })
}

/** A message and the lease that it is held under. */
export interface Held {
  readonly messageId: string
  readonly lease: string
}

/**
 * {@link beginHandOver} for messages that go out each by itself, all in one statement. Tells for each whether it was handed
 * over; one that is not to be sent, or that another transaction holds just now, is to be asked for alone.
 */
export async function beginHandOvers(db: Queryable, held: readonly Held[], now: Date, until: Date): Promise<boolean[]> {
  // Skips what is locked: a settling transaction that drops one message must not hold up the others until its commit.
  const { rows } = await db.query<{ message_id: string }>(
    `with free as (
       select m.message_id from message m join unnest($2::uuid[], $3::uuid[]) as h(message_id, lease) on m.message_id = h.message_id and m.lease = h.lease
        where ${inStages(stagesBefore('hand-over'))} for no key update of m skip locked)
     update message m set handed_at = $1, leased_until = $4
       from free, contact c
      where m.message_id = free.message_id and ${inStages(stagesBefore('hand-over'))} and c.contact_id = m.contact_id and ${IS_DUE}
     returning m.message_id`, [now, held.map((h) => h.messageId), held.map((h) => h.lease), until])
  const handed = new Set(rows.map((r) => r.message_id))
  return held.map((h) => handed.has(h.messageId))
}

/** Keeps leases of messages that are still being sent. What is locked is being handed over, ended or dropped just now. */
export async function renewLeases(db: Queryable, leases: readonly string[], until: Date): Promise<void> {
  await db.query(
    `with held as (select message_id from message where state = 'sending' and lease = any($1::uuid[]) for no key update skip locked)
     update message m set leased_until = $2 from held where m.message_id = held.message_id`, [leases, until])
}

/** The end of an attempt. */
export interface AttemptEnd {
  event: Extract<MessageEvent, 'accepted' | 'captured' | 'refused' | 'deferred' | 'withdrawn' | 'uncertain'>
  /** Of `deferred`: when it is tried again. */
  nextAt: Date
  error: string | null
  /** False where nothing was tried: it does not count as an attempt. */
  isCounted: boolean
  /** Of `deferred`: from now on it goes out with the digest. */
  toDigest?: boolean
}

const STATE_AFTER = {
  accepted: 'sent', captured: 'captured', refused: 'failed', deferred: 'pending', withdrawn: 'dropped', uncertain: 'unknown',
} as const

/** The state that the end of an attempt leaves a message in. */
export function stateAfter(event: AttemptEnd['event']): (typeof STATE_AFTER)[AttemptEnd['event']] {
  return STATE_AFTER[event]
}

/** A held message and the end of its attempt. */
export interface Ended extends Held {
  readonly end: AttemptEnd
}

/**
 * Records the ends of attempts: one statement for each event. A lease that was taken for lost while the server's answer was
 * on its way is still this process's to correct: `unknown` becomes what is known now. A code is not kept once it went out.
 */
export async function endAttempts(db: Queryable, ended: readonly Ended[], now: Date): Promise<void> {
  for (const [event, group] of groupBy(ended, (e) => e.end.event)) {
    const state = STATE_AFTER[event]
    // Locked in one order: who drops or renews several at once cannot deadlock with this.
    await db.query(
      `with ended as (
         select * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::int[], $6::boolean[])
           as e(message_id, lease, next_at, error, uncounted, to_digest)),
       mine as (
         select m.message_id from message m join ended e on m.message_id = e.message_id and m.lease = e.lease
          where ${inStages(stagesBefore(event))} order by m.message_id for no key update of m)
       update message m
          set state = $7, next_at = e.next_at, last_error = e.error, attempts = attempts - e.uncounted,
              done_at = case when $7 = 'pending' then null else $8::timestamptz end,
              handed_at = case when $7 = 'pending' then null else handed_at end,
              digest = digest or e.to_digest,
              body_enc = case when $7 = 'sent' and purpose = 'code' then ''::bytea else body_enc end,
              lease = null, leased_until = null
         from mine join ended e using (message_id)
        where m.message_id = mine.message_id and ${inStages(stagesBefore(event))}`,
      [
        group.map((e) => e.messageId), group.map((e) => e.lease), group.map((e) => e.end.nextAt), group.map((e) => e.end.error),
        group.map((e) => e.end.isCounted ? 0 : 1), group.map((e) => e.end.toDigest === true), state, now,
      ])
  }
}

/** {@link endAttempts} of messages that ended together. */
export async function endAttempt(db: Queryable, messageIds: readonly string[], lease: string, end: AttemptEnd, now: Date): Promise<void> {
  await endAttempts(db, messageIds.map((messageId) => ({ messageId, lease, end })), now)
}

/** Messages whose sender was lost after hand-over: nobody knows whether they arrived, so they are not sent again. */
export async function giveUpLostHandOvers(db: Queryable, now: Date): Promise<number> {
  const { rowCount } = await db.query(
    `with lost as (
       select message_id from message m
        where ${inStages(stagesBefore('lost'))} and leased_until < $1 for update skip locked)
     update message m set state = 'unknown', done_at = $1, last_error = 'the sender was lost after hand-over'
       from lost where m.message_id = lost.message_id`, [now])
  return rowCount ?? 0
}
