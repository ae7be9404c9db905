import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testServer, type TestServer } from '../test/api-server.js'
import { testDatabase, type TestDatabase } from '../test/database.js'
import { apiRoutes } from './routes/index.js'
import { encodeCursor } from './schemas.js'

let db: TestDatabase
let server: TestServer
let operator = ''

beforeAll(async () => {
  db = await testDatabase()
  server = testServer(db.pool, { routes: apiRoutes })
  operator = await server.key('u', 'operator', { installation: true })
  await server.call(operator, 'PUT', '/v1/utilities/u', { zone: 'America/Chicago' })
  await server.call(operator, 'PUT', '/v1/accounts', [{ account: 'A' }])
  await server.call(operator, 'PUT', '/v1/meters', [{ meter: 'M', account: 'A', from: '2024-01-01' }])
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})

/** Status and code of each call; none of them may be the server's fault. */
async function answers(urls: readonly string[]): Promise<[string, number, string][]> {
  const found: [string, number, string][] = []
  for (const url of urls) {
    const answer = await server.call(operator, 'GET', url)
    found.push([url, answer.statusCode, answer.json<{ code: string }>().code])
  }
  return found
}

describe('what no caller in his right mind sends', () => {
  it('is refused: a NUL in an address or a query', async () => {
    const urls = [
      '/v1/accounts/%00', '/v1/accounts/a%00b/usage', '/v1/meters/%00', '/v1/meters/%00/usage', '/v1/meters?account=%00',
      '/v1/deliveries?source=%00', '/v1/deliveries?idempotencyKey=a%00', '/v1/audit?subject=%00', '/v1/quarantine?meter=%00',
      '/v1/messages?account=%00', '/v1/system-load?by=%00', '/v1/accounts/A/thresholds?x=1&x=%00',
    ]
    expect(await answers(urls)).toEqual(urls.map((url) => [url, 422, 'invalid-request']))
  })

  it('is refused: a NUL or half a character in a body', async () => {
    const bodies: ['PUT' | 'POST', string, unknown][] = [
      ['POST', '/v1/summaries', { accounts: ['A\0'] }], ['POST', '/v1/keys', { name: 'k', role: 'viewer', utility: '\0' }],
      ['PUT', '/v1/utilities/u', { links: { 'a\0': 'https://example.org' } }],
      ['PUT', '/v1/utilities/u', { links: { ['a'.repeat(51)]: 'https://example.org' } }],
      ['PUT', '/v1/accounts/A', { groups: { 'a\0': 'S1' } }], ['PUT', '/v1/accounts/A', { groups: { '': 'S1' } }],
      ['PUT', '/v1/utilities/u', { links: { a: 'https://example.org/\0' } }],
      ['PUT', '/v1/accounts/A', { rate: { id: 'R', from: '\0' } }], ['PUT', '/v1/accounts/A', { rate: { id: 'R', from: '\ud800' } }],
    ]
    for (const [method, url, body] of bodies) {
      expect([url, body, (await server.call(operator, method, url, body)).statusCode]).toEqual([url, body, 422])
    }
  })

  it('is refused: a cursor that no list gave', async () => {
    const id = '01a20397-76cd-7000-bc7e-a024faa052fa'
    const cursors = (parts: (string | number)[]): string => encodeCursor(...parts)
    const urls = [
      ...['audit', 'quarantine'].flatMap((list) => [[1e300], [-1], [0.5], ['9e99'], ['x']].map((c) =>
        `/v1/${list}?cursor=${cursors(c)}`)),
      ...['accounts', 'meters'].map((list) => `/v1/${list}?cursor=${cursors(['\0'])}`),
      ...['deliveries', 'messages', 'accounts/A/alerts'].flatMap((list) => [
        ['2026-99-99 1:1+0', id], ['1', id], ['2026-02-31 00:00:00+00', id], ['2026-01-01 00:00:00+99', id], [1, id],
        ['2026-01-01 00:00:00+00', '-'.repeat(36)]].map((c) => `/v1/${list}?cursor=${cursors(c)}`)),
    ]
    expect(await answers(urls)).toEqual(urls.map((url) => [url, 422, 'invalid-cursor']))
    const good = encodeCursor('2026-11-22 14:09:47.858123+00', id)
    for (const list of ['deliveries', 'messages', 'accounts/A/alerts']) {
      expect((await server.call(operator, 'GET', `/v1/${list}?cursor=${good}`)).json()).toEqual({ items: [], next: null })
    }
  })

  it('is refused: instants at the ends of the calendar', async () => {
    const urls = ['0001-01-01T00:00:00Z', '9999-12-31T23:59:59Z', '1979-12-31T23:59:59Z'].flatMap((t) => [
      `/v1/accounts/A/usage?asOf=${t}`, `/v1/meters/M/usage?asOf=${t}`, `/v1/meters/M/explain?at=${t}`, `/v1/deliveries?from=${t}`])
    expect(await answers(urls)).toEqual(urls.map((url) => [url, 422, 'invalid-instant']))
    expect(server.errors).toEqual([])
  })

  it('is taken: the years 1 and 9999, as other systems write "always"', async () => {
    const always = [{ account: 'A', from: '0001-01-01T00:00:00Z', to: '2024-01-01T00:00:00Z' },
      { account: 'A', from: '2024-01-01T00:00:00Z', to: '9999-12-31T23:59:59Z' }]
    expect((await server.call(operator, 'PUT', '/v1/meters/M', { assignments: always })).statusCode).toBe(200)
    expect((await server.call(operator, 'GET', '/v1/accounts/A/usage?from=2026-10-01&to=2026-10-02')).statusCode).toBe(200)
    expect((await server.call(operator, 'GET', '/v1/accounts/A/summary')).statusCode).toBe(200)
  })
})
