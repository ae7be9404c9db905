import { gzipSync, deflateSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testDatabase, type TestDatabase } from '../database.js'
import { Caller, countsOf, OUTCOMES, type Answer } from './caller.js'
import { cleanUp, engineFolder, operatorKey, startEngine, type EngineProcess } from './engine-process.js'

const ZONE = 'America/Chicago'
/** A good block on a day of its own for each use: what stands beside bad input and must not be lost with it. */
let goodDay = 0
function good(meter = 'G1'): { block: Record<string, unknown>; line: string } {
  const start = new Date(Date.UTC(2026, 0, 1 + goodDay++, 12)).toISOString()
  return { block: { meter, start, intervalSeconds: 900, values: [0.25, 0.5] }, line: `${meter},${start},0.25` }
}

const dir = engineFolder()
const engines: EngineProcess[] = []
let db: TestDatabase
let engine: EngineProcess
let caller: Caller

beforeAll(async () => {
  db = await testDatabase()
  engine = await startEngine(dir, { DATABASE_URL: db.url, UTILITY_ZONE: ZONE })
  engines.push(engine)
  caller = new Caller(engine.url, operatorKey(dir))
  await caller.json('PUT', '/v1/accounts', [{ account: 'A1' }])
  await caller.json('PUT', '/v1/meters', ['G1', 'G2', 'B1', 'B2', 'B3', 'B4', 'B5'].map((meter) => ({
    meter, account: 'A1', from: '2020-01-01T00:00:00Z' })))
})

afterAll(async () => {
  caller.close()
  await cleanUp(dir, engines)
  await db.close()
})

async function deliveries(): Promise<number> {
  const { rows: [{ n }] } = await db.pool.query<{ n: number }>('select count(*) as n from delivery')
  return n
}

/** A body refused whole: a problem document, and no delivery. */
async function refused(answer: Promise<Answer>, status: number, code: string): Promise<Answer> {
  const before = await deliveries()
  const { status: got, body, headers, text } = await answer
  expect({ status: got, code: body.code, type: headers['content-type'] }, text)
    .toEqual({ status, code, type: 'application/problem+json; charset=utf-8' })
  expect(typeof body.detail).toBe('string')
  expect(await deliveries()).toBe(before)
  return answer
}

/** A body taken in part: a receipt that adds up, with these counts and these codes of problems, all of it in quarantine. */
async function taken(answer: Promise<Answer>, counts: Record<string, number>, codes: string[]): Promise<{ code: string; at: string }[]> {
  const { status, body, text } = await answer
  expect(status, text).toBe(200)
  const got = countsOf(body)
  expect(OUTCOMES.reduce((sum, name) => sum + got[name], 0), text).toBe(got.received)
  const problems = body.problems as { code: string; at: string; message: string }[]
  expect(got, text).toMatchObject(counts)
  expect([...new Set(problems.map((p) => p.code))].sort(), text).toEqual([...codes].sort())
  for (const p of problems) expect(p.at, text).not.toBe('')
  const { rows: [{ kept }] } = await db.pool.query<{ kept: number }>(
    `select coalesce(sum(reads), 0)::int as kept from quarantine q join delivery d using (delivery_no) where d.delivery_id = $1`, [body.delivery])
  expect(kept).toBe(got.quarantined)
  return problems
}

const csv = { 'content-type': 'text/csv' }
const ndjson = { 'content-type': 'application/x-ndjson' }

