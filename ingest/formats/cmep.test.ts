import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { getZone } from '../../engine/time/zone.js'
import { bytesOf, decodeInParts, normalReads, readsOf, received, registersOf } from '../../test/format-reads.js'
import { cmep } from './cmep.js'
import { detectFormat, type DecodeContext } from './format.js'

const chicago: DecodeContext = { zone: getZone('America/Chicago') }
const fixture = (name: string): Uint8Array => new Uint8Array(readFileSync(new URL(`../../fixtures/formats/${name}`, import.meta.url)))
const decode = (text: string, ctx = chicago) => cmep.decode(bytesOf(text), ctx, null, true)
const at = (s: number): string => new Date(s * 1000).toISOString().slice(0, 16)
/** A record of one quarter of an hour. */
const record = (change: Partial<Record<'key' | 'f4' | 'f5' | 'meter' | 'unit' | 'constant' | 'interval' | 'count' | 'rest' | 'stamp', string>> = {}): string => {
  const r = { key: 'C', f4: '', f5: 'F5', meter: 'M1', unit: 'KWH', constant: '1', interval: '00000015', count: '1', rest: '202610010515,R0,0.5', stamp: '202610020000', ...change }
  return `MEPMD01,19990504,X,${r.key},${r.f4},${r.f5},${r.stamp},${r.meter},OK,E,${r.unit},${r.constant},${r.interval},${r.count},${r.rest}\r\n`
}

describe('Sensus', () => {
  const decoded = cmep.decode(fixture('cmep-sensus.cmep'), chicago, null, true)

  it('gives intervals by their END, in UTC, with the stamp as the version', () => {
    expect(readsOf(decoded.batch).map((r) => [r.meter, r.flow, at(r.startS), r.intervalS, r.kwh, r.lane])).toEqual([
      ['E2001', 1, '2026-10-01T05:00', 900, 0.145, 0], ['E2001', 1, '2026-10-01T05:15', 900, 0.151, 0], ['E2001', 1, '2026-10-01T05:45', 900, 0.454, 1],
      ['E2001', 1, '2026-10-01T05:00', 900, 0.145, 0],
      ['E2001', 2, '2026-10-01T05:00', 900, 0, 0], ['E2001', 2, '2026-10-01T05:15', 900, 1.25, 0],
      ['47622888', 1, '2026-10-01T05:00', 3600, 2.5, 2],
    ])
    const [first, resent] = [decoded.batch.version[0], decoded.batch.version[1]]
    expect([at(first / 1e6), at(resent / 1e6)]).toEqual(['2026-10-01T14:58', '2026-10-01T15:00'])
  })

  it('keeps registers apart, steps back and jitter included', () => {
    expect(registersOf(decoded.registers)).toEqual([
      ['W1001', 'volume-gal', 1, '', '2026-10-01T06:02', '36318'], ['W1001', 'volume-gal', 1, '', '2026-10-01T07:02', '36328'],
      ['W1001', 'volume-gal', 1, '', '2026-10-01T08:02', '36326'],
      ['E2001', 'energy', 1, 'ON', '2026-10-01T05:00', '1234.5'], ['E2001', 'energy', 1, 'OFF', '2026-10-01T05:00', '9876'],
    ])
  })

  it('keeps alarms as events, and refuses what holds no reads', () => {
    expect(decoded.events).toEqual([
      { meter: 'E2001', kind: 'alarm', atS: Date.parse('2026-10-01T05:12:00Z') / 1000, details: { format: 'CMEP MLA01', mask: '5', bits: [0, 2] } }])
    expect(decoded.problems.map((p) => [p.code, p.at, p.outcome])).toEqual([
      ['purpose-not-reads', 'line 6, field 9', 'rejected'], ['record-type-unsupported', 'line 9', 'rejected']])
    expect(received(decoded)).toBe(7 + 5 + 1 + 2)
  })
})

