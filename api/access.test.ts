import { createHmac } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { SignJWT, exportJWK, generateKeyPair, type CryptoKey, type JWTPayload } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testServer, type TestServer } from '../test/api-server.js'
import { testDatabase, type TestDatabase } from '../test/database.js'
import { ROLES, ensureFirstOperatorKey, ensureUtility, type KeyRole } from '../engine/access.js'
import { uuidv7 } from '../engine/uuid.js'
import type { Receipt } from '../engine/receipt.js'

let db: TestDatabase
let server: TestServer
let nowMs = Date.now()
const keys = new Map<string, string>()
const key = (utility: string, role: KeyRole): string => keys.get(`${utility} ${role}`) ?? ''

const receipt: Receipt = {
  delivery: '', source: 's', complete: true, received: 0, stored: 0, duplicate: 0, corrected: 0, outranked: 0, quarantined: 0,
  rejected: 0, rounded: 0, from: null, to: null, alerts: { raised: 0, retracted: 0 }, problems: [], problemCount: 0,
}

beforeAll(async () => {
  db = await testDatabase()
  server = testServer(db.pool, { context: {
    now: () => nowMs, withdraw: () => Promise.resolve(receipt), replayQuarantine: () => Promise.resolve(receipt) } })
  for (const utility of ['north', 'south']) {
    await ensureUtility(db.pool, utility, { zone: 'America/Chicago' })
    for (const role of ROLES) keys.set(`${utility} ${role}`, await server.key(utility, role, { name: role }))
    await server.call(key(utility, 'operator'), 'PUT', '/v1/accounts', [{ account: 'A', name: utility }, { account: 'B' }])
    await server.call(key(utility, 'operator'), 'PUT', '/v1/meters', [
      { meter: 'M', assignments: [{ account: 'A', from: '2024-01-01', to: '2025-01-01' }, { account: 'B', from: '2025-01-01' }] },
      { meter: 'N', account: 'B', from: '2024-01-01' }])
  }
  await server.call(key('north', 'operator'), 'PUT', '/v1/meters', [{ meter: 'only-north' }])
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})

async function memberToken(accounts: string[], ttlSeconds?: number): Promise<string> {
  const answer = await server.call(key('north', 'portal'), 'POST', '/v1/tokens', { accounts, ...(ttlSeconds === undefined ? {} : { ttlSeconds }) })
  return answer.json<{ token: string }>().token
}

async function deliver(utility: string, source: string): Promise<string> {
  const { utilityId } = await ensureUtility(db.pool, utility)
  const made = await db.pool.query<{ source_id: number }>(
    'insert into source (utility_id, name) values ($1, $2) on conflict (utility_id, name) do update set name = excluded.name returning source_id', [utilityId, source])
  const id = uuidv7(Date.now())
  await db.pool.query(
    `insert into delivery (delivery_id, accepted_at, delivery_no, utility_id, source_id, kind, door, version, complete, received, stored,
                           quarantined, first_at, last_end, problems, problem_count, sha256)
     values ($1, to_timestamp($4::float8 / 1000), nextval('delivery_no_seq'), $2, $3, 'push', 'http', 1, true, 3, 2, 1,
             '2026-10-01T05:00:00Z', '2026-10-02T05:00:00Z', $5, 1, '\\x0102')`,
    [id, utilityId, made.rows[0].source_id, Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16),
      JSON.stringify([{ code: 'unknown-meter', at: 'record 3', message: 'Not registered.' }])])
  return id
}

