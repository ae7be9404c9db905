import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import { createSealer, type NotifySecrets } from '../contacts/seal.js'
import { isUnavailable, type Pool } from '../store/db.js'
import { getZone } from '../time/zone.js'
import { LATE_S } from './announce.js'
import { Bell } from './bell.js'
import type { MessageContent } from './content.js'
import { groupCommit } from './group-commit.js'
import {
  beginHandOver, beginHandOvers, endAttempts, giveUpLostHandOvers, leaseMessages, renewLeases, stateAfter, type AttemptEnd, type Ended,
  type Held, type LeasedMessage,
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
  /** Messages under way at a time, on each channel: a slow gateway of texts does not hold up mails. */
  readonly concurrency?: Readonly<Record<Channel, number>>
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
  /**
   * Draws the chart beside a mail; null where there is none to show, or no time for it. Never throws. Not asked while many
   * messages wait: what they say is more than how it looks.
   */
  readonly chart?: (message: LeasedMessage, content: MessageContent) => Promise<MailChart | null> | null
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
const AHEAD = 16
/** What is committed within so many milliseconds of the first is leased together. */
const GATHER_MS = 10
/** Hand-overs, and ends, that come within so many milliseconds share a statement. */
const LINGER_MS = 3
/** How often the end of an attempt is written while the database cannot be reached, over about half a minute. */
const RECORD_TRIES = 10
const CHANNELS = ['email', 'sms'] as const
type Channel = (typeof CHANNELS)[number]

/** A leased parcel, opened. */
interface Ready {
  readonly parcel: Parcel
  readonly lease: string
  /** null: sealed under another key. */
  readonly contents: readonly MessageContent[] | null
  chart: MailChart | null
}

/**
 * Sends the messages that transactions left in the database, each under a lease, so that any number of processes may
 * do it together. Every attempt ends in the database: sent, captured, to be tried again, failed, dropped, or unknown.
 */
export function startOutbox(options: OutboxOptions): Outbox {
  const { pool, transport, log, now, pollMs = 250, concurrency = { email: 8, sms: 8 }, attemptMs = 120_000 } = options
  const { maxAttempts = 12, backoffMs = 5_000 } = options
  const { leaseMs = 15_000 } = options
  const sealer = createSealer(options.secrets)
  const bell = new Bell()
  let isStopping = false
  /** Leased, and its end not recorded. */
  const held = new Map<Parcel, string>()
  /** Opened, and not begun; `drawing` waits for its chart besides. */
  const waiting: Record<Channel, Ready[]> = { email: [], sms: [] }
  const drawing = new Set<Ready>()
  const busy: Record<Channel, number> = { email: 0, sms: 0 }
  const underWay = new Set<Promise<void>>()
  /** Attempts whose server has not been given anything yet: a stop does not wait for them. */
  const notBegun = new Set<AbortController>()
  /** Channels of which more was due than was leased. */
  const more = new Set<Channel>()
  let lostSoughtAt = -Infinity

  const handOverSoon = groupCommit((asked: readonly Held[]) => beginHandOvers(pool, asked, new Date(now()), new Date(now() + leaseMs)), LINGER_MS)
  const endSoon = groupCommit(async (groups: readonly (readonly Ended[])[]) => {
    await record(() => endAttempts(pool, groups.flat(), new Date(now())))
    return groups
  }, LINGER_MS)

  async function deliver(ready: Ready): Promise<void> {
    const { parcel: { messages, first }, lease } = ready
    const { channel } = first
    let outcome: SendOutcome | 'early'
    busy[channel]++
    try {
      outcome = await attempt(ready)
    } finally {
      busy[channel]--
      pump()
    }
    const end = toEnd(outcome, messages)
    await endSoon(messages.map((m) => ({ messageId: m.message_id, lease, end })))
    if (outcome !== 'early' && outcome.state === 'failed' && outcome.bounced === true) await options.onBounce?.(first.contact_id)
    tell(messages, end)
    if (end.error !== null) {
      const state = stateAfter(end.event)
      log.warn({ message: first.message_id, count: messages.length, state, attempt: first.attempts, reason: end.error }, 'message not sent')
    }
  }

  function tell(messages: readonly LeasedMessage[], end: AttemptEnd): void {
    const state = stateAfter(end.event)
    for (const m of messages) {
      options.onAttempt?.({ channel: m.channel, purpose: m.purpose, state, ageMs: now() - m.created_at.getTime() })
    }
  }

  async function attempt({ parcel, lease, contents, chart }: Ready): Promise<SendOutcome | 'early'> {
    const { messages, first } = parcel
    const { message_id: messageId, channel } = first
    let to: string
    let view: MessageView
    try {
      if (contents === null) throw new Error('sealed')
      to = sealer.open('address', first.contact_id, first.address_enc)
      view = viewOf(parcel, contents, options.unsubscribeLink ?? (() => null))
    } catch {
      return { state: 'failed', reason: 'sealed under another SECRET_KEY' }
    }
    const breakOff = new AbortController()
    notBegun.add(breakOff)
    if (isStopping) breakOff.abort()
    const timer = setTimeout(() => breakOff.abort(), attemptMs)
    const handOver = async (): Promise<boolean> => {
      notBegun.delete(breakOff)
      if (messages.length === 1 && await handOverSoon({ messageId, lease })) return true
      return beginHandOver(pool, messages.map((m) => m.message_id), lease, new Date(now()), new Date(now() + leaseMs))
    }
    try {
      const outcome = await transport.send({ messageId, channel, to, view, chart }, handOver, breakOff.signal)
      // Of a digest, one line was taken back meanwhile: the others go out without it.
      return outcome.state === 'withdrawn' && messages.length > 1 ? 'early' : outcome
    } finally {
      clearTimeout(timer)
      notBegun.delete(breakOff)
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
    const ended: Ended[] = []
    for (const m of messages) {
      const end = notNow(m)
      if (end === null) ready.push(m)
      else ended.push({ messageId: m.message_id, lease, end })
      if (end !== null) tell([m], end)
    }
    await endAttempts(pool, ended, new Date(now()))
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
        if (!isUnavailable(err) || attempt === RECORD_TRIES || isStopping) throw err
        await bell.pause(500 * attempt)
      }
    }
  }

  /** Opens a leased parcel and has its chart drawn, where it may have one. */
  function prepare(parcel: Parcel, lease: string, mayDraw: boolean): void {
    const { messages, first } = parcel
    let contents: MessageContent[] | null = null
    try {
      contents = messages.map((m) => openContent(sealer, m))
    } catch {
      // The attempt says so.
    }
    const ready: Ready = { parcel, lease, contents, chart: null }
    held.set(parcel, lease)
    const chart = mayDraw && contents !== null && first.channel === 'email' && !first.digest ? options.chart?.(first, contents[0]) ?? null : null
    if (chart === null) {
      waiting[first.channel].push(ready)
      return
    }
    drawing.add(ready)
    void chart.then((drawn) => {
      // Given back meanwhile, by a stop.
      if (!drawing.delete(ready)) return
      ready.chart = drawn
      waiting[first.channel].unshift(ready)
      pump()
    })
  }

  /** Begins what waits, as far as there is room, and has more leased where there is room left. */
  function pump(): void {
    for (const channel of CHANNELS) {
      while (!isStopping && busy[channel] < concurrency[channel]) {
        const next = waiting[channel].shift()
        if (next === undefined) break
        start(next)
      }
      if (more.has(channel) && hasRoom(channel)) bell.ring()
    }
  }

  function hasRoom(channel: Channel): boolean {
    return waiting[channel].length < concurrency[channel]
  }

  function start(ready: Ready): void {
    const work = deliver(ready)
      // The lease runs out, and another look decides: before hand-over it is tried again, after it is unknown.
      .catch((err: unknown) => log.error({ err, message: ready.parcel.first.message_id }, 'the end of an attempt was not recorded'))
      .finally(() => {
        underWay.delete(work)
        held.delete(ready.parcel)
      })
    underWay.add(work)
  }

  async function look(): Promise<void> {
    if (now() - lostSoughtAt >= pollMs) {
      lostSoughtAt = now()
      await giveUpLostHandOvers(pool, new Date(now()))
    }
    const count = Math.max(...Object.values(concurrency)) * AHEAD
    for (;;) {
      const channels = CHANNELS.filter(hasRoom)
      for (const channel of CHANNELS) if (!hasRoom(channel)) more.add(channel)
      if (isStopping || channels.length === 0) return
      const lease = randomUUID()
      const messages = await leaseMessages(pool, lease, count, new Date(now()), new Date(now() + leaseMs), channels)
      const isFull = messages.length >= count
      for (const channel of channels) {
        if (isFull) more.add(channel)
        else more.delete(channel)
      }
      const parcels = await sort(messages, lease)
      const mayDraw = parcels.length + waiting.email.length <= concurrency.email
      for (const parcel of parcels) prepare(parcel, lease, mayDraw)
      pump()
      if (!isFull) return
    }
  }

  /** Gives back what was leased and not begun. */
  async function release(): Promise<void> {
    const at = new Date(now())
    const end: AttemptEnd = { event: 'deferred', nextAt: at, error: null, isCounted: false }
    const kept = [...CHANNELS.flatMap((channel) => waiting[channel].splice(0)), ...drawing]
    drawing.clear()
    for (const { parcel } of kept) held.delete(parcel)
    await endAttempts(pool, kept.flatMap(({ parcel, lease }) => parcel.messages.map((m) => ({ messageId: m.message_id, lease, end }))), at)
  }

  async function run(): Promise<void> {
    let isTroubled = false
    while (!isStopping) {
      try {
        await look()
        isTroubled = false
      } catch (err) {
        if (!isTroubled) log.error({ err }, 'the outbox cannot be read')
        isTroubled = true
      }
      if (isTroubled) await bell.pause(Math.max(pollMs, 1_000))
      else if (await bell.heard(pollMs)) await bell.pause(GATHER_MS)
    }
  }

  const heart = setInterval(() => {
    if (held.size === 0) return
    renewLeases(pool, [...new Set(held.values())], new Date(now() + leaseMs))
      .catch((err: unknown) => log.warn({ err }, 'the leases of messages under way were not renewed'))
  }, leaseMs / 3)
  const running = run()
  return {
    wake: () => bell.ring(),
    async stop() {
      isStopping = true
      bell.end()
      for (const attempt of notBegun) attempt.abort()
      await running
      await release().catch((err: unknown) => log.warn({ err }, 'what was leased and not begun is sent when its lease runs out'))
      await Promise.all(underWay)
      clearInterval(heart)
      transport.close()
    },
  }
}
