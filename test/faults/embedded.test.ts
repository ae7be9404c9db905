import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openPool } from '../../engine/store/db.js'
import { Caller } from './caller.js'
import { cleanUp, engineFolder, lives, operatorKey, postmasterOf, spawnEngine, startEngine, until, type EngineProcess } from './engine-process.js'
import { Fleet, lateZone } from './fleet.js'
import { verifyFleet, verifyUsage } from './verify.js'

const CLIENTS = 20
const DAY_S = 86_400

/** C5 on the embedded database, whose files are really flushed: the program, the server and both are killed under load. */
describe('the embedded default under load', () => {
  const nowMs = Date.now()
  const { zone, offsetS } = lateZone(nowMs)
  const todayS = Math.floor((nowMs / 1000 + offsetS) / DAY_S) * DAY_S - offsetS
  const dir = engineFolder()
  const engines: EngineProcess[] = []
  let engine: EngineProcess
  let caller: Caller
  let fleet: Fleet

  const start = async (): Promise<void> => {
    engine = await startEngine(dir, { UTILITY_ZONE: zone })
    engines.push(engine)
  }
  const verify = async (): Promise<void> => {
    const { port, password } = JSON.parse(readFileSync(join(dir, 'embedded.json'), 'utf8')) as { port: number; password: string }
    const pool = openPool(`postgres://meterline:${password}@127.0.0.1:${port}/meterline`, 1, 'meterline test', () => undefined)
    try {
      await verifyFleet(pool, fleet)
    } finally {
      await pool.end()
    }
    const day = (s: number): string => new Date((s + offsetS) * 1000).toISOString().slice(0, 10)
    await verifyUsage(caller, fleet, CLIENTS, day(todayS - 10 * DAY_S), day(todayS + DAY_S), offsetS)
  }

  beforeAll(async () => {
    await start()
    const key = operatorKey(dir)
    caller = new Caller(() => engine.url, key)
    fleet = new Fleet({ clients: CLIENTS, seed: 18, url: () => engine.url, key, todayS, nowS: Math.floor(nowMs / 1000), days: 6 })
    await fleet.register(caller)
  })

  afterAll(async () => {
    caller.close()
    await cleanUp(dir, engines)
  })

  test('the database is killed: pushes get 503 with Retry-After, and go on by themselves once it is back', async () => {
    fleet.start()
    await delay(800)
    const postmaster = postmasterOf(dir)!
    process.kill(postmaster, 'SIGKILL')
    await until('a push is answered 503', () => fleet.unavailable > 0)
    const acknowledged = fleet.acknowledged.length
    await until('pushes settle again', () => fleet.acknowledged.length > acknowledged + 2 * CLIENTS)
    await fleet.stop()
    expect(postmasterOf(dir)).not.toBe(postmaster)
    expect(lives(engine.pid)).toBe(true)
    expect((await caller.call('GET', '/readyz')).status).toBe(200)
    await verify()
  })

  test('kill -9 of the program alone: the next start adopts its database', async () => {
    const postmaster = postmasterOf(dir)!
    fleet.start()
    await delay(500)
    engine.kill('SIGKILL')
    await engine.exited
    expect(lives(postmaster)).toBe(true)
    await start()
    expect(postmasterOf(dir)).toBe(postmaster)
    expect(engine.log.map((line) => line.msg)).toContain('adopted the embedded database that an earlier process left running')
    await delay(300)
    await fleet.stop()
    await verify()
  })

  test('kill -9 of the program and the database at once: the next start recovers', async () => {
    const postmaster = postmasterOf(dir)!
    fleet.start()
    await delay(500)
    process.kill(postmaster, 'SIGKILL')
    engine.kill('SIGKILL')
    await engine.exited
    await start()
    await delay(300)
    await fleet.stop()
    await verify()
  })

  test('SIGTERM under load: what was accepted is settled and answered, the database stops last, and the exit code is 0', async () => {
    fleet.start()
    await delay(500)
    const postmaster = postmasterOf(dir)!
    const began = Date.now()
    engine.kill('SIGTERM')
    expect(await engine.exited).toEqual({ code: 0, signal: null })
    expect(Date.now() - began).toBeLessThan(20_000)
    expect(lives(postmaster)).toBe(false)
    expect(engine.log.filter((line) => line.level >= 50)).toEqual([])
    await start()
    await fleet.stop()
    await verify()
  })

  test('a port that is taken is said, with exit code 1, and the running one is left alone', async () => {
    const second = spawnEngine(dir, { PORT: new URL(engine.url).port, UTILITY_ZONE: zone })
    engines.push(second)
    expect(await second.exited).toEqual({ code: 1, signal: null })
    expect(second.said.join('\n')).toMatch(/PORT \d+ on 127\.0\.0\.1 is taken by another program: stop it, or set PORT to a free one/)
    expect((await caller.call('GET', '/readyz')).status).toBe(200)
  })

  test('a second SIGTERM ends it at once with exit code 1, and the next start goes on with its database', async () => {
    fleet.start()
    await delay(300)
    engine.kill('SIGTERM')
    await until('it is stopping', () => engine.log.some((line) => line.msg === 'stopping'))
    engine.kill('SIGTERM')
    const { code } = await engine.exited
    expect(code).toBe(1)
    await start()
    await fleet.stop()
    await verify()
  })
})
