import { createHmac, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { sealer, secrets } from '../../test/alert-fixture.js'
import { testServer, type TestServer } from '../../test/api-server.js'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { ensureUtility } from '../../engine/access.js'
import { createLinkSigner } from '../../engine/contacts/links.js'
import { wordOf } from '../../engine/contacts/stop-words.js'
import { startOutbox } from '../../engine/notify/outbox.js'
import { tellOutages } from '../../engine/notify/outages.js'
import { captureTransport } from '../../engine/notify/transport.js'

const PUBLIC = 'https://meterline.coop.example'
const links = createLinkSigner(secrets.secretKey)
const log = { warn: () => undefined, error: () => undefined }

let db: TestDatabase
let server: TestServer
// 13:00 in Chicago: no quiet hours.
let nowMs = Date.parse('2026-07-01T18:00:00Z')
const keys = { operator: '', portal: '', notify: '', foreign: '', headEnd: '' }
let account = ''
let scope: 'category' | 'all' = 'category'

beforeAll(async () => {
  db = await testDatabase()
  server = testServer(db.pool, { context: {
    now: () => nowMs, secretKey: Buffer.from(secrets.secretKey),
    smsGateway: { token: 'gateway token', publicUrl: PUBLIC, get stopScope() { return scope } } } })
  for (const utility of ['north', 'south']) await ensureUtility(db.pool, utility, { zone: 'America/Chicago' })
  keys.operator = await server.key('north', 'operator')
  keys.portal = await server.key('north', 'portal')
  keys.notify = await server.key('north', 'notify')
  keys.headEnd = await server.key('north', 'head-end', { name: 'ami' })
  keys.foreign = await server.key('south', 'operator')
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})
beforeEach(async () => {
  scope = 'category'
  nowMs += 86_400_000
  account = `A${randomUUID()}`
  await ok('operator', 'PUT', '/v1/accounts', [{ account, nickname: 'Lake cabin', groups: { substation: account } }])
})

interface Answer { status: number; body: Record<string, unknown> }
async function call(who: keyof typeof keys, method: 'GET' | 'PUT' | 'POST' | 'DELETE', url: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  const answer = await server.app.inject({
    method, url, headers: { authorization: `Bearer ${keys[who]}`, ...headers }, ...(body === undefined ? {} : { payload: body as object }) })
  return { status: answer.statusCode, body: answer.body === '' ? {} : answer.json<Record<string, unknown>>() }
}
async function ok<T = Record<string, unknown>>(...args: Parameters<typeof call>): Promise<T> {
  const { status, body } = await call(...args)
  expect(status, JSON.stringify(body)).toBeLessThan(300)
  return body as T
}

const consent = { categories: ['usage', 'service', 'billing'], text: 'Tell me.', via: 'paper form' }
async function bring(channel: 'email' | 'sms', address: string, to = account): Promise<string> {
  nowMs += 1000
  await ok('operator', 'PUT', '/v1/contacts', { contacts: [{ account: to, channel, address, consent, verifiedAt: '2024-01-01T00:00:00Z' }] })
  const { items } = await ok<{ items: { id: string; channel: string }[] }>('portal', 'GET', `/v1/accounts/${to}/contacts`)
  return items.filter((c) => c.channel === channel).at(-1)!.id
}
let numbers = 100
const number = (): string => `+1512555${String(numbers++).padStart(4, '0')}`

async function capture(): Promise<void> {
  const outbox = startOutbox({ pool: db.pool, transport: captureTransport, secrets, log, now: () => nowMs, pollMs: 10 })
  await expect.poll(async () => (await db.pool.query(
    `select 1 from message where state in ('pending', 'sending') and next_at <= $1`, [new Date(nowMs)])).rowCount, { timeout: 5000 }).toBe(0)
  await outbox.stop()
}
const sentTo = async (of = account): Promise<{ purpose: string; category: string; text: string; state: string; channel: string }[]> => {
  await capture()
  return (await ok<{ items: { purpose: string; category: string; text: string; state: string; channel: string }[] }>('operator', 'GET', `/v1/messages?account=${of}`)).items
}
let sid = 0
async function textIn(from: string, body: string, given: { sid?: string; signature?: string } = {}): Promise<{ status: number; text: string }> {
  nowMs += 1000
  const form: Record<string, string> = { MessageSid: given.sid ?? `SM${sid++}`, From: from, To: '+15125550000', Body: body }
  const said = `${PUBLIC}/v1/sms/inbound${Object.keys(form).sort().map((k) => k + form[k]).join('')}`
  const answer = await server.app.inject({
    method: 'POST', url: '/v1/sms/inbound', payload: new URLSearchParams(form).toString(),
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      'x-twilio-signature': given.signature ?? createHmac('sha1', 'gateway token').update(said).digest('base64') } })
  return { status: answer.statusCode, text: answer.body }
}
const notice = (category: string, more: object = {}): object => ({ category, template: 'general', params: { text: 'Hello.' }, audience: { accounts: [account] }, ...more })
const tell = (category: string, more: object = {}, key: string = randomUUID()) => call('notify', 'POST', '/v1/notices', notice(category, more), { 'idempotency-key': key })

