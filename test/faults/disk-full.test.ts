import { afterEach, describe, expect, test } from 'vitest'
import { openPool } from '../../engine/store/db.js'
import { Caller, type Answer } from './caller.js'
import { ClusterProcess, mayMount, type SmallDisk } from './cluster-process.js'
import { cleanUp, engineFolder, operatorKey, startEngine, until, type EngineProcess } from './engine-process.js'

const METERS = 400
const SLOTS = 96

let cluster: ClusterProcess | undefined
let engine: EngineProcess | undefined
let caller: Caller | undefined
let dir: string

afterEach(async () => {
  caller?.close()
  await cleanUp(dir, engine === undefined ? [] : [engine])
  await cluster?.close()
})

async function serve(server: ClusterProcess): Promise<Caller> {
  dir = engineFolder()
  engine = await startEngine(dir, { DATABASE_URL: server.url(), DATABASE_TIMEOUT_SECONDS: '10' })
  caller = new Caller(engine.url, operatorKey(dir))
  await caller.json('PUT', '/v1/accounts', [{ account: 'A1' }])
  await caller.json('PUT', '/v1/meters', Array.from({ length: METERS }, (_, i) => ({ meter: `D${i}`, account: 'A1', from: '2020-01-01T00:00:00Z' })))
  return caller
}

/** Pushes day after day of the whole fleet until one is refused; values differ, so that nothing compresses. */
class Days {
  readonly #caller: Caller
  readonly acknowledged: number[] = []
  #next = 0

  constructor(pusher: Caller) {
    this.#caller = pusher
  }

  async push(day: number): Promise<Answer> {
    const start = new Date(Date.UTC(2020, 0, 1 + day)).toISOString()
    const answer = await this.#caller.push({ reads: Array.from({ length: METERS }, (_, m) => ({
      meter: `D${m}`, start, intervalSeconds: 900, values: Array.from({ length: SLOTS }, (_v, i) => (day * 7919 + m * 104_729 + i * 1299) % 9973 / 1000) })) })
    if (answer.status === 200 && !this.acknowledged.includes(day)) this.acknowledged.push(day)
    return answer
  }

  /** Pushes until one is refused, and returns its day and answer. */
  async untilRefused(beforeEach: () => Promise<void> = () => Promise.resolve()): Promise<{ day: number; answer: Answer }> {
    for (; this.#next < 3000; this.#next++) {
      await beforeEach()
      const answer = await this.push(this.#next)
      if (answer.status !== 200) return { day: this.#next, answer }
    }
    throw new Error('the disk was never full')
  }

  async expectAllThere(url: string): Promise<void> {
    const pool = openPool(url, 1, 'meterline test', () => undefined)
    try {
      const { rows } = await pool.query<{ day: number; present: number }>(
        `select day - date '2020-01-01' as day, sum(present)::int as present from channel_day group by day order by day`)
      expect(rows).toEqual([...this.acknowledged].sort((a, b) => a - b).map((day) => ({ day, present: METERS * SLOTS })))
      const { rows: [sums] } = await pool.query<{ stored: number }>('select sum(stored)::int as stored from delivery')
      expect(sums.stored).toBe(this.acknowledged.length * METERS * SLOTS)
    } finally {
      await pool.end()
    }
  }
}

async function ready(pusher: Caller): Promise<unknown> {
  return (await pusher.call('GET', '/readyz')).body
}

// A full disk that is real: a small file system, which only root may mount.
describe.skipIf(!mayMount())('a disk that is full', () => {
  test('the tables\': pushes get 503 and are told why, the log and /readyz say it, and it goes on when there is room', async () => {
    cluster = await ClusterProcess.make()
    const disk: SmallDisk = cluster.mountDisk('disk', 40)
    await cluster.start()
    await cluster.run(`create tablespace small location '${disk.path}'`)
    await cluster.run('create database meterline tablespace small')
    const pusher = await serve(cluster)
    const days = new Days(pusher)
    expect((await days.push(0)).status).toBe(200)
    disk.fill()
    const { day, answer } = await days.untilRefused()
    expect({ status: answer.status, code: answer.body.code }, answer.text).toEqual({ status: 503, code: 'database-full' })
    expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0)
    expect(await ready(pusher)).toEqual({ ok: false, reasons: ['the disk of the database is full'] })
    expect((await pusher.call('GET', '/healthz')).status).toBe(200)
    expect(engine!.log.filter((line) => line.msg.startsWith('pushes cannot be settled')).map((line) => line.code)).toEqual(['database-full'])
    // What is there can be read.
    expect((await pusher.call('GET', '/v1/accounts/A1/usage?resolution=day&from=2020-01-01&to=2020-01-02')).status).toBe(200)
    await days.expectAllThere(cluster.url())
    disk.free()
    expect((await days.push(day)).status).toBe(200)
    expect(await ready(pusher)).toEqual({ ok: true, reasons: [] })
    expect(engine!.log.some((line) => line.msg === 'pushes settle again')).toBe(true)
    await days.expectAllThere(cluster.url())
    expect(engine!.log.filter((line) => line.msg === 'a push could not be settled')).toEqual([])
  })

  test('the write-ahead log\'s: the server falls, pushes get 503, and after a restart with room everything acknowledged is there', async () => {
    cluster = await ClusterProcess.make({ max_wal_size: '32MB', min_wal_size: '32MB' })
    const disk = cluster.mountDisk('wal', 96)
    cluster.moveWal(disk)
    await cluster.start()
    await cluster.run('create database meterline')
    const pusher = await serve(cluster)
    const days = new Days(pusher)
    expect((await days.push(0)).status).toBe(200)
    disk.fill()
    // Each push into a segment of its own, which uses up those that the server has in hand.
    const { day, answer } = await days.untilRefused(() => cluster!.run('select pg_switch_wal()').catch(() => undefined))
    expect(answer.status, answer.text).toBe(503)
    expect(String(answer.body.code)).toMatch(/^database-(full|unavailable)$/)
    await until('the server has said why', () => cluster!.log.includes('No space left on device'))
    // It recovers into the same full disk, or does not come up at all: either way there is no room for a commit.
    disk.free()
    await cluster.stop('SIGKILL')
    await cluster.start()
    await until('it is ready', async () => (await pusher.call('GET', '/readyz')).status === 200)
    await days.expectAllThere(cluster.url())
    await until('the refused push settles', async () => (await days.push(day)).status === 200)
    await days.expectAllThere(cluster.url())
  })
})
