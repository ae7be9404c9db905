import type { FlowCode } from '../read-batch.js'
import type { DaySpan } from '../time/billing.js'
import type { Zone } from '../time/zone.js'

/** Kinds of alert that there are words for: those of the contract. */
export const alertKinds = [
  'hour-usage', 'day-usage', 'period-usage', 'period-cost', 'projected-usage', 'projected-cost', 'demand', 'unusual',
  'low-usage', 'no-usage',
] as const
export type AlertKind = (typeof alertKinds)[number]

/** What a member chooses messages by. */
export const categories = ['usage', 'service', 'billing'] as const
export type Category = (typeof categories)[number]

/** The facts of an alert at one step: messages are written from these alone. */
export interface AlertSnapshot {
  /** The account's nickname, else its id. */
  readonly account: string
  readonly kind: AlertKind
  readonly flow: FlowCode
  readonly meter: string | null
  /** Exact decimal text in `unit`. */
  readonly limit: string
  readonly value: string
  /** kWh where it is left out; kW, or the ISO 4217 code of a currency. */
  readonly unit?: string
  /** Local days of `zone`. */
  readonly period: DaySpan
  /** Of `hour-usage`: the hour, epoch seconds. */
  readonly hour?: { readonly startS: number; readonly endS: number } | null
  readonly zone: Zone
  /** Epoch seconds; null where it is not known. */
  readonly crossedAtS: number | null
  readonly expected: number
  readonly present: number
  readonly estimated: number
  /** The part of the tariff's day that the threshold watches. */
  readonly touPeriod?: string | null
  /** Of projections: what the rest of the period may bring it to, in `unit`. */
  readonly range?: { readonly low: string; readonly high: string } | null
  /** Of `unusual`: what it was compared with, in `unit`, and on how many days that rests. */
  readonly usual?: { readonly value: string; readonly days: number } | null
}

/** A snapshot as it is kept: its zone by name. */
export type StoredSnapshot = Omit<AlertSnapshot, 'zone'> & { readonly zone: string }

/** What the utility may tell on its own account: POST /v1/notices, and outages from meter events. */
export const noticeTemplates = ['bill-available', 'outage', 'restoration', 'planned-outage', 'peak-time', 'general'] as const
export type NoticeTemplate = (typeof noticeTemplates)[number]

/** What a notice says beside its template's own words. */
export interface NoticeParams {
  /** Exact decimal text. */
  readonly amount?: string
  readonly currency?: string
  /** `YYYY-MM-DD`. */
  readonly dueOn?: string
  /** RFC 3339. */
  readonly startsAt?: string
  readonly endsAt?: string
  readonly text?: string
  readonly link?: string
}

/** What a message says, as it is sealed into the outbox: facts, which become words in the contact's language when it is sent. */
export type MessageContent =
  | { readonly t: 'alert' | 'correction'; readonly alert: StoredSnapshot }
  | { readonly t: 'code'; readonly code: string; readonly minutes: number }
  | { readonly t: 'notice'; readonly account: string; readonly template: NoticeTemplate; readonly zone: string; readonly params: NoticeParams }
  | { readonly t: 'reply'; readonly word: 'stopped' | 'resumed' | 'help'; readonly category: Category | 'all' }

export function alertContent(snapshot: AlertSnapshot): MessageContent {
  return { t: 'alert', alert: { ...snapshot, zone: snapshot.zone.name } }
}

export function correctionContent(snapshot: AlertSnapshot): MessageContent {
  return { t: 'correction', alert: { ...snapshot, zone: snapshot.zone.name } }
}

/** When what a message tells of happened, epoch seconds; null for what has no such instant. */
export function breachAtS(snapshot: AlertSnapshot): number {
  return snapshot.crossedAtS ?? snapshot.hour?.endS ?? snapshot.zone.dayStart(snapshot.period.endDay)
}
