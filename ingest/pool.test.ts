import { Piscina } from 'piscina'
import { Registry } from 'prom-client'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { uuidv7 } from '../engine/uuid.js'
import { testDatabase, type TestDatabase } from '../test/database.js'
import { until } from '../test/faults/engine-process.js'
import { testUtility, type TestUtility } from '../test/settling.js'
import { IngestMetrics } from './metrics.js'
import { IngestPool } from './pool.js'
import type { DeliveryTask } from './task.js'

const KB = 1024
let db: TestDatabase
let utility: TestUtility
let pool: IngestPool
let registry: Registry
let faults: unknown[]

beforeAll(async () => {
  db = await testDatabase()
  utility = await testUtility(db.pool)
  await utility.meter({ id: 'M1' })
})

afterAll(async () => {
  await db.close()
})

beforeEach(() => {
  registry = new Registry()
  faults = []
  const metrics: IngestMetrics = new IngestMetrics(registry, () => pool.inflightBytes, () => pool.queued)
  pool = new IngestPool({
    workers: 2, maxInflightBytes: 100 * KB, metrics, onMessages: () => undefined, onFault: (cause) => faults.push(cause),
    settings: { databaseUrl: db.url, secretKey: new Uint8Array(32), atomicBytes: KB * KB, toleranceS: 120, clockOffsetMs: 0 },
  })
})

afterEach(async () => {
  vi.restoreAllMocks()
  await pool.close()
})

let clock = Date.now()

function task(day: number, more: Partial<DeliveryTask> = {}): DeliveryTask {
  const line = JSON.stringify({ meter: 'M1', start: new Date(Date.UTC(2025, 0, 1 + day)).toISOString(), intervalSeconds: 900, values: [day + 1] })
  const now = clock++
  return {
    deliveryId: uuidv7(now), source: 'test', door: 'http', contentType: 'application/x-ndjson', format: null, fileName: null, mapping: null,
    zone: null, history: false, idempotencyKey: null, version: now * 1000, versionStated: false,
    bytes: new Uint8Array(Buffer.from(line)).buffer, part: 1, final: true, state: null, bodySha256: null, ...more,
  }
}

async function metric(name: string): Promise<number> {
  const line = (await registry.metrics()).split('\n').find((text) => text.startsWith(`${name} `))
  return line === undefined ? 0 : Number(line.slice(name.length + 1))
}

async function lockBlocks(): Promise<() => Promise<void>> {
  const client = await db.pool.connect()
  await client.query('begin; lock table channel_day in access exclusive mode')
  return async () => {
    await client.query('rollback')
    client.release()
  }
}

async function waiting(n: number): Promise<void> {
  await until(`${n} transactions wait for the lock`, async () => {
    const { rows } = await db.pool.query<{ n: number }>(`select count(*) as n from pg_locks where not granted and relation = 'channel_day'::regclass`)
    return rows[0].n >= n
  })
}

describe('bytes in flight', () => {
  test('are bounded; a body is let in when nothing else is in flight, however large', () => {
    expect(pool.reserve(60 * KB)).toBe(true)
    expect(pool.reserve(60 * KB)).toBe(false)
    expect(pool.reserve(40 * KB)).toBe(true)
    expect(pool.inflightBytes).toBe(100 * KB)
    pool.release(100 * KB)
    expect(pool.reserve(500 * KB)).toBe(true)
    expect(pool.reserve(1)).toBe(false)
    pool.release(500 * KB)
    expect(pool.inflightBytes).toBe(0)
  })
})

describe('a worker that dies', () => {
  test('takes its pushes with it: 503, never settled behind the sender\'s back, and another worker goes on', async () => {
    const runs = vi.spyOn(Piscina.prototype, 'run')
    const unlock = await lockBlocks()
    const answers = [pool.submit(utility.utilityId, task(0)), pool.submit(utility.utilityId, task(1))]
    await waiting(1)
    const threads = (runs.mock.contexts[0] as Piscina).threads
    await Promise.all(threads.map((thread) => thread.terminate()))
    for (const answer of await Promise.all(answers)) {
      expect(answer.receipt).toBeNull()
      expect(answer.error).toMatchObject({ status: 503, code: 'worker-lost', extra: { retryAfter: 1 } })
    }
    await unlock()
    expect(await metric('meterline_ingest_deliveries_total{outcome="unavailable"}')).toBe(2)
    expect(faults.length).toBeGreaterThan(0)
    await until('the lost transactions have ended', async () => {
      const { rows } = await db.pool.query<{ n: number }>(
        `select count(*) as n from pg_stat_activity where datname = current_database() and application_name = 'meterline worker' and state <> 'idle'`)
      return rows[0].n === 0
    })
    const { rows } = await db.pool.query('select 1 from delivery')
    expect(rows).toEqual([])
    const again = await Promise.all([pool.submit(utility.utilityId, task(0)), pool.submit(utility.utilityId, task(1))])
    expect(again.map((answer) => answer.receipt?.stored)).toEqual([1, 1])
  })

  test('closing waits for what was accepted', async () => {
    const unlock = await lockBlocks()
    const answers = Array.from({ length: 20 }, (_, i) => pool.submit(utility.utilityId, task(10 + i)))
    await waiting(1)
    const closed = pool.close()
    expect(pool.reserve(1)).toBe(false)
    await unlock()
    expect((await Promise.all(answers)).map((answer) => answer.receipt?.stored)).toEqual(answers.map(() => 1))
    await closed
  })
})

