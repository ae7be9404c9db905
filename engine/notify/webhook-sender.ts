import { randomUUID } from 'node:crypto'
import { lookup as resolve, type LookupAddress } from 'node:dns'
import http from 'node:http'
import https from 'node:https'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { createSealer, type NotifySecrets } from '../contacts/seal.js'
import type { Pool } from '../store/db.js'
import { signer } from './webhooks.js'

export interface WebhookSenderOptions {
  readonly pool: Pool
  readonly secrets: NotifySecrets
  readonly log: Pick<Logger, 'warn' | 'error'>
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** True: webhooks may lead into private networks and to this machine. */
  readonly allowPrivate: boolean
  readonly pollMs?: number
  readonly maxAttempts?: number
  /** First delay before a try again; it doubles up to six hours. */
  readonly backoffMs?: number
  readonly timeoutMs?: number
}

export interface WebhookSender {
  wake(): void
  /** Takes no more, and waits for what is under way. */
  stop(): Promise<void>
}

interface Leased {
  delivery_id: string
  webhook_id: string
  url: string
  secret_enc: Buffer
  payload: unknown
  attempts: number
}

/** What one attempt came to. */
export interface WebhookOutcome {
  /** null: no answer. */
  status: number | null
  error: string | null
}

const BATCH = 16
const LONGEST_MS = 6 * 3_600_000

/**
 * Posts events to webhooks, at least once each: signed by the Standard Webhooks scheme, tried again with growing delays, kept as
 * dead letters in the end. Any number of processes may do it together.
 */
export function startWebhookSender(options: WebhookSenderOptions): WebhookSender {
  const { pool, log, now, pollMs = 500, maxAttempts = 12, backoffMs = 5_000, timeoutMs = 10_000 } = options
  const sealer = createSealer(options.secrets)
  const stopping = new AbortController()
  let wakeUp = new AbortController()

  async function deliver(d: Leased, lease: string): Promise<void> {
    let outcome: WebhookOutcome
    try {
      const body = JSON.stringify(d.payload)
      const at = new Date(now())
      const headers = {
        'content-type': 'application/json', 'user-agent': 'meterline', 'webhook-id': d.delivery_id,
        'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
        'webhook-signature': signer(sealer.open('message', d.webhook_id, d.secret_enc)).sign(d.delivery_id, at, body),
      }
      outcome = await post(d.url, headers, body, timeoutMs, options.allowPrivate)
    } catch {
      outcome = { status: null, error: 'sealed under another SECRET_KEY' }
    }
    const isSent = outcome.status !== null && outcome.status >= 200 && outcome.status < 300
    // 410 Gone: the receiver wants no more of it.
    const isDead = !isSent && (d.attempts >= maxAttempts || outcome.status === 410)
    const waitMs = Math.min(backoffMs * 2 ** (d.attempts - 1), LONGEST_MS) * (0.75 + Math.random() / 2)
    await pool.query(
      `update webhook_delivery set state = $3, next_at = $4, last_status = $5, last_error = $6, lease = null, leased_until = null,
              done_at = case when $3 = 'pending' then null else $7::timestamptz end
        where delivery_id = $1 and lease = $2`,
      [d.delivery_id, lease, isSent ? 'sent' : isDead ? 'failed' : 'pending', new Date(now() + waitMs), outcome.status, outcome.error, new Date(now())])
    if (!isSent) log.warn({ webhookDelivery: d.delivery_id, attempt: d.attempts, status: outcome.status, reason: outcome.error }, 'webhook not taken')
  }

  async function look(): Promise<void> {
    while (!stopping.signal.aborted) {
      const lease = randomUUID()
      const { rows } = await pool.query<Leased>(
        `with due as (
           select delivery_id from webhook_delivery
            where state in ('pending', 'sending') and next_at <= $1 and (state = 'pending' or leased_until < $1)
            order by next_at limit $2 for update skip locked)
         update webhook_delivery d set state = 'sending', lease = $3, leased_until = $4, attempts = attempts + 1
           from due, webhook w where d.delivery_id = due.delivery_id and w.webhook_id = d.webhook_id
         returning d.delivery_id, d.webhook_id, w.url, w.secret_enc, d.payload, d.attempts`,
        [new Date(now()), BATCH, lease, new Date(now() + timeoutMs * 3)])
      await Promise.all(rows.map((d) => deliver(d, lease)))
      if (rows.length < BATCH) return
    }
  }

  async function run(): Promise<void> {
    let isTroubled = false
    while (!stopping.signal.aborted) {
      wakeUp = new AbortController()
      try {
        await look()
        isTroubled = false
      } catch (err) {
        if (!isTroubled) log.error({ err }, 'webhooks cannot be read')
        isTroubled = true
      }
      await delay(isTroubled ? Math.max(pollMs, 1_000) : pollMs, undefined, { signal: AbortSignal.any([wakeUp.signal, stopping.signal]) }).catch(() => undefined)
    }
  }

  const running = run()
  return {
    wake: () => wakeUp.abort(),
    async stop() {
      stopping.abort()
      await running
    },
  }
}

