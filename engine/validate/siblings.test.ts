import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { testUtility, type PlainBlock, type TestUtility } from '../../test/settling.js'
import { shadowRules } from '../estimate/shadow.js'
import { dayNumber } from '../time/text.js'
import { sweepGaps, validateSome } from './step.js'

let db: TestDatabase
beforeAll(async () => {
  db = await testDatabase()
})
afterAll(() => db.close())

const DUE = dayNumber('2026-11-19')
const plain = (day: number) => (i: number): number => (i >= 24 && i < 88 ? 400 : 200) + (i * 7 + day * 13) % 23

function dayOf(u: TestUtility, meter: string, day: number, wh: (slot: number) => number = plain(day)): PlainBlock {
  return { meter, start: u.zone.dayStart(day), values: Array.from({ length: (u.zone.dayStart(day + 1) - u.zone.dayStart(day)) / 900 }, (_, i) => wh(i)) }
}

async function flags(u: TestUtility, rule?: string): Promise<unknown[]> {
  while ((await validateSome(db.pool, u.utilityId, u.clock.nowMs / 1000)).more);
  return (await db.pool.query<Record<string, unknown>>(
    `select m.id as meter, c.flow, c.interval_s, f.day::text as day, f.rule, f.inputs from day_flag f join channel c using (channel_id) join meter m using (meter_id)
      where f.utility_id = $1 and ($2::text is null or f.rule = $2) order by 1, 2, 3, 4, 5`, [u.utilityId, rule ?? null])).rows
}

describe('a meter\'s channels', () => {
  it('are held against the flows that the registry names, once the day is due and until they come', async () => {
    const u = await testUtility(db.pool)
    const [never, late, single] = [await u.meter(), await u.meter(), await u.meter()]
    await db.pool.query(`update meter set flows = '{delivered,received}' where id = any($1)`, [[never, late]])
    await u.settle([dayOf(u, never, DUE), dayOf(u, late, DUE), dayOf(u, single, DUE), { ...dayOf(u, late, DUE - 60), flow: 'received' }])
    u.clock.nowMs = Date.parse('2026-11-19T20:00:00Z')
    expect(await flags(u, 'sibling')).toMatchObject([{ meter: late, flow: 2, day: '2026-09-20', inputs: { flow: 1 } }])
    u.clock.nowMs = Date.parse('2026-11-20T12:00:00Z')
    // Both hold a whole day of what was delivered; nothing of what was received came in the five weeks before.
    await sweepGaps(db.pool, u.utilityId, u.clock.nowMs / 1000)
    const lacking = { flow: 1, day: '2026-11-19', inputs: { flow: 2 } }
    expect(await flags(u, 'sibling')).toMatchObject([never, late].sort().flatMap((meter) => meter === late
      ? [{ meter, ...lacking }, { meter, flow: 2, inputs: { flow: 1 } }] : [{ meter, ...lacking }]))
    await u.settle([{ ...dayOf(u, never, DUE), flow: 'received' }, { ...dayOf(u, late, DUE), flow: 'received' }, dayOf(u, late, DUE - 60)])
    expect(await flags(u, 'sibling')).toEqual([])
  })

  it('of one flow are held against the longest, whichever came first', async () => {
    const wrong = (m: string, u: TestUtility): PlainBlock => ({ meter: m, start: u.zone.dayStart(DUE), intervalS: 86_400, values: [40_000] })
    const outcomes: unknown[] = []
    for (const dailyFirst of [true, false]) {
      const u = await testUtility(db.pool)
      const meter = await u.meter({ id: `m-${u.utilityId}` })
      const quarters = dayOf(u, meter, DUE)
      const parts = dailyFirst ? [wrong(meter, u), quarters] : [quarters, wrong(meter, u)]
      for (const part of parts) {
        await u.settle([part])
        await flags(u)
      }
      outcomes.push((await flags(u) as { meter: string }[]).map((f) => ({ ...f, meter: '' })))
      const shadow = await shadowRules(db.pool, u.utilityId, { rules: { 'sibling-sum': { enabled: false } } }, 5, Date.parse('2026-11-20T12:00:00Z') / 1000)
      expect(shadow.inForce.flags['sibling-sum']).toBe(1)
      expect(shadow.shadow.flags['sibling-sum']).toBeUndefined()
      await u.settle([{ ...wrong(meter, u), values: [quarters.values.reduce<number>((a, b) => a + (b ?? 0), 0)] }])
      expect(await flags(u)).toEqual([])
    }
    expect(outcomes[0]).toMatchObject([{ flow: 1, interval_s: 900, day: '2026-11-19', rule: 'sibling-sum', inputs: { sibling: 40, siblingIntervalSeconds: 86_400 } }])
    expect(outcomes[1]).toEqual(outcomes[0])
  })
})

describe('a shift by an hour', () => {
  it('is found from the days together, whatever order they come in (C2)', async () => {
    const first = dayNumber('2026-10-01')
    const habit = (hour: number): number => hour === 7 || hour === 18 ? 900 : hour > 11 && hour < 14 ? 500 : 150
    const wh = (day: number) => (i: number): number => {
      const late = day >= first + 43 ? 1 : 0
      return habit((Math.floor(i / 4) - late + 24) % 24) + (i * 7 + day * 13) % 97
    }
    const days = Array.from({ length: 49 }, (_, i) => first + i)
    const outcomes: unknown[] = []
    for (const order of [days, [...days].reverse(), [...days].sort((a, b) => (a * 7919) % 101 - (b * 7919) % 101)]) {
      const u = await testUtility(db.pool)
      const meter = await u.meter({ id: `m-${u.utilityId}` })
      for (let k = 0; k < order.length; k += 7) {
        await u.settle(order.slice(k, k + 7).map((d) => dayOf(u, meter, d, wh(d))))
        await flags(u)
      }
      outcomes.push((await flags(u) as { meter: string }[]).map((f) => ({ ...f, meter: '' })))
    }
    expect(outcomes[0]).toMatchObject([{ day: '2026-11-17', rule: 'shift-hour', inputs: { hours: 1, days: 5 } }, { day: '2026-11-18', rule: 'shift-hour' }])
    expect(outcomes[1]).toEqual(outcomes[0])
    expect(outcomes[2]).toEqual(outcomes[0])
  })

  it('is not looked for where the meter has panels: they keep no clock change', async () => {
    const first = dayNumber('2026-10-01')
    const wh = (day: number) => (i: number): number => {
      const hour = (Math.floor(i / 4) - (day >= first + 43 ? 1 : 0) + 24) % 24
      return (hour === 7 || hour === 18 ? 900 : 150) + (i * 7 + day * 13) % 97
    }
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    for (let d = first; d < first + 49; d++) await u.settle([dayOf(u, meter, d, wh(d)), { ...dayOf(u, meter, d, wh(d)), flow: 'received' }])
    expect(await flags(u, 'shift-hour')).toEqual([])
  })
})
