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
  /** Of a time-of-use period: whether a read from one instant to another lies in it; all do where it is not given. */
  counts?: (startS: number, intervalS: number) => boolean
  /** low-usage, no-usage: of what; a day where it is not given. */
  window?: 'day' | 'billing-period'
}

const FLOWS = { delivered: 1, received: 2, net: 3 } as const

const SETTLE_S = 48 * 3600

/**
 * Standing alerts as `id start value`, value in billionths.
 *
 * @param days local days to look at, [from, to) in seconds
 * @param months likewise billing periods
 * @param nowS when it is asked: what waits for an end is not told before
 */
export function standing(
  t: PlainThreshold, model: Model, days: readonly [number, number][], months: readonly [number, number][], nowS = Infinity,
): string[] {
  const served = model.counting().filter((r) => t.served.some((a) => a.meter === r.meter && r.startS >= a.fromS && r.startS < a.toS)
    && t.counts?.(r.startS, r.intervalS) !== false)
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
          const lengthS = longest === 86_400 ? day[1] - day[0] : longest
          // The earliest of the grids of that length, from the first of its points on.
          const origin = Math.min(...reads.filter((r) => r.intervalS === longest).map((r) => day[0] + (r.startS - day[0]) % longest))
          const intervals = new Map<number, bigint>()
          for (const r of reads) {
            const at = longest === 86_400 ? 0 : Math.floor((r.startS - origin) / longest)
            intervals.set(at, (intervals.get(at) ?? 0n) + r.nano)
          }
          for (const nano of intervals.values()) {
            const kw = halfUp(nano * 3600n, BigInt(lengthS))
            if (kw > most) most = kw
          }
        }
        above(month, most)
      }
      break
    case 'low-usage':
    case 'no-usage':
      for (const span of t.window === 'billing-period' ? months : days) {
        const reads = within(of(FLOWS[t.flow]), span)
        if (reads.length === 0 || reads.length < slotsDue(t, reads[0], span, model.zone) || span[1] > nowS) continue
        const value = total(reads)
        if (t.kind === 'low-usage' ? value < t.limit : value === 0n) found.push(`${t.id} ${span[0]} ${value}`)
      }
      break
    case 'unusual':
      for (const day of days) {
        const kwh = (span: readonly [number, number]): number | null => {
          const reads = within(of(1), span)
          return reads.length === 0 || reads.length < slotsDue(t, reads[0], span, model.zone) ? null : Number(total(reads)) / 1e9
        }
        if (nowS < day[1] || kwh(day) === null && nowS < day[1] + SETTLE_S) continue
        const today = Number(total(within(of(1), day))) / 1e9
        const before = Array.from({ length: 8 }, (_, i) => kwh(dayBefore(day, 7 * (i + 1), model.zone))).filter((v) => v !== null)
        if (before.length < 4) continue
        const middle = medianOf(before)
        const mad = medianOf(before.map((v) => Math.abs(v - middle)))
        const level = Math.round(Math.max(1.3 * middle, middle + 3 * mad) * 1000) / 1000
        if (today > level) found.push(`${t.id} ${day[0]} ${total(within(of(1), day))}`)
      }
      break
  }
  return found
}

/** How many reads of this length a span has, or those of them that count. */
function slotsDue({ counts }: PlainThreshold, { startS, intervalS }: ModelRead, [from, to]: readonly [number, number], zone: Zone): number {
  if (intervalS === 86_400) {
    let n = 0
    for (let s = from; s < to; s = zone.dayStart(zone.dayOf(s) + 1)) if (counts?.(s, intervalS) !== false) n++
    return n
  }
  if (counts === undefined) return Math.floor((to - from) / intervalS)
  let n = 0
  for (let s = startS - Math.floor((startS - from) / intervalS) * intervalS; s < to; s += intervalS) if (counts(s, intervalS)) n++
  return n
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
