import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseInstant } from '../../engine/time/text.js'
import { getZone } from '../../engine/time/zone.js'
import { LocalClock, TimeReader } from './timestamps.js'

const reader = new TimeReader()

function read(text: string): [number, number, number] | undefined {
  const bytes = new TextEncoder().encode(text)
  return reader.read(bytes, 0, bytes.length) ? [reader.localS, reader.offsetS, reader.micros] : undefined
}

describe('timestamps from bytes', () => {
  it('reads RFC 3339, with and without an offset', () => {
    const noon = Date.UTC(2026, 9, 1, 12) / 1000
    expect(read('2026-10-01T12:00:00-05:00')).toEqual([noon, -18000, 0])
    expect(read('2026-10-01t12:00:00z')).toEqual([noon, 0, 0])
    expect(read('2026-10-01 12:00')).toEqual([noon, NaN, 0])
    expect(read('2026-10-01T12:00:00.25+05:30')).toEqual([noon, 19800, 250_000])
  })

  it.each([
    '', '2026-10-01', '2026-13-01T00:00', '2026-02-29T00:00', '2026-00-10T00:00', '2026-10-01T24:00', '2026-10-01T00:60',
    '2026-10-01T00:00:60', '2026-10-01T00:00:0', '2026-10-01T00:00:00.', '2026-10-01T00:00:00-5', '2026-10-01T00:00:00-05:60',
    '2026-10-01T00:00:00-05:00x', '26-10-01T00:00:00Z', '2026/10/01 00:00', '2026-10-01T00:00:00+24:00', '0000-01-01T00:00Z',
  ])('%j is no time', text => {
    expect(read(text)).toBeUndefined()
  })

  it('agrees with parseInstant', () => {
    const date = fc.date({ min: new Date('1970-01-01T00:00:00Z'), max: new Date('2099-12-31T00:00:00Z'), noInvalidDate: true })
    fc.assert(fc.property(date, fc.constantFrom('Z', '-05:00', '+05:45', '+13:00'), (at, offset) => {
      const text = at.toISOString().slice(0, 19) + offset
      const [localS, offsetS] = read(text) ?? [NaN, NaN]
      expect(localS - offsetS).toBe(parseInstant(text))
    }))
  })

  it('finds the instants of local times as the zone does, near clock changes and far from them', () => {
    const zones = fc.constantFrom('America/Chicago', 'Europe/Amsterdam', 'Australia/Lord_Howe', 'Africa/Casablanca', 'Pacific/Apia')
    const local = fc.integer({ min: Date.UTC(2005, 0) / 60_000, max: Date.UTC(2035, 0) / 60_000 })
    fc.assert(fc.property(zones, local, (name, minute) => {
      const zone = getZone(name)
      expect(new LocalClock(zone).instants(minute * 60)).toEqual(zone.localToInstants(minute * 60))
    }), { numRuns: 500 })
  })
})
