import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { quantityName } from '../../engine/quantity.js'
import { getZone } from '../../engine/time/zone.js'
import { decodeInParts, normalReads, readsOf, received } from '../../test/format-reads.js'
import { detectFormat, type Decoded } from './format.js'
import { multispeak } from './multispeak.js'

const fixture = (name: string) => readFileSync(new URL(`../../fixtures/formats/${name}`, import.meta.url))
const zone = getZone('America/Chicago')
const iso = (s: number) => new Date(s * 1000).toISOString().slice(0, 16)

function registersOf({ registers }: Decoded) {
  return Array.from({ length: registers.count }, (_, i) => [
    registers.meters[i], quantityName(registers.quantity[i]), registers.flow[i], registers.tou[i], iso(registers.atS[i]),
    registers.mantissa[i] * 10 ** registers.exponent[i], registers.lane[i],
  ])
}

describe.each(['multispeak-registers.xml', 'multispeak-intervals.xml', 'multispeak-formatted.xml'])('%s', (name) => {
  const bytes = fixture(name)

  it('is told by the message in its envelope', () => {
    expect(detectFormat('text/xml; charset=utf-8', undefined, undefined, bytes)).toBe(multispeak)
  })

  it('comes to the same in parts', () => {
    const whole = multispeak.decode(bytes, { zone }, null, true)
    const parts = decodeInParts(multispeak, bytes, { zone }, 100)
    expect(parts.length).toBeGreaterThan(1)
    expect(parts.flatMap(part => normalReads(part.batch)).sort()).toEqual(normalReads(whole.batch))
    expect(parts.flatMap(registersOf)).toEqual(registersOf(whole))
    expect(parts.flatMap(part => part.problems.map(({ code, at }) => [code, at]))).toEqual(whole.problems.map(({ code, at }) => [code, at]))
    expect(parts.reduce((n, part) => n + received(part), 0)).toBe(received(whole))
  })
})

describe('a ReadingChangedNotification', () => {
  const decoded = multispeak.decode(fixture('multispeak-registers.xml'), { zone }, null, true)

  it('has what the registers showed', () => {
    const at = '2026-07-01T05:00'
    expect(registersOf(decoded)).toEqual([
      ['M1001', 'energy', 1, '', at, 51234, 0], ['M1001', 'energy', 2, '', at, 17, 0], ['M1001', 'power', 1, 'max', '2026-06-20T22:00', 7.2, 0],
      ['M1001', 'reactive-power', 1, '', at, 1.5, 0], ['M1001', 'energy', 1, 'A', at, 31000, 0],
      ['M1001', 'power', 1, 'max A', '2026-06-20T22:00', 6.9, 0], ['M1001', 'energy', 1, 'B', at, 20234, 0],
      ['M1003', 'energy', 1, '', at, 1500.25, 1], ['M1003', 'energy', 2, '', at, 12, 0],
      ['M1003', 'energy', 1, 'previous', '2026-06-01T05:00', 1400, 0],
    ])
    expect(new Set(decoded.registers.version.subarray(0, 10))).toEqual(new Set([Date.parse('2026-07-02T06:00:00Z') * 1000]))
  })

  it('tells what it cannot read', () => {
    expect(decoded.problems.map(({ code, at, meter }) => [code, at, meter])).toEqual([
      ['time-missing', 'record 8', 'M1002'], ['meter-invalid', 'record 9', undefined], ['unit-unsupported', 'record 13', 'M1003'],
      ['value-not-number', 'record 14', 'M1003'],
    ])
  })

  it('of others has no date, and is told so', () => {
    const file = new URL('../../../shared/samples/multispeak/v30ac_ReadingChangedNotification.xml', import.meta.url)
    if (!existsSync(file)) return
    const { registers, problems } = multispeak.decode(readFileSync(file), { zone }, null, true)
    expect(registers.count).toBe(0)
    expect(problems).toMatchObject([{ code: 'time-missing', at: 'record 1', meter: '100', reads: 1, outcome: 'quarantined' }])
  })
})

describe('an IntervalDataNotification', () => {
  const decoded = multispeak.decode(fixture('multispeak-intervals.xml'), { zone }, null, true)
  const of = (meter: string, flow: number) => readsOf(decoded.batch).filter(read => read.meter === meter && read.flow === flow)
    .map(({ startS, intervalS, kwh, lane }) => [iso(startS), intervalS, kwh, lane])

  it('has its intervals from intervalStart on, by the length and units of their profile', () => {
    expect(of('M1001', 1)).toEqual([['2026-07-01T05:00', 900, 0.12, 0], ['2026-07-01T05:15', 900, 0.13, 1], ['2026-07-01T05:45', 900, 0.14, 2]])
    expect(of('M1001', 2)).toEqual([['2026-07-01T05:00', 900, 0, 0], ['2026-07-01T05:15', 900, 0.012, 1], ['2026-07-01T05:30', 900, 0.007, 0]])
    expect(readsOf(decoded.batch).find(read => read.meter === 'M1001')?.version).toBe(Date.parse('2026-07-01T06:10:00Z') * 1000)
  })

  it('counts on from its start through a change of clocks', () => {
    expect(of('M1002', 1)).toEqual([['2026-11-01T05:00', 3600, 1, 0], ['2026-11-01T06:00', 3600, 2, 0], ['2026-11-01T07:00', 3600, 3, 0]])
  })

  it('has the older profileType counted back from the end of its block', () => {
    expect(of('M1004', 1)).toEqual([['2026-07-01T05:00', 900, 0.5, 0], ['2026-07-01T05:15', 900, 0.25, 2], ['2026-07-01T05:45', 900, 0.75, 5]])
  })

  it('keeps the end readings apart, and tells what it cannot read', () => {
    expect(registersOf(decoded)).toEqual([['M1001', 'energy', 1, '', '2026-07-01T06:00', 51234.5, 0]])
    expect(decoded.problems.map(({ code, at, reads }) => [code, at, reads])).toEqual([
      ['value-not-number', 'record 8', 1], ['unit-unsupported', 'record 9', 4], ['channel-unknown', 'record 13', 2],
      ['profile-unknown', 'record 19', 2], ['status-count', 'record 21', 3], ['recorder-stopped', 'record 26', 1],
    ])
  })
})

describe('a FormattedBlockNotification', () => {
  it('has its columns where valSyntax says', () => {
    const decoded = multispeak.decode(fixture('multispeak-formatted.xml'), { zone }, null, true)
    expect(registersOf(decoded)).toEqual([
      ['M1001', 'energy', 1, '', '2026-07-01T05:00', 51234.5, 0], ['M1001', 'reactive-energy', 2, '', '2026-07-01T05:00', 17, 0],
      ['M1004', 'energy', 1, '', '2026-07-01T05:00', 77, 0],
    ])
    expect(decoded.problems.map(({ code, at, meter }) => [code, at, meter])).toEqual([
      ['field-unknown', 'record 3', 'M1002'], ['time-missing', 'record 4', 'M1003'], ['value-not-number', 'record 5', 'M1003'],
    ])
  })
})