describe('roles', () => {
  /** What the contract gives each role; a route that is missing here fails the test. operator: everywhere. */
  const matrix: Record<string, string> = {
    'PUT /v1/utilities/:id': 'installation', 'GET /v1/utilities/:id': 'head-end portal notify viewer',
    'POST /v1/keys': '', 'GET /v1/keys': '', 'DELETE /v1/keys/:id': '', 'POST /v1/tokens': 'portal',
    'PUT /v1/accounts': '', 'PUT /v1/meters': '', 'PUT /v1/accounts/:account': '', 'PUT /v1/meters/:meter': '',
    'PUT /v1/accounts/:account/billing-periods': '', 'GET /v1/accounts/:account/billing-periods': 'portal viewer member',
    'GET /v1/accounts': 'portal viewer member', 'GET /v1/me/accounts': 'member', 'GET /v1/accounts/:account': 'portal viewer member',
    'GET /v1/meters': 'portal viewer member', 'GET /v1/meters/:meter': 'portal viewer member',
    'PUT /v1/sources/:name': '', 'GET /v1/sources/:name': 'viewer', 'GET /v1/sources': 'viewer',
    'GET /v1/deliveries': 'head-end viewer', 'GET /v1/deliveries/:id': 'head-end viewer',
    'GET /v1/deliveries/:id/problems': 'head-end viewer', 'POST /v1/deliveries/:id/withdraw': '',
    'GET /v1/accounts/:account/green-button': 'portal viewer member', 'GET /v1/meters/:meter/green-button': 'portal viewer member',
    'GET /v1/accounts/:account/usage': 'portal viewer member', 'GET /v1/meters/:meter/usage': 'portal viewer member',
    'GET /v1/accounts/:account/summary': 'portal viewer member', 'POST /v1/summaries': 'portal viewer member',
    'GET /v1/meters/:meter/explain': 'portal viewer member', 'GET /v1/meters/:meter/registers': 'portal viewer member', 'GET /v1/changes': 'portal viewer member',
    'GET /v1/completeness': 'portal viewer', 'GET /v1/system-load': 'portal viewer',
    'POST /v1/accounts/:account/thresholds': 'portal member', 'GET /v1/accounts/:account/thresholds': 'portal viewer member',
    'GET /v1/accounts/:account/thresholds/:id': 'portal viewer member', 'PATCH /v1/accounts/:account/thresholds/:id': 'portal member',
    'DELETE /v1/accounts/:account/thresholds/:id': 'portal member', 'GET /v1/accounts/:account/alerts': 'portal viewer member',
    'POST /v1/accounts/:account/contacts': 'portal member', 'GET /v1/accounts/:account/contacts': 'portal viewer member',
    'POST /v1/accounts/:account/contacts/:id/verify': 'portal member', 'POST /v1/accounts/:account/contacts/:id/resend': 'portal member',
    'DELETE /v1/accounts/:account/contacts/:id': 'portal member', 'GET /v1/messages': 'viewer',
    'GET /v1/quarantine': 'viewer', 'POST /v1/quarantine/replay': '', 'GET /v1/audit': 'viewer',
    'POST /v1/events': 'head-end', 'GET /v1/events': 'head-end portal viewer',
    'PUT /v1/contacts': '', 'GET /v1/accounts/:account/preferences': 'portal viewer member', 'PUT /v1/accounts/:account/preferences': 'portal member',
    'GET /v1/accounts/:account/consent': 'portal viewer member', 'GET /v1/accounts/:account/export': 'portal member',
    'POST /v1/messages/replay': '', 'POST /v1/notices': 'notify', 'PUT /v1/webhooks/:id': '', 'GET /v1/webhooks': 'viewer',
    'DELETE /v1/webhooks/:id': '', 'GET /v1/webhooks/:id/deliveries': 'viewer', 'POST /v1/webhooks/:id/replay': '',
    'DELETE /v1/accounts/:account/member': 'portal',
    'PUT /v1/rates/:id': '', 'GET /v1/rates/:id': 'portal viewer', 'GET /v1/rates': 'portal viewer',
    'POST /v1/accounts/:account/thresholds/preview': 'portal viewer member',
    'GET /v1/exceptions': 'viewer', 'POST /v1/exceptions/:id/accept': '', 'POST /v1/exceptions/:id/edit': '',
    'POST /v1/exceptions/:id/estimate': '', 'GET /v1/vee/rules': 'viewer', 'PUT /v1/vee/rules': '',
  }

  it('holds for every route and every role', async () => {
    const document = (await server.call(null, 'GET', '/openapi.json')).json<{ paths: Record<string, Record<string, unknown>> }>()
    const routes = Object.entries(document.paths).filter(([path]) => path.startsWith('/v1/')).flatMap(([path, methods]) =>
      Object.entries(methods).filter(([, route]) => (route as { security?: object }).security !== undefined).map(([method]) => `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`))
    expect(routes.sort()).toEqual(Object.keys(matrix).sort())
    const member = await memberToken(['A'])
    for (const route of routes) {
      const [method, path] = route.split(' ') as ['GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE', string]
      const url = path.replace(':account', 'A').replace(':meter', 'M').replace(':name', 's').replace('utilities/:id', 'utilities/north')
        .replace(':id', '00000000-0000-7000-8000-000000000000')
      const allowed = matrix[route].split(' ')
      const body = method === 'GET' || method === 'DELETE' ? undefined : []
      const status = async (credential: string | null) => (await server.call(credential, method, url, body)).statusCode
      for (const role of ROLES) {
        const isAllowed = role === 'operator' ? matrix[route] !== 'installation' : allowed.includes(role)
        expect([route, role, await status(key('north', role)) !== 403]).toEqual([route, role, isAllowed])
      }
      expect([route, 'member', await status(member) !== 403]).toEqual([route, 'member', allowed.includes('member')])
      expect([route, await status(null), await status('mk_wrong'), await status('a.b.c')]).toEqual([route, 401, 401, 401])
    }
  })
})

