import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { dayNumber, parseInstant } from '../../engine/time/text.js'
import { testServer, type TestServer } from '../../test/api-server.js'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { UsageFixture } from '../../test/usage-fixture.js'
import { tokenRoutes } from './tokens.js'
import { usageRoutes } from './usage.js'

const NOW = parseInstant('2026-11-10T12:00:00-06:00')!

let db: TestDatabase
let server: TestServer

beforeAll(async () => {
  db = await testDatabase()
  server = testServer(db.pool, { routes: [usageRoutes, tokenRoutes], context: { now: () => NOW * 1000 } })
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})

/** An account in Chicago with one meter of quarter hours from 2026-10-01 on. */
async function home(fromText = '2026-01-01T00:00:00-06:00') {
  const fixture = await UsageFixture.make(db.pool, 'America/Chicago')
  const { accountId, account } = await fixture.account({ billingDay: 15 })
  const meter = await fixture.meter()
  await fixture.assign(meter.meterId, accountId, parseInstant(fromText)!)
  const channel = await fixture.channel(meter, 1, 900)
  const key = await server.key(fixture.utility, 'portal')
  const get = async (url: string, status = 200): Promise<Record<string, unknown>> => {
    const answer = await server.call(key, 'GET', url)
    expect(answer.statusCode, answer.body).toBe(status)
    return answer.json()
  }
  return { fixture, accountId, account, meter, channel, key, get, dayS: (day: string) => fixture.zone.dayStart(dayNumber(day)) }
}

const fill = (n: number, value: number | null = 100): (number | null)[] => new Array<number | null>(n).fill(value)

