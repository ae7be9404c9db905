import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ApiError } from '../problem.js'
import { Flow } from '../read-batch.js'
import { addExact, exactText, parseExact, ZERO } from '../thresholds/exact.js'
import type { Reading } from '../thresholds/readings.js'
import { dayNumber } from '../time/text.js'
import { getZone, type Zone } from '../time/zone.js'
import { billOf, currencyExponent, isRising, lineAnswer, type Bill, type Quantity } from './bill.js'
import { partsOf, RateVersion, type Part } from './calendar.js'
import { quantitiesOf } from './quantities.js'
import { checkVersions, parseRate, type RateVersionRecord } from './schema.js'

const chicago = getZone('America/Chicago')
const q = (delivered: string, received = '0', demand = '0'): Quantity => ({
  delivered: parseExact(delivered), received: parseExact(received), demand: parseExact(demand) })

function parts(from: string, to: string, ...versions: RateVersionRecord[]): Part[] {
  const list = versions.map((v) => new RateVersion('R', v)).reverse()
  return partsOf(dayNumber(from), dayNumber(to), (day) => list.find((v) => v.fromDay <= day))!
}

const lines = (bill: Bill): string[] => bill.lines.map(lineAnswer).map((l) => `${l.name}: ${l.quantity} ${l.unit} x ${l.price} = ${l.amount}`)

