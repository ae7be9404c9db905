import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseInstant } from '../../engine/time/text.js'
import { getZone } from '../../engine/time/zone.js'
import { espi } from '../../ingest/formats/espi.js'
import { detectFormat } from '../../ingest/formats/format.js'
import { testServer, type TestServer } from '../../test/api-server.js'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { exactTotal, readsOf } from '../../test/format-reads.js'
import { UsageFixture } from '../../test/usage-fixture.js'
import { greenButtonRoutes } from './green-button.js'
import { tokenRoutes } from './tokens.js'
import { usageRoutes } from './usage.js'

const at = (text: string): number => parseInstant(text) ?? NaN
const NOW = at('2026-11-10T12:00:00-06:00')
const zone = getZone('America/Chicago')

let db: TestDatabase
let server: TestServer

beforeAll(async () => {
  db = await testDatabase()
  server = testServer(db.pool, { routes: [greenButtonRoutes, usageRoutes, tokenRoutes], context: { now: () => NOW * 1000 } })
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})

/** An account whose two meters count across the night in which clocks go back, one of them both ways. */
async function home() {
  const fixture = await UsageFixture.make(db.pool, 'America/Chicago')
  const { accountId, account } = await fixture.account({ billingDay: 1 })
  const [house, barn] = [await fixture.meter(), await fixture.meter()]
  await fixture.assign(house.meterId, accountId, at('2026-10-31T12:00:00-05:00'))
  await fixture.assign(barn.meterId, accountId, at('2024-01-01T00:00:00-06:00'))
  const from = at('2026-10-31T00:00:00-05:00')
  const values = Array.from({ length: 96 + 100 + 96 }, (_, i) => i % 50 === 7 ? null : 100 + i)
  await fixture.settle(await fixture.channel(house, 1, 900), { startS: from, values }, NOW - 86_400)
  await fixture.settle(await fixture.channel(house, 2, 900), { startS: from, values: values.map((v) => v === null ? null : 1) }, NOW - 86_400)
  await fixture.settle(await fixture.channel(barn, 1, 3600), { startS: from, values: [1, 2, 3], exponent: -5 }, NOW - 86_400)
  const key = await server.key(fixture.utility, 'portal')
  const get = async (url: string, status = 200): Promise<string> => {
    const answer = await server.call(key, 'GET', url)
    expect(answer.statusCode, answer.body).toBe(status)
    return answer.body
  }
  return { fixture, account, house, barn, key, get }
}

const RANGE = 'from=2026-10-31&to=2026-11-03'

describe('GET …/green-button', () => {
  it('is the usage, read for read, to our own decoder', async () => {
    const h = await home()
    const body = Buffer.from(await h.get(`/v1/accounts/${h.account}/green-button?${RANGE}`))
    expect(detectFormat('application/atom+xml', undefined, undefined, body)).toBe(espi)
    const { batch, problems, notes } = espi.decode(body, { zone }, null, true)
    expect([problems, notes]).toEqual([[], []])
    const reads = readsOf(batch)
    const of = (meter: string, flow: number) => reads.filter((read) => read.meter === meter && read.flow === flow)
    // The house was another's until noon of the first day.
    const usage = JSON.parse(await h.get(`/v1/accounts/${h.account}/usage?${RANGE}&resolution=interval&by=meter`)) as {
      present: number; total: { delivered: number; received: number }; series: { meter: string; flow: string; values: (number | null)[] }[] }
    expect(reads.length).toBe(usage.present)
    expect(Number(exactTotal(reads.filter((read) => read.flow === 1)))).toBe(usage.total.delivered)
    expect(exactTotal(of(h.house.meter, 2))).toBe(usage.total.received.toFixed(3))
    expect(exactTotal(of(h.barn.meter, 1))).toBe('0.00006')
    for (const { meter, flow, values } of usage.series) {
      expect(of(meter, flow === 'delivered' ? 1 : 2).map((read) => read.kwh)).toEqual(values.filter((v) => v !== null))
    }
    expect(Math.min(...of(h.house.meter, 1).map((read) => read.startS))).toBe(at('2026-10-31T12:00:00-05:00'))
  })

  it('has the day of the change 25 hours long, and the rules of the clock', async () => {
    const h = await home()
    const body = await h.get(`/v1/meters/${h.house.meter}/green-button?${RANGE}`)
    expect(body).toContain(`<interval><duration>90000</duration><start>${at('2026-11-01T00:00:00-05:00')}</start></interval>`)
    expect(body).toContain('<dstEndRule>B40E2000</dstEndRule><dstOffset>3600</dstOffset><dstStartRule>360E2000</dstStartRule><tzOffset>-21600</tzOffset>')
  })

  it('keeps the order of elements that espi.xsd asks for, and whole numbers', async () => {
    const h = await home()
    const body = await h.get(`/v1/accounts/${h.account}/green-button?${RANGE}`)
    const children = (name: string) => new Set([...body.matchAll(new RegExp(`<${name}[ >].*?</${name}>`, 'gs'))]
      .map(([text]) => [...text.matchAll(/<(\w+)[ >]/g)].map(([, child]) => child).join(' ')))
    expect(children('ReadingType')).toEqual(new Set(['ReadingType accumulationBehaviour commodity dataQualifier defaultQuality flowDirection '
      + 'intervalLength kind phase powerOfTenMultiplier timeAttribute uom']))
    expect(children('IntervalReading')).toEqual(new Set(['IntervalReading timePeriod duration start value']))
    expect(body).toMatch(/<powerOfTenMultiplier>-3<\/powerOfTenMultiplier>/)
    expect([...body.matchAll(/<value>(.*?)<\/value>/g)].every(([, value]) => /^-?\d{1,15}$/.test(value))).toBe(true)
    const selfs = [...body.matchAll(/<entry>.*?rel="self" href="([^"]*)"/g)].map(([, href]) => href)
    expect(new Set(selfs).size).toBe(selfs.length)
  })

  it('answers 304 where nothing changed, 422 beyond 400 days, 404 to strangers', async () => {
    const h = await home()
    const first = await server.call(h.key, 'GET', `/v1/accounts/${h.account}/green-button?${RANGE}`)
    expect(first.headers['content-type']).toBe('application/atom+xml; charset=utf-8')
    const again = await server.app.inject({
      method: 'GET', url: `/v1/accounts/${h.account}/green-button?${RANGE}`,
      headers: { authorization: `Bearer ${h.key}`, 'if-none-match': String(first.headers.etag) } })
    expect(again.statusCode).toBe(304)
    expect(await h.get(`/v1/accounts/${h.account}/green-button?from=2024-01-01&to=2026-01-01`, 422)).toContain('range-too-large')
    const other = await home()
    await other.get(`/v1/accounts/${h.account}x/green-button`, 404)
    const minted = await server.call(h.key, 'POST', '/v1/tokens', { accounts: [h.account], ttlSeconds: 600 })
    const { token } = minted.json<{ token: string }>()
    expect((await server.call(token, 'GET', `/v1/meters/${other.house.meter}x/green-button?${RANGE}`)).statusCode).toBe(404)
    const own = await server.call(token, 'GET', `/v1/meters/${h.house.meter}/green-button?${RANGE}`)
    expect(own.statusCode).toBe(200)
    const { batch } = espi.decode(Buffer.from(own.body), { zone }, null, true)
    expect(Math.min(...readsOf(batch).map((read) => read.startS))).toBe(at('2026-10-31T12:00:00-05:00'))
  })
})