describe('the answer', () => {
  it('has the shape of the contract', async () => {
    const h = await home()
    const values = fill(96 * 2, 1)
    values[40] = 2048
    values[50] = null
    await h.fixture.settle(h.channel, { startS: h.dayS('2026-10-30'), values }, NOW)
    await h.fixture.settle(h.channel, { startS: h.dayS('2026-10-30') + 900, values: fill(4), lane: 9, version: 2 }, NOW)
    expect(await h.get(`/v1/accounts/${h.account}/usage?from=2026-10-30&to=2026-11-02`)).toEqual({
      account: h.account, timeZone: 'America/Chicago', resolution: 'day',
      from: '2026-10-30T00:00:00-05:00', to: '2026-11-02T00:00:00-06:00', asOf: null,
      dataThrough: '2026-11-01T00:00:00-05:00', expectedThrough: '2026-11-10T00:00:00-06:00',
      expected: 96 * 2 + 100, present: 191, estimated: 0, missing: 101, restatedAt: null,
      total: { delivered: 2.238, received: null, net: null },
      series: [{
        flow: 'delivered', unit: 'kWh', intervalSeconds: 900,
        periods: [
          {
            start: '2026-10-30T00:00:00-05:00', end: '2026-10-31T00:00:00-05:00', value: 2.142,
            peakKw: 8.192, peakAt: '2026-10-30T10:00:00-05:00', expected: 96, present: 95, estimated: 0, missing: 1,
          },
          {
            start: '2026-10-31T00:00:00-05:00', end: '2026-11-01T00:00:00-05:00', value: 0.096,
            peakKw: 0.004, peakAt: '2026-10-31T00:00:00-05:00', expected: 96, present: 96, estimated: 0, missing: 0,
          },
          {
            start: '2026-11-01T00:00:00-05:00', end: '2026-11-02T00:00:00-06:00', value: null,
            peakKw: null, peakAt: null, expected: 100, present: 0, estimated: 0, missing: 100,
          },
        ],
      }],
    })
  })

  it('tells the repeated hour twice, and quality and method in runs', async () => {
    const h = await home()
    const startS = h.dayS('2026-11-01')
    await h.fixture.settle(h.channel, { startS, values: Array.from({ length: 100 }, (_, i) => i) }, NOW)
    await h.fixture.settle(h.channel, { startS: startS + 8 * 900, values: fill(4, 7), lane: 4, version: 2 }, NOW)
    await h.fixture.settle(h.channel, { startS: startS + 12 * 900, values: fill(2, 7), lane: 4 | 2 << 3, version: 2 }, NOW)
    const answer = await h.get(`/v1/accounts/${h.account}/usage?from=2026-11-01&to=2026-11-02&resolution=hour`)
    const [series] = answer.series as Record<string, unknown>[]
    expect(series).toMatchObject({
      start: '2026-11-01T00:00:00-05:00', intervalSeconds: 3600,
      // The clock shows 01:00 twice: steps 1 (-05:00) and 2 (-06:00).
      offsets: [{ at: 0, offset: '-05:00' }, { at: 2, offset: '-06:00' }],
      quality: [{ from: 2, count: 1, quality: 'validated' }],
    })
    expect((series.values as number[]).length).toBe(25)
    expect((series.values as number[]).slice(0, 4)).toEqual([0.006, 0.022, 0.028, 0.043])
    const quarter = await h.get(`/v1/accounts/${h.account}/usage?from=2026-11-01&to=2026-11-02&resolution=interval`)
    expect((quarter.series as Record<string, unknown>[])[0].quality).toEqual([
      { from: 8, count: 4, quality: 'validated' }, { from: 12, count: 2, quality: 'validated', method: 'like-day' }])
    expect(quarter.restatedAt).toBe('2026-11-10T12:00:00-06:00')
  })

  it('is the running billing period by day, when nothing is asked', async () => {
    const h = await home()
    await h.fixture.settle(h.channel, { startS: h.dayS('2026-11-01'), values: fill(100) }, NOW)
    expect(await h.get(`/v1/accounts/${h.account}/usage`)).toMatchObject({
      from: '2026-10-15T00:00:00-05:00', to: '2026-11-15T00:00:00-06:00', periodSource: 'billingDay', resolution: 'day',
      // Nothing is missing before the meter first read, nor in days that are not over.
      expected: 100 + 8 * 96, present: 100,
    })
    expect(await h.get(`/v1/accounts/${h.account}/usage?last=3&resolution=billing`)).toMatchObject({
      from: '2026-08-15T00:00:00-05:00', to: '2026-11-15T00:00:00-06:00',
    })
    expect(await h.get(`/v1/accounts/${h.account}/usage?last=12&resolution=month`)).toMatchObject({
      from: '2025-12-01T00:00:00-06:00', to: '2026-12-01T00:00:00-06:00',
    })
  })

  it('computes net where both flows are metered, and adds no pushed net', async () => {
    const h = await home()
    const received = await h.fixture.channel(h.meter, 2, 900)
    const net = await h.fixture.channel(h.meter, 3, 900)
    const startS = h.dayS('2026-10-30')
    await h.fixture.settle(h.channel, { startS, values: fill(96, 30) }, NOW)
    await h.fixture.settle(received, { startS, values: fill(96, 41) }, NOW)
    const url = `/v1/accounts/${h.account}/usage?from=2026-10-30&to=2026-10-31`
    expect(await h.get(url)).toMatchObject({ total: { delivered: 2.88, received: 3.936, net: -1.056 } })
    await h.fixture.settle(net, { startS, values: fill(96, -10) }, NOW)
    const all = await h.get(url)
    expect(all).toMatchObject({ total: { delivered: 2.88, received: 3.936, net: -1.056 } })
    expect((all.series as { flow: string }[]).map((s) => s.flow)).toEqual(['delivered', 'received', 'net'])
    expect(await h.get(`${url}&flow=net`)).toMatchObject({
      total: { delivered: null, received: null, net: -1.056 }, series: [{ flow: 'net', periods: [{ value: -0.96 }] }],
    })
    expect(await h.get(`${url}&flow=received`)).toMatchObject({ total: { delivered: null, received: 3.936, net: null } })
    await db.pool.query('delete from channel where channel_id = $1', [net.channelId])
    expect(await h.get(`${url}&flow=net&resolution=hour`)).toMatchObject({
      total: { net: -1.056 }, series: [{ flow: 'net', derived: true, values: fill(24, -0.044) }] })
  })
})

