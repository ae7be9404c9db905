import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { createSealer, type NotifySecrets } from '../contacts/seal.js'
import { isUnavailable, type Pool } from '../store/db.js'
import { getZone } from '../time/zone.js'
import { LATE_S } from './announce.js'
import type { MessageContent } from './content.js'
import {
  beginHandOver, endAttempt, giveUpLostHandOvers, leaseMessages, renewLeases, stateAfter, type AttemptEnd, type LeasedMessage,
} from './outbox-store.js'
import { openContent, toParcels, viewOf, type Parcel, type UnsubscribeLink } from './parcel.js'
import { nextDigest, quietOf, quietUntil } from './quiet.js'
import type { MessageView } from './render.js'
import type { MailChart, SendOutcome, Transport } from './transport.js'

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
  readonly onAttempt?: (message: { channel: string; purpose: string; state: ReturnType<typeof stateAfter>; ageMs: number }) => void
  /** Where a mail's one-click unsubscribe leads; without it mails have none. */
  readonly unsubscribeLink?: UnsubscribeLink
  /** Draws the chart beside a mail; null where there is none to show, or no time for it. Never throws. */
  readonly chart?: (message: LeasedMessage, content: MessageContent) => Promise<MailChart | null>
  /** Told that the server knows no such address. */
  readonly onBounce?: (contactId: string) => Promise<void>
}

export interface Outbox {
  /** There may be new messages: look now. */
  wake(): void
  /** Takes no more messages, waits for those under way and closes the transport. */
  stop(): Promise<void>
}

