import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testDatabase, type TestDatabase } from '../database.js'
import { Caller } from './caller.js'
import { cleanUp, engineFolder, operatorKey, startEngine, until, type EngineProcess } from './engine-process.js'
import { Fleet, lateZone, seeded } from './fleet.js'
import { verifyAlerts, verifyFleet, verifyUsage, type Limits } from './verify.js'

const CLIENTS = 20
const DAY_S = 86_400
// More rounds with another seed: FAULT_ROUNDS=50 FAULT_SEED=7 npx vitest run test/faults/crash.test.ts
const SEED = Number(process.env.FAULT_SEED ?? 20_261_122)
const ROUNDS = Number(process.env.FAULT_ROUNDS ?? 4)
const LIMITS: Limits = { 'day-usage': 30.001, 'period-usage': 160.001 }

/** C5: nothing acknowledged is lost, nothing is doubled, whatever is killed, while 20 clients push. */
describe('a process killed under load', () => {
  const nowMs = Date.now()
  const { zone, offsetS } = lateZone(nowMs)
  const todayS = Math.floor((nowMs / 1000 + offsetS) / DAY_S) * DAY_S - offsetS
  const dir = engineFolder()
  const engines: EngineProcess[] = []
  let db: TestDatabase
  let engine: EngineProcess
  let caller: Caller
  let fleet: Fleet

  const start = async (): Promise<void> => {
    engine = await startEngine(dir, { DATABASE_URL: db.url, UTILITY_ZONE: zone })
    engines.push(engine)
  }

  beforeAll(async () => {
    db = await testDatabase()
    await start()
    caller = new Caller(() => engine.url, operatorKey(dir))
    fleet = new Fleet({
      clients: CLIENTS, seed: SEED, url: () => engine.url, key: operatorKey(dir), todayS, nowS: Math.floor(nowMs / 1000), days: 6 })
    await fleet.register(caller)
    for (let id = 0; id < CLIENTS; id++) {
      for (const [kind, limit] of Object.entries(LIMITS)) await caller.json('POST', `/v1/accounts/${Fleet.account(id)}/thresholds`, { kind, limit })
    }
    for (let id = 0; id < 4; id++) await activeContact(caller, Fleet.account(id), `member${id}@example.org`)
  })

  afterAll(async () => {
    caller.close()
    await cleanUp(dir, engines)
    await db.close()
  })

  test('kill -9 of the program, again and again: every acknowledged read is there once, no receipt is false, no alert is doubled', async () => {
    const random = seeded(SEED)
    fleet.start()
    for (let round = 0; round < ROUNDS; round++) {
      const before = fleet.acknowledged.length
      await until('pushes settle', () => fleet.acknowledged.length > before)
      await delay(random() * 1200)
      engine.kill('SIGKILL')
      await engine.exited
      await start()
    }
    await until('pushes settle', () => fleet.acknowledged.length > 20 * ROUNDS)
    await fleet.stop()
    expect(fleet.broken).toBeGreaterThan(0)
    await verifyFleet(db.pool, fleet)
    const day = (s: number): string => new Date((s + offsetS) * 1000).toISOString().slice(0, 10)
    await verifyUsage(caller, fleet, CLIENTS, day(todayS - 10 * DAY_S), day(todayS + DAY_S), offsetS)
    await verifyAlerts(db.pool, fleet, CLIENTS, LIMITS, todayS, offsetS)
  }, 60_000 + ROUNDS * 5000)

  test('connections ended by the database under load: pushes wait or get 503, and go on by themselves', async () => {
    const before = fleet.acknowledged.length
    const log = engine.log.length
    fleet.start()
    for (let round = 0; round < 6; round++) {
      await delay(150)
      await db.pool.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name like 'meterline%' and application_name <> 'meterline test'`)
    }
    await delay(300)
    await fleet.stop()
    expect(fleet.acknowledged.length).toBeGreaterThan(before)
    await verifyFleet(db.pool, fleet)
    await verifyAlerts(db.pool, fleet, CLIENTS, LIMITS, todayS, offsetS)
    expect(engine.log.slice(log).filter((line) => line.msg === 'a push could not be settled' || line.level >= 60)).toEqual([])
  })

  test('messages of the outbox are handed over, each once, whatever was killed', async () => {
    const states = async (): Promise<Record<string, number>> => {
      const { rows } = await db.pool.query<{ state: string; n: number }>(
        `select state, count(*) as n from message where purpose <> 'code' group by state`)
      return Object.fromEntries(rows.map((row) => [row.state, row.n]))
    }
    await until('nothing is pending', async () => (await states()).pending === undefined)
    // What a killed process had under way waits for its lease to run out.
    await until('nothing is being sent', async () => {
      const { pending, sending } = await states()
      return pending === undefined && sending === undefined
    })
    expect(Object.keys(await states()).filter((state) => !['captured', 'dropped', 'unknown'].includes(state))).toEqual([])
  })
})

/** A contact that is told of alerts: verified with the code of the captured message. */
async function activeContact(caller: Caller, account: string, address: string): Promise<void> {
  const { id } = await caller.json<{ id: string }>('POST', `/v1/accounts/${account}/contacts`, {
    channel: 'email', address, consent: { categories: ['usage'], text: 'yes', via: 'test' } })
  let code = ''
  await until('the code is captured', async () => {
    const { items } = await caller.json<{ items: { purpose: string; text: string | null }[] }>('GET', `/v1/messages?account=${account}&state=captured`)
    code = /\b\d{6}\b/.exec(items.find((m) => m.purpose === 'code')?.text ?? '')?.[0] ?? ''
    return code !== ''
  })
  await caller.json('POST', `/v1/accounts/${account}/contacts/${id}/verify`, { code })
}