describe('another utility and another member', () => {
  it('answers 404, as if they were not there', async () => {
    const delivery = await deliver('north', 'head-end')
    for (const url of ['/v1/meters/only-north', '/v1/utilities/north', `/v1/deliveries/${delivery}`, `/v1/deliveries/${delivery}/problems`]) {
      expect([url, (await server.call(key('north', 'operator'), 'GET', url)).statusCode]).toEqual([url, 200])
      expect([url, (await server.call(key('south', 'operator'), 'GET', url)).statusCode]).toEqual([url, 404])
    }
    expect((await server.call(key('south', 'operator'), 'POST', `/v1/deliveries/${delivery}/withdraw`)).statusCode).toBe(404)
    expect((await server.call(key('north', 'operator'), 'POST', `/v1/deliveries/${delivery}/withdraw`)).statusCode).toBe(200)
    const ids = (await server.call(key('north', 'operator'), 'GET', '/v1/keys')).json<{ items: { id: string }[] }>().items
    expect((await server.call(key('south', 'operator'), 'DELETE', `/v1/keys/${ids[0].id}`)).statusCode).toBe(404)
    expect((await server.call(key('south', 'viewer'), 'GET', '/v1/deliveries')).json()).toEqual({ items: [], next: null })
    expect((await server.call(key('south', 'viewer'), 'GET', '/v1/accounts/A')).json()).toMatchObject({ name: 'south' })
  })

  it('answers 404 in every route of an account or meter', async () => {
    const document = (await server.call(null, 'GET', '/openapi.json')).json<{ paths: Record<string, Record<string, unknown>> }>()
    const member = await memberToken(['A'])
    const { body: made } = await server.call(key('north', 'operator'), 'PUT', '/v1/accounts', [{ account: 'north-alone' }])
    expect(made).toContain('"rejected":0')
    for (const [path, methods] of Object.entries(document.paths)) {
      if (!/^\/v1\/(accounts\/\{account\}|meters\/\{meter\})\/./.test(path)) continue
      for (const method of Object.keys(methods)) {
        const url = path.replace('{account}', 'north-alone').replace('{meter}', 'only-north').replace('{id}', '00000000-0000-7000-8000-000000000000')
          + (path.endsWith('explain') ? '?at=2026-01-01T00:00:00Z' : '')
        const body = path.endsWith('verify') ? { code: '123456' } : path.endsWith('thresholds') || path.endsWith('preview') ? { kind: 'day-usage', limit: 5 }
          : path.endsWith('thresholds/{id}') ? { limit: 5 } : path.endsWith('billing-periods') ? [{ start: '2026-01-01', end: '2026-02-01' }]
            : path.endsWith('preferences') ? {} : path.endsWith('contacts') ? { channel: 'email', address: 'a@example.org', consent: { categories: ['usage'], text: 'yes', via: 'portal' } } : undefined
        const send = method === 'post' || method === 'put' || method === 'patch' ? body : undefined
        for (const [who, credential] of [['south', key('south', 'operator')], ['member', member]]) {
          const answer = await server.call(credential, method.toUpperCase() as 'GET', url, send)
          const isOfficeWork = (method === 'put' && !path.endsWith('preferences')) || path.endsWith('/member')
          const expected = who === 'member' && isOfficeWork ? 403 : 404
          expect([who, method, url, answer.statusCode, answer.body]).toEqual([who, method, url, expected, expect.any(String)])
          if (expected === 404) expect([url, answer.json<{ code: string }>().code]).toEqual([url, path.includes('{account}') ? 'account-not-found' : 'meter-not-found'])
        }
      }
    }
  })

  it('shows a member their accounts alone, and of a meter only their own time', async () => {
    const token = await memberToken(['A'])
    const get = async (url: string) => {
      const answer = await server.call(token, 'GET', url)
      return { status: answer.statusCode, body: answer.json<{ items: { account: string; meter: string }[]; assignments: { account: string }[] }>() }
    }
    expect((await get('/v1/accounts')).body.items.map((a) => a.account)).toEqual(['A'])
    expect((await get('/v1/me/accounts')).body.items.map((a) => a.account)).toEqual(['A'])
    expect((await get('/v1/accounts/B')).status).toBe(404)
    expect((await get('/v1/accounts/B/billing-periods')).status).toBe(404)
    expect((await get('/v1/meters')).body.items.map((m) => m.meter)).toEqual(['M'])
    expect((await get('/v1/meters?account=A')).body.items.map((m) => m.meter)).toEqual(['M'])
    // Not even that the meter ever served B.
    expect((await get('/v1/meters?account=B')).body.items.map((m) => m.meter)).toEqual([])
    expect((await get('/v1/meters/N')).status).toBe(404)
    expect((await get('/v1/meters/M')).body.assignments.map((a) => a.account)).toEqual(['A'])
  })
})

