import type { Zone } from '../time/zone.js'

/** A nightly stretch of the local clock in which a channel is left alone; `from` after `to` goes over midnight. */
export interface QuietHours {
  /** `HH:MM`. */
  readonly from: string
  readonly to: string
}

/** By channel; null: none. What a member has not said follows {@link DEFAULT_QUIET}. */
export interface QuietSettings {
  readonly email?: QuietHours | null
  readonly sms?: QuietHours | null
}

/** The hours in which United States law forbids telephone marketing; texts of other kinds keep to them too. */
export const DEFAULT_QUIET: Readonly<Record<'email' | 'sms', QuietHours | null>> = { email: null, sms: { from: '21:00', to: '08:00' } }

/** Digests go out at this local time, or when later quiet hours end. */
const DIGEST_MINUTE = 8 * 60
const DAY_MIN = 1440

/**
 * The quiet hours that hold for a message. Without a word of the member, service messages are not held: an outage at
 * night is worth a text; with one, they are.
 */
export function quietOf(settings: QuietSettings | null, channel: 'email' | 'sms', category: string): QuietHours | null {
  const chosen = settings?.[channel]
  if (chosen !== undefined) return chosen
  return category === 'service' ? null : DEFAULT_QUIET[channel]
}

/** When the quiet hours that `s` lies in end, epoch seconds; `s` itself where it lies in none. */
export function quietUntil(s: number, zone: Zone, quiet: QuietHours | null): number {
  if (quiet === null) return s
  const from = minutes(quiet.from)
  const to = minutes(quiet.to)
  if (from === to) return s
  const local = s + zone.offsetAt(s)
  const minute = Math.floor(local / 60) % DAY_MIN
  const isIn = from < to ? minute >= from && minute < to : minute >= from || minute < to
  if (!isIn) return s
  const days = from > to && minute >= from ? 1 : 0
  return localInstant(zone, Math.floor(local / 86_400) + days, to, s)
}

/** The next time, after `s`, that a digest goes out on this channel, epoch seconds. */
export function nextDigest(s: number, zone: Zone, quiet: QuietHours | null): number {
  const today = Math.floor((s + zone.offsetAt(s)) / 86_400)
  for (let day = today; ; day++) {
    const at = quietUntil(localInstant(zone, day, DIGEST_MINUTE, s), zone, quiet)
    if (at > s) return at
  }
}

/** The instant of a local minute of a local date; where the clock skips it, the first after the gap. */
function localInstant(zone: Zone, localDay: number, minute: number, after: number): number {
  for (let localS = localDay * 86_400 + minute * 60; ; localS += 60) {
    const instants = zone.localToInstants(localS)
    if (instants.length > 0) return instants.find((i) => i > after) ?? instants[instants.length - 1]
  }
}

function minutes(clock: string): number {
  return Number(clock.slice(0, 2)) * 60 + Number(clock.slice(3, 5))
}
