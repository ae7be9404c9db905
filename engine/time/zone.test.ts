import { describe, expect, it } from 'vitest'
import { dayNumber, dayText, instantText, parseInstant, parseLocal } from './text.js'
import { getZone, isDayLengthOf } from './zone.js'

const at = (text: string): number => parseInstant(text) ?? NaN
const local = (text: string): number => parseLocal(text) ?? NaN

/** Start of a local day as text in the zone. */
function start(name: string, day: string): string {
  const zone = getZone(name)
  return instantText(zone.dayStart(dayNumber(day)), zone)
}

/** Length of a local day in hours. */
function hours(name: string, day: string): number {
  const zone = getZone(name)
  return (zone.dayStart(dayNumber(day) + 1) - zone.dayStart(dayNumber(day))) / 3600
}

function instants(name: string, text: string): string[] {
  const zone = getZone(name)
  return zone.localToInstants(local(text)).map((s) => instantText(s, zone))
}

describe('names', () => {
  it('keeps aliases, and gives other spellings the same zone', () => {
    expect(getZone('US/Central').name).toBe('US/Central')
    expect(getZone('us/central')).toBe(getZone('US/Central'))
    expect(getZone('Asia/Kolkata').name).toBe('Asia/Kolkata')
    expect(getZone('utc').name).toBe('UTC')
  })

  it.each(['', 'Mars/Olympus', 'America/Chicago ', 'CST', '+01:00', '-05:00', 'Z', '2026-01-01T00:00Z[Europe/Paris]'])(
    'refuses %j by name', (name) => {
      expect(() => getZone(name)).toThrow(RangeError)
      expect(() => getZone(name)).toThrow(JSON.stringify(name))
    })

  it('takes fixed zones', () => {
    expect(getZone('UTC').offsetAt(at('2026-07-01T00:00Z'))).toBe(0)
    // POSIX signs: Etc/GMT-1 is an hour east.
    expect(getZone('Etc/GMT-1').offsetAt(at('2026-07-01T00:00Z'))).toBe(3600)
    expect(start('Etc/GMT+12', '2026-07-01')).toBe('2026-07-01T00:00:00-12:00')
    expect(hours('Etc/GMT-14', '2026-03-29')).toBe(24)
  })
})

describe('length of days', () => {
  it.each([
    ['America/Chicago', '2026-03-08', 23],
    ['America/Chicago', '2026-11-01', 25],
    ['America/Chicago', '2026-11-02', 24],
    ['Europe/Amsterdam', '2026-03-29', 23],
    ['Europe/Amsterdam', '2026-10-25', 25],
    ['Australia/Lord_Howe', '2026-04-05', 24.5],
    ['Australia/Lord_Howe', '2026-10-04', 23.5],
    ['Asia/Kolkata', '2026-03-29', 24],
    // North Korea moved half an hour west and back again.
    ['Asia/Pyongyang', '2015-08-14', 24.5],
    ['Asia/Pyongyang', '2018-05-04', 23.5],
    // Double summer time of Antarctica's Troll station.
    ['Antarctica/Troll', '2026-03-29', 22],
    ['Antarctica/Troll', '2026-10-25', 26],
    ['America/St_Johns', '1988-04-03', 22],
    ['Pacific/Apia', '2011-12-29', 24],
    ['Pacific/Apia', '2011-12-30', 0],
    ['Pacific/Apia', '2011-12-31', 24],
    ['Pacific/Kwajalein', '1993-08-21', 0],
  ])('%s %s has %d hours', (zone, day, length) => {
    expect(hours(zone, day)).toBe(length)
  })

  it('tells a whole local day from other spans', () => {
    const zone = getZone('America/Chicago')
    const day = zone.dayStart(dayNumber('2026-11-01'))
    expect(isDayLengthOf(zone, day, 90000)).toBe(true)
    expect(isDayLengthOf(zone, day, 86400)).toBe(false)
    expect(isDayLengthOf(zone, day + 3600, 86400)).toBe(false)
    expect(isDayLengthOf(getZone('UTC'), at('2026-11-01T00:00Z'), 86400)).toBe(true)
  })
})