it('SmartSynch: hexadecimal bytes after the quality, an exponent after D', () => {
  const decoded = cmep.decode(fixture('cmep-smartsynch.cmep'), chicago, null, true)
  expect(decoded.problems).toEqual([])
  expect(readsOf(decoded.batch).map((r) => [r.meter, at(r.startS), r.kwh, r.lane])).toEqual([
    ['05550268', '2026-10-01T08:00', 0.08595, 0], ['05550268', '2026-10-01T08:15', 0.06525, 1]])
  expect(registersOf(decoded.registers)).toEqual([['05550268', 'energy', 1, '', '2026-10-01T08:07', '5897.11432']])
})

it('Landis+Gyr: START of the data, local time, value and status in either order', () => {
  const decoded = cmep.decode(fixture('cmep-landis-gyr.cmep'), chicago, null, true)
  expect(readsOf(decoded.batch).map((r) => [r.meter, at(r.startS), r.kwh, r.lane])).toEqual([
    ['LG3001', '2026-10-01T05:00', 0.145, 0], ['LG3001', '2026-10-01T05:15', 0.151, 1]])
  expect(registersOf(decoded.registers)).toEqual([['LG3002', 'energy', 1, '', '2026-10-01T05:00', '500']])
  expect(decoded.problems.map((p) => [p.code, p.outcome])).toEqual([['record-type-unsupported', 'rejected']])
})

describe('a record', () => {
  it.each([
    ['the field that the key calls the number', { key: 'C:130000', f4: 'NET', f5: 'MTR', meter: '' }, 'MTR'],
    ['else the one that the meter reports', { key: 'C:102000', f4: 'NET', f5: 'X', meter: 'OWN' }, 'OWN'],
    ['else field 8', { meter: '0042' }, '0042'],
    ['never a channel\'s number', { key: 'C:104000', f5: 'F', meter: '7' }, 'F'],
    ['else field 6', { meter: '' }, 'F5'],
  ])('names the meter: %s', (_, change, meter) => {
    expect(readsOf(decode(record(change)).batch)).toMatchObject([{ meter, kwh: 0.5 }])
  })

  it.each([
    ['KWH', 1, 1, 0.5], ['GKWH', 1, 2, 0.5], ['NKWH', 1, 3, 0.5], ['SKWH', 1, 1, 0.5], ['kvarh', 2, 1, 0.5], ['GKVARH', 2, 2, 0.5],
    ['WH', 1, 1, 0.0005], ['KW', 4, 1, 0.5], ['GAL', 22, 1, 0.5], ['CCF', 21, 1, 50], ['VOLTS', 7, 1, 0.5],
  ])('has a unit: %s', (unit, quantity, flow, value) => {
    const { batch, problems } = decode(record({ unit }))
    expect(problems).toEqual([])
    expect(readsOf(batch)).toMatchObject([{ flow, kwh: value }])
    expect(batch.quantity[0]).toBe(quantity)
  })

  it('is multiplied by its constant, exactly; 0 and empty are 1', () => {
    expect(readsOf(decode(record({ constant: '0.1', rest: '202610010515,R0,0.3' })).batch)).toMatchObject([{ kwh: 0.03 }])
    expect(readsOf(decode(record({ constant: '2.5E1' })).batch)).toMatchObject([{ kwh: 12.5 }])
    const zero = decode(record({ constant: '' }) + record({ constant: '0' }))
    expect(readsOf(zero.batch)).toHaveLength(2)
    expect(zero.notes).toEqual(['2 records have no calculation constant, or 0: it was taken as 1.'])
    // Sensus's A with bits: the ratio is in the value already.
    expect(readsOf(decode(record({ constant: '40', rest: '202610010515,A0,0.5' })).batch)).toMatchObject([{ kwh: 0.5, lane: 0 }])
  })

  it('of months or more than a day is a period', () => {
    const { registers, batch } = decode(record({ interval: '01000000', rest: '202610010000,,812.5' }))
    expect([batch.count, registers.count, at(registers.fromS[0]), at(registers.atS[0]), registers.mantissa[0], registers.lane[0]])
      .toEqual([0, 1, '2026-09-01T00:00', '2026-10-01T00:00', 8125, 4])
  })

  it('without an interval has the spacing of its times', () => {
    expect(readsOf(decode(record({ interval: '00000000', count: '2', rest: '202610010530,R,1,202610010600,R,2' })).batch))
      .toMatchObject([{ intervalS: 1800, kwh: 1 }, { intervalS: 1800, kwh: 2 }])
    expect(decode(record({ interval: '' })).problems).toMatchObject([{ code: 'interval-unknown' }])
  })

  it.each([
    ['field-count', { count: '2' }, 1], ['field-count', { rest: '202610010515,R0' }, 1], ['unit-unsupported', { unit: 'TIME' }, 1],
    ['meter-invalid', { meter: '', f5: '' }, 1], ['time-unreadable', { rest: '202613010515,R0,1' }, 1], ['time-unreadable', { rest: ',R0,1' }, 1],
    ['quality-unknown', { rest: '202610010515,X0,1' }, 1], ['value-not-number', { rest: '202610010515,R0,1x' }, 1],
    ['interval-length', { interval: '00000007' }, 1], ['interval-length', { interval: '15' }, 1], ['time-unreadable', { stamp: 'today' }, 1],
  ])('that is wrong is told: %s %j', (code, change, reads) => {
    const decoded = decode(record(change))
    expect(decoded.problems.map((p) => [p.code, p.reads, p.outcome])).toEqual([[code, reads, 'quarantined']])
    expect(received(decoded)).toBe(reads)
  })

  it('cut off after its header is none, and a line that is none is told', () => {
    expect(received(decode('MEPMD01,19990504,X,C,,F5,202610020000,M1,OK,E\r\n'))).toBe(0)
    expect(decode('hello\r\n\r\n').problems).toMatchObject([{ code: 'record-unknown', at: 'line 1' }])
  })
})

