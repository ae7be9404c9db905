import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createKey } from '../../engine/access.js'
import { startOutbox, type Outbox } from '../../engine/notify/outbox.js'
import { captureTransport } from '../../engine/notify/transport.js'
import { dayNumber } from '../../engine/time/text.js'
import { alertFixture, secrets, type AlertFixture } from '../../test/alert-fixture.js'
import { takeAnyDay, testDatabase, type TestDatabase } from '../../test/database.js'
import type { Role } from '../context.js'
import { buildServer } from '../server.js'
import { alertRoutes } from './alerts.js'
import { contactRoutes } from './contacts.js'
import { messageRoutes } from './messages.js'
import { thresholdRoutes } from './thresholds.js'
import { tokenRoutes } from './tokens.js'

const START = Date.parse('2026-10-01T21:00:00Z')
const DAY = dayNumber('2026-10-01')

let db: TestDatabase
let app: FastifyInstance
let outbox: Outbox
let f: AlertFixture
let keys: Record<Role, string>
let nowMs = START
let woken = 0

beforeAll(async () => {
  db = await testDatabase()
  await takeAnyDay(db)
  const log = pino({ level: 'silent' })
  app = buildServer({
    pool: db.pool, readPool: db.pool, log, secretKey: Buffer.from(secrets.secretKey), now: () => nowMs,
    onMetersRegistered: () => undefined,
    onMessages: () => {
      woken++
      outbox.wake()
    },
  }, { routes: [alertRoutes, contactRoutes, messageRoutes, thresholdRoutes, tokenRoutes], ready: () => Promise.resolve({ ok: true, reasons: [] }) })
  await app.ready()
  outbox = startOutbox({ pool: db.pool, transport: captureTransport, secrets, log, now: () => nowMs, pollMs: 20 })
})
afterAll(async () => {
  await outbox.stop()
  await app.close()
  await db.close()
})
beforeEach(async () => {
  nowMs = START
  woken = 0
  f = await alertFixture(db.pool)
  keys = {} as Record<Role, string>
  for (const role of ['head-end', 'portal', 'notify', 'viewer', 'operator'] as const) {
    const made = await createKey(db.pool, { utilityId: f.utilityId, role, name: `${role} ${randomUUID()}`, actor: 'test' })
    keys[role] = made.key
  }
})

interface Answer {
  status: number
  body: Record<string, unknown> & { id: string; items: Record<string, unknown>[]; code: string; next: string | null }
  retryAfter: string | undefined
}

async function call(method: 'GET' | 'POST' | 'PATCH' | 'DELETE', url: string, body?: object, key = keys.portal): Promise<Answer> {
  const answer = await app.inject({ method, url, headers: { authorization: `Bearer ${key}` }, ...(body === undefined ? {} : { payload: body }) })
  return {
    status: answer.statusCode, retryAfter: answer.headers['retry-after'],
    body: (answer.body === '' ? {} : answer.json()) as Answer['body'],
  }
}

/** The newest captured text of the account. */
async function captured(account: string, count: number): Promise<{ subject: string; text: string; address: string }[]> {
  for (let tries = 0; ; tries++) {
    const { body } = await call('GET', `/v1/messages?account=${account}&state=captured`, undefined, keys.operator)
    if (body.items.length >= count || tries > 200) return body.items as { subject: string; text: string; address: string }[]
    await new Promise((done) => setTimeout(done, 20))
  }
}

async function code(account: string, count: number): Promise<string> {
  const [newest] = await captured(account, count)
  return newest.subject.slice(0, 6)
}

const wrong = (right: string): string => right === '000000' ? '000001' : '000000'

