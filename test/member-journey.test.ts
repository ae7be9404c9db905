import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEngine, type Engine } from '../cli/serve.js'
import { loadSettings } from '../engine/config.js'
import type { Receipt } from '../engine/receipt.js'
import { testDatabase, type TestDatabase } from './database.js'
import { httpClient } from './http-client.js'
import { mailServer, type MailServer } from './mail-server.js'
import { smsGateway, type SmsGateway } from './sms-gateway.js'

// A hot day as a member lives it: the whole engine over real HTTP, a real SMTP server and an SMS API, on a clock that is set
// to the hours of the story. Texts keep quiet from 21:00 to 08:00.
const DAY = '2026-07-29'
const NEXT = '2026-07-30'
const PHONE = '+15125550123'
const MAIL = 'jo@example.com'

/** kWh by quarter-hour. The day is hot from 10:00; at 16:30 the meter says 12 where it was 1.5. */
const FAULTY_SLOT = 66
const kwh = Array.from({ length: 96 }, (_, slot) =>
  slot < 40 ? 0.5 : slot < 64 ? 0.8 : slot === FAULTY_SLOT ? 12 : slot < 71 ? 1.5 : 0.4)
const at = (slot: number): string => `${DAY}T${String(Math.floor(slot / 4)).padStart(2, '0')}:${String(slot % 4 * 15).padStart(2, '0')}:00-05:00`

interface Contact {
  id: string
  state: string
  address: string
}

interface Told {
  purpose: string
  channel: string
  state: string
}

interface Alert {
  id: string
  state: string
  value: number
  history: { state: string; value: number }[]
  messages: { contact: string; channel: string; state: string }[]
}

let db: TestDatabase
let mail: MailServer
let sms: SmsGateway
let engine: Engine
let stop: (() => Promise<void>) | undefined
let dir = ''
const keys = { operator: '', portal: '', headEnd: '', member: '' }
const contacts = { sms: '', email: '' }
const { call, ok } = httpClient(() => engine.url)

/** Starts the engine with its clock at this local time, and ends the one before. */
async function startAt(day: string, clock: string): Promise<void> {
  await stop?.()
  stop = undefined
  const settings = loadSettings({}, {
    databaseUrl: db.url, meterlineDir: dir, secretKey: 'a secret of this test alone, long enough', port: 0, workers: 2, logLevel: 'error',
    smtpUrl: mail.url, mailFrom: 'Pine Co-op <alerts@coop.example>',
    smsUrl: sms.url, smsAccount: 'AC1', smsToken: 'gateway token', smsFrom: '+15125550000', publicUrl: 'https://meterline.coop.example',
  })
  const offsetMs = Date.parse(`${day}T${clock}:00-05:00`) - Date.now()
  engine = await startEngine(settings, new Set(['ingest', 'api', 'notify'] as const), pino({ level: 'silent' }), offsetMs)
  stop = engine.close
}

/** What the portal does when the member signs in: the token of the day before is no longer good. */
async function signIn(): Promise<void> {
  keys.member = (await ok<{ token: string }>(keys.portal, 'POST', '/v1/tokens', { accounts: ['0001001'], ttlSeconds: 86_400 })).token
}

const push = (from: number, to: number): Promise<Receipt> => ok(keys.headEnd, 'POST', '/v1/reads',
  { reads: [{ meter: 'M1', start: at(from), intervalSeconds: 900, values: kwh.slice(from, to) }] })
const alerts = async (): Promise<Alert[]> => (await ok<{ items: Alert[] }>(keys.member, 'GET', '/v1/accounts/0001001/alerts')).items
/** Everything that is, or waits to be, told, the codes aside. It stands with the commit of what caused it. */
const told = async (): Promise<Told[]> => (await ok<{ items: Told[] }>(keys.operator, 'GET', '/v1/messages?account=0001001')).items
  .filter((m) => m.purpose !== 'code')
  .map(({ purpose, channel, state }) => ({ purpose, channel, state }))
  .sort((a, b) => `${a.purpose} ${a.channel}`.localeCompare(`${b.purpose} ${b.channel}`))
const sent = (purpose: string): Told[] => ['email', 'sms'].map((channel) => ({ purpose, channel, state: 'sent' }))

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'meterline-member-'))
  db = await testDatabase()
  mail = await mailServer()
  sms = await smsGateway('AC1', 'gateway token')
  await startAt(DAY, '09:30')
  const root = engine.database.firstKey ?? ''
  const key = async (body: object): Promise<string> => (await ok<{ key: string }>(root, 'POST', '/v1/keys', { ...body, utility: 'pine' })).key
  await ok(root, 'PUT', '/v1/utilities/pine', { zone: 'America/Chicago', name: 'Pine Co-op' })
  keys.operator = await key({ name: 'office', role: 'operator' })
  keys.headEnd = await key({ name: 'ami', role: 'head-end', sources: ['ami'] })
  keys.portal = await key({ name: 'portal', role: 'portal' })
  await ok(keys.operator, 'PUT', '/v1/accounts', [{ account: '0001001', nickname: 'Lake cabin', billingDay: 1 }])
  await ok(keys.operator, 'PUT', '/v1/meters', [{ meter: 'M1', account: '0001001', from: '2024-01-01' }])
  await signIn()
})
afterAll(async () => {
  await stop?.()
  await sms.close()
  await mail.close()
  await db.close()
  rmSync(dir, { recursive: true, force: true })
})

