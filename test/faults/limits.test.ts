import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openPool, type Pool } from '../../engine/store/db.js'
import { testDatabase, type TestDatabase } from '../database.js'
import { Caller, countsOf, type Answer } from './caller.js'
import { cleanUp, engineFolder, operatorKey, startEngine, until, type EngineProcess } from './engine-process.js'

const MB = 1024 * 1024
const dir = engineFolder()
const engines: EngineProcess[] = []
let db: TestDatabase
let engine: EngineProcess
let caller: Caller
let key: string

beforeAll(async () => {
  db = await testDatabase()
  engine = await startEngine(dir, {
    DATABASE_URL: db.url, UTILITY_ZONE: 'Etc/UTC', ATOMIC_MB: '1', MAX_BODY_MB: '6', MAX_INFLIGHT_MB: '4', SHUTDOWN_SECONDS: '6' })
  engines.push(engine)
  key = operatorKey(dir)
  caller = new Caller(() => engine.url, key)
  await caller.json('PUT', '/v1/accounts', [{ account: 'A1' }])
  await caller.json('PUT', '/v1/meters', Array.from({ length: 40 }, (_, i) => ({ meter: `L${i}`, account: 'A1', from: '2020-01-01T00:00:00Z' })))
})

afterAll(async () => {
  caller.close()
  await cleanUp(dir, engines)
  await db.close()
})

/** NDJSON of whole days of 24 reads, padded to 700 bytes a line: many bytes that settle fast. */
function days(meter: string, count: number, value = 0.125): string[] {
  const values = JSON.stringify(Array<number>(24).fill(value))
  return Array.from({ length: count }, (_, i) =>
    `{"meter":"${meter}","start":"${new Date(Date.UTC(2020, 0, 1 + i)).toISOString()}","intervalSeconds":3600,"values":${values}}`.padEnd(699))
}

async function present(meter: string): Promise<number> {
  const { rows: [{ n }] } = await db.pool.query<{ n: number }>(
    'select coalesce(sum(present), 0)::int as n from channel_day join channel using (channel_id) join meter using (meter_id) where id = $1', [meter])
  return n
}

