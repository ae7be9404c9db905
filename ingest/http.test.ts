import { gzipSync } from 'node:zlib'
import { Registry } from 'prom-client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { pushRoute } from '../api/routes/reads.js'
import { testServer, type TestServer } from '../test/api-server.js'
import { testDatabase, type TestDatabase } from '../test/database.js'
import { Caller, countsOf } from '../test/faults/caller.js'
import { until } from '../test/faults/engine-process.js'
import { VersionSequence } from '../engine/versions.js'
import { registerPushDoor } from './http.js'
import { IngestMetrics } from './metrics.js'
import { IngestPool } from './pool.js'

const MB = 1024 * 1024
let db: TestDatabase
let server: TestServer
let pool: IngestPool
let registry: Registry
let operator: Caller
let url: string
const callers: Caller[] = []
let nowMs = Date.now()

beforeAll(async () => {
  db = await testDatabase()
  registry = new Registry()
  const metrics: IngestMetrics = new IngestMetrics(registry, () => pool.inflightBytes, () => pool.queued)
  pool = new IngestPool({
    workers: 2, maxInflightBytes: 64 * MB, metrics, onMessages: () => undefined, onFault: () => undefined,
    settings: { databaseUrl: db.url, secretKey: new Uint8Array(32), atomicBytes: 8 * MB, toleranceS: 120, clockOffsetMs: 0 },
  })
  server = testServer(db.pool, {
    bodyRoutes: [(scope) => registerPushDoor(scope, { pool, metrics, atomicBytes: 8 * MB, maxBodyBytes: 16 * MB, bodyTimeoutMs: 30_000, versions: new VersionSequence(db.pool), now: () => nowMs, route: pushRoute })],
  })
  url = await server.app.listen({ host: '127.0.0.1', port: 0 })
  operator = caller(await server.key('coop', 'operator', { installation: true }))
  await operator.json('PUT', '/v1/utilities/coop', { zone: 'America/Chicago' })
  await operator.json('PUT', '/v1/meters', Array.from({ length: 200 }, (_, i) => ({ meter: `M${i}` })))
})

afterAll(async () => {
  for (const c of callers) c.close()
  await server.app.close()
  await pool.close()
  await db.close()
})

function caller(key: string): Caller {
  const made = new Caller(url, key)
  callers.push(made)
  return made
}

let day = 0
/** A body with one day's block of a meter; each call another day. */
function body(meter = 'M0', values: (number | null)[] = [0.5, 0.25]): { reads: object[] } {
  return { reads: [{ meter, start: new Date(Date.UTC(2025, 0, 1 + day++)).toISOString(), intervalSeconds: 900, values }] }
}

async function metric(name: string): Promise<number> {
  const line = (await registry.metrics()).split('\n').find((text) => text.startsWith(`${name} `))
  return line === undefined ? 0 : Number(line.slice(name.length + 1))
}

describe('who may push for what', () => {
  test('a head-end key pushes for its own name, or for its sources; else 403 and nothing is kept', async () => {
    const plain = caller(await server.key('coop', 'head-end', { name: 'ami-1' }))
    const bound = caller(await server.key('coop', 'head-end', { name: 'ami-2', sources: ['north', 'south'] }))
    expect((await plain.push(body())).body).toMatchObject({ source: 'ami-1', stored: 2 })
    expect((await plain.push(body(), { 'x-source': 'ami-1' })).status).toBe(200)
    expect((await plain.push(body(), { 'x-source': 'north' })).body).toMatchObject({ status: 403, code: 'source-not-allowed' })
    expect((await bound.push(body(), { 'x-source': 'south' })).body).toMatchObject({ source: 'south' })
    const own = await bound.push(body())
    expect(own.body).toMatchObject({ status: 403, code: 'source-not-allowed', help: 'It may for: north, south' })
    expect((await operator.push(body(), { 'x-source': 'anything' })).body).toMatchObject({ source: 'anything' })
    const { rows } = await db.pool.query<{ name: string }>('select distinct s.name from delivery join source s using (source_id) order by 1')
    expect(rows.map((row) => row.name)).toEqual(['ami-1', 'anything', 'south'])
  })

  test('other roles may not push at all', async () => {
    for (const role of ['portal', 'viewer', 'notify'] as const) {
      expect((await caller(await server.key('coop', role)).push(body())).status).toBe(403)
    }
    expect((await new Caller(url, 'mk_none').push(body())).status).toBe(401)
  })

  test('keys, sources and meters of two utilities are apart', async () => {
    const other = caller(await server.key('other', 'operator', { installation: true }))
    await other.json('PUT', '/v1/utilities/other', { zone: 'Europe/Amsterdam' })
    const pushed = body()
    const keyed = { 'idempotency-key': 'shared', 'x-source': 'shared' }
    const first = await operator.push(pushed, keyed)
    expect(first.body).toMatchObject({ stored: 2 })
    expect((await other.push(pushed, keyed)).body).toMatchObject({ quarantined: 2, problems: [{ code: 'unknown-meter' }] })
    expect((await other.call('GET', `/v1/deliveries/${String(first.body.delivery)}`)).status).toBe(404)
  })
})

