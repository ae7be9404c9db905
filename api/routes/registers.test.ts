import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testServer, type TestServer } from '../../test/api-server.js'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { testUtility, type TestUtility } from '../../test/settling.js'
import { registerReadRoutes } from './registers.js'
import { tokenRoutes } from './tokens.js'
import { usageRoutes } from './usage.js'

let db: TestDatabase
let server: TestServer
let u: TestUtility
let key: string
let other: string
let account: string
const day = (n: number): number => Date.parse('2026-11-01T06:00:00Z') / 1000 + n * 86_400

beforeAll(async () => {
  db = await testDatabase()
  server = testServer(db.pool, { routes: [registerReadRoutes, usageRoutes, tokenRoutes], context: { now: () => (day(20)) * 1000 } })
  u = await testUtility(db.pool)
  const { rows: [{ id }] } = await db.pool.query<{ id: string }>('select id from utility where utility_id = $1', [u.utilityId])
  key = await server.key(id, 'portal')
  other = await server.key('elsewhere', 'portal')
  const home = await u.account()
  account = home.account
  await u.meter({ id: 'R', assignments: [{ accountId: home.accountId, fromS: day(3) }] })
  await u.settle([
    { meter: 'R', start: '2026-11-02T06:00:00Z', values: [100, 200], quantity: 'reactive-energy' },
    { meter: 'R', start: '2026-11-02T06:00:00Z', values: [240_100, 239_900], quantity: 'voltage' },
    { meter: 'R', start: '2026-11-02T06:00:00Z', values: [5, 6] },
  ], {
    registers: [
      ...[99_990, 99_995, 4, 5, 5000, 3].map((mantissa, n) => ({ meter: 'R', at: day(n), mantissa })),
      { meter: 'R', at: day(2), tou: 'peak', mantissa: 125, exponent: -1, quality: 'estimated' as const },
      { meter: 'R', at: day(0), from: '2026-10-01T05:00:00Z', mantissa: 812, quantity: 'volume-ft3' as const },
    ],
  })
  await db.pool.query("insert into meter_event (utility_id, meter, kind, at, source) values ($1, 'R', 'meter-exchange', to_timestamp($2), 's')", [u.utilityId, day(4) - 60])
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})

const get = async <T>(url: string, who = key): Promise<T> => (await server.call(who, 'GET', url)).json<T>()
interface Answer { registers: { tou: string; unit: string; reads: { at: string; value: number; quality: string }[]; consumption: { kind: string; value: number | null }[] }[]; periods: { value: number; unit: string }[] }

describe('the registers of a meter', () => {
  it('are told with the consumption between their reads, rollover, exchange and reset told apart', async () => {
    const answer = await get<Answer>('/v1/meters/R/registers?from=2026-10-01&to=2026-11-20')
    expect(answer.registers.map((r) => [r.tou, r.unit, r.reads.length])).toEqual([['', 'kWh', 6], ['peak', 'kWh', 1]])
    expect(answer.registers[0].consumption.map((c) => [c.kind, c.value])).toEqual([
      ['difference', 5], ['rollover', 9], ['difference', 1], ['exchange', null], ['reset', null]])
    expect(answer.registers[1].reads).toEqual([{ at: '2026-11-03T00:00:00-06:00', value: 12.5, quality: 'estimated' }])
    expect(answer.periods).toMatchObject([{ value: 812, unit: 'ft3', from: '2026-10-01T00:00:00-05:00', to: '2026-11-01T01:00:00-05:00' }])
  })

  it('may be asked for by quantity and range', async () => {
    expect((await get<Answer>('/v1/meters/R/registers?from=2026-11-03&to=2026-11-05')).registers[0].reads.map((r) => r.value)).toEqual([4, 5, 5000])
    expect((await get<Answer>('/v1/meters/R/registers?from=2026-10-01&quantity=volume-ft3')).registers).toEqual([])
    expect((await server.call(key, 'GET', '/v1/meters/R/registers?quantity=hope')).statusCode).toBe(422)
  })

  it('are no one else\'s: another utility\'s, or a former occupant\'s', async () => {
    expect((await server.call(other, 'GET', '/v1/meters/R/registers')).statusCode).toBe(404)
    const { token } = (await server.call(key, 'POST', '/v1/tokens', { accounts: [account], ttlSeconds: 600 })).json<{ token: string }>()
    const seen = await get<Answer>('/v1/meters/R/registers?from=2026-10-01', token)
    expect(seen.registers[0].reads.map((r) => r.value)).toEqual([5, 5000, 3])
    expect(seen.periods).toEqual([])
  })
})

describe('usage of another quantity', () => {
  interface Usage { total: { delivered: number | null }; series: { unit: string; values?: (number | null)[]; periods?: { value: number; peakKw: number | null }[] }[] }
  const url = '/v1/meters/R/usage?from=2026-11-02&to=2026-11-03'

  it('is asked for by its name, in its unit', async () => {
    const reactive = await get<Usage>(`${url}&quantity=reactive-energy`)
    expect([reactive.total.delivered, reactive.series[0].unit, reactive.series[0].periods?.[0]]).toMatchObject([0.3, 'kVArh', { value: 0.3, peakKw: null }])
    expect((await get<Usage>(url)).total.delivered).toBe(0.011)
  })

  it('that does not add up is told by interval alone', async () => {
    const volts = await get<Usage>(`${url}&quantity=voltage`)
    expect([volts.total.delivered, volts.series[0].unit, volts.series[0].values?.slice(0, 2)]).toEqual([null, 'V', [240.1, 239.9]])
    expect((await server.call(key, 'GET', `${url}&quantity=voltage&resolution=day`)).json()).toMatchObject({ status: 422, code: 'quantity-not-additive' })
  })
})
