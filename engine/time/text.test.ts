import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { addMonths, civilOfDay, dayOfCivil, daysInMonth, monthStart } from './civil.js'
import { dayNumber, dayText, instantText, offsetText, parseDay, parseInstant, parseLocal } from './text.js'
import { getZone } from './zone.js'

const RUNS = Number(process.env.FC_RUNS ?? 1000)

describe('parseInstant', () => {
  it.each([
    ['1970-01-01T00:00:00Z', 0],
    ['2026-10-01T00:00:00-05:00', 1790830800],
    ['2026-10-01T00:00-05:00', 1790830800],
    ['2026-10-01 00:00:00-05:00', 1790830800],
    ['2026-10-01t05:00:00z', 1790830800],
    ['2026-10-01T05:00:00+00:00', 1790830800],
    ['2026-10-01T05:00:00-00:00', 1790830800],
    ['2026-10-01T10:45:00+05:45', 1790830800],
    ['2026-10-01T05:00:00.000000000Z', 1790830800],
    ['2026-10-01T05:00:00.5Z', 1790830800.5],
    ['2026-10-01T05:00:00.123456Z', 1790830800.123456],
    ['1969-12-31T23:59:59Z', -1],
    ['2000-02-29T00:00:00Z', 951782400],
    ['0001-01-01T00:00:00Z', -62135596800],
    ['9999-12-31T23:59:59Z', 253402300799],
  ])('reads %s', (text, s) => {
    expect(parseInstant(text)).toBe(s)
  })

  it.each([
    '', 'Z', 'now', '2026-10-01', '2026-10-01Z', '2026-10-01T00:00:00', '2026-10-01T00:00', '2026-10-01T00Z',
    '2026-10-01T24:00:00Z', '2026-10-01T23:60:00Z', '2016-12-31T23:59:60Z', '2026-13-01T00:00:00Z',
    '2026-00-01T00:00:00Z', '2026-02-29T00:00:00Z', '2100-02-29T00:00:00Z', '2026-04-31T00:00:00Z',
    '2026-10-00T00:00:00Z', '0000-01-01T00:00:00Z', '2026-10-01T00:00:00+5:00', '2026-10-01T00:00:00+0500',
    '2026-10-01T00:00:00+05', '2026-10-01T00:00:00+24:00', '2026-10-01T00:00:00+05:60', '2026-10-01T00:00:00 05:00',
    '2026-10-01T00:00:00.Z', '2026-10-01T00:00:00.5', '2026-10-01T00:00.5Z', '2026-10-01T00:00:00,5Z',
    '2026-10-01T00:00:00.1.2Z', '2026-10-01T00:00:0Z', '2026-10-01T00:00:Z', '2026-10-01T00-00-00Z',
    '2026/10/01T00:00:00Z', '20261001T000000Z', '+002026-10-01T00:00:00Z', ' 2026-10-01T00:00:00Z',
    '2026-10-01T00:00:00Z ',
    '2026-10-01T00:00:00Z\n', '2026-10-01X00:00:00Z', '2026-10-01T00:00:00+01:00[Europe/Paris]', '2026-10-01T-1:00:00Z',
    '2026-10-01T00:00:00\u0000Z', '２026-10-01T00:00:00Z', '-026-10-01T00:00:00Z', '2026-1e-01T00:00:00Z',
  ])('refuses %j', (text) => {
    expect(parseInstant(text)).toBeUndefined()
  })

  it('agrees with Date for every instant and offset, and refuses it with any one character spoiled', () => {
    fc.assert(fc.property(fc.integer({ min: -62e9, max: 250e9 }), fc.integer({ min: -1439, max: 1439 }), fc.nat(24),
      fc.constantFrom('x', '/', ':', ' ', '.', '\u0130'), (s, minutes, at, spoil) => {
        const text = new Date((s + minutes * 60) * 1000).toISOString().slice(0, 19) + offsetText(minutes * 60)
        expect(parseInstant(text)).toBe(s)
        const spoiled = text.slice(0, at) + spoil + text.slice(at + 1)
        if (spoiled !== text && !(at === 10 && spoil === ' ')) expect(parseInstant(spoiled)).toBeUndefined()
      }), { numRuns: RUNS })
  })

  it('never throws', () => {
    fc.assert(fc.property(fc.string(), (text) => {
      expect(parseInstant(text)).toBeUndefined()
    }), { numRuns: RUNS })
  })
})