describe('start of days', () => {
  it('is the first instant after a midnight that does not exist', () => {
    expect(start('America/Sao_Paulo', '2018-11-04')).toBe('2018-11-04T01:00:00-02:00')
    expect(start('Africa/Cairo', '2026-04-24')).toBe('2026-04-24T01:00:00+03:00')
    expect(start('Asia/Beirut', '2026-03-29')).toBe('2026-03-29T01:00:00+03:00')
    expect(hours('Africa/Cairo', '2026-04-24')).toBe(23)
  })

  it('is the first of two midnights', () => {
    // Cuba goes back from 01:00 to 00:00, Egypt from 24:00 to 23:00.
    expect(start('America/Havana', '2026-11-01')).toBe('2026-11-01T00:00:00-04:00')
    expect(hours('America/Havana', '2026-11-01')).toBe(25)
    expect(start('Africa/Cairo', '2026-10-29')).toBe('2026-10-29T00:00:00+03:00')
    expect(hours('Africa/Cairo', '2026-10-29')).toBe(25)
    expect(start('Africa/Cairo', '2026-10-30')).toBe('2026-10-30T00:00:00+02:00')
  })

  it('does not go back to a day that has ended where clocks fall back over midnight', () => {
    // Newfoundland until 2011: at 00:01 back to 23:01 of the day before.
    const zone = getZone('America/St_Johns')
    for (const [day, summer] of [['1990-10-28', '-02:30'], ['2006-10-29', '-02:30'], ['2010-11-07', '-02:30']]) {
      const d = dayNumber(day)
      expect(instantText(zone.dayStart(d), zone)).toBe(`${day}T00:00:00${summer}`)
      const back = zone.dayStart(d) + 60
      expect(instantText(back, zone)).toBe(`${dayText(d - 1)}T23:01:00-03:30`)
      expect(zone.dayOf(back - 61)).toBe(d - 1)
      expect([zone.dayOf(back - 60), zone.dayOf(back), zone.dayOf(back + 3539), zone.dayOf(back + 3600)])
        .toEqual([d, d, d, d])
      expect(hours('America/St_Johns', day)).toBe(25)
    }
  })

  it('skips a day that does not exist', () => {
    const zone = getZone('Pacific/Apia')
    const skipped = dayNumber('2011-12-30')
    expect(zone.dayStart(skipped)).toBe(zone.dayStart(skipped + 1))
    expect(zone.dayOf(zone.dayStart(skipped))).toBe(skipped + 1)
    expect(zone.dayOf(zone.dayStart(skipped) - 1)).toBe(skipped - 1)
  })

  it('keeps quarter-hour offsets and changes of standard time', () => {
    expect(start('Asia/Kathmandu', '1990-01-01')).toBe('1990-01-01T00:00:00+05:45')
    expect(start('Pacific/Chatham', '2026-09-27')).toBe('2026-09-27T00:00:00+12:45')
    expect(start('Asia/Kathmandu', '1985-06-01')).toBe('1985-06-01T00:00:00+05:30')
    expect(start('America/Caracas', '2016-05-01')).toBe('2016-05-01T00:00:00-04:30')
    expect(start('America/Caracas', '2016-05-02')).toBe('2016-05-02T00:00:00-04:00')
    expect(start('Europe/Istanbul', '2016-12-01')).toBe('2016-12-01T00:00:00+03:00')
    expect(start('America/Indiana/Indianapolis', '2005-07-01')).toBe('2005-07-01T00:00:00-05:00')
    expect(start('America/Indiana/Indianapolis', '2006-07-01')).toBe('2006-07-01T00:00:00-04:00')
  })
})

