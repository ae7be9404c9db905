import { randomUUID } from 'node:crypto'
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { Webhook } from 'standardwebhooks'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { ensureUtility } from '../../engine/access.js'
import { createLinkSigner } from '../../engine/contacts/links.js'
import { isPrivateAddress, startWebhookSender } from '../../engine/notify/webhook-sender.js'
import { secrets } from '../../test/alert-fixture.js'
import { testServer, type TestServer } from '../../test/api-server.js'
import { testDatabase, type TestDatabase } from '../../test/database.js'

const account = 'A1'
const links = createLinkSigner(secrets.secretKey)
const log = { warn: () => undefined, error: () => undefined }

let db: TestDatabase
let server: TestServer
let nowMs = Date.parse('2026-07-01T18:00:00Z')
const keys = { operator: '', foreign: '' }

beforeAll(async () => {
  db = await testDatabase()
  server = testServer(db.pool, { context: { now: () => nowMs, secretKey: Buffer.from(secrets.secretKey) } })
  for (const utility of ['north', 'south']) await ensureUtility(db.pool, utility, { zone: 'America/Chicago' })
  keys.operator = await server.key('north', 'operator')
  keys.foreign = await server.key('south', 'operator')
  await ok('operator', 'PUT', '/v1/accounts', [{ account }])
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})

async function call(who: keyof typeof keys, method: 'GET' | 'PUT' | 'POST' | 'DELETE', url: string, body?: unknown): Promise<{ status: number; body: Record<string, unknown> }> {
  const answer = await server.call(keys[who], method, url, body)
  return { status: answer.statusCode, body: answer.body === '' ? {} : answer.json<Record<string, unknown>>() }
}
async function ok<T = Record<string, unknown>>(...args: Parameters<typeof call>): Promise<T> {
  const { status, body } = await call(...args)
  expect(status, JSON.stringify(body)).toBeLessThan(300)
  return body as T
}

/** An active contact of the account. */
async function bring(address: string): Promise<string> {
  await ok('operator', 'PUT', '/v1/contacts', { contacts: [{
    account, channel: 'email', address, consent: { categories: ['usage'], text: 'Tell me.', via: 'paper form' }, verifiedAt: '2024-01-01T00:00:00Z' }] })
  const { items } = await ok<{ items: { id: string }[] }>('operator', 'GET', `/v1/accounts/${account}/contacts`)
  return items.at(-1)!.id
}

describe('a webhook', () => {
  let hook: Server
  let seen: { headers: IncomingHttpHeaders; body: string }[]
  let status = 200
  let url = ''
  beforeAll(async () => {
    hook = createServer((request, response) => {
      void text(request).then((body) => {
        seen.push({ headers: request.headers, body })
        response.writeHead(status, { location: 'http://169.254.169.254/' }).end()
      })
    })
    await new Promise<void>((ready) => {
      hook.listen(0, '127.0.0.1', ready)
    })
    url = `http://127.0.0.1:${(hook.address() as AddressInfo).port}/hook`
  })
  beforeEach(() => {
    seen = []
    status = 200
  })
  afterAll(async () => {
    hook.closeAllConnections()
    await new Promise((closed) => {
      hook.close(closed)
    })
  })
  const send = async (until: () => Promise<void>, options: { allowPrivate?: boolean; maxAttempts?: number } = {}): Promise<void> => {
    const sender = startWebhookSender({ pool: db.pool, secrets, log, now: () => nowMs, allowPrivate: true, pollMs: 10, backoffMs: 0, ...options })
    await until()
    await sender.stop()
  }
  const deliveries = async () => (await ok<{ items: { state: string; attempts: number; status: number | null; error: string | null; id: string }[] }>('operator', 'GET', '/v1/webhooks/crm/deliveries')).items
  const happen = async (): Promise<void> => {
    nowMs += 1000
    const mail = await bring(`${randomUUID()}@example.com`)
    await server.app.inject({ method: 'POST', url: `/u/${links.sign(mail, 'usage')}` })
  }

  it('is told what it asked for, signed; tried again, dead in the end, and sent again by hand under the same id', async () => {
    const made = await ok<{ secret: string }>('operator', 'PUT', '/v1/webhooks/crm', { url, events: ['contact.stopped'] })
    expect(made.secret).toMatch(/^whsec_/)
    expect(await ok('operator', 'GET', '/v1/webhooks')).toMatchObject({ items: [{ id: 'crm', url, events: ['contact.stopped'] }] })
    expect(await ok('foreign', 'GET', '/v1/webhooks')).toMatchObject({ items: [] })
    expect((await call('foreign', 'GET', '/v1/webhooks/crm/deliveries')).status).toBe(404)
    await happen()
    await send(async () => expect.poll(async () => (await deliveries()).map((d) => d.state), { timeout: 5000 }).toEqual(['sent']))
    const [{ headers, body }] = seen
    const checkable = JSON.parse(body) as { type: string; data: { account: string } }
    expect(checkable).toMatchObject({ type: 'contact.stopped', data: { account, categories: ['usage'] } })
    const expected = new Webhook(made.secret).sign(String(headers['webhook-id']), new Date(Number(headers['webhook-timestamp']) * 1000), body)
    expect(headers['webhook-signature']).toBe(expected)

    status = 302
    await happen()
    await send(async () => expect.poll(async () => (await deliveries())[0].state, { timeout: 5000 }).toBe('failed'), { maxAttempts: 3 })
    expect((await deliveries())[0]).toMatchObject({ attempts: 3, status: 302 })
    status = 200
    expect(await ok('operator', 'POST', '/v1/webhooks/crm/replay')).toEqual({ replayed: 1 })
    await send(async () => expect.poll(async () => (await deliveries())[0].state, { timeout: 5000 }).toBe('sent'))
    expect(new Set(seen.slice(1).map((s) => s.headers['webhook-id'])).size).toBe(1)
  })

  it('does not lead into private networks unless that is allowed', async () => {
    await ok('operator', 'PUT', '/v1/webhooks/crm', { url: url.replace('127.0.0.1', 'localhost'), events: ['contact.stopped'] })
    await happen()
    await send(async () => expect.poll(async () => (await deliveries())[0].state, { timeout: 5000 }).toBe('failed'), { allowPrivate: false, maxAttempts: 1 })
    expect((await deliveries())[0]).toMatchObject({ error: 'EPRIVATE' })
    expect(seen).toEqual([])
    for (const inside of ['127.0.0.1', '10.1.2.3', '169.254.169.254', '192.168.0.1', '::1', 'fe80::1', 'fd00::1', '::ffff:10.0.0.1']) expect([inside, isPrivateAddress(inside)]).toEqual([inside, true])
    for (const outside of ['93.184.216.34', '2606:2800:220:1::1']) expect([outside, isPrivateAddress(outside)]).toEqual([outside, false])
    for (const bad of ['ftp://example.com', 'file:///etc/passwd', 'https://user:pw@example.com/', 'nothing']) {
      expect([bad, await call('operator', 'PUT', '/v1/webhooks/x', { url: bad, events: ['alert.raised'] })]).toMatchObject([bad, { status: 422, body: { code: 'invalid-url' } }])
    }
    expect((await call('operator', 'DELETE', '/v1/webhooks/crm')).status).toBe(204)
  })
})
