import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { testUtility, type PlainBlock, type TestUtility } from '../../test/settling.js'
import { onConnection } from '../store/db.js'
import { blockKey, readBlocks, readRevisions } from '../store/blocks.js'
import { dayNumber } from '../time/text.js'
import type { Finding } from './day.js'
import { deliveriesOf, skippableRules, withoutSkipped } from './skipping.js'
import { validateSome } from './step.js'

let db: TestDatabase
beforeAll(async () => {
  db = await testDatabase()
})
afterAll(() => db.close())

const DAY = dayNumber('2026-10-05')
const plain = (i: number): number => (i >= 24 && i < 88 ? 400 : 200) + (i * 7) % 23

function piece(u: TestUtility, meter: string, from: number, to: number, wh: (slot: number) => number, day = DAY): PlainBlock {
  return { meter, start: u.zone.dayStart(day) + from * 900, values: Array.from({ length: to - from }, (_, i) => wh(from + i)) }
}

async function flags(u: TestUtility): Promise<{ rule: string; slots: number[] }[]> {
  while ((await validateSome(db.pool, u.utilityId, u.clock.nowMs / 1000)).more);
  return (await db.pool.query<{ rule: string; slots: number[] }>('select rule, slots from day_flag where utility_id = $1 order by rule', [u.utilityId])).rows
}

describe('what is left of a day\'s findings', () => {
  const finding = (rule: string, slots: number[]): Finding => ({ rule, severity: 'warning', slots, inputs: {}, parameters: {} })
  const skipped = new Map([[7, new Set(['spike', 'zero'])], [8, new Set(['zero'])]])

  it('is nothing of a rule that all sources of the day skip; reads that are nobody\'s do not count', () => {
    const found = [finding('spike', [1]), finding('zero', []), finding('stuck', [0, 1])]
    expect(withoutSkipped(found, [7, 7, 0, 7], skipped).map((f) => f.rule)).toEqual(['stuck'])
    expect(withoutSkipped(found, [7, 8, 0, 8], skipped).map((f) => f.rule)).toEqual(['spike', 'stuck'])
  })

  it('is a finding without the slots of sources that skip its rule, and the day\'s findings as they are', () => {
    const found = [finding('spike', [0, 1, 2]), finding('zero', [])]
    expect(withoutSkipped(found, [7, 9, 7, 9], skipped)).toEqual([{ ...found[0], slots: [1] }, found[1]])
    expect(withoutSkipped([finding('spike', [0, 2])], [7, 9, 7, 9], skipped)).toEqual([])
  })

  it('is everything on a day without reads, and of reads whose source cannot be told', () => {
    const found = [finding('gap', [0, 1]), finding('spike', [0])]
    expect(withoutSkipped(found, [0, 0], new Map([[7, new Set(['gap', 'spike'])]]))).toEqual(found)
    expect(withoutSkipped(found, [-1, 0], new Map([[7, new Set(['gap', 'spike'])]]))).toEqual(found)
  })
})

