import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { canonicalBlock, decimalText } from '../engine/canonical-block.js'
import { MISSING, type QualityName } from '../engine/read-batch.js'
import { uuidv7 } from '../engine/uuid.js'
import type { Receipt } from '../engine/receipt.js'
import { testDatabase, type TestDatabase } from '../test/database.js'
import { batchOf, quarantineOf, storedBlocks, testUtility, type TestUtility } from '../test/settling.js'
import { ndjson } from './formats/ndjson.js'
import { replayQuarantine } from './replay.js'
import type { ReplayTask } from './task.js'

let db: TestDatabase

beforeAll(async () => {
  db = await testDatabase()
})
afterAll(() => db.close())

const DAY = '2026-10-05T05:00:00Z'

function replay(u: TestUtility, options: Partial<ReplayTask> = {}): Promise<Receipt> {
  return replayQuarantine(u.settler, db.pool, {
    kind: 'replay', utilityId: u.utilityId, deliveryId: uuidv7(u.clock.nowMs), reason: null, source: null, meter: null,
    onlyRegistered: false, ...options }, u.clock.nowMs)
}

it('settles what waited for its meter, with the qualities and versions that it came with', async () => {
  const u = await testUtility(db.pool)
  await u.settle([{ meter: 'late', start: DAY, values: [1, 2, null, 4], quality: ['actual', 'estimated', 'actual', 'edited'] }], { version: 2_000_001 })
  await u.settle([{ meter: 'late', start: DAY, values: [9], version: 1_790_000_000_123_457, exponent: -6 }, { meter: 'nobody', start: DAY, values: [1] }])
  expect(await replay(u, { onlyRegistered: true })).toMatchObject({ received: 0 })
  await u.meter({ id: 'late' })
  await u.settle([{ meter: 'late', start: DAY, values: [5, 5] }], { version: 2_000_000 })
  expect(await replay(u, { onlyRegistered: true })).toMatchObject({ received: 4, stored: 1, corrected: 2, outranked: 1, quarantined: 0 })
  const [block] = await storedBlocks(db.pool, u.utilityId)
  expect(block.exponent).toBe(-6)
  expect(block.vals.slice(0, 4)).toEqual([9, 5000, null, 4000])
  expect(block.lane!.slice(0, 4)).toEqual([0, 0, 0, 5])
  expect(block.versions!.slice(0, 4)).toEqual([1_790_000_000_123_457, 2_000_000, 0, 2_000_001])
  expect((await quarantineOf(db.pool, u.utilityId)).map((q) => q.meter)).toEqual(['nobody'])
  expect(await replay(u, { onlyRegistered: true })).toMatchObject({ received: 0 })
})

it('never undoes what was settled with a later version', async () => {
  const u = await testUtility(db.pool)
  await u.settle([{ meter: 'late', start: DAY, values: [1, 1] }])
  await u.meter({ id: 'late' })
  await u.settle([{ meter: 'late', start: DAY, values: [7] }])
  expect(await replay(u)).toMatchObject({ received: 2, stored: 1, outranked: 1 })
  expect((await storedBlocks(db.pool, u.utilityId))[0].vals.slice(0, 2)).toEqual([7, 1])
})

it('puts back what is refused again, once, and each receipt adds up', async () => {
  const u = await testUtility(db.pool)
  await u.settle([{ meter: 'nobody', start: DAY, values: [1, 2, 3] }])
  for (let i = 0; i < 2; i++) {
    expect(await replay(u)).toMatchObject({ received: 3, quarantined: 3, problemCount: 1 })
    expect(await quarantineOf(db.pool, u.utilityId)).toMatchObject([{ reason: 'unknown-meter', reads: 3, record: { values: [0.001, 0.002, 0.003] } }])
  }
})

it('two at once take each record once', async () => {
  const u = await testUtility(db.pool)
  for (let i = 0; i < 20; i++) await u.settle([{ meter: 'late', start: Date.parse(DAY) / 1000 + i * 900, values: [i] }])
  await u.meter({ id: 'late' })
  const receipts = await Promise.all([replay(u), replay(u), replay(u)])
  expect(receipts.reduce((n, r) => n + r.stored, 0)).toBe(20)
  expect(receipts.reduce((n, r) => n + r.received, 0)).toBe(20)
})