// Worked by hand.
describe('a bill', () => {
  it('of a flat rate: 30.00 + 823.457 x 0.1127 - 823.457 x 0.00425, taxed', () => {
    const flat: RateVersionRecord = {
      from: '2026-01-01', fixed: [{ name: 'Customer charge', amount: 30 }], energy: [{ tiers: [{ price: 0.1127 }] }],
      adjustments: [{ name: 'Power cost adjustment', price: -0.00425 }],
      taxes: [{ name: 'State tax', percent: 6.25 }, { name: 'City fee', percent: 2, on: ['energy', 'adjustment'] }] }
    const bill = billOf(parts('2026-10-01', '2026-11-01', flat), [[q('823.457')]], -2)
    expect(lines(bill)).toEqual([
      'Customer charge: 1 share x 30 = 30',
      'Energy: 823.457 kWh x 0.1127 = 92.8', // 92.8036039
      'Power cost adjustment: 823.457 kWh x -0.00425 = -3.5', // -3.49969225
      'State tax: 6.25 percent x 119.3 = 7.46', // 7.45625
      'City fee: 2 percent x 89.3 = 1.79', // 1.786
    ])
    expect(exactText(bill.amount)).toBe('128.55')
  })

  it('of tiers: 500 at 0.08, the next 500 at 0.10, the rest at 0.12', () => {
    const tiers: RateVersionRecord = { from: '2026-01-01', energy: [{ tiers: [{ upTo: 500, price: 0.08 }, { upTo: 1000, price: 0.1 }, { price: 0.12 }] }] }
    const of = (kwh: string): string => exactText(billOf(parts('2026-10-01', '2026-11-01', tiers), [[q(kwh)]], -2).amount)
    expect([of('0'), of('500'), of('500.1'), of('1000'), of('1234.5')]).toEqual(['0', '40', '40.01', '90', '118.14'])
  })

  it('of a period in which a new version begins: charges per period and tiers by the share of the days', () => {
    const version = (from: string, amount: number, price: number): RateVersionRecord => ({
      from, fixed: [{ amount }, { name: 'Meter', amount: 0.1, per: 'day' }], energy: [{ tiers: [{ upTo: 310, price }, { price: price * 2 }] }] })
    const cut = parts('2026-10-01', '2026-11-01', version('2026-01-01', 31, 0.1), version('2026-10-11', 62, 0.2))
    expect(lines(billOf(cut, [[q('150')], [q('100')]], -2))).toEqual([
      'Fixed charge: 0.322581 share x 31 = 10', 'Meter: 10 day x 0.1 = 1', 'Energy, tier 1: 100 kWh x 0.1 = 10', 'Energy, tier 2: 50 kWh x 0.2 = 10',
      'Fixed charge: 0.677419 share x 62 = 42', 'Meter: 21 day x 0.1 = 2.1', 'Energy, tier 1: 100 kWh x 0.2 = 20'])
  })

  it('of seasons, time of use and demand', () => {
    const tou: RateVersionRecord = {
      from: '2026-01-01', seasons: [{ name: 'summer', from: '06-01', to: '09-30' }],
      touPeriods: [{ name: 'on-peak', windows: [{ days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '15:00', to: '20:00' }] }],
      energy: [
        { season: 'summer', touPeriod: 'on-peak', tiers: [{ price: 0.25 }] }, { season: 'summer', touPeriod: 'off-peak', tiers: [{ price: 0.08 }] },
        { tiers: [{ price: 0.1 }] }],
      demand: [{ touPeriod: 'on-peak', price: 6 }] }
    // The last clause has no season: it would price summer energy twice.
    expect(() => checkVersions([tou])).toThrow(ApiError)
    const whole: RateVersionRecord = { ...tou, seasons: [{ name: 'summer', from: '06-01', to: '09-30' }, { name: 'winter', from: '10-01', to: '05-31' }],
      energy: [...tou.energy.slice(0, 2), { season: 'winter', tiers: [{ price: 0.1 }] }] }
    // Seasons that fill the year leave no day to price outside of them.
    expect(() => checkVersions([whole])).not.toThrow()
    const made = parts('2026-09-16', '2026-10-16', whole)
    expect(made.map((p) => [p.season, p.endDay - p.startDay])).toEqual([['summer', 15], ['winter', 15]])
    expect(lines(billOf(made, [[q('40', '0', '8.4'), q('200', '0', '3')], [q('20', '0', '5'), q('100', '0', '9')]], -2))).toEqual([
      'Energy on-peak: 40 kWh x 0.25 = 10', 'Energy off-peak: 200 kWh x 0.08 = 16', 'Demand on-peak: 8.4 kW x 6 = 25.2',
      'Energy: 120 kWh x 0.1 = 12', 'Demand on-peak: 5 kW x 6 = 15'])
  })

  it('of net metering: what is left over is credited, or all that was sent back', () => {
    const net = (method: 'net' | 'sell'): RateVersionRecord => ({
      from: '2026-01-01', energy: [{ tiers: [{ price: 0.12 }] }], netMetering: { method, creditPrice: 0.035 } })
    const of = (method: 'net' | 'sell', quantity: Quantity): string[] => lines(billOf(parts('2026-10-01', '2026-11-01', net(method)), [[quantity]], -2))
    expect(of('net', q('300', '500'))).toEqual(['Energy: 0 kWh x 0.12 = 0', 'Net-metering credit: 200 kWh x 0.035 = -7'])
    expect(of('net', q('500', '300'))).toEqual(['Energy: 200 kWh x 0.12 = 24'])
    expect(of('sell', q('300', '500'))).toEqual(['Energy: 300 kWh x 0.12 = 36', 'Net-metering credit: 500 kWh x 0.035 = -17.5'])
    expect([isRising(parts('2026-10-01', '2026-11-01', net('net'))), currencyExponent('JPY'), currencyExponent('USD')]).toEqual([false, -0, -2])
  })

  it('is the sum of its lines, and of flat energy the sum of any cut of it, to the rounding of a line', () => {
    const rate: RateVersionRecord = { from: '2026-01-01', energy: [{ tiers: [{ price: 0.11237 }] }], taxes: [{ name: 'Tax', percent: 7.5 }] }
    const period = parts('2026-10-01', '2026-11-01', rate)
    fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 5_000_000 }), { minLength: 1, maxLength: 8 }), (wattHours) => {
      const kwh = (wh: number): Quantity => q((wh / 1000).toFixed(3))
      const whole = billOf(period, [[kwh(wattHours.reduce((a, b) => a + b, 0))]], -2)
      expect(exactText(whole.amount)).toBe(exactText(whole.lines.map((l) => l.amount).reduce(addExact, ZERO)))
      const cut = wattHours.map((wh) => Number(exactText(billOf(period, [[kwh(wh)]], -2).amount))).reduce((a, b) => a + b, 0)
      expect(Math.abs(cut - Number(exactText(whole.amount)))).toBeLessThanOrEqual(0.011 * (wattHours.length + 1))
    }))
  })
})

