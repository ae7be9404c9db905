import fc from 'fast-check'
import { Temporal } from 'temporal-polyfill'
import { describe, expect, it } from 'vitest'
import { dayNumber, dayText, instantText, parseInstant } from './text.js'
import { getZone } from './zone.js'

const RUNS = Number(process.env.FC_RUNS ?? 400)

const ETC = ['UTC', 'Etc/UTC', 'GMT', 'Etc/GMT', 'US/Central', 'EST5EDT',
  ...Array.from({ length: 14 }, (_, h) => `Etc/GMT-${h + 1}`),
  ...Array.from({ length: 12 }, (_, h) => `Etc/GMT+${h + 1}`)]
const NAMES = [...Intl.supportedValuesOf('timeZone'), ...ETC]

const FROM_S = dayNumber('1980-01-03') * 86400
const TO_S = dayNumber('2099-12-29') * 86400
const zoned = (s: number, name: string): Temporal.ZonedDateTime =>
  Temporal.Instant.fromEpochMilliseconds(s * 1000).toZonedDateTimeISO(name)
const seconds = (z: Temporal.ZonedDateTime): number => z.epochMilliseconds / 1000
const plain = (localS: number): Temporal.PlainDateTime => zoned(localS, 'UTC').toPlainDateTime()

/** Most instants are dull: half of the drawn ones stand within 27 hours of a change of the clocks. */
function nearChange(name: string, s: number, offBy: number | null): number {
  if (offBy === null) return s
  const change = zoned(s, name).getTimeZoneTransition('next')
  return change === null || seconds(change) + offBy >= TO_S ? s : seconds(change) + offBy
}

const place = fc.record({
  name: fc.constantFrom(...NAMES),
  s: fc.integer({ min: FROM_S, max: TO_S }),
  offBy: fc.oneof(fc.constant(null), fc.integer({ min: -97200, max: 97200 }), fc.constantFrom(-3600, -1, 0, 1, 3600)),
}).map(({ name, s, offBy }) => ({ name, s: nearChange(name, s, offBy) }))

/** The wall clock as Intl tells it: an implementation that shares nothing with the table. */
function intlOffset(format: Intl.DateTimeFormat, s: number): number {
  const t = format.format(s * 1000)
  const time = [+t.slice(12, 14), +t.slice(15, 17), +t.slice(18)]
  return Date.UTC(+t.slice(6, 10), +t.slice(0, 2) - 1, +t.slice(3, 5), ...time) / 1000 - s
}

function formatOf(name: string): Intl.DateTimeFormat {
  return new Intl.DateTimeFormat('en-US', {
    timeZone: name, hourCycle: 'h23', year: 'numeric', month: '2-digit', day: '2-digit',
    hour: '2-digit', minute: '2-digit', second: '2-digit',
  })
}

/** What must hold at an instant, whatever the zone. */
function check(name: string, s: number): void {
  const zone = getZone(name)
  const z = zoned(s, name)
  expect(zone.offsetAt(s)).toBe(z.offsetNanoseconds / 1e9)

  // Days partition time, and begin where Temporal says that they do.
  const day = zone.dayOf(s)
  expect(zone.dayStart(day) <= s && s < zone.dayStart(day + 1)).toBe(true)
  for (const d of [day - 1, day, day + 1, dayNumber(z.toPlainDate().toString())]) {
    const first = seconds(Temporal.PlainDate.from(dayText(d)).toZonedDateTime(name))
    expect(zone.dayStart(d)).toBe(first)
    expect(zone.dayOf(first - 1)).toBeLessThan(d)
    expect(zone.dayOf(first)).toBe(zone.dayStart(d + 1) === first ? d + 1 : d)
  }
  // A day other than the clock's only where clocks went back over midnight.
  const clock = Math.floor((s + zone.offsetAt(s)) / 86400)
  if (day !== clock) {
    expect(day).toBe(clock + 1)
    expect(zone.localToInstants(s + zone.offsetAt(s))[1]).toBe(s)
  }

  for (const localS of [s + zone.offsetAt(s), s, s + zone.offsetAt(s) + 3600, s + zone.offsetAt(s) - 3600]) {
    const found = zone.localToInstants(localS)
    const earlier = seconds(plain(localS).toZonedDateTime(name, { disambiguation: 'earlier' }))
    const later = seconds(plain(localS).toZonedDateTime(name, { disambiguation: 'later' }))
    if (earlier === later) expect(found).toEqual([earlier])
    else if (zoned(earlier, name).offsetNanoseconds / 1e9 + earlier === localS) expect(found).toEqual([earlier, later])
    else expect(found).toEqual([])
  }

  const text = instantText(s, zone)
  expect(text).toBe(z.toString({ timeZoneName: 'never', smallestUnit: 'second' }))
  expect(parseInstant(text)).toBe(s)
}

describe('zones against Temporal and Intl', () => {
  it('agrees anywhere', () => {
    fc.assert(fc.property(place, ({ name, s }) => check(name, s)), { numRuns: RUNS })
  })

  it('agrees with Intl on offsets', () => {
    const formats = new Map<string, Intl.DateTimeFormat>()
    fc.assert(fc.property(place, ({ name, s }) => {
      let format = formats.get(name)
      if (format === undefined) formats.set(name, format = formatOf(name))
      expect(getZone(name).offsetAt(s)).toBe(intlOffset(format, s))
    }), { numRuns: RUNS })
  })

  it('agrees around the changes of one year in every zone', () => {
    const from = dayNumber('2026-01-01') * 86400
    for (const name of NAMES) {
      check(name, from)
      let change = zoned(from, name).getTimeZoneTransition('next')
      while (change !== null && seconds(change) < from + 366 * 86400) {
        for (const offBy of [-1, 0, 3599]) check(name, seconds(change) + offBy)
        change = change.getTimeZoneTransition('next')
      }
    }
  })

  it('gives the same days whatever was asked before', () => {
    fc.assert(fc.property(fc.constantFrom('America/St_Johns', 'Pacific/Apia', 'Africa/Casablanca', 'Asia/Gaza'),
      fc.array(fc.integer({ min: FROM_S, max: TO_S }), { minLength: 2, maxLength: 20 }), (name, list) => {
        const zone = getZone(name)
        const forward = list.map((s) => zone.dayStart(zone.dayOf(s)))
        const backward = list.toReversed().map((s) => zone.dayStart(zone.dayOf(s)))
        expect(backward.toReversed()).toEqual(forward)
      }), { numRuns: Math.ceil(RUNS / 10) })
  })
})
