import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { testUtility, type PlainBlock, type TestUtility } from '../../test/settling.js'
import { dayNumber } from '../time/text.js'
import { putRules } from './rule-set-store.js'
import { sweepGaps, validateSome } from './step.js'

let db: TestDatabase
beforeAll(async () => {
  db = await testDatabase()
})
afterAll(() => db.close())

const FIRST = dayNumber('2026-10-01')

/** A day of quarter hours in Chicago, Wh. */
function dayOf(u: TestUtility, meter: string, day: number, wh: (slot: number) => number | null, version?: number): PlainBlock {
  const slots = (u.zone.dayStart(day + 1) - u.zone.dayStart(day)) / 900
  return { meter, start: u.zone.dayStart(day), values: Array.from({ length: slots }, (_, i) => wh(i)), ...(version === undefined ? {} : { version }) }
}
const plain = (day: number) => (i: number): number => (i >= 24 && i < 88 ? 400 : 200) + (i * 7 + day * 13) % 23

async function judgeAll(u: TestUtility): Promise<void> {
  while ((await validateSome(db.pool, u.utilityId, u.clock.nowMs / 1000)).more);
}

async function flags(u: TestUtility): Promise<unknown[]> {
  const { rows } = await db.pool.query<Record<string, unknown>>(
    `select m.id as meter, f.day, f.rule, f.severity, f.slots, f.inputs from day_flag f join channel c using (channel_id) join meter m using (meter_id)
      where f.utility_id = $1 order by 1, 2, 3`, [u.utilityId])
  return rows
}

describe('days that changed are judged from what is stored', () => {
  it('flags a spike against the fortnight\'s baseline, and takes the flag back when the day is put right', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    for (let d = FIRST; d < FIRST + 42; d += 7) await u.settle(Array.from({ length: 7 }, (_, i) => dayOf(u, meter, d + i, plain(d + i))))
    await judgeAll(u)
    expect(await flags(u)).toEqual([])
    const bad = FIRST + 42
    await u.settle([dayOf(u, meter, bad, (i) => i === 40 ? 9000 : plain(bad)(i))])
    await judgeAll(u)
    expect(await flags(u)).toMatchObject([{ day: '2026-11-12', rule: 'max-history', slots: [40] }, { day: '2026-11-12', rule: 'spike', slots: [40], inputs: { highest: 9 } }])
    await u.settle([dayOf(u, meter, bad, plain(bad))])
    await judgeAll(u)
    expect(await flags(u)).toEqual([])
  })

  it('keeps what was decided while the figures stay, and opens the flag again when they change', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    const day = (spike: number): PlainBlock => dayOf(u, meter, FIRST, (i) => i === 40 ? spike : plain(FIRST)(i))
    await u.settle([day(9000)])
    await judgeAll(u)
    await db.pool.query(`update day_flag set state = 'accepted', reason = 'welding' where utility_id = $1`, [u.utilityId])
    await u.settle([{ ...day(9000), quality: 'validated' }])
    await judgeAll(u)
    const state = async (): Promise<unknown> => (await db.pool.query('select rule, state, reason from day_flag where utility_id = $1', [u.utilityId])).rows
    expect(await state()).toEqual([{ rule: 'spike', state: 'accepted', reason: 'welding' }])
    await u.settle([{ ...day(9500), quality: 'validated' }])
    await judgeAll(u)
    expect(await state()).toEqual([{ rule: 'spike', state: 'open', reason: null }])
  })

  it('looks for gaps once a day is due, of channels that read before', async () => {
    const u = await testUtility(db.pool)
    const [meter, other, silent] = [await u.meter(), await u.meter(), await u.meter()]
    const due = dayNumber('2026-11-19')
    await u.settle([meter, other, silent].map((m) => dayOf(u, m, due - 1, plain(due - 1))))
    await u.settle([dayOf(u, meter, due, plain(due)), dayOf(u, other, due, (i) => i < 90 ? plain(due)(i) : null)])
    u.clock.nowMs = Date.parse('2026-11-19T20:00:00Z')
    await sweepGaps(db.pool, u.utilityId, u.clock.nowMs / 1000)
    await judgeAll(u)
    expect(await flags(u)).toEqual([])
    u.clock.nowMs = Date.parse('2026-11-20T12:00:00Z')
    expect(await sweepGaps(db.pool, u.utilityId, u.clock.nowMs / 1000)).toBe(2)
    expect(await sweepGaps(db.pool, u.utilityId, u.clock.nowMs / 1000)).toBe(0)
    await judgeAll(u)
    const found = await flags(u) as { meter: string; inputs: { missing: number } }[]
    expect(new Map(found.map((f) => [f.meter, f.inputs.missing]))).toEqual(new Map([[other, 6], [silent, 96]]))
  })

  it('judges by the rules in force, and not at all where the utility says so', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    expect(await putRules(db.pool, u.utilityId, { rules: { spike: { ratio: 50 } } }, 'test')).toMatchObject({ version: 1 })
    expect(await putRules(db.pool, u.utilityId, { rules: { spike: { ratio: 50 } } }, 'test')).toMatchObject({ version: 1 })
    await u.settle([dayOf(u, meter, FIRST, (i) => i === 40 ? 9000 : plain(FIRST)(i))])
    await judgeAll(u)
    expect(await flags(u)).toEqual([])
    await putRules(db.pool, u.utilityId, { validation: false }, 'test')
    await u.settle([dayOf(u, meter, FIRST, (i) => i === 40 ? 9500 : plain(FIRST)(i))])
    expect((await db.pool.query('select 1 from vee_pending where utility_id = $1', [u.utilityId])).rows).toEqual([])
  })

  it('comes to the same flags whatever the order of arrival and of judging (C2)', async () => {
    const oddity = fc.record({ day: fc.integer({ min: 25, max: 48 }), kind: fc.constantFrom('spike', 'zeros', 'scale', 'gap', 'stuck'), at: fc.nat(80) })
    await fc.assert(fc.asyncProperty(fc.array(oddity, { minLength: 1, maxLength: 4 }), fc.array(fc.nat(999), { minLength: 49, maxLength: 49 }), async (oddities, ranks) => {
      const value = (day: number, i: number): number | null => {
        let v: number | null = plain(day)(i)
        for (const o of oddities) {
          if (FIRST + o.day !== day) continue
          if (o.kind === 'spike' && i === o.at) v = 20_000
          if (o.kind === 'zeros') v = 0
          if (o.kind === 'scale') v = (v ?? 0) * 4
          if (o.kind === 'gap' && i >= o.at && i < o.at + 5) v = null
          if (o.kind === 'stuck' && i >= o.at) v = 333
        }
        return v
      }
      const outcomes: unknown[] = []
      for (const shuffled of [false, true]) {
        const u = await testUtility(db.pool)
        const meter = await u.meter({ id: `same-${u.utilityId}` })
        const order = ranks.map((rank, i) => ({ rank, i })).sort((a, b) => shuffled ? a.rank - b.rank : a.i - b.i).map(({ i }) => i)
        for (let k = 0; k < order.length; k += 12) {
          await u.settle(order.slice(k, k + 12).map((i) => dayOf(u, meter, FIRST + i, (slot) => value(FIRST + i, slot))))
          if (shuffled && ranks[k] % 2 === 0) await judgeAll(u)
        }
        await judgeAll(u)
        outcomes.push((await flags(u)).map((f) => ({ ...f as object, meter: '' })))
      }
      expect(outcomes[1]).toEqual(outcomes[0])
      expect(outcomes[0]).not.toEqual([])
    }), { numRuns: Number(process.env.FC_RUNS ?? 6) })
  }, 180_000)
})
