import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { cutFloat64, cutInt32 } from './slab.js'

describe('arrays cut from slabs', () => {
  it('are zeros, and none reaches into another', () => {
    const length = fc.oneof(fc.nat(200), fc.integer({ min: 3000, max: 20_000 }))
    fc.assert(fc.property(fc.array(length, { minLength: 1, maxLength: 200 }), fc.constantFrom(cutInt32, cutFloat64), (lengths, cut) => {
      const arrays = lengths.map((n) => cut(n))
      expect(arrays.map((a) => a.length)).toEqual(lengths)
      expect(arrays.every((a) => a.every((v) => v === 0))).toBe(true)
      arrays.forEach((a, i) => a.fill(i + 1))
      expect(arrays.every((a, i) => a.every((v) => v === i + 1))).toBe(true)
    }), { numRuns: 50 })
  })
})
