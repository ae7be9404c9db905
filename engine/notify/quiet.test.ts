import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { getZone } from '../time/zone.js'
import { nextDigest, quietOf, quietUntil } from './quiet.js'

const chicago = getZone('America/Chicago')
const night = { from: '21:00', to: '08:00' }
const s = (text: string): number => Date.parse(text) / 1000

describe('quiet hours', () => {
  it.each([
    ['2026-07-01T20:59:59-05:00', '2026-07-01T20:59:59-05:00'],
    ['2026-07-01T21:00:00-05:00', '2026-07-02T08:00:00-05:00'],
    ['2026-07-02T00:30:00-05:00', '2026-07-02T08:00:00-05:00'],
    ['2026-07-02T07:59:59-05:00', '2026-07-02T08:00:00-05:00'],
    ['2026-07-02T08:00:00-05:00', '2026-07-02T08:00:00-05:00'],
    // The nights in which the clock changes.
    ['2026-03-07T23:00:00-06:00', '2026-03-08T08:00:00-05:00'],
    ['2026-10-31T23:00:00-05:00', '2026-11-01T08:00:00-06:00'],
  ])('hold what comes at %s until %s', (at, until) => {
    expect(quietUntil(s(at), chicago, night)).toBe(s(until))
  })

  it('end after a gap of the clock where they would end within it', () => {
    expect(quietUntil(s('2026-03-08T01:00:00-06:00'), chicago, { from: '22:00', to: '02:30' })).toBe(s('2026-03-08T03:00:00-05:00'))
  })

  it('are over when they end, never long, and leave alone what lies outside', () => {
    const clock = fc.tuple(fc.integer({ min: 0, max: 23 }), fc.integer({ min: 0, max: 59 })).map(([h, m]) => `${String(h).padStart(2, '0')}:${String(m).padStart(2, '0')}`)
    const zones = fc.constantFrom('America/Chicago', 'Australia/Lord_Howe', 'Asia/Kathmandu', 'Pacific/Apia', 'America/St_Johns')
    fc.assert(fc.property(fc.integer({ min: 1_577_836_800, max: 1_893_456_000 }), zones, clock, clock, (at, name, from, to) => {
      const zone = getZone(name)
      const until = quietUntil(at, zone, { from, to })
      expect(until).toBeGreaterThanOrEqual(at)
      expect(until - at).toBeLessThanOrEqual(25 * 3600)
      if (until > at) {
        const local = until + zone.offsetAt(until)
        const minute = Math.floor(local / 60) % 1440
        const end = Number(to.slice(0, 2)) * 60 + Number(to.slice(3))
        // A skipped end is the first minute after the gap.
        expect(zone.localToInstants(local - (minute - end) * 60).length === 0 || minute === end).toBe(true)
      }
      const digest = nextDigest(at, zone, { from, to })
      expect(digest).toBeGreaterThan(at)
      expect(digest - at).toBeLessThanOrEqual(50 * 3600)
    }))
  })

  it('are the default for texts alone, and for service messages only where the member says so', () => {
    expect(quietOf(null, 'sms', 'usage')).toEqual(night)
    expect(quietOf(null, 'email', 'usage')).toBeNull()
    expect(quietOf(null, 'sms', 'service')).toBeNull()
    expect(quietOf({ sms: { from: '22:00', to: '06:00' } }, 'sms', 'service')).toEqual({ from: '22:00', to: '06:00' })
    expect(quietOf({ sms: null }, 'sms', 'usage')).toBeNull()
  })
})