describe('a body that cannot be read at all is refused whole', () => {
  test('JSON that is cut off, no JSON, or JSON of another shape', async () => {
    const whole = JSON.stringify({ reads: [good().block, good().block] })
    await refused(caller.push(whole.slice(0, -5)), 400, 'malformed-json')
    await refused(caller.push(whole.slice(0, whole.indexOf('values') + 3)), 400, 'malformed-json')
    await refused(caller.push('hello'), 400, 'malformed-json')
    await refused(caller.push('null'), 400, 'malformed-json')
    await refused(caller.push('17'), 400, 'malformed-json')
    await refused(caller.push('{"meters":[]}'), 422, 'missing-member')
    await refused(caller.push('{"reads":[],"extra":1}'), 422, 'unknown-member')
    await refused(caller.push('{"reads":{}}'), 422, 'wrong-type')
    await refused(caller.push(`${whole}${whole}`), 400, 'malformed-json')
    await refused(caller.push('['.repeat(100_000)), 400, 'malformed-json')
  })

  test('values that are no JSON numbers: NaN, Infinity, a leading zero, hexadecimal', async () => {
    for (const value of ['NaN', 'Infinity', '-Infinity', '01', '0x10', '.5', '1.', '+1', '1e']) {
      await refused(caller.push(`{"reads":[{"meter":"B1","start":"2026-02-01T00:00:00Z","intervalSeconds":900,"values":[1,${value}]}]}`), 400, 'malformed-json')
    }
  })

  test('an empty body, and one that says nothing', async () => {
    await refused(caller.push(''), 400, 'empty-body')
    await refused(caller.push('', { 'transfer-encoding': 'chunked' }), 400, 'empty-body')
    await refused(caller.push('', { 'content-encoding': 'gzip' }), 400, 'malformed-gzip')
    await refused(caller.push(gzipSync(''), { 'content-encoding': 'gzip' }), 400, 'empty-body')
    await refused(caller.push('   \n', csv), 400, 'empty-body')
  })

  test('a content type or a format that nobody knows', async () => {
    const body = JSON.stringify({ reads: [good().block] })
    await refused(caller.push(body, { 'content-type': 'application/pdf' }), 415, 'unsupported-format')
    await refused(caller.push(body, { 'content-type': 'application/json; charset=latin1' }), 415, 'unsupported-charset')
    await refused(caller.push(body, {}, '?format=sql'), 415, 'unsupported-format')
    await refused(caller.push('\0\u0001\u0002', { 'content-type': 'application/octet-stream' }), 415, 'unsupported-format')
    await refused(caller.push(body, { 'content-type': 'json' }), 415, 'unsupported-media-type')
  })

  test('encodings: a wrong one, gzip that is none, cut off or broken', async () => {
    const body = JSON.stringify({ reads: [good().block] })
    await refused(caller.push(body, { 'content-encoding': 'br', 'idempotency-key': 'encoding' }), 415, 'unsupported-encoding')
    await refused(caller.push(deflateSync(body), { 'content-encoding': 'deflate', 'idempotency-key': 'encoding' }), 415, 'unsupported-encoding')
    await refused(caller.push(body, { 'content-encoding': 'gzip' }), 400, 'malformed-gzip')
    await refused(caller.push(gzipSync(body).subarray(0, -6), { 'content-encoding': 'gzip' }), 400, 'malformed-gzip')
    const broken = gzipSync(body.repeat(20))
    broken[Math.floor(broken.length / 2)] ^= 0xff
    await refused(caller.push(broken, { 'content-encoding': 'gzip' }), 400, 'malformed-gzip')
    await refused(caller.push(Buffer.from(body, 'utf16le')), 400, 'encoding-unsupported')
  })

  test('CSV with columns that are unknown, missing or there twice', async () => {
    const { line } = good()
    await refused(caller.push(`meter,start,value,colour\n${line},red\n`, csv), 422, 'unknown-column')
    await refused(caller.push(`meter,start\n${line}\n`, csv), 422, 'missing-column')
    await refused(caller.push(`meter,value,start,value\n${line},1\n`, csv), 422, 'duplicate-column')
    await refused(caller.push(`meter,start,value\n${line}\n`, csv, '?zone=Mars/Olympus'), 422, 'unknown-zone')
    await refused(caller.push(`meter,start,value\n${line}\n`, csv, '?mapping=nobody'), 422, 'unknown-mapping')
  })

  test('headers: none of them does harm', async () => {
    const body = JSON.stringify({ reads: [good().block] })
    await refused(caller.push(body, { 'x-version': 'yesterday' }), 422, 'invalid-version')
    await refused(caller.push(body, { 'x-version': '-1' }), 422, 'invalid-version')
    await refused(caller.push(body, { 'x-version': '9999-01-01T00:00:00Z' }), 422, 'invalid-version')
    await refused(caller.push(body, { 'x-purpose': 'fun' }), 422, 'invalid-purpose')
    await refused(caller.push(body, { 'x-source': 'x'.repeat(101) }), 422, 'invalid-source')
    await refused(caller.push(body, { 'idempotency-key': 'x'.repeat(256) }), 422, 'invalid-idempotency-key')
    const long = await caller.push(body, { 'x-junk': 'x'.repeat(40_000) })
    expect(long.status).toBe(431)
    const unknown = new Caller(engine.url, 'mk_nobody')
    expect((await unknown.push(body)).status).toBe(401)
    unknown.close()
  })
})