describe('thresholds', () => {
  it('are made, shown, changed and ended, and the account is counted as watched', async () => {
    const { account, accountId } = await f.account()
    const made = await call('POST', `/v1/accounts/${account}/thresholds`, { kind: 'day-usage', limit: 60 })
    expect(made).toMatchObject({ status: 201, body: {
      kind: 'day-usage', limit: 60, flow: 'delivered', meter: null, unit: 'kWh', window: 'day', direction: 'above', touPeriod: null, params: {}, contacts: null, version: 1,
      createdAt: '2026-10-01T21:00:00.000Z' } })
    const watched = async (): Promise<unknown> => (await db.pool.query('select thresholds from account where account_id = $1', [accountId])).rows[0]
    expect(await watched()).toEqual({ thresholds: 1 })
    const url = `/v1/accounts/${account}/thresholds/${made.body.id}`
    nowMs += 1000
    expect(await call('PATCH', url, { limit: 60 })).toMatchObject({ body: { version: 1 } })
    expect(await call('PATCH', url, { limit: 70.5 })).toMatchObject({ body: { version: 2, limit: 70.5, versionFrom: '2026-10-01T21:00:01.000Z' } })
    expect(await call('GET', url, undefined, keys.viewer)).toMatchObject({ status: 200, body: { version: 2 } })
    expect(await call('GET', `/v1/accounts/${account}/thresholds`)).toMatchObject({ body: { items: [{ id: made.body.id }], next: null } })
    expect(await call('DELETE', url)).toMatchObject({ status: 204 })
    expect(await watched()).toEqual({ thresholds: 0 })
    expect(await call('DELETE', url)).toMatchObject({ status: 404, body: { code: 'threshold-not-found' } })
    expect(await call('GET', url)).toMatchObject({ status: 404 })
  })

  it.each([
    [{ kind: 'unusual', limit: 5 }, 'invalid-combination', '/limit'],
    [{ kind: 'unusual', params: { percent: 29 } }, 'invalid-params', '/params/percent'],
    [{ kind: 'no-usage', flow: 'net' }, 'invalid-combination', '/flow'],
    [{ kind: 'low-usage', limit: 1, params: { window: 'hour' } }, 'invalid-params', '/params/window'],
    [{ kind: 'day-usage', limit: 5, params: { mads: 3 } }, 'invalid-params', '/params/mads'],
    [{ kind: 'projected-usage', limit: 5, touPeriod: 'peak' }, 'invalid-combination', '/touPeriod'],
    [{ kind: 'nonsense', limit: 5 }, 'kind-unsupported', '/kind'],
    [{ kind: 'day-usage', limit: 0 }, 'invalid-limit', '/limit'],
    [{ kind: 'day-usage', limit: -1 }, 'invalid-limit', '/limit'],
    [{ kind: 'day-usage', limit: 1_000_000.1 }, 'invalid-limit', '/limit'],
    [{ kind: 'day-usage', limit: 0.0001 }, 'invalid-limit', '/limit'],
    [{ kind: 'day-usage', limit: 1e-7 }, 'invalid-limit', '/limit'],
    [{ kind: 'day-usage', limit: '5' }, 'invalid-request', '/limit'],
    [{ kind: 'day-usage' }, 'invalid-limit', '/limit'],
    [{ kind: 'day-usage', limit: 5, colour: 'red' }, 'unknown-member', '/colour'],
    [{ kind: 'day-usage', limit: 5, meter: 'nobody' }, 'unknown-meter', '/meter'],
    [{ kind: 'day-usage', limit: 5, contacts: ['2f1b8a52-0000-4000-8000-000000000000'] }, 'unknown-contact', '/contacts/0'],
    [{ kind: 'day-usage', limit: 5, contacts: ['c1'] }, 'invalid-request', '/contacts/0'],
  ])('are refused with the place: %j', async (body, expected, at) => {
    const { account, accountId } = await f.account()
    expect(await call('POST', `/v1/accounts/${account}/thresholds`, body)).toMatchObject({ status: 422, body: { code: expected, at } })
    expect((await db.pool.query('select thresholds from account where account_id = $1', [accountId])).rows).toEqual([{ thresholds: 0 }])
  })

  it('judge the running day at once, tell the contacts that they name, and are shown with their alerts', async () => {
    const { account, accountId } = await f.account({ nickname: 'Lake cabin' })
    const { channelId, meter } = await f.meter(accountId)
    const named = await f.contact(accountId)
    const other = await f.contact(accountId)
    await f.block(channelId, DAY, [...new Array<number>(60).fill(1000), ...new Array<null>(36).fill(null)])
    const made = await call('POST', `/v1/accounts/${account}/thresholds`, { kind: 'day-usage', limit: 50, meter, contacts: [named] })
    expect(woken).toBe(1)
    await captured(account, 1)
    const { body } = await call('GET', `/v1/accounts/${account}/alerts?state=raised&threshold=${made.body.id}`)
    expect(body.items).toEqual([{
      id: expect.any(String) as string, threshold: made.body.id, version: 1, kind: 'day-usage',
      period: { start: '2026-10-01T00:00:00-05:00', end: '2026-10-02T00:00:00-05:00' }, limit: 50, value: 60, unit: 'kWh', flow: 'delivered', detail: null,
      crossedAt: '2026-10-01T12:45:00-05:00', raisedAt: '2026-10-01T16:00:00-05:00', state: 'raised',
      history: [{ state: 'raised', at: '2026-10-01T16:00:00-05:00', delivery: null, value: 60 }],
      completeness: 0.9375, estimatedShare: 0, expected: 64, present: 60, estimated: 0,
      messages: [{ contact: named, address: 'm***@example.com', channel: 'email', purpose: 'alert', state: 'captured', at: '2026-10-01T16:00:00-05:00' }],
    }])
    expect(JSON.stringify(body)).not.toContain(other)
    const changed = await call('PATCH', `/v1/accounts/${account}/thresholds/${made.body.id}`, { limit: 100 })
    expect(changed.body).toMatchObject({ version: 2 })
    expect((await call('GET', `/v1/accounts/${account}/alerts`)).body.items).toMatchObject([{ version: 1, state: 'raised' }])
  })

  it('are paged', async () => {
    const { account, accountId } = await f.account()
    const { channelId } = await f.meter(accountId)
    await f.block(channelId, DAY, new Array<number>(80).fill(1000))
    for (let i = 0; i < 5; i++) {
      nowMs += 1000
      await call('POST', `/v1/accounts/${account}/thresholds`, { kind: 'day-usage', limit: 10 + i })
    }
    const seen: unknown[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const page: Answer = await call('GET', `/v1/accounts/${account}/alerts?limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`)
      seen.push(...page.body.items.map((i) => i.limit))
      cursor = page.body.next
    }
    expect(seen).toEqual([14, 13, 12, 11, 10])
    expect(await call('GET', `/v1/accounts/${account}/alerts?cursor=nonsense`)).toMatchObject({ status: 422, body: { code: 'invalid-cursor' } })
    const forged = Buffer.from(JSON.stringify(['yesterday', randomUUID()])).toString('base64url')
    expect(await call('GET', `/v1/accounts/${account}/alerts?cursor=${forged}`)).toMatchObject({ status: 422, body: { code: 'invalid-cursor' } })
  })
})