describe('contacts of another system', () => {
  it('come over verified, once; what cannot be taken is told with its place', async () => {
    const contacts = [
      { account, channel: 'email', address: 'jo@example.com', consent, verifiedAt: '2024-01-01T00:00:00Z' },
      { account, channel: 'sms', address: '123', verifiedAt: '2024-01-01T00:00:00Z' },
      { account: 'nobody', channel: 'email', address: 'a@example.com', verifiedAt: '2024-01-01T00:00:00Z' },
      { account, channel: 'email', address: 'b@example.com', verifiedAt: '2999-01-01T00:00:00Z' },
    ]
    expect(await ok('operator', 'PUT', '/v1/contacts', { contacts })).toMatchObject({ received: 4, created: 1, rejected: 3, problems: [
      { code: 'invalid-address', at: '/contacts/1/address' }, { code: 'unknown-account', at: '/contacts/2/account' }, { code: 'invalid-instant', at: '/contacts/3/verifiedAt' }] })
    expect(await ok('operator', 'PUT', '/v1/contacts', { contacts: contacts.slice(0, 1) })).toMatchObject({ created: 0, changed: 0, unchanged: 1 })
    expect(await ok('operator', 'PUT', '/v1/contacts', { contacts: [{ ...contacts[0], label: 'Home' }] })).toMatchObject({ changed: 1 })
    expect(await ok('portal', 'GET', `/v1/accounts/${account}/contacts`)).toMatchObject({ items: [{ state: 'active', address: 'j***@example.com', label: 'Home' }] })
    expect(await ok('portal', 'GET', `/v1/accounts/${account}/consent`)).toMatchObject({ items: [
      { action: 'granted', categories: consent.categories, via: 'paper form', wording: 'Tell me.' }, { action: 'verified' }] })
  })

  it('are verified once per member: another account of the same token needs no second code', async () => {
    const other = `${account}-2`
    await ok('operator', 'PUT', '/v1/accounts', [{ account: other }])
    await bring('email', `${account}@example.com`)
    const { token } = await ok<{ token: string }>('portal', 'POST', '/v1/tokens', { accounts: [account, other] })
    const add = (key: string) => server.app.inject({
      method: 'POST', url: `/v1/accounts/${other}/contacts`, headers: { authorization: `Bearer ${key}` }, payload: { channel: 'email', address: `${account}@example.com` } })
    expect((await add(token)).json()).toMatchObject({ state: 'active' })
    const { items } = (await server.call(token, 'GET', `/v1/accounts/${other}/contacts`)).json<{ items: { id: string }[] }>()
    await ok('portal', 'DELETE', `/v1/accounts/${other}/contacts/${items[0].id}`)
    expect((await add(keys.portal)).json()).toMatchObject({ state: 'pending' })
  })

  it('get no more codes than people need, by address, account and utility', async () => {
    const statuses: number[] = []
    for (let i = 0; i < 12; i++) statuses.push((await call('portal', 'POST', `/v1/accounts/${account}/contacts`, { channel: 'email', address: `x${i}.${account}@example.com` })).status)
    expect(statuses).toEqual([...new Array<number>(10).fill(201), 429, 429])
    // One address under many accounts.
    const victim = `victim.${account}@example.com`
    const many: number[] = []
    for (let i = 0; i < 5; i++) {
      nowMs += 31_000
      await ok('operator', 'PUT', '/v1/accounts', [{ account: `${account}-v${i}` }])
      many.push((await call('portal', 'POST', `/v1/accounts/${account}-v${i}/contacts`, { channel: 'email', address: victim })).status)
    }
    expect(many).toEqual([201, 201, 201, 429, 429])
  })
})

