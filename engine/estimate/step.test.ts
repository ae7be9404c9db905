import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { storedBlocks, storedLoad, testUtility, type PlainBlock, type PlainRow, type TestUtility } from '../../test/settling.js'
import { expectSound } from '../../test/soundness.js'
import { Quality } from '../read-batch.js'
import { dayNumber } from '../time/text.js'
import { putRules } from '../validate/rule-set-store.js'
import { editFlagged } from './edit.js'
import { Method } from './fill.js'
import { shadowRules } from './shadow.js'
import { estimateSome } from './step.js'
import { veeTurn } from './turn.js'

let db: TestDatabase
beforeAll(async () => {
  db = await testDatabase()
})
afterAll(() => db.close())

const FIRST = dayNumber('2026-10-15')
const NOW = '2026-11-20T12:00:00Z'

function dayOf(u: TestUtility, meter: string, day: number, wh: (slot: number) => number | null): PlainBlock {
  const slots = (u.zone.dayStart(day + 1) - u.zone.dayStart(day)) / 900
  return { meter, start: u.zone.dayStart(day), values: Array.from({ length: slots }, (_, i) => wh(i)) }
}
const plain = (day: number) => (i: number): number => (i >= 24 && i < 88 ? 400 : 200) + (i * 7 + day * 13) % 23

/** Turns until nothing is left to do. */
async function settleDown(u: TestUtility): Promise<number> {
  let estimated = 0
  for (let turns = 0; ; turns++) {
    u.clock.nowMs += 1000
    const turn = await veeTurn(db.pool, u.settler, u.utilityId, u.clock.nowMs)
    estimated += turn.estimated
    if (!turn.more) return estimated
    expect(turns).toBeLessThan(200)
  }
}

async function utility(estimation = {}): Promise<TestUtility> {
  const u = await testUtility(db.pool)
  u.clock.nowMs = Date.parse(NOW)
  await putRules(db.pool, u.utilityId, { estimation: { enabled: true, ...estimation } }, 'test')
  return u
}

/** What stands, but for the versions of estimates, which say when they were made. */
async function standing(u: TestUtility): Promise<unknown[]> {
  return (await storedBlocks(db.pool, u.utilityId)).map(({ version: _, versions: __, meter: ___, ...row }) => row)
}

