import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { testDatabase, type TestDatabase } from '../database.js'
import { Caller } from './caller.js'
import { cleanUp, engineFolder, operatorKey, startEngine, until, type EngineProcess } from './engine-process.js'
import { TcpProxy } from './proxy.js'

const MB = 1024 * 1024
const BOUND_MB = 3
const CALLERS = 30

const dir = engineFolder()
const engines: EngineProcess[] = []
let db: TestDatabase
let proxy: TcpProxy
let caller: Caller

beforeAll(async () => {
  db = await testDatabase()
  proxy = await TcpProxy.listen(db.url)
  engines.push(await startEngine(dir, { DATABASE_URL: proxy.url, ATOMIC_MB: '1', MAX_BODY_MB: '2', MAX_INFLIGHT_MB: String(BOUND_MB) }))
  caller = new Caller(engines[0].url, operatorKey(dir))
  await caller.json('PUT', '/v1/accounts', [{ account: 'A1' }])
  await caller.json('PUT', '/v1/meters', Array.from({ length: CALLERS }, (_, i) => ({ meter: `W${i}`, account: 'A1', from: '2020-01-01T00:00:00Z' })))
})

afterAll(async () => {
  caller.close()
  await cleanUp(dir, engines)
  await proxy.close()
  await db.close()
})

function rss(): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${engines[0].pid}/status`, 'utf8'))![1]) * 1024
}

/** A body of about 200 KB: 40 days of one meter, padded. */
function body(meter: string): string {
  const values = JSON.stringify(Array<number>(24).fill(0.5))
  return Array.from({ length: 40 }, (_, day) =>
    `{"meter":"${meter}","start":"${new Date(Date.UTC(2026, 0, 1 + day)).toISOString()}","intervalSeconds":3600,"values":${values}}`.padEnd(5000)).join('\n')
}

test('a database that is slow: what is over the memory bound waits outside, memory stays flat, and everybody gets in', async () => {
  await caller.push(body('W0'), { 'content-type': 'application/x-ndjson' })
  const before = rss()
  let most = 0
  let refused = 0
  let sampling = true
  const sampled = (async () => {
    for (; sampling; await delay(100)) {
      most = Math.max(most, rss())
      expect(await caller.metric('meterline_ingest_inflight_bytes')).toBeLessThanOrEqual(BOUND_MB * MB)
    }
  })()
  proxy.delay(30)
  await Promise.all(Array.from({ length: CALLERS }, async (_, i) => {
    const own = new Caller(engines[0].url, operatorKey(dir))
    try {
      await until('it is let in', async () => {
        const answer = await own.push(body(`W${i}`), { 'content-type': 'application/x-ndjson' })
        if (answer.status === 200) return true
        expect([429, 503], answer.text).toContain(answer.status)
        expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0)
        refused++
        return false
      }, 45_000)
    } finally {
      own.close()
    }
  }))
  sampling = false
  await sampled
  expect(refused).toBeGreaterThan(0)
  expect(most - before).toBeLessThan(120 * MB)
  const { rows: [{ n }] } = await db.pool.query<{ n: number }>('select sum(present)::int as n from channel_day')
  expect(n).toBe(CALLERS * 40 * 24)
})
