import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'

export interface ReceivedText {
  to: string
  from: string
  body: string
}

export interface SmsGateway {
  readonly url: string
  readonly received: ReceivedText[]
  close(): Promise<void>
}

/** A Twilio-compatible Messages API on loopback that takes every text of this account, and refuses anybody else's. */
export async function smsGateway(account: string, token: string): Promise<SmsGateway> {
  const received: ReceivedText[] = []
  const authorization = `Basic ${Buffer.from(`${account}:${token}`).toString('base64')}`
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      const known = request.method === 'POST' && request.url === `/2010-04-01/Accounts/${account}/Messages.json`
      if (!known || request.headers.authorization !== authorization) {
        response.writeHead(known ? 401 : 404).end()
        return
      }
      const form = new URLSearchParams(body)
      received.push({ to: form.get('To') ?? '', from: form.get('From') ?? '', body: form.get('Body') ?? '' })
      response.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify({ sid: `SM${received.length}`, status: 'queued' }))
    }).catch(() => response.destroy())
  })
  await new Promise<void>((ready) => {
    server.listen(0, '127.0.0.1', ready)
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    async close() {
      server.closeAllConnections()
      await new Promise((closed) => {
        server.close(closed)
      })
    },
  }
}
