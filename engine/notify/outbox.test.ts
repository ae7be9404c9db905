import { randomUUID } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { alertFixture, sealer, secrets, type AlertFixture } from '../../test/alert-fixture.js'
import { takeAnyDay, testDatabase, type TestDatabase } from '../../test/database.js'
import { mailServer, silentServer, type MailServer } from '../../test/mail-server.js'
import { inTransaction } from '../store/db.js'
import { getZone } from '../time/zone.js'
import { evaluateThresholds } from '../thresholds/evaluate.js'
import { beginHandOver, endAttempt, giveUpLostHandOvers, leaseMessages } from './outbox-store.js'
import { startOutbox, type Outbox, type OutboxOptions } from './outbox.js'
import { createSmtpTransport } from './smtp.js'
import { byChannel, captureTransport, type Transport } from './transport.js'

// Fresh, so that what is raised is told at once.
const DAY = getZone('America/Chicago').dayOf(Date.now() / 1000)
const log = { warn: vi.fn(), error: vi.fn() }

let db: TestDatabase
let f: AlertFixture
let mail: MailServer
let outboxes: Outbox[]

beforeAll(async () => {
  db = await testDatabase()
  await takeAnyDay(db)
})
afterAll(async () => db.close())
beforeEach(async () => {
  f = await alertFixture(db.pool)
  mail = await mailServer()
  outboxes = []
  log.warn.mockClear()
  log.error.mockClear()
})
afterEach(async () => {
  // A hanging server is cut first: stop() waits for what was handed over.
  await mail.close()
  await Promise.all(outboxes.map((o) => o.stop()))
  await db.pool.query('delete from message')
})

function smtp(url = mail.url, timeoutMs = 2_000): Transport {
  return byChannel({ email: createSmtpTransport({ url, from: 'Lakeside <alerts@lakeside.example>', connections: 4, timeoutMs }), sms: captureTransport })
}

function start(options: Partial<OutboxOptions> = {}): Outbox {
  const outbox = startOutbox({
    pool: db.pool, transport: options.transport ?? smtp(), secrets, log, now: Date.now, pollMs: 20, backoffMs: 20, ...options })
  outboxes.push(outbox)
  return outbox
}

/** An account whose day stands above its limit, and a way to move it. */
async function watchedAccount(): Promise<{ accountId: number; contact: string; above(isAbove: boolean): Promise<void> }> {
  const { accountId } = await f.account({ nickname: 'Lake cabin' })
  const { channelId } = await f.meter(accountId)
  await f.threshold(accountId)
  const contact = await f.contact(accountId)
  return {
    accountId,
    contact,
    async above(isAbove) {
      await f.block(channelId, DAY, new Array<number>(96).fill(isAbove ? 1000 : 100))
      await inTransaction(db.pool, (client) => evaluateThresholds(client, {
        utilityId: f.utilityId, zone: f.zone, days: new Map([[accountId, [DAY]]]), history: false, deliveryId: null, now: new Date(), secrets }))
    },
  }
}

interface Row {
  message_id: string
  purpose: string
  state: string
  attempts: number
  last_error: string | null
  alert_step: number
}

async function rows(contact: string): Promise<Row[]> {
  const found = await db.pool.query<Row>(
    'select message_id, purpose, state, attempts, last_error, alert_step from message where contact_id = $1 order by alert_step', [contact])
  return found.rows
}

async function states(contact: string): Promise<string[]> {
  return (await rows(contact)).map((r) => `${r.purpose} ${r.state}`)
}

async function until(contact: string, expected: string[]): Promise<void> {
  await vi.waitFor(async () => expect(await states(contact)).toEqual(expected), { timeout: 10_000, interval: 20 })
}

