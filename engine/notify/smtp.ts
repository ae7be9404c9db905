import { Readable } from 'node:stream'
import { createTransport } from 'nodemailer'
import { mailHtml } from './mail-html.js'
import { plainText } from './render.js'
import type { HandOver, SendOutcome, Transport } from './transport.js'

export interface SmtpOptions {
  /** `smtp://` or `smtps://` with user and password where the server wants them. */
  url: string
  /** Address, with or without a name, that messages come from. */
  from: string
  /** Connections kept open. */
  connections: number
  /** A server that is silent for so long has failed the attempt. */
  timeoutMs?: number
}

interface SmtpError {
  code?: string
  responseCode?: number
  response?: string
}

/**
 * E-mail over pooled SMTP connections. The message is given to the connection as a stream that calls `handOver` when it
 * is first read, which is after the server's 354 and before the first byte: an attempt that broke off earlier was
 * certainly not delivered.
 */
export function createSmtpTransport({ url, from, connections, timeoutMs = 30_000 }: SmtpOptions): Transport {
  const handOvers = new Map<string, HandOver>()
  const mailer = createTransport({
    url,
    pool: true,
    maxConnections: connections,
    // Retries are the outbox's, which knows what may be sent again; this one is for kept connections gone stale.
    maxRequeues: 1,
    connectionTimeout: Math.min(timeoutMs, 10_000),
    greetingTimeout: Math.min(timeoutMs, 10_000),
    socketTimeout: timeoutMs,
    disableFileAccess: true,
    disableUrlAccess: true,
  })
  mailer.use('stream', (mail, done) => {
    const handOver = handOvers.get(String(mail.data.messageId))
    const { message } = mail
    if (handOver === undefined || message === undefined) {
      done()
      return
    }
    // Written out before a connection is taken: the server waits for nothing but the hand-over, and gets it in one piece.
    message.build((err, raw) => {
      if (err === null || err === undefined) message.createReadStream = () => afterHandOver(handOver, raw)
      done(err)
    })
  })
  // A kept connection that breaks while nothing is in flight is nobody's failure.
  mailer.on('error', () => undefined)
  const domain = /@([^\s>]+)/.exec(from)?.[1] ?? 'localhost'
  return {
    async send(message, handOver, signal) {
      const messageId = `<${message.messageId}@${domain}>`
      let handed: 'no' | 'yes' | 'refused' = 'no'
      handOvers.set(messageId, async () => {
        const isDue = await handOver()
        handed = isDue ? 'yes' : 'refused'
        return isDue
      })
      const stateNow = (): typeof handed => handed
      try {
        await mailer.sendMail({
          from,
          to: { name: '', address: message.to },
          subject: message.view.subject,
          text: plainText(message.view),
          html: mailHtml(message.view, message.chart),
          ...(message.chart === null ? {} : {
            attachments: [{ filename: 'chart.png', content: message.chart.png, cid: 'chart', contentDisposition: 'inline' as const, contentType: 'image/png' }] }),
          messageId,
          headers: { 'Auto-Submitted': 'auto-generated', ...unsubscribeHeaders(message.view.unsubscribe?.href ?? null) },
          signal,
        })
        return { state: 'sent' }
      } catch (err) {
        const state = stateNow()
        return state === 'refused' ? { state: 'withdrawn' } : classify(err as SmtpError, state === 'yes')
      } finally {
        handOvers.delete(messageId)
      }
    },
    close: () => mailer.close(),
  }
}

/** RFC 2369 and RFC 8058: the mail program's own button posts to the address, without a question. */
function unsubscribeHeaders(url: string | null): Record<string, string> {
  return url === null ? {} : { 'List-Unsubscribe': `<${url}>`, 'List-Unsubscribe-Post': 'List-Unsubscribe=One-Click' }
}

function afterHandOver(handOver: HandOver, raw: Buffer): Readable {
  let isAsked = false
  return new Readable({
    read() {
      if (isAsked) return
      isAsked = true
      handOver().then((isDue) => {
        if (isDue) {
          this.push(raw)
          this.push(null)
        } else this.destroy(new Error('the message was withdrawn'))
        // Throwing breaks the connection within DATA, and a server does not deliver a message without its end.
      }, (err: unknown) => this.destroy(err instanceof Error ? err : new Error(String(err))))
    },
  })
}

function classify(err: SmtpError, isHandedOver: boolean): SendOutcome {
  const reason = describe(err)
  const isAboutMessage = err.code === 'EENVELOPE' || err.code === 'EMESSAGE'
  if (isAboutMessage && err.responseCode !== undefined) {
    if (err.responseCode < 500) return { state: 'retry', reason }
    return { state: 'failed', reason, bounced: isAddressGone(err) }
  }
  return { state: isHandedOver ? 'unknown' : 'retry', reason }
}

/** True where the server says that there is no such mailbox, not that it dislikes this message (RFC 3463: 5.1.1, 5.1.2, 5.1.3, 5.1.6, 5.1.10, 5.2.1). */
function isAddressGone({ code, responseCode, response }: SmtpError): boolean {
  const status = /^\d{3}[ -](\d\.\d{1,3}\.\d{1,3})/.exec(response ?? '')?.[1]
  if (status !== undefined) return code === 'EENVELOPE' && /^5\.(1\.([1236]|10)|2\.1)$/.test(status)
  return code === 'EENVELOPE' && (responseCode === 550 || responseCode === 553)
}

/** Codes alone: servers repeat the recipient's address in their words. */
function describe({ code, response }: SmtpError): string {
  const reply = /^(\d{3})(?:[ -](\d\.\d{1,3}\.\d{1,3}))?/.exec(response ?? '')
  return ['smtp', code ?? 'error', reply?.[1], reply?.[2]].filter((part) => part !== undefined).join(' ')
}