describe('a member on a hot day', () => {
  it.each([['sms', PHONE, () => sms.received.map((t) => ({ to: t.to, text: t.body }))],
    ['email', MAIL, () => mail.received.map((m) => ({ to: m.to, text: m.content }))]] as const,
  )('adds an address (%s), gets a code there and activates it', async (channel, address, inbox) => {
    const consent = { categories: ['usage'], text: 'Tell me when I use much.', via: 'portal' }
    const contact = await ok<Contact>(keys.member, 'POST', '/v1/accounts/0001001/contacts', { channel, address, consent })
    expect(contact.state).toBe('pending')
    expect(contact.address).not.toContain(address.slice(0, -4))
    await expect.poll(inbox, { timeout: 10_000 }).toHaveLength(1)
    expect(inbox()[0].to).toBe(address)
    const code = /\b\d{6}\b/.exec(inbox()[0].text)?.[0]
    expect(await ok(keys.member, 'POST', `/v1/accounts/0001001/contacts/${contact.id}/verify`, { code })).toMatchObject({ state: 'active' })
    contacts[channel] = contact.id
  })

  it('sets 60 kWh a day, by text and mail', async () => {
    const given = Object.values(contacts)
    expect(await ok(keys.member, 'POST', '/v1/accounts/0001001/thresholds', { kind: 'day-usage', limit: 60, contacts: given }))
      .toMatchObject({ kind: 'day-usage', limit: 60, unit: 'kWh', version: 1, contacts: given })
  })

  it('hears nothing while the day stays below it', async () => {
    await startAt(DAY, '17:46')
    expect(await push(0, 64)).toMatchObject({ stored: 64, alerts: { raised: 0, retracted: 0 } })
    for (let slot = 64; slot < 70; slot++) expect(await push(slot, slot + 1)).toMatchObject({ stored: 1, alerts: { raised: 0, retracted: 0 } })
    expect(await told()).toEqual([])
    expect(await alerts()).toEqual([])
  })

  it('gets one text and one mail when 17:45 is past 60, and sees why under alerts', async () => {
    expect(await push(70, 71)).toMatchObject({ stored: 1, alerts: { raised: 1, retracted: 0 } })
    await expect.poll(told, { timeout: 10_000 }).toEqual(sent('alert'))
    expect(sms.received.slice(1)).toEqual([{ to: PHONE, from: '+15125550000', body: expect.stringMatching(/^Pine Co-op: Lake cabin: 60\.2 kWh used on Jul 29, limit 60\. Passed Jul 29, 5:45 PM\./) as string }])
    expect(mail.received.slice(1).map((m) => m.to)).toEqual([MAIL])
    expect(mail.received[1].content).toMatch(/^Subject: Lake cabin: more than 60 kWh in a day/m)
    expect(await alerts()).toMatchObject([{
      kind: 'day-usage', state: 'raised', limit: 60, value: 60.2, unit: 'kWh', crossedAt: at(71), period: { start: at(0), end: `${NEXT}T00:00:00-05:00` },
      messages: expect.arrayContaining(['sms', 'email'].map((channel): object => expect.objectContaining({ channel, state: 'sent' }) as object)) as object }])
  })

  it('is not told again as the evening goes on, nor when reads come twice', async () => {
    await startAt(DAY, '20:31')
    for (let slot = 71; slot < 82; slot++) expect(await push(slot, slot + 1)).toMatchObject({ stored: 1, alerts: { raised: 0, retracted: 0 } })
    expect(await push(60, 82)).toMatchObject({ stored: 0, duplicate: 22, alerts: { raised: 0, retracted: 0 } })
    await startAt(NEXT, '10:00')
    await signIn()
    expect(await push(82, 96)).toMatchObject({ stored: 14, alerts: { raised: 0, retracted: 0 } })
    expect(await told()).toEqual(sent('alert'))
    expect([sms.received.length, mail.received.length]).toEqual([2, 2])
    expect(await alerts()).toMatchObject([{ state: 'raised', crossedAt: at(71) }])
  })

  it('is told in one short correction each when the utility corrects a faulty read', async () => {
    const correction = { reads: [{ meter: 'M1', start: at(FAULTY_SLOT), intervalSeconds: 900, values: [1.5], quality: 'edited' }] }
    expect(await ok(keys.headEnd, 'POST', '/v1/reads', correction)).toMatchObject({ corrected: 1, alerts: { raised: 0, retracted: 1 } })
    await expect.poll(told, { timeout: 10_000 }).toEqual([...sent('alert'), ...sent('correction')])
    expect(await alerts()).toMatchObject([{
      state: 'retracted', value: 59.7, history: [{ state: 'raised', value: 60.2 }, { state: 'retracted', value: 59.7 }] }])
    expect(sms.received.slice(2)).toEqual([{ to: PHONE, from: '+15125550000', body: expect.stringMatching(/^Pine Co-op: Lake cabin: correction: 59\.7 kWh used on Jul 29, not above your limit 60\./) as string }])
    expect(sms.received[2].body.length).toBeLessThanOrEqual(160)
    expect(mail.received.slice(2).map((m) => m.to)).toEqual([MAIL])
    expect(mail.received[2].content).toMatch(/^Subject: Correction for Lake cabin/m)
    // The same correction again changes nothing and tells nobody.
    expect(await ok(keys.headEnd, 'POST', '/v1/reads', correction)).toMatchObject({ duplicate: 1, alerts: { raised: 0, retracted: 0 } })
    expect(await told()).toEqual([...sent('alert'), ...sent('correction')])
    expect([sms.received.length, mail.received.length]).toEqual([3, 3])
    expect((await call(keys.member, 'GET', '/v1/messages')).status).toBe(403)
  })
})
