import { readFileSync } from 'node:fs'
import { Registry } from 'prom-client'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { authenticateHeadEnd } from '../api/auth.js'
import { multispeakRoute } from '../api/routes/multispeak.js'
import { VersionSequence } from '../engine/versions.js'
import { testServer, type TestServer } from '../test/api-server.js'
import { testDatabase, type TestDatabase } from '../test/database.js'
import { IngestMetrics } from './metrics.js'
import { registerMultiSpeakDoor } from './multispeak-door.js'
import { IngestPool } from './pool.js'
import { soapHead } from './soap.js'

const MB = 1024 * 1024
const notification = readFileSync(new URL('../fixtures/formats/multispeak-registers.xml', import.meta.url), 'utf8')
const intervals = readFileSync(new URL('../fixtures/formats/multispeak-intervals.xml', import.meta.url), 'utf8').replace(/^<\?xml.*\?>/, '')

let db: TestDatabase
let server: TestServer
let pool: IngestPool
let url: string
let headEnd: string
let viewer: string

beforeAll(async () => {
  db = await testDatabase()
  const metrics: IngestMetrics = new IngestMetrics(new Registry(), () => pool.inflightBytes, () => pool.queued)
  pool = new IngestPool({
    workers: 1, maxInflightBytes: 64 * MB, metrics, onMessages: () => undefined, onFault: () => undefined,
    settings: { databaseUrl: db.url, secretKey: new Uint8Array(32), atomicBytes: 8 * MB, toleranceS: 120, clockOffsetMs: 0 },
  })
  server = testServer(db.pool, {
    openRoutes: [(scope) => registerMultiSpeakDoor(scope, {
      pool, metrics, atomicBytes: 8 * MB, maxBodyBytes: 16 * MB, bodyTimeoutMs: 30_000, versions: new VersionSequence(db.pool),
      now: () => Date.parse('2026-11-20T00:00:00Z'), route: multispeakRoute,
      authenticate: (authorization) => authenticateHeadEnd(scope.authenticator, authorization),
    })],
  })
  url = await server.app.listen({ host: '127.0.0.1', port: 0 })
  const operator = await server.key('coop', 'operator', { installation: true })
  headEnd = await server.key('coop', 'head-end', { name: 'ami' })
  viewer = await server.key('coop', 'viewer')
  await server.call(operator, 'PUT', '/v1/utilities/coop', { zone: 'America/Chicago' })
  await server.call(operator, 'PUT', '/v1/meters', ['M1001', 'M1002', 'M1003', 'M1004'].map((meter) => ({ meter })))
})

afterAll(async () => {
  await server.app.close()
  await pool.close()
  await db.close()
})

async function send(body: string, headers: Record<string, string> = {}): Promise<{ status: number; text: string; header: Headers }> {
  const answer = await fetch(`${url}/multispeak`, { method: 'POST', body, headers: { 'content-type': 'text/xml; charset=utf-8', ...headers } })
  expect(answer.headers.get('content-type')).toBe('text/xml; charset=utf-8')
  return { status: answer.status, text: await answer.text(), header: answer.headers }
}

function soap(body: string, password = ''): string {
  return `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header>`
    + `<MultiSpeakMsgHeader xmlns="http://www.multispeak.org/Version_4.1_Release" UserID="ami" Pwd="${password}"/></s:Header>`
    + `<s:Body>${body}</s:Body></s:Envelope>`
}

const PING = '<PingURL xmlns="http://www.multispeak.org/Version_3.0"/>'