describe('gaps of due days are filled', () => {
  it('once: as a delivery of its own, that changes totals and load, and gives way to any actual', async () => {
    const u = await utility()
    const meter = await u.meter()
    const due = dayNumber('2026-11-19')
    for (let d = FIRST; d < due; d++) await u.settle([dayOf(u, meter, d, plain(d))])
    await u.settle([dayOf(u, meter, due, (i) => i >= 40 && i < 44 ? null : plain(due)(i))])
    expect(await settleDown(u)).toBe(4)
    expect(await settleDown(u)).toBe(0)
    await db.pool.query('update vee_gap set touched = touched + 1')
    expect(await estimateSome(db.pool, u.settler, u.utilityId, u.clock.nowMs)).toMatchObject({ reads: 0 })
    const block = (await storedBlocks(db.pool, u.utilityId)).at(-1)!
    const ends = [plain(due)(39), plain(due)(44)]
    const line = [1, 2, 3, 4].map((k) => Math.round(ends[0] + (ends[1] - ends[0]) * k / 5))
    expect(block.vals.slice(40, 44)).toEqual(line)
    expect(block).toMatchObject({ present: 96, estimated: 4 })
    expect(block.lane?.slice(39, 45)).toEqual([0, 9, 9, 9, 9, 0])
    const { rows } = await db.pool.query(
      `select d.kind, d.door, s.name, d.received, d.stored, b.basis from delivery d join source s using (source_id)
         join estimate_basis b using (delivery_no) where d.utility_id = $1`, [u.utilityId])
    expect(rows).toEqual([{ kind: 'estimate', door: 'engine', name: 'meterline', received: 4, stored: 4, basis: { methods: ['linear'] } }])
    await expectSound(db.pool, u.utilityId)

    // Whatever a source says outranks it, also its own estimate.
    expect(await u.settle([{ meter, start: u.zone.dayStart(due) + 40 * 900, values: [7], quality: 'estimated', version: 1_600_000_000_000_000 }])).toMatchObject({ corrected: 1 })
    expect(await u.settle([dayOf(u, meter, due, plain(due))])).toMatchObject({ corrected: 4, duplicate: 92 })
    expect(await settleDown(u)).toBe(0)
    expect((await storedBlocks(db.pool, u.utilityId)).at(-1)).toMatchObject({ estimated: 0, lane: null })
    await expectSound(db.pool, u.utilityId)
  })

  it('by another method are told as that, though they come to the same', async () => {
    const u = await utility()
    const meter = await u.meter()
    const due = dayNumber('2026-11-19')
    for (let d = FIRST; d < due; d++) await u.settle([dayOf(u, meter, d, () => 100)])
    await u.settle([dayOf(u, meter, due, (i) => i < 40 ? 100 : null)])
    expect(await settleDown(u)).toBe(56)
    expect((await storedBlocks(db.pool, u.utilityId)).at(-1)?.lane?.[40]).toBe(Quality.estimated | Method.likeDay << 3)
    u.clock.nowMs += 1000
    await u.settle([dayOf(u, meter, due, (i) => i < 44 ? null : 100)])
    await settleDown(u)
    const block = (await storedBlocks(db.pool, u.utilityId)).at(-1)!
    expect(block).toMatchObject({ present: 96, estimated: 4 })
    expect(block.lane?.slice(39, 45)).toEqual([0, ...Array<number>(4).fill(Quality.estimated | Method.linear << 3), 0])
    await expectSound(db.pool, u.utilityId)
  })

  it('not at all where the utility does not ask for it', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    for (let d = FIRST; d < FIRST + 8; d++) await u.settle([dayOf(u, meter, d, (i) => i === 40 ? null : plain(d)(i))])
    expect(await settleDown(u)).toBe(0)
    expect((await storedBlocks(db.pool, u.utilityId)).every((b) => b.present === 95)).toBe(true)
  })

  it('and raise alerts only where the utility says so', async () => {
    for (const raiseAlerts of [false, true]) {
      const u = await utility()
      await db.pool.query('update utility set alert_on_estimates = $2 where utility_id = $1', [u.utilityId, raiseAlerts])
      const { accountId } = await u.account()
      const meter = await u.meter({ assignments: [{ accountId }] })
      const due = dayNumber('2026-11-19')
      for (let d = FIRST; d < due; d++) await u.settle([dayOf(u, meter, d, plain(d))])
      await u.settle([dayOf(u, meter, due, (i) => i < 48 ? null : plain(due)(i))])
      await u.threshold(accountId, { limit: '25' })
      await db.pool.query(`delete from alert where utility_id = $1`, [u.utilityId])
      expect(await settleDown(u)).toBe(48)
      const { rows } = await db.pool.query('select state from alert where utility_id = $1 and period_start = to_timestamp($2)', [u.utilityId, u.zone.dayStart(due)])
      expect(rows).toEqual(raiseAlerts ? [{ state: 'raised' }] : [])
    }
  })

  it('with the same reads in the end whatever the order of arrival, corrections and repetitions among it (C1-C4, C7)', async () => {
    const gap = fc.record({ day: fc.integer({ min: 15, max: 34 }), from: fc.nat(95), count: fc.integer({ min: 1, max: 140 }) })
    const fix = fc.record({ day: fc.integer({ min: 0, max: 35 }), from: fc.nat(90), count: fc.integer({ min: 1, max: 8 }), add: fc.integer({ min: 1, max: 900 }) })
    await fc.assert(fc.asyncProperty(fc.array(gap, { minLength: 1, maxLength: 3 }), fc.array(fix, { maxLength: 3 }), fc.array(fc.nat(999), { minLength: 50, maxLength: 50 }), async (gaps, fixes, ranks) => {
      const lacks = (day: number, slot: number): boolean => gaps.some((g) => {
        const at = (day - FIRST - g.day) * 96 + slot - g.from
        return at >= 0 && at < g.count
      })
      const stated = (day: number, slot: number): number | null => lacks(day, slot) ? null : plain(day)(slot)
      // The last correction of a slot stands: it states the greatest version.
      const corrected = (day: number, slot: number): number | null => {
        const last = fixes.findLast((f) => FIRST + f.day === day && slot >= f.from && slot < f.from + f.count)
        return last === undefined ? stated(day, slot) : plain(day)(slot) + last.add
      }
      const outcomes: unknown[] = []
      for (const shuffled of [false, true]) {
        const u = await utility()
        const meter = await u.meter()
        const first = ranks.slice(0, 36).map((rank, i) => ({ rank, block: { ...dayOf(u, meter, FIRST + i, (slot) => stated(FIRST + i, slot)), version: 1_000_000 } }))
        const later = fixes.map((f, k) => {
          const { start, values } = dayOf(u, meter, FIRST + f.day, (slot) => slot >= f.from && slot < f.from + f.count ? plain(FIRST + f.day)(slot) + f.add : null)
          return { rank: ranks[36 + k], block: { meter, start, values, version: 2_000_000 + k } }
        })
        const blocks = [...first, ...later, ...shuffled ? [...first, ...later].filter(({ rank }) => rank % 5 === 0) : []]
        if (shuffled) blocks.sort((a, b) => a.rank - b.rank)
        for (let k = 0; k < blocks.length; k += 9) {
          const receipt = await u.settle(blocks.slice(k, k + 9).map(({ block }) => block))
          const { received, stored, duplicate, corrected: replaced, outranked, quarantined, rejected } = receipt
          expect(stored + duplicate + replaced + outranked + quarantined + rejected).toBe(received)
          // Estimated on the way, from whatever is there by then.
          if (shuffled && k > 0 && ranks[k % 50] % 2 === 0) await settleDown(u)
        }
        await settleDown(u)
        await expectSound(db.pool, u.utilityId)
        const stands = await standing(u)
        for (const row of stands as PlainRow[]) {
          const day = dayNumber(row.day)
          row.vals.forEach((v, slot) => {
            const actual = corrected(day, slot)
            if (actual !== null) expect([row.day, slot, v]).toEqual([row.day, slot, actual])
          })
          // The day that the clocks go back has its 25 hours.
          expect(row.vals).toHaveLength((u.zone.dayStart(day + 1) - u.zone.dayStart(day)) / 900)
        }
        outcomes.push([stands, await storedLoad(db.pool, u.utilityId)])
      }
      expect(outcomes[1]).toEqual(outcomes[0])
    }), { numRuns: Number(process.env.FC_RUNS ?? 5) })
  }, 180_000)
})