it('multiplies raw values once', async () => {
  const u = await testUtility(db.pool)
  const raw = await u.source({ multiplierApplied: false })
  await u.settle([{ meter: 'late', start: DAY, values: [3, 4] }], { source: raw })
  await u.meter({ id: 'late', multiplier: 80 })
  expect(await replay(u)).toMatchObject({ stored: 2 })
  expect((await storedBlocks(db.pool, u.utilityId))[0].vals.slice(0, 2)).toEqual([240, 320])
})

it('takes daily reads back to their own days, also around a change of the clocks', async () => {
  const u = await testUtility(db.pool)
  const start = u.zone.dayStart(20_757) // 31 October 2026; the clocks go back on the first of November
  await u.settle([{ meter: 'late', start, values: [1, 2, -3, 4], intervalS: 86_400 }])
  await u.meter({ id: 'late' })
  expect(await replay(u)).toMatchObject({ received: 4, stored: 3, quarantined: 1 })
  expect((await storedBlocks(db.pool, u.utilityId)).map((b) => [b.day, b.vals])).toEqual([
    ['2026-10-31', [1]], ['2026-11-01', [2]], ['2026-11-03', [4]]])
  expect(await quarantineOf(db.pool, u.utilityId)).toMatchObject([{ reason: 'negative-energy', reads: 1 }])
  expect(await replay(u)).toMatchObject({ received: 1, quarantined: 1 })
})

it('takes what was in the future when its time has come', async () => {
  const u = await testUtility(db.pool)
  const meter = await u.meter()
  const start = Math.ceil(u.clock.nowMs / 3_600_000) * 3600 + 3600
  expect(await u.settle([{ meter, start, values: [1, 2, 3] }])).toMatchObject({ received: 3, quarantined: 3 })
  u.clock.nowMs += 7_200_000
  expect(await replay(u, { reason: 'future-read' })).toMatchObject({ received: 3, stored: 3 })
})

const QUALITIES: QualityName[] = ['actual', 'estimated', 'questionable', 'validated', 'edited']

it('a record is read back as it was: every digit, quality, version and instant', () => {
  const read = fc.record({
    value: fc.oneof(fc.constant(null), fc.integer({ min: -2147483647, max: 2147483647 }), fc.integer({ min: -999, max: 999 })),
    quality: fc.constantFrom(...QUALITIES),
  })
  const block = fc.record({
    meter: fc.string({ minLength: 1, maxLength: 20, unit: 'grapheme' }), reads: fc.array(read, { minLength: 1, maxLength: 20 }),
    start: fc.integer({ min: 350_000_000, max: 2_000_000_000 }), intervalS: fc.constantFrom(300, 900, 3600),
    exponent: fc.integer({ min: -9, max: 0 }), mixed: fc.boolean(),
    version: fc.oneof(fc.constant(undefined), fc.integer({ min: 1, max: 4e15 })), from: fc.nat(19), count: fc.nat(19),
  })
  fc.assert(fc.property(block, (b) => {
    const values = b.reads.map((r) => r.value)
    const from = b.from % values.length
    const count = 1 + b.count % (values.length - from)
    const wanted = values.slice(from, from + count)
    if (wanted.every((v) => v === null)) return
    const quality = b.mixed ? b.reads.map((r) => r.quality) : b.reads[0].quality
    const batch = batchOf([{ ...b, flow: 'net', values, quality }])
    const text = canonicalBlock(batch, 0, from, count)
    const { batch: again, problems } = ndjson.decode(Buffer.from(text), { zone: null }, null, true)
    if (/[\p{Cc}\p{Surrogate}]/u.test(b.meter)) return
    expect(problems).toEqual([])
    const reads = (x: typeof batch, k: number, at = x.offset[k], n = x.length[k]): [number, string, number][] =>
      Array.from({ length: n }, (_, i) => i + at).flatMap((i) => x.values[i] === MISSING ? [] : [[
        x.startS[k] + (i - x.offset[k]) * x.intervalS[k], decimalText(x.values[i], x.exponent[k]), x.lanes === null ? x.lane[k] : x.lanes[i]]])
    // Values that have no common power of ten come as several blocks.
    const blocks = Array.from({ length: again.count }, (_, i) => i)
    expect(blocks.flatMap((i) => reads(again, i)).sort((x, y) => x[0] - y[0])).toEqual(reads(batch, 0, from, count))
    for (const i of blocks) {
      expect([again.meters[i], again.flow[i], again.intervalS[i], again.version[i]]).toEqual([b.meter, 3, b.intervalS, b.version ?? 0])
    }
  }), { numRuns: Number(process.env.FC_RUNS ?? 1000) })
})