describe('POST /multispeak', () => {
  it('settles a notification as one delivery and answers with what it could not settle', async () => {
    const { status, text } = await send(notification, { authorization: `Bearer ${headEnd}` })
    expect(status).toBe(200)
    expect(text).toContain('<ReadingChangedNotificationResponse xmlns="http://www.multispeak.org/Version_3.0"><ReadingChangedNotificationResult>')
    expect(text.match(/<errorObject /g)?.length).toBe(4)
    expect(text).toContain('<errorObject objectID="record 8" errorString="time-missing: The reading has no readingDate.')
    const { rows: deliveries } = await db.pool.query('select received, stored, quarantined, format from delivery')
    expect(deliveries).toEqual([{ received: 14, stored: 10, quarantined: 4, format: 'multispeak' }])
    const { rows } = await db.pool.query<{ value: string }>(
      `select trim_scale(value)::text as value from register_read join meter using (meter_id)
        where id = 'M1001' and quantity = 1 and flow = 1 and tou = ''`)
    expect(rows).toEqual([{ value: '51234' }])
  })

  it('answers success with an empty array, and the same message again with the same', async () => {
    const reading = '<ReadingChangedNotification xmlns="http://www.multispeak.org/Version_4.1_Release"><changedMeterReads><meterReading>'
      + '<meterID meterNo="M1003"/><readingValues><readingValue><units>kWh</units><value>1600</value><timeStamp>2026-07-02T00:00:00Z</timeStamp>'
      + '</readingValue></readingValues></meterReading></changedMeterReads></ReadingChangedNotification>'
    for (let i = 0; i < 2; i++) {
      const { status, text } = await send(soap(reading, headEnd))
      expect(status).toBe(200)
      expect(text).toContain('<ReadingChangedNotificationResponse xmlns="http://www.multispeak.org/Version_4.1_Release">'
        + '<ReadingChangedNotificationResult></ReadingChangedNotificationResult></ReadingChangedNotificationResponse>')
    }
    const { rows } = await db.pool.query('select stored, duplicate from delivery order by delivery_no offset 1')
    expect(rows).toEqual([{ stored: 1, duplicate: 0 }, { stored: 0, duplicate: 1 }])
  })

  it('stores interval data where usage finds it', async () => {
    const { status, text } = await send(soap(intervals), { authorization: `Basic ${Buffer.from(`ami:${headEnd}`).toString('base64')}` })
    expect(status).toBe(200)
    expect(text).toContain('<IntervalDataNotificationResponse')
    const usage = await server.call(viewer, 'GET', '/v1/meters/M1001/usage?from=2026-07-01&to=2026-07-02&resolution=day')
    expect(usage.json()).toMatchObject({ total: { delivered: 0.39, received: 0.019 } })
  })

  it('answers PingURL and GetMethods', async () => {
    const authorization = `Bearer ${headEnd}`
    expect((await send(soap(PING), { authorization })).text).toContain('<PingURLResult></PingURLResult>')
    expect((await send(soap('<m:GetMethods xmlns:m="http://www.multispeak.org/Version_4.1_Release"/>'), { authorization })).text)
      .toContain('<string>IntervalDataNotification</string>')
  })

  it('refuses with faults', async () => {
    const cases: [string, Record<string, string>, number, string, string][] = [
      [soap(PING), {}, 401, 'Client', 'missing-credentials'],
      [soap(PING, 'mk_wrong'), {}, 401, 'Client', 'invalid-credentials'],
      [soap(PING, viewer), {}, 403, 'Client', 'role-too-small'],
      [soap('<GetAllMeters xmlns="x"/>', headEnd), {}, 500, 'Client', 'unsupported-method'],
      ['<feed/>', { authorization: `Bearer ${headEnd}` }, 500, 'Client', 'malformed-xml'],
      ['', { authorization: `Bearer ${headEnd}` }, 500, 'Client', 'malformed-xml'],
      [`<!DOCTYPE a []>${soap(PING, headEnd).slice(21)}`, {}, 500, 'Client', 'malformed-xml'],
      [notification.slice(0, -40), { authorization: `Bearer ${headEnd}` }, 500, 'Client', 'malformed-xml'],
    ]
    for (const [body, headers, status, who, code] of cases) {
      const answer = await send(body, headers)
      expect([answer.status, code]).toEqual([status, code])
      expect(answer.text).toContain(`<faultcode>soap:${who}</faultcode>`)
      expect(answer.text).toContain(`<code xmlns="urn:meterline:problem">${code}</code>`)
    }
  })
})

describe('the head of a message', () => {
  it('is read without the rest', () => {
    const text = soap('<a:PingURL xmlns:a="urn:a">&lt;', 'p&amp;w')
    expect(soapHead(new TextEncoder().encode(text.slice(0, text.indexOf('&lt;'))))).toEqual({ operation: 'PingURL', namespace: 'urn:a', password: 'p&w', version: '' })
  })
})