describe('preferences', () => {
  it('say who is told what; consent is kept for each change', async () => {
    const mail = await bring('email', 'jo@example.com')
    const phone = await bring('sms', number())
    const url = `/v1/accounts/${account}/preferences`
    expect(await ok('portal', 'GET', url)).toEqual({
      usage: [{ contact: mail, mode: 'now' }, { contact: phone, mode: 'now' }], service: [{ contact: mail, mode: 'now' }, { contact: phone, mode: 'now' }],
      billing: [{ contact: mail, mode: 'now' }, { contact: phone, mode: 'now' }], quietHours: { sms: { from: '21:00', to: '08:00' }, email: null } })
    expect(await ok('portal', 'PUT', url, { billing: [{ contact: mail, mode: 'digest' }], quietHours: { sms: { from: '22:00', to: '07:00' } } })).toMatchObject({
      usage: [{ contact: mail }, { contact: phone }], billing: [{ contact: mail, mode: 'digest' }], quietHours: { sms: { from: '22:00', to: '07:00' }, email: null } })
    expect(await ok('portal', 'PUT', url, { quietHours: { sms: null } })).toMatchObject({ quietHours: { sms: null } })
    expect(await call('portal', 'PUT', url, { usage: [{ contact: randomUUID(), mode: 'now' }] })).toMatchObject({ status: 422, body: { code: 'unknown-contact', at: '/usage/0/contact' } })
    const { items } = await ok<{ items: { action: string; contact: string; categories: string[] }[] }>('portal', 'GET', `/v1/accounts/${account}/consent`)
    expect(items.at(-1)).toMatchObject({ action: 'withdrawn', contact: phone, categories: ['billing'] })
    expect((await tell('billing')).body).toMatchObject({ messages: 1 })
    expect(await sentTo()).toMatchObject([{ channel: 'email', state: 'pending', purpose: 'notice' }])
    nowMs += 86_400_000
    expect(await sentTo()).toMatchObject([{ channel: 'email', state: 'captured' }])
  })
})