describe('flagged reads are put right', () => {
  const bad = dayNumber('2026-11-18')

  async function flagged(): Promise<{ u: TestUtility; flagId: number }> {
    const u = await utility()
    const meter = await u.meter()
    for (let d = FIRST; d < bad; d++) await u.settle([dayOf(u, meter, d, plain(d))])
    await u.settle([dayOf(u, meter, bad, (i) => i === 40 ? 20_000 : plain(bad)(i))])
    await settleDown(u)
    const { rows } = await db.pool.query<{ flag_id: number }>(`select flag_id from day_flag where utility_id = $1 and rule = 'spike'`, [u.utilityId])
    return { u, flagId: rows[0].flag_id }
  }

  it('by hand, with who and why, and the flag goes', async () => {
    const { u, flagId } = await flagged()
    const edit = { utilityId: u.utilityId, flagId, actor: 'key:ops', reason: 'welder', values: [{ startS: u.zone.dayStart(bad) + 40 * 900, kwh: 0.4125 }] }
    expect(await editFlagged(db.pool, u.settler, edit, u.clock.nowMs)).toMatchObject({ received: 1, corrected: 1, source: 'meterline' })
    await settleDown(u)
    expect((await storedBlocks(db.pool, u.utilityId)).find((b) => b.day === '2026-11-18')).toMatchObject({ exponent: -4 })
    expect((await db.pool.query('select 1 from day_flag where utility_id = $1', [u.utilityId])).rows).toEqual([])
    expect((await db.pool.query('select actor, reason from delivery_reason join delivery using (delivery_no) where utility_id = $1', [u.utilityId])).rows)
      .toEqual([{ actor: 'key:ops', reason: 'welder' }])
    await expect(editFlagged(db.pool, u.settler, { ...edit, utilityId: u.utilityId + 1 }, u.clock.nowMs)).rejects.toMatchObject({ code: 'exception-not-found' })
  })

  it('by what estimation gives', async () => {
    const { u, flagId } = await flagged()
    await expect(editFlagged(db.pool, u.settler, { utilityId: u.utilityId, flagId, actor: 'x', reason: 'y', values: [{ startS: 0, kwh: 1 }] }, u.clock.nowMs))
      .rejects.toMatchObject({ code: 'edit-outside-day' })
    await editFlagged(db.pool, u.settler, { utilityId: u.utilityId, flagId, actor: 'key:ops', reason: 'spike', values: null }, u.clock.nowMs)
    const block = (await storedBlocks(db.pool, u.utilityId)).find((b) => b.day === '2026-11-18')!
    expect(block.vals[40]).toBe(Math.round((plain(bad)(39) + plain(bad)(41)) / 2))
    expect(block.lane?.[40]).toBe(5 | 1 << 3)
  })
})