describe('contacts', () => {
  it('are active only after the code, masked everywhere, and gone when taken away', async () => {
    const { account } = await f.account()
    const url = `/v1/accounts/${account}/contacts`
    const made = await call('POST', url, { channel: 'email', address: 'Jo.Doe@Example.com', label: 'Jo', consent: { categories: ['usage'], text: 'I agree', via: 'web' } })
    expect(made).toMatchObject({ status: 201, body: {
      channel: 'email', address: 'J***@example.com', label: 'Jo', language: 'en', state: 'pending', verifiedAt: null,
      consent: { categories: ['usage'], text: 'I agree', via: 'web', at: '2026-10-01T21:00:00.000Z' } } })
    const right = await code(account, 1)
    expect(right).toMatch(/^\d{6}$/)
    expect(await call('POST', `${url}/${made.body.id}/verify`, { code: wrong(right) })).toMatchObject({ status: 422, body: { code: 'code-wrong', triesLeft: 4 } })
    expect(await call('POST', `${url}/${made.body.id}/verify`, { code: right })).toMatchObject({ status: 200, body: { state: 'active' } })
    expect(await call('POST', `${url}/${made.body.id}/verify`, { code: right })).toMatchObject({ status: 409, body: { code: 'contact-not-pending' } })
    const listed = await call('GET', url, undefined, keys.viewer)
    expect(listed.body.items).toMatchObject([{ id: made.body.id, state: 'active' }])
    const dump = JSON.stringify((await db.pool.query('select * from contact c left join message m using (contact_id) where c.utility_id = $1', [f.utilityId])).rows)
    expect(JSON.stringify(listed.body) + dump).not.toMatch(/jo\.doe/i)
    expect(await call('DELETE', `${url}/${made.body.id}`)).toMatchObject({ status: 204 })
    expect((await call('GET', url)).body.items).toEqual([])
    expect(await call('DELETE', `${url}/${made.body.id}`)).toMatchObject({ status: 404 })
  })

  it('have five tries for a code, and ten minutes', async () => {
    const { account } = await f.account()
    const url = `/v1/accounts/${account}/contacts`
    const made = await call('POST', url, { channel: 'email', address: 'a@example.com' })
    const first = await code(account, 1)
    for (let i = 0; i < 5; i++) expect((await call('POST', `${url}/${made.body.id}/verify`, { code: wrong(first) })).body.code).toBe('code-wrong')
    expect(await call('POST', `${url}/${made.body.id}/verify`, { code: first })).toMatchObject({ status: 422, body: { code: 'code-expired' } })
    nowMs += 30_000
    expect(await call('POST', `${url}/${made.body.id}/resend`)).toMatchObject({ status: 202, body: { state: 'pending' } })
    const second = await code(account, 2)
    if (second !== first) expect((await call('POST', `${url}/${made.body.id}/verify`, { code: first })).body.code).toBe('code-wrong')
    nowMs += 600_000
    expect(await call('POST', `${url}/${made.body.id}/verify`, { code: second })).toMatchObject({ status: 422, body: { code: 'code-expired' } })
  })

  it('cannot be used to flood an address: 30 seconds apart, 3 an hour, whatever account asks', async () => {
    const one = await f.account()
    const two = await f.account()
    const address = { channel: 'sms', address: '+1 (512) 555-0123' }
    const url = `/v1/accounts/${one.account}/contacts`
    const made = await call('POST', url, address)
    expect(made.body).toMatchObject({ address: '+1***123' })
    expect(await call('POST', `${url}/${made.body.id}/resend`)).toMatchObject({ status: 429, retryAfter: '30', body: { code: 'too-many-codes' } })
    expect(await call('POST', `/v1/accounts/${two.account}/contacts`, { ...address, address: '+15125550123' })).toMatchObject({ status: 429 })
    nowMs += 30_000
    expect(await call('POST', `${url}/${made.body.id}/resend`)).toMatchObject({ status: 202 })
    // Taking it away and adding it again does not count anew.
    await call('DELETE', `${url}/${made.body.id}`)
    nowMs += 30_000
    expect(await call('POST', url, address)).toMatchObject({ status: 201 })
    nowMs += 30_000
    expect(await call('POST', `/v1/accounts/${two.account}/contacts`, address)).toMatchObject({ status: 429, retryAfter: String(3600 - 90) })
    nowMs += 3600_000 - 90_000
    expect(await call('POST', `/v1/accounts/${two.account}/contacts`, address)).toMatchObject({ status: 201 })
  })

  it('let one of two requests at the same time have the last code', async () => {
    const { account } = await f.account()
    const body = { channel: 'email', address: 'race@example.com' }
    const answers = await Promise.all(Array.from({ length: 6 }, () => call('POST', `/v1/accounts/${account}/contacts`, body)))
    expect(answers.map((a) => a.status).sort()).toEqual([201, ...new Array<number>(5).fill(409)].sort())
    const others = await Promise.all(Array.from({ length: 4 }, async () => call('POST', `/v1/accounts/${(await f.account()).account}/contacts`, body)))
    expect(others.map((a) => a.status)).toEqual([429, 429, 429, 429])
  })

  it.each([
    [{ channel: 'email', address: 'nobody' }, 'invalid-address', '/address'],
    [{ channel: 'email', address: 'a@b' }, 'invalid-address', '/address'],
    [{ channel: 'email', address: 'a@b.com\r\nBcc: c@d.com' }, 'invalid-address', '/address'],
    [{ channel: 'email', address: 'a@b.com,c@d.com' }, 'invalid-address', '/address'],
    [{ channel: 'email', address: '<a@b.com>' }, 'invalid-address', '/address'],
    [{ channel: 'email', address: 'a..b@c.com' }, 'invalid-address', '/address'],
    [{ channel: 'sms', address: '5125550123' }, 'invalid-address', '/address'],
    [{ channel: 'sms', address: '+05125550123' }, 'invalid-address', '/address'],
    [{ channel: 'fax', address: '+15125550123' }, 'invalid-request', '/channel'],
    [{ channel: 'email', address: 'a@b.com', consent: { categories: ['marketing'] } }, 'invalid-request', '/consent/categories/0'],
    [{ channel: 'email', address: 'a@b.com', consent: { given: true } }, 'unknown-member', '/consent/given'],
  ])('are refused with the place: %j', async (body, expected, at) => {
    const { account } = await f.account()
    expect(await call('POST', `/v1/accounts/${account}/contacts`, body)).toMatchObject({ status: 422, body: { code: expected, at } })
  })
})

