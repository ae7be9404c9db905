import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../test/database.js'
import { quarantineOf, receiptOf, storedBlocks, storedLoad, testUtility, type PlainBlock } from '../test/settling.js'
import { expectNoDeadlock } from '../test/soundness.js'
import { uuidv7 } from './uuid.js'

let db: TestDatabase

beforeAll(async () => {
  db = await testDatabase()
})
afterAll(async () => {
  await expectNoDeadlock(db.pool)
  await db.close()
})

/** Midnight of 5 October 2026 in Chicago. */
const DAY = '2026-10-05T05:00:00Z'
const DAY_S = Date.parse(DAY) / 1000

function day(meter: string, value: number | ((slot: number) => number | null), extra: Partial<PlainBlock> = {}): PlainBlock {
  return { meter, start: DAY, values: Array.from({ length: 96 }, (_, i) => typeof value === 'number' ? value : value(i)), ...extra }
}

const NOTHING = { received: 0, stored: 0, duplicate: 0, corrected: 0, outranked: 0, quarantined: 0, rejected: 0 }

describe('a delivery', () => {
  it('is stored as day blocks with their aggregates and load', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    const receipt = await u.settle([day(meter, (i) => 100 + i)])
    expect(receipt).toMatchObject({
      ...NOTHING, complete: true, received: 96, stored: 96,
      from: '2026-10-05T00:00:00-05:00', to: '2026-10-06T00:00:00-05:00', alerts: { raised: 0, retracted: 0 }, problemCount: 0,
    })
    const [block, ...others] = await storedBlocks(db.pool, u.utilityId)
    expect(others).toEqual([])
    expect(block).toMatchObject({
      meter, flow: 1, interval_s: 900, day: '2026-10-05', first_s: DAY_S, exponent: -3, total: 14160, peak: 195,
      peak_slot: 95, present: 96, estimated: 0, lane: null, versions: null,
    })
    expect(block.vals).toEqual(Array.from({ length: 96 }, (_, i) => 100 + i))
    const load = await storedLoad(db.pool, u.utilityId)
    expect(load).toHaveLength(24)
    expect(load[0]).toEqual({ flow: 1, hour: DAY_S, energy: '0.406', coarse: '0' })
  })

  it('merges into the day that stands: stored, duplicate, corrected and outranked reads', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    await u.settle([{ meter, start: DAY, values: [10, 20, 30, null] }], { version: 5_000_000 })
    const later = await u.settle([{ meter, start: DAY, values: [10, 21, null, 40] }], { version: 6_000_000 })
    expect(later).toMatchObject({ ...NOTHING, received: 3, stored: 1, duplicate: 1, corrected: 1 })
    const earlier = await u.settle([{ meter, start: DAY, values: [11, 21, 31, 40] }], { version: 4_000_000 })
    expect(earlier).toMatchObject({ ...NOTHING, received: 4, duplicate: 2, outranked: 2 })
    const [block] = await storedBlocks(db.pool, u.utilityId)
    expect(block.vals.slice(0, 5)).toEqual([10, 21, 30, 40, null])
    expect(block.versions!.slice(0, 5)).toEqual([6_000_000, 6_000_000, 5_000_000, 6_000_000, 0])
    expect(block).toMatchObject({ total: 101, present: 4, version: 6_000_000, peak: 40, peak_slot: 3 })
    expect(await storedLoad(db.pool, u.utilityId)).toEqual([{ flow: 1, hour: DAY_S, energy: '0.101', coarse: '0' }])
    const { rows } = await db.pool.query<{ kind: number; slots: number[]; old_vals: (number | null)[] }>(
      `select r.kind, r.slots::int[] as slots, r.old_vals from revision r join channel c using (channel_id)
        where c.utility_id = $1 order by seq`, [u.utilityId])
    expect(rows).toEqual([
      { kind: 1, slots: [0, 1, 3], old_vals: [10, 20, null] },
      { kind: 2, slots: [0, 2], old_vals: [11, 31] },
    ])
  })

  it('lets rank stand above version, and keeps estimates that nothing better replaced', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    await u.settle([{ meter, start: DAY, values: [10, 20, 30], quality: ['edited', 'estimated', 'actual'] }], { version: 1_000 })
    const receipt = await u.settle([{ meter, start: DAY, values: [11, 21, 30], quality: 'validated' }], { version: 2_000 })
    expect(receipt).toMatchObject({ ...NOTHING, received: 3, corrected: 2, outranked: 1 })
    const [block] = await storedBlocks(db.pool, u.utilityId)
    expect(block.vals.slice(0, 3)).toEqual([10, 21, 30])
    expect(block.lane!.slice(0, 4)).toEqual([5, 4, 4, 0])
    expect(block.estimated).toBe(0)
  })

  it('keeps the version of an identical body from the same source, so that it never undoes a correction', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    await u.settle([day(meter, 100)])
    await u.settle([day(meter, 200)])
    const again = await u.settle([day(meter, 100)])
    expect(again).toMatchObject({ ...NOTHING, received: 96, outranked: 96 })
    const others = await u.settle([day(meter, 100)], { source: await u.source() })
    expect(others).toMatchObject({ ...NOTHING, received: 96, corrected: 96 })
  })

  it('takes two reads for one slot in one body by their order of rank, version and value', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    const receipt = await u.settle([
      { meter, start: DAY, values: [10, 20] }, { meter, start: DAY, values: [9, 25] }, { meter, start: DAY, values: [null, 25] }])
    expect(receipt).toMatchObject({ ...NOTHING, received: 5, stored: 2, corrected: 1, outranked: 1, duplicate: 1 })
    expect((await storedBlocks(db.pool, u.utilityId))[0].vals.slice(0, 2)).toEqual([10, 25])
  })

  it('of nothing but missing reads, or of no blocks at all, is a receipt of zeros', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    expect(await u.settle([])).toMatchObject({ ...NOTHING, from: null, to: null })
    expect(await u.settle([{ meter, start: DAY, values: [null, null] }])).toMatchObject(NOTHING)
    expect(await u.settle([{ meter: 'nobody', start: DAY, values: [null, null] }])).toMatchObject({ ...NOTHING, problemCount: 0 })
    expect(await storedBlocks(db.pool, u.utilityId)).toEqual([])
    expect(await quarantineOf(db.pool, u.utilityId)).toEqual([])
  })

  it('is refused as a whole where the utility has no zone', async () => {
    const u = await testUtility(db.pool)
    await db.pool.query('update utility set zone = null where utility_id = $1', [u.utilityId])
    await expect(u.settle([])).rejects.toMatchObject({ status: 409, code: 'utility-zone-unset' })
  })
})