describe('another rule set in the shadow', () => {
  it('tells what it would flag and fill, and changes nothing', async () => {
    const u = await testUtility(db.pool)
    u.clock.nowMs = Date.parse(NOW)
    const { accountId } = await u.account()
    const meter = await u.meter({ assignments: [{ accountId }] })
    await u.threshold(accountId, { limit: '25' })
    const due = dayNumber('2026-11-19')
    for (let d = FIRST; d <= due; d++) {
      await u.settle([dayOf(u, meter, d, (i) => d === due - 1 && i === 40 ? 20_000 : d === due && i >= 40 && i < 44 ? null : plain(d)(i))])
    }
    await settleDown(u)
    const before = [await storedBlocks(db.pool, u.utilityId), (await db.pool.query('select * from day_flag where utility_id = $1 order by 1', [u.utilityId])).rows]
    const patch = { rules: { spike: { ratio: 1000 } }, estimation: { enabled: true } }
    const report = await shadowRules(db.pool, u.utilityId, patch, 30, u.clock.nowMs / 1000)
    const line = [1, 2, 3, 4].map((k) => Math.round(plain(due)(39) + (plain(due)(44) - plain(due)(39)) * k / 5)).reduce((a, b) => a + b, 0) / 1000
    expect(report).toEqual({
      from: '2026-10-21', to: '2026-11-19', channelDays: 30, totalsChanged: 1, kwhChanged: line, alertsToJudge: 1,
      inForce: { flags: { gap: 1, 'max-history': 1, spike: 1 }, estimatedReads: 0, estimatedKwh: 0 },
      shadow: { flags: { gap: 1, 'max-history': 1 }, estimatedReads: 4, estimatedKwh: line } })
    expect([await storedBlocks(db.pool, u.utilityId), (await db.pool.query('select * from day_flag where utility_id = $1 order by 1', [u.utilityId])).rows]).toEqual(before)
  })
})
