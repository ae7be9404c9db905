import { readFile, readdir } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Type } from 'typebox'
import { testServer, type TestServer } from '../test/api-server.js'
import { testDatabase, type TestDatabase } from '../test/database.js'
import { ApiError } from '../engine/problem.js'
import type { RouteModule } from './context.js'
import { allCodes } from './problem-codes.js'
import { apiRoutes } from './routes/index.js'

let db: TestDatabase
let server: TestServer
let operator = ''

const faults: RouteModule = (app) => {
  app.get('/v1/boom', { config: { roles: ['viewer'] } }, () => {
    throw new Error('secret: password=hunter2')
  })
  app.get('/v1/away', { config: { roles: ['viewer'] } }, () => {
    throw Object.assign(new Error('connect ECONNREFUSED 10.0.0.1:5432'), { code: 'ECONNREFUSED' })
  })
  app.get('/v1/busy', { config: { roles: ['viewer'] } }, () => {
    throw new ApiError(429, 'busy', 'Too much at once.', { retryAfter: 2, status: 200 })
  })
  const Body = Type.Object({
    a: Type.Integer(),
    b: Type.Optional(Type.Object({ c: Type.Optional(Type.Enum(['x', 'y'])) })),
    list: Type.Optional(Type.Array(Type.Object({ n: Type.Number() }))),
    d: Type.Integer({ default: 7 }),
  })
  const Query = Type.Object({
    n: Type.Optional(Type.Integer({ maximum: 9 })), flag: Type.Optional(Type.Boolean()), many: Type.Optional(Type.Array(Type.Integer())) })
  app.post('/v1/echo', { config: { roles: ['viewer'] }, schema: { body: Body, querystring: Query } },
    (request) => ({ body: request.body, query: request.query }))
}

const raw: RouteModule = (app) => {
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  app.post<{ Body: Buffer }>('/v1/raw', { config: { roles: ['head-end'] } }, (request) => ({ bytes: request.body.length }))
}

beforeAll(async () => {
  db = await testDatabase()
  server = testServer(db.pool, { routes: [...apiRoutes, faults], bodyRoutes: [raw] })
  operator = await server.key('u', 'operator')
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})

describe('problem documents', () => {
  it('tells nothing of the inside, and logs it once', async () => {
    const before = server.errors.length
    const answer = await server.call(operator, 'GET', '/v1/boom')
    expect(answer.statusCode).toBe(500)
    expect(answer.headers['content-type']).toContain('application/problem+json')
    expect(answer.json()).toMatchObject({ status: 500, code: 'internal-error', type: 'urn:meterline:problem:internal-error' })
    expect(answer.body).not.toContain('hunter2')
    expect(server.errors.slice(before)).toHaveLength(1)
    expect(server.errors.at(-1)).toContain('hunter2')
  })

  it('says when to come back', async () => {
    const away = await server.call(operator, 'GET', '/v1/away')
    expect([away.statusCode, away.headers['retry-after'], away.json<{ code: string }>().code]).toEqual([503, '5', 'database-unavailable'])
    expect(away.body).not.toContain('10.0.0.1')
    const busy = await server.call(operator, 'GET', '/v1/busy')
    expect([busy.statusCode, busy.headers['retry-after'], busy.json<{ status: number }>().status]).toEqual([429, '2', 429])
  })

  it('points at what is wrong in a body, and takes nothing for something else', async () => {
    const post = async (body: unknown, url = '/v1/echo') => {
      const answer = await server.call(operator, 'POST', url, body)
      const { code, at } = answer.json<{ code?: string; at?: string }>()
      return [answer.statusCode, code, at]
    }
    expect(await post({ a: 1, z: 1 })).toEqual([422, 'unknown-member', '/z'])
    expect(await post({ a: 1, b: { 'x/y': 1 } })).toEqual([422, 'unknown-member', '/b/x~1y'])
    expect(await post({ a: 1, list: [{ n: 1 }, { n: 1, m: 2 }] })).toEqual([422, 'unknown-member', '/list/1/m'])
    expect(await post({ a: '1' })).toEqual([422, 'invalid-request', '/a'])
    expect(await post({})).toEqual([422, 'invalid-request', '/a'])
    expect(await post({ a: 1, b: { c: 'z' } })).toEqual([422, 'invalid-request', '/b/c'])
    expect(await post([])).toEqual([422, 'invalid-request', ''])
    expect(await post('{"a":')).toEqual([400, 'malformed-json', undefined])
    expect(await post('{"__proto__":{"x":1},"a":1}')).toEqual([400, 'malformed-json', undefined])
    expect(await post('')).toEqual([400, 'malformed-json', undefined])
    expect(await post(`{"a":1,"b":"${'x'.repeat(1_100_000)}"}`)).toEqual([413, 'body-too-large', undefined])
    expect(await post({ a: 1 }, '/v1/echo?n=10')).toEqual([422, 'invalid-request', '/n'])
    expect(await post({ a: 1 }, '/v1/echo?m=1')).toEqual([422, 'unknown-parameter', '/m'])
    expect(await post({ a: 1 }, '/v1/echo?n=1&n=2')).toEqual([422, 'invalid-request', '/n'])
    expect((await server.call(operator, 'POST', '/v1/echo', { a: 1 }, 'text/plain')).statusCode).toBe(415)
    const good = await server.call(operator, 'POST', '/v1/echo?n=3&flag=true&many=1&many=2', { a: 1 })
    expect(good.json()).toEqual({ body: { a: 1, d: 7 }, query: { n: 3, flag: true, many: [1, 2] } })
  })

  it('tells an unknown address from a wrong method', async () => {
    const unknown = await server.call(operator, 'GET', '/v1/nothing')
    expect([unknown.statusCode, unknown.json<{ code: string }>().code]).toEqual([404, 'not-found'])
    const wrong = await server.call(operator, 'DELETE', '/v1/accounts')
    expect([wrong.statusCode, wrong.headers.allow]).toEqual([405, 'GET, HEAD, PUT'])
    expect((await server.call(operator, 'GET', '/v1/accounts/%zz')).json()).toMatchObject({ status: 400, code: 'malformed-request' })
  })

  it('answers a real connection alike', async () => {
    const address = await server.app.listen({ host: '127.0.0.1', port: 0 })
    const health = await fetch(`${address}/healthz`)
    expect(await health.json()).toEqual({ ok: true })
    expect((await fetch(`${address}/v1/keys`)).headers.get('www-authenticate')).toBe('Bearer realm="meterline"')
    const reply = await new Promise<string>((resolve, reject) => {
      let text = ''
      const socket = connect(Number(new URL(address).port), '127.0.0.1', () => socket.write('NONSENSE\r\n\r\n'))
      socket.on('data', (chunk) => text += chunk.toString()).on('end', () => resolve(text)).on('error', reject)
    })
    expect(reply).toMatch(/^HTTP\/1\.1 400 .*application\/problem\+json/s)
  })
})