describe('the outbox', () => {
  it('sends a message once, under its own Message-ID, however many outboxes look', async () => {
    const accounts = await Promise.all(Array.from({ length: 20 }, watchedAccount))
    for (const a of accounts) await a.above(true)
    for (let i = 0; i < 4; i++) start()
    for (const a of accounts) await until(a.contact, ['alert sent'])
    expect(mail.received).toHaveLength(20)
    expect(new Set(mail.received.map((m) => m.to)).size).toBe(20)
    const [row] = await rows(accounts[0].contact)
    const sent = mail.received.find((m) => m.messageId === `<${row.message_id}@lakeside.example>`)
    expect(sent?.content).toContain('Subject: Lake cabin: more than 60 kWh in a day')
    expect(sent?.content).toContain('Auto-Submitted: auto-generated')
  })

  it('captures messages where there is no mail server', async () => {
    const a = await watchedAccount()
    await a.above(true)
    start({ transport: captureTransport })
    await until(a.contact, ['alert captured'])
  })

  it('tries again with growing delays after a temporary refusal, and gives up in the end', async () => {
    const a = await watchedAccount()
    await a.above(true)
    mail.behaviour = { rcpt: 451 }
    start({ maxAttempts: 3 })
    await until(a.contact, ['alert failed'])
    expect(await rows(a.contact)).toMatchObject([{ attempts: 3, last_error: 'smtp EENVELOPE 451 5.1.1' }])
    expect(mail.received).toEqual([])
    expect(JSON.stringify(log.warn.mock.calls)).not.toContain('example.com')
  })

  it('sends after a temporary refusal that passed', async () => {
    const a = await watchedAccount()
    await a.above(true)
    mail.behaviour = { data: 452 }
    start()
    await vi.waitFor(async () => expect((await rows(a.contact))[0].attempts).toBeGreaterThan(1), { timeout: 10_000 })
    mail.behaviour = {}
    await until(a.contact, ['alert sent'])
    expect(mail.received).toHaveLength(1)
  })

  it.each([{ rcpt: 550 }, { data: 554 }])('does not try again after a permanent refusal: %j', async (behaviour) => {
    const a = await watchedAccount()
    await a.above(true)
    mail.behaviour = behaviour
    start()
    await until(a.contact, ['alert failed'])
    expect(await rows(a.contact)).toMatchObject([{ attempts: 1 }])
  })

  it.each(['hang', 'cut'] as const)('takes a message as unknown, and never sends it again, when the server does %s after it', async (end) => {
    const a = await watchedAccount()
    await a.above(true)
    mail.behaviour = { end }
    start({ transport: smtp(mail.url, 300) })
    await until(a.contact, ['alert unknown'])
    mail.behaviour = {}
    await new Promise((done) => setTimeout(done, 200))
    expect(mail.received).toHaveLength(1)
    expect(await states(a.contact)).toEqual(['alert unknown'])
  })

  it('tries again when a server does not greet, or cannot be reached', async () => {
    const a = await watchedAccount()
    await a.above(true)
    const silent = await silentServer()
    const first = start({ transport: smtp(silent.url, 150) })
    await vi.waitFor(async () => expect((await rows(a.contact))[0].attempts).toBeGreaterThan(1), { timeout: 10_000 })
    await first.stop()
    await silent.close()
    const closed = start({ transport: smtp(silent.url) })
    const before = (await rows(a.contact))[0].attempts
    await vi.waitFor(async () => expect((await rows(a.contact))[0].attempts).toBeGreaterThan(before), { timeout: 10_000 })
    await closed.stop()
    expect(await states(a.contact)).toEqual(['alert pending'])
    start()
    await until(a.contact, ['alert sent'])
  })

  it('stops without waiting for a server that was not given anything yet', async () => {
    const a = await watchedAccount()
    await a.above(true)
    const silent = await silentServer()
    const outbox = start({ transport: smtp(silent.url, 60_000) })
    await vi.waitFor(async () => expect(await states(a.contact)).toEqual(['alert sending']), { timeout: 5_000 })
    const began = Date.now()
    await outbox.stop()
    expect(Date.now() - began).toBeLessThan(2_000)
    expect(await states(a.contact)).toEqual(['alert pending'])
    await silent.close()
  })

  it('waits for what was handed over when it stops', async () => {
    const a = await watchedAccount()
    await a.above(true)
    let release = (): void => undefined
    const held = new Promise<void>((done) => {
      release = done
    })
    let arrived = false
    mail.behaviour = {
      onData: async () => {
        arrived = true
        await held
      },
    }
    const outbox = start()
    await vi.waitFor(() => expect(arrived).toBe(true), { timeout: 5_000 })
    const stopped = outbox.stop()
    release()
    await stopped
    expect(await states(a.contact)).toEqual(['alert sent'])
  })
})

describe('a crash', () => {
  const past = new Date(Date.now() - 60_000)

  it('between lease and hand-over: the message is sent by the next', async () => {
    const a = await watchedAccount()
    await a.above(true)
    expect(await leaseMessages(db.pool, randomUUID(), 10, new Date(), past)).toHaveLength(1)
    expect(await states(a.contact)).toEqual(['alert sending'])
    start()
    await until(a.contact, ['alert sent'])
    expect(mail.received).toHaveLength(1)
  })

  it('after hand-over: nobody knows, and the message is not sent again', async () => {
    const a = await watchedAccount()
    await a.above(true)
    const lease = randomUUID()
    const [message] = await leaseMessages(db.pool, lease, 10, new Date(), new Date(Date.now() + 60_000))
    expect(await beginHandOver(db.pool, [message.message_id], lease, new Date(), past)).toBe(true)
    start()
    await until(a.contact, ['alert unknown'])
    expect(mail.received).toEqual([])
  })

  it('that was none: who lost the lease may not hand over, and who had handed over corrects "unknown"', async () => {
    const a = await watchedAccount()
    await a.above(true)
    const now = new Date()
    const soon = new Date(Date.now() + 60_000)
    const [slow, fast] = [randomUUID(), randomUUID()]
    const [message] = await leaseMessages(db.pool, slow, 10, now, past)
    await leaseMessages(db.pool, fast, 10, now, soon)
    expect(await beginHandOver(db.pool, [message.message_id], slow, now, soon)).toBe(false)
    expect(await beginHandOver(db.pool, [message.message_id], fast, now, past)).toBe(true)
    expect(await beginHandOver(db.pool, [message.message_id], fast, now, past)).toBe(false)
    await giveUpLostHandOvers(db.pool, now)
    expect(await states(a.contact)).toEqual(['alert unknown'])
    await endAttempt(db.pool, [message.message_id], fast, { event: 'accepted', nextAt: now, error: null, isCounted: true }, now)
    expect(await states(a.contact)).toEqual(['alert sent'])
  })
})

