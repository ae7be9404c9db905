import fc from 'fast-check'
import { expect, it } from 'vitest'
import { MISSING } from '../read-batch.js'
import type { Block } from '../settle.js'
import { getZone } from '../time/zone.js'
import { hourStart } from './kinds.js'
import { seenOf } from './seen.js'

const ZONES = ['America/Chicago', 'Asia/Kathmandu', 'Australia/Lord_Howe', 'Asia/Kolkata']

it('the bounds of a block are never below what any part of its day can come to, and are reached', () => {
  fc.assert(fc.property(
    fc.constantFrom(...ZONES), fc.integer({ min: 20_454, max: 20_800 }), fc.constantFrom(300, 900, 1800, 3600, 86_400), fc.constantFrom(-3, 0, -6),
    fc.array(fc.option(fc.integer({ min: 0, max: 5000 })), { minLength: 288, maxLength: 288 }), (zoneName, day, intervalS, exponent, drawn) => {
      const zone = getZone(zoneName)
      const firstS = zone.dayStart(day)
      const slots = intervalS === 86_400 ? 1 : Math.floor((zone.dayStart(day + 1) - firstS) / intervalS)
      const vals = Int32Array.from({ length: slots }, (_, i) => drawn[i % drawn.length] ?? MISSING)
      const held = [...vals].filter((v) => v !== MISSING)
      const block: Block = {
        channelId: 1, day, firstS, intervalS, exponent, vals, lane: null, version: 1, versions: null, present: held.length, estimated: 0,
        total: held.reduce((a, b) => a + b, 0), peak: Math.max(0, ...held), peakSlot: 0, deliveryNo: 1, settledAtUs: 1, restatedAtUs: 0 }
      const seen = seenOf(block, null, 1, false, zone, true)
      const unit = 10 ** exponent
      const hours = new Map<number, number>()
      vals.forEach((v, i) => {
        if (v === MISSING || intervalS > 3600) return
        const hour = hourStart(firstS + i * intervalS, zone)
        hours.set(hour, (hours.get(hour) ?? 0) + v)
      })
      for (const sum of hours.values()) expect(seen.hourKwh).toBeGreaterThanOrEqual(sum * unit * (1 - 1e-12))
      if (hours.size > 0) expect(seen.hourKwh).toBeLessThanOrEqual(2 * Math.max(...hours.values()) * unit)
      expect(seen.kwh).toBeCloseTo(held.reduce((a, b) => a + b, 0) * unit, 6)
      expect(seen.kw).toBeCloseTo(Math.max(0, ...held) * unit * 3600 / (intervalS === 86_400 ? zone.dayStart(day + 1) - firstS : intervalS), 6)
    }))
})
