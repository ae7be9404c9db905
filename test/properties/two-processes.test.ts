import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../database.js'
import type { Answer, Order } from '../settling-process.js'
import { testUtility, type PlainBlock, type TestSource, type TestUtility } from '../settling.js'
import { expectNoDeadlock } from '../soundness.js'

const ROUNDS = Number(process.env.FC_RUNS ?? 1000)
/** Rounds under way at a time: more than one, so that commits of different accounts stand in each other's way too. */
const LANES = 3

let db: TestDatabase
let processes: SettlingProcess[] = []

beforeAll(async () => {
  db = await testDatabase()
  processes = [new SettlingProcess(), new SettlingProcess()]
})
afterAll(async () => {
  await Promise.all(processes.map((p) => p.end()))
  await expectNoDeadlock(db.pool)
  await db.close()
})

/** A process of its own that settles what it is told. */
class SettlingProcess {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  #lastId = 0

  constructor() {
    this.#child = fork(fileURLToPath(new URL('../settling-process.ts', import.meta.url)),
      { execArgv: ['--import', new URL('../typescript.mjs', import.meta.url).href], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    this.#child.on('message', (answer: Answer) => this.#waiting.get(answer.id)?.(answer))
    this.#child.on('exit', () => {
      for (const [id, resolve] of this.#waiting) resolve({ id, error: 'the process ended' })
    })
  }

  async start(u: TestUtility, source: TestSource): Promise<void> {
    await this.#tell(-1, { kind: 'start', url: db.url, utilityId: u.utilityId, source, nowMs: u.clock.nowMs, connections: LANES })
  }

  async settle(block: PlainBlock, version: number): Promise<{ raised: number; retracted: number }> {
    const id = ++this.#lastId
    return (await this.#tell(id, { kind: 'settle', id, blocks: [block], version })).alerts!
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null) return
    const ended = new Promise((resolve) => this.#child.once('exit', resolve))
    this.#child.send({ kind: 'end' })
    await ended
  }

  async #tell(id: number, order: Order): Promise<Answer> {
    const answer = await new Promise<Answer>((resolve) => {
      this.#waiting.set(id, resolve)
      this.#child.send(order)
    })
    this.#waiting.delete(id)
    if (answer.error !== undefined) throw new Error(answer.error)
    return answer
  }
}

/** Accounts with two meters and one limit each, and two processes that settle for them. */
async function setUp(accounts: number, limit: string): Promise<{ u: TestUtility; meters: [string, string][] }> {
  const u = await testUtility(db.pool)
  const name = (prefix: string): string => `${prefix}${u.utilityId}-`
  await db.pool.query(
    `with a as (
       insert into account (utility_id, id, thresholds, epoch)
       select $1, $3 || n, 1, 1 from generate_series(1, $2) n returning account_id, id
     ), m as (
       insert into meter (utility_id, id, epoch)
       select $1, p.prefix || n, 1 from generate_series(1, $2) n, unnest(array[$4, $5]) as p(prefix) returning meter_id, id
     ), s as (
       insert into meter_assignment (meter_id, account_id, from_at)
       select m.meter_id, a.account_id, 'epoch' from m join a on split_part(a.id, '-', 2) = split_part(m.id, '-', 2)
     )
     insert into threshold (threshold_id, utility_id, account_id, kind, limit_value, version_from)
     select gen_random_uuid(), $1, account_id, 'day-usage', $6, 'epoch' from a`,
    [u.utilityId, accounts, name('a'), name('l'), name('r'), limit])
  const source = await u.source()
  await Promise.all(processes.map((p) => p.start(u, source)))
  return { u, meters: Array.from({ length: accounts }, (_, i) => [`${name('l')}${i + 1}`, `${name('r')}${i + 1}`]) }
}

async function inLanes(n: number, work: (i: number) => Promise<void>): Promise<void> {
  let next = 0
  await Promise.all(Array.from({ length: LANES }, async () => {
    while (next < n) await work(next++)
  }))
}

const DAY = '2026-10-05T05:00:00Z'
const half = (meter: string, wh: number): PlainBlock => ({ meter, start: DAY, values: [wh] })

it(`two processes, two meters of one account, one limit that only their sum crosses: one alert, ${ROUNDS} times`, async () => {
  const { u, meters } = await setUp(ROUNDS, '30')
  await inLanes(ROUNDS, async (i) => {
    const answers = await Promise.all(processes.map((p, side) => p.settle(half(meters[i][side], 16_000), 10)))
    // Whichever commits second sees the sum.
    expect(answers.map((a) => a.raised).sort()).toEqual([0, 1])
  })
  const { rows } = await db.pool.query<{ n: number; value: string; state: string; step: number }>(
    `select count(*)::int as n, trim_scale(value)::text as value, state, step from alert where utility_id = $1 group by 2, 3, 4`, [u.utilityId])
  expect(rows).toEqual([{ n: ROUNDS, value: '32', state: 'raised', step: 1 }])
}, 300_000)

it('an account that both correct at once ends with the alert that its final sum has', async () => {
  const accounts = Math.ceil(ROUNDS / 20)
  const { u, meters } = await setUp(accounts, '30')
  const versions = [1, 2, 3, 4, 5]
  await inLanes(accounts, async (i) => {
    // Up and down across the limit, both sides at once; the last versions come to 14 + (i % 4 x 8) kWh. No two bodies are
    // alike: an identical body would keep the version of the first.
    await Promise.all(processes.flatMap((p, side) => versions.map((v) =>
      p.settle(half(meters[i][side], v === 5 ? (side === 0 ? 14_000 : i % 4 * 8000) : v % 2 * 20_000 + v), 1_000_000 + v))))
  })
  const { rows } = await db.pool.query<{ id: string; state: string; value: string; steps: number }>(
    `select a.id, l.state, trim_scale(l.value)::text as value, jsonb_array_length(l.history) as steps
       from account a left join alert l using (account_id) where a.utility_id = $1`, [u.utilityId])
  expect(rows).toHaveLength(accounts)
  for (const r of rows) {
    const sum = 14 + (Number(r.id.split('-')[1]) - 1) % 4 * 8
    expect([r.id, r.state === 'raised']).toEqual([r.id, sum > 30])
    if (r.state === 'raised') expect(r.value).toBe(String(sum))
  }
})
