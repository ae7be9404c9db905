import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openPool, type Pool } from '../../engine/store/db.js'
import { judgeDue } from '../../engine/thresholds/sweep.js'
import { dayNumber, dayText } from '../../engine/time/text.js'
import { standing, type PlainThreshold } from '../alert-model.js'
import { testDatabase, type TestDatabase } from '../database.js'
import { Model, nanoText, readsOf } from '../model.js'
import { receiptOf, testUtility, type PlainBlock, type TestUtility } from '../settling.js'
import { expectBounds } from '../soundness.js'
import { expectNoDeadlock } from '../soundness.js'
import { arranged, blockOf, random, runs, scenarios, type Scenario } from './scenario.js'

const RUNS = Number(process.env.FC_RUNS ?? 30)
const TIMEOUT = 60_000 + RUNS * 3000
const SETTLE_S = 48 * 3600
/** Long after every day and month of the scenarios has ended and its settle time has passed. */
const LATER_MS = Date.parse('2027-02-01T00:00:00Z')

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

async function sweep(u: TestUtility, nowMs: number): Promise<void> {
  await Promise.all(pools.map((pool) => judgeDue(pool, { secrets: u.world.secrets, settleS: SETTLE_S, now: () => nowMs })))
  await judgeDue(db.pool, { secrets: u.world.secrets, settleS: SETTLE_S, now: () => nowMs })
}

type Span = [number, number]

function spansAround(u: TestUtility, day: number): { days: Span[]; months: Span[] } {
  const first = dayNumber(`${dayText(day - 1).slice(0, 7)}-01`)
  let last = day + 2
  while (dayText(last).slice(8) !== '01') last++
  const starts = Array.from({ length: last - first + 1 }, (_, i) => first + i)
  const days = starts.slice(0, -1).map((d): Span => [u.zone.dayStart(d), u.zone.dayStart(d + 1)]).filter(([from, to]) => from < to)
  const firsts = starts.filter((d) => dayText(d).endsWith('-01'))
  return { days, months: firsts.slice(0, -1).map((d, i) => [u.zone.dayStart(d), u.zone.dayStart(firsts[i + 1])]) }
}

async function expectStanding(u: TestUtility, watches: readonly PlainThreshold[], model: Model, spans: { days: Span[]; months: Span[] }): Promise<void> {
  const { rows } = await db.pool.query<{ threshold_id: string; start_s: number; value: string; state: string; states: string[] }>(
    `select threshold_id, extract(epoch from period_start)::float8 as start_s, trim_scale(value * 1000000000)::text as value, state,
            array(select h ->> 'state' from jsonb_array_elements(history) h) as states from alert where utility_id = $1`, [u.utilityId])
  const raised = (id: string): string[] => rows.filter((r) => r.state === 'raised' && r.threshold_id === id).map((r) => `${r.threshold_id} ${r.start_s} ${r.value}`).sort()
  for (const w of watches) expect({ kind: w.kind, flow: w.flow, stands: raised(w.id) }).toEqual({ kind: w.kind, flow: w.flow, stands: standing(w, model, spans.days, spans.months).sort() })
  for (const r of rows) {
    expect(r.states).toEqual(r.states.map((_, i) => i % 2 === 0 ? 'raised' : 'retracted'))
    expect(r.state).toBe(r.states.at(-1))
  }
  expect((await db.pool.query('select 1 from threshold_due where utility_id = $1', [u.utilityId])).rows).toEqual([])
}

const KINDS: [PlainThreshold['kind'], PlainThreshold['flow']][] = [
  ['hour-usage', 'delivered'], ['hour-usage', 'received'], ['day-usage', 'delivered'], ['day-usage', 'received'], ['day-usage', 'net'],
  ['period-usage', 'delivered'], ['period-usage', 'net'], ['demand', 'delivered'], ['demand', 'received'],
]

async function watch(u: TestUtility, accountId: number, t: Omit<PlainThreshold, 'id'>): Promise<PlainThreshold> {
  const id = await u.threshold(accountId, {
    kind: t.kind, flow: t.flow, limit: t.kind === 'no-usage' || t.kind === 'unusual' ? null : nanoText(t.limit) })
  return { ...t, id }
}

/** Limits at what the final data come to and a billionth beside it, or anywhere. */
function limitFor(t: Omit<PlainThreshold, 'limit' | 'id'>, final: Model, spans: { days: Span[]; months: Span[] }, draw: (n: number) => number): bigint {
  const values = standing({ ...t, id: 'x', limit: -(10n ** 18n) }, final, spans.days, spans.months).map((s) => BigInt(s.split(' ')[2])).filter((v) => v > 0n)
  if (values.length === 0 || draw(4) === 0) return BigInt(1 + draw(50)) * 1_000_000n
  const value = values[draw(values.length)] - BigInt(draw(2))
  return value > 0n ? value : 1n
}

async function households(u: TestUtility, s: Scenario, final: Model, spans: { days: Span[]; months: Span[] }, draw: (n: number) => number): Promise<PlainThreshold[]> {
  const moved = u.zone.dayStart(s.day - 1) + draw(3 * 96 + 30) * 900
  const accounts = [await u.account(), await u.account()]
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
    watches.push(await watch(u, accounts[who].accountId, { ...t, limit: limitFor(t, final, spans, draw) }))
  }
  return watches
}