/** Resident bytes of the program, its workers included. */
function rss(): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${engine.pid}/status`, 'utf8'))![1]) * 1024
}

const ndjson = { 'content-type': 'application/x-ndjson' }

/** A connection of our own: what a well-behaved client library would never send. */
async function rawSocket(head: string): Promise<{ socket: Socket; answered: () => string }> {
  const { hostname, port } = new URL(engine.url)
  const socket = connect(Number(port), hostname)
  let text = ''
  socket.on('error', () => undefined).on('data', (chunk: Buffer) => { text += chunk.toString('latin1') })
  await once(socket, 'connect')
  socket.write(`POST /v1/reads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/x-ndjson\r\n${head}\r\n\r\n`)
  return { socket, answered: () => text }
}

describe('a body of several parts (ATOMIC_MB)', () => {
  test('commits part by part into one delivery, and is counted once in the metrics', async () => {
    const before = await caller.metric('meterline_ingest_reads_total{outcome="stored"}')
    const pushed = days('L0', 2000).concat(days('L1', 2000)).join('\n')
    const { status, body, text } = await caller.push(pushed, ndjson)
    expect(status, text).toBe(200)
    expect(body).toMatchObject({ complete: true, received: 96_000, stored: 96_000, problemCount: 0 })
    const { rows: [row] } = await db.pool.query<{ parts: number; complete: boolean; bytes: number; sha256: string }>(
      `select parts, complete, bytes, encode(sha256, 'hex') as sha256 from delivery where delivery_id = $1`, [body.delivery])
    expect(row).toMatchObject({ complete: true, bytes: pushed.length, sha256: createHash('sha256').update(pushed).digest('hex') })
    expect(row.parts).toBeGreaterThan(1)
    expect(await present('L0')).toBe(48_000)
    expect(await caller.metric('meterline_ingest_reads_total{outcome="stored"}')).toBe(before + 96_000)
  })

  test('breaks midway: the problem carries the receipt so far, and pushing the mended body is harmless', async () => {
    const lines = days('L2', 2500)
    const broken = `{"reads":[${lines.slice(0, 2400).join(',')},{"meter":`
    const first = await caller.push(broken)
    expect(first.status, first.text).toBe(400)
    expect(first.body).toMatchObject({ code: 'malformed-json', receipt: { complete: false } })
    const receipt = first.body.receipt as Record<string, unknown>
    expect(countsOf(receipt).stored).toBe(await present('L2'))
    const kept = await caller.json<{ complete: boolean }>('GET', `/v1/deliveries/${String(receipt.delivery)}`)
    expect(kept).toMatchObject({ complete: false, ...countsOf(receipt) })
    const second = await caller.push(`{"reads":[${lines.join(',')}]}`)
    expect(second.body).toMatchObject({ complete: true, received: 60_000, stored: 60_000 - Number(receipt.stored), duplicate: Number(receipt.stored) })
  })

  test('the sender goes away midway: what settled stays, and the rest can be pushed again', async () => {
    const lines = days('L3', 2500)
    const text = lines.join('\n')
    const { socket } = await rawSocket(`Content-Length: ${text.length}`)
    socket.write(text.slice(0, Math.floor(1.5 * MB)))
    await until('a part has settled', async () => await present('L3') > 0)
    socket.destroy()
    await until('its memory is given back', async () => await caller.metric('meterline_ingest_inflight_bytes') === 0)
    const settled = await present('L3')
    const { body } = await caller.push(text, ndjson)
    expect(body).toMatchObject({ complete: true, received: 60_000, stored: 60_000 - settled, duplicate: settled })
  })

  test('with an Idempotency-Key: the same body answers the first receipt, another one 422, an interrupted one is taken up', async () => {
    const text = days('L4', 2500).join('\n')
    const keyed = { ...ndjson, 'idempotency-key': 'large' }
    const first = await caller.push(text, keyed)
    expect(first.body).toMatchObject({ complete: true, stored: 60_000 })
    const again = await caller.push(text, keyed)
    expect(again.status, again.text).toBe(200)
    expect(again.body).toEqual(first.body)
    const other = await caller.push(`${text}\n${days('L5', 1)[0]}`, keyed)
    expect(other.status).toBe(422)
    expect(other.body.code).toBe('idempotency-key-reused')
    expect(await present('L5')).toBe(0)

    const cut = { ...ndjson, 'idempotency-key': 'cut' }
    const lines = days('L5', 2500)
    expect((await caller.push(`{"reads":[${lines.slice(0, 2300).join(',')}`, { 'content-type': 'application/json', 'idempotency-key': 'cut' })).body.code).toBe('malformed-json')
    expect((await caller.push(lines.join('\n'), cut)).status).toBe(422)
    const mended = await caller.push(lines.join('\n'), { ...ndjson, 'idempotency-key': 'mended' })
    expect(mended.body).toMatchObject({ complete: true, received: 60_000 })
  })
})

describe('a body over the limit', () => {
  const tooLarge = (answer: Answer): void => {
    expect(answer.status, answer.text).toBe(413)
    expect(answer.body).toMatchObject({ code: 'body-too-large' })
  }

  test('with a length, without one, and as gzip: 413, not a broken connection', async () => {
    const text = days('L6', 12_000).join('\n')
    expect(text.length).toBeGreaterThan(6 * MB)
    tooLarge(await caller.push(text, ndjson))
    expect(await present('L6')).toBe(0)
    const chunked = await caller.push(text, { ...ndjson, 'transfer-encoding': 'chunked' })
    tooLarge(chunked)
    expect(chunked.body).toMatchObject({ receipt: { complete: false } })
    tooLarge(await caller.push(gzipSync(text), { ...ndjson, 'content-encoding': 'gzip' }))
    expect(await caller.metric('meterline_ingest_refused_total{reason="too-large"}')).toBeGreaterThanOrEqual(3)
  })

  test('a gzip bomb is stopped at the limit, in bounded memory', async () => {
    const bomb = gzipSync(Buffer.alloc(300 * MB, ' '), { level: 9 })
    const before = rss()
    for (let i = 0; i < 3; i++) {
      const answer = await caller.push(bomb, { 'content-encoding': 'gzip' })
      expect([400, 413], answer.text).toContain(answer.status)
    }
    expect(rss() - before).toBeLessThan(150 * MB)
    expect(await caller.metric('meterline_ingest_inflight_bytes')).toBe(0)
  })
})

describe('idempotency', () => {
  const lock = async (pool: Pool): Promise<() => Promise<void>> => {
    const client = await pool.connect()
    await client.query('begin; lock table channel_day in access exclusive mode')
    return async () => {
      await client.query('rollback')
      client.release()
    }
  }

  test('same body: the first receipt; another body: 422; under way: 409 with Retry-After', async () => {
    const text = days('L7', 2).join('\n')
    const keyed = { ...ndjson, 'idempotency-key': 'small' }
    const unlock = await lock(db.pool)
    const first = caller.push(text, keyed)
    await until('it is under way', async () => await caller.metric('meterline_ingest_inflight_bytes') > 0)
    const second = await caller.push(text, keyed)
    expect(second.status).toBe(409)
    expect(second.body.code).toBe('idempotency-key-in-use')
    expect(Number(second.headers['retry-after'])).toBeGreaterThan(0)
    await unlock()
    const { body } = await first
    expect(body).toMatchObject({ stored: 48 })
    expect((await caller.push(text, keyed)).body).toEqual(body)
    expect((await caller.push(`${text}\n`, keyed)).body.code).toBe('idempotency-key-reused')
    expect((await caller.push(text, { ...keyed, 'x-source': 'another' })).body).toMatchObject({ received: 48, duplicate: 48 })
    expect((await caller.push(text, ndjson)).body).toMatchObject({ received: 48, duplicate: 48 })
  })

  test('a key is free again after a push with it was refused', async () => {
    const keyed = { ...ndjson, 'idempotency-key': 'refused' }
    expect((await caller.push('x', { ...keyed, 'content-encoding': 'br' })).status).toBe(415)
    expect((await caller.push('{"meter"', { 'content-type': 'application/json', 'idempotency-key': 'refused' })).status).toBe(400)
    expect((await caller.push(days('L8', 1)[0], keyed)).body).toMatchObject({ stored: 24 })
  })

  test('backpressure: with the database held, pushes past MAX_INFLIGHT_MB get 429 with Retry-After, and memory stays flat', async () => {
    const unlock = await lock(db.pool)
    const callers = Array.from({ length: 60 }, () => new Caller(() => engine.url, key))
    const body = days('L9', 400).join('\n')
    const all: Promise<Answer>[] = []
    const refused: Answer[] = []
    const refusedBefore = await caller.metric('meterline_ingest_refused_total{reason="inflight"}')
    const before = rss()
    try {
      for (let round = 1; round <= 4; round++) {
        for (const c of callers) {
          all.push(c.push(body, ndjson).then((answer) => {
            if (answer.status !== 200) refused.push(answer)
            return answer
          }))
        }
        // What fits is held, the rest is refused.
        await until('the rest are refused', () => refused.length >= round * callers.length - 4 * MB / body.length)
      }
      for (const answer of refused) {
        expect(answer.status, answer.text).toBe(429)
        expect(answer.body.code).toBe('too-much-in-flight')
        expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0)
      }
      const inflight = await caller.metric('meterline_ingest_inflight_bytes')
      expect(inflight).toBeGreaterThan(3 * MB)
      expect(inflight).toBeLessThanOrEqual(4 * MB)
      expect(await caller.metric('meterline_ingest_refused_total{reason="inflight"}')).toBe(refusedBefore + refused.length)
      expect(rss() - before).toBeLessThan(120 * MB)
      expect((await caller.call('GET', '/healthz')).status).toBe(200)
    } finally {
      await unlock()
    }
    const held = (await Promise.all(all)).filter((answer) => !refused.includes(answer))
    expect(held.length).toBeGreaterThan(5)
    expect(held.reduce((n, answer) => n + Number(answer.body.stored), 0)).toBe(400 * 24)
    expect(await present('L9')).toBe(400 * 24)
    expect(await caller.metric('meterline_ingest_inflight_bytes')).toBe(0)
    for (const c of callers) c.close()
  })
})

describe('senders', () => {
  test('a slow one is waited for, and holds up nobody else', async () => {
    const line = `${days('L10', 1)[0]}\n`
    const { socket, answered } = await rawSocket(`Content-Length: ${line.length}`)
    const step = Math.ceil(line.length / 20)
    const others: number[] = []
    for (let i = 0; i < line.length; i += step) {
      socket.write(line.slice(i, i + step))
      const began = performance.now()
      await caller.push(days('L11', 1)[0], ndjson)
      others.push(performance.now() - began)
      await delay(20)
    }
    await until('it is answered', () => answered().includes('"stored":24'))
    expect(Math.max(...others)).toBeLessThan(3000)
    socket.destroy()
  })

  test('one that goes away mid-body, or lies about its length, costs nothing that stays', async () => {
    for (const head of ['Content-Length: 500000', 'Transfer-Encoding: chunked', 'Content-Length: 500000\r\nContent-Encoding: gzip']) {
      const { socket } = await rawSocket(head)
      socket.write(head.startsWith('T') ? '400\r\n{"meter":' : '{"meter":')
      await delay(50)
      socket.destroy()
    }
    for (const head of ['Content-Length: 5\r\nContent-Length: 6', 'Content-Length: -1', 'Transfer-Encoding: chunked\r\nContent-Length: 5', 'Transfer-Encoding: nonsense']) {
      const { socket, answered } = await rawSocket(head)
      await until('it is answered', () => answered().startsWith('HTTP/1.1 400'))
      expect(answered()).toContain('application/problem+json')
      socket.destroy()
    }
    await until('its memory is given back', async () => await caller.metric('meterline_ingest_inflight_bytes') === 0)
    expect(engine.log.filter((line) => line.level >= 50)).toEqual([])
    expect(engine.log.filter((line) => line.msg === 'a call failed')).toEqual([])
  })
})

describe('stopping', () => {
  test('SIGTERM with a sender that stalls: the others are answered, the exit is in time and clean', async () => {
    const { socket } = await rawSocket('Content-Length: 500000')
    socket.write('{"meter":')
    const pool = openPool(db.url, 1, 'meterline test', () => undefined)
    const client = await pool.connect()
    await client.query('begin; lock table channel_day in access exclusive mode')
    const push = caller.push(days('L12', 3).join('\n'), ndjson)
    await until('it is under way', async () => {
      const { rows } = await db.pool.query<{ n: number }>(`select count(*) as n from pg_locks where not granted and relation = 'channel_day'::regclass`)
      return rows[0].n > 0
    })
    engine.kill('SIGTERM')
    await until('it is stopping', () => engine.log.some((line) => line.msg === 'stopping'))
    await client.query('rollback')
    client.release()
    await pool.end()
    expect((await push).body).toMatchObject({ stored: 72 })
    expect(await engine.exited).toEqual({ code: 0, signal: null })
    expect(await present('L12')).toBe(72)
    socket.destroy()
  })

  test('a utility without a zone says what to do, and loses nothing of it', async () => {
    engine = await startEngine(dir, { DATABASE_URL: db.url, UTILITY_ZONE: '' })
    engines.push(engine)
    await caller.json('PUT', '/v1/utilities/zoneless', {})
    const own = await caller.json<{ key: string }>('POST', '/v1/keys', { utility: 'zoneless', role: 'operator', name: 'zoneless' })
    const zoneless = new Caller(engine.url, own.key)
    const answer = await zoneless.push(days('L0', 1)[0], ndjson)
    expect(answer.status, answer.text).toBe(409)
    expect(answer.body).toMatchObject({ code: 'utility-zone-unset', help: expect.stringContaining('UTILITY_ZONE') as string })
    await caller.json('PUT', '/v1/utilities/zoneless', { zone: 'America/Denver' })
    expect((await zoneless.push(days('L0', 1)[0], ndjson)).body).toMatchObject({ quarantined: 24 })
    zoneless.close()
  })
})
