import { ApiError } from '../problem.js'

export type ContactChannel = 'email' | 'sms'

export interface ParsedAddress {
  /** As messages are sent to it. */
  readonly address: string
  /** As answers show it: enough to be recognised by its owner, too little to be used by anybody else. */
  readonly masked: string
}

// RFC 5321 dot-strings in ASCII; quoted local parts, address literals and anything that could break a header are refused.
const LOCAL = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$/
const DOMAIN = /^(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])$/
const E164 = /^\+[1-9]\d{7,14}$/

/** @throws ApiError 422 `invalid-address` */
export function parseAddress(channel: ContactChannel, text: string): ParsedAddress {
  return channel === 'email' ? parseEmail(text.trim()) : parseNumber(text)
}

function parseEmail(text: string): ParsedAddress {
  const at = text.lastIndexOf('@')
  const local = text.slice(0, at)
  const domain = text.slice(at + 1).toLowerCase()
  if (at < 1 || local.length > 64 || text.length > 254 || !LOCAL.test(local) || !DOMAIN.test(domain)) {
    throw new ApiError(422, 'invalid-address', 'This is not an e-mail address.',
      { at: '/address', help: 'Write it as name@example.com; a domain with other letters in its xn-- form.' })
  }
  return { address: `${local}@${domain}`, masked: `${local[0]}***@${domain}` }
}

function parseNumber(text: string): ParsedAddress {
  const number = text.replace(/[\s().-]/g, '')
  if (!E164.test(number)) {
    throw new ApiError(422, 'invalid-address', 'This is not a telephone number in E.164 form.',
      { at: '/address', help: 'Write it with the country code: +15125550123.' })
  }
  return { address: number, masked: `${number.slice(0, 2)}***${number.slice(-3)}` }
}
