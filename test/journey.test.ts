import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import pino from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEngine, type Engine } from '../cli/serve.js'
import { loadSettings } from '../engine/config.js'
import type { Receipt } from '../engine/receipt.js'
import { dayNumber, dayText, instantText } from '../engine/time/text.js'
import { getZone } from '../engine/time/zone.js'
import { feedCaughtUp } from './change-feed.js'
import { testDatabase, type TestDatabase } from './database.js'
import { httpClient } from './http-client.js'
import { mailServer, type MailServer } from './mail-server.js'

// One story through the real HTTP server, its worker threads and a real SMTP server, as a portal's developer lives it. The
// utility lies where it is past noon now, so that today has reads enough at any hour that the test runs.
const hour = new Date().getUTCHours()
const zone = getZone(`Etc/GMT${hour >= 13 ? '+' : '-'}${Math.abs(hour - 13)}`)
const today = zone.dayOf(Date.now() / 1000)
const day = (ago: number): string => dayText(today - ago)
const at = (ago: number, slot = 0): string => instantText(zone.dayStart(today - ago) + slot * 900, zone)
const block = (meter: string, ago: number, count: number, value: number, more: object = {}) =>
  ({ meter, start: at(ago), intervalSeconds: 900, values: new Array<number>(count).fill(value), ...more })

interface Usage {
  total: { delivered: number | null }
  missing: number
  restatedAt: string | null
  dataThrough: string | null
  series: { meter?: string; periods: { start: string; value: number | null; expected: number }[]; values?: (number | null)[] }[]
}

let db: TestDatabase
let mail: MailServer
let engine: Engine
let dir = ''
let root = ''
const keys = { operator: '', portal: '', headEnd: '' }
let member = ''
let withdrawable = ''

async function start(smtpUrl: string | null): Promise<void> {
  const settings = loadSettings({}, {
    databaseUrl: db.url, meterlineDir: dir, secretKey: 'a secret of this test alone, long enough', port: 0, workers: 2, smtpUrl,
    mailFrom: 'Meterline <alerts@coop.example>', logLevel: 'error',
  })
  engine = await startEngine(settings, new Set(['ingest', 'api', 'notify'] as const), pino({ level: 'silent' }))
}

const { call, ok } = httpClient(() => engine.url)

const push = (body: unknown, headers: Record<string, string> = {}): Promise<Receipt> => ok(keys.headEnd, 'POST', '/v1/reads', body, headers)
const usage = (key: string, path: string): Promise<Usage> => ok(key, 'GET', `/v1/${path}`)
const created = async (body: object): Promise<string> => (await ok<{ key: string }>(root, 'POST', '/v1/keys', { ...body, utility: 'coop' })).key

interface Changes { items: { account: string; day: string }[]; next: string; more: boolean }
/** What a portal holds that reads nothing but the days that the feed names: total by account and day. */
const replica = new Map<string, number | null>()
let cursor: string | undefined

async function follow(): Promise<number> {
  await feedCaughtUp(db.pool)
  let pages = 0
  for (let more = true; more; pages++) {
    const page = await ok<Changes>(keys.portal, 'GET', `/v1/changes?limit=2${cursor === undefined ? '' : `&since=${cursor}`}`)
    for (const item of page.items) {
      const next = dayText(dayNumber(item.day) + 1)
      const { total } = await usage(keys.portal, `accounts/${item.account}/usage?from=${item.day}&to=${next}`)
      replica.set(`${item.account} ${item.day}`, total.delivered)
    }
    cursor = page.next
    more = page.more
  }
  return pages
}

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'meterline-journey-'))
  db = await testDatabase()
  mail = await mailServer()
  await start(null)
  root = engine.database.firstKey ?? ''
})
afterAll(async () => {
  await engine.close()
  await mail.close()
  await db.close()
  rmSync(dir, { recursive: true, force: true })
})