it('what stands is what a plain evaluation of the final data gives, for every kind that settling judges and for net energy (C6)', async () => {
  await fc.assert(fc.asyncProperty(scenarios, fc.nat(), async (s, seed) => {
    const u = await testUtility(db.pool, s.zone)
    const spans = spansAround(u, s.day)
    const final = new Model(u.zone)
    for (const statement of s.statements) final.offer(readsOf(blockOf(s, statement, ['m0', 'm1']), u.zone))
    const draw = random(seed)
    const watches = await households(u, s, final, spans, draw)
    const settlers = await Promise.all(pools.map((pool) => u.another(pool)))
    const bodies = runs(arranged(s, ['m0', 'm1'], seed), 2, draw)
    const settling = runs(bodies, 2, draw).map(async (group, i) =>
      (await settlers[i % 2].settle(u.utilityId, group.map((body) => u.submission(body)))).map(receiptOf))
    // The schedule judges beside the settlers, at a time when some periods wait still.
    const deliveries = (await Promise.all([...settling, sweep(u, u.clock.nowMs).then(() => [])])).flat()
    await sweep(u, LATER_MS)
    await expectStanding(u, watches, final, spans)
    await expectBounds(db.pool, u.utilityId)
    for (const { delivery } of deliveries) await u.withdraw(delivery)
    await sweep(u, LATER_MS)
    await expectStanding(u, watches, new Model(u.zone), spans)
    await expectBounds(db.pool, u.utilityId)
  }), { numRuns: RUNS })
}, TIMEOUT)

interface Piece { day: number; hour: number; hours: number; level: number }

const piece: fc.Arbitrary<Piece> = fc.record({
  day: fc.nat(2), hour: fc.nat(23), hours: fc.constantFrom(1, 6, 24, 24, 24), level: fc.constantFrom(0, 0, 0, 1, 20, 400) })

it('low-usage and no-usage stand on complete days alone, whatever came when', async () => {
  await fc.assert(fc.asyncProperty(
    fc.constantFrom('America/Chicago', 'Europe/Berlin', 'Asia/Kathmandu', 'America/Havana'), fc.constantFrom(dayNumber('2026-03-07'), dayNumber('2026-03-28'), dayNumber('2026-10-24'), dayNumber('2026-10-31')),
    fc.array(piece, { minLength: 1, maxLength: 10 }), async (zone, first, pieces) => {
      const u = await testUtility(db.pool, zone)
      const model = new Model(u.zone)
      const { accountId } = await u.account()
      await u.meter({ id: 'm0', assignments: [{ accountId }] })
      const served = [{ meter: 'm0', fromS: -Infinity, toS: Infinity }]
      const watches = [
        await watch(u, accountId, { kind: 'low-usage', flow: 'delivered', limit: 100_000_000n, served }),
        await watch(u, accountId, { kind: 'no-usage', flow: 'delivered', limit: 0n, served })]
      for (const [i, p] of pieces.entries()) {
        const from = u.zone.dayStart(first + p.day)
        const slots = (u.zone.dayStart(first + p.day + 1) - from) / 3600
        const hour = p.hours === 24 ? 0 : Math.min(p.hour, slots - 1)
        const count = p.hours === 24 ? slots : Math.min(p.hours, slots - hour)
        const block: PlainBlock = {
          meter: 'm0', intervalS: 3600, start: from + hour * 3600, values: new Array<number>(count).fill(p.level), version: 1_700_000_000_000_000 + i }
        model.offer(readsOf(block, u.zone))
        await u.settle([block])
        if (i % 3 === 0) await sweep(u, u.clock.nowMs)
      }
      await sweep(u, LATER_MS)
      await expectStanding(u, watches, model, spansAround(u, first + 1))
    }), { numRuns: RUNS })
}, TIMEOUT)

it('an unusual day stands against the days before it as they are in the end', async () => {
  await fc.assert(fc.asyncProperty(
    fc.array(fc.record({ day: fc.nat(69), kwh: fc.constantFrom(8, 9, 10, 11, 12, 14, 20, 40) }), { minLength: 30, maxLength: 120 }), async (reads) => {
      const u = await testUtility(db.pool, 'America/Chicago')
      const first = dayNumber('2026-08-20')
      const model = new Model(u.zone)
      const { accountId } = await u.account()
      await u.meter({ id: 'm0', assignments: [{ accountId }] })
      const w = await watch(u, accountId, { kind: 'unusual', flow: 'delivered', limit: 0n, served: [{ meter: 'm0', fromS: -Infinity, toS: Infinity }] })
      // Few weekdays, so that days have others to be compared with.
      for (const part of runs(reads, 20, random(reads.length))) {
        const blocks = part.map(({ day, kwh }, i): PlainBlock => ({
          meter: 'm0', intervalS: 86_400, start: u.zone.dayStart(first + Math.floor(day / 7) * 7 + day % 2), values: [kwh * 1000],
          version: 1_700_000_000_000_000 + reads.indexOf(part[i]) }))
        for (const b of blocks) model.offer(readsOf(b, u.zone))
        await u.settle(blocks)
        await sweep(u, u.clock.nowMs)
      }
      await sweep(u, LATER_MS)
      const days = Array.from({ length: 80 }, (_, i): Span => [u.zone.dayStart(first + i), u.zone.dayStart(first + i + 1)])
      await expectStanding(u, [w], model, { days, months: [] })
    }), { numRuns: RUNS })
}, TIMEOUT)
