import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testServer, type TestServer } from '../../test/api-server.js'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { UsageFixture } from '../../test/usage-fixture.js'
import { dayNumber } from '../../engine/time/text.js'

const NOW = Date.parse('2026-11-10T12:00:00-06:00')

let db: TestDatabase
let server: TestServer
let home: UsageFixture
let account = ''
const keys = { operator: '', portal: '', foreign: '' }

beforeAll(async () => {
  db = await testDatabase()
  server = testServer(db.pool, { context: { now: () => NOW } })
  home = await UsageFixture.make(db.pool, 'America/Chicago')
  const other = await UsageFixture.make(db.pool, 'America/Chicago')
  keys.operator = await server.key(home.utility, 'operator')
  keys.portal = await server.key(home.utility, 'portal')
  keys.foreign = await server.key(other.utility, 'operator')
  const made = await home.account()
  account = made.account
  const meter = await home.meter()
  await home.assign(meter.meterId, made.accountId, home.zone.dayStart(dayNumber('2026-01-01')))
  const channel = await home.channel(meter, 1, 3600)
  await home.settle(channel, { startS: home.zone.dayStart(dayNumber('2026-10-01')), values: new Array<number>(744).fill(1000) }, NOW / 1000)
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})

const energy = (price: number) => [{ tiers: [{ price }] }]
const VERSIONS = [
  { from: '2026-01-01', fixed: [{ name: 'Customer charge', amount: 31 }], energy: energy(0.1) },
  { from: '2026-10-11', fixed: [{ name: 'Customer charge', amount: 62 }], energy: energy(0.2), taxes: [{ name: 'State tax', percent: 6.25 }] }]

async function call(key: string, method: 'GET' | 'PUT' | 'POST', url: string, body?: unknown): Promise<{ status: number; body: Record<string, unknown> }> {
  const answer = await server.call(key, method, url, body)
  return { status: answer.statusCode, body: answer.json<Record<string, unknown>>() }
}
const usage = (query: string) => call(keys.portal, 'GET', `/v1/accounts/${account}/usage?${query}&cost=true`)
const october = 'from=2026-10-01&to=2026-11-01&resolution=billing'

