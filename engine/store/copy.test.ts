import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { MISSING } from '../read-batch.js'
import { CopyWriter } from './copy.js'
import { inTransaction } from './db.js'

let db: TestDatabase

beforeAll(async () => {
  db = await testDatabase()
  await db.pool.query(`create table target (id int primary key, s smallint, n bigint, d date, at timestamptz, vals int[], lane smallint[],
    versions bigint[], check (id < 1000000))`)
})
afterAll(() => db.close())

const COLUMNS = ['id', 's', 'n', 'd', 'at', 'vals', 'lane', 'versions']

interface Row { id: number; s?: number; n?: number; day?: number; atUs?: number; vals?: number[]; lane?: number[]; versions?: number[] }

async function write(copy: CopyWriter, r: Row): Promise<void> {
  const bytes = 200 + (r.vals?.length ?? 0) * 26
  if (copy.mustWait(bytes)) await copy.row(8, bytes)
  else copy.rowNow(8)
  copy.int4(r.id)
  copy.int2(r.s ?? 0)
  if (r.n === undefined) copy.null()
  else copy.int8(r.n)
  copy.date(r.day ?? 0)
  copy.instantUs(r.atUs ?? 0)
  copy.int4Array(r.vals ?? [], MISSING)
  copy.int2Array(r.lane ?? [])
  copy.int8Array(r.versions ?? [])
}

it('writes every kind of value exactly', async () => {
  const rows: Row[] = [
    { id: -5, s: -32768, n: -1, day: -365, atUs: -1, vals: [MISSING, MISSING], lane: [-1, 32767], versions: [0, 1] },
    { id: 7, s: 32767, n: Number.MAX_SAFE_INTEGER, day: 20_000, atUs: 1_790_000_000_123_457, vals: [2147483647, MISSING, -2147483647, 0],
      lane: [0], versions: [1_790_000_000_123_457, 4_294_967_296, 4_294_967_295] },
    { id: 8, n: Number.MIN_SAFE_INTEGER },
  ]
  await inTransaction(db.pool, async (client) => {
    const copy = new CopyWriter(client, 'target', COLUMNS)
    for (const r of rows) await write(copy, r)
    expect(await copy.end()).toBe(3)
  })
  const { rows: stored } = await db.pool.query(
    `select id, s, n, d - date '1970-01-01' as day, (extract(epoch from at) * 1000000)::bigint as us, vals, lane, versions::text[] as versions
       from target order by id`)
  expect(stored).toEqual([
    { id: -5, s: -32768, n: -1, day: -365, us: -1, vals: [null, null], lane: [-1, 32767], versions: ['0', '1'] },
    { id: 7, s: 32767, n: Number.MAX_SAFE_INTEGER, day: 20_000, us: 1_790_000_000_123_457, vals: [2147483647, null, -2147483647, 0],
      lane: [0], versions: ['1790000000123457', '4294967296', '4294967295'] },
    { id: 8, s: 0, n: Number.MIN_SAFE_INTEGER, day: 0, us: 0, vals: [], lane: [], versions: [] },
  ])
})

it('takes rows of any size, and many megabytes, without a warning', async () => {
  const warned = vi.fn()
  process.on('warning', warned)
  await inTransaction(db.pool, async (client) => {
    await client.query('truncate target')
    const copy = new CopyWriter(client, 'target', COLUMNS)
    const [small, great] = [Array<number>(96).fill(1), Array<number>(100_000).fill(3)]
    for (let id = 0; id < 20_000; id++) await write(copy, { id, vals: id % 5000 === 0 ? great : small })
    await copy.end()
  })
  await new Promise((resolve) => setImmediate(resolve))
  process.off('warning', warned)
  expect(warned).not.toHaveBeenCalled()
  const { rows } = await db.pool.query('select count(*)::int as n, sum(cardinality(vals))::int as slots from target')
  expect(rows).toEqual([{ n: 20_000, slots: 400_000 + 19_996 * 96 }])
})

it('throws what the server refuses, at the end or in the midst of megabytes, and the connection goes on', async () => {
  for (const [refused, more] of [[[1, 1], 0], [[2_000_000], 20_000]] as const) {
    const client = await db.pool.connect()
    try {
      await client.query('begin; truncate target')
      const attempt = async (): Promise<void> => {
        const copy = new CopyWriter(client, 'target', COLUMNS)
        try {
          for (const id of refused) await write(copy, { id })
          for (let id = 10; id < more; id++) await write(copy, { id, vals: Array<number>(96).fill(1) })
        } catch (err) {
          copy.abort(err as Error)
          throw err
        }
        await copy.end()
      }
      await expect(attempt()).rejects.toThrow(/violates/)
      await client.query('rollback')
      expect((await client.query<{ one: number }>('select 1 as one')).rows).toEqual([{ one: 1 }])
    } finally {
      client.release()
    }
  }
})

it('that the caller gives up leaves a connection that can roll back', async () => {
  await expect(inTransaction(db.pool, async (client) => {
    const copy = new CopyWriter(client, 'target', COLUMNS)
    await write(copy, { id: 1 })
    const reason = new Error('the caller\'s own fault')
    copy.abort(reason)
    throw reason
  })).rejects.toThrow('the caller\'s own fault')
  expect((await db.pool.query<{ one: number }>('select 1 as one')).rows).toEqual([{ one: 1 }])
})

it('ends with an error where the connection is lost', async () => {
  await expect(inTransaction(db.pool, async (client) => {
    const { rows: [{ pid }] } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
    const copy = new CopyWriter(client, 'target', COLUMNS)
    await write(copy, { id: 1 })
    await db.pool.query('select pg_terminate_backend($1)', [pid])
    for (let id = 10; id < 60_000; id++) await write(copy, { id, vals: Array<number>(96).fill(1) })
    await copy.end()
  })).rejects.toThrow()
  expect((await db.pool.query<{ one: number }>('select 1 as one')).rows).toEqual([{ one: 1 }])
})
