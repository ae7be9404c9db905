import { randomUUID } from 'node:crypto'
import { writeAudit } from '../audit.js'
import { ApiError, type Problem } from '../problem.js'
import { inTransaction, type Pool, type Queryable } from '../store/db.js'
import { parseInstant } from '../time/text.js'
import { parseAddress } from './address.js'
import { recordConsent } from './consent.js'
import type { Consent } from './contacts.js'
import type { Sealer } from './seal.js'

/** A contact that another system verified. */
export interface ImportedContact {
  /** Public id. */
  readonly account: string
  readonly channel: 'email' | 'sms'
  readonly address: string
  readonly label?: string | null
  readonly language?: string | null
  readonly consent?: Consent | null
  /** RFC 3339: when the other system did. */
  readonly verifiedAt: string
}

export interface ImportReceipt {
  received: number
  created: number
  changed: number
  unchanged: number
  rejected: number
  problems: Problem[]
}

interface Ready {
  id: string
  accountId: number
  account: string
  channel: 'email' | 'sms'
  address: string
  masked: string
  hash: Buffer
  label: string | null
  language: string
  consent: Record<string, unknown> & { categories: string[] }
  verifiedAt: Date
}

interface Writer {
  readonly utilityId: number
  readonly actor: string
  readonly now: Date
}

const SHOWN_PROBLEMS = 100

/**
 * Brings verified contacts over from another system; records that are known change nothing, and what the holder of an address
 * ended stays ended. A record that cannot be taken is told with its place and does not stop the others.
 */
export async function importContacts(pool: Pool, sealer: Sealer, writer: Writer, records: readonly ImportedContact[]): Promise<ImportReceipt> {
  return inTransaction(pool, async (client) => {
    const { rows } = await client.query<{ id: string; account_id: number }>(
      'select id, account_id from account where utility_id = $1 and id = any($2::text[])',
      [writer.utilityId, [...new Set(records.map((r) => r.account))]])
    const accounts = new Map(rows.map((r) => [r.id, r.account_id]))
    const problems: Problem[] = []
    const ready = new Map<string, Ready>()
    records.forEach((record, i) => {
      try {
        const one = prepare(record, accounts.get(record.account), sealer, writer)
        // Of two records for one address the later one stands.
        ready.set(`${one.accountId} ${one.channel} ${one.hash.toString('base64')}`, one)
      } catch (err) {
        if (!(err instanceof ApiError)) throw err
        problems.push({
          code: err.code, at: `/contacts/${i}${typeof err.extra.at === 'string' ? err.extra.at : ''}`, message: err.message,
          ...(typeof err.extra.help === 'string' ? { help: err.extra.help } : {}) })
      }
    })
    const list = [...ready.values()]
    const { created, changed } = await write(client, sealer, writer, list)
    await writeAudit(client, {
      utilityId: writer.utilityId, actor: writer.actor, action: 'contacts.write', subject: String(list.length), detail: { created: created.length, changed } })
    return {
      received: records.length, created: created.length, changed, rejected: problems.length,
      unchanged: records.length - problems.length - created.length - changed, problems: problems.slice(0, SHOWN_PROBLEMS),
    }
  })
}

function prepare(record: ImportedContact, accountId: number | undefined, sealer: Sealer, writer: Writer): Ready {
  if (accountId === undefined) throw new ApiError(422, 'unknown-account', 'There is no such account.', { at: '/account' })
  const verifiedS = parseInstant(record.verifiedAt)
  if (verifiedS === undefined || verifiedS * 1000 > writer.now.getTime() + 60_000) {
    throw new ApiError(422, 'invalid-instant', 'verifiedAt is an instant with an offset that has passed.', { at: '/verifiedAt' })
  }
  const { address, masked } = parseAddress(record.channel, record.address)
  return {
    id: randomUUID(), accountId, account: record.account, channel: record.channel, address, masked,
    hash: sealer.hashAddress(writer.utilityId, record.channel, address), label: record.label ?? null, language: record.language ?? 'en',
    consent: { categories: ['usage'], ...record.consent, at: new Date(verifiedS * 1000).toISOString(), actor: writer.actor },
    verifiedAt: new Date(verifiedS * 1000),
  }
}

async function write(db: Queryable, sealer: Sealer, writer: Writer, list: readonly Ready[]): Promise<{ created: Ready[]; changed: number }> {
  const columns = [
    list.map((c) => c.id), list.map((c) => c.accountId), list.map((c) => c.channel), list.map((c) => sealer.seal('address', c.id, c.address)),
    list.map((c) => c.hash), list.map((c) => c.masked), list.map((c) => c.label), list.map((c) => c.language),
    list.map((c) => JSON.stringify(c.consent)), list.map((c) => c.verifiedAt)]
  const { rows } = await db.query<{ contact_id: string; created: boolean }>(
    `insert into contact as k (contact_id, utility_id, account_id, channel, address_enc, address_hash, masked, label, language, state, consent,
                               verified_at, created_at)
     select r.id, $1, r.account_id, r.channel, r.enc, r.hash, r.masked, r.label, r.language, 'active', r.consent::jsonb, r.verified_at, $2
       from unnest($3::uuid[], $4::int[], $5::text[], $6::bytea[], $7::bytea[], $8::text[], $9::text[], $10::text[], $11::text[], $12::timestamptz[])
         as r(id, account_id, channel, enc, hash, masked, label, language, consent, verified_at)
      order by r.account_id, r.channel, r.hash
     on conflict (account_id, channel, address_hash) where deleted_at is null do update
        set label = coalesce(excluded.label, k.label), language = excluded.language, verified_at = coalesce(k.verified_at, excluded.verified_at),
            consent = case when k.state = 'pending' then excluded.consent else k.consent end,
            state = case k.state when 'pending' then 'active' else k.state end, code_hash = null
      where k.state = 'pending' or k.language <> excluded.language or k.label is distinct from coalesce(excluded.label, k.label)
     returning contact_id, xmax = 0 as created`, [writer.utilityId, writer.now, ...columns])
  const made = new Set(rows.filter((r) => r.created).map((r) => r.contact_id))
  const created = list.filter((c) => made.has(c.id))
  await recordConsent(db, created.flatMap((c) => (['granted', 'verified'] as const).map((action) => ({
    utilityId: writer.utilityId, account: c.account, contactId: c.id, channel: c.channel, addressHash: c.hash, action,
    categories: c.consent.categories, actor: writer.actor, via: typeof c.consent.via === 'string' ? c.consent.via : 'brought over',
    wording: typeof c.consent.text === 'string' ? c.consent.text : null,
  }))), writer.now)
  return { created, changed: rows.length - created.length }
}
