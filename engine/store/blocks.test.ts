import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { openStorage } from './storage.js'
import { MISSING } from '../read-batch.js'
import { emptyBlock, merge, type Block } from '../settle.js'
import { blockKey, insertBlocks, insertRevisions, readBlocks, readRevisions, RevisionKind, updateBlocks, type Revision } from './blocks.js'
import { inTransaction } from './db.js'

const DAY = 20_600
const AT_US = 1_790_000_000_123_457

let db: TestDatabase

beforeAll(async () => {
  db = await testDatabase()
  await (await openStorage(db.pool)).ensureForDays([DAY, DAY + 1])
})
afterAll(() => db.close())

const slots = fc.array(fc.record({
  value: fc.oneof(fc.constant(MISSING), fc.integer({ min: -2147483647, max: 2147483647 }), fc.nat(200)),
  lane: fc.constantFrom(0, 0, 0, 1, 5, 32_767, -1), version: fc.constantFrom(1, 1, 1, AT_US),
}), { minLength: 1, maxLength: 100 })

function blockOf(channelId: number, list: { value: number; lane: number; version: number }[]): Block {
  const block = emptyBlock(channelId, DAY, DAY * 86_400 + 18_000, 900, list.length, 12_345_678_901, AT_US)
  list.forEach(({ value, lane, version }, slot) => {
    merge(block, { slot, count: 1, values: Int32Array.of(value), offset: 0, exponent: -3, lane, lanes: null, version })
  })
  return block
}

it('blocks come back as they were written, new and replaced', async () => {
  let channelId = 0
  await fc.assert(fc.asyncProperty(fc.array(slots, { minLength: 1, maxLength: 5 }), slots, async (lists, other) => {
    const blocks = lists.map((list) => blockOf(++channelId, list))
    const replaced = { ...blockOf(blocks[0].channelId, other), restatedAtUs: AT_US + 1 }
    const ids = [...blocks.map((b) => b.channelId), channelId + 1]
    await inTransaction(db.pool, async (client) => {
      await insertBlocks(client, blocks)
      const days = ids.map(() => DAY)
      expect([...(await readBlocks(client, ids, days)).values()].sort((a, b) => a.channelId - b.channelId)).toEqual(blocks)
      // Twice in one transaction: the stage is empty again after each.
      await updateBlocks(client, [replaced])
      await updateBlocks(client, blocks.slice(1))
      const found = await readBlocks(client, ids, days)
      expect(found.get(blockKey(replaced.channelId, DAY))).toEqual(replaced)
      expect(found.size).toBe(blocks.length)
    })
  }), { numRuns: 50 })
})

it('revisions come back in the order of their commits, whatever their clocks said', async () => {
  const revision = (deliveryNo: number, vals: number[], lanes = vals.map(() => 0)): Revision => ({
    channelId: 777, day: DAY, kind: RevisionKind.merged, deliveryNo,
    slots: { slots: vals.map((_, i) => i * 3), exponent: -5, vals, lanes, versions: vals.map((v) => v === MISSING ? 0 : AT_US) } })
  const list = [revision(1, [MISSING, MISSING]), revision(2, [5, MISSING, -7], [1, 0, 4]), revision(3, [2_147_483_647])]
  await inTransaction(db.pool, async (client) => {
    const now = Date.now() * 1000
    for (const [i, r] of list.entries()) await insertRevisions(client, [r], now - i * 1_000_000)
    expect(await readRevisions(client, [777, 778], [DAY, DAY])).toEqual(list)
    expect(await readRevisions(client, [777], [DAY + 1])).toEqual([])
  })
})