describe('local time, which nothing in the record tells', () => {
  const night = (rows: string): string => record({ interval: '00000100', count: String(rows.split(';').length), rest: rows.replaceAll(';', ',') })
  const local: DecodeContext = { ...chicago, clock: 'local-prevailing' }

  it('is the source\'s clock setting', () => {
    expect(readsOf(decode(record(), local).batch).map((r) => at(r.startS))).toEqual(['2026-10-01T10:00'])
  })

  it('has the repeated hour told by file order, or by Sensus\'s bit of daylight saving', () => {
    const starts = (rows: string) => readsOf(decode(night(rows), local).batch).map((r) => [at(r.startS), r.kwh]).sort()
    const expected = [['2026-11-01T05:00', 1], ['2026-11-01T06:00', 2], ['2026-11-01T07:00', 3]]
    expect(starts('202611010100,R0,1;202611010100,R0,2;202611010200,R0,3')).toEqual(expected)
    expect(starts('202611010100,R0,2;202611010100,R64,1;202611010200,R0,3')).toEqual(expected)
  })
})

it('gives the same in parts as whole', () => {
  for (const name of ['cmep-sensus.cmep', 'cmep-smartsynch.cmep', 'cmep-landis-gyr.cmep']) {
    const bytes = fixture(name)
    const whole = cmep.decode(bytes, chicago, null, true)
    for (const limit of [1, 200, 500]) {
      const parts = decodeInParts(cmep, bytes, chicago, limit)
      expect(parts.flatMap((p) => normalReads(p.batch)).sort()).toEqual(normalReads(whole.batch))
      expect(parts.flatMap((p) => p.problems.map((q) => q.at))).toEqual(whole.problems.map((q) => q.at))
      expect(parts.reduce((n, p) => n + received(p), 0)).toBe(received(whole))
    }
  }
})

it('is told from its first bytes, whatever the file is called', () => {
  for (const name of ['cmep-sensus.cmep', 'cmep-smartsynch.cmep', 'cmep-landis-gyr.cmep']) {
    expect(detectFormat('text/plain', undefined, 'reads.dat', fixture(name)).name).toBe('cmep')
    expect(detectFormat('text/csv', undefined, 'reads.csv', fixture(name)).name).toBe('cmep')
  }
})
