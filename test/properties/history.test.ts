import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { loadBlocksAsOf } from '../../engine/usage/as-of.js'
import { dayText } from '../../engine/time/text.js'
import { testDatabase, type TestDatabase } from '../database.js'
import { isTaken, Model, readsOf, type ModelRead } from '../model.js'
import { storedBlocks, storedLoad, testUtility, type PlainRow, type TestUtility } from '../settling.js'
import { expectNoDeadlock } from '../soundness.js'
import { arranged, random, runs, scenarios } from './scenario.js'

const RUNS = Number(process.env.FC_RUNS ?? 25)
const TIMEOUT = 60_000 + RUNS * 2000

let db: TestDatabase

beforeAll(async () => {
  db = await testDatabase()
})
afterAll(async () => {
  await expectNoDeadlock(db.pool)
  await db.close()
})

/**
 * What each delivery stated, in the order it came. A read that changed nothing because the same value stood with a rank
 * and version at least as great is not a statement of its own: it goes with the one that it repeated.
 */
class Ledger {
  readonly #u: TestUtility
  readonly #stated: { delivery: string; read: ModelRead }[] = []
  readonly #withdrawn = new Set<string>()

  constructor(u: TestUtility) {
    this.#u = u
  }

  push(delivery: string, reads: readonly ModelRead[]): void {
    for (const read of reads) {
      const before = this.model()
      const stood = [...before.slots.values()].find((r) => sameSlot(r, read))
      before.offer([read])
      const stands = [...before.slots.values()].find((r) => sameSlot(r, read))
      if (stands !== stood || stood?.nano !== read.nano) this.#stated.push({ delivery, read })
    }
  }

  withdraw(delivery: string): void {
    this.#withdrawn.add(delivery)
  }

  model(): Model {
    const model = new Model(this.#u.zone)
    model.offer(this.#stated.filter((s) => !this.#withdrawn.has(s.delivery)).map((s) => s.read))
    return model
  }
}

function sameSlot(a: ModelRead, b: ModelRead): boolean {
  return a.meter === b.meter && a.flow === b.flow && a.intervalS === b.intervalS && a.startS === b.startS
}

/** The utility's blocks as they stood at an instant, as storedBlocks() shows them. */
async function blocksAsOf(u: TestUtility, asOfMs: number, day: number): Promise<PlainRow[]> {
  const { rows } = await db.pool.query<{ channel_id: number; meter: string; flow: number; interval_s: number }>(
    'select channel_id, m.id as meter, flow, c.interval_s from channel c join meter m using (meter_id) where c.utility_id = $1', [u.utilityId])
  const channels = new Map(rows.map((r) => [r.channel_id, r]))
  const blocks = await loadBlocksAsOf(db.pool, u.zone, new Map(rows.map((r) => [r.channel_id, r.interval_s])), day - 3, day + 4,
    new Date(asOfMs).toISOString())
  return blocks.map((b): PlainRow => ({
    meter: channels.get(b.channelId)!.meter, flow: channels.get(b.channelId)!.flow, interval_s: b.intervalS, day: dayText(b.day),
    first_s: b.firstS, exponent: b.exponent, total: b.total, peak: b.peak, peak_slot: b.peakSlot, present: b.present,
    estimated: b.estimated, version: b.version, vals: [...b.vals].map((v) => v === -2147483648 ? null : v),
    lane: b.lane === null ? null : [...b.lane], versions: b.versions === null ? null : [...b.versions],
  })).sort((a, b) => keyOf(a) < keyOf(b) ? -1 : 1)
}

function keyOf(r: PlainRow): string {
  return [r.meter, r.flow, String(r.interval_s).padStart(6, '0'), r.day].join('|')
}

it('withdrawn deliveries leave what the others stated, and every past state can be told', async () => {
  await fc.assert(fc.asyncProperty(scenarios, fc.nat(), async (s, seed) => {
    const u = await testUtility(db.pool, s.zone)
    const meters = [await u.meter({ id: 'm0' }), await u.meter({ id: 'm1', role: 'sub' })]
    const ledger = new Ledger(u)
    const draw = random(seed)
    const pushed: string[] = []
    const states: { atMs: number; blocks: PlainRow[] }[] = []
    for (const body of runs(arranged(s, meters, seed), 2, draw)) {
      const { delivery } = await u.settle(body)
      pushed.push(delivery)
      ledger.push(delivery, body.flatMap((b) => readsOf(b, u.zone)).filter(isTaken))
      if (draw(3) === 0) {
        const [wrong] = pushed.splice(draw(pushed.length), 1)
        await u.withdraw(wrong)
        ledger.withdraw(wrong)
      }
      expect(await storedBlocks(db.pool, u.utilityId)).toEqual(ledger.model().blocks())
      expect(await storedLoad(db.pool, u.utilityId)).toEqual(ledger.model().load((meter) => meter === 'm0'))
      states.push({ atMs: u.clock.nowMs, blocks: ledger.model().blocks() })
    }
    for (const { atMs, blocks } of states) expect(await blocksAsOf(u, atMs + 500, s.day)).toEqual(blocks)
    expect(await blocksAsOf(u, states[0].atMs - 10_000, s.day)).toEqual([])
  }), { numRuns: RUNS })
}, TIMEOUT)