describe('a text to stop', () => {
  it.each([['STOP', 'stop'], [' stop. ', 'stop'], ['Opt-Out', 'stop'], ['please stop texting me', 'stop'], ['ALTO', 'stop'], ['Start!', 'start'], ['ayuda', 'help'],
    ['when is the power back', null], ['', null], ['cancel my appointment', null]] as const)('"%s" is %s', (said, word) => {
    expect(wordOf(said)).toBe(word)
  })

  it('ends the category that it answers, is confirmed once, and START brings it back', async () => {
    const from = number()
    const phone = await bring('sms', from)
    await tell('service')
    expect(await sentTo()).toMatchObject([{ purpose: 'notice', category: 'service', state: 'captured' }])
    expect(await textIn(from, 'STOP', { sid: 'SMonce' })).toEqual({ status: 200, text: '<Response/>' })
    await textIn(from, 'STOP', { sid: 'SMonce' })
    await textIn(from, 'stop')
    const after = await sentTo()
    expect(after.map((m) => m.purpose)).toEqual(['reply', 'notice'])
    expect(after[0].text).toBe('You will get no more service notices of your utility by text. Reply START to get them again, HELP for help.')
    expect((await tell('service')).body).toMatchObject({ messages: 0 })
    expect((await tell('billing')).body).toMatchObject({ messages: 1 })
    expect(await call('portal', 'PUT', `/v1/accounts/${account}/preferences`, { service: [{ contact: phone, mode: 'now' }] })).toMatchObject({ status: 409, body: { code: 'contact-stopped' } })
    await textIn(from, 'START')
    expect((await tell('service')).body).toMatchObject({ messages: 1 })
    expect((await sentTo()).filter((m) => m.purpose === 'reply').map((m) => m.text.slice(0, 33))).toEqual(['You will get service notices of y', 'You will get no more service noti'])
    const { items } = await ok<{ items: { action: string; actor: string; wording: string }[] }>('portal', 'GET', `/v1/accounts/${account}/consent`)
    expect(items.slice(-2)).toMatchObject([{ action: 'stopped', actor: 'holder', wording: 'STOP' }, { action: 'resumed', wording: 'START' }])
  })

  it('ends everything where the switch says so, and HELP says who it is', async () => {
    scope = 'all'
    const from = number()
    await bring('sms', from)
    await textIn(from, 'help')
    await textIn(from, 'QUIT')
    expect((await sentTo()).map((m) => m.text)).toEqual([
      'You will get no more messages of your utility by text. Reply START to get them again, HELP for help.',
      'your utility: texts about your electricity. Msg frequency varies, rates may apply. Reply STOP to end.'])
    expect(await ok('portal', 'GET', `/v1/accounts/${account}/contacts`)).toMatchObject({ items: [{ state: 'stopped' }] })
    // Nobody can have codes sent to that number, under whatever account.
    await ok('operator', 'PUT', '/v1/accounts', [{ account: `${account}-x` }])
    expect(await call('portal', 'POST', `/v1/accounts/${account}-x/contacts`, { channel: 'sms', address: from })).toMatchObject({ status: 409, body: { code: 'contact-stopped' } })
  })

  it('in answer to a code that was not asked for ends the codes too', async () => {
    const from = number()
    await ok('portal', 'POST', `/v1/accounts/${account}/contacts`, { channel: 'sms', address: from })
    await sentTo()
    await textIn(from, 'stop')
    expect(await ok('portal', 'GET', `/v1/accounts/${account}/contacts`)).toMatchObject({ items: [{ state: 'stopped' }] })
    nowMs += 3_600_000
    await ok('operator', 'PUT', '/v1/accounts', [{ account: `${account}-x` }])
    expect(await call('portal', 'POST', `/v1/accounts/${account}-x/contacts`, { channel: 'sms', address: from })).toMatchObject({ status: 409 })
  })

  it('is taken from the gateway alone', async () => {
    const from = number()
    await bring('sms', from)
    expect(await textIn(from, 'STOP', { signature: Buffer.alloc(20).toString('base64') })).toMatchObject({ status: 403 })
    expect(await textIn(from, 'STOP', { signature: '' })).toMatchObject({ status: 403 })
    expect(await ok('portal', 'GET', `/v1/accounts/${account}/contacts`)).toMatchObject({ items: [{ state: 'active' }] })
  })
})