describe('reads that cannot be taken', () => {
  it('of unknown meters are quarantined, rejected or registered, as the source has it', async () => {
    const u = await testUtility(db.pool)
    const known = await u.meter({ aliases: ['endpoint-1'] })
    const kept = await u.settle([day(known, 1), { meter: 'endpoint-1', start: DAY, values: [1] }, { meter: 'new', start: DAY, values: [5, null, 6] }])
    expect(kept).toMatchObject({ ...NOTHING, received: 99, stored: 96, duplicate: 1, quarantined: 2, problemCount: 1 })
    expect(kept.problems[0]).toMatchObject({ code: 'unknown-meter', at: 'record 3' })
    expect(await quarantineOf(db.pool, u.utilityId)).toMatchObject([{
      reason: 'unknown-meter', meter: 'new', reads: 2,
      record: { meter: 'new', start: '2026-10-05T05:00:00.000Z', intervalSeconds: 900, values: [0.005, null, 0.006], unit: 'kWh', flow: 'delivered' },
    }])
    const rejecting = await u.source({ unknownMeters: 'reject' })
    expect(await u.settle([{ meter: 'other', start: DAY, values: [5] }], { source: rejecting })).toMatchObject({ ...NOTHING, received: 1, rejected: 1 })
    const registering = await u.source({ unknownMeters: 'register' })
    expect(await u.settle([day('third', 7), { meter: 'fourth', start: DAY, values: [1] }], { source: registering }))
      .toMatchObject({ ...NOTHING, received: 97, stored: 97 })
    expect(await u.settle([day('third', 7)], { source: registering })).toMatchObject({ ...NOTHING, received: 96, duplicate: 96 })
  })

  it('are told with their reasons, and the others settle', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    await db.pool.query("update utility set horizon = '2026-01-01' where utility_id = $1", [u.utilityId])
    const soon = Math.ceil(u.clock.nowMs / 900_000) * 900
    const receipt = await u.settle([
      { meter, start: DAY, values: [1, -2, -3, 4, -5] },
      { meter, start: '2026-10-06T05:03:00Z', values: [1, 2] },
      { meter, start: '2025-12-31T05:45:00Z', values: [1, 2] },
      { meter, start: soon, values: [1, 2, 3] },
      { meter, start: '2026-10-07T05:00:00Z', values: [-1], flow: 'net' },
    ])
    expect(receipt).toMatchObject({ received: 13, rejected: 2, duplicate: 0, corrected: 0, outranked: 0 })
    expect(receipt.problems.map((p) => [p.code, p.at])).toEqual([
      ['negative-energy', 'record 1, values/1'], ['negative-energy', 'record 1, values/4'], ['off-grid', 'record 2'],
      ['past-retention', 'record 3, values/0'], ['past-retention', 'record 3, values/1'], ['future-read', 'record 4, values/1']])
    expect((await quarantineOf(db.pool, u.utilityId)).map((q) => q.reads).slice(0, 3)).toEqual([2, 1, 2])
  })

  it('of another grid than their day has are quarantined', async () => {
    const u = await testUtility(db.pool, 'Asia/Kolkata')
    const meter = await u.meter()
    // Hourly reads on the local clock, then on the UTC clock, which is half an hour beside it.
    await u.settle([{ meter, start: '2026-10-05T00:00:00+05:30', values: [1, 2, 3], intervalS: 3600 }])
    const receipt = await u.settle([{ meter, start: '2026-10-05T12:00:00Z', values: [1, 2], intervalS: 3600 }])
    expect(receipt).toMatchObject({ ...NOTHING, received: 2, quarantined: 2 })
    expect(receipt.problems[0].code).toBe('off-grid')
  })

  it('beyond the digits that a day can hold are quarantined one by one', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    await u.settle([{ meter, start: DAY, values: [1], exponent: -9 }])
    const receipt = await u.settle([{ meter, start: '2026-10-05T05:15:00Z', values: [2_000_000_000, 5] }])
    expect(receipt).toMatchObject({ ...NOTHING, received: 2, stored: 1, quarantined: 1 })
    expect(receipt.problems).toMatchObject([{ code: 'value-range', at: 'record 1, values/0' }])
    // A correction of the value that stood in the way is not held up by it.
    expect(await u.settle([{ meter, start: DAY, values: [7_000_000] }])).toMatchObject({ ...NOTHING, received: 1, corrected: 1 })
    expect((await storedBlocks(db.pool, u.utilityId))[0]).toMatchObject({ exponent: -3, total: 7_000_005 })
  })

  it('with half a character in their meter are quarantined like others', async () => {
    const u = await testUtility(db.pool)
    const receipt = await u.settle([{ meter: 'a\ud800b\0c', start: DAY, values: [1] }])
    expect(receipt).toMatchObject({ ...NOTHING, received: 1, quarantined: 1 })
  })

  it('take the meter\'s multiplier where the source leaves it to us', async () => {
    const u = await testUtility(db.pool)
    const raw = await u.source({ multiplierApplied: false })
    const meters = [await u.meter({ multiplier: 80 }), await u.meter({ multiplier: 0.6 }), await u.meter({ multiplier: 1.00005 })]
    await u.settle(meters.map((meter) => ({ meter, start: DAY, values: [1000, null, 3] })), { source: raw })
    const blocks = await storedBlocks(db.pool, u.utilityId)
    const of = (meter: string): unknown => blocks.filter((b) => b.meter === meter).map((b) => [b.exponent, b.vals.slice(0, 3)])
    expect(of(meters[0])).toEqual([[-3, [80_000, null, 240]]])
    expect(of(meters[1])).toEqual([[-4, [6000, null, 18]]])
    expect(of(meters[2])).toEqual([[-8, [100_005_000, null, 300_015]]])
    const tooMuch = await u.settle([{ meter: meters[0], start: DAY, values: [2_000_000_000] }], { source: raw })
    expect(tooMuch).toMatchObject({ ...NOTHING, received: 1, quarantined: 1 })
    expect((await quarantineOf(db.pool, u.utilityId))[0].record).toMatchObject({ values: [2_000_000] })
  })
})

