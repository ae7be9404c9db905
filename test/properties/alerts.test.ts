import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openPool, type Pool } from '../../engine/store/db.js'
import { dayNumber, dayText } from '../../engine/time/text.js'
import { testDatabase, type TestDatabase } from '../database.js'
import { Model, nanoText, readsOf } from '../model.js'
import { receiptOf, testUtility, type TestUtility } from '../settling.js'
import { expectNoDeadlock } from '../soundness.js'
import { arranged, blockOf, random, runs, scenarios, type Scenario } from './scenario.js'

const RUNS = Number(process.env.FC_RUNS ?? 30)
const TIMEOUT = 60_000 + RUNS * 2000

let db: TestDatabase
let pools: Pool[]

beforeAll(async () => {
  db = await testDatabase()
  pools = [0, 1].map(() => openPool(db.url, 3, 'meterline test', () => undefined))
})
afterAll(async () => {
  await Promise.all(pools.map((pool) => pool.end()))
  await expectNoDeadlock(db.pool)
  await db.close()
})

interface Watch { threshold: string; kind: 'day-usage' | 'period-usage'; limit: bigint; served: { meter: string; fromS: number; toS: number }[] }

/** Two accounts: the first has one meter for good and another until some instant, when the second account takes it over. */
async function households(u: TestUtility, s: Scenario, final: Model, draw: (n: number) => number): Promise<Watch[]> {
  const first = u.zone.dayStart(s.day - 1)
  const moved = first + draw(3 * 96 + 30) * 900
  const accounts = [await u.account(), await u.account()]
  const served = [
    [{ meter: 'm0', fromS: -Infinity, toS: Infinity }, { meter: 'm1', fromS: -Infinity, toS: moved }],
    [{ meter: 'm1', fromS: moved, toS: Infinity }],
  ]
  await u.meter({ id: 'm0', assignments: [{ accountId: accounts[0].accountId }] })
  await u.meter({ id: 'm1', assignments: [{ accountId: accounts[0].accountId, toS: moved }, { accountId: accounts[1].accountId, fromS: moved }] })
  const watches: Watch[] = []
  for (let i = 0; i < 4; i++) {
    const who = draw(3) === 0 ? 1 : 0
    const kind = draw(2) === 0 ? 'day-usage' : 'period-usage'
    const [from, to] = span(u, kind, s.day - 1 + draw(3))
    // At the final sum, or a billionth of a kWh below it: an alert stands above its limit alone.
    const sum = final.usage(served[who], from, to)
    const limit = draw(4) === 0 ? BigInt(draw(50)) * 1_000_000n : sum - BigInt(draw(2))
    if (limit < 0n) continue
    watches.push({ threshold: await u.threshold(accounts[who].accountId, { kind, limit: nanoText(limit) }), kind, limit, served: served[who] })
  }
  return watches
}

/** Start and end of the day, or of its calendar month, in the utility's zone. */
function span(u: TestUtility, kind: Watch['kind'], day: number): [number, number] {
  if (kind === 'day-usage') return [u.zone.dayStart(day), u.zone.dayStart(day + 1)]
  const month = dayText(day).slice(0, 7)
  let end = day
  while (dayText(end).startsWith(month)) end++
  return [u.zone.dayStart(dayNumber(`${month}-01`)), u.zone.dayStart(end)]
}

async function expectAlerts(u: TestUtility, s: Scenario, watches: readonly Watch[], model: Model): Promise<void> {
  const { rows } = await db.pool.query<{ threshold_id: string; start_s: number; value: string; state: string; states: string[] }>(
    `select threshold_id, extract(epoch from period_start)::float8 as start_s, trim_scale(value)::text as value, state,
            array(select h ->> 'state' from jsonb_array_elements(history) h) as states from alert where utility_id = $1`, [u.utilityId])
  const expected: string[] = []
  for (const w of watches) {
    const periods = new Map([-1, 0, 1, 2].map((d) => span(u, w.kind, s.day + d)).map((p) => [p[0], p]))
    for (const [from, to] of periods.values()) {
      const sum = model.usage(w.served, from, to)
      if (sum > w.limit) expected.push(`${w.threshold} ${from} ${nanoText(sum)}`)
    }
  }
  expect(rows.filter((r) => r.state === 'raised').map((r) => `${r.threshold_id} ${r.start_s} ${r.value}`).sort()).toEqual(expected.sort())
  for (const r of rows) {
    expect(r.states).toEqual(r.states.map((_, i) => i % 2 === 0 ? 'raised' : 'retracted'))
    expect(r.state).toBe(r.states.at(-1))
  }
}

it('the alerts that stand are those of the final data, whatever the order, corrections and settlers (C6)', async () => {
  await fc.assert(fc.asyncProperty(scenarios, fc.nat(), async (s, seed) => {
    const u = await testUtility(db.pool, s.zone)
    const final = new Model(u.zone)
    for (const statement of s.statements) final.offer(readsOf(blockOf(s, statement, ['m0', 'm1']), u.zone))
    const draw = random(seed)
    const watches = await households(u, s, final, draw)
    const settlers = await Promise.all(pools.map((pool) => u.another(pool)))
    const bodies = runs(arranged(s, ['m0', 'm1'], seed), 2, draw)
    const deliveries = (await Promise.all(runs(bodies, 2, draw).map(async (group, i) =>
      (await settlers[i % 2].settle(u.utilityId, group.map((body) => u.submission(body)))).map(receiptOf)))).flat()
    await expectAlerts(u, s, watches, final)
    // With every delivery taken back, one by one, nothing is left to stand on.
    for (const { delivery } of deliveries) await u.withdraw(delivery)
    await expectAlerts(u, s, watches, new Model(u.zone))
  }), { numRuns: RUNS })
}, TIMEOUT)
