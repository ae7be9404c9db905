import { flowNames, type FlowCode } from '../read-batch.js'
import type { ThresholdKind } from '../thresholds/kinds.js'
import type { DaySpan } from '../time/billing.js'
import { civilOfDay } from '../time/civil.js'
import type { Zone } from '../time/zone.js'
import { shorten, SMS_LENGTH, toGsm } from './gsm.js'

/** The facts of an alert at one step: messages are written from these alone. */
export interface AlertSnapshot {
  /** The account's nickname, else its id. */
  readonly account: string
  readonly utilityName: string | null
  readonly kind: ThresholdKind
  readonly flow: FlowCode
  readonly meter: string | null
  /** kWh, exact decimal text. */
  readonly limit: string
  readonly value: string
  /** Local days of `zone`. */
  readonly period: DaySpan
  readonly zone: Zone
  /** Epoch seconds; null where it is not known. */
  readonly crossedAtS: number | null
  readonly expected: number
  readonly present: number
  readonly estimated: number
}

/** A message as it is sealed into the outbox. The subject is for e-mail alone. */
export interface MessageText {
  readonly subject: string
  readonly body: string
}

export interface MessageTexts {
  readonly email: MessageText
  readonly sms: MessageText
}

const MONTHS = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October',
  'November', 'December']
const SMS_STOP = ' Reply STOP to end.'

/** What a contact is told when the limit was passed. */
export function alertTexts(s: AlertSnapshot): MessageTexts {
  const facts = [
    `${usedWord(s)}: ${s.value} kWh`,
    `Your limit: ${s.limit} kWh ${perWord(s)}`,
    ...(s.crossedAtS === null ? [] : [`Limit passed: ${localTime(s.crossedAtS, s.zone)}`]),
    ...(s.meter === null ? [] : [`Meter: ${s.meter}`]),
    `Data: ${completeness(s)}`,
  ]
  const crossed = s.crossedAtS === null ? '' : ` Passed ${localTime(s.crossedAtS, s.zone)}.`
  return {
    email: {
      subject: `${s.account}: more than ${s.limit} kWh ${perWord(s)}`,
      body: email(s, `${s.account} ${usedVerb(s)} more than ${s.limit} kWh ${periodWords(s)}.`, facts),
    },
    sms: sms(s, `${s.value} kWh ${usedVerb(s)} ${shortPeriod(s)}, limit ${s.limit}.${crossed} ${shortData(s)}`),
  }
}

/** What a contact is told that was told of an alert which corrected reads then took away. */
export function correctionTexts(s: AlertSnapshot): MessageTexts {
  const facts = [
    `${usedWord(s)} after the correction: ${s.value} kWh`,
    `Your limit: ${s.limit} kWh ${perWord(s)}`,
    ...(s.meter === null ? [] : [`Meter: ${s.meter}`]),
    `Data: ${completeness(s)}`,
  ]
  return {
    email: {
      subject: `Correction for ${s.account}: not above ${s.limit} kWh ${perWord(s)}`,
      body: email(s, `We told you that ${s.account} ${usedVerb(s)} more than ${s.limit} kWh ${periodWords(s)}. `
        + 'The readings were corrected since, and it is not above your limit.', facts),
    },
    sms: sms(s, `correction: ${s.value} kWh ${usedVerb(s)} ${shortPeriod(s)}, not above your limit ${s.limit}.`),
  }
}

/** The one message that an unverified contact gets. */
export function codeTexts(code: string, minutes: number, utilityName: string | null): MessageTexts {
  const from = utilityName ?? 'your utility'
  return {
    email: {
      subject: `${code} is your verification code`,
      body: `${code} is the code to confirm this address for usage alerts of ${from}.\n\n`
        + `It is good for ${minutes} minutes. If you did not ask for it, ignore this message: nothing more will be sent.\n`,
    },
    sms: {
      subject: '',
      body: shorten(toGsm(`${code} is your code for usage alerts of ${shorten(from, 60)}. Good for ${minutes} minutes.`),
        SMS_LENGTH - SMS_STOP.length) + SMS_STOP,
    },
  }
}

function email(s: AlertSnapshot, opening: string, facts: string[]): string {
  return `${opening}\n\n${facts.join('\n')}\n\n`
    + `You get this because this address was confirmed for usage alerts${s.utilityName === null ? '' : ` of ${s.utilityName}`}. `
    + 'To stop, remove the address or the alert where you manage your account.\n'
}

/** The name gives way first when a text is too long, and the end of the facts next; how to stop always stays. */
function sms(s: AlertSnapshot, facts: string): MessageText {
  const room = SMS_LENGTH - SMS_STOP.length
  const rest = toGsm(facts)
  const name = shorten(toGsm(s.account), Math.max(12, room - rest.length - 2))
  return { subject: '', body: shorten(`${name}: ${rest}`, room) + SMS_STOP }
}

function usedVerb(s: AlertSnapshot): string {
  return flowNames[s.flow] === 'received' ? 'sent back' : 'used'
}

function usedWord(s: AlertSnapshot): string {
  return flowNames[s.flow] === 'received' ? 'Sent back' : 'Used'
}

function perWord(s: AlertSnapshot): string {
  return s.kind === 'day-usage' ? 'in a day' : 'in a billing period'
}

function periodWords(s: AlertSnapshot): string {
  return s.kind === 'day-usage'
    ? `on ${longDay(s.period.startDay)}`
    : `in the billing period from ${longDay(s.period.startDay)} to ${longDay(s.period.endDay - 1)}`
}

function shortPeriod(s: AlertSnapshot): string {
  return s.kind === 'day-usage' ? `on ${shortDay(s.period.startDay)}` : `since ${shortDay(s.period.startDay)}`
}

function completeness(s: AlertSnapshot): string {
  const due = Math.max(s.expected, s.present)
  const held = s.present === due ? `all ${due} readings due so far` : `${s.present} of ${due} readings due so far`
  return s.estimated === 0 ? held : `${held}, ${s.estimated} of them estimated`
}

function shortData(s: AlertSnapshot): string {
  return `${s.present}/${Math.max(s.expected, s.present)} reads.`
}

function longDay(day: number): string {
  const d = civilOfDay(day)
  return `${MONTHS[d.month - 1]} ${d.day}, ${d.year}`
}

function shortDay(day: number): string {
  const d = civilOfDay(day)
  return `${MONTHS[d.month - 1].slice(0, 3)} ${d.day}`
}

/** Local time as a member reads it: `Oct 1, 6:45 PM`. */
function localTime(s: number, zone: Zone): string {
  const local = s + zone.offsetAt(s)
  const day = Math.floor(local / 86400)
  const minute = Math.floor((local - day * 86400) / 60)
  const hour = Math.floor(minute / 60)
  const clock = `${hour % 12 === 0 ? 12 : hour % 12}:${String(minute % 60).padStart(2, '0')} ${hour < 12 ? 'AM' : 'PM'}`
  return `${shortDay(day)}, ${clock}`
}
