import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openPool } from '../../engine/store/db.js'
import type { SettleResult } from '../../engine/settler.js'
import { getZone } from '../../engine/time/zone.js'
import { testDatabase, type TestDatabase } from '../database.js'
import { isTaken, Model, readsOf } from '../model.js'
import { receiptOf, storedBlocks, storedLoad, testUtility, type PlainBlock, type TestUtility } from '../settling.js'
import { expectNoDeadlock } from '../soundness.js'
import { arranged, blockOf, random, runs, scenarios, type Scenario } from './scenario.js'

const RUNS = Number(process.env.FC_RUNS ?? 30)
const TIMEOUT = 60_000 + RUNS * 2000

let db: TestDatabase

beforeAll(async () => {
  db = await testDatabase()
})
afterAll(async () => {
  await expectNoDeadlock(db.pool)
  await db.close()
})

async function world(s: Scenario): Promise<{ u: TestUtility; meters: string[]; model: Model }> {
  const u = await testUtility(db.pool, s.zone)
  const meters: string[] = []
  for (let i = 0; i < s.meters; i++) meters.push(await u.meter({ id: `m${i}`, role: i === 0 ? 'main' : 'sub' }))
  const model = new Model(u.zone)
  for (const statement of s.statements) model.offer(readsOf(blockOf(s, statement, meters), u.zone))
  return { u, meters, model }
}

/** C3: what stands is what the plain model says, aggregates and load too. */
async function expectModel(u: TestUtility, model: Model): Promise<void> {
  expect(await storedBlocks(db.pool, u.utilityId)).toEqual(model.blocks())
  expect(await storedLoad(db.pool, u.utilityId)).toEqual(model.load((meter) => meter === 'm0'))
}

/** C1: received is what was pushed, and the outcomes add up. */
function expectReceipts(results: readonly SettleResult[], bodies: readonly (readonly PlainBlock[])[]): void {
  results.forEach((result, i) => {
    const r = receiptOf(result)
    expect(r.received).toBe(bodies[i].reduce((n, b) => n + b.values.filter((v) => v !== null).length, 0))
    expect(r.stored + r.duplicate + r.corrected + r.outranked + r.quarantined + r.rejected).toBe(r.received)
    const refused = bodies[i].flatMap((b) => readsOf(b, getZone('UTC'))).filter((read) => !isTaken(read)).length
    expect([r.quarantined, r.rejected]).toEqual([refused, 0])
  })
}

describe('whatever the order, the splits and the repetitions', () => {
  it('the same blocks, aggregates and load stand, and they are the plain model\'s (C1-C4)', async () => {
    await fc.assert(fc.asyncProperty(scenarios, fc.nat(), async (s, seed) => {
      for (const order of [seed, seed + 1]) {
        const { u, meters, model } = await world(s)
        const draw = random(order)
        const bodies = runs(arranged(s, meters, order), 3, draw)
        for (const group of runs(bodies, 3, draw)) {
          expectReceipts(await u.settleGroup(group.map((body) => u.submission(body))), group)
        }
        await expectModel(u, model)
      }
    }), { numRuns: RUNS })
  }, TIMEOUT)

  it('deliveries keep their versions: the version of the delivery holds for reads without one (C4)', async () => {
    await fc.assert(fc.asyncProperty(scenarios, fc.nat(), async (s, seed) => {
      const { u, meters } = await world({ ...s, statements: [] })
      const draw = random(seed)
      const bodies = runs(arranged(s, meters, seed).map((b): PlainBlock => draw(3) === 0 ? b : { ...b, version: undefined }), 3, draw)
      const model = new Model(u.zone)
      const known = new Map<string, number>()
      for (const body of [...bodies, ...bodies]) {
        const offered = 1_700_000_000_000_000 + draw(6)
        const text = JSON.stringify(body)
        const version = known.get(text) ?? offered
        known.set(text, version)
        model.offer(body.flatMap((b) => readsOf(b, u.zone, version)))
        expectReceipts([{ status: 'settled', receipt: await u.settle(body, { version: offered }) }], [body])
      }
      await expectModel(u, model)
    }), { numRuns: Math.ceil(RUNS / 2) })
  }, TIMEOUT)

  it('as many settlers at once as like come to the same', async () => {
    const pools = [0, 1, 2].map(() => openPool(db.url, 3, 'meterline test', () => undefined))
    try {
      await fc.assert(fc.asyncProperty(scenarios, fc.nat(), async (s, seed) => {
        const { u, meters, model } = await world(s)
        const settlers = await Promise.all(pools.map((pool) => u.another(pool)))
        const draw = random(seed)
        const bodies = runs(arranged(s, meters, seed), 2, draw)
        await Promise.all(runs(bodies, 2, draw).map(async (group) => {
          const results = await settlers[draw(3)].settle(u.utilityId, group.map((body) => u.submission(body)))
          expectReceipts(results, group)
        }))
        await expectModel(u, model)
      }), { numRuns: RUNS })
    } finally {
      await Promise.all(pools.map((pool) => pool.end()))
    }
  }, TIMEOUT)
})
