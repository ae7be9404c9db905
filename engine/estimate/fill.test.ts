import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fillEmpty } from '../fill.js'
import { emptyBlock, type Block } from '../settle.js'
import { MISSING, Quality } from '../read-batch.js'
import { getZone } from '../time/zone.js'
import { DEFAULT_RULE_SET } from '../validate/rule-set.js'
import { fillGaps, Method, type Filling, type Surroundings } from './fill.js'
import { isOwnEstimate, seriesOf } from './series.js'

const zone = getZone('America/Chicago')
/** A Monday. */
const DAY = 20_745
const RULES = { ...DEFAULT_RULE_SET.estimation, enabled: true }

function block(day: number, wh: (slot: number) => number | null, lane = 0): Block {
  const slots = (zone.dayStart(day + 1) - zone.dayStart(day)) / 900
  const b = emptyBlock(1, day, zone.dayStart(day), 900, slots, 1, 0)
  const values = Int32Array.from({ length: slots }, (_, i) => wh(i) ?? MISSING)
  fillEmpty(b, { slot: 0, count: slots, values, offset: 0, exponent: -3, lane, lanes: null, version: 1e15 })
  return b
}

function fill(blocks: readonly Block[], around: Partial<Surroundings> = {}, rules = RULES): Filling & { at: (day: number, slot: number) => number | undefined; methods: () => number[] } {
  const series = seriesOf(zone, new Map(blocks.map((b) => [b.day, b])), DAY - 40, DAY + 2, 900)!
  const toSlot = series.days.filter((d) => d.day <= DAY).reduce((n, d) => n + d.slots, 0)
  const filling = fillGaps(series, { outages: [], registers: [], ...around }, rules, toSlot)
  return {
    ...filling, methods: () => [...new Set(filling.estimates.map((e) => e.method))],
    at: (day, slot) => filling.estimates.find((e) => e.slot === series.days.find((d) => d.day === day)!.offset + slot)?.mantissa,
  }
}

/** All days of the five weeks before, each with its number in its values. */
const history = (wh: (day: number, slot: number) => number = (day, slot) => 100 + slot + (DAY - day)): Block[] =>
  Array.from({ length: 40 }, (_, i) => block(DAY - 40 + i, (slot) => wh(DAY - 40 + i, slot)))

describe('linear', () => {
  it('goes point to point over two hours and no more', () => {
    const gap = (n: number) => block(DAY, (i) => i >= 40 && i < 40 + n ? null : i < 40 ? 100 : 190)
    const two = fill([...history(), gap(8)])
    expect(two.estimates.map((e) => e.mantissa)).toEqual([110, 120, 130, 140, 150, 160, 170, 180])
    expect(two.methods()).toEqual([Method.linear])
    expect(fill([...history(), gap(9)]).methods()).toEqual([Method.likeDay])
  })

  it('has no end point that is estimated, questionable, or without power', () => {
    const gap = block(DAY, (i) => i === 40 ? null : 100)
    for (const quality of [Quality.estimated, Quality.questionable]) {
      const odd = { ...gap, lane: new Int16Array(96) }
      odd.lane[41] = quality
      expect(fill([...history(), odd]).methods()).toEqual([Method.likeDay])
    }
    const at = zone.dayStart(DAY) + 39 * 900
    expect(fill([...history(), gap], { outages: [{ fromS: at, toS: at + 60 }] }).methods()).toEqual([Method.likeDay])
  })

  it('reaches over midnight', () => {
    const before = history().slice(0, -1)
    const { estimates } = fill([...before, block(DAY - 1, (i) => i >= 94 ? null : 100), block(DAY, (i) => i < 2 ? null : 200)])
    expect(estimates.map((e) => e.mantissa)).toEqual([120, 140, 160, 180])
  })
})

