import { periodsBetween, type BillingCycle, type PeriodSource } from '../time/billing.js'
import { addMonths, monthStart } from '../time/civil.js'
import type { Zone } from '../time/zone.js'

/** A period of an answer, epoch seconds, the end exclusive. Buckets of one answer are contiguous and ascending. */
export interface Bucket {
  startS: number
  endS: number
  /** Where a billing period comes from. */
  source?: PeriodSource
}

/**
 * The local days, months or billing periods of [fromS, toS). The first and the last are cut to the range, so that the
 * periods of an answer add up to its total.
 */
export function bucketsOf(
  resolution: 'day' | 'month' | 'billing', fromS: number, toS: number, zone: Zone, cycle: BillingCycle,
): Bucket[] {
  const fromDay = zone.dayOf(fromS)
  const endDay = zone.dayOf(toS - 1) + 1
  const buckets: Bucket[] = []
  const put = (startDay: number, nextDay: number, source?: PeriodSource): void => {
    const startS = Math.max(fromS, zone.dayStart(startDay))
    const endS = Math.min(toS, zone.dayStart(nextDay))
    // A day that the zone skipped has no time.
    if (startS < endS) buckets.push(source === undefined ? { startS, endS } : { startS, endS, source })
  }
  switch (resolution) {
    case 'day':
      for (let day = fromDay; day < endDay; day++) put(day, day + 1)
      break
    case 'month':
      for (let day = monthStart(fromDay); day < endDay; day = addMonths(day, 1)) put(day, addMonths(day, 1))
      break
    case 'billing':
      for (const p of periodsBetween(fromDay, endDay, cycle)) put(p.startDay, p.endDay, p.source)
      break
  }
  return buckets
}
