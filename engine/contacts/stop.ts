import { randomUUID } from 'node:crypto'
import { categories, type Category, type MessageContent } from '../notify/content.js'
import { tellWebhooks } from '../notify/webhook-store.js'
import { inTransaction, type Pool, type Queryable } from '../store/db.js'
import { parseAddress } from './address.js'
import { inOrder, recordConsent } from './consent.js'
import type { Sealer } from './seal.js'
import { wordOf } from './stop-words.js'

/** A text that came in, as the gateway posts it. */
export interface InboundText {
  /** The gateway's id of it: a repetition does nothing. */
  readonly sid: string
  /** E.164. */
  readonly from: string
  readonly body: string
}

/** How far a STOP goes: the category that it answers, or everything. */
export type StopScope = 'category' | 'all'

interface Target {
  contact_id: string
  utility_id: number
  account_id: number
  account: string
  channel: 'email' | 'sms'
  address_hash: Buffer
  state: string
  stopped: string[]
}

const TARGET = `c.contact_id, c.utility_id, c.account_id, a.id as account, c.channel, c.address_hash, c.state, c.stopped`
/** Answers to one number in an hour: two machines that answer each other come to rest. */
const REPLIES_PER_HOUR = 5

/**
 * Does what a text asks for: STOP (and the words that law takes for it), START or HELP. STOP ends the category of the last
 * message to that number, in that utility, for every account that has the number; one text confirms it, and none where
 * nothing was left to end. Returns true where an answer waits in the outbox.
 */
export async function receiveText(pool: Pool, sealer: Sealer, text: InboundText, scope: StopScope, now: Date): Promise<boolean> {
  const word = wordOf(text.body)
  const { address } = parseAddress('sms', text.from)
  return inTransaction(pool, async (client) => {
    const { rows: utilities } = await client.query<{ utility_id: number }>('select utility_id from utility order by utility_id')
    const hashes = utilities.map((u) => sealer.hashAddress(u.utility_id, 'sms', address))
    const { rows: known } = await client.query<Target>(
      `select ${TARGET} from contact c join account a using (account_id)
        where c.channel = 'sms' and c.deleted_at is null
          and (c.utility_id, c.address_hash) in (select * from unnest($1::int[], $2::bytea[]))
        order by c.contact_id for no key update of c`, [utilities.map((u) => u.utility_id), hashes])
    const last = await lastMessage(client, known)
    const { rowCount } = await client.query(
      'insert into sms_inbound (sid, utility_id, word, at) values ($1, $2, $3, $4) on conflict (sid) do nothing',
      [text.sid, last?.utility_id ?? null, word ?? 'other', now])
    if (rowCount === 0 || word === null || last === undefined) return false
    const here = scope === 'all' ? known : known.filter((c) => c.utility_id === last.utility_id)
    const holder = { actor: 'holder', via: `text: ${word}`, wording: text.body.slice(0, 200) }
    if (word === 'help') return reply(client, sealer, last, { t: 'reply', word: 'help', category: 'all' }, now)
    if (word === 'start') {
      const resumed = inOrder(here.flatMap((c) => c.stopped))
      await resume(client, here, holder, now)
      const what = resumed.length === 1 ? resumed[0] : 'all'
      return resumed.length > 0 && reply(client, sealer, last, { t: 'reply', word: 'resumed', category: what }, now)
    }
    // Who answers a code with STOP did not ask for it: nothing more comes.
    const ended = scope === 'all' || last.purpose === 'code' ? [...categories] : [last.category]
    const changed = await stop(client, here, ended, holder, now)
    return changed && reply(client, sealer, last, { t: 'reply', word: 'stopped', category: ended.length === 1 ? ended[0] : 'all' }, now)
  })
}

/** Ends a category (null: all) for one contact, from the link in a mail. Doing it again changes nothing. */
export async function unsubscribe(pool: Pool, contactId: string, category: Category | null, now: Date): Promise<{ language: string; utility: string | null } | null> {
  return inTransaction(pool, async (client) => {
    const { rows } = await client.query<Target & { language: string; utility: string | null }>(
      `select ${TARGET}, c.language, u.name as utility from contact c join account a using (account_id) join utility u on u.utility_id = c.utility_id
        where c.contact_id = $1 for no key update of c`, [contactId])
    if (rows.length === 0) return null
    await stop(client, rows, category === null ? [...categories] : [category], { actor: 'holder', via: 'unsubscribe link', wording: null }, now)
    return rows[0]
  })
}

