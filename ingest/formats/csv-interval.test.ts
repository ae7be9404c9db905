import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bytesOf, normalReads } from '../../test/format-reads.js'
import { csv } from './csv.js'
import { deriveInterval, Spacings } from './csv-interval.js'
import { CsvRows } from './csv-rows.js'
import { TimeReader } from './timestamps.js'

const HEADER = 'meter,start,flow,value\n'

function row(meter: string, minute: number, flow: string, value: string): string {
  return `${meter},${new Date(Date.UTC(2026, 9, 1) + minute * 60_000).toISOString().slice(0, 19)}Z,${flow},${value}`
}

function derived(text: string): number | undefined {
  const bytes = bytesOf(text)
  return deriveInterval(new CsvRows(bytes), bytes, HEADER.length, { meter: 0, flow: 2, time: 1 }, new TimeReader())
}

describe('an interval length that nothing states', () => {
  // Mostly one spacing, so that guesses hold, and now and then another, a row that cannot be read fast, or none at all.
  const step = fc.oneof({ weight: 12, arbitrary: fc.constant(15) }, { weight: 1, arbitrary: fc.constantFrom(0, 5, 30, 60, -15, 1440) })
  const one = fc.record({
    meter: fc.constantFrom('A', 'A', 'B', '"A"', 'C c'), step, flow: fc.constantFrom('', '', '', 'received'),
    value: fc.oneof({ weight: 9, arbitrary: fc.constant('1') }, { weight: 1, arbitrary: fc.constantFrom('', 'x', '"2"', '1.23456789012') }),
    before: fc.oneof({ weight: 20, arbitrary: fc.constant('') }, { weight: 1, arbitrary: fc.constantFrom('\n', 'A,x,,1\n', 'A\n', '"A\n') }),
  })
  const bodies = fc.array(one, { minLength: 1, maxLength: 60 }).map(rows => {
    const minutes = new Map<string, number>()
    return HEADER + rows.map(({ meter, step, flow, value, before }) => {
      const minute = (minutes.get(meter + flow) ?? 0) + step
      minutes.set(meter + flow, minute)
      return `${before}${row(meter, minute, flow, value)}\n`
    }).join('')
  })

  it('is what all the reads tell, whatever the first ones let guess', () => {
    fc.assert(fc.property(bodies, text => {
      const told = derived(text)
      const decoded = csv.decode(bytesOf(text), { zone: null }, null, true)
      expect(decoded.notes).toHaveLength(told === undefined ? 0 : 1)
      if (told === undefined) return
      expect(decoded.notes[0]).toContain(` ${told} s,`)
      const stated = csv.decode(bytesOf(text), { zone: null, defaultIntervalS: told }, null, true)
      expect(normalReads(decoded.batch)).toEqual(normalReads(stated.batch))
      expect(decoded.problems).toEqual(stated.problems)
    }), { numRuns: 1500 })
  })

  it('is guessed wrong where the first reads are not like the rest', () => {
    const rows = [0, 60, 120, 180, 195, 210, 225, 240, 255, 270, 285].map(minute => row('A', minute, '', '1'))
    const decoded = csv.decode(bytesOf(`${HEADER}${rows.join('\n')}\n`), { zone: null }, null, true)
    expect(decoded.notes[0]).toContain(' 900 s,')
    expect([...decoded.batch.intervalS.subarray(0, decoded.batch.count)]).toEqual([900])
  })

  it('is certain where most spacings of every channel are it', () => {
    const certain = (...at: [number, number][]): boolean => {
      const spacings = new Spacings(900)
      for (const [channel, s] of at) spacings.see(channel, s)
      return spacings.holds()
    }
    expect(certain([0, 0], [0, 900], [0, 1800])).toBe(true)
    expect(certain([0, 0], [0, 900])).toBe(false)
    expect(certain([0, 0], [0, 900], [0, 1800], [2000, 0], [2000, 3600])).toBe(false)
    expect(certain([0, 0], [0, 900], [0, 2000], [0, 2900], [0, 4000])).toBe(false)
  })
})