describe('keys and tokens', () => {
  it('stops a revoked key, here at once and elsewhere within the cache\'s time', async () => {
    const operator = key('north', 'operator')
    const made = (await server.call(operator, 'POST', '/v1/keys', { name: 'v', role: 'viewer' })).json<{ id: string; key: string }>()
    expect(made.key).toMatch(/^mk_[\w-]{43}$/)
    expect((await server.call(made.key, 'GET', '/v1/meters')).statusCode).toBe(200)
    const other = testServer(db.pool, { context: { now: () => nowMs } })
    expect((await other.call(made.key, 'GET', '/v1/meters')).statusCode).toBe(200)
    expect((await server.call(operator, 'DELETE', `/v1/keys/${made.id}`)).statusCode).toBe(204)
    expect((await server.call(made.key, 'GET', '/v1/meters')).statusCode).toBe(401)
    nowMs += 5001
    expect((await other.call(made.key, 'GET', '/v1/meters')).statusCode).toBe(401)
    await other.app.close()
    const { rows } = await db.pool.query<{ text: string }>("select string_agg(k::text || a::text, '') as text from api_key k, audit a")
    expect(rows[0].text).not.toContain(made.key)
  })

  it('lets only the installation\'s operator reach another utility', async () => {
    const operator = key('north', 'operator')
    expect((await server.call(operator, 'POST', '/v1/keys', { name: 'x', role: 'viewer', utility: 'south' })).statusCode).toBe(403)
    expect((await server.call(operator, 'POST', '/v1/keys', { name: 'x', role: 'operator', installation: true })).statusCode).toBe(403)
    const root = await server.key('north', 'operator', { installation: true })
    const made = await server.call(root, 'POST', '/v1/keys', { name: 'x', role: 'viewer', utility: 'south' })
    expect((await server.call(made.json<{ key: string }>().key, 'GET', '/v1/accounts/A')).json()).toMatchObject({ name: 'south' })
    expect((await server.call(root, 'POST', '/v1/keys', { name: 'x', role: 'viewer', utility: 'west' })).statusCode).toBe(404)
  })

  it('makes the first operator key once, and none whose secret was not kept', async () => {
    const fresh = await testDatabase()
    try {
      const { utilityId } = await ensureUtility(fresh.pool, 'default')
      const kept: string[] = []
      await expect(ensureFirstOperatorKey(fresh.pool, utilityId, () => { throw new Error('killed') })).rejects.toThrow('killed')
      const keep = (secret: string): void => void kept.push(secret)
      const made = await Promise.all([ensureFirstOperatorKey(fresh.pool, utilityId, keep), ensureFirstOperatorKey(fresh.pool, utilityId, keep)])
      expect(made.filter((k) => k !== undefined)).toEqual(kept)
      expect(kept).toHaveLength(1)
    } finally {
      await fresh.close()
    }
  })

  it('ends a token in time, and takes none that it did not sign', async () => {
    const token = await memberToken(['A'], 60)
    expect((await server.call(token, 'GET', '/v1/accounts/A')).statusCode).toBe(200)
    const [head, body, signature] = token.split('.')
    const forged = (part: object, claims: object): string => {
      const text = [part, claims].map((p) => Buffer.from(JSON.stringify(p)).toString('base64url')).join('.')
      return `${text}.${createHmac('sha256', Buffer.alloc(32, 7)).update(text).digest('base64url')}`
    }
    const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as Record<string, unknown>
    const bad = [
      `${head}.${Buffer.from(JSON.stringify({ ...claims, accounts: ['B'] })).toString('base64url')}.${signature}`,
      forged({ alg: 'HS256' }, claims),
      forged({ alg: 'none' }, claims),
      forged({ alg: 'HS256' }, { ...claims, iss: 'elsewhere' }),
      `${head}.${body}.`,
    ]
    for (const credential of bad) expect((await server.call(credential, 'GET', '/v1/accounts/A')).statusCode).toBe(401)
    nowMs += 61_000
    const late = await server.call(token, 'GET', '/v1/accounts/A')
    expect([late.statusCode, late.headers['www-authenticate']]).toEqual([401, 'Bearer realm="meterline", error="invalid_token"'])
    const mint = (body: unknown) => server.call(key('north', 'portal'), 'POST', '/v1/tokens', body)
    expect((await mint({ accounts: ['A'], ttlSeconds: 59 })).statusCode).toBe(422)
    expect((await mint({ accounts: ['A'], ttlSeconds: 86_401 })).statusCode).toBe(422)
    expect((await mint({ accounts: ['A', 'Z'] })).json()).toMatchObject({ code: 'unknown-account', at: '/accounts/1' })
  })
})