/** The mail server knows no such address: nothing more is sent to it until it is verified anew. */
export async function bounce(pool: Pool, contactId: string, now: Date): Promise<void> {
  await inTransaction(pool, async (client) => {
    const { rows } = await client.query<Target>(
      `update contact c set state = 'bounced' from account a
        where c.contact_id = $1 and c.state = 'active' and c.deleted_at is null and a.account_id = c.account_id returning ${TARGET}`, [contactId])
    if (rows.length === 0) return
    await record(client, rows[0], 'bounced', [...categories], { actor: 'server', via: 'mail server', wording: null }, now)
    await tellWebhooks(client, rows[0].utility_id, 'contact.bounced', { account: rows[0].account, contact: contactId }, now)
  })
}

interface Holder {
  readonly actor: string
  readonly via: string
  readonly wording: string | null
}

async function stop(db: Queryable, targets: readonly Target[], ended: readonly Category[], holder: Holder, now: Date): Promise<boolean> {
  let changed = false
  for (const c of targets) {
    const fresh = ended.filter((category) => !c.stopped.includes(category))
    if (fresh.length === 0) continue
    changed = true
    const all = inOrder([...c.stopped, ...fresh])
    const isOver = all.length === categories.length
    await db.query(
      `update contact set stopped = $2, state = case when $3 and state in ('active', 'pending') then 'stopped' else state end
        where contact_id = $1`, [c.contact_id, all, isOver])
    await record(db, c, 'stopped', fresh, holder, now)
    await tellWebhooks(db, c.utility_id, 'contact.stopped', { account: c.account, contact: c.contact_id, categories: fresh }, now)
  }
  return changed
}

async function resume(db: Queryable, targets: readonly Target[], holder: Holder, now: Date): Promise<void> {
  for (const c of targets) {
    if (c.stopped.length === 0) continue
    await db.query(
      `update contact set stopped = '{}', state = case when state <> 'stopped' then state when verified_at is null then 'pending' else 'active' end
        where contact_id = $1`, [c.contact_id])
    await record(db, c, 'resumed', c.stopped, holder, now)
  }
}

async function record(
  db: Queryable, c: Target, action: 'stopped' | 'resumed' | 'bounced', ended: readonly string[], holder: Holder, now: Date,
): Promise<void> {
  await recordConsent(db, [{
    utilityId: c.utility_id, account: c.account, contactId: c.contact_id, channel: c.channel, addressHash: c.address_hash, action,
    categories: ended, ...holder,
  }], now)
}

interface LastMessage {
  contact_id: string
  account_id: number
  utility_id: number
  category: Category
  purpose: string
}

/** What was sent last to any of the contacts, answers aside; where nothing was, their first stands for it. */
async function lastMessage(db: Queryable, known: readonly Target[]): Promise<LastMessage | undefined> {
  if (known.length === 0) return undefined
  const { rows } = await db.query<LastMessage>(
    `select contact_id, account_id, utility_id, category, purpose from message
      where contact_id = any($1::uuid[]) and purpose <> 'reply' and state in ('sent', 'unknown', 'captured', 'sending') and handed_at is not null
      order by handed_at desc limit 1`, [known.map((c) => c.contact_id)])
  return rows[0] ?? { ...known[0], category: 'usage', purpose: 'code' }
}

async function reply(db: Queryable, sealer: Sealer, to: LastMessage, content: MessageContent, now: Date): Promise<boolean> {
  const { rows } = await db.query<{ count: number }>(
    `select count(*) as count from message where contact_id = $1 and purpose = 'reply' and created_at > $2`,
    [to.contact_id, new Date(now.getTime() - 3_600_000)])
  if (rows[0].count >= REPLIES_PER_HOUR) return false
  const id = randomUUID()
  await db.query(
    `insert into message (message_id, utility_id, account_id, contact_id, purpose, category, channel, body_enc, state, next_at, created_at)
     values ($1, $2, $3, $4, 'reply', $5, 'sms', $6, 'pending', $7, $7)`,
    [id, to.utility_id, to.account_id, to.contact_id, to.category, sealer.seal('message', id, JSON.stringify(content)), now])
  return true
}
