import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { bytesOf, decodeInParts, exactTotal, normalReads, readsOf, received, registersOf } from '../../test/format-reads.js'
import { detectFormat, type DecodeContext } from './format.js'
import { nem12 } from './nem12.js'

const anywhere: DecodeContext = { zone: null }
const quirks = new Uint8Array(readFileSync(new URL('../../fixtures/formats/nem12-quirks.csv', import.meta.url)))
const decode = (text: string, ctx = anywhere) => nem12.decode(bytesOf(text), ctx, null, true)
const at = (s: number): string => new Date(s * 1000).toISOString().slice(0, 16)
const values = (n: number, value = '1'): string => Array.from({ length: n }, () => value).join(',')
const details = (minutes: string | number = 30, uom = 'kWh', suffix = 'E1', nmi = 'NMI1'): string => `200,${nmi},E1,1,${suffix},N1,S1,${uom},${minutes},\n`
const day = (n: number, method = 'A', tail = ',,,20261002120025,'): string => `300,20261001,${values(n)},${method}${tail}\n`

describe('the quirks of real files', () => {
  const decoded = nem12.decode(quirks, anywhere, null, true)
  const reads = readsOf(decoded.batch)
  const of = (meter: string, quantity: number) => {
    const { batch } = decoded
    const b = Array.from({ length: batch.count }, (_, i) => i).find((i) => batch.meters[i] === meter && batch.quantity[i] === quantity) ?? -1
    return { start: at(batch.startS[b]), interval: batch.intervalS[b], version: batch.version[b] === 0 ? 0 : at(batch.version[b] / 1e6), length: batch.length[b] }
  }

  it('has no problem with them', () => {
    expect(decoded.problems).toEqual([])
    expect(received(decoded)).toBe(44 + 48 + 48 + 1 + 3)
  })

  it('tells time by UTC+10 and the version by UpdateDateTime', () => {
    expect(of('NEM1000001', 1)).toEqual({ start: '2026-09-30T14:00', interval: 1800, version: '2026-10-02T02:00', length: 48 })
    expect(of('NEM1000001', 7)).toEqual({ start: '2026-09-30T14:00', interval: 1800, version: 0, length: 48 })
  })

  it('takes qualities by ranges, null intervals and exact decimals', () => {
    const main = reads.filter((r) => r.meter === 'NEM1000001' && r.kwh < 100)
    expect(main.map((r) => r.lane).join('')).toBe('0'.repeat(20) + '1'.repeat(24))
    expect(exactTotal(main)).toBe('42.099')
    expect(exactTotal(reads.filter((r) => r.meter === 'NEM1000001:2'))).toBe('24.000')
  })

  it('keeps a visit\'s index, and what NEM13 accumulated', () => {
    expect(registersOf(decoded.registers)).toEqual([
      ['NEM1000001', 'energy', 1, '', '2026-10-01T01:22', '1000.1'],
      ['NEM1300001', 'energy', 1, '11', '2026-07-04T23:30', '6342.8'], ['NEM1300001', 'energy', 1, '11', '2026-10-01T00:03', '7654.9'],
      ['NEM1300001', 'energy', 1, '11', '2026-10-01T00:03', '1312.1'],
    ])
    expect(Array.from(decoded.registers.fromS.subarray(0, 4), (s) => Number.isNaN(s) ? '' : at(s))).toEqual(['', '', '', '2026-07-04T23:30'])
    expect(Array.from(decoded.registers.lane.subarray(0, 4))).toEqual([0, 0, 1, 1])
  })

  it('gives the same in parts as whole, with the 400 records at their 300', () => {
    for (const limit of [1, 400, 900]) {
      const parts = decodeInParts(nem12, quirks, anywhere, limit)
      expect(parts.length).toBeGreaterThan(1)
      expect(parts.flatMap((p) => normalReads(p.batch)).sort()).toEqual(normalReads(decoded.batch))
      expect(parts.flatMap((p) => registersOf(p.registers))).toEqual(registersOf(decoded.registers))
    }
  })

  it('is told from its first bytes, with a header or without', () => {
    expect(detectFormat('text/csv', undefined, 'x.csv', quirks).name).toBe('nem12')
    expect(detectFormat(undefined, undefined, 'x.csv', bytesOf(details() + day(48))).name).toBe('nem12')
    expect(detectFormat(undefined, 'nem13').name).toBe('nem12')
    expect(detectFormat('text/csv', undefined, undefined, bytesOf('meter,start,value\n')).name).toBe('csv')
  })
})