describe('a rate that cannot be', () => {
  const energy = [{ tiers: [{ price: 0.1 }] }]
  it.each<[object, string]>([
    [{ from: '2026-02-30', energy }, '/versions/0/from'],
    [{ from: '2026-01-01', energy: [{ tiers: [{ price: 0.1 }, { price: 0.2 }] }] }, '/versions/0/energy/0/tiers/0/upTo'],
    [{ from: '2026-01-01', energy: [{ tiers: [{ upTo: 5, price: 0.1 }, { upTo: 5, price: 0.2 }, { price: 1 }] }] }, '/versions/0/energy/0/tiers/1/upTo'],
    [{ from: '2026-01-01', energy: [{ touPeriod: 'night', tiers: [{ price: 0.1 }] }] }, '/versions/0/energy/0/touPeriod'],
    [{ from: '2026-01-01', energy: [...energy, ...energy] }, '/versions/0/energy'],
  ])('is refused with the place: %j', (version, at) => {
    expect(() => checkVersions(parseRate({ versions: [version] }, '').versions)).toThrow(expect.objectContaining({ code: 'invalid-rate', extra: { at } }) as Error)
  })
})

describe('time-of-use windows', () => {
  const version = new RateVersion('R', {
    from: '2026-01-01', energy: [], holidays: ['2026-07-03'], otherPeriod: 'rest',
    touPeriods: [
      { name: 'night', windows: [{ from: '22:00', to: '06:00', holidays: true }] },
      { name: 'peak', windows: [{ days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '16:00', to: '21:00' }] }] })
  const nameAt = (at: string, intervalS = 900, zone: Zone = chicago): string | undefined =>
    version.periods[version.periodAt(Date.parse(at) / 1000, intervalS, zone)]

  it('are local, know holidays, and go over midnight', () => {
    expect([nameAt('2026-07-02T16:00:00-05:00'), nameAt('2026-07-03T16:00:00-05:00'), nameAt('2026-07-04T16:00:00-05:00')]).toEqual(['peak', 'rest', 'rest'])
    expect([nameAt('2026-07-03T23:45:00-05:00'), nameAt('2026-07-03T05:45:00-05:00'), nameAt('2026-07-03T06:00:00-05:00')]).toEqual(['night', 'night', 'rest'])
    expect([nameAt('2026-07-02T20:30:00-05:00', 1800), nameAt('2026-07-02T20:30:00-05:00', 3600), nameAt('2026-07-02T00:00:00-05:00', 86_400)])
      .toEqual(['peak', undefined, undefined])
  })

  it('hold each read once, also on days on which the clocks change', () => {
    // A plain evaluation: each quarter of an hour by the clock that Intl shows.
    const clock = new Intl.DateTimeFormat('en-US', { timeZone: 'America/Chicago', weekday: 'short', hour: '2-digit', hourCycle: 'h23' })
    const plain = (s: number): string => {
      const shown = Object.fromEntries(clock.formatToParts(s * 1000).map((p) => [p.type, p.value]))
      const hour = Number(shown.hour)
      if (hour >= 22 || hour < 6) return 'night'
      return hour >= 16 && hour < 21 && !['Sat', 'Sun'].includes(shown.weekday) ? 'peak' : 'rest'
    }
    for (const text of ['2026-03-08', '2026-03-09', '2026-11-01', '2026-11-02']) {
      const day = dayNumber(text)
      const [fromS, toS] = [chicago.dayStart(day), chicago.dayStart(day + 1)]
      const values = Array.from({ length: (toS - fromS) / 900 }, (_, i) => i + 1)
      const reading: Reading = {
        flow: Flow.delivered, sign: 1, firstAtS: fromS, intervalS: 900, exponent: -3, values, lanes: null, fromS, toS, dayEndS: toS }
      const { quantities, isTold } = quantitiesOf([{ startDay: day, endDay: day + 1, version, season: undefined }], [reading], chicago)
      const expected = version.periods.map((name) => values.reduce((n, v, i) => plain(fromS + i * 900) === name ? n + v : n, 0))
      expect(isTold).toBe(true)
      expect(quantities[0].map((p) => Number(exactText(p.delivered)) * 1000)).toEqual(expected)
    }
  })
})
