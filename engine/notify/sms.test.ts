import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSmsTransport } from './sms.js'
import { messageView } from './render.js'
import type { SendOutcome } from './transport.js'

const view = messageView({ t: 'code', code: '123456', minutes: 10 }, {
  language: 'en', category: 'usage', utility: { name: null, phone: null, links: {} }, unsubscribeUrl: null })
let gateway: Server
let url: string
let answer: (request: IncomingMessage, response: ServerResponse) => void
let seen: { path: string; authorization: string; body: string }[]
let connections: number

beforeEach(async () => {
  seen = []
  connections = 0
  gateway = createServer((request, response) => {
    void text(request).then((body) => {
      seen.push({ path: request.url ?? '', authorization: request.headers.authorization ?? '', body })
      answer(request, response)
    })
  })
  gateway.on('connection', () => connections++)
  await new Promise<void>((ready) => {
    gateway.listen(0, '127.0.0.1', ready)
  })
  url = `http://127.0.0.1:${(gateway.address() as AddressInfo).port}`
})
afterEach(async () => {
  gateway.closeAllConnections()
  await new Promise((closed) => {
    gateway.close(closed)
  })
})

function send(handOver = true, timeoutMs = 2_000): Promise<SendOutcome> {
  return createSmsTransport({ url, account: 'AC1', token: 'secret', from: '+15125550000' }).send(
    { messageId: 'm1', channel: 'sms', to: '+15125550123', view: { ...view, sms: 'used & more' }, chart: null },
    () => Promise.resolve(handOver), AbortSignal.timeout(timeoutMs))
}

describe('an SMS', () => {
  it('is posted to the gateway as its API wants it', async () => {
    answer = (_request, response) => response.writeHead(201).end('{"sid":"SM1"}')
    expect(await send()).toEqual({ state: 'sent' })
    expect(await send()).toEqual({ state: 'sent' })
    expect(connections).toBe(2)
    seen.pop()
    expect(seen).toEqual([{
      path: '/2010-04-01/Accounts/AC1/Messages.json', authorization: `Basic ${Buffer.from('AC1:secret').toString('base64')}`,
      body: 'To=%2B15125550123&From=%2B15125550000&Body=used+%26+more' }])
  })

  it.each([[429, 'retry'], [503, 'retry'], [400, 'failed'], [401, 'failed'], [500, 'unknown'], [302, 'unknown']])('answered with %i is %s', async (status, state) => {
    answer = (_request, response) => response.writeHead(status, { location: `${url}/elsewhere` }).end()
    expect(await send()).toMatchObject({ state })
    expect(seen).toHaveLength(1)
  })

  it('without an answer is unknown; with no gateway there it is tried again', async () => {
    answer = () => undefined
    expect(await send(true, 100)).toMatchObject({ state: 'unknown' })
    answer = (request) => request.socket.destroy()
    expect(await send()).toMatchObject({ state: 'unknown' })
    await new Promise((closed) => {
      gateway.close(closed)
      gateway.closeAllConnections()
    })
    expect(await send()).toEqual({ state: 'retry', reason: 'sms ECONNREFUSED' })
    gateway.listen(0, '127.0.0.1')
  })

  it('that was withdrawn is not posted', async () => {
    expect(await send(false)).toEqual({ state: 'withdrawn' })
    expect(seen).toEqual([])
  })
})
