import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'
import { categories, type Category } from '../notify/content.js'

const MAC = 16
const ID = 16

/** Signs and reads the tokens of unsubscribe links: a contact and a category, nothing personal, and no end. */
export interface LinkSigner {
  sign(contactId: string, category: Category): string
  /** undefined for what this installation has not signed. */
  read(token: string): { contactId: string; category: Category } | undefined
}

export function createLinkSigner(secretKey: Uint8Array): LinkSigner {
  const key = Buffer.from(hkdfSync('sha256', secretKey, '', 'meterline/unsubscribe/1', 32))
  const macOf = (body: Buffer): Buffer => createHmac('sha256', key).update(body).digest().subarray(0, MAC)
  return {
    sign(contactId, category) {
      const body = Buffer.concat([Buffer.from(contactId.replaceAll('-', ''), 'hex'), Buffer.of(categories.indexOf(category))])
      return Buffer.concat([body, macOf(body)]).toString('base64url')
    },
    read(token) {
      const bytes = Buffer.from(token, 'base64url')
      if (bytes.length !== ID + 1 + MAC) return undefined
      const body = bytes.subarray(0, ID + 1)
      if (!timingSafeEqual(macOf(body), bytes.subarray(ID + 1))) return undefined
      const hex = body.toString('hex', 0, ID)
      const contactId = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
      return { contactId, category: categories[body[ID]] }
    },
  }
}