describe('a rate', () => {
  it('tells no cost before it is there', async () => {
    expect((await usage(october)).body).toMatchObject({ cost: [{ amount: null, status: 'unavailable', reason: 'no-rate', lines: [], rates: [] }] })
    expect(await call(keys.portal, 'POST', `/v1/accounts/${account}/thresholds`, { kind: 'period-cost', limit: 100 })).toMatchObject({ status: 422, body: { code: 'no-rate' } })
  })

  it('is made and changed version by version, by an operator of its utility', async () => {
    expect(await call(keys.operator, 'PUT', '/v1/rates/R1', { name: 'Residential', versions: [VERSIONS[0]] })).toMatchObject({ status: 201, body: { rate: 'R1' } })
    expect(await call(keys.operator, 'PUT', '/v1/rates/R1', { versions: [VERSIONS[1]] })).toMatchObject({ status: 200, body: { name: 'Residential', versions: VERSIONS } })
    expect(await call(keys.operator, 'PUT', '/v1/rates/R1', { versions: VERSIONS })).toMatchObject({ status: 200, body: { versions: VERSIONS } })
    expect((await call(keys.portal, 'GET', '/v1/rates/R1')).body).toMatchObject({ rate: 'R1', versions: VERSIONS })
    expect((await call(keys.portal, 'GET', '/v1/rates')).body).toMatchObject({ items: [{ rate: 'R1' }], next: null })
    expect((await call(keys.portal, 'PUT', '/v1/rates/R1', { versions: VERSIONS })).status).toBe(403)
    expect(await call(keys.foreign, 'GET', '/v1/rates/R1')).toMatchObject({ status: 404, body: { code: 'rate-not-found' } })
    expect((await call(keys.foreign, 'GET', '/v1/rates')).body).toMatchObject({ items: [] })
    expect(await call(keys.operator, 'PUT', '/v1/rates/R1', { versions: [{ from: '2027-01-01', energy: [...energy(0.1), ...energy(0.2)] }] }))
      .toMatchObject({ status: 422, body: { code: 'invalid-rate', at: '/versions/0/energy' } })
    expect((await call(keys.operator, 'PUT', '/v1/rates/R1', { versions: [{ from: '2027-01-01', energy: energy(0.1), extra: 1 }] })).status).toBe(422)
  })

  it('that changes within a billing period bills each part by its own version, exact to the cent', async () => {
    await call(keys.operator, 'PUT', '/v1/accounts', [{ account, rate: { id: 'R1', from: '2026-01-01' } }])
    const first = { rate: 'R1', version: '2026-01-01' }
    const second = { rate: 'R1', version: '2026-10-11' }
    expect((await usage(october)).body).toMatchObject({ total: { delivered: 744 }, cost: [{
      start: '2026-10-01T00:00:00-05:00', end: '2026-11-01T00:00:00-05:00', amount: 185.73, currency: 'USD', status: 'final', reason: null,
      missing: 0, estimated: 0, rates: [first, second],
      lines: [
        // 10 and 21 of 31 days.
        { kind: 'fixed', name: 'Customer charge', unit: 'share', price: 31, amount: 10, ...first },
        { kind: 'energy', quantity: 240, unit: 'kWh', price: 0.1, amount: 24, ...first },
        { kind: 'fixed', name: 'Customer charge', unit: 'share', price: 62, amount: 42, ...second },
        { kind: 'energy', quantity: 504, unit: 'kWh', price: 0.2, amount: 100.8, ...second },
        // 8.925: half away from zero.
        { kind: 'tax', name: 'State tax', quantity: 6.25, unit: 'percent', price: 142.8, amount: 8.93, ...second }] }] })
    expect((await usage('from=2026-10-10&to=2026-10-12&resolution=day')).body).toMatchObject({ cost: [
      { amount: 2.4, rates: [first] }, { amount: 5.1, rates: [second] }] })
    expect((await usage('from=2026-10-01&to=2026-10-02&resolution=hour'))).toMatchObject({ status: 422, body: { code: 'cost-undefined' } })
    expect((await usage('from=2026-11-01&to=2026-12-01&resolution=billing')).body).toMatchObject({ cost: [{ amount: null, reason: 'no-reads' }] })
  })
})

describe('a preview', () => {
  const preview = (body: object, key = keys.portal) => call(key, 'POST', `/v1/accounts/${account}/thresholds/preview`, body)

  it('says how often a limit would have fired, and which limits the account suggests', async () => {
    const day = await preview({ kind: 'day-usage', limit: 23, days: 30 })
    expect(day).toMatchObject({ status: 200, body: { wouldHaveFired: 21, unit: 'kWh' } })
    expect((await preview({ kind: 'day-usage', limit: 24, days: 30 })).body).toMatchObject({ wouldHaveFired: 0 })
    const { suggestions } = (await preview({ kind: 'day-usage', days: 30 })).body as { suggestions: { limit: number; wouldHaveFired: number }[] }
    expect(suggestions.length).toBeGreaterThan(0)
    for (const s of suggestions) expect((await preview({ kind: 'day-usage', limit: s.limit, days: 30 })).body).toMatchObject({ wouldHaveFired: s.wouldHaveFired })
    expect((await preview({ kind: 'period-cost', limit: 185.72, days: 45 })).body).toMatchObject({ wouldHaveFired: 1, unit: 'USD' })
    expect((await preview({ kind: 'period-cost', limit: 185.73, days: 45 })).body).toMatchObject({ wouldHaveFired: 0 })
    expect(await preview({ kind: 'day-usage', limit: -1 })).toMatchObject({ status: 422, body: { code: 'invalid-limit' } })
    expect((await preview({ kind: 'day-usage', limit: 1 }, keys.foreign)).status).toBe(404)
  })
})
