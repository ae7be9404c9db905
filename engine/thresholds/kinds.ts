import { periodOf, type BillingCycle, type DaySpan } from '../time/billing.js'
import type { Zone } from '../time/zone.js'

export const thresholdKinds = [
  'hour-usage', 'day-usage', 'period-usage', 'period-cost', 'projected-usage', 'projected-cost', 'demand', 'unusual',
  'low-usage', 'no-usage',
] as const
export type ThresholdKind = (typeof thresholdKinds)[number]

/** What a threshold's periods are: local hours, local days or billing periods. */
export const windows = ['hour', 'day', 'billing-period'] as const
export type Window = (typeof windows)[number]

/** What a kind may be told besides its limit. */
export interface ThresholdParams {
  /** low-usage, no-usage: which periods are judged; a day where it is not given. */
  readonly window?: Window
  /** unusual: at least this many percent above the median of the days compared with; 30 where not given. */
  readonly percent?: number
  /** unusual: at least this many median absolute deviations above the median; 3 where not given. */
  readonly mads?: number
}

export interface KindInfo {
  /** `currency`: the utility's. */
  readonly unit: 'kWh' | 'kW' | 'currency'
  /** The first holds where `params` has none. */
  readonly windows: readonly Window[]
  readonly direction: 'above' | 'below'
  readonly hasLimit: boolean
  /** `energy`: a flow of the account or of one meter; `account`: the account's bill. */
  readonly watches: 'energy' | 'account'
  /** It may be narrowed to one time-of-use period of the account's rate. */
  readonly canHaveTou: boolean
  /**
   * `settling`: more reads can only raise the value, so it is judged in the commit that brings them; `deferred`: when
   * the period is complete or its settle time has passed; `both`: the one or the other, as the account's rate is.
   */
  readonly judged: 'settling' | 'deferred' | 'both'
  readonly params: readonly (keyof ThresholdParams)[]
}

const high = { direction: 'above', hasLimit: true, watches: 'energy', canHaveTou: true, judged: 'settling', params: [] } as const
const projected = { windows: ['billing-period'], direction: 'above', hasLimit: true, canHaveTou: false, judged: 'deferred', params: [] } as const
const low = { unit: 'kWh', windows: ['day', 'billing-period'], direction: 'below', watches: 'energy', judged: 'deferred', params: ['window'] } as const

const INFO: Readonly<Record<ThresholdKind, KindInfo>> = {
  'hour-usage': { ...high, unit: 'kWh', windows: ['hour'] },
  'day-usage': { ...high, unit: 'kWh', windows: ['day'] },
  'period-usage': { ...high, unit: 'kWh', windows: ['billing-period'] },
  'period-cost': { ...high, unit: 'currency', windows: ['billing-period'], watches: 'account', canHaveTou: false, judged: 'both' },
  'projected-usage': { ...projected, unit: 'kWh', watches: 'energy' },
  'projected-cost': { ...projected, unit: 'currency', watches: 'account' },
  demand: { ...high, unit: 'kW', windows: ['billing-period'] },
  unusual: {
    unit: 'kWh', windows: ['day'], direction: 'above', hasLimit: false, watches: 'energy', canHaveTou: false, judged: 'deferred',
    params: ['percent', 'mads'] },
  'low-usage': { ...low, hasLimit: true, canHaveTou: true },
  'no-usage': { ...low, hasLimit: false, canHaveTou: false },
}

export function kindInfo(kind: ThresholdKind): KindInfo {
  return INFO[kind]
}

export function isThresholdKind(kind: string): kind is ThresholdKind {
  return (thresholdKinds as readonly string[]).includes(kind)
}

export function windowOf(kind: ThresholdKind, params: ThresholdParams): Window {
  return params.window ?? INFO[kind].windows[0]
}

/** True for what is judged by the commit that brings the reads; net energy can fall again and waits for the end. */
export function isJudgedInSettling(kind: ThresholdKind, isNet: boolean): boolean {
  return !isNet && INFO[kind].judged !== 'deferred'
}

/** True for what is judged by the schedule. */
export function isDeferred(kind: ThresholdKind, isNet: boolean): boolean {
  return isNet || INFO[kind].judged !== 'settling'
}

/** A period that is judged: epoch seconds [startS, endS), which lie in the local days [startDay, endDay). */
export interface Period extends DaySpan {
  readonly startS: number
  readonly endS: number
}

const HOUR_S = 3600

/** The period of whole local days. */
export function periodOfDays({ startDay, endDay }: DaySpan, zone: Zone): Period {
  return { startDay, endDay, startS: zone.dayStart(startDay), endS: zone.dayStart(endDay) }
}

/** The periods of a window that contain the local day: its hours, itself, or its billing period. */
export function periodsOf(window: Window, day: number, cycle: BillingCycle, zone: Zone): Period[] {
  switch (window) {
    case 'hour':
      return hoursOf(day, zone)
    case 'day':
      return [periodOfDays({ startDay: day, endDay: day + 1 }, zone)]
    case 'billing-period':
      return [periodOfDays(periodOf(day, cycle), zone)]
  }
}

/** Start of the hour of the local clock in which an instant lies; a repeated hour is two hours. */
export function hourStart(s: number, zone: Zone): number {
  const local = s + zone.offsetAt(s)
  return s - (local - Math.floor(local / HOUR_S) * HOUR_S)
}

function hoursOf(day: number, zone: Zone): Period[] {
  const hours: Period[] = []
  const endS = zone.dayStart(day + 1)
  // Offsets are whole quarters of an hour.
  for (let s = zone.dayStart(day); s < endS; s += HOUR_S / 4) {
    const startS = hourStart(s, zone)
    if (hours.at(-1)?.startS !== startS) hours.push({ startDay: day, endDay: day + 1, startS, endS: startS + HOUR_S })
  }
  return hours
}