const HOUR_MS = 3_600_000
/** Messages leased ahead, for each that may be under way. */
const AHEAD = 4
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
  /** Leased, and not begun. */
  const waiting: { parcel: Parcel; lease: string }[] = []
  let lostSoughtAt = -Infinity
  /** The last look found nothing more that is due. */
  let isDry = false
  const stopping = new AbortController()
  let wakeUp = new AbortController()

  async function deliver(parcel: Parcel, lease: string): Promise<void> {
    const { messages, first } = parcel
    const outcome = await attempt(parcel, lease)
    const end = toEnd(outcome, messages)
    await record(() => endAttempt(pool, messages.map((m) => m.message_id), lease, end, new Date(now())))
    if (outcome !== 'early' && outcome.state === 'failed' && outcome.bounced === true) await options.onBounce?.(first.contact_id)
    const state = stateAfter(end.event)
    for (const m of messages) {
      options.onAttempt?.({ channel: m.channel, purpose: m.purpose, state, ageMs: now() - m.created_at.getTime() })
    }
    if (end.error !== null) {
      log.warn({ message: first.message_id, count: messages.length, state, attempt: first.attempts, reason: end.error }, 'message not sent')
    }
  }

  async function attempt(parcel: Parcel, lease: string): Promise<SendOutcome | 'early'> {
    const { messages, first } = parcel
    const { message_id: messageId, channel } = first
    let to: string
    let view: MessageView
    let contents: MessageContent[]
    try {
      to = sealer.open('address', first.contact_id, first.address_enc)
      contents = messages.map((m) => openContent(sealer, m))
      view = viewOf(parcel, contents, options.unsubscribeLink ?? (() => null))
    } catch {
      return { state: 'failed', reason: 'sealed under another SECRET_KEY' }
    }
    const chart = channel === 'email' && !first.digest ? await options.chart?.(first, contents[0]) ?? null : null
    // A stop does not wait for a server that has not been given anything yet.
    const notBegun = new AbortController()
    const breakOff = (): void => notBegun.abort()
    if (stopping.signal.aborted) breakOff()
    else stopping.signal.addEventListener('abort', breakOff)
    const handOver = async (): Promise<boolean> => {
      stopping.signal.removeEventListener('abort', breakOff)
      return beginHandOver(pool, messages.map((m) => m.message_id), lease, new Date(now()), new Date(now() + leaseMs))
    }
    try {
      const signal = AbortSignal.any([notBegun.signal, AbortSignal.timeout(attemptMs)])
      const outcome = await transport.send({ messageId, channel, to, view, chart }, handOver, signal)
      // Of a digest, one line was taken back meanwhile: the others go out without it.
      return outcome.state === 'withdrawn' && messages.length > 1 ? 'early' : outcome
    } finally {
      stopping.signal.removeEventListener('abort', breakOff)
    }
  }

  function toEnd(outcome: SendOutcome | 'early', messages: readonly LeasedMessage[]): AttemptEnd {
    const at = new Date(now())
    if (outcome === 'early') return { event: 'deferred', nextAt: at, error: null, isCounted: false }
    switch (outcome.state) {
      case 'sent':
        return { event: 'accepted', nextAt: at, error: null, isCounted: true }
      case 'captured':
        return { event: 'captured', nextAt: at, error: null, isCounted: true }
      case 'withdrawn':
        return { event: 'withdrawn', nextAt: at, error: null, isCounted: true }
      case 'failed':
        return { event: 'refused', nextAt: at, error: outcome.reason, isCounted: true }
      case 'unknown':
        return { event: 'uncertain', nextAt: at, error: outcome.reason, isCounted: true }
      case 'retry': {
        const attempts = Math.max(...messages.map((m) => m.attempts))
        const waitMs = Math.min(backoffMs * 2 ** (attempts - 1), HOUR_MS) * (0.75 + Math.random() / 2)
        return {
          event: attempts >= maxAttempts ? 'refused' : 'deferred', nextAt: new Date(now() + waitMs), error: outcome.reason, isCounted: true,
        }
      }
    }
  }

  /** Sets aside what is not to be sent, or not yet; gives the parcels of the rest. */
  async function sort(messages: readonly LeasedMessage[], lease: string): Promise<Parcel[]> {
    const ready: LeasedMessage[] = []
    for (const m of messages) {
      const end = notNow(m)
      if (end === null) ready.push(m)
      else {
        await endAttempt(pool, [m.message_id], lease, end, new Date(now()))
        options.onAttempt?.({ channel: m.channel, purpose: m.purpose, state: stateAfter(end.event), ageMs: now() - m.created_at.getTime() })
      }
    }
    return toParcels(ready)
  }

  /** Why a leased message is not sent now; null where it is. */
  function notNow(m: LeasedMessage): AttemptEnd | null {
    const at = new Date(now())
    if (m.waits) return { event: 'deferred', nextAt: new Date(now() + 1_000), error: null, isCounted: false }
    if (!m.is_due) return { event: 'withdrawn', nextAt: at, error: null, isCounted: true }
    if (m.purpose === 'code' || m.purpose === 'reply' || m.zone === null) return null
    // Retries, and messages written before the member chose other hours, come to their time only here.
    const zone = getZone(m.zone)
    const quiet = quietOf(m.quiet_hours, m.channel, m.category)
    const nowS = now() / 1000
    const untilS = quietUntil(nowS, zone, quiet)
    if (untilS <= nowS) return null
    const isStale = m.purpose === 'alert' && untilS - m.created_at.getTime() / 1000 > LATE_S
    return {
      event: 'deferred', nextAt: new Date((isStale ? nextDigest(nowS, zone, quiet) : untilS) * 1000), error: null, isCounted: false,
      toDigest: isStale,
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

  function start(parcel: Parcel, lease: string): void {
    const work = deliver(parcel, lease)
      // The lease runs out, and another look decides: before hand-over it is tried again, after it is unknown.
      .catch((err: unknown) => log.error({ err, message: parcel.first.message_id }, 'the end of an attempt was not recorded'))
      .finally(() => {
        underWay.delete(work)
        leases.delete(work)
        wake()
      })
    underWay.add(work)
    leases.set(work, lease)
  }

  async function look(): Promise<void> {
    if (now() - lostSoughtAt >= pollMs) {
      lostSoughtAt = now()
      await giveUpLostHandOvers(pool, new Date(now()))
    }
    for (;;) {
      while (!stopping.signal.aborted && underWay.size < concurrency) {
        const next = waiting.shift()
        if (next === undefined) break
        start(next.parcel, next.lease)
      }
      // Leased some ahead: one statement for many messages, and a sender that is free need not wait for it.
      if (stopping.signal.aborted || waiting.length > 0 || isDry) return
      const lease = randomUUID()
      const messages = await leaseMessages(pool, lease, concurrency * AHEAD, new Date(now()), new Date(now() + leaseMs))
      for (const parcel of await sort(messages, lease)) waiting.push({ parcel, lease })
      isDry = messages.length === 0
      if (isDry) return
    }
  }

  /** Gives back what was leased and not begun. */
  async function release(): Promise<void> {
    const at = new Date(now())
    for (const { parcel, lease } of waiting.splice(0)) {
      await endAttempt(pool, parcel.messages.map((m) => m.message_id), lease, { event: 'deferred', nextAt: at, error: null, isCounted: false }, at)
    }
  }

  async function run(): Promise<void> {
    let isTroubled = false
    while (!stopping.signal.aborted) {
      // Made before the look: a wake-up during it is not lost.
      wakeUp = new AbortController()
      isDry = false
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
    if (leases.size + waiting.length === 0) return
    renewLeases(pool, [...new Set([...leases.values(), ...waiting.map((w) => w.lease)])], new Date(now() + leaseMs))
      .catch((err: unknown) => log.warn({ err }, 'the leases of messages under way were not renewed'))
  }, leaseMs / 3)
  const running = run()
  return {
    wake,
    async stop() {
      stopping.abort()
      wake()
      await running
      await release().catch((err: unknown) => log.warn({ err }, 'what was leased and not begun is sent when its lease runs out'))
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