describe('parseLocal', () => {
  it('reads dates and wall clocks', () => {
    expect(parseLocal('1970-01-02')).toBe(86400)
    expect(parseLocal('1970-01-02T00:15')).toBe(87300)
    expect(parseLocal('1970-01-02 00:15:01')).toBe(87301)
    expect(parseLocal('1970-01-02 00:15:00.000')).toBe(87300)
    expect(parseLocal('1970-01-02 00:15:00.25')).toBe(87300.25)
  })

  it.each(['', '1970-01-02T', '1970-01-02T00', '1970-1-2', '01/02/1970', '1970-01-02T24:00', '1970-01-02T00:15Z',
    '1970-01-02T00:15+01:00', '1970-02-30', '1970-01-02T00:15:00.', '1970-01-021'])('refuses %j', (text) => {
    expect(parseLocal(text)).toBeUndefined()
  })
})

describe('days', () => {
  it('reads and writes dates', () => {
    expect(dayNumber('1970-01-01')).toBe(0)
    expect(dayNumber('2026-10-01')).toBe(20727)
    expect(dayText(20727)).toBe('2026-10-01')
    expect(dayText(-1)).toBe('1969-12-31')
    expect(dayText(dayOfCivil(10000, 1, 1))).toBe('+010000-01-01')
    expect(dayText(dayOfCivil(-1, 12, 31))).toBe('-000001-12-31')
    expect(parseDay('2026-02-29')).toBeUndefined()
    expect(parseDay('2026-10-01T00:00Z')).toBeUndefined()
    expect(() => dayNumber('yesterday')).toThrow('yesterday')
    expect(() => dayText(Infinity)).toThrow(RangeError)
  })

  it('agrees with Date', () => {
    fc.assert(fc.property(fc.integer({ min: -719162, max: 2932896 }), (day) => {
      const text = new Date(day * 86400000).toISOString().slice(0, 10)
      expect(dayText(day)).toBe(text)
      expect(dayNumber(text)).toBe(day)
      const { year, month, day: ofMonth } = civilOfDay(day)
      expect(dayOfCivil(year, month, ofMonth)).toBe(day)
      expect(dayText(monthStart(day))).toBe(`${text.slice(0, 8)}01`)
      expect(monthStart(day) + daysInMonth(day)).toBe(addMonths(monthStart(day), 1))
    }), { numRuns: RUNS })
  })

  it('adds months, to the last day of shorter ones', () => {
    const added = (text: string, n: number): string => dayText(addMonths(dayNumber(text), n))
    expect(added('2026-01-31', 1)).toBe('2026-02-28')
    expect(added('2024-01-31', 1)).toBe('2024-02-29')
    expect(added('2026-12-15', 1)).toBe('2027-01-15')
    expect(added('2026-01-15', -1)).toBe('2025-12-15')
    expect(added('2024-02-29', -12)).toBe('2023-02-28')
    expect(added('2026-05-31', 0)).toBe('2026-05-31')
  })
})

describe('instantText', () => {
  it('writes the offset of the instant', () => {
    const chicago = getZone('America/Chicago')
    expect(instantText(1790830800, chicago)).toBe('2026-10-01T00:00:00-05:00')
    expect(instantText(1790830800.999, chicago)).toBe('2026-10-01T00:00:00-05:00')
    expect(instantText(1793514600, chicago)).toBe('2026-11-01T01:30:00-05:00')
    expect(instantText(1793518200, chicago)).toBe('2026-11-01T01:30:00-06:00')
    expect(instantText(0, getZone('UTC'))).toBe('1970-01-01T00:00:00+00:00')
    expect(instantText(1790830800, getZone('Asia/Kathmandu'))).toBe('2026-10-01T10:45:00+05:45')
  })

  it('writes offsets', () => {
    expect([0, 3600, -3600, 20700, -12600, 50400].map(offsetText))
      .toEqual(['+00:00', '+01:00', '-01:00', '+05:45', '-03:30', '+14:00'])
  })
})
