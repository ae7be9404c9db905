import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { alertFixture, secrets, type AlertFixture } from '../../test/alert-fixture.js'
import { expectTold, StepSender } from '../../test/alert-sender.js'
import { takeAnyDay, testDatabase, type TestDatabase } from '../../test/database.js'
import { inTransaction } from '../store/db.js'
import { dayNumber } from '../time/text.js'
import { evaluateThresholds } from './evaluate.js'

const RUNS = Number(process.env.PROPERTY_RUNS ?? 20)
const DAY = dayNumber('2026-03-07')
const DAYS = 3
const DAY_LIMIT = 20
const PERIOD_LIMIT = 45

let db: TestDatabase

beforeAll(async () => {
  db = await testDatabase()
  await takeAnyDay(db)
})
afterAll(async () => db.close())

/** Something that happens: reads settle, or the sender gets one step further with all that it holds. */
type Event =
  | { do: 'settle'; meter: number; day: number; level: number | null }
  // The first day passes to the other side of its limit: messages are to meet each other in every state.
  | { do: 'flip' }
  | { do: 'lease' | 'hand-over' | 'crash' | 'drain' }
  | { do: 'end'; state: 'sent' | 'unknown' | 'retry' }

const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('flip' as const) }) },
  { weight: 2, arbitrary: fc.record({
    do: fc.constant('settle' as const), meter: fc.integer({ min: 0, max: 1 }), day: fc.integer({ min: 0, max: DAYS - 1 }),
    level: fc.constantFrom(0, 5, 12, 25, null) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constantFrom('lease' as const, 'hand-over' as const) }) },
  { weight: 3, arbitrary: fc.record({
    do: fc.constant('end' as const), state: fc.constantFrom('sent' as const, 'unknown' as const, 'retry' as const, 'retry' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('crash' as const, 'drain' as const) }) },
)

const flip: Event = { do: 'flip' }
const handedOver: Event[] = [{ do: 'lease' }, { do: 'hand-over' }]
const ended = (state: 'sent' | 'unknown' | 'retry'): Event => ({ do: 'end', state })

/** Meetings that chance finds seldom. */
const EXAMPLES: Event[][] = [
  // Retracted and raised again while the first message is with the server, which then refuses it.
  [flip, ...handedOver, flip, flip, ended('retry')],
  // The same with the correction.
  [flip, ...handedOver, ended('sent'), flip, ...handedOver, flip, flip, ended('retry')],
  [flip, ...handedOver, { do: 'crash' }, flip, ...handedOver, flip, { do: 'crash' }, flip],
]

async function account(f: AlertFixture): Promise<{ accountId: number; channels: number[]; thresholds: Record<string, string> }> {
  const { accountId } = await f.account()
  const one = await f.meter(accountId, { intervalS: 3600 })
  const two = await f.meter(accountId, { intervalS: 3600 })
  await f.contact(accountId)
  await f.contact(accountId, { channel: 'sms' })
  return {
    accountId,
    channels: [one.channelId, two.channelId],
    thresholds: {
      day: await f.threshold(accountId, { limit: String(DAY_LIMIT) }),
      period: await f.threshold(accountId, { kind: 'period-usage', limit: String(PERIOD_LIMIT) }),
    },
  }
}

it('what stands is what a plain evaluation of the final data gives, and what was told is true or was taken back once', async () => {
  await fc.assert(fc.asyncProperty(fc.array(event, { minLength: 5, maxLength: 60, size: 'max' }), async (events) => {
    // Early on, what is told is fresh, late or in quiet hours; each check waits until the digests are out.
    let clockMs = Date.parse('2026-03-08T02:58:00Z')
    const f = await alertFixture(db.pool)
    const a = await account(f)
    const sender = new StepSender(db.pool, () => new Date(clockMs))
    const levels = new Map<string, number>()
    const settle = async (meter: number, d: number, level: number | null): Promise<void> => {
      const day = DAY + d
      // The clocks go forward on the second day: 23 hours.
      const hours = (f.zone.dayStart(day + 1) - f.zone.dayStart(day)) / 3600
      const values = level === null ? [] : [level * 1000, ...new Array<number>(hours - 1).fill(0)]
      await f.block(a.channels[meter], day, values, { intervalS: 3600 })
      levels.set(`${meter} ${d}`, level ?? 0)
      await inTransaction(db.pool, (client) => evaluateThresholds(client, {
        utilityId: f.utilityId, zone: f.zone, days: new Map([[a.accountId, [day]]]), history: false, deliveryId: null,
        now: new Date(clockMs), secrets }))
    }
    const check = async (): Promise<void> => {
      clockMs += 26 * 3_600_000
      await sender.drain()
      const dayTotals = Array.from({ length: DAYS }, (_, d) => (levels.get(`0 ${d}`) ?? 0) + (levels.get(`1 ${d}`) ?? 0))
      const plain = dayTotals.flatMap((total, d) => total > DAY_LIMIT ? [`day ${DAY + d} ${total}`] : [])
      const periodTotal = dayTotals.reduce((x, y) => x + y, 0)
      if (periodTotal > PERIOD_LIMIT) plain.push(`period ${dayNumber('2026-03-01')} ${periodTotal}`)
      const { rows: all } = await db.pool.query<{ threshold_id: string; start_s: number; value: string; state: string }>(
        `select threshold_id, extract(epoch from period_start)::float8 as start_s, value, state from alert where account_id = $1`, [a.accountId])
      const standing = all.filter((r) => r.state === 'raised').map((r) =>
        `${r.threshold_id === a.thresholds.day ? 'day' : 'period'} ${f.zone.dayOf(r.start_s)} ${Number(r.value)}`)
      expect(standing.sort()).toEqual(plain.sort())

      await expectTold(db.pool, f.utilityId, sender)
    }
    for (const e of events) {
      clockMs += 2_000
      switch (e.do) {
        case 'settle':
          await settle(e.meter, e.day, e.level)
          break
        case 'flip':
          await settle(0, 0, (levels.get('0 0') ?? 0) > DAY_LIMIT ? 0 : 25)
          break
        case 'lease':
          await sender.lease()
          break
        case 'hand-over':
          await sender.handOver()
          break
        case 'end':
          await sender.end(e.state)
          break
        case 'drain':
          await check()
          break
        case 'crash':
          await sender.crash()
          clockMs += 120_000
          break
      }
    }
    await check()
  }), { numRuns: RUNS, examples: EXAMPLES.map((events) => [events]) })
}, 120_000)
