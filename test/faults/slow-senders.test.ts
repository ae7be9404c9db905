import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { testDatabase, type TestDatabase } from '../database.js'
import { Caller } from './caller.js'
import { cleanUp, engineFolder, operatorKey, startEngine, until, type EngineProcess } from './engine-process.js'

const MB = 1024 * 1024
const BODY_TIMEOUT_S = 3

const dir = engineFolder()
const engines: EngineProcess[] = []
let db: TestDatabase
let caller: Caller
let key: string

beforeAll(async () => {
  db = await testDatabase()
  engines.push(await startEngine(dir, {
    DATABASE_URL: db.url, ATOMIC_MB: '2', MAX_BODY_MB: '8', MAX_INFLIGHT_MB: '4', BODY_TIMEOUT_SECONDS: String(BODY_TIMEOUT_S) }))
  key = operatorKey(dir)
  caller = new Caller(engines[0].url, key)
  await caller.json('PUT', '/v1/accounts', [{ account: 'A1' }])
  await caller.json('PUT', '/v1/meters', [{ meter: 'S1', account: 'A1', from: '2020-01-01T00:00:00Z' }])
})

afterAll(async () => {
  caller.close()
  await cleanUp(dir, engines)
  await db.close()
})

const inflight = (): Promise<number> => caller.metric('meterline_ingest_inflight_bytes')

/** A push that announces so many bytes and sends none of them yet. */
async function announce(bytes: number): Promise<{ socket: Socket; answered: () => string }> {
  const { hostname, port } = new URL(engines[0].url)
  const socket = connect(Number(port), hostname)
  let text = ''
  socket.on('error', () => undefined).on('data', (chunk: Buffer) => { text += chunk.toString('latin1') })
  await once(socket, 'connect')
  socket.write(`POST /v1/reads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/x-ndjson\r\nContent-Length: ${bytes}\r\n\r\n`)
  return { socket, answered: () => text }
}

const line = (day: number): string =>
  `${JSON.stringify({ meter: 'S1', start: new Date(Date.UTC(2026, 0, 1 + day)).toISOString(), intervalSeconds: 3600, values: [0.5, 0.25] })}\n`

test('senders that announce much and send little hold no memory for it: others are let in, and they get 408', async () => {
  const stalled = await Promise.all([0, 1].map(() => announce(2 * MB)))
  const trickle = setInterval(() => { for (const { socket } of stalled) socket.write(' ') }, 100)
  try {
    await until('the bound is taken', async () => await inflight() >= 4 * MB, 5000)
    expect((await caller.push(line(0), { 'content-type': 'application/x-ndjson' })).status).toBe(429)
    await until('it is given back', async () => await inflight() < MB, 5000)
    expect((await caller.push(line(0), { 'content-type': 'application/x-ndjson' })).body).toMatchObject({ stored: 2 })
    await until('both are answered', () => stalled.every(({ answered }) => answered().includes('body-too-slow')), 10_000)
    for (const { answered } of stalled) expect(answered()).toMatch(/^HTTP\/1\.1 408 /)
  } finally {
    clearInterval(trickle)
    for (const { socket } of stalled) socket.destroy()
  }
  await until('nothing is held', async () => await inflight() === 0)
  expect(await caller.metric('meterline_ingest_refused_total{reason="too-slow"}')).toBe(2)
})

test('a slow line that keeps the least pace is waited for', async () => {
  const lines = Array.from({ length: 40 }, (_, i) => line(i).trimEnd().padEnd(6 * 1024 - 1)).join('\n')
  const { socket, answered } = await announce(lines.length)
  for (let from = 0; from < lines.length; from += 12 * 1024) {
    expect(answered()).toBe('')
    socket.write(lines.slice(from, from + 12 * 1024))
    await delay(BODY_TIMEOUT_S * 1000 / 8)
  }
  await until('it is answered', () => answered().includes('"received":80'))
  socket.destroy()
})
