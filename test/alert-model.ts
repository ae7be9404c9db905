import type { Zone } from '../engine/time/zone.js'
import type { Model, ModelRead } from './model.js'

/**
 * What stands, told plainly: each kind of threshold worked out anew from all reads that count, one read at a time. It
 * shares the zone's table and the model of settling with the engine, and nothing of how thresholds are judged there.
 */

export interface PlainThreshold {
  id: string
  kind: 'hour-usage' | 'day-usage' | 'period-usage' | 'demand' | 'low-usage' | 'no-usage' | 'unusual'
  flow: 'delivered' | 'received' | 'net'
  /** Billionths of a kWh, or of a kW. */
  limit: bigint
  /** Who served the account, and when. */
  served: readonly { meter: string; fromS: number; toS: number }[]
}

const FLOWS = { delivered: 1, received: 2, net: 3 } as const

/** Standing alerts as `id start value`, value in billionths. @param spans local days or months to look at, [from, to) in seconds */
export function standing(t: PlainThreshold, model: Model, days: readonly [number, number][], months: readonly [number, number][]): string[] {
  const served = model.counting().filter((r) => t.served.some((a) => a.meter === r.meter && r.startS >= a.fromS && r.startS < a.toS))
  const of = (flow: number): ModelRead[] => served.filter((r) => r.flow === flow)
  const within = (reads: readonly ModelRead[], [from, to]: readonly [number, number]): ModelRead[] => reads.filter((r) => r.startS >= from && r.startS < to)
  const total = (reads: readonly ModelRead[]): bigint => reads.reduce((n, r) => n + r.nano, 0n)
  /** Energy of a span: where both flows are metered, net is their difference. */
  const energy = (span: readonly [number, number], filter: (r: ModelRead) => boolean = () => true): bigint | null => {
    const sum = (flow: number): bigint => total(within(of(flow), span).filter(filter))
    if (t.flow !== 'net') return sum(FLOWS[t.flow])
    const metered = (flow: number): boolean => t.served.some((a) => a.fromS < span[1] && a.toS > span[0]
      && [...model.slots.values()].some((r) => r.flow === flow && r.meter === a.meter))
    return metered(1) && metered(2) ? sum(1) - sum(2) : sum(3)
  }
  const found: string[] = []
  const above = (span: readonly [number, number], value: bigint | null): void => {
    if (value !== null && value > t.limit) found.push(`${t.id} ${span[0]} ${value}`)
  }
  switch (t.kind) {
    case 'day-usage':
      for (const day of days) above(day, energy(day))
      break
    case 'period-usage':
      for (const month of months) above(month, energy(month))
      break
    case 'hour-usage': {
      const hours = new Map<number, bigint>()
      for (const r of served) {
        if (r.intervalS > 3600 || r.flow !== FLOWS[t.flow]) continue
        const hour = clockHour(r.startS, model.zone)
        hours.set(hour, (hours.get(hour) ?? 0n) + r.nano)
      }
      for (const [hour, value] of hours) above([hour, hour + 3600], value)
      break
    }
    case 'demand':
      for (const month of months) {
        let most = 0n
        for (const day of days) {
          if (day[0] < month[0] || day[0] >= month[1]) continue
          const reads = within(of(FLOWS[t.flow]), day)
          if (reads.length === 0) continue
          const longest = Math.max(...reads.map((r) => r.intervalS))
          const origin = Math.min(...reads.filter((r) => r.intervalS === longest).map((r) => r.startS))
          const intervals = new Map<number, bigint>()
          for (const r of reads) {
            const at = longest === 86_400 ? 0 : Math.floor((r.startS - origin) / longest)
            intervals.set(at, (intervals.get(at) ?? 0n) + r.nano)
          }
          for (const nano of intervals.values()) {
            const kw = halfUp(nano * 3600n, BigInt(longest))
            if (kw > most) most = kw
          }
        }
        above(month, most)
      }
      break
    case 'low-usage':
    case 'no-usage':
      for (const day of days) {
        const reads = within(of(FLOWS[t.flow]), day)
        const [first] = reads
        if (reads.length === 0 || reads.length < Math.floor((day[1] - day[0]) / first.intervalS)) continue
        const value = total(reads)
        if (t.kind === 'low-usage' ? value < t.limit : value === 0n) found.push(`${t.id} ${day[0]} ${value}`)
      }
      break
    case 'unusual':
      for (const day of days) {
        const kwh = (span: readonly [number, number]): number | null => {
          const reads = within(of(1), span)
          return reads.length === 0 ? null : Number(total(reads)) / 1e9
        }
        const today = kwh(day)
        const before = Array.from({ length: 8 }, (_, i) => kwh(dayBefore(day, 7 * (i + 1), model.zone))).filter((v) => v !== null)
        if (today === null || before.length < 4) continue
        const middle = medianOf(before)
        const mad = medianOf(before.map((v) => Math.abs(v - middle)))
        const level = Math.round(Math.max(1.3 * middle, middle + 3 * mad) * 1000) / 1000
        if (today > level) found.push(`${t.id} ${day[0]} ${total(within(of(1), day))}`)
      }
      break
  }
  return found
}

function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const half = sorted.length / 2
  return Number.isInteger(half) ? (sorted[half - 1] + sorted[half]) / 2 : sorted[Math.floor(half)]
}

function dayBefore([from]: readonly [number, number], n: number, zone: Zone): [number, number] {
  const day = zone.dayOf(from) - n
  return [zone.dayStart(day), zone.dayStart(day + 1)]
}

/** Start of the hour that a clock on the wall shows. */
function clockHour(s: number, zone: Zone): number {
  const local = s + zone.offsetAt(s)
  return s - (((local % 3600) + 3600) % 3600)
}

function halfUp(a: bigint, b: bigint): bigint {
  return (2n * a + b) / (2n * b)
}