describe('group commit', () => {
  /** Fills every slot with a push that waits for the database, so that what is submitted next must queue. */
  const queued = async <T>(work: () => T): Promise<T> => {
    const unlock = await lockBlocks()
    const first = []
    for (let i = 0; i < 4; i++) {
      first.push(pool.submit(utility.utilityId, task(400 + i, { history: i % 2 === 0 })))
      await waiting(1)
    }
    const result = work()
    expect(pool.queued).toBeGreaterThan(0)
    await unlock()
    await Promise.all(first)
    return result
  }

  test('200 small pushes that wait at once share transactions, and each has a receipt of its own', async () => {
    const answers = await Promise.all(await queued(() => Array.from({ length: 200 }, (_, i) => pool.submit(utility.utilityId, task(100 + i)))))
    answers.forEach((answer, i) => {
      expect(answer.receipt).toMatchObject({ received: 1, stored: 1, complete: true, from: expect.stringContaining('T') as string })
      expect(Date.parse(answer.receipt!.from!)).toBe(Date.UTC(2025, 0, 101 + i))
    })
    expect(new Set(answers.map((answer) => answer.receipt!.delivery)).size).toBe(200)
    expect(await metric('meterline_ingest_group_deliveries_sum')).toBe(204)
    // Four that filled the slots, and the 200: in one transaction where the slots came free one after the other.
    expect(await metric('meterline_ingest_group_deliveries_count')).toBeLessThanOrEqual(8)
    const { rows } = await db.pool.query<{ transactions: number }>(
      `select count(distinct xmin::text)::int as transactions from delivery where delivery_id = any($1::uuid[])`,
      [answers.map((answer) => answer.receipt!.delivery)])
    expect(rows[0].transactions).toBeLessThanOrEqual(4)
  })

  test('a culprit fails alone: a body that cannot be read, a key that was used, an error of the database', async () => {
    await db.pool.query(`alter table delivery add constraint culprit check (idempotency_key is distinct from 'culprit')`)
    await pool.submit(utility.utilityId, task(340, { idempotencyKey: 'used' }))
    const answers = await Promise.all(await queued(() => Array.from({ length: 30 }, (_, i) => pool.submit(utility.utilityId, task(310 + i, {
      ...(i === 7 ? { bytes: new Uint8Array(Buffer.from('{"reads":[')).buffer, contentType: 'application/json' } : {}),
      ...(i === 13 ? { idempotencyKey: 'culprit' } : {}), ...(i === 19 ? { idempotencyKey: 'used' } : {}),
    })))))
    answers.forEach((answer, i) => {
      if (i === 7) expect(answer.error).toMatchObject({ status: 400, code: 'malformed-json' })
      else if (i === 13) expect(answer.error).toMatchObject({ status: 500, code: 'internal-error', extra: {} })
      else if (i === 19) expect(answer.error).toMatchObject({ status: 422, code: 'idempotency-key-reused' })
      else expect(answer.receipt, `${i}: ${JSON.stringify(answer.error)}`).toMatchObject({ received: 1, stored: 1 })
    })
    expect(answers[13].error?.extra).not.toHaveProperty('cause')
    expect(faults).toHaveLength(1)
    await db.pool.query('alter table delivery drop constraint culprit')
  })

  test('the same key twice in one group: the second has the first one\'s receipt', async () => {
    const [a, b, c] = await Promise.all(await queued(() => [
      pool.submit(utility.utilityId, task(360, { idempotencyKey: 'twice' })), pool.submit(utility.utilityId, task(360, { idempotencyKey: 'twice' })),
      pool.submit(utility.utilityId, task(361, { idempotencyKey: 'twice' })),
    ]))
    expect(a.receipt).toMatchObject({ stored: 1 })
    expect(b.receipt).toEqual(a.receipt)
    expect(c.error).toMatchObject({ status: 422, code: 'idempotency-key-reused' })
    expect(await metric('meterline_ingest_deliveries_total{outcome="repeated"}')).toBe(1)
    expect(await metric('meterline_ingest_reads_total{outcome="stored"}')).toBe(1)
  })
})
