import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../test/database.js'
import { storedBlocks, storedLoad, testUtility, type PlainBlock } from '../test/settling.js'
import { expectNoDeadlock, expectSound } from '../test/soundness.js'
import { emptyBlock, merge } from './settle.js'
import { RevisionKind, type StoredRevision } from './store/blocks.js'
import { uuidv7 } from './uuid.js'
import { standingWithout } from './withdraw.js'

let db: TestDatabase

beforeAll(async () => {
  db = await testDatabase()
})
afterAll(async () => {
  await expectNoDeadlock(db.pool)
  await db.close()
})

const DAY = '2026-10-05T05:00:00Z'

function day(meter: string, value: number, extra: Partial<PlainBlock> = {}): PlainBlock {
  return { meter, start: DAY, values: Array<number>(96).fill(value), ...extra }
}

describe('a withdrawal', () => {
  it('puts back what the delivery replaced, takes away what it brought, and is told as a delivery', async () => {
    const u = await testUtility(db.pool)
    const { accountId } = await u.account()
    const meter = await u.meter({ assignments: [{ accountId }] })
    await u.threshold(accountId, { limit: '20' })
    await u.settle([{ meter, start: DAY, values: [10, 20] }])
    const wrong = await u.settle([day(meter, 500)])
    expect(wrong.alerts).toEqual({ raised: 1, retracted: 0 })
    const receipt = await u.withdraw(wrong.delivery)
    expect(receipt).toMatchObject({ received: 96, corrected: 96, alerts: { raised: 0, retracted: 1 } })
    const [block] = await storedBlocks(db.pool, u.utilityId)
    expect([block.present, block.total, block.vals.slice(0, 3)]).toEqual([2, 30, [10, 20, null]])
    expect(await storedLoad(db.pool, u.utilityId)).toEqual([{ flow: 1, hour: Date.parse(DAY) / 1000, energy: '0.03', coarse: '0' }])
    // Pushed again, the same body would keep its version and stand again.
    expect(await u.settle([day(meter, 500)])).toMatchObject({ stored: 94, corrected: 2 })
  })

  it('cannot be done twice, nor be withdrawn, nor reach what is another utility\'s', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    const { delivery } = await u.settle([day(meter, 1)])
    const other = await testUtility(db.pool)
    await expect(other.withdraw(delivery)).rejects.toMatchObject({ status: 404, code: 'unknown-delivery' })
    await expect(u.withdraw(uuidv7(u.clock.nowMs))).rejects.toMatchObject({ status: 404, code: 'unknown-delivery' })
    const withdrawal = await u.withdraw(delivery)
    await expect(u.withdraw(delivery)).rejects.toMatchObject({ status: 409, code: 'already-withdrawn' })
    await expect(u.withdraw(withdrawal.delivery)).rejects.toMatchObject({ status: 409, code: 'not-withdrawable' })
  })

  it('of a delivery of which nothing was taken changes nothing', async () => {
    const u = await testUtility(db.pool)
    const { delivery } = await u.settle([day('nobody', 1)])
    expect(await u.withdraw(delivery)).toMatchObject({ received: 0, corrected: 0, from: null })
  })

  it('of ten thousand blocks goes in chunks, beside pushes for the same meters', async () => {
    const u = await testUtility(db.pool)
    const meters: string[] = []
    for (let i = 0; i < 101; i++) meters.push(await u.meter())
    const start = u.zone.dayStart(20_600)
    const days = (value: number): PlainBlock[] => meters.map((meter) => ({ meter, start, values: Array<number>(100).fill(value), intervalS: 86_400 }))
    const wrong = await u.settle(days(7))
    const pushes = Promise.all([8, 9, 10].map(async (value) => {
      for (let i = 0; i < 5; i++) await u.settle(days(value).slice(i * 20, i * 20 + 20).map((b) => ({ ...b, values: b.values.slice(i) })), { version: value })
    }))
    expect(await u.withdraw(wrong.delivery)).toMatchObject({ corrected: expect.any(Number) as number })
    await pushes
    expect((await storedBlocks(db.pool, u.utilityId)).every((b) => b.total === 10)).toBe(true)
    await expectSound(db.pool, u.utilityId)
  })
})

describe('standingWithout', () => {
  const offer = (value: number, version: number): Parameters<typeof merge>[1] => ({
    slot: 0, count: 1, values: Int32Array.of(value), offset: 0, exponent: -3, lane: 0, lanes: null, version })

  it('follows a slot back through merges, losers and withdrawals', () => {
    const block = emptyBlock(1, 20_000, 0, 900, 1, 1, 0)
    const log: StoredRevision[] = []
    const push = (by: number, value: number, version: number): void => {
      const r = merge(block, offer(value, version))
      if (r.before !== null && by !== 1) log.push({ channelId: 1, day: 20_000, kind: RevisionKind.merged, deliveryNo: by, slots: r.before })
      if (r.lost !== null) log.push({ channelId: 1, day: 20_000, kind: RevisionKind.outranked, deliveryNo: by, slots: r.lost })
    }
    push(1, 10, 5)
    push(2, 20, 9)
    push(3, 30, 7)
    push(4, 40, 3)
    const without = (...gone: number[]): unknown => standingWithout(block, log, new Set(gone))?.now.vals[0]
    expect([without(), without(1), without(3)]).toEqual([undefined, undefined, undefined])
    expect([without(2), without(2, 3), without(2, 3, 1), without(1, 2, 3, 4)]).toEqual([30, 10, 40, -2147483648])
  })
})