describe('streams', () => {
  it.each([
    ['E1', 'kWh', 'NMI1', 1, 1], ['B1', 'kWh', 'NMI1', 2, 1], ['E2', 'KWH', 'NMI1:2', 1, 1], ['Q1', 'kvarh', 'NMI1', 1, 2],
    ['K1', 'kVArh', 'NMI1', 2, 2], ['T1', 'kVAh', 'NMI1', 1, 3], ['C1', 'kWh', 'NMI1:C1', 2, 1], ['V1', '', 'NMI1', 1, 7],
  ])('%s %s is meter %s, flow %i', (suffix, uom, meter, flow, quantity) => {
    const { batch, problems } = decode(details(30, uom, suffix) + day(48))
    expect(problems).toEqual([])
    expect([batch.meters[0], batch.flow[0], batch.quantity[0]]).toEqual([meter, flow, quantity])
  })

  it.each([[5, 288], [10, 144], [15, 96], [30, 48], [60, 24]])('of %i minutes has %i values', (minutes, n) => {
    expect(readsOf(decode(details(minutes) + day(n)).batch)).toHaveLength(n)
    expect(decode(details(minutes) + day(n - 1)).problems).toMatchObject([{ code: 'value-count', reads: n - 1 }])
    expect(decode(details(minutes) + day(n + 1)).problems).toMatchObject([{ code: 'value-count', reads: n + 1 }])
  })
})

describe('what is wrong', () => {
  it.each([
    ['a 300 without its 200', day(48), 'details-missing', 48],
    ['a 200 without an NMI', details(30, 'kWh', 'E1', '') + day(48), 'details-invalid', 48],
    ['an unknown unit', details(30, 'furlong') + day(48), 'details-invalid', 48],
    ['an interval length', details(7) + day(48), 'details-invalid', 48],
    ['a blank date', details() + day(48).replace('20261001', ''), 'time-unreadable', 48],
    ['an unknown method', details() + day(48, 'Z'), 'value-count', 48],
    ['V without 400', details() + day(48, 'V'), 'quality-range', 48],
    ['V with ranges that leave some out', `${details() + day(48, 'V')}400,1,20,A,,\n400,22,48,A,,\n`, 'quality-range', 48],
    ['a range that is none', `${details() + day(48)}400,40,49,A,,\n`, 'quality-range', 48],
    ['a value', details() + day(48).replace('1,1', '1,x'), 'value-not-number', 1],
    ['an update time', details() + day(48, 'A', ',,,yesterday,'), 'time-unreadable', 48],
    ['a 400 by itself', `${details()}400,1,48,A,,\n`, 'record-out-of-place', 1],
    ['an unknown record', 'hello,world\n', 'record-unknown', 1],
    ['an index without a time', `${details()}500,O,,,12\n`, 'time-unreadable', 1],
    ['a direction', '250,N1,11,1,11,11,S,X,1,20261001000000,A,,,2,20261002000000,A,,,1,kWh,,,\n', 'flow-unknown', 3],
  ])('is told: %s', (_, text, code, reads) => {
    const decoded = decode(text)
    expect(decoded.problems.map((p) => [p.code, p.reads])).toEqual([[code, reads]])
  })

  it('costs nothing but itself', () => {
    const decoded = decode(`100,NEM12,202610011200,A,B\n${details()}300,20261001,V,,,20261002120025,\n${day(48).replace('20261001', '20261002')}900\n`)
    expect(decoded.problems).toMatchObject([{ code: 'value-count', at: 'line 3', reads: 1 }])
    expect(readsOf(decoded.batch)).toHaveLength(48)
  })

  it('N, a blank value and N by range are no reads', () => {
    expect(received(decode(details() + day(48, 'N')))).toBe(0)
    expect(received(decode(`${details()}${day(48, 'V').replace(',1,1,1,', ',,,1,')}400,1,40,A,,\n400,41,48,N,,\n`))).toBe(38)
  })
})