describe('another issuer', () => {
  it('is believed by its published keys alone', async () => {
    const { publicKey, privateKey } = await generateKeyPair('ES256')
    const jwks = JSON.stringify({ keys: [{ ...await exportJWK(publicKey), kid: 'k1', alg: 'ES256' }] })
    let isUp = true
    const publisher = createServer((_request, response) => void response.writeHead(isUp ? 200 : 500, { 'content-type': 'application/json' }).end(jwks))
    await new Promise<void>((resolve) => publisher.listen(0, '127.0.0.1', resolve))
    const { port } = publisher.address() as AddressInfo
    const issuer = { jwksUrl: `http://127.0.0.1:${port}/keys`, issuer: 'https://login.north.example', audience: 'usage', accountsClaim: 'services' }
    const foreign = testServer(db.pool, { context: { issuer, now: () => nowMs } })
    const token = (claims: JWTPayload, signer: CryptoKey | Uint8Array = privateKey, alg = 'ES256') =>
      new SignJWT({ iss: issuer.issuer, aud: 'usage', utility: 'north', services: ['A'], exp: Math.floor(nowMs / 1000) + 60, ...claims })
        .setProtectedHeader({ alg, kid: 'k1' }).sign(signer)
    const status = async (server: TestServer, credential: string, account = 'A') => (await server.call(credential, 'GET', `/v1/accounts/${account}`)).statusCode
    try {
      expect(await status(foreign, await token({}))).toBe(200)
      expect(await status(foreign, await token({}), 'B')).toBe(404)
      expect(await status(foreign, await token({ aud: 'other' }))).toBe(401)
      expect(await status(foreign, await token({ iss: 'https://evil.example' }))).toBe(401)
      expect(await status(foreign, await token({ services: 'A' }))).toBe(401)
      expect(await status(foreign, await token({ utility: 'nowhere' }))).toBe(401)
      expect(await status(foreign, await token({ exp: Math.floor(nowMs / 1000) - 31 }))).toBe(401)
      expect(await status(foreign, await token({}, new TextEncoder().encode(JSON.stringify(await exportJWK(publicKey))), 'HS256'))).toBe(401)
      expect(await status(server, await token({}))).toBe(401)
      isUp = false
      const cold = testServer(db.pool, { context: { issuer, now: () => nowMs } })
      expect(await status(cold, await token({}))).toBe(503)
      await cold.app.close()
    } finally {
      await foreign.app.close()
      await new Promise((resolve) => publisher.close(resolve))
    }
  })
})

