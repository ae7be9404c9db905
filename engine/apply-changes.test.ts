import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../test/database.js'
import { storedBlocks, storedLoad, testUtility, type PlainBlock } from '../test/settling.js'

let db: TestDatabase

beforeAll(async () => {
  db = await testDatabase()
})
afterAll(() => db.close())

/** Midnight of 5 October 2026 in Chicago. */
const DAY = '2026-10-05T05:00:00Z'
const DAY_S = Date.parse(DAY) / 1000

function day(meter: string, value: number, extra: Partial<PlainBlock> = {}): PlainBlock {
  return { meter, start: DAY, values: Array<number>(96).fill(value), ...extra }
}

describe('several channels of one meter', () => {
  it('count once: the shorter interval where it reaches, the longer beyond', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    const noon = DAY_S + 12 * 3600
    await u.settle([{ meter, start: DAY, values: Array<number>(24).fill(4000), intervalS: 3600 }])
    expect(await sums(u.utilityId)).toEqual({ energy: 96, coarse: 0 })
    await u.settle([{ meter, start: noon, values: Array<number>(24).fill(500) }])
    expect(await sums(u.utilityId)).toEqual({ energy: 18 * 4 + 12, coarse: 0 })
    await u.settle([{ meter, start: DAY, values: [90_000], intervalS: 86_400 }, { meter, start: '2026-10-06T05:00:00Z', values: [91_000], intervalS: 86_400 }])
    expect(await sums(u.utilityId)).toEqual({ energy: 84, coarse: 91 })
    // A quarter-hour read of the day after takes that day from the daily channel, and the gap between with it.
    await u.settle([{ meter, start: '2026-10-06T06:00:00Z', values: [500] }])
    expect(await sums(u.utilityId)).toEqual({ energy: 12 * 4 + 12 + 0.5, coarse: 0 })
  })

  async function sums(utilityId: number): Promise<{ energy: number; coarse: number }> {
    const { rows } = await db.pool.query<{ energy: string; coarse: string }>(
      'select sum(energy) as energy, sum(coarse) as coarse from system_load where utility_id = $1', [utilityId])
    return { energy: Number(rows[0].energy), coarse: Number(rows[0].coarse) }
  }

  it('that is withdrawn gives its time back to the others', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    await u.settle([{ meter, start: DAY, values: Array<number>(24).fill(4000), intervalS: 3600 }])
    const load = await storedLoad(db.pool, u.utilityId)
    const first = await u.settle([day(meter, 500)])
    const second = await u.settle([day(meter, 600, { start: '2026-10-06T05:00:00Z' })])
    await u.withdraw(first.delivery)
    expect(await sums(u.utilityId)).toEqual({ energy: 96 + 57.6, coarse: 0 })
    await u.withdraw(second.delivery)
    expect(await storedLoad(db.pool, u.utilityId)).toEqual(load)
    expect(await u.settle([day(meter, 500)])).toMatchObject({ stored: 96 })
    expect(await sums(u.utilityId)).toEqual({ energy: 48, coarse: 0 })
  })

  it('that begins to count elsewhere moves the alerts of days that nobody pushed', async () => {
    const u = await testUtility(db.pool)
    const { accountId } = await u.account()
    const meter = await u.meter({ assignments: [{ accountId }] })
    await u.threshold(accountId, { limit: '50' })
    const next = '2026-10-06T05:00:00Z'
    expect((await u.settle([{ meter, start: next, values: Array<number>(24).fill(4000), intervalS: 3600 }])).alerts).toEqual({ raised: 1, retracted: 0 })
    // Quarter-hours from the day before to the day after: the hours between count no longer.
    const quarters = await u.settle([{ meter, start: DAY, values: [1] }, { meter, start: '2026-10-07T05:00:00Z', values: [1] }])
    expect(quarters.alerts).toEqual({ raised: 0, retracted: 1 })
    expect((await u.withdraw(quarters.delivery)).alerts).toEqual({ raised: 1, retracted: 0 })
    const { rows } = await db.pool.query<{ day: string; restated: boolean }>(
      'select day, restated from change where utility_id = $1 order by seq', [u.utilityId])
    expect(rows).toContainEqual({ day: '2026-10-06', restated: true })
  })

  it('of different flows do not meet', async () => {
    const u = await testUtility(db.pool)
    const meter = await u.meter()
    await u.settle([day(meter, 500), day(meter, 20, { flow: 'received' }), day(meter, -480, { flow: 'net' })])
    const { rows } = await db.pool.query<{ flow: number; energy: string }>(
      'select flow, trim_scale(sum(energy))::text as energy from system_load where utility_id = $1 group by flow order by flow', [u.utilityId])
    expect(rows).toEqual([{ flow: 1, energy: '48' }, { flow: 2, energy: '1.92' }, { flow: 3, energy: '-46.08' }])
    expect((await db.pool.query('select 1 from channel where utility_id = $1 and shared', [u.utilityId])).rowCount).toBe(0)
  })
})

