import { writeAudit } from '../audit.js'
import { categories, type Category } from '../notify/content.js'
import { DEFAULT_QUIET, type QuietHours, type QuietSettings } from '../notify/quiet.js'
import { ApiError } from '../problem.js'
import { inTransaction, type Pool, type Queryable } from '../store/db.js'
import { recordConsent, type ConsentEvent } from './consent.js'
import type { AccountOwner } from './contacts.js'

export type Mode = 'now' | 'digest'

export interface PreferenceEntry {
  readonly contact: string
  readonly mode: Mode
}

/** What a write may set; a category or channel that is left out stays as it is. */
export interface PreferencePatch extends Partial<Record<Category, readonly PreferenceEntry[]>> {
  /** null: none. */
  readonly quietHours?: QuietSettings
}

export type PreferenceView = Record<Category, PreferenceEntry[]> & {
  quietHours: { sms: QuietHours | null; email: QuietHours | null }
}

interface Row {
  contact_id: string
  channel: 'email' | 'sms'
  address_hash: Buffer
  stopped: string[]
  modes: Record<Category, 'now' | 'digest' | 'off'>
}

const CONTACTS = `select contact_id, channel, address_hash, stopped,
    jsonb_build_object('usage', contact_mode(c, 'usage'), 'service', contact_mode(c, 'service'), 'billing', contact_mode(c, 'billing')) as modes
  from contact c where account_id = $1 and deleted_at is null order by created_at, contact_id`

/** Who is told what and how, as it holds now. */
export async function readPreferences(db: Queryable, accountId: number): Promise<PreferenceView> {
  const { rows } = await db.query<Row>(CONTACTS, [accountId])
  const { rows: chosen } = await db.query<{ quiet_hours: QuietSettings }>('select quiet_hours from account_preference where account_id = $1', [accountId])
  const quiet = { ...DEFAULT_QUIET, ...chosen[0]?.quiet_hours }
  const of = (category: Category): PreferenceEntry[] => rows.flatMap((r) => {
    const mode = r.modes[category]
    return mode === 'off' ? [] : [{ contact: r.contact_id, mode }]
  })
  return { usage: of('usage'), service: of('service'), billing: of('billing'), quietHours: { sms: quiet.sms, email: quiet.email } }
}

/**
 * Sets who is told what: of a category that is named, the contacts listed are told and the others are not. A threshold's own
 * contacts only narrow this. What the holder of a number ended by STOP only START brings back.
 * @throws ApiError 409 `contact-stopped`, 422 `unknown-contact`
 */
export async function putPreferences(
  pool: Pool, owner: AccountOwner, patch: PreferencePatch, actor: string, now: Date,
): Promise<PreferenceView> {
  return inTransaction(pool, async (client) => {
    const { rows } = await client.query<Row>(`${CONTACTS} for no key update`, [owner.accountId])
    const events: ConsentEvent[] = []
    for (const category of categories) {
      const wanted = patch[category]
      if (wanted === undefined) continue
      const modes = modesOf(wanted, rows, category)
      for (const row of rows) {
        const mode = modes.get(row.contact_id) ?? 'off'
        const wasStopped = row.stopped.includes(category)
        if (mode !== 'off' && wasStopped && row.channel === 'sms') throw stopped(category, wanted, row.contact_id)
        if (row.modes[category] === mode && !(wasStopped && mode !== 'off')) continue
        if ((row.modes[category] === 'off') !== (mode === 'off')) {
          events.push({
            ...owner, contactId: row.contact_id, channel: row.channel, addressHash: row.address_hash, categories: [category],
            action: mode === 'off' ? 'withdrawn' : 'granted', actor, via: 'preferences', wording: null,
          })
        }
        await client.query(
          `update contact set modes = modes || jsonb_build_object($2::text, $3::text),
                  stopped = case when $3 = 'off' then stopped else array_remove(stopped, $2::text) end,
                  state = case when $3 <> 'off' and state = 'stopped' and verified_at is not null then 'active' else state end
            where contact_id = $1`, [row.contact_id, category, mode])
      }
    }
    if (patch.quietHours !== undefined) {
      await client.query(
        `insert into account_preference (account_id, quiet_hours) values ($1, $2)
         on conflict (account_id) do update set quiet_hours = account_preference.quiet_hours || excluded.quiet_hours`,
        [owner.accountId, JSON.stringify(patch.quietHours)])
    }
    await recordConsent(client, events, now)
    await writeAudit(client, {
      utilityId: owner.utilityId, actor, action: 'preferences.write', subject: owner.account, detail: { members: Object.keys(patch) } })
    return readPreferences(client, owner.accountId)
  })
}

function modesOf(wanted: readonly PreferenceEntry[], rows: readonly Row[], category: Category): Map<string, Mode> {
  const known = new Set(rows.map((r) => r.contact_id))
  const unknown = wanted.findIndex((w) => !known.has(w.contact))
  if (unknown >= 0) {
    throw new ApiError(422, 'unknown-contact', 'The account has no such contact.', { at: `/${category}/${unknown}/contact` })
  }
  return new Map(wanted.map((w) => [w.contact, w.mode]))
}

function stopped(category: Category, wanted: readonly PreferenceEntry[], contact: string): ApiError {
  return new ApiError(409, 'contact-stopped', 'The holder of this number ended these messages by STOP.', {
    at: `/${category}/${wanted.findIndex((w) => w.contact === contact)}/contact`, help: 'Only a text with the word START from that number brings them back.',
  })
}
