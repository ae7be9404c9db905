import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { createSealer, type NotifySecrets } from '../contacts/seal.js'
import { isUnavailable, type Pool } from '../store/db.js'
import {
  beginHandOver, endAttempt, giveUpLostHandOvers, leaseMessages, renewLeases, type AttemptEnd, type LeasedMessage,
} from './outbox-store.js'
import type { MessageText } from './text.js'
import type { SendOutcome, Transport } from './transport.js'

export interface OutboxOptions {
  readonly pool: Pool
  readonly transport: Transport
  readonly secrets: NotifySecrets
  readonly log: Pick<Logger, 'warn' | 'error'>
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly pollMs?: number
  /** Messages under way at a time. */
  readonly concurrency?: number
  /** An attempt is broken off after this. */
  readonly attemptMs?: number
  readonly maxAttempts?: number
  /** A sender that is gone is noticed after this: its leases are not renewed any more. */
  readonly leaseMs?: number
  /** First delay before a message is tried again; it doubles up to an hour. */
  readonly backoffMs?: number
  /** Told of each attempt's end and how long after its writing the message left, for metrics. */
  readonly onAttempt?: (message: { channel: string; purpose: string; state: AttemptEnd['state']; ageMs: number }) => void
}

export interface Outbox {
  /** There may be new messages: look now. */
  wake(): void
  /** Takes no more messages, waits for those under way and closes the transport. */
  stop(): Promise<void>
}

const HOUR_MS = 3_600_000
/** How often the end of an attempt is written while the database cannot be reached, over about half a minute. */
const RECORD_TRIES = 10

/**
 * Sends the messages that transactions left in the database, each under a lease, so that any number of processes may
 * do it together. Every attempt ends in the database: sent, captured, to be tried again, failed, dropped, or unknown.
 */
export function startOutbox(options: OutboxOptions): Outbox {
  const { pool, transport, log, now, pollMs = 250, concurrency = 8, attemptMs = 120_000 } = options
  const { maxAttempts = 12, backoffMs = 5_000 } = options
  const sealer = createSealer(options.secrets)
  const { leaseMs = 15_000 } = options
  const underWay = new Set<Promise<void>>()
  const leases = new Map<Promise<void>, string>()
  const stopping = new AbortController()
  let wakeUp = new AbortController()

  async function deliver(message: LeasedMessage, lease: string): Promise<void> {
    const outcome = await attempt(message, lease)
    const end = toEnd(outcome, message)
    await record(() => endAttempt(pool, message.message_id, lease, end, new Date(now())))
    options.onAttempt?.({
      channel: message.channel, purpose: message.purpose, state: end.state, ageMs: now() - message.created_at.getTime(),
    })
    if (end.error !== null) {
      log.warn({ message: message.message_id, state: end.state, attempt: message.attempts, reason: end.error }, 'message not sent')
    }
  }

  async function attempt(message: LeasedMessage, lease: string): Promise<SendOutcome | 'early'> {
    if (message.waits) return 'early'
    if (!message.is_due) return { state: 'withdrawn' }
    let to: string
    let text: MessageText
    try {
      to = sealer.open('address', message.contact_id, message.address_enc)
      text = JSON.parse(sealer.open('message', message.message_id, message.body_enc)) as MessageText
    } catch {
      return { state: 'failed', reason: 'sealed under another SECRET_KEY' }
    }
    // A stop does not wait for a server that has not been given anything yet.
    const notBegun = new AbortController()
    const breakOff = (): void => notBegun.abort()
    if (stopping.signal.aborted) breakOff()
    else stopping.signal.addEventListener('abort', breakOff)
    const handOver = async (): Promise<boolean> => {
      stopping.signal.removeEventListener('abort', breakOff)
      return beginHandOver(pool, message.message_id, lease, new Date(now()), new Date(now() + leaseMs))
    }
    const { message_id: messageId, channel } = message
    try {
      const signal = AbortSignal.any([notBegun.signal, AbortSignal.timeout(attemptMs)])
      return await transport.send({ messageId, channel, to, text }, handOver, signal)
    } finally {
      stopping.signal.removeEventListener('abort', breakOff)
    }
  }

  function toEnd(outcome: SendOutcome | 'early', message: LeasedMessage): AttemptEnd {
    const at = new Date(now())
    if (outcome === 'early') return { state: 'pending', nextAt: new Date(now() + 1_000), error: null, isCounted: false }
    switch (outcome.state) {
      case 'sent':
      case 'captured':
        return { state: outcome.state, nextAt: at, error: null, isCounted: true }
      case 'withdrawn':
        return { state: 'dropped', nextAt: at, error: null, isCounted: true }
      case 'failed':
      case 'unknown':
        return { state: outcome.state, nextAt: at, error: outcome.reason, isCounted: true }
      case 'retry': {
        const isLast = message.attempts >= maxAttempts
        const waitMs = Math.min(backoffMs * 2 ** (message.attempts - 1), HOUR_MS) * (0.75 + Math.random() / 2)
        return {
          state: isLast ? 'failed' : 'pending', nextAt: new Date(now() + waitMs), error: outcome.reason, isCounted: true,
        }
      }
    }
  }

  /** What became of a message is known here alone: a database that is away for a while must not make it unknown. */
  async function record(write: () => Promise<void>): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await write()
      } catch (err) {
        if (!isUnavailable(err) || attempt === RECORD_TRIES || stopping.signal.aborted) throw err
        await pause(500 * attempt, stopping.signal)
      }
    }
  }

  function start(message: LeasedMessage, lease: string): void {
    const work = deliver(message, lease)
      // The lease runs out, and another look decides: before hand-over it is tried again, after it is unknown.
      .catch((err: unknown) => log.error({ err, message: message.message_id }, 'the end of an attempt was not recorded'))
      .finally(() => {
        underWay.delete(work)
        leases.delete(work)
        wake()
      })
    underWay.add(work)
    leases.set(work, lease)
  }

  async function look(): Promise<void> {
    await giveUpLostHandOvers(pool, new Date(now()))
    while (!stopping.signal.aborted && underWay.size < concurrency) {
      const lease = randomUUID()
      const free = concurrency - underWay.size
      const messages = await leaseMessages(pool, lease, free, new Date(now()), new Date(now() + leaseMs))
      for (const message of messages) start(message, lease)
      if (messages.length < free) return
    }
  }

  async function run(): Promise<void> {
    let isTroubled = false
    while (!stopping.signal.aborted) {
      // Made before the look: a wake-up during it is not lost.
      wakeUp = new AbortController()
      try {
        await look()
        isTroubled = false
      } catch (err) {
        if (!isTroubled) log.error({ err }, 'the outbox cannot be read')
        isTroubled = true
      }
      if (isTroubled) await pause(Math.max(pollMs, 1_000), stopping.signal)
      else await pause(pollMs, wakeUp.signal)
    }
  }

  function wake(): void {
    wakeUp.abort()
  }

  const heart = setInterval(() => {
    if (leases.size === 0) return
    renewLeases(pool, [...new Set(leases.values())], new Date(now() + leaseMs))
      .catch((err: unknown) => log.warn({ err }, 'the leases of messages under way were not renewed'))
  }, leaseMs / 3)
  const running = run()
  return {
    wake,
    async stop() {
      stopping.abort()
      wake()
      await running
      await Promise.all(underWay)
      clearInterval(heart)
      transport.close()
    },
  }
}

/** Waits, or less where the signal comes first. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal })
  } catch {
    // Woken.
  }
}