describe('from a new utility to a corrected alert', () => {
  it('sets up the utility, its keys, accounts and meters', async () => {
    expect(await ok(root, 'PUT', '/v1/utilities/coop', { zone: zone.name, name: 'Pine Co-op' })).toMatchObject({ zone: zone.name, holdsReads: false })
    keys.operator = await created({ name: 'office', role: 'operator' })
    keys.portal = await created({ name: 'portal', role: 'portal' })
    keys.headEnd = await created({ name: 'ami', role: 'head-end', sources: ['ami'] })
    expect(await ok(keys.operator, 'PUT', '/v1/accounts', 'account,nickname,billingDay\n0001001,Lake cabin,1\nFORMER,,\nNEIGHBOUR,,\n', { 'content-type': 'text/csv' }))
      .toMatchObject({ received: 3, created: 3, rejected: 0 })
    expect(await ok(keys.operator, 'PUT', '/v1/meters', [
      { meter: 'M1', account: '0001001', from: '2024-01-01' },
      { meter: 'M2', assignments: [{ account: 'FORMER', from: '2024-01-01', to: at(1, 24) }, { account: '0001001', from: at(1, 24) }] },
      { meter: 'M3', account: 'NEIGHBOUR', from: '2024-01-01' },
    ])).toMatchObject({ created: 3, rejected: 0 })
    member = (await ok<{ token: string }>(keys.portal, 'POST', '/v1/tokens', { accounts: ['0001001'] })).token
  })

  it('verifies a contact by the code of the captured message', async () => {
    const contact = await ok<{ id: string; state: string }>(member, 'POST', '/v1/accounts/0001001/contacts',
      { channel: 'email', address: 'jo@example.com', consent: { categories: ['usage'], text: 'Tell me.', via: 'portal' } })
    expect(contact.state).toBe('pending')
    let code: string | undefined
    await expect.poll(async () => {
      const { items } = await ok<{ items: { state: string; text: string }[] }>(keys.operator, 'GET', '/v1/messages?account=0001001')
      code = /\b\d{6}\b/.exec(items[0].text)?.[0]
      return items[0].state
    }, { timeout: 5000 }).toBe('captured')
    const wrong = code === '123456' ? '654321' : '123456'
    expect((await call(member, 'POST', `/v1/accounts/0001001/contacts/${contact.id}/verify`, { code: wrong })).body).toMatchObject({ code: 'code-wrong', triesLeft: 4 })
    expect(await ok(member, 'POST', `/v1/accounts/0001001/contacts/${contact.id}/verify`, { code })).toMatchObject({ state: 'active' })
    expect(await ok(member, 'POST', '/v1/accounts/0001001/thresholds', { kind: 'day-usage', limit: 30 }))
      .toMatchObject({ kind: 'day-usage', limit: 30, unit: 'kWh', version: 1 })
    expect(await ok(member, 'POST', '/v1/accounts/0001001/thresholds', { kind: 'period-usage', limit: 100_000 })).toMatchObject({ kind: 'period-usage' })
  })

  it('takes reads as JSON, NDJSON, CSV and gzip, and what waited for its meter', async () => {
    const first = await push({ reads: [block('M1', 1, 96, 0.001)] }, { 'idempotency-key': 'night-1' })
    expect(first).toMatchObject({ source: 'ami', complete: true, received: 96, stored: 96, from: at(1), to: at(0), problems: [] })
    expect(await push({ reads: [block('M1', 1, 96, 0.001)] }, { 'idempotency-key': 'night-1' })).toEqual(first)
    expect(await push(`${JSON.stringify(block('M2', 1, 96, 0.25))}\n${JSON.stringify({ meter: 'M3', start: at(1), intervalSeconds: 900, value: 2 })}\n`,
      { 'content-type': 'application/x-ndjson' })).toMatchObject({ received: 97, stored: 97 })
    const csv = ['meter,start,value', ...Array.from({ length: 96 }, (_, i) => `M1,${at(2, i)},${i === 7 ? '' : '0.125'}`)].join('\r\n')
    expect(await push(csv, { 'content-type': 'text/csv' })).toMatchObject({ received: 95, stored: 95 })
    expect(await push(gzipSync(JSON.stringify([block('M3', 2, 96, 0.5), block('LATE', 2, 96, 0.25)])), { 'content-encoding': 'gzip' }))
      .toMatchObject({ received: 192, stored: 96, quarantined: 96, problems: [{ code: 'unknown-meter' }] })
    await follow()
    await ok(keys.operator, 'PUT', '/v1/meters', [{ meter: 'LATE', account: 'NEIGHBOUR', from: '2024-01-01' }])
    await expect.poll(async () => (await usage(keys.portal, `meters/LATE/usage?from=${day(2)}&to=${day(1)}`)).total.delivered, { timeout: 5000 }).toBe(24)
  })

  it('answers usage exactly, with nothing for what is missing', async () => {
    const answer = await usage(member, `accounts/0001001/usage?from=${day(2)}&to=${day(0)}`)
    expect(answer).toMatchObject({ total: { delivered: 95 * 0.125 + 0.096 + 18, received: null, net: null }, missing: 1, restatedAt: null, dataThrough: at(0) })
    expect(answer.series[0].periods.map((p) => [p.value, p.expected])).toEqual([[11.875, 96], [18.096, 96 + 72]])
    const hours = await usage(member, `accounts/0001001/usage?from=${day(2)}&to=${day(1)}&resolution=interval`)
    expect(hours.series[0].values?.slice(6, 9)).toEqual([0.125, null, 0.125])
    const again = await call(member, 'GET', `/v1/accounts/0001001/usage?from=${day(2)}&to=${day(0)}`)
    expect((await call(member, 'GET', `/v1/accounts/0001001/usage?from=${day(2)}&to=${day(0)}`, undefined, { 'if-none-match': again.headers.get('etag') ?? '' })).status).toBe(304)
  })

  it('raises the alert after a restart and sends it by SMTP', async () => {
    await follow()
    await engine.close()
    await start(mail.url)
    expect(engine.database.firstKey).toBeNull()
    expect(await push([block('M1', 0, 40, 1)])).toMatchObject({ stored: 40, alerts: { raised: 1, retracted: 0 } })
    expect(await ok(member, 'GET', '/v1/accounts/0001001/alerts')).toMatchObject({ items: [{
      kind: 'day-usage', state: 'raised', limit: 30, value: 40, unit: 'kWh', crossedAt: at(0, 31), period: { start: at(0), end: at(-1) } }] })
    await expect.poll(() => mail.received.length, { timeout: 5000 }).toBe(1)
    expect(mail.received[0]).toMatchObject({ to: 'jo@example.com' })
    expect(mail.received[0].content).toMatch(/^Subject: Lake cabin: more than 30 kWh in a day/m)
    await follow()
  })

  it('takes the alert back when the reads are corrected, and says so', async () => {
    const corrected = await push([block('M1', 0, 40, 0.1, { quality: 'validated' })])
    expect(corrected).toMatchObject({ corrected: 40, stored: 0, alerts: { raised: 0, retracted: 1 } })
    withdrawable = corrected.delivery
    expect(await usage(member, `accounts/0001001/usage?from=${day(0)}&to=${day(-1)}`)).toMatchObject({ total: { delivered: 4 }, restatedAt: expect.any(String) as string })
    await expect.poll(() => mail.received.length, { timeout: 5000 }).toBe(2)
    expect(mail.received[1].content).toMatch(/^Subject: Correction for Lake cabin/m)
    expect(await ok(keys.portal, 'GET', `/v1/meters/M1/explain?at=${encodeURIComponent(at(0))}`)).toMatchObject({
      value: 0.1, quality: 'validated', delivery: { id: withdrawable }, history: [{ outcome: 'superseded', value: 1 }] })
    await follow()
  })

  it('stands again when the correction is withdrawn', async () => {
    const before = new Date().toISOString()
    expect(await ok(keys.operator, 'POST', `/v1/deliveries/${withdrawable}/withdraw`)).toMatchObject({ alerts: { raised: 1, retracted: 0 } })
    const range = `accounts/0001001/usage?from=${day(0)}&to=${day(-1)}`
    expect(await usage(member, range)).toMatchObject({ total: { delivered: 40 } })
    expect(await usage(member, `${range}&asOf=${before}`)).toMatchObject({ total: { delivered: 4 } })
    const { items } = await ok<{ items: { state: string; history: { state: string }[] }[] }>(member, 'GET', '/v1/accounts/0001001/alerts')
    expect(items.map((i) => [i.state, i.history.map((h) => h.state)])).toEqual([['raised', ['raised', 'retracted', 'raised']]])
    expect(await ok(keys.headEnd, 'GET', `/v1/deliveries/${withdrawable}`)).toMatchObject({ kind: 'push', withdrawnAt: expect.any(String) as string })
  })

  it('names in the feed every day that changed', async () => {
    expect(await follow()).toBeGreaterThan(0)
    const held = new Map<string, number | null>()
    for (const account of ['0001001', 'FORMER', 'NEIGHBOUR']) {
      const { series } = await usage(keys.portal, `accounts/${account}/usage?from=${day(5)}&to=${day(-1)}`)
      for (const p of series[0]?.periods ?? []) if (p.value !== null) held.set(`${account} ${p.start.slice(0, 10)}`, p.value)
    }
    const told = [...replica].filter(([, value]) => value !== null).sort()
    expect(told).toEqual([...held].sort())
    expect(Object.fromEntries(told)).toEqual({
      [`0001001 ${day(2)}`]: 11.875, [`0001001 ${day(1)}`]: 18.096, [`0001001 ${day(0)}`]: 40, [`FORMER ${day(1)}`]: 6,
      [`NEIGHBOUR ${day(2)}`]: 72, [`NEIGHBOUR ${day(1)}`]: 2 })
  })

  it('keeps the member to the token\'s account and its time', async () => {
    const status = async (method: string, path: string, body?: unknown): Promise<number> => (await call(member, method, path, body)).status
    expect(await ok(member, 'GET', '/v1/me/accounts')).toMatchObject({ items: [{ account: '0001001' }], next: null })
    for (const path of ['accounts/FORMER', 'accounts/FORMER/usage', 'accounts/NEIGHBOUR/alerts', 'accounts/NEIGHBOUR/contacts', 'meters/M3',
      'meters/M3/usage', `meters/M2/explain?at=${encodeURIComponent(at(1, 23))}`]) {
      expect([path, await status('GET', `/v1/${path}`)]).toEqual([path, 404])
    }
    expect((await usage(member, `meters/M2/usage?from=${day(3)}&to=${day(0)}`)).total.delivered).toBe(18)
    expect((await usage(keys.portal, `meters/M2/usage?from=${day(3)}&to=${day(0)}`)).total.delivered).toBe(24)
    for (const path of ['deliveries', 'quarantine', 'messages', 'audit', 'keys', 'completeness', 'system-load']) {
      expect([path, await status('GET', `/v1/${path}`)]).toEqual([path, 403])
    }
    expect(await status('POST', '/v1/reads', { reads: [] })).toBe(403)
    expect(await status('POST', '/v1/tokens', { accounts: ['FORMER'] })).toBe(403)
    const feed = await ok<Changes>(member, 'GET', '/v1/changes?limit=1000')
    expect(new Set(feed.items.map((i) => i.account))).toEqual(new Set(['0001001']))
    expect((await call(root, 'GET', '/v1/accounts/0001001')).status).toBe(404)
  })
})