describe('local times', () => {
  it('has no instant where clocks go forward, two where they go back', () => {
    expect(instants('America/Chicago', '2026-03-08T01:59:59')).toEqual(['2026-03-08T01:59:59-06:00'])
    expect(instants('America/Chicago', '2026-03-08T02:00')).toEqual([])
    expect(instants('America/Chicago', '2026-03-08T02:59:59')).toEqual([])
    expect(instants('America/Chicago', '2026-03-08T03:00')).toEqual(['2026-03-08T03:00:00-05:00'])
    expect(instants('America/Chicago', '2026-11-01T00:59:59')).toEqual(['2026-11-01T00:59:59-05:00'])
    expect(instants('America/Chicago', '2026-11-01T01:00'))
      .toEqual(['2026-11-01T01:00:00-05:00', '2026-11-01T01:00:00-06:00'])
    expect(instants('America/Chicago', '2026-11-01T02:00')).toEqual(['2026-11-01T02:00:00-06:00'])
    expect(instants('Australia/Lord_Howe', '2026-04-05T01:45'))
      .toEqual(['2026-04-05T01:45:00+11:00', '2026-04-05T01:45:00+10:30'])
    expect(instants('Pacific/Apia', '2011-12-30T12:00')).toEqual([])
    expect(instants('America/St_Johns', '1990-10-27T23:30'))
      .toEqual(['1990-10-27T23:30:00-02:30', '1990-10-27T23:30:00-03:30'])
  })
})

describe('ends of the table', () => {
  it('reads the years outside the usual ones when they are asked for, in any order of calls', () => {
    const zone = getZone('America/Denver')
    expect(zone.dayStart(dayNumber('2026-07-01'))).toBe(at('2026-07-01T00:00-06:00'))
    expect(zone.dayStart(dayNumber('2099-07-01'))).toBe(at('2099-07-01T00:00-06:00'))
    expect(zone.dayStart(dayNumber('1980-07-01'))).toBe(at('1980-07-01T00:00-06:00'))
    expect(zone.localToInstants(local('1981-01-01T00:00'))).toEqual([at('1981-01-01T00:00-07:00')])
    expect(getZone('America/Boise').localToInstants(local('1981-07-01'))).toEqual([at('1981-07-01T00:00-06:00')])
    expect(getZone('America/Phoenix').localToInstants(local('2050-07-01'))).toEqual([at('2050-07-01T00:00-07:00')])
  })

  it('goes on without a step where the parts of the table meet', () => {
    for (const [name, boundary] of [['Europe/Oslo', '2015-01-01'], ['Asia/Tokyo', '2040-01-01'],
      ['Pacific/Honolulu', '2015-01-01'], ['Pacific/Auckland', '2040-01-01'], ['America/Lima', '1980-01-01'],
      ['America/Regina', '2100-01-01']] as const) {
      const zone = getZone(name)
      for (let day = dayNumber(boundary) - 5; day <= dayNumber(boundary) + 5; day++) {
        expect(zone.dayStart(day + 1) - zone.dayStart(day)).toBe(86400)
        expect([zone.dayOf(zone.dayStart(day) - 1), zone.dayOf(zone.dayStart(day))]).toEqual([day - 1, day])
        expect(zone.localToInstants(day * 86400)).toEqual([zone.dayStart(day)])
      }
    }
  })

  it('holds the first and the last offset beyond 1980 and 2099', () => {
    const zone = getZone('America/Denver')
    expect(zone.offsetAt(at('1900-07-01T00:00Z'))).toBe(-7 * 3600)
    expect(zone.offsetAt(at('2500-07-01T00:00Z'))).toBe(-7 * 3600)
    expect(zone.dayStart(dayNumber('0001-01-01'))).toBe(at('0001-01-01T00:00-07:00'))
    expect(zone.dayOf(Infinity)).toBe(Infinity)
    expect(zone.dayOf(-Infinity)).toBe(-Infinity)
  })
})