describe('idempotency keys', () => {
  it('answer the first receipt to the same body, and refuse another', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    const first = await u.settle([day(meter, 1)], { idempotencyKey: 'k' })
    const [again, other] = [
      await u.settleGroup([u.submission([day(meter, 1)], { idempotencyKey: 'k' })]),
      await u.settleGroup([u.submission([day(meter, 2)], { idempotencyKey: 'k' })]),
    ]
    expect(again).toEqual([{ status: 'repeated', receipt: first }])
    expect(other).toEqual([{ status: 'key-reused' }])
    expect(await u.settle([day(meter, 3)], { idempotencyKey: 'k', source: await u.source() })).toMatchObject({ corrected: 96 })
  })

  it('hold within one group too', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    const results = await u.settleGroup([
      u.submission([day(meter, 1)], { idempotencyKey: 'k' }), u.submission([day(meter, 1)], { idempotencyKey: 'k' }),
      u.submission([day(meter, 2)], { idempotencyKey: 'k' }), u.submission([day(meter, 1)], { idempotencyKey: 'l' })])
    expect(results.map((r) => r.status)).toEqual(['settled', 'repeated', 'key-reused', 'settled'])
    expect(receiptOf(results[1])).toEqual(receiptOf(results[0]))
    expect(receiptOf(results[3])).toMatchObject({ duplicate: 96 })
  })

  it('settle once when many push the same at once', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    const results = (await Promise.all(Array.from({ length: 8 }, () =>
      u.settleGroup([u.submission([day(meter, 1)], { idempotencyKey: 'k' })])))).flat()
    expect(results.map((r) => r.status).sort()).toEqual([...Array<string>(7).fill('repeated'), 'settled'])
    expect(new Set(results.map((r) => receiptOf(r).delivery)).size).toBe(1)
  })
})

