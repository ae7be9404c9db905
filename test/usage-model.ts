import { flowNames, type FlowCode } from '../engine/read-batch.js'
import type { Zone } from '../engine/time/zone.js'
import type { TestChannel } from './usage-fixture.js'

/** A read as the model holds it: value in micro-kWh. */
export interface ModelRead {
  micro: bigint
  lane: number
}

/** Where a channel counts. */
export interface ModelSegment {
  channel: TestChannel
  fromS: number
  toS: number
}

export interface ModelPeriod {
  value: number | null
  expected: number
  present: number
  estimated: number
  missing: number
  peakKw: number | null
  peakAtS: number | null
}

/**
 * Usage worked out read by read, with no aggregate, no bucket walk and no SQL: what the answers are compared with.
 * Every grid has a point at each local midnight, so channels of an hour do not fit zones that shift by half an hour.
 */
export class UsageModel {
  readonly zone: Zone
  readonly segments: readonly ModelSegment[]
  readonly #reads: ReadonlyMap<number, ReadonlyMap<number, ModelRead>>
  readonly #dueS: number

  constructor(zone: Zone, segments: readonly ModelSegment[], reads: ReadonlyMap<number, ReadonlyMap<number, ModelRead>>, nowS: number) {
    this.zone = zone
    this.segments = segments
    this.#reads = reads
    this.#dueS = zone.dayStart(zone.dayOf(nowS))
  }

  /** Every slot of the matching segments that starts in [fromS, toS), with its read if there is one. */
  slots(flow: FlowCode, meter: string | null, fromS: number, toS: number): { s: ModelSegment; t: number; day: number; due: boolean; read?: ModelRead }[] {
    const found = []
    for (const s of this.segments) {
      if (s.channel.flow !== flow || (meter !== null && s.channel.meter !== meter)) continue
      const reads = this.#reads.get(s.channel.channelId) ?? new Map<number, ModelRead>()
      const firstDay = reads.size === 0 ? Infinity : Math.min(...[...reads.keys()].map((t) => this.zone.dayOf(t)))
      for (let day = this.zone.dayOf(fromS); day <= this.zone.dayOf(toS - 1); day++) {
        const endS = this.zone.dayStart(day + 1)
        for (let t = this.zone.dayStart(day); t < endS; t += s.channel.intervalS === 86_400 ? Infinity : s.channel.intervalS) {
          if (t < Math.max(s.fromS, fromS) || t >= Math.min(s.toS, toS)) continue
          found.push({ s, t, day, due: day >= firstDay && this.zone.dayStart(day) < this.#dueS, read: reads.get(t) })
        }
      }
    }
    return found
  }

  period(flow: FlowCode, meter: string | null, fromS: number, toS: number): ModelPeriod {
    const slots = this.slots(flow, meter, fromS, toS)
    const due = slots.filter((x) => x.due)
    const held = slots.filter((x) => x.read !== undefined)
    const present = due.filter((x) => x.read !== undefined)
    const peaks = new Map<number, { micro: bigint; intervalS: number }>()
    for (const x of held) {
      // The longest interval of the day's reads.
      const dayS = this.zone.dayStart(x.day)
      const longest = Math.max(...held.filter((y) => y.day === x.day).map((y) => y.s.channel.intervalS))
      const atS = longest === 86_400 ? dayS : dayS + Math.floor((x.t - dayS) / longest) * longest
      const micro = (peaks.get(atS)?.micro ?? 0n) + x.read!.micro
      peaks.set(atS, { micro, intervalS: longest === 86_400 ? this.zone.dayStart(x.day + 1) - dayS : longest })
    }
    let peak: { kw: number; atS: number } | null = null
    for (const [atS, { micro, intervalS }] of [...peaks].sort((a, b) => a[0] - b[0])) {
      const kw = (Number(micro) * 3600) / (intervalS * 1e6)
      if (peak === null || kw > peak.kw) peak = { kw, atS }
    }
    return {
      value: held.length === 0 ? null : energy(held.map((x) => x.read!)),
      expected: due.length,
      present: present.length,
      estimated: present.filter((x) => (x.read!.lane & 7) === 1).length,
      missing: due.length - present.length,
      peakKw: peak?.kw ?? null,
      peakAtS: peak?.atS ?? null,
    }
  }

  /** Flows (and meters) that are metered in the range, as answers name them. */
  series(byMeter: boolean, fromS: number, toS: number): { flow: FlowCode; name: string; meter: string | null }[] {
    const found = new Map<string, { flow: FlowCode; name: string; meter: string | null }>()
    for (const s of this.segments) {
      if (Math.max(s.fromS, fromS) >= Math.min(s.toS, toS)) continue
      const meter = byMeter ? s.channel.meter : null
      found.set(`${s.channel.flow} ${meter}`, { flow: s.channel.flow, name: flowNames[s.channel.flow], meter })
    }
    return [...found.values()]
  }
}

/** Exact kWh of reads, as the double nearest to it. */
export function energy(reads: readonly ModelRead[]): number {
  return Number(reads.reduce((sum, r) => sum + r.micro, 0n)) / 1e6
}
