import type { Sealer } from '../contacts/seal.js'
import type { MessageContent } from './content.js'
import type { LeasedMessage } from './outbox-store.js'
import { digestView, messageView, type MessageView, type RenderContext } from './render.js'

/** What goes out in one piece: a message, or all that a contact's digest holds. */
export interface Parcel {
  readonly messages: readonly LeasedMessage[]
  /** The first of them: its id names the parcel. */
  readonly first: LeasedMessage
}

/** Parcels of leased messages: each alone, but those of one contact's digest together. In the order given. */
export function toParcels(messages: readonly LeasedMessage[]): Parcel[] {
  const parcels: Parcel[] = []
  const digests = new Map<string, LeasedMessage[]>()
  for (const m of messages) {
    if (!m.digest) {
      parcels.push({ messages: [m], first: m })
      continue
    }
    const known = digests.get(m.contact_id)
    if (known === undefined) {
      const list = [m]
      digests.set(m.contact_id, list)
      parcels.push({ messages: list, first: m })
    } else known.push(m)
  }
  return parcels
}

/** What the link in a message does: ends its category to its contact. null: there is no public address to lead to. */
export type UnsubscribeLink = (contactId: string, category: LeasedMessage['category']) => string | null

/** The content of a message as it was sealed. @throws Error where it was sealed under another key */
export function openContent(sealer: Sealer, message: { message_id: string; body_enc: Buffer }): MessageContent {
  return JSON.parse(sealer.open('message', message.message_id, message.body_enc)) as MessageContent
}

/** The words of a parcel in its contact's language. @throws Error as {@link openContent} */
export function viewOf(parcel: Parcel, contents: readonly MessageContent[], link: UnsubscribeLink): MessageView {
  const { first } = parcel
  const isSubscribed = first.purpose !== 'code' && first.purpose !== 'reply'
  const context: RenderContext = {
    language: first.language, category: first.category,
    utility: { name: first.utility_name, phone: first.utility_phone, links: first.utility_links },
    unsubscribeUrl: isSubscribed && first.channel === 'email' ? link(first.contact_id, first.category) : null,
  }
  return first.digest ? digestView(contents, context) : messageView(contents[0], context)
}