describe('a delivery in parts', () => {
  it('adds up in one receipt, and is withdrawn as one', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    const deliveryId = uuidv7(u.clock.nowMs)
    const one = await u.settle([day(meter, 1)], { deliveryId, part: 1, final: false, idempotencyKey: 'k' })
    expect(one).toMatchObject({ ...NOTHING, complete: false, received: 96, stored: 96 })
    const two = await u.settle([day(meter, 2, { start: '2026-10-06T05:00:00Z' }), { meter: 'nobody', start: DAY, values: [1] }],
      { deliveryId, part: 2, final: false })
    expect(two).toMatchObject({ ...NOTHING, complete: false, received: 193, stored: 192, quarantined: 1, problemCount: 1 })
    const three = await u.settle([day(meter, 3)], { deliveryId, part: 3, final: true, version: 1 })
    expect(three).toMatchObject({
      ...NOTHING, complete: true, received: 289, stored: 192, outranked: 96, quarantined: 1, to: '2026-10-07T00:00:00-05:00' })
    expect(receiptOf((await u.settleGroup([u.submission([day(meter, 1)], { idempotencyKey: 'k' })]))[0])).toEqual(three)
    const { rows } = await db.pool.query<{ n: number }>(
      `select count(distinct d.delivery_no)::int as n from channel_day d join channel c using (channel_id) where c.utility_id = $1`, [u.utilityId])
    expect(rows).toEqual([{ n: 1 }])
    await u.withdraw(deliveryId)
    expect(await storedBlocks(db.pool, u.utilityId)).toEqual([])
    expect(await storedLoad(db.pool, u.utilityId)).toEqual([])
  })

  it('whose parts make up one day keeps what each part added', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    const deliveryId = uuidv7(u.clock.nowMs)
    await u.settle([{ meter, start: DAY, values: [1, 2] }], { deliveryId, part: 1, final: false })
    await u.settle([{ meter, start: DAY, values: [null, null, 3] }], { deliveryId, part: 2 })
    const { rows } = await db.pool.query<{ slots: number[]; old_vals: number[] | null }>(
      'select r.slots::int[] as slots, r.old_vals from revision r join channel c using (channel_id) where c.utility_id = $1', [u.utilityId])
    expect(rows).toEqual([{ slots: [2], old_vals: null }])
  })

  it('that broke off is taken up by another with its idempotency key', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    await u.settle([day(meter, 1)], { part: 1, final: false, idempotencyKey: 'k' })
    const [again] = await u.settleGroup([u.submission([day(meter, 1)], { idempotencyKey: 'k' })])
    expect(again).toMatchObject({ status: 'settled', receipt: { complete: true, duplicate: 96 } })
    expect(await u.settleGroup([u.submission([day(meter, 1)], { idempotencyKey: 'k' })])).toEqual([
      { status: 'repeated', receipt: receiptOf(again) }])
  })
})

