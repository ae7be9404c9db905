import { flowNames } from '../read-batch.js'
import { civilOfDay } from '../time/civil.js'
import { parseDay, parseInstant } from '../time/text.js'
import { getZone, type Zone } from '../time/zone.js'
import type { NoticeParams, StoredSnapshot } from './content.js'
import { en } from './en.js'
import { es } from './es.js'
import type { AlertWords, NoticeWords, Phrases } from './phrases.js'

const LANGUAGES: Readonly<Record<string, Phrases>> = { en, es }
/** Languages that messages are written in. */
export const languages = Object.keys(LANGUAGES)

/** The phrases of a BCP 47 tag's language; English where there are none. */
export function phrasesOf(tag: string): Phrases {
  return LANGUAGES[tag.toLowerCase().split('-')[0]] ?? en
}

/** A quantity with its unit; money in the form of the language. */
export function amount(p: Phrases, value: string, unit: string): string {
  return /^[A-Z]{3}$/.test(unit)
    ? new Intl.NumberFormat(p.tag, { style: 'currency', currency: unit }).format(Number(value)).replace(/\u00a0/g, ' ')
    : `${value} ${unit}`
}

/** Local date and time as a member reads them: `Oct 1, 6:45 PM`. */
export function localTime(p: Phrases, s: number, zone: Zone): string {
  const local = s + zone.offsetAt(s)
  const day = Math.floor(local / 86400)
  return `${shortDay(p, day)}, ${clock(p, local - day * 86400)}`
}

export function longDay(p: Phrases, day: number): string {
  const { year, month, day: dayOfMonth } = civilOfDay(day)
  return p.longDay(year, month, dayOfMonth)
}

export function shortDay(p: Phrases, day: number): string {
  const { month, day: dayOfMonth } = civilOfDay(day)
  return p.shortDay(month, dayOfMonth)
}

/** The facts of an alert in words. */
export function alertWords(p: Phrases, s: StoredSnapshot): AlertWords {
  const unit = s.unit ?? (s.kind === 'demand' ? 'kW' : 'kWh')
  const { startDay, endDay } = s.period
  const { verb, noun } = p.verbs[flowNames[s.flow]]
  // Low and no usage alone have no kind of their own for each length of time.
  const isOfPeriod = (s.kind === 'low-usage' || s.kind === 'no-usage') && endDay - startDay > 1
  const inPeriod = p.fromTo(longDay(p, startDay), longDay(p, endDay - 1))
  const hours = s.hour === null || s.hour === undefined ? null : hourWords(p, s.hour, getZone(s.zone))
  return {
    account: s.account, verb, noun,
    limit: amount(p, s.limit, unit),
    value: amount(p, s.value, unit),
    onDay: p.onDay(longDay(p, startDay)),
    onDayShort: p.onDay(shortDay(p, startDay)),
    inPeriod,
    sinceShort: p.since(shortDay(p, startDay)),
    when: isOfPeriod ? p.inBillingPeriod(inPeriod) : p.onDay(longDay(p, startDay)),
    whenShort: isOfPeriod ? p.since(shortDay(p, startDay)) : p.onDay(shortDay(p, startDay)),
    per: isOfPeriod ? p.perBillingPeriod : p.perDay,
    inHour: hours === null ? p.onDay(longDay(p, startDay)) : `${hours} ${p.onDay(longDay(p, startDay))}`,
    inHourShort: hours === null ? p.onDay(shortDay(p, startDay)) : `${hours} ${p.onDay(shortDay(p, startDay))}`,
    usual: amount(p, s.usual?.value ?? s.limit, unit),
    low: amount(p, s.range?.low ?? s.value, unit),
    high: amount(p, s.range?.high ?? s.value, unit),
  }
}

/** `from 5:00 PM to 6:00 PM`. */
export function hourWords(p: Phrases, hour: { startS: number; endS: number }, zone: Zone): string {
  const at = (s: number): string => {
    const local = s + zone.offsetAt(s)
    return clock(p, local - Math.floor(local / 86400) * 86400)
  }
  return p.fromTo(at(hour.startS), at(hour.endS))
}

export function noticeWords(p: Phrases, account: string, params: NoticeParams, zone: Zone): NoticeWords {
  const time = (text: string | undefined): string | null => {
    const s = text === undefined ? undefined : parseInstant(text)
    return s === undefined ? null : localTime(p, s, zone)
  }
  const dueDay = params.dueOn === undefined ? undefined : parseDay(params.dueOn)
  return {
    account,
    amount: params.amount === undefined ? null : amount(p, params.amount, params.currency ?? 'USD'),
    dueOn: dueDay === undefined ? null : longDay(p, dueDay),
    startsAt: time(params.startsAt),
    endsAt: time(params.endsAt),
  }
}

function clock(p: Phrases, secondOfDay: number): string {
  const minute = Math.floor(secondOfDay / 60)
  return p.clock(Math.floor(minute / 60) % 24, minute % 60)
}
