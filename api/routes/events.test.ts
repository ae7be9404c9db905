import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testServer, type TestServer } from '../../test/api-server.js'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { ensureUtility } from '../../engine/access.js'

let db: TestDatabase
let server: TestServer
const now = Date.parse('2026-10-01T12:00:00Z')
let headEnd = ''
let operator = ''
let foreign = ''

beforeAll(async () => {
  db = await testDatabase()
  server = testServer(db.pool, { context: { now: () => now } })
  for (const utility of ['north', 'south']) await ensureUtility(db.pool, utility, { zone: 'America/Chicago' })
  headEnd = await server.key('north', 'head-end', { name: 'ami', sources: ['ami', 'ami-2'] })
  operator = await server.key('north', 'operator')
  foreign = await server.key('south', 'operator')
  await server.call(operator, 'PUT', '/v1/accounts', [{ account: 'A' }])
  await server.call(operator, 'PUT', '/v1/meters', [{ meter: 'M1', aliases: ['endpoint-1'], account: 'A', from: '2024-01-01' }])
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})

const at = '2026-10-01T06:00:00-05:00'
const push = async (events: object[], key = headEnd) => (await server.call(key, 'POST', '/v1/events', { events })).json<Record<string, unknown>>()

describe('meter events', () => {
  it('are stored once, by alias or id, in one push or several; what cannot be is told with its place', async () => {
    expect(await push([
      { meter: 'M1', kind: 'power-down', at, details: { phase: 'A' } },
      { meter: 'endpoint-1', kind: 'power-down', at: '2026-10-01T11:00:00Z' },
      { meter: 'nobody', kind: 'vendor-7', at },
      { meter: 'M1', kind: 'power-up', at: '2026-10-01 06:00' },
      { meter: 'M1', kind: 'power-up', at: '2026-10-01T12:11:00Z' },
    ])).toMatchObject({ received: 5, stored: 2, duplicate: 1, rejected: 2, problems: [
      { code: 'invalid-instant', at: '/events/3/at' }, { code: 'in-the-future', at: '/events/4/at' }] })
    expect(await push([{ meter: 'M1', kind: 'power-down', at }])).toMatchObject({ received: 1, stored: 0, duplicate: 1 })
    const list = (await server.call(operator, 'GET', '/v1/events?limit=1')).json<{ items: object[]; next: string }>()
    const rest = (await server.call(operator, 'GET', `/v1/events?cursor=${list.next}`)).json<{ items: object[]; next: null }>()
    expect([...list.items, ...rest.items]).toMatchObject([
      { meter: 'nobody', registered: false, kind: 'vendor-7', at, source: 'ami', delivery: null, details: {} },
      { meter: 'M1', registered: true, kind: 'power-down', at, details: { phase: 'A' } }])
    expect(rest.next).toBeNull()
    expect((await server.call(operator, 'GET', '/v1/events?meter=M1&from=2026-10-01T11:00:00Z&to=2026-10-01T11:00:01Z')).json()).toMatchObject({ items: [{ meter: 'M1' }] })
    expect((await server.call(operator, 'GET', '/v1/events?from=2026-10-01T11:00:01Z')).json()).toMatchObject({ items: [] })
  })

  it('belong to their utility and source', async () => {
    expect((await server.call(foreign, 'GET', '/v1/events')).json()).toMatchObject({ items: [] })
    const other = await server.key('north', 'head-end', { name: 'other' })
    expect((await server.call(other, 'GET', '/v1/events')).json()).toMatchObject({ items: [] })
    const refused = await server.app.inject({
      method: 'POST', url: '/v1/events', headers: { authorization: `Bearer ${other}`, 'x-source': 'ami' }, payload: { events: [{ meter: 'M1', kind: 'tamper', at }] } })
    expect(refused.json()).toMatchObject({ status: 403, code: 'source-not-allowed' })
  })

  it.each([[{ events: [] }], [{ events: [{ meter: 'M1', kind: 'Power Down', at }] }], [{ events: [{ meter: 'M1', kind: 'x', at, extra: 1 }] }]])('refuses %j', async (body) => {
    expect((await server.call(headEnd, 'POST', '/v1/events', body)).statusCode).toBe(422)
  })
})