describe('a group', () => {
  it('settles each delivery by itself, with a receipt of its own', async () => {
    const u = await testUtility(db.pool)
    const [a, b] = [await u.meter(), await u.meter()]
    const results = await u.settleGroup([
      u.submission([{ meter: a, start: DAY, values: [1, 2] }], { version: 20 }),
      u.submission([{ meter: a, start: DAY, values: [3, 2, 9] }, { meter: b, start: DAY, values: [5] }], { version: 10 }),
      u.submission([{ meter: 'nobody', start: DAY, values: [1] }]),
    ])
    expect(results.map(receiptOf)).toMatchObject([
      { ...NOTHING, received: 2, stored: 2 }, { ...NOTHING, received: 4, stored: 2, outranked: 1, duplicate: 1 },
      { ...NOTHING, received: 1, quarantined: 1 }])
    expect((await storedBlocks(db.pool, u.utilityId)).filter((r) => r.meter === a)[0].vals.slice(0, 3)).toEqual([1, 2, 9])
  })

  it('is split by a fault of one, and only that one fails', async () => {
    const u = await testUtility(db.pool)
    const meters = [await u.meter(), await u.meter(), await u.meter()]
    const culprit = u.submission([day(meters[1], 1)], { after: () => { throw new Error('its own fault') } })
    const results = await u.settleGroup([u.submission([day(meters[0], 1)]), culprit, u.submission([day(meters[2], -1), day(meters[2], 4)])])
    expect(results.map((r) => r.status)).toEqual(['settled', 'failed', 'settled'])
    expect(receiptOf(results[2])).toMatchObject({ ...NOTHING, received: 192, stored: 96, quarantined: 96 })
    expect((await storedBlocks(db.pool, u.utilityId)).map((b) => b.meter).sort()).toEqual([meters[0], meters[2]].sort())
    expect(await u.settle([day(meters[1], 1)])).toMatchObject({ ...NOTHING, received: 96, stored: 96 })
  })

  it('of two hundred deliveries has two hundred receipts', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    const results = await u.settleGroup(Array.from({ length: 200 }, (_, i) =>
      u.submission([{ meter, start: DAY_S + (i % 96) * 900, values: [i] }])))
    const receipts = results.map(receiptOf)
    expect(new Set(receipts.map((r) => r.delivery)).size).toBe(200)
    expect(receipts.reduce((n, r) => n + r.stored, 0)).toBe(96)
    expect(receipts.reduce((n, r) => n + r.corrected, 0)).toBe(104)
  })
})

