import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { testDatabase, type TestDatabase } from '../database.js'
import { Caller, type Answer } from './caller.js'
import { cleanUp, engineFolder, operatorKey, startEngine, until, type EngineProcess } from './engine-process.js'
import { TcpProxy } from './proxy.js'

/** DATABASE_TIMEOUT_SECONDS here; by default it is 30. */
const TIMEOUT_S = 2
/** A statement's time-out, the look-up that follows, the wait for a connection, and room for a busy machine. */
const BOUND_MS = 25_000

const dir = engineFolder()
const engines: EngineProcess[] = []
let db: TestDatabase
let proxy: TcpProxy
let engine: EngineProcess
let caller: Caller

beforeAll(async () => {
  db = await testDatabase()
  proxy = await TcpProxy.listen(db.url)
  engine = await startEngine(dir, { DATABASE_URL: proxy.url, UTILITY_ZONE: 'Etc/UTC', DATABASE_TIMEOUT_SECONDS: String(TIMEOUT_S) })
  engines.push(engine)
  caller = new Caller(engine.url, operatorKey(dir))
  await caller.json('PUT', '/v1/accounts', [{ account: 'A1' }])
  await caller.json('PUT', '/v1/meters', Array.from({ length: 20 }, (_, i) => ({ meter: `H${i}`, account: 'A1', from: '2020-01-01T00:00:00Z' })))
})

afterEach(() => proxy.reset())

afterAll(async () => {
  caller.close()
  await cleanUp(dir, engines)
  await proxy.close()
  await db.close()
})

const block = (meter: string, value = 0.125): object => ({
  reads: [{ meter, start: '2026-10-01T00:00:00Z', intervalSeconds: 900, values: Array<number>(96).fill(value) }] })

async function timed(call: Promise<Answer>): Promise<Answer & { ms: number }> {
  const began = performance.now()
  const answer = await call
  return { ...answer, ms: performance.now() - began }
}

function isToldToWait(answer: Answer & { ms: number }): void {
  expect(answer.status, answer.text).toBe(503)
  expect(String(answer.body.code)).toMatch(/^database-(unavailable|busy)$/)
  expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0)
  expect(answer.ms).toBeLessThan(BOUND_MS)
}

async function goesOn(meter: string): Promise<void> {
  await until('it is ready', async () => (await caller.call('GET', '/readyz')).status === 200)
  await until('pushes settle', async () => (await caller.push(block(meter))).status === 200)
  const { rows: [{ n, wh }] } = await db.pool.query<{ n: number; wh: number }>(
    `select sum(present)::int as n, sum(total * 10::numeric ^ (exponent + 3))::int as wh from channel_day
       join channel using (channel_id) join meter using (meter_id) where id = $1`, [meter])
  expect({ n, wh }).toEqual({ n: 96, wh: 12_000 })
  expect((await caller.call('GET', '/v1/accounts/A1/usage?resolution=day&from=2026-10-01&to=2026-10-02')).status).toBe(200)
}

describe('the database falls silent, and no connection is closed', () => {
  for (const [name, ways] of [['both ways', ['out', 'back']], ['on the way out', ['out']], ['on the way back', ['back']]] as const) {
    test(`${name}: pushes, questions and /readyz are answered 503 in bounded time, and it goes on by itself`, async () => {
      const meter = `H${ways.length + (ways[0] === 'out' ? 0 : 5)}`
      // So that there are connections to fall silent.
      expect((await caller.push(block('H0'))).status).toBe(200)
      proxy.silence(...ways)
      const asked = Promise.all([
        timed(caller.push(block(meter))), timed(caller.push(block(meter), { 'idempotency-key': `key ${name}` })),
        timed(caller.call('GET', '/v1/accounts/A1/usage?resolution=day&from=2026-10-01&to=2026-10-02')),
        timed(caller.json('PUT', '/v1/accounts', [{ account: 'A2' }]).then(() => { throw new Error('it was answered') }, () => caller.call('GET', '/healthz'))),
      ])
      const ready = await timed(caller.call('GET', '/readyz'))
      expect(ready.body).toEqual({ ok: false, reasons: ['the database cannot be reached'] })
      expect(ready.ms).toBeLessThan(BOUND_MS / 2)
      const [push, keyed, usage, alive] = await asked
      isToldToWait(push)
      isToldToWait(keyed)
      isToldToWait(usage)
      expect(alive.status).toBe(200)
      proxy.heal()
      await goesOn(meter)
      expect((await caller.push(block(meter), { 'idempotency-key': `key ${name}` })).body).toMatchObject({ received: 96 })
    })
  }

  test('the answer to a COMMIT is lost: the delivery is looked up, and acknowledged with its receipt', async () => {
    const lost = proxy.loseAnswerTo('commit\0')
    const answer = await timed(caller.push(block('H10')))
    await lost
    expect(answer.status, answer.text).toBe(200)
    expect(answer.body).toMatchObject({ received: 96, stored: 96 })
    expect((await db.pool.query('select from delivery where delivery_id = $1', [answer.body.delivery])).rowCount).toBe(1)
    await goesOn('H10')
  })

  test('a transaction whose client is gone without a word is ended by the server: its locks hold nobody up for ever', async () => {
    // What follows this statement never comes: the transaction stays open, with the registry lock and the meter's channel.
    const stuck = timed(caller.push(block('H11')))
    const lost = proxy.loseAnswerTo('insert into delivery')
    await lost
    isToldToWait(await stuck)
    const write = await timed(caller.call('PUT', '/v1/accounts', JSON.stringify([{ account: 'A3' }]), { 'content-type': 'application/json' }))
    if (write.status !== 200) isToldToWait(write)
    await until('the registry can be written', async () =>
      (await caller.call('PUT', '/v1/accounts', JSON.stringify([{ account: 'A3' }]), { 'content-type': 'application/json' })).status === 200)
    await goesOn('H11')
  })

  test('messages are sent once the database answers again', async () => {
    await caller.json('POST', '/v1/accounts/A1/contacts', {
      channel: 'email', address: 'member@example.org', consent: { categories: ['usage'], text: 'yes', via: 'test' } })
    proxy.silence('out', 'back')
    const made = await timed(caller.call('POST', '/v1/accounts/A1/contacts', JSON.stringify({
      channel: 'email', address: 'other@example.org', consent: { categories: ['usage'], text: 'yes', via: 'test' } }), { 'content-type': 'application/json' }))
    isToldToWait(made)
    proxy.reset()
    await until('it is ready', async () => (await caller.call('GET', '/readyz')).status === 200)
    await until('the code is captured', async () =>
      (await db.pool.query(`select from message where state in ('pending', 'sending')`)).rowCount === 0
        && (await db.pool.query(`select from message where state = 'captured'`)).rowCount! > 0)
  })
})
