import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { testUtility } from '../../test/settling.js'
import { uuidv7 } from '../uuid.js'
import { claimId, claimKeys, claimVersions, clean, readReceipts } from './deliveries.js'
import { inTransaction } from './db.js'

let db: TestDatabase

beforeAll(async () => {
  db = await testDatabase()
})
afterAll(() => db.close())

/** Resolves when a statement of this database waits for a transaction to end. */
async function someoneWaits(): Promise<void> {
  for (;;) {
    const { rowCount } = await db.pool.query(
      `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and wait_event = 'transactionid'`)
    if (rowCount! > 0) return
  }
}

const DAY = '2026-10-05T05:00:00Z'
const sha = (text: string): Buffer => createHash('sha256').update(text).digest()

it('a body keeps the version of its first delivery, per source, also within one call and when many claim it at once', async () => {
  const u = await testUtility(db.pool)
  const [a, b] = [await u.source(), await u.source()]
  const claim = (sourceId: number, body: string, version: number): { sourceId: number; sha256: Buffer; version: number } => ({ sourceId, sha256: sha(body), version })
  const us = 1_790_000_000_123_457
  expect(await inTransaction(db.pool, (client) => claimVersions(client, [
    claim(b.sourceId, 'x', 7), claim(a.sourceId, 'x', us), claim(a.sourceId, 'y', 5), claim(a.sourceId, 'x', 9)]))).toEqual([7, us, 5, us])
  expect(await inTransaction(db.pool, (client) => claimVersions(client, [claim(a.sourceId, 'z', 1), claim(a.sourceId, 'x', 2)]))).toEqual([1, us])
  const versions = await Promise.all([10, 11, 12, 13].map((version) => inTransaction(db.pool, (client) => claimVersions(client, [
    ...['p', 'q', 'r'].map((body) => claim(a.sourceId, body, version)), claim(b.sourceId, `alone ${version}`, version)]))))
  expect(new Set(versions.map((v) => v.slice(0, 3).join())).size).toBe(1)
  expect(versions.map((v) => v[3])).toEqual([10, 11, 12, 13])
})

it('an idempotency key is claimed by one: others wait for it and are told whose it is, or have it when that fails', async () => {
  const u = await testUtility(db.pool)
  const { sourceId } = await u.source()
  const id = claimId(sourceId, 'k')
  const claim = { sourceId, key: 'k', sha256: sha('x'), deliveryId: uuidv7(u.clock.nowMs) }
  let claimed = (): void => undefined
  const isClaimed = new Promise<void>((resolve) => { claimed = resolve })
  const failing = inTransaction(db.pool, async (client) => {
    expect((await claimKeys(client, u.utilityId, [claim])).get(id)).toBeNull()
    claimed()
    await someoneWaits()
    throw new Error('gives up')
  })
  await isClaimed
  const second = inTransaction(db.pool, async (client) => (await claimKeys(client, u.utilityId, [claim])).get(id))
  await expect(failing).rejects.toThrow('gives up')
  expect(await second).toBeNull()
  expect(await inTransaction(db.pool, async (client) => (await claimKeys(client, u.utilityId, [{ ...claim, sha256: sha('y') }])).get(id)))
    .toEqual({ deliveryId: claim.deliveryId, sha256: sha('x') })
})

it('problems are kept to the first hundred and counted all, over parts too', async () => {
  const u = await testUtility(db.pool)
  const deliveryId = uuidv7(u.clock.nowMs)
  const blocks = (from: number): { meter: string; start: string; values: number[] }[] =>
    Array.from({ length: 70 }, (_, i) => ({ meter: `nobody ${from + i}`, start: DAY, values: [1] }))
  await u.settle(blocks(0), { deliveryId, part: 1, final: false })
  await u.settle(blocks(70), { deliveryId, part: 2, final: false })
  const receipt = await u.settle(blocks(140), { deliveryId, part: 3, final: true })
  expect(receipt).toMatchObject({ received: 210, quarantined: 210, problemCount: 210, complete: true })
  expect(receipt.problems.map((p) => p.message)).toEqual(Array.from({ length: 100 }, (_, i) => `meter nobody ${i} is not registered`))
  expect(await inTransaction(db.pool, (client) => readReceipts(client, [deliveryId], 'America/Chicago'))).toEqual([receipt])
  await expect(u.settle([], { deliveryId, part: 4, final: true })).rejects.toThrow('is not open')
})

describe('clean', () => {
  it('replaces what PostgreSQL cannot hold, and nothing else', () => {
    expect(clean('a\0b \ud83d\ude00 \ud83d \ude00 \u0001é')).toBe('a\ufffdb \ud83d\ude00 \ufffd \ufffd \u0001é')
  })
})