describe('scopes', () => {
  it('gives body routes their own parsers, under the same guard', async () => {
    const key = await server.key('u', 'head-end')
    expect((await server.call(key, 'POST', '/v1/raw', Buffer.from('not json'), 'application/json')).json()).toEqual({ bytes: 8 })
    expect((await server.call(null, 'POST', '/v1/raw', 'x', 'text/csv')).statusCode).toBe(401)
  })

  it('does not start with a route that declares no roles', async () => {
    const broken = testServer(db.pool, { routes: [(app) => void app.get('/v1/open', () => 'x')] })
    await expect(broken.app.ready()).rejects.toThrow('declares no roles')
    await broken.app.close()
  })

  it('leaves the watching routes open', async () => {
    for (const url of ['/healthz', '/readyz', '/metrics', '/openapi.json', '/docs/']) {
      expect([url, (await server.call(null, 'GET', url)).statusCode]).toEqual([url, 200])
    }
    expect((await server.call(null, 'GET', '/metrics')).headers['content-type']).toContain('version=0.0.4')
  })
})

interface OpenApi {
  openapi: string
  paths: Record<string, Record<string, {
    operationId?: string
    security?: unknown[]
    responses: Record<string, { description: string; content?: Record<string, { schema?: { 'x-codes'?: string[] } }> }>
  }>>
}

describe('the codes of problems', () => {
  it('are those that the sources throw, with their status', async () => {
    const known = new Set(allCodes.map((c) => `${c.status} ${c.code}`))
    const thrown = new Set<string>()
    for (const folder of ['api', 'engine', 'ingest']) {
      for (const file of await readdir(folder, { recursive: true })) {
        if (!file.endsWith('.ts') || file.endsWith('.test.ts')) continue
        const text = await readFile(join(folder, file), 'utf8')
        for (const [, status, name] of text.matchAll(/new (?:Api|Body)Error\(\s*(\d{3}), '([a-z0-9-]+)'/g)) thrown.add(`${status} ${name}`)
      }
    }
    expect(thrown.size).toBeGreaterThan(20)
    expect([...thrown].filter((t) => !known.has(t))).toEqual([])
  })
})

describe('the API document', () => {
  it('describes every route with a name of its own, its answers and its problems', async () => {
    const document = (await server.call(null, 'GET', '/openapi.json')).json<OpenApi>()
    expect(document.openapi).toBe('3.1.0')
    const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ path, method, ...operation })))
    expect(operations.length).toBeGreaterThan(25)
    const ids = operations.map((o) => o.operationId)
    expect(new Set(ids).size).toBe(ids.length)
    for (const { path, method, operationId, responses, security } of operations) {
      const where = `${method} ${path}`
      expect(operationId, where).toMatch(/^[a-z][A-Za-z0-9]+$/)
      expect(Object.keys(responses).some((status) => status.startsWith('2')), where).toBe(true)
      expect(responses['500'].content?.['application/problem+json'].schema?.['x-codes'], where).toContain('internal-error')
      // The SMS gateway signs what it posts, and has no key.
      if (path.startsWith('/v1/') && operationId !== 'receiveText') {
        expect(security, where).toEqual([{ bearer: [] }])
        expect(responses['401'].content?.['application/problem+json'].schema?.['x-codes'], where).toContain('invalid-credentials')
      }
    }
    const bulk = document.paths['/v1/meters'].put as unknown as { requestBody: { content: object } }
    expect(Object.keys(bulk.requestBody.content)).toEqual(['application/json', 'application/x-ndjson', 'text/csv'])
  })
})