// What is not the internet: this machine, private networks, link-local (cloud metadata), multicast and reserved space.
const PRIVATE = new BlockList()
for (const [net, bits] of [['0.0.0.0', 8], ['10.0.0.0', 8], ['100.64.0.0', 10], ['127.0.0.0', 8], ['169.254.0.0', 16], ['172.16.0.0', 12],
  ['192.0.0.0', 24], ['192.168.0.0', 16], ['198.18.0.0', 15], ['224.0.0.0', 3]] as const) PRIVATE.addSubnet(net, bits, 'ipv4')
for (const [net, bits] of [['::', 127], ['64:ff9b::', 96], ['fc00::', 7], ['fe80::', 10], ['ff00::', 8]] as const) PRIVATE.addSubnet(net, bits, 'ipv6')

/** True for an address that only this machine or its network reaches. An IPv4 address in IPv6 form is judged as itself. */
export function isPrivateAddress(address: string): boolean {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1]
  if (mapped !== undefined) return PRIVATE.check(mapped, 'ipv4')
  return isIP(address) === 0 || PRIVATE.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
}

/** The address that is checked is the one that is connected to: a name cannot change its mind in between. */
const publicLookup: LookupFunction = (hostname, options, callback) => {
  resolve(hostname, { ...options, all: true }, (err, addresses: LookupAddress[]) => {
    const found = err === null ? addresses.filter((a) => !isPrivateAddress(a.address)) : []
    if (found.length === 0) {
      callback(err ?? Object.assign(new Error('a private address'), { code: 'EPRIVATE' }), [])
    } else if (options.all === true) callback(null, found)
    else callback(null, found[0].address, found[0].family)
  })
}

/** One post; redirects are not followed, and of the answer only the status is read. Never throws. */
function post(address: string, headers: Record<string, string>, body: string, timeoutMs: number, allowPrivate: boolean): Promise<WebhookOutcome> {
  return new Promise((done) => {
    const url = new URL(address)
    const host = url.hostname.replace(/^\[|\]$/g, '')
    if (!allowPrivate && isIP(host) !== 0 && isPrivateAddress(host)) {
      done({ status: null, error: 'EPRIVATE' })
      return
    }
    const request = (url.protocol === 'https:' ? https : http).request(url, {
      method: 'POST', headers: { ...headers, 'content-length': Buffer.byteLength(body) }, agent: false, signal: AbortSignal.timeout(timeoutMs),
      ...(allowPrivate ? {} : { lookup: publicLookup }),
    })
    request.on('response', (response) => {
      response.destroy()
      done({ status: response.statusCode ?? null, error: null })
    })
    request.on('error', (err: NodeJS.ErrnoException) => done({ status: null, error: err.code ?? err.name }))
    request.end(body)
  })
}