describe('asOf', () => {
  it('answers with what was known then, through corrections, lost offers and withdrawals', async () => {
    const h = await home()
    const startS = h.dayS('2026-10-05')
    const at = (hours: number): number => h.dayS('2026-10-06') + hours * 3600
    await h.fixture.settle(h.channel, { startS, values: fill(40, 5), version: 10 }, at(1))
    await h.fixture.settle(h.channel, { startS: startS + 20 * 900, values: fill(30, 8), version: 20, lane: 1 }, at(2))
    await h.fixture.settle(h.channel, { startS, values: fill(10, 12_345), exponent: -6, version: 30 }, at(3))
    await h.fixture.settle(h.channel, { startS, values: fill(10, 9), version: 5 }, at(4))
    await h.fixture.withdraw(h.channel, dayNumber('2026-10-05'), {
      slots: [0, 1], exponent: -3, vals: [5, 5], lanes: [0, 0], versions: [10, 10] }, at(5))
    const total = async (asOf: string): Promise<unknown> => {
      const answer = await h.get(`/v1/accounts/${h.account}/usage?from=2026-10-05&to=2026-10-06&asOf=${encodeURIComponent(asOf)}`)
      return [(answer.total as { delivered: number }).delivered, answer.present, answer.estimated, answer.restatedAt]
    }
    const text = (hours: number): string => new Date(at(hours) * 1000).toISOString()
    expect(await total(text(0.5))).toEqual([null, 0, 0, null])
    expect(await total(text(1))).toEqual([0.2, 40, 0, null])
    // Estimates do not replace actual reads: they only fill the ten slots that were missing.
    expect(await total(text(2.5))).toEqual([0.28, 50, 10, null])
    expect(await total(text(3))).toEqual([0.35345, 50, 10, '2026-10-06T03:00:00-05:00'])
    expect(await total(text(4.5))).toEqual([0.35345, 50, 10, '2026-10-06T03:00:00-05:00'])
    expect(await total(text(5.5))).toEqual([0.33876, 50, 10, '2026-10-06T05:00:00-05:00'])
    const now = await h.get(`/v1/accounts/${h.account}/usage?from=2026-10-05&to=2026-10-06`)
    expect(now.total).toMatchObject({ delivered: 0.33876 })
    const then = await h.get(`/v1/accounts/${h.account}/usage?from=2026-10-05&to=2026-10-06&asOf=${text(1)}`)
    expect(then).toMatchObject({
      expectedThrough: '2026-10-06T00:00:00-05:00', dataThrough: '2026-10-05T10:00:00-05:00', expected: 96 })
  })
})

describe('compare', () => {
  it('compares periods with periods, and never with another occupant\'s time', async () => {
    const h = await home('2026-03-10T09:30:00-05:00')
    const before = await h.fixture.account()
    await h.fixture.assign(h.meter.meterId, before.accountId, parseInstant('2025-01-01T00:00:00-06:00')!, parseInstant('2026-03-10T09:30:00-05:00'))
    for (const [day, value] of [['2026-02-20', 1], ['2026-03-20', 2], ['2026-09-20', 3], ['2026-10-20', 4], ['2025-10-20', 9]] as const) {
      await h.fixture.settle(h.channel, { startS: h.dayS(day), values: fill(96, value * 1000) }, NOW)
    }
    const url = `/v1/accounts/${h.account}/usage`
    expect(await h.get(`${url}?compare=previous`)).toMatchObject({
      total: { delivered: 384 },
      compare: { kind: 'previous', from: '2026-09-15T00:00:00-05:00', to: '2026-10-15T00:00:00-05:00', total: { delivered: 288 }, reason: null },
    })
    expect(await h.get(`${url}?compare=last-year`)).toMatchObject({
      compare: { from: '2025-10-15T00:00:00-05:00', to: '2025-11-15T00:00:00-06:00', total: null, series: null, reason: 'outside-occupancy' } })
    expect(await h.get(`${url}?from=2026-04-15&to=2026-05-15&compare=previous`)).toMatchObject({
      compare: { from: '2026-03-15T00:00:00-05:00', total: { delivered: 192 } } })
    // The 10th of March is shared with the occupant before.
    expect(await h.get(`${url}?from=2026-03-20&to=2026-03-30&compare=previous`)).toMatchObject({
      compare: { from: '2026-03-10T00:00:00-05:00', to: '2026-03-20T00:00:00-05:00', total: null, reason: 'outside-occupancy' } })
    expect(await h.get(`${url}?from=2026-06-01&to=2026-07-01&resolution=month&compare=previous`)).toMatchObject({
      compare: { from: '2026-05-01T00:00:00-05:00', to: '2026-06-01T00:00:00-05:00', total: null, reason: 'no-data' } })
    const first = await h.get(`${url}?from=2026-02-01&to=2026-04-01`)
    expect(first).toMatchObject({ total: { delivered: 192 } })
  })
})

describe('members', () => {
  it('see their own accounts, and meters only while those had them', async () => {
    const h = await home('2026-10-10T10:00:00-05:00')
    const other = await h.fixture.account()
    await h.fixture.assign(h.meter.meterId, other.accountId, parseInstant('2026-01-01T00:00:00-06:00')!, parseInstant('2026-10-10T10:00:00-05:00'))
    await h.fixture.settle(h.channel, { startS: h.dayS('2026-10-10'), values: fill(96, 10) }, NOW)
    const minted = await server.call(h.key, 'POST', '/v1/tokens', { accounts: [h.account], ttlSeconds: 600 })
    const { token } = minted.json<{ token: string }>()
    const range = 'from=2026-10-01&to=2026-11-01&resolution=month'
    const own = await server.call(token, 'GET', `/v1/meters/${h.meter.meter}/usage?${range}`)
    expect(own.json()).toMatchObject({ meter: h.meter.meter, total: { delivered: 0.56 } })
    const all = await server.call(h.key, 'GET', `/v1/meters/${h.meter.meter}/usage?${range}`)
    expect(all.json()).toMatchObject({ total: { delivered: 0.96 } })
    expect((await server.call(token, 'GET', `/v1/accounts/${other.account}/usage`)).statusCode).toBe(404)
    const account = await server.call(token, 'GET', `/v1/accounts/${h.account}/usage?${range}`)
    expect(account.json()).toMatchObject({ total: { delivered: 0.56 }, series: [{ periods: [{ peakAt: '2026-10-10T10:00:00-05:00' }] }] })
  })
})

