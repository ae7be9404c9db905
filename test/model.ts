import { groupBy } from '../engine/group-by.js'
import { Flow, MAX_MANTISSA, Quality, rankOf } from '../engine/read-batch.js'
import { dayText } from '../engine/time/text.js'
import type { Zone } from '../engine/time/zone.js'
import type { PlainBlock, PlainRow } from './settling.js'

/**
 * A plain model of what settling comes to: a map of slots, each with the greatest (rank, version, value, lane) that was
 * ever offered to it. It shares the codes of qualities, their ranks and the zone with the engine, and nothing else.
 */

export interface ModelRead {
  meter: string
  flow: number
  intervalS: number
  startS: number
  /** Billionths of a kWh: every exponent's values are whole. */
  nano: bigint
  lane: number
  version: number
}

const DAY_S = 86_400

/** The reads of a block, one by one. Daily reads start at the zone's midnights. @param version where the block has none */
export function readsOf(block: PlainBlock, zone: Zone, version = 0): ModelRead[] {
  const { intervalS = 900, exponent = -3, quality = 'actual', flow = 'delivered' } = block
  const startS = typeof block.start === 'string' ? Date.parse(block.start) / 1000 : block.start
  return block.values.flatMap((v, i) => v === null ? [] : [{
    meter: block.meter, flow: Flow[flow], intervalS,
    startS: intervalS === DAY_S ? zone.dayStart(zone.dayOf(startS) + i) : startS + i * intervalS,
    nano: BigInt(v) * 10n ** BigInt(exponent + 9), lane: Quality[typeof quality === 'string' ? quality : quality[i]],
    version: block.version ?? version,
  }])
}

/** Energy delivered or received is never negative: such reads go to quarantine. */
export function isTaken(read: ModelRead): boolean {
  return read.flow === Flow.net || read.nano >= 0n
}

function greater(a: ModelRead, b: ModelRead): boolean {
  if (rankOf(a.lane) !== rankOf(b.lane)) return rankOf(a.lane) > rankOf(b.lane)
  if (a.version !== b.version) return a.version > b.version
  return a.nano !== b.nano ? a.nano > b.nano : a.lane > b.lane
}

export class Model {
  readonly zone: Zone
  readonly slots = new Map<string, ModelRead>()

  constructor(zone: Zone) {
    this.zone = zone
  }

  offer(reads: readonly ModelRead[]): void {
    for (const read of reads) {
      if (!isTaken(read)) continue
      const key = `${read.meter}|${read.flow}|${read.intervalS}|${read.startS}`
      const stood = this.slots.get(key)
      if (stood === undefined || greater(read, stood)) this.slots.set(key, read)
    }
  }

  /** The day blocks, as storedBlocks() reads them. */
  blocks(): PlainRow[] {
    const days = groupBy([...this.slots.values()], (r) =>
      [r.meter, r.flow, String(r.intervalS).padStart(6, '0'), dayText(this.zone.dayOf(r.startS))].join('|'))
    return [...days].sort(([a], [b]) => a < b ? -1 : 1).map(([, reads]) => this.#block(reads))
  }

  #block(reads: ModelRead[]): PlainRow {
    const [{ meter, flow, intervalS, startS }] = reads
    const day = this.zone.dayOf(startS)
    const [from, to] = [this.zone.dayStart(day), this.zone.dayStart(day + 1)]
    const firstS = intervalS === DAY_S ? from : from + (startS - from) % intervalS
    const slots = intervalS === DAY_S ? 1 : Math.ceil((to - firstS) / intervalS)
    const exponent = exponentOf(reads.map((r) => r.nano))
    const at = (r: ModelRead): number => (r.startS - firstS) / intervalS
    const value = (r: ModelRead): number => Number(r.nano / 10n ** BigInt(exponent + 9))
    const lane = (r: ModelRead): number => r.lane
    const fill = <T>(empty: T, of: (r: ModelRead) => T): T[] => {
      const out = new Array<T>(slots).fill(empty)
      for (const r of reads) out[at(r)] = of(r)
      return out
    }
    const sorted = [...reads].sort((a, b) => a.startS - b.startS)
    const peak = sorted.reduce((a, b) => b.nano > a.nano ? b : a)
    return {
      meter, flow, interval_s: intervalS, day: dayText(day), first_s: firstS, exponent,
      total: Number(reads.reduce((sum, r) => sum + r.nano, 0n) / 10n ** BigInt(exponent + 9)),
      peak: value(peak), peak_slot: at(peak), present: reads.length,
      estimated: reads.filter((r) => r.lane === Quality.estimated).length, version: Math.max(...reads.map((r) => r.version)),
      vals: fill<number | null>(null, value),
      lane: reads.every((r) => r.lane === 0) ? null : fill(0, lane),
      versions: reads.every((r) => r.version === reads[0].version) ? null : fill(0, (r) => r.version),
    }
  }