describe('versions', () => {
  test('a correction wins though every clock was set back since, and deliveries go by the month of the clock', async () => {
    const at = (value: number): object => ({ reads: [{ meter: 'M190', start: '2024-06-01T05:00:00Z', intervalSeconds: 900, values: [value] }] })
    expect((await operator.push(at(1))).body).toMatchObject({ stored: 1 })
    // The process's clock an hour back, and the database's: where its versions stand an hour ahead of it.
    nowMs -= 3_600_000
    await db.pool.query(`select setval('delivery_version', last_value + 3600000000) from delivery_version`)
    expect((await operator.push(at(2))).body).toMatchObject({ corrected: 1 })
    expect((await operator.push(at(3))).body).toMatchObject({ corrected: 1 })
    // Half a year ahead, where no partitions have been made yet.
    nowMs += 182 * 86_400_000
    const ahead = await operator.push(at(4))
    expect(ahead.body, ahead.text).toMatchObject({ corrected: 1 })
    nowMs = Date.now()
    expect((await operator.push(at(5))).body).toMatchObject({ corrected: 1 })
  })

  test('X-Version decides over the order of arrival; an identical body keeps the version it first came with', async () => {
    const start = '2024-05-01T05:00:00Z'
    const at = (value: number): object => ({ reads: [{ meter: 'M7', start, intervalSeconds: 900, values: [value] }] })
    expect((await operator.push(at(1), { 'x-version': '2024-05-03T00:00:00Z' })).body).toMatchObject({ stored: 1 })
    expect((await operator.push(at(2), { 'x-version': '2024-05-02T00:00:00Z' })).body).toMatchObject({ outranked: 1 })
    expect((await operator.push(at(3))).body).toMatchObject({ corrected: 1 })
    nowMs += 1000
    expect((await operator.push(at(4))).body).toMatchObject({ corrected: 1 })
    nowMs += 1000
    expect((await operator.push(at(3))).body).toMatchObject({ outranked: 1 })
  })
})

describe('bodies', () => {
  test('the same reads as JSON, NDJSON, CSV and gzip, with and without a length', async () => {
    const start = '2024-06-01T05:00:00Z'
    const block = { meter: 'M9', start, intervalSeconds: 900, values: [0.5, 0.25] }
    const bodies: [string | Buffer, Record<string, string>][] = [
      [JSON.stringify({ reads: [block] }), {}],
      [JSON.stringify([block]), { 'transfer-encoding': 'chunked' }],
      [`${JSON.stringify(block)}\n`, { 'content-type': 'application/x-ndjson' }],
      [`meter,start,value,intervalSeconds\nM9,${start},0.5,900\nM9,2024-06-01T05:15:00Z,0.25,900\n`, { 'content-type': 'text/csv' }],
      [gzipSync(JSON.stringify({ reads: [block] })), { 'content-encoding': 'gzip' }],
      [gzipSync(JSON.stringify({ reads: [block] })), { 'content-encoding': 'x-gzip', 'transfer-encoding': 'chunked' }],
      [JSON.stringify({ reads: [block] }), { 'content-encoding': 'identity', 'content-type': 'application/octet-stream' }],
    ]
    const receipts = []
    for (const [bytes, headers] of bodies) receipts.push((await operator.push(bytes, headers)).body)
    expect(receipts.map((r) => [r.received, r.stored, r.duplicate])).toEqual([[2, 2, 0], ...Array.from({ length: 6 }, () => [2, 0, 2])])
    const { rows } = await db.pool.query<{ n: number; hashes: number }>(
      'select count(*) as n, count(sha256) as hashes from delivery where delivery_id = any($1::uuid[])', [receipts.map((r) => r.delivery)])
    expect(rows[0]).toEqual({ n: 7, hashes: 7 })
  })

  test('a refused body leaves the connection usable, and gives its memory back', async () => {
    const one = caller(await server.key('coop', 'head-end', { name: 'ami-3' }))
    for (let i = 0; i < 3; i++) {
      expect((await one.push(Buffer.alloc(17 * MB, ' '))).status).toBe(413)
      expect((await one.push('{')).status).toBe(400)
      expect((await one.push(body())).status).toBe(200)
    }
    expect(pool.inflightBytes).toBe(0)
  })
})

test('200 concurrent small pushes share transactions; each has its own receipt', async () => {
  const before = { sum: await metric('meterline_ingest_group_deliveries_sum'), count: await metric('meterline_ingest_group_deliveries_count') }
  const pushes = Array.from({ length: 200 }, (_, i) => ({ meter: `M${i}`, values: Array<number>(1 + i % 7).fill(0.125) }))
  const many = caller(await server.key('coop', 'operator', { name: 'many' }))
  const client = await db.pool.connect()
  await client.query('begin; lock table channel_day in access exclusive mode')
  const answers = pushes.map(({ meter, values }) => many.push(body(meter, values)))
  await until('they have all come', async () => await metric('meterline_ingest_inflight_bytes') >= 200 * 16 * 1024)
  await client.query('rollback')
  client.release()
  const receipts = await Promise.all(answers)
  receipts.forEach((answer, i) => {
    expect(answer.status, answer.text).toBe(200)
    expect(countsOf(answer.body)).toMatchObject({ received: pushes[i].values.length, stored: pushes[i].values.length })
  })
  expect(new Set(receipts.map((answer) => answer.body.delivery)).size).toBe(200)
  expect(await metric('meterline_ingest_group_deliveries_sum') - before.sum).toBe(200)
  expect(await metric('meterline_ingest_group_deliveries_count') - before.count).toBeLessThan(20)
  for (const answer of receipts) {
    const kept = await operator.json<Record<string, unknown>>('GET', `/v1/deliveries/${String(answer.body.delivery)}`)
    expect(kept).toMatchObject(answer.body)
  }
})
