import { randomUUID, timingSafeEqual } from 'node:crypto'
import { writeAudit } from '../audit.js'
import { ApiError } from '../problem.js'
import { inTransaction, sqlState, type Pool, type Queryable } from '../store/db.js'
import { parseAddress, type ContactChannel } from './address.js'
import { CODE_TRIES, dropUnsentCodes, sendCode } from './codes.js'
import { recordConsent, type ConsentAction } from './consent.js'
import { tellWebhooks } from '../notify/webhook-store.js'
import type { Sealer } from './seal.js'

/** What somebody agreed to, in their words, and how: kept with the contact. */
export interface Consent {
  categories?: string[]
  text?: string
  via?: string
}

export interface ContactView {
  id: string
  channel: ContactChannel
  /** Masked. */
  address: string
  label: string | null
  language: string
  state: 'pending' | 'active' | 'stopped' | 'bounced'
  consent: Record<string, unknown>
  createdAt: string
  verifiedAt: string | null
}

export interface AccountOwner {
  readonly utilityId: number
  readonly accountId: number
  /** Public id. */
  readonly account: string
}

export interface NewContact {
  readonly channel: ContactChannel
  readonly address: string
  readonly label?: string | null
  readonly language?: string | null
  readonly consent?: Consent | null
}

interface ContactRow {
  contact_id: string
  channel: ContactChannel
  masked: string
  label: string | null
  language: string
  state: ContactView['state']
  consent: Record<string, unknown>
  created_at: Date
  verified_at: Date | null
  address_hash: Buffer
  code_hash: Buffer | null
  code_expires: Date | null
  code_tries: number
}

const COLUMNS = `contact_id, channel, masked, label, language, state, consent, created_at, verified_at, address_hash,
  code_hash, code_expires, code_tries`
/** Contacts that one account may have. */
const MAX_CONTACTS = 20

/**
 * Makes a contact that is to be verified and sends it a code. Where the same member (who reaches several accounts) has
 * verified the address for another of them, it is active at once.
 * @param reached public ids of the accounts that the caller reaches as a member; null for a key
 * @throws ApiError 409 `contact-exists`, 422 `invalid-address` or `too-many-contacts`, 429 `too-many-codes`
 */
export async function addContact(
  pool: Pool, sealer: Sealer, owner: AccountOwner, input: NewContact, actor: string, now: Date, reached: ReadonlySet<string> | null = null,
): Promise<ContactView> {
  const { address, masked } = parseAddress(input.channel, input.address)
  const contactId = randomUUID()
  const addressHash = sealer.hashAddress(owner.utilityId, input.channel, address)
  // Consent is evidence: what was given, by whom and when.
  const consent = { categories: ['usage'], ...input.consent, at: now.toISOString(), actor }
  try {
    return await inTransaction(pool, async (client) => {
      await checkRoom(client, owner, input.channel, addressHash)
      const isKnown = reached !== null && await isVerifiedFor(client, owner, input.channel, addressHash, reached)
      const { rows } = await client.query<ContactRow>(
        `insert into contact (contact_id, utility_id, account_id, channel, address_enc, address_hash, masked, label,
                              language, state, consent, created_at, verified_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $12, $10, $11, $13) returning ${COLUMNS}`,
        [contactId, owner.utilityId, owner.accountId, input.channel, sealer.seal('address', contactId, address),
          addressHash, masked, input.label ?? null, input.language ?? 'en', JSON.stringify(consent), now,
          isKnown ? 'active' : 'pending', isKnown ? now : null])
      await ledger(client, owner, rows[0], isKnown ? ['granted', 'verified'] : ['granted'], actor, now)
      if (!isKnown) await sendCode(client, sealer, { contactId, ...owner, channel: input.channel, addressHash }, now)
      await audit(client, owner, actor, 'contact.create', contactId)
      return toView(rows[0])
    })
  } catch (err) {
    if (sqlState(err) === '23505') throw contactExists()
    throw err
  }
}

export async function listContacts(db: Queryable, owner: AccountOwner): Promise<ContactView[]> {
  const { rows } = await db.query<ContactRow>(
    `select ${COLUMNS} from contact where account_id = $1 and deleted_at is null order by created_at, contact_id`,
    [owner.accountId])
  return rows.map(toView)
}

/**
 * Activates the contact where the code is right.
 * @throws ApiError 404 `contact-not-found`, 409 `contact-not-pending`, 422 `code-wrong` with `triesLeft`,
 * `code-expired` (also where all tries are used up)
 */
export async function verifyContact(
  pool: Pool, sealer: Sealer, owner: AccountOwner, contactId: string, code: string, actor: string, now: Date,
): Promise<ContactView> {
  // The refusal is thrown after the commit: a wrong try must count.
  const result = await inTransaction(pool, async (client) => {
    const row = await lockPending(client, owner, contactId)
    if (row.code_hash === null || row.code_expires === null || row.code_expires <= now || row.code_tries >= CODE_TRIES) {
      return new ApiError(422, 'code-expired', 'The code is not good any more.', { at: '/code', help: 'Ask for a new one by …/resend.' })
    }
    if (!timingSafeEqual(sealer.hashCode(contactId, code), row.code_hash)) {
      await client.query('update contact set code_tries = code_tries + 1 where contact_id = $1', [contactId])
      return new ApiError(422, 'code-wrong', 'This is not the code that was sent.',
        { at: '/code', triesLeft: CODE_TRIES - 1 - row.code_tries })
    }
    const { rows } = await client.query<ContactRow>(
      `update contact set state = 'active', verified_at = $2, code_hash = null, code_expires = null
        where contact_id = $1 returning ${COLUMNS}`, [contactId, now])
    await dropUnsentCodes(client, contactId, now)
    await ledger(client, owner, rows[0], ['verified'], actor, now)
    await tellWebhooks(client, owner.utilityId, 'contact.active', { account: owner.account, contact: contactId }, now)
    await audit(client, owner, actor, 'contact.verify', contactId)
    return toView(rows[0])
  })
  if (result instanceof ApiError) throw result
  return result
}

