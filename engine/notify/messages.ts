import type { Sealer } from '../contacts/seal.js'
import type { Queryable } from '../store/db.js'
import type { Category } from './content.js'
import { inStages, stagesBefore } from './life-cycle.js'
import { openContent } from './parcel.js'
import { messageView, plainText } from './render.js'

export const messageStates = ['pending', 'sending', 'sent', 'failed', 'dropped', 'captured', 'unknown'] as const
export type MessageState = (typeof messageStates)[number]

export interface MessageView {
  id: string
  account: string | null
  contact: string | null
  /** Masked. */
  address: string | null
  channel: string
  purpose: string
  category: Category
  /** It goes, or went, out together with others. */
  digest: boolean
  alert: string | null
  state: MessageState
  attempts: number
  /** Why it was not sent, in codes. */
  error: string | null
  createdAt: string
  doneAt: string | null
  /** Of captured messages alone: what is sent is personal. */
  subject: string | null
  text: string | null
}

export interface MessageFilter {
  readonly limit: number
  readonly state?: MessageState
  readonly account?: string
  /** Place of the last message seen: its created_at as the database writes it, and its id. */
  readonly after?: { readonly createdAt: string; readonly id: string }
  /** Purposes of captured messages whose text may be shown. */
  readonly readable: readonly string[]
}

interface Row {
  message_id: string
  account: string | null
  contact_id: string | null
  masked: string | null
  channel: string
  purpose: string
  alert_id: string | null
  state: MessageState
  attempts: number
  last_error: string | null
  created_at: Date
  created_text: string
  done_at: Date | null
  body_enc: Buffer
  category: Category
  digest: boolean
  language: string | null
  utility_name: string | null
  utility_phone: string | null
  utility_links: Record<string, string>
}

/** One more than a page of the utility's messages, newest first, each with the text of its place for a cursor. */
export async function listMessages(
  db: Queryable, sealer: Sealer, utilityId: number, filter: MessageFilter,
): Promise<{ view: MessageView; createdAt: string }[]> {
  const { rows } = await db.query<Row>(
    `select m.message_id, a.id as account, m.contact_id, c.masked, m.channel, m.purpose, m.alert_id, m.state, m.attempts,
            m.last_error, m.created_at, m.created_at::text as created_text, m.done_at, m.body_enc, m.category, m.digest,
            c.language, u.name as utility_name, u.phone as utility_phone, u.links as utility_links
       from message m
       join utility u on u.utility_id = m.utility_id
       left join account a using (account_id)
       left join contact c using (contact_id)
      where m.utility_id = $1 and ($2::text is null or m.state = $2) and ($3::text is null or a.id = $3)
        and ($4::timestamptz is null or (m.created_at, m.message_id) < ($4, $5::uuid))
      order by m.created_at desc, m.message_id desc limit $6`,
    [utilityId, filter.state ?? null, filter.account ?? null, filter.after?.createdAt ?? null, filter.after?.id ?? null,
      filter.limit + 1])
  return rows.map((r) => ({ view: toView(r, sealer, filter.readable), createdAt: r.created_text }))
}

function toView(r: Row, sealer: Sealer, readable: readonly string[]): MessageView {
  const text = r.state === 'captured' && readable.includes(r.purpose) ? openText(r, sealer) : null
  return {
    id: r.message_id,
    account: r.account,
    contact: r.contact_id,
    address: r.masked,
    channel: r.channel,
    purpose: r.purpose,
    category: r.category,
    digest: r.digest,
    alert: r.alert_id,
    state: r.state,
    attempts: r.attempts,
    error: r.last_error,
    createdAt: r.created_at.toISOString(),
    doneAt: r.done_at?.toISOString() ?? null,
    subject: text?.subject ?? null,
    text: text?.text ?? null,
  }
}

/** The message in words; null where it was sealed under another SECRET_KEY: the list is still of use. */
function openText(r: Row, sealer: Sealer): { subject: string; text: string } | null {
  try {
    const view = messageView(openContent(sealer, r), {
      language: r.language ?? 'en', category: r.category, unsubscribeUrl: null,
      utility: { name: r.utility_name, phone: r.utility_phone, links: r.utility_links },
    })
    return r.channel === 'sms' ? { subject: '', text: view.sms } : { subject: view.subject, text: plainText(view) }
  } catch {
    return null
  }
}

/**
 * Sends dead letters again: one message (of state failed, or of unknown, which may tell somebody twice), or all that failed. What
 * does not hold any more is dropped when its turn comes.
 * @returns how many wait in the outbox again
 */
export async function replayMessages(db: Queryable, utilityId: number, messageId: string | null, now: Date): Promise<number> {
  const stages = messageId === null ? ['failed' as const] : stagesBefore('replay')
  const { rowCount } = await db.query(
    `update message m set state = 'pending', attempts = 0, next_at = $3, done_at = null, handed_at = null
      where utility_id = $1 and ($2::uuid is null or message_id = $2) and ${inStages(stages)} and body_enc <> ''::bytea`, [utilityId, messageId, now])
  return rowCount ?? 0
}
