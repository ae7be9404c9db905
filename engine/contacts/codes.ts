import { randomInt, randomUUID } from 'node:crypto'
import type { MessageContent } from '../notify/content.js'
import { ApiError } from '../problem.js'
import type { Queryable } from '../store/db.js'
import type { ContactChannel } from './address.js'
import type { Sealer } from './seal.js'

export const CODE_MINUTES = 10
export const CODE_TRIES = 5
const CODES_PER_HOUR = 3
const CODE_GAP_S = 30

export interface CodeTarget {
  contactId: string
  utilityId: number
  accountId: number
  channel: ContactChannel
  addressHash: Buffer
}

/**
 * Writes a new six-digit code into the outbox, in the caller's transaction; an earlier code is void from then on.
 * Codes are counted by address within the utility, whoever asks for them, so that nobody can be flooded.
 *
 * @throws ApiError 429 `too-many-codes` with `retryAfter`: more than 3 in an hour, or less than 30 seconds apart
 */
export async function sendCode(db: Queryable, sealer: Sealer, target: CodeTarget, now: Date): Promise<void> {
  await lockAddress(db, target.addressHash)
  await checkLimits(db, target, now)
  const code = String(randomInt(1_000_000)).padStart(6, '0')
  await dropUnsentCodes(db, target.contactId, now)
  await db.query(
    `update contact set code_hash = $2, code_expires = $3, code_tries = 0, codes_sent = codes_sent + 1, last_code_at = $4
      where contact_id = $1`,
    [target.contactId, sealer.hashCode(target.contactId, code), new Date(now.getTime() + CODE_MINUTES * 60_000), now])
  const messageId = randomUUID()
  const content: MessageContent = { t: 'code', code, minutes: CODE_MINUTES }
  await db.query(
    `insert into message (message_id, utility_id, account_id, contact_id, purpose, channel, body_enc, state, next_at, created_at)
     values ($1, $2, $3, $4, 'code', $5, $6, 'pending', $7, $7)`,
    [messageId, target.utilityId, target.accountId, target.contactId, target.channel,
      sealer.seal('message', messageId, JSON.stringify(content)), now])
}

/** Drops the contact's codes that no sender has begun to hand over. */
export async function dropUnsentCodes(db: Queryable, contactId: string, now: Date): Promise<void> {
  await db.query(
    `update message set state = 'dropped', done_at = $2, lease = null, leased_until = null
      where contact_id = $1 and purpose = 'code' and (state = 'pending' or state = 'sending' and handed_at is null)`,
    [contactId, now])
}

/** Two requests for one address wait for each other, so that both cannot pass a limit that has room for one. */
async function lockAddress(db: Queryable, addressHash: Buffer): Promise<void> {
  await db.query('select pg_advisory_xact_lock($1::bigint)', [String(addressHash.readBigInt64BE(0))])
}

/** How many codes may be written in a stretch, and for whom: wide enough for people, too narrow for a machine. */
const LIMITS: readonly { by: 'address' | 'account' | 'utility'; codes: number; seconds: number }[] = [
  { by: 'address', codes: CODES_PER_HOUR, seconds: 3600 },
  { by: 'address', codes: 10, seconds: 86_400 },
  { by: 'account', codes: 10, seconds: 3600 },
  // Texts cost money, and a stolen portal key could send them all over the world.
  { by: 'utility', codes: 2000, seconds: 3600 },
]

async function checkLimits(db: Queryable, target: CodeTarget, now: Date): Promise<void> {
  await refuseStopped(db, target)
  let waitS = 0
  for (const { by, codes, seconds } of LIMITS) {
    const times = await codeTimes(db, target, by, new Date(now.getTime() - seconds * 1000), codes)
    if (times.length === 0) continue
    const ago = (at: Date): number => (now.getTime() - at.getTime()) / 1000
    if (by === 'address') waitS = Math.max(waitS, CODE_GAP_S - ago(times[0]))
    if (times.length >= codes) waitS = Math.max(waitS, seconds - ago(times[times.length - 1]))
  }
  if (waitS > 0) {
    throw new ApiError(429, 'too-many-codes', 'Too many codes were asked for.', { retryAfter: Math.ceil(waitS) })
  }
}

/** When the last `count` codes were written, newest first. */
async function codeTimes(db: Queryable, target: CodeTarget, by: 'address' | 'account' | 'utility', since: Date, count: number): Promise<Date[]> {
  const [condition, value] = {
    address: ['m.contact_id in (select contact_id from contact where utility_id = $1 and channel = $5 and address_hash = $2)', target.addressHash],
    account: ['m.account_id = $2 and $5::text is not null', target.accountId],
    utility: ['$2::int is not null and $5::text is not null', target.utilityId],
  }[by]
  const { rows } = await db.query<{ at: Date }>(
    `select m.created_at as at from message m
      where m.utility_id = $1 and m.purpose = 'code' and m.created_at > $3 and ${condition as string}
      order by m.created_at desc limit $4`, [target.utilityId, value, since, count, target.channel])
  return rows.map((r) => r.at)
}

/** Whoever answered a code, or all messages, with STOP gets no code either, under whatever account it is asked for. */
async function refuseStopped(db: Queryable, target: CodeTarget): Promise<void> {
  if (target.channel !== 'sms') return
  const { rows } = await db.query(
    `select 1 from contact where utility_id = $1 and channel = 'sms' and address_hash = $2 and state = 'stopped' limit 1`,
    [target.utilityId, target.addressHash])
  if (rows.length === 0) return
  throw new ApiError(409, 'contact-stopped', 'The holder of this number ended all messages by STOP.',
    { at: '/address', help: 'Only a text with the word START from that number brings them back.' })
}
