import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MISSING } from '../read-batch.js'
import { getZone } from '../time/zone.js'
import { dayNumber } from '../time/text.js'
import type { Segment } from '../usage/segments.js'
import { crossingOf, sumBlock, type Block } from './crossing.js'
import { addExact, compareExact, exactText, parseExact, ZERO } from './exact.js'
import { alertStates, findings, judge, stateAfter, type AlertState, type Finding } from './judge.js'
import { piecesOf } from './pieces.js'

describe('the life cycle of an alert', () => {
  it('is the table that is written above it', () => {
    const table = readFileSync(new URL('./judge.ts', import.meta.url), 'utf8').split('\n')
      .filter((line) => line.startsWith(' * |') && !line.includes('--')).map((line) => line.slice(3).split('|').map((cell) => cell.trim()).slice(1, -1))
    const [head, ...rows] = table
    expect(head).toEqual(['state \\ finding', ...findings])
    expect(rows.map((row) => row[0])).toEqual([...alertStates])
    for (const [state, ...moves] of rows) expect(findings.map((finding) => judge(state as AlertState, finding))).toEqual(moves)
  })

  it('stands exactly when the newest loud finding is a breach, whatever came before', () => {
    fc.assert(fc.property(fc.array(fc.constantFrom<Finding>('breach', 'clear', 'open', 'void')), (history) => {
      const end = history.reduce<AlertState>((state, finding) => stateAfter(state, judge(state, finding)), 'none')
      expect(end === 'raised').toBe(history.at(-1) === 'breach')
    }))
  })

  it('is never raised by a quiet finding, and each step is another state than the one before', () => {
    fc.assert(fc.property(fc.array(fc.constantFrom(...findings)), (history) => {
      let state: AlertState = 'none'
      for (const finding of history) {
        const move = judge(state, finding)
        const next = stateAfter(state, move)
        expect(next === state).toBe(move === 'nothing' || move === 'update')
        if (finding === 'breach-quiet') expect(next).toBe(state)
        if (finding !== 'breach' && finding !== 'breach-quiet') expect(next).not.toBe('raised')
        state = next
      }
    }))
  })
})

describe('exact decimals', () => {
  const decimal = fc.record({ mantissa: fc.bigInt(-(10n ** 20n), 10n ** 20n), exponent: fc.integer({ min: -12, max: 6 }) })

  it('write and read back as the same number', () => {
    fc.assert(fc.property(decimal, (value) => {
      expect(compareExact(parseExact(exactText(value)), value)).toBe(0)
    }))
  })

  it('add in any order to the same number', () => {
    fc.assert(fc.property(fc.array(decimal), (values) => {
      const forth = values.reduce(addExact, ZERO)
      expect(compareExact(forth, values.toReversed().reduce(addExact, ZERO))).toBe(0)
    }))
  })

  it('do not lose a thousandth: 96 x 0.001 is 0.096', () => {
    expect(exactText(Array.from({ length: 96 }, () => parseExact('0.001')).reduce(addExact, ZERO))).toBe('0.096')
    expect(['60', '60.0', '0.50', '-0.5', '1e3', '0'].map((t) => exactText(parseExact(t)))).toEqual(['60', '60', '0.5', '-0.5', '1000', '0'])
    expect(() => parseExact('1,5')).toThrow(RangeError)
  })
})

describe('what a segment gives to a period', () => {
  const zone = getZone('Australia/Lord_Howe')
  const segment = (fromS: number, toS: number, intervalS = 1800): Segment => ({
    accountId: 1, meterId: 1, meter: 'M1', channelId: 1, flow: 1, intervalS, fromS, toS,
  })

  it('is cut by instants and never counted twice or left out', () => {
    // Hypothesis: the pieces of a segment that is cut anywhere hold each slot of the period once.
    const start = dayNumber('2026-04-01')
    const days = 10
    const base = zone.dayStart(start)
    fc.assert(fc.property(fc.array(fc.integer({ min: -100, max: 900 }), { maxLength: 6 }), (cuts) => {
      const edges = [-Infinity, ...cuts.map((c) => base + c * 1000).sort((a, b) => a - b), Infinity]
      const segments = edges.slice(1).map((toS, i) => segment(edges[i], toS)).filter((s) => s.fromS < s.toS)
      const pieces = piecesOf(segments, { startDay: start, endDay: start + days }, zone, Infinity)
      const seen = new Map<number, number>()
      for (let day = start - 2; day < start + days + 2; day++) {
        for (let s = zone.dayStart(day); s < zone.dayStart(day + 1); s += 1800) {
          const whole = pieces.whole.filter((p) => day >= p.startDay && day < p.endDay).length
          const split = pieces.split.filter((p) => p.day === day && s >= p.fromS && s < p.toS).length
          seen.set(s, whole + split)
        }
      }
      for (const [s, times] of seen) expect(times).toBe(s >= base && s < zone.dayStart(start + days) ? 1 : 0)
    }))
  })

  it('is due by the present: intervals and days that have ended', () => {
    const chicago = getZone('America/Chicago')
    const day = dayNumber('2026-10-01')
    const due = (nowS: number, intervalS: number, days = 1): number =>
      piecesOf([segment(-Infinity, Infinity, intervalS)], { startDay: day, endDay: day + days }, chicago, nowS).expected
    const start = chicago.dayStart(day)
    expect([due(start - 1, 900), due(start + 899, 900), due(start + 900, 900), due(start + 1e9, 900)]).toEqual([0, 0, 1, 96])
    expect([due(start + 86399, 86400), due(start + 86400, 86400), due(start + 1e9, 86400, 60)]).toEqual([0, 1, 60])
  })
})

describe('the crossing', () => {
  const block = (values: (number | null)[], options: Partial<Block> = {}): Block => ({
    firstAtS: 0, intervalS: 900, exponent: 0, values, lanes: null, fromS: -Infinity, toS: Infinity, dayEndS: 86400, ...options,
  })

  it('is the end of the interval in which the sum of all meters passes the limit', () => {
    const limit = parseExact('10')
    expect(crossingOf([block([4, 4, 4]), block([null, 3, 3])], limit)).toBe(1800)
    expect(crossingOf([block([5, 5])], limit)).toBeUndefined()
    expect(crossingOf([block([5, MISSING, 5, 1])], limit)).toBe(3600)
    expect(crossingOf([block([9]), block([5], { intervalS: 86400 })], limit)).toBe(86400)
    expect(crossingOf([block([9, 9, 9, 9], { fromS: 1800 })], limit)).toBe(3600)
  })

  it('sums the part of a block that counts, with its estimates', () => {
    const part = sumBlock(block([1, 2, null, 4, 5], { lanes: [1, 1, 1, 1, 0], fromS: 900, toS: 3600, exponent: -1 }))
    expect({ ...part, sum: exactText(part.sum) }).toEqual({ sum: '0.6', present: 2, estimated: 2 })
  })
})