describe('meters and their roles', () => {
  it('only main meters count in the load', async () => {
    const u = await testUtility(db.pool)
    const meters = [await u.meter(), await u.meter({ role: 'sub' }), await u.meter({ role: 'generation' })]
    await u.settle(meters.map((m) => day(m, 1000)))
    expect((await storedLoad(db.pool, u.utilityId)).map((l) => l.energy)).toEqual(Array(24).fill('4'))
    expect(await storedBlocks(db.pool, u.utilityId)).toHaveLength(3)
  })

  it('an exchange splits its day between two meters of one account', async () => {
    const u = await testUtility(db.pool)
    const { accountId } = await u.account()
    const noon = DAY_S + 43_200
    const [old, young] = [await u.meter({ assignments: [{ accountId, toS: noon }] }), await u.meter({ assignments: [{ accountId, fromS: noon }] })]
    await u.threshold(accountId, { limit: '95.999' })
    await u.threshold(accountId, { limit: '96' })
    // The old meter's reads of the afternoon are not the account's, nor the new one's of the morning.
    expect((await u.settle([day(old, 1000)])).alerts).toEqual({ raised: 0, retracted: 0 })
    expect((await u.settle([day(young, 1000)])).alerts).toEqual({ raised: 1, retracted: 0 })
    expect((await u.settle([day(young, 999)])).alerts).toEqual({ raised: 0, retracted: 1 })
  })

  it('an alias that moves to an older meter is followed', async () => {
    const u = await testUtility(db.pool)
    const older = await u.meter()
    const younger = await u.meter({ aliases: ['endpoint'] })
    await u.settle([{ meter: 'endpoint', start: DAY, values: [1] }])
    await u.moveAlias('endpoint', younger, older)
    await u.settle([{ meter: 'endpoint', start: DAY, values: [2] }])
    expect((await storedBlocks(db.pool, u.utilityId)).map((b) => [b.meter, b.vals[0]])).toEqual(
      [[younger, 1], [older, 2]].sort((a, b) => a[0] < b[0] ? -1 : 1))
  })
})

describe('change feed', () => {
  it('names the days and accounts of a commit, and whether values were replaced', async () => {
    const u = await testUtility(db.pool)
    const { accountId } = await u.account()
    const meter = await u.meter({ assignments: [{ accountId }] })
    await u.settle([{ meter, start: '2026-10-06T04:00:00Z', values: [1, 2, 3, 4, 5, 6] }])
    await u.settle([{ meter, start: '2026-10-06T05:00:00Z', values: [6, 6] }])
    await u.settle([{ meter, start: '2026-10-06T05:00:00Z', values: [null, null, 6] }])
    await u.settle([{ meter, start: '2026-10-06T05:00:00Z', values: [9, 9] }], { history: true })
    const { rows } = await db.pool.query(
      'select day, restated, account_ids from change where utility_id = $1 order by seq', [u.utilityId])
    expect(rows).toEqual([
      { day: '2026-10-05', restated: false, account_ids: [accountId] }, { day: '2026-10-06', restated: false, account_ids: [accountId] },
      { day: '2026-10-06', restated: true, account_ids: [accountId] }, { day: '2026-10-06', restated: false, account_ids: [accountId] }])
  })
})