describe('what is wrong with one record is answered for that record, and the rest settles', () => {
  test('wrong types', async () => {
    const g = good().block
    const bad = [
      { ...good('B1').block, values: 'many' }, { ...good('B1').block, values: [1, 'two'] }, { ...good('B1').block, meter: 17 },
      { ...good('B1').block, start: 1_700_000_000 }, { ...good('B1').block, intervalSeconds: '900' }, { ...good('B1').block, unit: 'furlong' },
      { ...good('B1').block, flow: 'sideways' }, { ...good('B1').block, colour: 'red' }, { ...good('B1').block, values: { 0: 1 } }, 'text', 17, null, [],
    ]
    const answer = caller.push({ reads: [g, ...bad, good().block] })
    const { body } = await answer
    expect(body, JSON.stringify(body)).toMatchObject({ stored: 4, problemCount: bad.length })
    expect(body.problems).toHaveLength(bad.length)
  })

  test('1e400, and values beyond what a block holds', async () => {
    const values = {
      '1e400': 'value-not-finite', '-1e400': 'value-not-finite', '1e308': 'value-range', '5e12': 'value-range',
      '99999999999': 'value-precision', '3000000000.001': 'value-precision', '0.12345678951': 'value-precision',
    }
    for (const [value, code] of Object.entries(values)) {
      const problems = await taken(caller.push(
        `{"reads":[${JSON.stringify(good().block)},{"meter":"B1","start":"${String(good().block.start)}","intervalSeconds":900,"values":[1,${value}]}]}`),
      { stored: 3, quarantined: 1, received: 4 }, [code])
      expect(problems[0].at).toMatch(/^record 2, .*values\/1$/)
    }
  })

  test('energy delivered below zero', async () => {
    await taken(caller.push({ reads: [good().block, { ...good('B1').block, values: [0.1, -0.1, 0.1] }] }), { stored: 4, quarantined: 1 }, ['negative-energy'])
  })

  test('10,000 problems in a body: the first 100 are told, all are counted, all are kept', async () => {
    const lines = Array.from({ length: 10_000 }, (_, i) => `{"meter":"B1","start":"nonsense ${i}","intervalSeconds":900,"values":[1]}`)
    const answer = await caller.push([JSON.stringify(good().block), ...lines].join('\n'), ndjson)
    expect(answer.status, answer.text.slice(0, 500)).toBe(200)
    expect(answer.body).toMatchObject({ received: 10_002, stored: 2, quarantined: 10_000, problemCount: 10_000 })
    expect(answer.body.problems).toHaveLength(100)
    const { rows: [{ kept, raw }] } = await db.pool.query<{ kept: number; raw: number }>(
      `select count(*) as kept, count(distinct q.raw) as raw from quarantine q join delivery d using (delivery_no) where d.delivery_id = $1`, [answer.body.delivery])
    expect({ kept, raw }).toEqual({ kept: 10_000, raw: 10_000 })
  })

  test('line ends of all kinds, a BOM, blank lines and quotes in one CSV', async () => {
    const rows = Array.from({ length: 4 }, () => good().line)
    const text = `\ufeffmeter,start,value,intervalSeconds\r\n${rows[0]},900\n${rows[1]},900\r\n\r\n"${rows[2].split(',').join('","')}","900"\r${rows[3]},900`
    await taken(caller.push(text, csv), { received: 4, stored: 4 }, [])
    await taken(caller.push(`\ufeff${JSON.stringify({ reads: [good().block] })}`), { stored: 2 }, [])
  })

  test('NUL bytes', async () => {
    await taken(caller.push(`meter,start,value,intervalSeconds\n${good().line},900\nB1\0,2026-02-03T00:00:00Z,1,900\n`, csv), { stored: 1, quarantined: 1 }, ['nul-byte'])
    await taken(caller.push({ reads: [good().block, { ...good('B\0').block }, good('B\ud800').block] }), { stored: 2, quarantined: 4 }, ['meter-invalid'])
    await taken(caller.push(Buffer.concat([Buffer.from(`${JSON.stringify(good().block)}\n`), Buffer.alloc(50), Buffer.from('\n')]), ndjson),
      { stored: 2, quarantined: 1 }, ['malformed-json'])
    await taken(caller.push(Buffer.concat([Buffer.from(`${JSON.stringify(good().block)}\n`), Buffer.from([0x22, 0xff, 0xfe, 0x22, 0x0a])]), ndjson),
      { stored: 2, quarantined: 1 }, ['invalid-utf8'])
  })

  test('local times that do not exist, and that exist twice', async () => {
    // 2026-03-08 02:00-03:00 does not exist in Chicago; 2026-11-01 01:00-02:00 exists twice.
    const spring = ['01:30', '01:45', '02:00', '02:15', '03:00'].map((t) => `B2,2026-03-08T${t}:00,1,900`)
    await taken(caller.push(`meter,start,value,intervalSeconds\n${spring.join('\n')}\n`, csv), { stored: 3, quarantined: 2 }, ['local-time-does-not-exist'])
    const twice = ['00:45', '01:00', '01:15', '01:30', '01:45', '01:00', '01:15', '01:30', '01:45', '02:00'].map((t) => `B2,2026-11-01T${t}:00,1,900`)
    await taken(caller.push(`meter,start,value,intervalSeconds\n${twice.join('\n')}\n`, csv), { stored: 10 }, [])
    await taken(caller.push('meter,start,value,intervalSeconds\nB3,2026-11-01T01:15:00,1,900\n', csv), { stored: 0, quarantined: 1 }, ['local-time-ambiguous'])
  })

  test('intervals off the grid, in the future, of no length, and before all time', async () => {
    const b = { meter: 'B3', intervalSeconds: 900, values: [1] }
    await taken(caller.push({ reads: [good().block, { ...b, start: '2026-02-05T00:07:00Z' }] }), { stored: 2, quarantined: 1 }, ['off-grid'])
    const later = new Date(Math.ceil(Date.now() / 900_000 + 4) * 900_000).toISOString()
    await taken(caller.push({ reads: [good().block, { ...b, start: later }] }), { stored: 2, quarantined: 1 }, ['future-read'])
    await taken(caller.push({ reads: [good().block, { ...b, start: '0001-01-01T00:00:00Z' }] }), { stored: 2, rejected: 1 }, ['past-retention'])
    await taken(caller.push({ reads: [good().block, { ...b, start: '2026-02-05T00:00:00Z', intervalSeconds: 0 }] }), { stored: 2, quarantined: 1 }, ['interval-length'])
  })

  test('a day of 97 values goes on into the next day, and overlaps nothing', async () => {
    const day = { meter: 'B4', start: '2026-02-10T00:00:00-06:00', intervalSeconds: 900 }
    await taken(caller.push({ reads: [{ ...day, values: Array<number>(97).fill(0.1) }] }), { received: 97, stored: 97 }, [])
    const usage = await caller.json<{ series: { periods: { value: number }[] }[] }>('GET', '/v1/meters/B4/usage?resolution=day&from=2026-02-10&to=2026-02-12')
    expect(usage.series[0].periods.map((p) => p.value)).toEqual([9.6, 0.1])
  })

  test('two reads for one slot in one body: one stands, and both are counted', async () => {
    const b = { meter: 'B5', start: '2026-02-10T00:00:00Z', intervalSeconds: 900 }
    const { body, status } = await caller.push({ reads: [{ ...b, values: [1] }, { ...b, values: [2] }, { ...b, values: [2] }] })
    expect(status).toBe(200)
    expect(countsOf(body)).toMatchObject({ received: 3, stored: 1, corrected: 1, duplicate: 1 })
    const usage = await caller.json<{ total: { delivered: number } }>('GET', '/v1/meters/B5/usage?resolution=day&from=2026-02-09&to=2026-02-11')
    expect(usage.total.delivered).toBe(2)
  })

  test('nothing of all that was lost, and nothing of it was our fault', async () => {
    const { rows: [{ present }] } = await db.pool.query<{ present: number }>(
      `select sum(present)::int as present from channel_day join channel using (channel_id) join meter using (meter_id) where id in ('G1', 'G2')`)
    const { rows: [{ stored }] } = await db.pool.query<{ stored: number }>('select sum(stored)::int as stored from delivery')
    const { rows: [{ all }] } = await db.pool.query<{ all: number }>('select sum(present)::int as all from channel_day')
    expect(stored).toBe(all)
    expect(present).toBeGreaterThan(20)
    expect(engine.log.filter((line) => line.level >= 50)).toEqual([])
    expect(engine.log.filter((line) => line.msg === 'a call failed')).toEqual([])
  })
})
