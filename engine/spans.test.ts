import fc from 'fast-check'
import { expect, it } from 'vitest'
import { counts } from './load.js'
import { difference, spansOf, type ChannelReach } from './spans.js'

const reach = fc.record({ intervalS: fc.constantFrom(300, 900, 3600), from: fc.nat(20), length: fc.integer({ min: 0, max: 10 }) })

it('exactly one of the channels that reach over an instant counts there: that of the shortest interval', () => {
  fc.assert(fc.property(fc.array(reach, { maxLength: 5 }), (list) => {
    const channels: ChannelReach[] = list.map((r, i) => ({
      channelId: i + 1, flow: 1, intervalS: r.intervalS, firstS: r.length === 0 ? null : r.from, endS: r.length === 0 ? null : r.from + r.length }))
    const spans = spansOf(channels)
    expect([...spans.keys()].sort()).toEqual(channels.map((c) => c.channelId))
    for (let at = -1; at < 32; at++) {
      const here = channels.filter((c) => c.firstS !== null && at >= c.firstS && at < c.endS!)
      const best = here.sort((a, b) => a.intervalS - b.intervalS || a.channelId - b.channelId).at(0)?.channelId
      expect(channels.filter((c) => counts(spans.get(c.channelId)!, at)).map((c) => c.channelId)).toEqual(best === undefined ? [] : [best])
    }
  }), { numRuns: 500 })
})

it('the difference of two lists is where one of them counts and the other does not', () => {
  const list = fc.array(fc.tuple(fc.nat(20), fc.integer({ min: 1, max: 8 })), { maxLength: 4 }).map((l) => l.map(([a, n]) => [a, a + n] as [number, number]))
  const spans = fc.oneof(fc.constant(null), list)
  fc.assert(fc.property(spans, spans, (a, b) => {
    const between = difference(a, b)
    for (let at = -2; at < 32; at++) expect(counts(between, at)).toBe(counts(a, at) !== counts(b, at))
  }), { numRuns: 500 })
})
