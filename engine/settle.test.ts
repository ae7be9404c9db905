import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fillEmpty, fillMissing } from './fill.js'
import { MISSING, Quality, rankOf } from './read-batch.js'
import { cloneBlock, emptyBlock, merge, restoreSlots, type Block, type Offer } from './settle.js'

const RUNS = Number(process.env.FC_RUNS ?? 2000)
const SLOTS = 6

function empty(): Block {
  return emptyBlock(1, 20_000, 0, 900, SLOTS, 7, 0)
}

function offer(values: (number | null)[], extra: Partial<Offer> = {}): Offer {
  return {
    slot: 0, count: values.length, values: Int32Array.from(values, (v) => v ?? MISSING), offset: 0, exponent: -3, lane: 0,
    lanes: null, version: 1, ...extra,
  }
}

function offerOf({ values: list, ...extra }: { values: (number | null)[]; slot: number; lane: number; version: number; exponent: number }): Offer {
  return offer(list, extra)
}

const values = (b: Block): (number | null)[] => [...b.vals].map((v) => v === MISSING ? null : v)

describe('merge', () => {
  it('keeps watt-hours where they fit, and else the coarsest power of ten that loses nothing', () => {
    const b = empty()
    merge(b, offer([5], { exponent: 0 }))
    expect([b.exponent, b.vals[0]]).toEqual([-3, 5000])
    merge(b, offer([1250], { slot: 1, exponent: -5 }))
    expect([b.exponent, values(b).slice(0, 2)]).toEqual([-4, [50_000, 125]])
    merge(b, offer([13], { slot: 1, exponent: -3, version: 2 }))
    expect([b.exponent, values(b).slice(0, 2)]).toEqual([-3, [5000, 13]])
    merge(b, offer([3_000_000], { slot: 1, exponent: 0, version: 3 }))
    expect([b.exponent, values(b).slice(0, 2)]).toEqual([-2, [500, 300_000_000]])
    merge(b, offer([1], { slot: 1, exponent: 6, version: 4 }))
    expect([b.exponent, values(b).slice(0, 2)]).toEqual([-3, [5000, 1_000_000_000]])
  })

  it('refuses only what no power of ten holds beside the others', () => {
    const b = empty()
    merge(b, offer([1], { exponent: -9 }))
    const result = merge(b, offer([7, 3_000_000], { slot: 1 }))
    expect(result).toMatchObject({ stored: 1, unfit: 1, unfitSlots: [2] })
    expect(b).toMatchObject({ exponent: -9, total: 7_000_001, present: 2 })
    // What it replaces does not stand in its way.
    expect(merge(b, offer([3_000_000], { version: 2 }))).toMatchObject({ corrected: 1, unfit: 0 })
    expect(b).toMatchObject({ exponent: -3, total: 3_000_007 })
  })

  it('gives lanes and versions up where they say nothing any more', () => {
    const b = empty()
    merge(b, offer([1, 2], { lane: Quality.estimated }))
    expect(b).toMatchObject({ estimated: 2, versions: null, version: 1 })
    merge(b, offer([1], { version: 2 }))
    expect([b.estimated, [...b.lane!].slice(0, 3), [...b.versions!].slice(0, 3)]).toEqual([1, [0, 1, 0], [2, 1, 0]])
    merge(b, offer([2], { slot: 1, version: 2 }))
    expect(b).toMatchObject({ lane: null, versions: null, version: 2, estimated: 0 })
  })

  it('leaves a block of which nothing changed as it was', () => {
    const b = empty()
    merge(b, offer([1, 2, null, 4], { version: 5 }))
    const before = cloneBlock(b)
    expect(merge(b, offer([1, 2, null, 4], { version: 5 }))).toMatchObject({ duplicate: 3, before: null, lost: null, restated: false })
    expect(merge(b, offer([3, null, null, 4], { version: 4 }))).toMatchObject({
      outranked: 1, duplicate: 1, before: null, lost: { slots: [0], vals: [3], versions: [4] } })
    expect(b).toEqual(before)
  })

  it('is undone by the record of what stood', () => {
    const b = empty()
    merge(b, offer([1, 2, null, 4], { version: 5 }))
    const before = cloneBlock(b)
    const { before: record, restated } = merge(b, offer([7, null, 8], { version: 6, exponent: -6, lane: Quality.edited }))
    expect(restated).toBe(true)
    restoreSlots(b, record!)
    expect(b).toEqual(before)
    restoreSlots(b, { slots: [0, 1, 3], exponent: -3, vals: [MISSING, MISSING, MISSING], lanes: [0, 0, 0], versions: [0, 0, 0] })
    expect(b).toMatchObject({ present: 0, total: 0, peak: 0, peakSlot: -1, version: 0, versions: null, lane: null, exponent: -3 })
    merge(b, offer([9], { version: 3 }))
    expect(b).toMatchObject({ present: 1, total: 9, version: 3, versions: null })
  })
})

