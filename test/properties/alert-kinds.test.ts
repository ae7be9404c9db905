import fc from 'fast-check'
import { it } from 'vitest'
import { addContact } from '../alert-fixture.js'
import { standing, type PlainThreshold } from '../alert-model.js'
import { expectTold, StepSender } from '../alert-sender.js'
import { Model, readsOf } from '../model.js'
import { receiptOf, testUtility, type TestUtility } from '../settling.js'
import { expectBounds } from '../soundness.js'
import { alertFrame, spansAround, TIMEOUT_MS, type Spans } from './alert-frame.js'
import { arranged, blockOf, random, runs, scenarios, type Scenario } from './scenario.js'

const RUNS = Number(process.env.FC_RUNS ?? 30)
/** Long after every day and month of the scenarios has ended and its settle time has passed. */
const LATER_MS = Date.parse('2027-02-01T00:00:00Z')
const f = alertFrame()

const KINDS: [PlainThreshold['kind'], PlainThreshold['flow']][] = [
  ['hour-usage', 'delivered'], ['hour-usage', 'received'], ['day-usage', 'delivered'], ['day-usage', 'received'], ['day-usage', 'net'],
  ['period-usage', 'delivered'], ['period-usage', 'net'], ['demand', 'delivered'], ['demand', 'received'],
]

/** Limits at what the final data come to and a billionth beside it, or anywhere. */
function limitFor(t: Omit<PlainThreshold, 'limit' | 'id'>, final: Model, spans: Spans, draw: (n: number) => number): bigint {
  const values = standing({ ...t, id: 'x', limit: -(10n ** 18n) }, final, spans.days, spans.months).map((s) => BigInt(s.split(' ')[2])).filter((v) => v > 0n)
  if (values.length === 0 || draw(4) === 0) return BigInt(1 + draw(50)) * 1_000_000n
  const value = values[draw(values.length)] - BigInt(draw(2))
  return value > 0n ? value : 1n
}

async function households(u: TestUtility, s: Scenario, final: Model, spans: Spans, draw: (n: number) => number): Promise<PlainThreshold[]> {
  const moved = u.zone.dayStart(s.day - 1) + draw(3 * 96 + 30) * 900
  const accounts = [await u.account(), await u.account()]
  for (const { accountId } of accounts) await addContact(f.db.pool, u.utilityId, accountId, {})
  const whole = { fromS: -Infinity, toS: Infinity }
  // Each its own meter; or the second meter serves the first account until it moves to the other.
  const isApart = draw(2) === 0
  const served = isApart ? [[{ meter: 'm0', ...whole }], [{ meter: 'm1', ...whole }]] : [
    [{ meter: 'm0', ...whole }, { meter: 'm1', ...whole, toS: moved }], [{ meter: 'm1', ...whole, fromS: moved }]]
  await u.meter({ id: 'm0', assignments: [{ accountId: accounts[0].accountId }] })
  await u.meter({ id: 'm1', assignments: isApart ? [{ accountId: accounts[1].accountId }]
    : [{ accountId: accounts[0].accountId, toS: moved }, { accountId: accounts[1].accountId, fromS: moved }] })
  const watches: PlainThreshold[] = []
  for (let i = 0; i < 5; i++) {
    const who = draw(2)
    const [kind, flow] = KINDS[draw(KINDS.length)]
    const t = { kind, flow, served: served[who] }
    watches.push(await f.watch(u, accounts[who].accountId, { ...t, limit: limitFor(t, final, spans, draw) }))
  }
  return watches
}

it('what stands is what a plain evaluation of the final data gives, for every kind that settling judges and for net energy (C6)', async () => {
  await fc.assert(fc.asyncProperty(scenarios, fc.nat(), async (s, seed) => {
    const u = await testUtility(f.db.pool, s.zone)
    const spans = spansAround(u, s.day)
    const final = new Model(u.zone)
    for (const statement of s.statements) final.offer(readsOf(blockOf(s, statement, ['m0', 'm1']), u.zone))
    const draw = random(seed)
    const sender = new StepSender(f.db.pool, () => new Date(LATER_MS + 26 * 3_600_000))
    const watches = await households(u, s, final, spans, draw)
    const settlers = await Promise.all(f.pools.map((pool) => u.another(pool)))
    const bodies = runs(arranged(s, ['m0', 'm1'], seed), 2, draw)
    const settling = runs(bodies, 2, draw).map(async (group, i) =>
      (await settlers[i % 2].settle(u.utilityId, group.map((body) => u.submission(body)))).map(receiptOf))
    // The schedule judges beside the settlers, at a time when some periods wait still.
    const deliveries = (await Promise.all([...settling, f.sweep(u, u.clock.nowMs).then(() => [])])).flat()
    // What settling judges stands when the last of the deliveries has committed, without the schedule.
    await f.expectStanding(u, watches.filter((w) => w.flow !== 'net'), final, spans, Infinity)
    await f.sweep(u, LATER_MS)
    await f.expectStanding(u, watches, final, spans)
    await expectBounds(f.db.pool, u.utilityId)
    // Some of it is told before everything is taken back, and some in the midst of it.
    if (draw(3) > 0) await sender.lease()
    if (draw(3) > 0) await sender.handOver()
    if (draw(2) === 0) await sender.end(draw(2) === 0 ? 'sent' : 'retry')
    for (const { delivery } of deliveries) {
      await u.withdraw(delivery)
      if (draw(4) === 0) await sender.crash()
    }
    await f.sweep(u, LATER_MS)
    await f.expectStanding(u, watches, new Model(u.zone), spans)
    await expectBounds(f.db.pool, u.utilityId)
    await sender.drain()
    await expectTold(f.db.pool, u.utilityId, sender)
  }), { numRuns: RUNS })
}, TIMEOUT_MS + RUNS * 3000)
