import http from 'node:http'
import https from 'node:https'
import type { HandOver, SendOutcome, Transport } from './transport.js'

export interface SmsOptions {
  /** Of a Twilio-compatible Messages API: the server, or the whole address of Messages.json. */
  url: string
  account: string
  token: string
  /** Number or service that messages come from. */
  from: string
}

/**
 * Text messages over a Twilio-compatible HTTP API. Each goes over a connection of its own, and is handed over once that
 * stands: an attempt that broke off earlier was certainly not taken, which a kept connection (or fetch) could not tell.
 */
export function createSmsTransport({ url, account, token, from }: SmsOptions): Transport {
  const address = new URL(url.endsWith('.json')
    ? url : `${url.replace(/\/$/, '')}/2010-04-01/Accounts/${encodeURIComponent(account)}/Messages.json`)
  return {
    send(message, handOver, signal) {
      const body = new URLSearchParams({ To: message.to, From: from, Body: message.view.sms }).toString()
      return post(address, `${account}:${token}`, body, handOver, signal)
    },
    close() {
      // No connection is kept.
    },
  }
}

function post(address: URL, auth: string, body: string, handOver: HandOver, signal: AbortSignal): Promise<SendOutcome> {
  return new Promise((done) => {
    let handed: 'no' | 'yes' | 'refused' = 'no'
    const request = (address.protocol === 'https:' ? https : http).request(address, {
      method: 'POST',
      auth,
      headers: { 'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(body) },
      agent: false,
      signal,
    })
    const hand = async (): Promise<void> => {
      handed = await handOver() ? 'yes' : 'refused'
      // Nothing is written before this, the head included.
      if (handed === 'yes') request.end(body)
      else request.destroy()
    }
    request.on('socket', (socket) => {
      socket.once(address.protocol === 'https:' ? 'secureConnect' : 'connect', () => {
        hand().catch((err: unknown) => request.destroy(err instanceof Error ? err : undefined))
      })
    })
    request.on('response', (response) => {
      response.resume()
      done(classify(response.statusCode ?? 0))
    })
    request.on('error', (err: NodeJS.ErrnoException) => {
      const reason = `sms ${err.code ?? err.name}`
      done(handed === 'refused' ? { state: 'withdrawn' } : { state: handed === 'yes' ? 'unknown' : 'retry', reason })
    })
  })
}

function classify(status: number): SendOutcome {
  const reason = `sms http ${status}`
  if (status >= 200 && status < 300) return { state: 'sent' }
  if (status === 429 || status === 503) return { state: 'retry', reason }
  // Another 5xx may have come after the message was queued.
  return { state: status >= 400 && status < 500 ? 'failed' : 'unknown', reason }
}