describe('a retraction', () => {
  it('before the server was given the message withdraws it, even within the attempt', async () => {
    const a = await watchedAccount()
    await a.above(true)
    mail.behaviour = { onRcpt: () => a.above(false) }
    start()
    await until(a.contact, ['alert dropped'])
    await new Promise((done) => setTimeout(done, 100))
    expect(mail.received).toEqual([])
  })

  it('after the server was given the message is followed by one correction', async () => {
    const a = await watchedAccount()
    await a.above(true)
    let isFirst = true
    mail.behaviour = {
      onData: async () => {
        if (isFirst) await a.above(false)
        isFirst = false
      },
    }
    start()
    await until(a.contact, ['alert sent', 'correction sent'])
    expect(mail.received.map((m) => /^Subject: (\w+)/m.exec(m.content)?.[1])).toEqual(['Lake', 'Correction'])
  })

  it('is not told when the message it corrects was refused in the end', async () => {
    const a = await watchedAccount()
    await a.above(true)
    mail.behaviour = { data: 554, onData: () => a.above(false) }
    start()
    await until(a.contact, ['alert failed', 'correction dropped'])
    expect(mail.received).toEqual([])
  })

  it('that is undone while the message is with the server leaves the telling to the next step', async () => {
    const a = await watchedAccount()
    await a.above(true)
    let isFirst = true
    mail.behaviour = {
      data: 451,
      onData: async () => {
        if (!isFirst) return
        isFirst = false
        await a.above(false)
        await a.above(true)
        mail.behaviour = { ...mail.behaviour, data: undefined }
      },
    }
    start()
    await until(a.contact, ['alert dropped', 'correction dropped', 'alert sent'])
    expect(mail.received).toHaveLength(1)
  })

  it('of a message that is refused for now leaves nothing to send', async () => {
    const a = await watchedAccount()
    await a.above(true)
    mail.behaviour = { data: 451, onData: () => a.above(false) }
    start()
    await until(a.contact, ['alert dropped', 'correction dropped'])
    expect(mail.received).toEqual([])
  })
})

describe('a contact', () => {
  it('that is not active gets nothing but its code, and a code that ran out is dropped', async () => {
    const { accountId } = await f.account()
    const contact = await f.contact(accountId, { state: 'pending' })
    const write = async (purpose: string): Promise<void> => {
      const id = randomUUID()
      await db.pool.query(
        `insert into message (message_id, utility_id, account_id, contact_id, purpose, channel, body_enc, state) values ($1, $2, $3, $4, $5, 'email', $6, 'pending')`,
        [id, f.utilityId, accountId, contact, purpose, sealer.seal('message', id, JSON.stringify({ t: 'code', code: '123456', minutes: 10 }))])
    }
    await db.pool.query(`update contact set code_expires = now() + interval '10 minutes' where contact_id = $1`, [contact])
    await write('alert')
    await write('code')
    const outbox = start()
    await vi.waitFor(async () => expect((await states(contact)).sort()).toEqual(['alert dropped', 'code sent']), { timeout: 5_000 })
    // A code is not kept once it went out.
    const { rows: kept } = await db.pool.query<{ n: number }>(`select octet_length(body_enc) as n from message where purpose = 'code'`)
    expect(kept).toEqual([{ n: 0 }])
    await db.pool.query(`update contact set code_expires = now() - interval '1 second' where contact_id = $1`, [contact])
    await write('code')
    outbox.wake()
    await vi.waitFor(async () => expect((await states(contact)).sort()).toEqual(['alert dropped', 'code dropped', 'code sent']), { timeout: 5_000 })
    expect(mail.received).toHaveLength(1)
  })

  it('whose address was sealed under another key is failed, not tried for ever', async () => {
    const a = await watchedAccount()
    await a.above(true)
    start({ secrets: { secretKey: new Uint8Array(32).fill(8) } })
    await until(a.contact, ['alert failed'])
  })
})
