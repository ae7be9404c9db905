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

async function checkLimits(db: Queryable, target: CodeTarget, now: Date): Promise<void> {
  const { rows } = await db.query<{ at: Date }>(
    `select m.created_at as at
       from contact c join message m using (contact_id)
      where c.utility_id = $1 and c.channel = $2 and c.address_hash = $3
        and m.purpose = 'code' and m.created_at > $4
      order by m.created_at desc limit $5`,
    [target.utilityId, target.channel, target.addressHash, new Date(now.getTime() - 3_600_000), CODES_PER_HOUR])
  if (rows.length === 0) return
  const sinceLastS = (now.getTime() - rows[0].at.getTime()) / 1000
  const sinceFirstS = (now.getTime() - rows[rows.length - 1].at.getTime()) / 1000
  const waitS = Math.max(CODE_GAP_S - sinceLastS, rows.length < CODES_PER_HOUR ? 0 : 3600 - sinceFirstS)
  if (waitS > 0) {
    throw new ApiError(429, 'too-many-codes', 'Too many codes were asked for this address.', { retryAfter: Math.ceil(waitS) })
  }
}