const reads = fc.record({
  slot: fc.nat(SLOTS - 1),
  values: fc.array(fc.oneof(fc.constant(null), fc.integer({ min: -3, max: 3 }), fc.integer({ min: -999, max: 999 })), { minLength: 1, maxLength: SLOTS }),
  lane: fc.constantFrom(0, 0, 0, 1, 2, 4, 5, 1 | 1 << 3, 1 << 8), version: fc.integer({ min: 1, max: 3 }), exponent: fc.constantFrom(-3, -3, -2, 0, -5),
}).map((r) => ({ ...r, values: r.values.slice(0, SLOTS - r.slot) }))

function settled(offers: readonly Offer[]): Block {
  const b = empty()
  for (const o of offers) merge(b, o)
  return b
}

describe('for any offers', () => {
  it('the order, repetitions and splits do not matter, and the greatest stands (C2, C4)', () => {
    fc.assert(fc.property(fc.array(reads, { minLength: 1, maxLength: 6 }), fc.func(fc.nat()), (list, weigh) => {
      const offers = list.map(offerOf)
      const single = list.flatMap((r) => r.values.map((v, i) => offerOf({ ...r, values: [v], slot: r.slot + i })))
      const shuffled = [...single, ...offers].map((o, i) => [weigh(i), o] as const).sort((a, b) => a[0] - b[0]).map(([, o]) => o)
      const b = settled(offers)
      expect(settled(shuffled)).toEqual(b)
      for (let slot = 0; slot < SLOTS; slot++) {
        const here = single.filter((o) => o.slot === slot && o.values[0] !== MISSING)
        const best = [...here].sort((x, y) => rankOf(y.lane) - rankOf(x.lane) || y.version - x.version
          || y.values[0] * 10 ** (y.exponent + 5) - x.values[0] * 10 ** (x.exponent + 5) || y.lane - x.lane).at(0)
        const stands = b.vals[slot] === MISSING ? null : Math.round(b.vals[slot] * 10 ** (b.exponent + 5))
        expect(stands).toBe(best === undefined ? null : best.values[0] * 10 ** (best.exponent + 5))
      }
    }), { numRuns: RUNS })
  })

  it('the counts add up and the aggregates are those of the values (C1, C3)', () => {
    fc.assert(fc.property(fc.array(reads, { minLength: 1, maxLength: 6 }), (list) => {
      const b = empty()
      for (const r of list) {
        const result = merge(b, offerOf(r))
        expect(result.stored + result.duplicate + result.corrected + result.outranked + result.unfit).toBe(
          r.values.filter((v) => v !== null).length)
        const present = [...b.vals].filter((v) => v !== MISSING)
        expect([b.present, b.total, b.estimated]).toEqual([present.length, present.reduce((x, y) => x + y, 0),
          [...b.vals].filter((v, i) => v !== MISSING && ((b.lane?.[i] ?? 0) & 7) === Quality.estimated).length])
        if (present.length > 0) expect([b.peak, b.vals.indexOf(b.peak)]).toEqual([Math.max(...present), b.peakSlot])
      }
    }), { numRuns: RUNS })
  })

  it('filling an empty block comes to the same as merging into it', () => {
    fc.assert(fc.property(reads, (r) => {
      const [filled, merged] = [empty(), empty()]
      const o = offerOf({ ...r, exponent: -3 })
      expect(fillEmpty(filled, o)).toBe(merge(merged, o).stored)
      expect(filled).toEqual(merged)
    }), { numRuns: RUNS })
  })

  it('filling slots that are missing comes to the same as merging into them, and others are left to merge', () => {
    let taken = 0
    fc.assert(fc.property(fc.array(reads, { maxLength: 3 }), reads, (list, r) => {
      const [filled, merged] = [settled(list.map(offerOf)), settled(list.map(offerOf))]
      const before = cloneBlock(filled)
      const o = offerOf(r)
      const stored = fillMissing(filled, o)
      if (stored < 0) {
        expect(filled).toEqual(before)
        return
      }
      taken += stored
      expect(merge(merged, o)).toMatchObject({ stored, duplicate: 0, corrected: 0, outranked: 0, unfit: 0, restated: false })
      expect(filled).toEqual(merged)
    }), { numRuns: RUNS })
    expect(taken).toBeGreaterThan(0)
  })
})