describe('the request', () => {
  it('is refused with the reason', async () => {
    const h = await home()
    const url = `/v1/accounts/${h.account}/usage`
    for (const [query, code] of [
      ['from=2026-01-01&to=2026-06-01&resolution=interval', 'range-too-large'],
      ['from=2024-01-01&to=2026-01-01&resolution=hour', 'range-too-large'],
      ['from=2010-01-01&to=2026-01-01', 'range-too-large'],
      ['from=2026-10-02&to=2026-10-02', 'invalid-range'],
      ['from=2026-02-30&to=2026-10-02', 'invalid-range'],
      ['from=2026-10-01T00:00:00&to=2026-10-02', 'invalid-range'],
      ['to=2026-10-02', 'invalid-range'],
      ['last=2&from=2026-10-01', 'invalid-range'],
      ['asOf=yesterday', 'invalid-instant'],
      ['resolution=week', 'invalid-request'],
      ['form=2026-10-01', 'unknown-parameter'],
    ]) {
      expect(await h.get(`${url}?${query}`, 422), query).toMatchObject({ code })
    }
    expect(await h.get('/v1/accounts/nobody/usage', 404)).toMatchObject({ code: 'account-not-found' })
    expect((await server.call(await server.key(h.fixture.utility, 'head-end'), 'GET', url)).statusCode).toBe(403)
  })

  it('is answered 304 while nothing changed, and never after something did', async () => {
    const h = await home()
    const startS = h.dayS('2026-10-05')
    await h.fixture.settle(h.channel, { startS, values: fill(96) }, NOW)
    const url = `/v1/accounts/${h.account}/usage?from=2026-10-05&to=2026-10-06`
    const headers = { authorization: `Bearer ${h.key}` }
    const first = await server.app.inject({ url, headers })
    const etag = String(first.headers.etag)
    const again = await server.app.inject({ url, headers: { ...headers, 'if-none-match': `"other", ${etag}` } })
    expect(again.statusCode).toBe(304)
    expect(again.body).toBe('')
    await h.fixture.settle(h.channel, { startS, values: fill(1, 101), version: 2 }, NOW)
    const changed = await server.app.inject({ url, headers: { ...headers, 'if-none-match': etag } })
    expect(changed.statusCode).toBe(200)
    expect(changed.headers.etag).not.toBe(etag)
  })

  it('is answered as CSV', async () => {
    const h = await home()
    await h.fixture.settle(h.channel, { startS: h.dayS('2026-10-05'), values: [1, null, 3], lane: 1 | 1 << 3 }, NOW)
    const csv = async (query: string, accept = 'text/csv') => server.app.inject({
      url: `/v1/accounts/${h.account}/usage?${query}`, headers: { authorization: `Bearer ${h.key}`, accept } })
    const quarters = await csv('from=2026-10-05&to=2026-10-05T00:45:00-05:00&resolution=interval&by=meter')
    expect(quarters.headers['content-type']).toBe('text/csv; charset=utf-8')
    expect(quarters.body.split('\n')).toEqual([
      'meter,flow,start,end,value,unit,quality,method',
      `${h.meter.meter},delivered,2026-10-05T00:00:00-05:00,2026-10-05T00:15:00-05:00,0.001,kWh,estimated,linear`,
      `${h.meter.meter},delivered,2026-10-05T00:15:00-05:00,2026-10-05T00:30:00-05:00,,kWh,,`,
      `${h.meter.meter},delivered,2026-10-05T00:30:00-05:00,2026-10-05T00:45:00-05:00,0.003,kWh,estimated,linear`, ''])
    const days = await csv('from=2026-10-05&to=2026-10-06', 'application/json;q=0.1, text/csv')
    expect(days.body.split('\n')[1]).toBe(
      'delivered,2026-10-05T00:00:00-05:00,2026-10-06T00:00:00-05:00,0.004,kWh,0.012,2026-10-05T00:30:00-05:00,96,2,2,94')
    expect((await csv('', 'application/vnd.apache.arrow.stream')).statusCode).toBe(406)
  })
})
