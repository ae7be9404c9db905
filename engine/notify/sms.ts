import type { SendOutcome, Transport } from './transport.js'

export interface SmsOptions {
  /** Of a Twilio-compatible Messages API: the server, or the whole address of Messages.json. */
  url: string
  account: string
  token: string
  /** Number or service that messages come from. */
  from: string
}

// Errors of fetch after which no request can have reached the gateway.
const NOT_SENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'])

/** Text messages over a Twilio-compatible HTTP API. */
export function createSmsTransport({ url, account, token, from }: SmsOptions): Transport {
  const address = url.endsWith('.json')
    ? url : `${url.replace(/\/$/, '')}/2010-04-01/Accounts/${encodeURIComponent(account)}/Messages.json`
  const authorization = `Basic ${Buffer.from(`${account}:${token}`).toString('base64')}`
  return {
    async send(message, handOver, signal) {
      if (!await handOver()) return { state: 'withdrawn' }
      try {
        const answer = await fetch(address, {
          method: 'POST',
          // A kept connection that the gateway closed meanwhile could not be told from a lost answer.
          headers: { authorization, connection: 'close' },
          body: new URLSearchParams({ To: message.to, From: from, Body: message.text.body }),
          redirect: 'error',
          signal,
        })
        await answer.body?.cancel()
        return classify(answer.status)
      } catch (err) {
        const code = codeOf(err)
        return { state: NOT_SENT.has(code) ? 'retry' : 'unknown', reason: `sms ${code}` }
      }
    },
    close() {
      // No connection is kept.
    },
  }
}

function classify(status: number): SendOutcome {
  const reason = `sms http ${status}`
  if (status >= 200 && status < 300) return { state: 'sent' }
  if (status === 429 || status === 503) return { state: 'retry', reason }
  // Another 5xx may have come after the message was queued.
  return { state: status >= 500 ? 'unknown' : 'failed', reason }
}

function codeOf(err: unknown): string {
  if (!(err instanceof Error)) return 'error'
  const { cause } = err
  return (cause instanceof Error ? (cause as NodeJS.ErrnoException).code : undefined) ?? err.name
}
