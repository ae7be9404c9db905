import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { Quantity } from '../../engine/quantity.js'
import { getZone } from '../../engine/time/zone.js'
import { bytesOf, decodeInParts, normalReads, readsOf, received } from '../../test/format-reads.js'
import { detectFormat, type DecodeContext } from './format.js'
import { kindOfEvent, qualityOfCim, readingTypeOf } from './iec61968-codes.js'
import { iec61968 } from './iec61968.js'

const fixture = readFileSync(new URL('../../fixtures/formats/iec61968-readings.xml', import.meta.url))
const chicago = getZone('America/Chicago')
const iso = (s: number) => new Date(s * 1000).toISOString().slice(0, 16)

function decode(text: string | Uint8Array, ctx: Partial<DecodeContext> = {}) {
  return iec61968.decode(typeof text === 'string' ? bytesOf(text) : text, { zone: chicago, ...ctx }, null, true)
}

function message(type: string, readings: string): string {
  return `<MeterReadings><MeterReading><Meter><mRID>m</mRID></Meter><IntervalBlocks>${readings}<ReadingType ref="${type}"/>`
    + '</IntervalBlocks></MeterReading></MeterReadings>'
}

describe('MeterReadings', () => {
  const decoded = decode(fixture)
  const { batch, registers, events, problems } = decoded

  it('has its intervals by their period, or by the time stamp at their end', () => {
    const of = (meter: string, flow: number) => readsOf(batch).filter(read => read.meter === meter && read.flow === flow)
      .map(({ startS, intervalS, kwh, lane }) => [iso(startS), intervalS, kwh, lane])
    expect(of('M1001', 1)).toEqual([
      ['2026-07-01T05:00', 900, 0.12, 0], ['2026-07-01T05:15', 900, 0.13, 1], ['2026-07-01T05:45', 900, 0.14, 2],
    ])
    expect(of('M1001', 2)).toEqual([['2026-07-01T05:00', 900, 0.007, 0]])
    expect(of('M1002', 1)).toEqual([['2026-07-01T05:00', 3600, 1.5, 0]])
  })

  it('has registers by the instant of their reading, those of a tier under its name', () => {
    expect(Array.from({ length: registers.count }, (_, i) => [
      registers.meters[i], registers.tou[i], registers.quantity[i], iso(registers.atS[i]), registers.mantissa[i], registers.exponent[i],
    ])).toEqual([
      ['M1001', '', Quantity.energy, '2026-07-01T05:00', 51_234_567, -3], ['M1001', 'tou1', Quantity.energy, '2026-07-01T05:00', 31_000, 0],
      ['M1001', 'phase128', Quantity.voltage, '2026-07-01T05:00', 2401, -1],
    ])
  })

  it('has the message\'s time as its version', () => {
    expect(new Set(readsOf(batch).map(read => read.version))).toEqual(new Set([Date.parse('2026-07-02T06:00:00Z') * 1000]))
  })

  it('hands events on', () => {
    expect(events).toEqual([{ meter: 'M1001', kind: 'power-up', atS: Date.parse('2026-07-01T08:00:00Z') / 1000, details: { eventType: '3.26.0.216' } }])
  })

  it('counts all of it and says where it went wrong', () => {
    expect(problems.map(({ code, at, outcome, meter }) => [code, at, outcome, meter])).toEqual([
      ['time-invalid', 'record 11', 'quarantined', 'M1002'],
      ['value-not-number', 'record 12', 'quarantined', 'M1002'], ['reading-type-unknown', 'record 13', 'rejected', 'M1002'],
      ['bucket-unsupported', 'record 14', 'rejected', 'M1002'], ['meter-invalid', 'record 15', 'quarantined', undefined],
    ])
    expect(received(decoded)).toBe(5 + 3 + 1 + 5)
    const second = problems[0]
    expect(fixture.subarray(second.rawFrom, second.rawTo).toString()).toMatch(/^<m:IntervalReadings>.*yesterday.*<\/m:IntervalReadings>$/)
  })

  it('comes to the same in parts', () => {
    const parts = decodeInParts(iec61968, fixture, { zone: chicago }, 100)
    expect(parts.length).toBeGreaterThan(2)
    expect(parts.flatMap(part => normalReads(part.batch)).sort()).toEqual(normalReads(batch))
    expect(parts.reduce((n, part) => n + received(part), 0)).toBe(received(decoded))
    expect(parts.flatMap(part => part.problems.map(({ at }) => at))).toEqual(problems.map(({ at }) => at))
  })
})