describe('the settings of sources', () => {
  it('leave a rule out for the reads of those that say so', async () => {
    const u = await testUtility(db.pool)
    const [quiet, other] = [await u.source({ skipRules: ['spike', 'negative-energy'] }), await u.source()]
    const spiky = (at: number) => (i: number): number => i === at ? 9000 : plain(i)
    const meters = await Promise.all(Array.from({ length: 4 }, () => u.meter()))
    await u.settle([piece(u, meters[0], 0, 96, spiky(40))], { source: quiet })
    await u.settle([piece(u, meters[1], 0, 96, spiky(40))], { source: other })
    // Of two sources: the spike is the quiet one's, and then the other's.
    await u.settle([piece(u, meters[2], 0, 48, spiky(40)), piece(u, meters[3], 0, 48, plain)], { source: quiet })
    await u.settle([piece(u, meters[2], 48, 96, plain), piece(u, meters[3], 48, 96, spiky(60))], { source: other })
    await flags(u)
    const { rows } = await db.pool.query(
      'select m.id, f.rule, f.slots from day_flag f join channel c using (channel_id) join meter m using (meter_id) where f.utility_id = $1', [u.utilityId])
    expect(new Set(rows)).toEqual(new Set([{ id: meters[1], rule: 'spike', slots: [40] }, { id: meters[3], rule: 'spike', slots: [60] }]))
  })

  it('hold for days judged from then on, and the read that stands says whose it is', async () => {
    const u = await testUtility(db.pool)
    const [one, two] = [await u.source(), await u.source({ skipRules: ['spike'] })]
    const meter = await u.meter()
    const spike = piece(u, meter, 40, 41, () => 9000)
    await u.settle([piece(u, meter, 0, 96, (i) => i === 40 ? 9000 : plain(i))], { source: one })
    expect(await flags(u)).toEqual([{ rule: 'spike', slots: [40] }])
    await db.pool.query(`update source set settings = '{"skipRules": ["spike"]}' where source_id = $1`, [one.sourceId])
    expect(await flags(u)).toEqual([{ rule: 'spike', slots: [40] }])
    await u.settle([piece(u, meter, 3, 4, () => 77)], { source: one })
    expect(await flags(u)).toEqual([])
    // The same value, stated later by a source that skips the rule, and then by one that does not.
    const three = await u.source()
    await u.settle([spike], { source: two })
    expect(await flags(u)).toEqual([])
    await u.settle([{ ...spike, quality: 'validated' }], { source: three })
    expect(await flags(u)).toEqual([{ rule: 'spike', slots: [40] }])
  })

  it('know every rule by its id, a utility\'s own too', () => {
    const known = skippableRules({ dynamic: [{ name: 'leak', statistic: 'min', above: 1, below: null, severity: 'warning' }] })
    expect(known).toEqual(expect.arrayContaining(['negative-energy', 'spike', 'gap', 'shift-hour', 'dynamic:leak']))
    expect(new Set(known).size).toBe(known.length)
  })
})

describe('the delivery of each read', () => {
  it('is that of the greatest offer that was not withdrawn, whatever the order (C2)', async () => {
    const offer = fc.record({ from: fc.integer({ min: 0, max: 20 }), count: fc.integer({ min: 1, max: 12 }), version: fc.integer({ min: 1, max: 1_000_000 }),
      quality: fc.constantFrom<'actual' | 'estimated' | 'validated'>('actual', 'actual', 'estimated', 'validated'), isWithdrawn: fc.integer({ min: 0, max: 3 }) })
    await fc.assert(fc.asyncProperty(fc.array(offer, { minLength: 1, maxLength: 7 }), async (offers) => {
      const u = await testUtility(db.pool)
      const meter = await u.meter()
      const numbers: number[] = []
      for (const [k, o] of offers.entries()) {
        // Values and versions of its own for each delivery: a repeated read tells nothing of who was first.
        const { delivery } = await u.settle([{ ...piece(u, meter, o.from, o.from + o.count, (i) => i * 10 + k), quality: o.quality, version: o.version * 10 + k }])
        numbers.push((await db.pool.query<{ delivery_no: number }>('select delivery_no from delivery where delivery_id = $1', [delivery])).rows[0].delivery_no)
        if (o.isWithdrawn === 0) await u.withdraw(delivery)
      }
      const { rows: [channel] } = await db.pool.query<{ channel_id: number }>('select channel_id from channel where utility_id = $1', [u.utilityId])
      const found = await onConnection(db.pool, async (client) => {
        const block = (await readBlocks(client, [channel.channel_id], [DAY])).get(blockKey(channel.channel_id, DAY))!
        return [...deliveriesOf(block, await readRevisions(client, [channel.channel_id], [DAY]))]
      })
      const rank = { actual: 3, estimated: 1, validated: 4 }
      const expected = Array.from({ length: 96 }, (_, slot) => {
        const standing = offers.map((o, k) => ({ ...o, k })).filter((o) => o.isWithdrawn !== 0 && slot >= o.from && slot < o.from + o.count)
          .sort((a, b) => rank[b.quality] - rank[a.quality] || b.version * 10 + b.k - a.version * 10 - a.k)
        return standing.length === 0 ? 0 : numbers[standing[0].k]
      })
      expect(found).toEqual(expected)
    }), { numRuns: Number(process.env.FC_RUNS ?? 15) })
  }, 120_000)
})