describe('like days', () => {
  it('are the three of the same weekday before: their mean', () => {
    const { at, basis, estimates } = fill([...history(), block(DAY, (i) => i < 12 ? null : 100)])
    // 7, 14 and 21 days back: 100 + slot + 14.
    expect(at(DAY, 0)).toBe(114)
    expect(at(DAY, 11)).toBe(125)
    expect(estimates).toHaveLength(12)
    expect(basis.get(DAY)).toEqual({ methods: ['like-day'], likeDays: [DAY - 7, DAY - 14, DAY - 21] })
  })

  it('are never estimated or broken days, nor older than 35 days', () => {
    const blocks = history()
    blocks[33] = block(DAY - 7, () => 9999, Quality.estimated)
    blocks[26] = block(DAY - 14, (i) => i === 50 ? null : 9999)
    // A broken day is a gap itself, and short enough for a line.
    expect(fill([...blocks, block(DAY, (i) => i < 12 ? null : 100)]).basis.get(DAY)).toMatchObject({ likeDays: [DAY - 21, DAY - 28, DAY - 35] })
  })

  it('are days of the same kind where the weekday has too few; none without any', () => {
    const few = history().slice(35)
    expect(fill([...few, block(DAY, (i) => i < 12 ? null : 100)]).basis.get(DAY)).toMatchObject({ likeDays: [DAY - 3, DAY - 4, DAY - 5] })
    expect(fill([block(DAY - 1, (i) => i < 50 ? 5 : null), block(DAY, () => null)]).estimates).toEqual([])
  })

  it('fill 35 days of a gap and no more', () => {
    const rules = { ...RULES, maxGapDays: 3 }
    const { estimates } = fill([...history().slice(0, -5), block(DAY - 5, () => null)], {}, rules)
    const per = new Set(estimates.map((e) => Math.floor(e.slot / 96)))
    expect(per.size).toBe(3)
    expect(estimates).toHaveLength(3 * 96)
  })

  it('take the same time of the clock on the days of its changes', () => {
    const fall = Math.round(Date.parse('2026-11-01T00:00:00Z') / 86_400_000)
    const blocks = Array.from({ length: 30 }, (_, i) => block(fall - 30 + i, (slot) => slot))
    const series = seriesOf(zone, new Map(blocks.map((b) => [b.day, b])), fall - 30, fall + 1, 900)!
    const { estimates } = fillGaps(series, { outages: [], registers: [] }, RULES, series.values.length)
    // 0:00 to 1:45, once more 1:00 to 1:45, and on to 23:45.
    expect(estimates.map((e) => e.mantissa)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, ...Array.from({ length: 92 }, (_, i) => 4 + i)])
  })
})

describe('registers that bracket a gap', () => {
  it('scale what fills it to exactly what they leave over', () => {
    fc.assert(fc.property(fc.integer({ min: 0, max: 90_000 }), fc.integer({ min: 0, max: 80 }), fc.integer({ min: 1, max: 16 }), (left, from, count) => {
      const others = (96 - count) * 100
      const registers = [{ atS: zone.dayStart(DAY), mantissa: 5_000_000 }, { atS: zone.dayStart(DAY + 1), mantissa: 5_000_000 + others + left }]
      const { estimates, methods } = fill([...history(), block(DAY, (i) => i >= from && i < from + count ? null : 100), block(DAY + 1, () => 100)], { registers })
      expect(estimates.reduce((sum, e) => sum + e.mantissa, 0)).toBe(left)
      expect(estimates).toHaveLength(count)
      expect(estimates.every((e) => e.mantissa >= 0)).toBe(true)
      expect(methods()).toEqual([count <= 8 ? Method.linearRegister : Method.likeDayRegister])
    }))
  })

  it('say nothing where they go backwards, or leave less than nothing', () => {
    for (const second of [4_000_000, 5_000_010]) {
      const registers = [{ atS: zone.dayStart(DAY), mantissa: 5_000_000 }, { atS: zone.dayStart(DAY + 1), mantissa: second }]
      expect(fill([...history(), block(DAY, (i) => i === 40 ? null : 100)], { registers }).methods()).toEqual([Method.linear])
    }
  })
})

describe('an outage that is over', () => {
  it('was zero, and is no end of a line', () => {
    const at = zone.dayStart(DAY) + 40 * 900
    const { estimates } = fill([...history(() => 77), block(DAY, (i) => i >= 40 && i < 44 ? null : 100)], { outages: [{ fromS: at, toS: at + 2700 }] })
    expect(estimates.map((e) => [e.mantissa, e.method])).toEqual([...new Array<number[]>(3).fill([0, Method.outageZero]), [77, Method.likeDay]])
  })
})

describe('the engine\'s own estimates', () => {
  it('are told by their version, and are gaps still', () => {
    expect(isOwnEstimate(Quality.estimated, 1_790_000_000_000)).toBe(true)
    expect(isOwnEstimate(Quality.estimated, 1_790_000_000_000_000)).toBe(false)
    expect(isOwnEstimate(Quality.actual, 1_790_000_000_000)).toBe(false)
    const own = block(DAY, (i) => i === 40 ? 5 : 100)
    own.lane = new Int16Array(96)
    own.lane[40] = Quality.estimated | 1 << 3
    own.versions = new Float64Array(96).fill(1e15)
    own.versions[40] = 1_790_000_000_000
    expect(fill([...history(), own]).at(DAY, 40)).toBe(100)
  })
})