describe('a lone time stamp', () => {
  const text = message('0.0.7.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0',
    '<IntervalReadings><timeStamp>2026-07-01T01:00:00Z</timeStamp><value>1</value></IntervalReadings>')

  it('is the end, unless the source says otherwise', () => {
    expect(readsOf(decode(text).batch).map(({ startS }) => iso(startS))).toEqual(['2026-07-01T00:00'])
    expect(readsOf(decode(text, { label: 'start' }).batch).map(({ startS }) => iso(startS))).toEqual(['2026-07-01T01:00'])
  })

  it('of a whole day ends it', () => {
    const days = message('11.0.0.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0',
      '<IntervalReadings><timeStamp>2026-03-08T24:00:00</timeStamp><value>9</value></IntervalReadings>')
    expect(readsOf(decode(days).batch).map(({ startS, intervalS }) => [iso(startS), intervalS])).toEqual([['2026-03-08T06:00', 86_400]])
  })
})

describe('events', () => {
  it('of Landis+Gyr are routed away from the reads', () => {
    const file = new URL('../../../shared/samples/iec61968_9/landisgyr_created_EndDeviceEvents_not_a_reading.xml', import.meta.url)
    if (!existsSync(file)) return
    const bytes = readFileSync(file)
    expect(detectFormat('text/xml', undefined, undefined, bytes)).toBe(iec61968)
    const decoded = decode(bytes)
    expect(decoded.batch.count).toBe(0)
    expect(decoded.problems).toEqual([])
    expect(decoded.events).toEqual([{
      meter: 'abcde', kind: 'power-down', atS: Date.parse('2017-10-11T19:19:12Z') / 1000, details: { eventType: '6.20.1.185' },
    }])
  })

  it.each([
    ['POWER_FAIL', '', 'power-down'], ['Power Restored', '', 'power-up'], ['', '3.26.0.85', 'power-down'], ['Cover opened', '', 'cover-open'],
    ['Phase Imbalance', '3.1.2.3', 'phase-imbalance'], ['', '3.12.9.4', '3.12.9.4'], ['', '', ''],
  ])('of status %j and type %j are %j', (status, category, kind) => {
    expect(kindOfEvent(status, category)).toBe(kind)
  })
})

describe('codes', () => {
  it.each([['1.0.0', 0], ['3.0.0', 4], ['1.4.2001', 2], ['1.5.257', 2], ['3.7.1', 5], ['3.8.8', 1], ['5.4.260', -1], ['2.2.1', -1], ['x', 2]])('quality %s is %i', (ref, quality) => {
    expect(qualityOfCim(ref)).toBe(quality)
  })

  it('of ReadingTypes', () => {
    const ctx: DecodeContext = { zone: null }
    expect(readingTypeOf('0.0.2.9.1.2.12.0.0.0.0.0.0.0.0.3.72.0', ctx)).toMatchObject({ isRegister: true, unit: { quantity: 1, shift: 0 } })
    expect(readingTypeOf('0.0.2.4.1.1.12.0.0.0.0.0.0.0.224.0.73.0', ctx)).toMatchObject({ isRegister: false, unit: { quantity: 2, shift: 3 }, intervalS: 900 })
    expect(readingTypeOf('0.0.2.4.20.1.12.0.0.0.0.0.0.0.0.3.72.0', ctx)).toMatchObject({ fault: { code: 'flow-unsupported' } })
    expect(readingTypeOf('0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.9999.0', ctx)).toMatchObject({ fault: { code: 'unit-unsupported' } })
    expect(readingTypeOf('', ctx)).toBeNull()
    expect(readingTypeOf('', { zone: null, defaultUnit: 'kWh' })).toMatchObject({ unit: { quantity: 1, shift: 0 } })
  })
})