describe('deliveries', () => {
  it('shows receipts newest first, a head-end only its own', async () => {
    const mine = await deliver('south', 'head-end')
    const other = await deliver('south', 'other')
    const list = async (role: KeyRole, query = '') => {
      const answer = await server.call(key('south', role), 'GET', `/v1/deliveries${query}`)
      return answer.json<{ items: { delivery: string }[]; next: string | null }>()
    }
    expect((await list('head-end')).items.map((d) => d.delivery)).toEqual([mine])
    expect((await list('viewer')).items.map((d) => d.delivery)).toEqual([other, mine])
    expect((await list('viewer', '?source=head-end')).items.map((d) => d.delivery)).toEqual([mine])
    const first = await list('viewer', '?limit=1')
    expect((await list('viewer', `?limit=1&cursor=${first.next}`)).items.map((d) => d.delivery)).toEqual([mine])
    expect((await server.call(key('south', 'viewer'), 'GET', '/v1/deliveries?cursor=nonsense')).json()).toMatchObject({ code: 'invalid-cursor' })
    expect((await server.call(key('south', 'head-end'), 'GET', `/v1/deliveries/${other}`)).statusCode).toBe(404)
    const one = (await server.call(key('south', 'head-end'), 'GET', `/v1/deliveries/${mine}`)).json<Record<string, unknown>>()
    expect(one).toMatchObject({
      delivery: mine, source: 'head-end', received: 3, stored: 2, quarantined: 1, from: '2026-10-01T00:00:00-05:00', to: '2026-10-02T00:00:00-05:00',
      alerts: { raised: 0, retracted: 0 }, sha256: '0102', kind: 'push', withdrawnAt: null })
    expect((await server.call(key('south', 'viewer'), 'GET', `/v1/deliveries/${mine}/problems`)).json())
      .toEqual({ items: [{ code: 'unknown-meter', at: 'record 3', message: 'Not registered.' }], next: null, problemCount: 1 })
  })
})