/**
 * Sends a new code; the one before is void. A contact whose address bounced is to be verified anew by it.
 * @throws ApiError 404 `contact-not-found`, 409 `contact-not-pending`, 429 `too-many-codes`
 */
export async function resendCode(
  pool: Pool, sealer: Sealer, owner: AccountOwner, contactId: string, now: Date,
): Promise<ContactView> {
  return inTransaction(pool, async (client) => {
    const row = await lockPending(client, owner, contactId, ['pending', 'bounced'])
    if (row.state === 'bounced') {
      await client.query(`update contact set state = 'pending' where contact_id = $1`, [contactId])
      row.state = 'pending'
    }
    await sendCode(client, sealer, { contactId, ...owner, channel: row.channel, addressHash: row.address_hash }, now)
    return toView(row)
  })
}

/**
 * Takes the contact away: nothing more is sent to it and its address is erased. Its hash stays, so that adding it again
 * and again does not get around the limit of codes.
 * @throws ApiError 404 `contact-not-found`
 */
export async function removeContact(
  pool: Pool, owner: AccountOwner, contactId: string, actor: string, now: Date,
): Promise<void> {
  await inTransaction(pool, async (client) => {
    const { rows } = await client.query<ContactRow>(
      `update contact set deleted_at = $3, address_enc = '', code_hash = null
        where contact_id = $1 and account_id = $2 and deleted_at is null returning ${COLUMNS}`, [contactId, owner.accountId, now])
    if (rows.length === 0) throw contactNotFound()
    await ledger(client, owner, rows[0], ['removed'], actor, now)
    // In id order, as retraction drops them, so that the two cannot deadlock.
    await client.query(
      `with unsent as (
         select message_id from message
          where contact_id = $1 and (state = 'pending' or state = 'sending' and handed_at is null)
          order by message_id for update)
       update message m set state = 'dropped', done_at = $2, lease = null, leased_until = null
         from unsent where m.message_id = unsent.message_id`, [contactId, now])
    await audit(client, owner, actor, 'contact.delete', contactId)
  })
}

/** True where the member has proved to hold the address for another account of the same token. */
async function isVerifiedFor(
  db: Queryable, owner: AccountOwner, channel: string, addressHash: Buffer, reached: ReadonlySet<string>,
): Promise<boolean> {
  const { rows } = await db.query(
    `select 1 from contact c join account a using (account_id)
      where c.utility_id = $1 and c.channel = $2 and c.address_hash = $3 and c.state = 'active' and c.deleted_at is null
        and a.id = any($4::text[]) limit 1`, [owner.utilityId, channel, addressHash, [...reached]])
  return rows.length > 0
}

async function ledger(
  db: Queryable, owner: AccountOwner, row: ContactRow, actions: readonly ConsentAction[], actor: string, now: Date,
): Promise<void> {
  const { categories, via, text } = row.consent as Consent
  await recordConsent(db, actions.map((action) => ({
    utilityId: owner.utilityId, account: owner.account, contactId: row.contact_id, channel: row.channel, addressHash: row.address_hash, action,
    categories: categories ?? ['usage'], actor, via: via ?? null, wording: action === 'granted' ? text ?? null : null,
  })), now)
}

async function checkRoom(db: Queryable, owner: AccountOwner, channel: string, addressHash: Buffer): Promise<void> {
  const { rows } = await db.query<{ count: number; held: boolean | null }>(
    `select count(*) as count, bool_or(channel = $2 and address_hash = $3) as held
       from contact where account_id = $1 and deleted_at is null`, [owner.accountId, channel, addressHash])
  if (rows[0].held === true) throw contactExists()
  if (rows[0].count >= MAX_CONTACTS) {
    throw new ApiError(422, 'too-many-contacts', `An account has at most ${MAX_CONTACTS} contacts.`)
  }
}

async function lockPending(
  db: Queryable, owner: AccountOwner, contactId: string, states: readonly ContactView['state'][] = ['pending'],
): Promise<ContactRow> {
  const { rows } = await db.query<ContactRow>(
    `select ${COLUMNS} from contact where contact_id = $1 and account_id = $2 and deleted_at is null for no key update`,
    [contactId, owner.accountId])
  if (rows.length === 0) throw contactNotFound()
  if (!states.includes(rows[0].state)) {
    throw new ApiError(409, 'contact-not-pending', `The contact is ${rows[0].state}: there is nothing to verify.`)
  }
  return rows[0]
}

function toView(row: ContactRow): ContactView {
  return {
    id: row.contact_id,
    channel: row.channel,
    address: row.masked,
    label: row.label,
    language: row.language,
    state: row.state,
    consent: row.consent,
    createdAt: row.created_at.toISOString(),
    verifiedAt: row.verified_at?.toISOString() ?? null,
  }
}

async function audit(db: Queryable, owner: AccountOwner, actor: string, action: string, contactId: string): Promise<void> {
  await writeAudit(db, { utilityId: owner.utilityId, actor, action, subject: owner.account, detail: { contact: contactId } })
}

function contactNotFound(): ApiError {
  return new ApiError(404, 'contact-not-found', 'There is no such contact.')
}

function contactExists(): ApiError {
  return new ApiError(409, 'contact-exists', 'The account has this address already.', { at: '/address' })
}