  /** The reads that count: no channel of a shorter interval, of the same meter and flow, reaches over their start. */
  counting(): ModelRead[] {
    const reach = new Map<string, { meter: string; flow: number; intervalS: number; from: number; to: number }>()
    for (const { meter, flow, intervalS, startS } of this.slots.values()) {
      const key = `${meter}|${flow}|${intervalS}`
      const r = reach.get(key) ?? { meter, flow, intervalS, from: Infinity, to: -Infinity }
      reach.set(key, { ...r, from: Math.min(r.from, startS), to: Math.max(r.to, startS + intervalS) })
    }
    const channels = [...reach.values()]
    return [...this.slots.values()].filter((r) => !channels.some((c) => c.meter === r.meter && c.flow === r.flow
      && c.intervalS < r.intervalS && r.startS >= c.from && r.startS < c.to))
  }

  /** Load of these meters per hour of the zone's clock, as storedLoad() reads it. */
  load(isMain: (meter: string) => boolean = () => true): { flow: number; hour: number; energy: string; coarse: string }[] {
    const hours = new Map<string, { flow: number; hour: number; energy: bigint; coarse: bigint }>()
    for (const r of this.counting()) {
      if (!isMain(r.meter)) continue
      const local = r.startS + this.zone.offsetAt(r.startS)
      const hour = r.startS - (local - Math.floor(local / 3600) * 3600)
      const entry = hours.get(`${r.flow}|${hour}`) ?? { flow: r.flow, hour, energy: 0n, coarse: 0n }
      if (r.intervalS > 3600) entry.coarse += r.nano
      else entry.energy += r.nano
      hours.set(`${r.flow}|${hour}`, entry)
    }
    return [...hours.values()].filter((h) => h.energy !== 0n || h.coarse !== 0n).sort((a, b) => a.flow - b.flow || a.hour - b.hour)
      .map((h) => ({ flow: h.flow, hour: h.hour, energy: nanoText(h.energy), coarse: nanoText(h.coarse) }))
  }

  /** Delivered energy that meters give to an account in [fromS, toS): billionths of a kWh. */
  usage(assignments: readonly { meter: string; fromS: number; toS: number }[], fromS: number, toS: number): bigint {
    let sum = 0n
    for (const r of this.counting()) {
      if (r.flow !== Flow.delivered || r.startS < fromS || r.startS >= toS) continue
      if (assignments.some((a) => a.meter === r.meter && r.startS >= a.fromS && r.startS < a.toS)) sum += r.nano
    }
    return sum
  }
}

/** Watt-hours where all values are whole and fit; else the coarsest power of ten that loses nothing. */
function exponentOf(nanos: readonly bigint[]): number {
  const isWhole = (e: number): boolean => nanos.every((n) => n % 10n ** BigInt(e + 9) === 0n)
  const fits = (e: number): boolean => nanos.every((n) => (n < 0n ? -n : n) / 10n ** BigInt(e + 9) <= MAX_MANTISSA)
  if (isWhole(-3)) for (let e = -3; ; e++) if (fits(e)) return e
  for (let e = -4; ; e--) if (isWhole(e)) return e
}

/** Billionths as decimal text without trailing zeros. */
export function nanoText(nano: bigint): string {
  const digits = (nano < 0n ? -nano : nano).toString().padStart(10, '0')
  const text = `${digits.slice(0, -9)}.${digits.slice(-9)}`.replace(/\.?0+$/, '')
  return nano < 0n ? `-${text}` : text
}