describe('an unsubscribe link', () => {
  it('shows a page that changes nothing, and one click ends its category', async () => {
    const mail = await bring('email', 'jo@example.com')
    const url = `/u/${links.sign(mail, 'billing')}`
    const shown = await server.app.inject({ method: 'GET', url })
    expect(shown.statusCode).toBe(200)
    expect(shown.headers['content-type']).toContain('text/html')
    expect(shown.body).toContain('Stop billing notices to this address')
    expect(shown.body).not.toContain('jo@example.com')
    expect((await tell('billing')).body).toMatchObject({ messages: 1 })
    const clicked = await server.app.inject({
      method: 'POST', url, payload: 'List-Unsubscribe=One-Click', headers: { 'content-type': 'application/x-www-form-urlencoded' } })
    expect(clicked.statusCode).toBe(200)
    // What was on its way is dropped, too.
    expect(await sentTo()).toMatchObject([{ state: 'dropped' }])
    expect((await tell('billing')).body).toMatchObject({ messages: 0 })
    expect((await tell('service')).body).toMatchObject({ messages: 1 })
    await server.app.inject({ method: 'POST', url, payload: 'all=1', headers: { 'content-type': 'application/x-www-form-urlencoded' } })
    expect(await ok('portal', 'GET', `/v1/accounts/${account}/contacts`)).toMatchObject({ items: [{ state: 'stopped' }] })
    // The member's own portal may switch mail on again.
    await ok('portal', 'PUT', `/v1/accounts/${account}/preferences`, { billing: [{ contact: mail, mode: 'now' }] })
    expect((await tell('billing')).body).toMatchObject({ messages: 1 })
  })

  it('that was changed, or is nobody\'s, is not known', async () => {
    const token = links.sign(randomUUID(), 'usage')
    for (const bad of [token, `${token.slice(0, -2)}AA`, 'x', '%00']) {
      expect((await server.app.inject({ method: 'GET', url: `/u/${bad}` })).statusCode).toBeGreaterThanOrEqual(404)
      expect((await server.app.inject({ method: 'POST', url: `/u/${bad}` })).statusCode).toBeGreaterThanOrEqual(404)
    }
  })
})

describe('a notice', () => {
  it('goes once to who wants its category, whatever is repeated; a dry run tells nobody', async () => {
    await bring('email', 'jo@example.com')
    await bring('sms', number())
    const key = randomUUID()
    expect((await tell('billing', { dryRun: true })).body).toMatchObject({ notice: null, messages: 2, dryRun: true })
    const bill = { template: 'bill-available', params: { amount: '84.2', currency: 'USD', dueOn: '2026-10-15' }, audience: { accounts: [account, 'nobody'] } }
    const first = await tell('billing', bill, key)
    expect(first).toMatchObject({ status: 200, body: { accounts: 1, unknownAccounts: ['nobody'], messages: 2, dryRun: false } })
    expect(await tell('billing', bill, key)).toEqual(first)
    expect(await tell('service', {}, key)).toMatchObject({ status: 422, body: { code: 'idempotency-key-reused' } })
    expect((await sentTo()).map((m) => m.text).sort()).toEqual([
      expect.stringContaining('Lake cabin: your bill is ready: $84.20, due October 15, 2026. Reply STOP to end.') as string,
      expect.stringContaining('Your bill for Lake cabin is ready: $84.20, due on October 15, 2026.') as string])
    expect((await tell('service', { audience: { groups: { substation: account } }, dryRun: true })).body).toMatchObject({ accounts: 1, messages: 2 })
    expect(await call('notify', 'POST', '/v1/notices', notice('service'))).toMatchObject({ status: 422, body: { code: 'idempotency-key-missing' } })
    expect(await call('foreign', 'POST', '/v1/notices', notice('service'), { 'idempotency-key': 'k' })).toMatchObject({ status: 422, body: { code: 'empty-audience' } })
    expect(await tell('service', { expiresAt: '2020-01-01T00:00:00Z' })).toMatchObject({ status: 422 })
  })

  it('that would come too late for quiet hours is not written, and one that expires is dropped', async () => {
    await bring('sms', number())
    nowMs = Date.parse(`${new Date(nowMs).toISOString().slice(0, 10)}T03:00:00Z`) + 86_400_000
    const expiresAt = new Date(nowMs + 3_600_000).toISOString()
    expect((await tell('billing', { expiresAt })).body).toMatchObject({ messages: 0 })
    expect((await tell('service', { expiresAt })).body).toMatchObject({ messages: 1 })
    nowMs += 3_700_000
    expect(await sentTo()).toMatchObject([{ state: 'dropped', category: 'service' }])
  })
})