describe('a failed attempt', () => {
  it('is planned again from the bytes: multipliers are applied once and counts are computed anew', async () => {
    const u = await testUtility(db.pool)
    const raw = await u.source({ multiplierApplied: false })
    const meter = await u.meter({ multiplier: 80 })
    let attempts = 0
    const receipt = receiptOf((await u.settleGroup([u.submission([day(meter, (i) => i === 5 ? -1 : i)], {
      source: raw,
      after: async (client) => {
        if (++attempts < 3) await client.query("do $$ begin raise exception 'again' using errcode = '40P01'; end $$")
      },
    })]))[0])
    expect(attempts).toBe(3)
    expect(receipt).toMatchObject({ ...NOTHING, received: 96, stored: 95, quarantined: 1 })
    expect((await storedBlocks(db.pool, u.utilityId))[0].vals.slice(3, 7)).toEqual([240, 320, null, 480])
  })

  it('leaves nothing behind: channels it made are made again by the next', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    const [failed] = await u.settleGroup([u.submission([day(meter, 1)], {
      idempotencyKey: 'k', after: () => { throw new Error('its own fault') } })])
    expect(failed.status).toBe('failed')
    // Commits without settling anything, and must not take the lost channel for a made one.
    await u.settle([], { idempotencyKey: 'empty' })
    await u.settle([], { idempotencyKey: 'empty' })
    await u.settle([day(meter, 1)], { idempotencyKey: 'k' })
    expect(await storedBlocks(db.pool, u.utilityId)).toHaveLength(1)
  })

  it('after a lost connection tells whether the commit stands', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    const lost = u.submission([day(meter, 1)], {
      after: async (client) => { await client.query('select pg_terminate_backend(pg_backend_pid())') } })
    const [result] = await u.settleGroup([lost])
    expect(result).toMatchObject({ status: 'failed', error: { status: 503, code: 'database-unavailable' } })
    expect(await u.settle([day(meter, 1)])).toMatchObject({ ...NOTHING, received: 96, stored: 96 })
  })

  it('in the middle of a COPY leaves a connection that can be used again', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    await u.settle([day(meter, 1)])
    // A row that nobody's lock protects: the COPY of the second day breaks the primary key.
    await db.pool.query(
      `insert into channel_day (channel_id, day, first_at, interval_s, exponent, total, present, estimated, version, delivery_no, settled_at, vals)
       select channel_id, '2026-10-06', now(), 900, -3, 0, 0, 0, 1, 1, now(), '{}' from channel where utility_id = $1`, [u.utilityId])
    await db.pool.query('create function refuse_block() returns trigger language plpgsql as $$ begin raise exception \'no\' using errcode = \'23514\'; end $$')
    await db.pool.query(`create trigger refuse before insert on channel_day for each row
      when (new.total = 666 * 96) execute function refuse_block()`)
    const [failed, fine] = await u.settleGroup([u.submission([day(meter, 666, { start: '2026-10-08T05:00:00Z' })]),
      u.submission([day(meter, 7, { start: '2026-10-09T05:00:00Z' })])])
    await db.pool.query('drop trigger refuse on channel_day')
    expect(failed.status).toBe('failed')
    expect(receiptOf(fine)).toMatchObject({ stored: 96 })
  })
})

describe('one utility', () => {
  it('does not know another\'s meters', async () => {
    const [u, v] = [await testUtility(db.pool), await testUtility(db.pool)]
    const id = `same-${randomUUID()}`
    await u.meter({ id })
    expect(await v.settle([day(id, 1)])).toMatchObject({ quarantined: 96 })
    await v.meter({ id })
    expect(await v.settle([day(id, 1)])).toMatchObject({ stored: 96 })
    expect(await storedBlocks(db.pool, u.utilityId)).toEqual([])
  })
})
