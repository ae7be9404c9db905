import { periodOf, type BillingCycle, type DaySpan } from '../time/billing.js'

/** Kinds of the contract that are built; the others are refused by name. */
export const thresholdKinds = ['day-usage', 'period-usage'] as const
export type ThresholdKind = (typeof thresholdKinds)[number]

export interface KindInfo {
  readonly unit: 'kWh'
  readonly window: 'day' | 'billing-period'
  readonly direction: 'above'
}

const INFO: Readonly<Record<ThresholdKind, KindInfo>> = {
  'day-usage': { unit: 'kWh', window: 'day', direction: 'above' },
  'period-usage': { unit: 'kWh', window: 'billing-period', direction: 'above' },
}

export function kindInfo(kind: ThresholdKind): KindInfo {
  return INFO[kind]
}

export function isThresholdKind(kind: string): kind is ThresholdKind {
  return (thresholdKinds as readonly string[]).includes(kind)
}

/** The period of this kind that contains the local day of the utility's zone. */
export function windowOf(kind: ThresholdKind, day: number, account: BillingCycle): DaySpan {
  switch (kind) {
    case 'day-usage':
      return { startDay: day, endDay: day + 1 }
    case 'period-usage':
      return periodOf(day, account)
  }
}
