import { createSmsTransport } from './sms.js'
import { createSmtpTransport } from './smtp.js'
import { byChannel, captureTransport, type Transport } from './transport.js'

/** The settings of contract §2 that say how messages leave; a channel without its own is captured. */
export interface NotifySettings {
  readonly smtpUrl: string | null
  readonly mailFrom: string | null
  readonly smsUrl: string | null
  readonly smsAccount: string | null
  readonly smsToken: string | null
  readonly smsFrom: string | null
}

/** Messages under way at a time, and connections kept to the mail server. */
export const SEND_CONCURRENCY = 8

/** The transport of these settings. @throws RangeError where SMTP_URL or SMS_URL is set without what it needs */
export function createTransports(settings: NotifySettings): Transport {
  return byChannel({ email: emailTransport(settings), sms: smsTransport(settings) })
}

function emailTransport({ smtpUrl, mailFrom }: NotifySettings): Transport {
  if (smtpUrl === null) return captureTransport
  if (mailFrom === null) throw new RangeError('SMTP_URL needs MAIL_FROM')
  return createSmtpTransport({ url: smtpUrl, from: mailFrom, connections: SEND_CONCURRENCY })
}

function smsTransport({ smsUrl, smsAccount, smsToken, smsFrom }: NotifySettings): Transport {
  if (smsUrl === null) return captureTransport
  if (smsAccount === null || smsToken === null || smsFrom === null) {
    throw new RangeError('SMS_URL needs SMS_ACCOUNT, SMS_TOKEN and SMS_FROM')
  }
  return createSmsTransport({ url: smsUrl, account: smsAccount, token: smsToken, from: smsFrom })
}
