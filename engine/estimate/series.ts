import { methodOf, MISSING, QUALITY_MASK, Quality } from '../read-batch.js'
import { WH_EXPONENT, type Block } from '../settle.js'
import type { Zone } from '../time/zone.js'
import { slotsOf } from '../validate/judge-days.js'
import type { Series, SeriesDay } from './fill.js'

/**
 * Versions of the engine's estimates are milliseconds, those of everybody else microseconds: so whatever a source says
 * outranks the engine's own estimate (C4), also an estimate, and of the engine's the newer.
 */
const OWN_VERSIONS_BELOW = 1e14

/** True for a read that the engine estimated itself. */
export function isOwnEstimate(lane: number, version: number): boolean {
  return (lane & QUALITY_MASK) === Quality.estimated && version < OWN_VERSIONS_BELOW
}

/** The version of estimates made now. */
export function estimateVersion(nowMs: number): number {
  return Math.floor(nowMs)
}

export interface StoredSeries extends Series {
  /** Power of ten of the mantissas. */
  exponent: number
  /** The engine's estimate that stands in a slot; NaN where none does. */
  own: Float64Array
  /** Its method, as in a lane's method bits; 0 where none stands. */
  ownMethod: Uint8Array
}

/**
 * Puts stored blocks of a channel into one series of the days [fromDay, toDay), empty where no block stands; null where
 * they are not on one grid.
 */
export function seriesOf(zone: Zone, blocks: ReadonlyMap<number, Block>, fromDay: number, toDay: number, intervalS: number): StoredSeries | null {
  const days: SeriesDay[] = []
  let size = 0
  let exponent = WH_EXPONENT
  for (const b of blocks.values()) exponent = Math.min(exponent, b.exponent)
  for (let day = fromDay; day < toDay; day++) {
    const stored = blocks.get(day)
    const firstS = stored?.firstS ?? firstOf(zone, blocks, day, intervalS)
    const slots = stored?.vals.length ?? slotsOf(zone, day, intervalS)
    // A day that a zone skips has none.
    if (slots === 0) continue
    const clock = Array.from({ length: slots }, (_, i) => {
      const s = firstS + i * intervalS
      return s + zone.offsetAt(s) - day * 86_400
    })
    days.push({ day, offset: size, slots, clock, weekday: ((day + 3) % 7 + 7) % 7, isEstimated: (stored?.estimated ?? 0) > 0 })
    size += slots
  }
  const series: StoredSeries = {
    intervalS, days, exponent, startS: new Float64Array(size), values: new Float64Array(size).fill(NaN), isFirm: new Uint8Array(size),
    own: new Float64Array(size).fill(NaN), ownMethod: new Uint8Array(size),
  }
  for (const d of days) {
    const block = blocks.get(d.day)
    const scale = block === undefined ? 1 : 10 ** (block.exponent - exponent)
    for (let i = 0; i < d.slots; i++) {
      const at = d.offset + i
      series.startS[at] = d.day * 86_400 + d.clock[i] - zone.offsetAt((block?.firstS ?? firstOf(zone, blocks, d.day, intervalS)) + i * intervalS)
      if (at > 0 && intervalS < 86_400 && series.startS[at] !== series.startS[at - 1] + intervalS) return null
      if (block === undefined || block.vals[i] === MISSING) continue
      const lane = block.lane?.[i] ?? 0
      const value = block.vals[i] * scale
      if (isOwnEstimate(lane, block.versions?.[i] ?? block.version)) {
        series.own[at] = value
        series.ownMethod[at] = methodOf(lane)
      } else {
        series.values[at] = value
        const quality = lane & QUALITY_MASK
        series.isFirm[at] = quality === Quality.estimated || quality === Quality.questionable ? 0 : 1
      }
    }
  }
  return series
}

/** First slot of a day that is not stored: on the grid of the stored ones. */
function firstOf(zone: Zone, blocks: ReadonlyMap<number, Block>, day: number, intervalS: number): number {
  const start = zone.dayStart(day)
  const other = blocks.values().next()
  if (other.done === true || intervalS >= 86_400) return start
  const phase = ((other.value.firstS - start) % intervalS + intervalS) % intervalS
  return start + phase
}
