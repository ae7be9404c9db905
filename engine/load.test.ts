import { describe, expect, it } from 'vitest'
import { LoadDifference } from './load.js'
import { emptyBlock, merge, type Block } from './settle.js'
import { getZone } from './time/zone.js'

const DAY_S = Date.parse('2026-10-05T05:00:00Z') / 1000

function block(values: number[], { firstS = DAY_S, intervalS = 900, exponent = -3 } = {}): Block {
  const b = emptyBlock(1, 20_000, firstS, intervalS, values.length, 1, 0)
  merge(b, { slot: 0, count: values.length, values: Int32Array.from(values), offset: 0, exponent, lane: 0, lanes: null, version: 1 })
  return b
}

function loadOf(add: (load: LoadDifference) => void, zone = 'America/Chicago'): [number, string, string][] {
  const load = new LoadDifference(getZone(zone))
  add(load)
  return load.rows().map((r) => [r.hourS, r.energy, r.coarse])
}

describe('the load of a commit', () => {
  it('is exact at any exponent, also where a double would not hold the sum', () => {
    const great = block(Array<number>(4).fill(2_147_483_647))
    expect(loadOf((load) => {
      for (let i = 0; i < 1_100_000; i++) load.add(great, 1, null, 1)
      load.add(block([1], { exponent: -9 }), 1, null, 1)
    })).toEqual([[DAY_S, `${String(1_100_000n * 4n * 2_147_483_647n).slice(0, -3)}.${String(1_100_000n * 4n * 2_147_483_647n).slice(-3)}000001`, '0.000000000']])
  })

  it('that takes away what it adds is nothing', () => {
    const b = block([1, 2, 3, 4, 5])
    expect(loadOf((load) => {
      load.add(b, 1, null, 1)
      load.add(b, 1, null, -1)
    })).toEqual([])
  })

  it('books reads longer than an hour apart, in the hour they start in', () => {
    expect(loadOf((load) => {
      load.add(block([7], { intervalS: 86_400 }), 1, null, 1)
      load.add(block([1, 2, 3, 4, 5]), 1, null, 1)
    })).toEqual([[DAY_S, '0.010000000', '0.007000000'], [DAY_S + 3600, '0.005000000', '0.000000000']])
  })

  it('counts only the slots that begin where the channel counts', () => {
    const b = block([1, 10, 100, 1000, 10_000])
    expect(loadOf((load) => { load.add(b, 1, [[DAY_S + 900, DAY_S + 2700], [DAY_S + 3600, DAY_S + 9999]], 1) })).toEqual([
      [DAY_S, '0.110000000', '0.000000000'], [DAY_S + 3600, '10.000000000', '0.000000000']])
    expect(loadOf((load) => { load.add(b, 1, [], 1) })).toEqual([])
  })

  it('has hours of the local clock where that is half an hour beside UTC', () => {
    const firstS = Date.parse('2026-10-05T00:00:00+05:30') / 1000
    const utcHour = Date.parse('2026-10-05T01:00:00+05:30') / 1000
    expect(loadOf((load) => { load.add(block([1, 2, 3, 4, 5], { firstS }), 1, null, 1) }, 'Asia/Kolkata')).toEqual([
      [firstS, '0.010000000', '0.000000000'], [utcHour, '0.005000000', '0.000000000']])
    // Hourly reads on the grid of UTC begin at half past of the local clock.
    expect(loadOf((load) => { load.add(block([1, 2], { firstS: firstS + 1800, intervalS: 3600 }), 1, null, 1) }, 'Asia/Kolkata').map((r) => r[0]))
      .toEqual([firstS, utcHour])
  })
})