describe('who may do what', () => {
  it('a member reaches the accounts of the token alone; another utility sees nothing; small roles write nothing', async () => {
    const mine = await f.account()
    const theirs = await f.account()
    const contact = await f.contact(theirs.accountId)
    const threshold = await f.threshold(theirs.accountId)
    const { body } = await call('POST', '/v1/tokens', { accounts: [mine.account] })
    const token = body.token as string
    expect(await call('POST', `/v1/accounts/${mine.account}/thresholds`, { kind: 'period-usage', limit: 600 }, token)).toMatchObject({ status: 201 })
    for (const path of ['thresholds', 'alerts', 'contacts']) {
      expect(await call('GET', `/v1/accounts/${mine.account}/${path}`, undefined, token)).toMatchObject({ status: 200 })
      expect(await call('GET', `/v1/accounts/${theirs.account}/${path}`, undefined, token)).toMatchObject({ status: 404, body: { code: 'account-not-found' } })
    }
    // Another account's things by the right id under one's own account.
    expect(await call('GET', `/v1/accounts/${mine.account}/thresholds/${threshold}`, undefined, token)).toMatchObject({ status: 404 })
    expect(await call('DELETE', `/v1/accounts/${mine.account}/contacts/${contact}`, undefined, token)).toMatchObject({ status: 404 })
    expect(await call('POST', `/v1/accounts/${mine.account}/thresholds`, { kind: 'day-usage', limit: 5, contacts: [contact] }, token)).toMatchObject({ status: 422 })
    expect(await call('GET', '/v1/messages', undefined, token)).toMatchObject({ status: 403 })
    expect(await call('GET', '/v1/messages', undefined, keys.portal)).toMatchObject({ status: 403 })
    expect(await call('POST', `/v1/accounts/${mine.account}/thresholds`, { kind: 'day-usage', limit: 5 }, keys.viewer)).toMatchObject({ status: 403 })
    expect(await call('GET', `/v1/accounts/${mine.account}/contacts`, undefined, keys['head-end'])).toMatchObject({ status: 403 })
    const elsewhere = await alertFixture(db.pool)
    const foreign = await createKey(db.pool, { utilityId: elsewhere.utilityId, role: 'operator', name: `o ${randomUUID()}`, actor: 'test' })
    expect(await call('GET', `/v1/accounts/${mine.account}/alerts`, undefined, foreign.key)).toMatchObject({ status: 404 })
    expect((await call('GET', '/v1/messages', undefined, foreign.key)).body.items).toEqual([])
  })

  it('a viewer does not see codes', async () => {
    const { account } = await f.account()
    await call('POST', `/v1/accounts/${account}/contacts`, { channel: 'email', address: 'v@example.com' })
    expect(await captured(account, 1)).toMatchObject([{ subject: expect.stringMatching(/^\d{6} /) as string, address: 'v***@example.com' }])
    expect((await call('GET', `/v1/messages?account=${account}`, undefined, keys.viewer)).body.items)
      .toMatchObject([{ purpose: 'code', state: 'captured', subject: null, text: null }])
  })
})
