import { randomUUID } from 'node:crypto'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testDatabase, type TestDatabase } from '../database.js'
import { mailServer, type MailServer } from '../mail-server.js'
import { Caller } from './caller.js'
import { cleanUp, engineFolder, operatorKey, startEngine, until, type EngineProcess } from './engine-process.js'

interface Message {
  id: string
  channel: string
  state: string
  error: string | null
  attempts: number
}

/** No message is lost, none is told twice but by an operator's word, whatever the servers do and whenever the process dies. */
describe('a real process that tells members', () => {
  const dir = engineFolder()
  const engines: EngineProcess[] = []
  let db: TestDatabase
  let mail: MailServer
  let gateway: Server
  let texts: string[] = []
  let answer: (response: ServerResponse) => void = (response) => void response.writeHead(201).end('{}')
  let engine: EngineProcess
  let caller: Caller
  let accounts = 0

  const start = async (): Promise<void> => {
    engine = await startEngine(dir, {
      DATABASE_URL: db.url, SMTP_URL: mail.url, MAIL_FROM: 'alerts@coop.example', PUBLIC_URL: 'https://meterline.coop.example',
      SMS_URL: `http://127.0.0.1:${(gateway.address() as AddressInfo).port}`, SMS_ACCOUNT: 'AC1', SMS_TOKEN: 'a token', SMS_FROM: '+15125550000' })
    engines.push(engine)
  }
  const crash = async (): Promise<void> => {
    engine.kill('SIGKILL')
    await engine.exited
  }
  /** Tells a new account's contacts something. Service messages know no quiet hours. */
  const tell = async (channels: ('email' | 'sms')[]): Promise<string> => {
    const account = `A${accounts++}`
    await caller.json('PUT', '/v1/accounts', [{ account }])
    await caller.json('PUT', '/v1/contacts', { contacts: channels.map((channel) => ({
      account, channel, address: channel === 'email' ? `${account}@example.com` : `+15125551${String(accounts).padStart(3, '0')}`,
      consent: { categories: ['service'] }, verifiedAt: '2024-01-01T00:00:00Z' })) })
    const told = await caller.call('POST', '/v1/notices', JSON.stringify({
      category: 'service', template: 'general', params: { text: 'Crew on the way.' }, audience: { accounts: [account] } }),
    { 'content-type': 'application/json', 'idempotency-key': randomUUID() })
    expect(told.body).toMatchObject({ messages: channels.length })
    return account
  }
  const messages = async (account: string): Promise<Message[]> =>
    (await caller.json<{ items: Message[] }>('GET', `/v1/messages?account=${account}`)).items.sort((a, b) => a.channel.localeCompare(b.channel))
  const states = async (account: string): Promise<string[]> => (await messages(account)).map((m) => m.state)
  const come = (account: string, expected: string[]): Promise<void> =>
    until(`${account} is ${expected.join(', ')}`, async () => (await states(account)).join() === expected.join(), 40_000)

  beforeAll(async () => {
    db = await testDatabase()
    mail = await mailServer()
    gateway = createServer((request, response) => {
      void text(request).then((body) => {
        texts.push(body)
        answer(response)
      })
    })
    await new Promise<void>((ready) => {
      gateway.listen(0, '127.0.0.1', ready)
    })
    await start()
    caller = new Caller(() => engine.url, operatorKey(dir))
  }, 60_000)
  afterAll(async () => {
    caller.close()
    await cleanUp(dir, engines)
    await mail.close()
    gateway.closeAllConnections()
    await new Promise((closed) => {
      gateway.close(closed)
    })
    await db.close()
  })

  test('killed between hand-over and record: nobody knows, nothing is sent again but by an operator', async () => {
    mail.behaviour = { end: 'hang' }
    answer = () => undefined
    const account = await tell(['email', 'sms'])
    await until('both servers have it', () => mail.received.length === 1 && texts.length === 1)
    await crash()
    mail.behaviour = {}
    answer = (response) => void response.writeHead(201).end('{}')
    await start()
    await come(account, ['unknown', 'unknown'])
    expect([mail.received.length, texts.length]).toEqual([1, 1])
    const [first] = await messages(account)
    expect(await caller.json('POST', '/v1/messages/replay', {})).toEqual({ replayed: 0 })
    expect(await caller.json('POST', '/v1/messages/replay', { message: first.id })).toEqual({ replayed: 1 })
    await come(account, ['sent', 'unknown'])
    expect([mail.received.length, texts.length]).toEqual([2, 1])
    // The receiver can tell: both carry one Message-ID.
    expect(new Set(mail.received.map((m) => m.messageId)).size).toBe(1)
    const headers = mail.received[0].content.replaceAll(/\r?\n[ \t]+/g, ' ')
    expect(headers).toMatch(/^List-Unsubscribe: <https:\/\/meterline\.coop\.example\/u\/[\w-]+>$/m)
    expect(headers).toMatch(/^List-Unsubscribe-Post: List-Unsubscribe=One-Click$/m)
  }, 90_000)

  test('killed before hand-over: the next sends it, once', async () => {
    mail.received.length = 0
    let isAsked = false
    mail.behaviour = {
      onRcpt: () => {
        isAsked = true
        return new Promise(() => undefined)
      },
    }
    const account = await tell(['email'])
    await until('the server is asked for the recipient', () => isAsked)
    await crash()
    mail.behaviour = {}
    await start()
    await come(account, ['sent'])
    expect(mail.received).toHaveLength(1)
  }, 90_000)

  test('refused for good: a dead letter that an operator sees and sends again', async () => {
    mail.received.length = 0
    texts = []
    mail.behaviour = { data: 554 }
    answer = (response) => void response.writeHead(400).end('{}')
    const account = await tell(['email', 'sms'])
    await come(account, ['failed', 'failed'])
    const dead = await caller.json<{ items: Message[] }>('GET', '/v1/messages?state=failed')
    expect(dead.items.map((m) => m.error).sort()).toEqual(['sms http 400', expect.stringMatching(/^smtp EMESSAGE 554/) as string])
    mail.behaviour = {}
    answer = (response) => void response.writeHead(201).end('{}')
    expect(await caller.json('POST', '/v1/messages/replay', {})).toEqual({ replayed: 2 })
    await come(account, ['sent', 'sent'])
    expect([mail.received.length, texts.length]).toEqual([1, 2])
  }, 60_000)

  test('an address that the server does not know is bounced: nothing more goes to it', async () => {
    mail.received.length = 0
    mail.behaviour = { rcpt: 550 }
    const account = await tell(['email'])
    await come(account, ['failed'])
    await until('the contact is bounced', async () =>
      (await caller.json<{ items: { state: string }[] }>('GET', `/v1/accounts/${account}/contacts`)).items[0].state === 'bounced')
    mail.behaviour = {}
    await caller.json('POST', '/v1/messages/replay', {})
    await come(account, ['dropped'])
    expect(mail.received).toEqual([])
  }, 60_000)
})