describe('an outage', () => {
  const event = (meter: string, kind: string, agoS: number) => ({ meter, kind, at: new Date(nowMs - agoS * 1000).toISOString() })
  const happens = (...events: object[]) => ok('headEnd', 'POST', '/v1/events', { events })
  const look = async (): Promise<number> => tellOutages(db.pool, sealer, new Date(nowMs))

  it('that lasts is told, and so is its end; a blink, and what is long over, is not', async () => {
    const meter = `M${account}`
    await ok('operator', 'PUT', '/v1/meters', [{ meter, account, from: '2024-01-01' }])
    await bring('email', 'jo@example.com')
    await happens(event(meter, 'power-down', 60), event(meter, 'power-up', 50))
    expect(await look()).toBe(0)
    await happens(event(meter, 'power-down', 30))
    expect(await look()).toBe(0)
    nowMs += 200_000
    expect(await look()).toBe(1)
    expect(await look()).toBe(0)
    await happens(event(meter, 'power-down', 10))
    expect(await look()).toBe(0)
    nowMs += 1000
    await happens(event(meter, 'power-up', 1))
    expect(await look()).toBe(1)
    expect(await look()).toBe(0)
    expect((await sentTo()).map((m) => /(went out|came back)/.exec(m.text)?.[0])).toEqual(['came back', 'went out'])
    await happens(event(meter, 'power-down', 8 * 3600), event(meter, 'power-up', 7 * 3600))
    expect(await look()).toBe(0)
  })

  it('that was too old to be told when it was seen ends like any other, and hides none that comes after it', async () => {
    const meter = `M${account}`
    await ok('operator', 'PUT', '/v1/meters', [{ meter, account, from: '2024-01-01' }])
    await bring('email', 'jo@example.com')
    const outages = async () => (await db.pool.query<{ state: string; open: boolean }>(
      'select o.state, o.up_at is null as open from outage o join meter m using (meter_id) where m.id = $1 order by down_at', [meter])).rows
    await happens(event(meter, 'power-down', 60))
    await look()
    // Nobody looked for seven hours.
    nowMs += 7 * 3_600_000
    expect(await look()).toBe(0)
    expect(await outages()).toEqual([{ state: 'ignored', open: true }])
    await happens(event(meter, 'power-up', 60))
    expect(await look()).toBe(0)
    expect(await outages()).toEqual([{ state: 'ignored', open: false }])
    nowMs += 600_000
    await happens(event(meter, 'power-down', 300))
    expect(await look()).toBe(1)
    expect(await outages()).toEqual([{ state: 'ignored', open: false }, { state: 'told', open: true }])
  })
})

describe('a member', () => {
  it('can take everything along, and be erased but for the reads and the proof of consent', async () => {
    await ok('operator', 'PUT', '/v1/accounts', [{ account, name: 'Jo Doe' }])
    await bring('email', 'jo.doe@example.com')
    await tell('service')
    await ok('portal', 'POST', `/v1/accounts/${account}/thresholds`, { kind: 'day-usage', limit: 60 })
    await capture()
    const all = await ok<Record<string, unknown>>('portal', 'GET', `/v1/accounts/${account}/export`)
    expect(all).toMatchObject({
      account: { account, name: 'Jo Doe' }, contacts: [{ address: 'jo.doe@example.com', state: 'active' }], thresholds: [{ kind: 'day-usage', limit: 60 }],
      messages: [{ purpose: 'notice', text: expect.stringContaining('Hello.') as string }], consent: [{ action: 'granted' }, { action: 'verified' }] })
    expect(await ok('portal', 'DELETE', `/v1/accounts/${account}/member`)).toEqual({ contacts: 1, messages: 1, thresholds: 1 })
    expect(await ok('portal', 'GET', `/v1/accounts/${account}/export`)).toMatchObject({ account: { name: null, nickname: null }, contacts: [], messages: [] })
    expect(await ok('portal', 'GET', `/v1/accounts/${account}/consent`)).toMatchObject({ items: [{ action: 'granted' }, { action: 'verified' }, { action: 'erased' }] })
    const { rows } = await db.pool.query<{ text: string }>(
      `select account::text || coalesce((select string_agg(c::text, '') from consent_event c where c.account = account.id), '') as text from account where id = $1`, [account])
    expect(rows[0].text).not.toMatch(/Doe|jo\.doe|example\.com/)
  })
})
