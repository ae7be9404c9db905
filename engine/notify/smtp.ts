import { Readable } from 'node:stream'
import { createTransport } from 'nodemailer'
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
    if (handOver !== undefined && message !== undefined) {
      const content = message.createReadStream.bind(message)
      message.createReadStream = () => Readable.from(afterHandOver(handOver, content), { objectMode: false })
    }
    done()
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
          subject: message.text.subject,
          text: message.text.body,
          messageId,
          headers: { 'Auto-Submitted': 'auto-generated' },
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

async function* afterHandOver(handOver: HandOver, content: () => Readable): AsyncGenerator<Uint8Array> {
  // Throwing breaks the connection within DATA, and a server does not deliver a message without its end.
  if (!await handOver()) throw new Error('the message was withdrawn')
  yield* content() as AsyncIterable<Uint8Array>
}

function classify(err: SmtpError, isHandedOver: boolean): SendOutcome {
  const reason = describe(err)
  const isAboutMessage = err.code === 'EENVELOPE' || err.code === 'EMESSAGE'
  if (isAboutMessage && err.responseCode !== undefined) {
    return { state: err.responseCode >= 500 ? 'failed' : 'retry', reason }
  }
  return { state: isHandedOver ? 'unknown' : 'retry', reason }
}

/** Codes alone: servers repeat the recipient's address in their words. */
function describe({ code, response }: SmtpError): string {
  const reply = /^(\d{3})(?:[ -](\d\.\d{1,3}\.\d{1,3}))?/.exec(response ?? '')
  return ['smtp', code ?? 'error', reply?.[1], reply?.[2]].filter((part) => part !== undefined).join(' ')
}
