import type { Queryable } from '../store/db.js'

/** A message that this process holds the lease of. */
export interface LeasedMessage {
  message_id: string
  contact_id: string
  purpose: 'alert' | 'correction' | 'code'
  channel: 'email' | 'sms'
  attempts: number
  body_enc: Buffer
  address_enc: Buffer
  created_at: Date
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
// a correction only to those who were told what it takes back.
const IS_DUE = `(c.deleted_at is null and case m.purpose
    when 'code' then c.state = 'pending' and c.code_expires > $1::timestamptz
    else c.state = 'active'
     and exists (select 1 from alert a where a.alert_id = m.alert_id and a.step = m.alert_step
                    and a.state = case m.purpose when 'alert' then 'raised' else 'retracted' end)
     and (${TOLD} is not distinct from 'alert') = (m.purpose = 'correction') end)`

const WAITS = `exists (select 1 from message e
                where e.alert_id = m.alert_id and e.contact_id = m.contact_id and e.alert_step < m.alert_step
                  and e.state = 'sending' and e.handed_at is not null)`

/** Takes up to `count` due messages under a lease until `until`; a lease that ran out before hand-over is taken too. */
export async function leaseMessages(
  db: Queryable, lease: string, count: number, now: Date, until: Date,
): Promise<LeasedMessage[]> {
  const leased = await db.query(
    `with due as (
       select message_id from message
        where state in ('pending', 'sending') and next_at <= $1
          and (state = 'pending' or leased_until < $1 and handed_at is null)
        order by next_at limit $2 for update skip locked)
     update message m
        set state = 'sending', lease = $3, leased_until = $4, attempts = m.attempts + 1, handed_at = null
       from due where m.message_id = due.message_id`, [now, count, lease, until])
  if (leased.rowCount === 0) return []
  const { rows } = await db.query<LeasedMessage>(
    `select m.message_id, m.contact_id, m.purpose, m.channel, m.attempts, m.body_enc, c.address_enc, m.created_at,
            ${IS_DUE} as is_due, ${WAITS} as waits
       from message m join contact c using (contact_id)
      where m.lease = $2 and m.state = 'sending' and m.handed_at is null
      order by m.next_at`, [now, lease])
  return rows
}

/** Writes down that the message may reach the other side from now on; false where it is not to be sent any more. */
export async function beginHandOver(
  db: Queryable, messageId: string, lease: string, now: Date, until: Date,
): Promise<boolean> {
  const { rowCount } = await db.query(
    `update message m set handed_at = $1, leased_until = $4
       from contact c
      where m.message_id = $2 and m.lease = $3 and m.state = 'sending' and m.handed_at is null
        and c.contact_id = m.contact_id and ${IS_DUE}`, [now, messageId, lease, until])
  return rowCount === 1
}

/** Keeps leases of messages that are still being sent. */
export async function renewLeases(db: Queryable, leases: readonly string[], until: Date): Promise<void> {
  await db.query(`update message set leased_until = $2 where state = 'sending' and lease = any($1::uuid[])`, [leases, until])
}

/** The end of an attempt. `pending`: to be tried again at `nextAt`. */
export interface AttemptEnd {
  state: 'sent' | 'captured' | 'failed' | 'dropped' | 'unknown' | 'pending'
  nextAt: Date
  error: string | null
  /** False where nothing was tried: it does not count as an attempt. */
  isCounted: boolean
}

/**
 * Records the end of an attempt. A lease that was taken for lost while the server's answer was on its way is still
 * this process's to correct: `unknown` becomes what is known now. A code is not kept once it went out.
 */
export async function endAttempt(
  db: Queryable, messageId: string, lease: string, end: AttemptEnd, now: Date,
): Promise<void> {
  await db.query(
    `update message
        set state = $3, next_at = $4, last_error = $5, attempts = attempts - $6,
            done_at = case when $3 = 'pending' then null else $7::timestamptz end,
            handed_at = case when $3 = 'pending' then null else handed_at end,
            body_enc = case when $3 = 'sent' and purpose = 'code' then ''::bytea else body_enc end,
            lease = null, leased_until = null
      where message_id = $1 and lease = $2 and state in ('sending', 'unknown')`,
    [messageId, lease, end.state, end.nextAt, end.error, end.isCounted ? 0 : 1, now])
}

/** Messages whose sender was lost after hand-over: nobody knows whether they arrived, so they are not sent again. */
export async function giveUpLostHandOvers(db: Queryable, now: Date): Promise<number> {
  const { rowCount } = await db.query(
    `with lost as (
       select message_id from message
        where state = 'sending' and handed_at is not null and leased_until < $1 for update skip locked)
     update message m set state = 'unknown', done_at = $1, last_error = 'the sender was lost after hand-over'
       from lost where m.message_id = lost.message_id`, [now])
  return rowCount ?? 0
}
