import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { onTimescale, testDatabase, type TestDatabase } from '../../test/database.js'
import { testUtility, type PlainBlock, type TestUtility } from '../../test/settling.js'
import { expectNoDeadlock, expectSound } from '../../test/soundness.js'
import { openPool } from './db.js'

const ZONE = 'America/Chicago'
const METERS = 40

/** Everything that the tables say of reads, but when and by which delivery: what must not hang on where the rows lie. */
const STATE = `
  select m.id as meter, d.day, d.first_at, d.exponent, d.total, d.peak, d.peak_slot, d.present, d.estimated, d.vals, d.lane
    from channel_day d join channel c using (channel_id) join meter m using (meter_id) where c.utility_id = $1 order by 1, 2`
const LOAD = 'select hour, trim_scale(energy) as energy from system_load where utility_id = $1 and energy <> 0 order by 1'

describe.runIf(onTimescale())('reads of converted chunks (only on a server with TimescaleDB)', () => {
  let db: TestDatabase
  let columnar: TestUtility
  let rows: TestUtility
  beforeAll(async () => {
    db = await testDatabase()
    // The same deliveries to two utilities: one whose chunks are converted in between, one that is settled afterwards.
    columnar = await testUtility(db.pool, ZONE)
    rows = await testUtility(db.pool, ZONE)
  })
  afterAll(async () => { await db.close() })

  const meterNames: string[] = Array.from({ length: METERS }, (_, i) => `M${i}`)
  const day = (n: number): string => `2026-03-${String(n).padStart(2, '0')}T00:00:00-06:00`
  const fleet = (n: number, value: number, options: Partial<PlainBlock> = {}): PlainBlock[] => meterNames.map((meter, i) => ({
    meter, start: day(n), values: Array.from({ length: 96 }, (_, s) => value + i + s), ...options }))

  async function registered(utility: TestUtility): Promise<void> {
    const { accountId } = await utility.account()
    for (const id of meterNames) await utility.meter({ id, assignments: [{ accountId }] })
  }

  /** Late, corrected, estimated, outranked and withdrawn reads, all of days that stand in March. */
  async function disturb(utility: TestUtility): Promise<number[]> {
    const counts: number[] = []
    const note = (r: { stored: number; corrected: number; duplicate: number; outranked: number }): void => {
      counts.push(r.stored, r.corrected, r.duplicate, r.outranked)
    }
    // A day that lacked altogether, and the other half of one that had a half.
    note(await utility.settle(fleet(6, 500)))
    note(await utility.settle(meterNames.map((meter) => ({ meter, start: '2026-03-05T12:00:00-06:00', values: Array.from({ length: 48 }, () => 77) }))))
    const wrong = await utility.settle(fleet(3, 9000))
    note(wrong)
    note(await utility.settle(fleet(2, 1, { quality: 'estimated' })))
    note(await utility.settle(fleet(4, 100)))
    note(await utility.withdraw(wrong.delivery))
    note(await utility.settle([{ meter: 'M7', start: '2026-03-04T10:00:00-06:00', values: [1, 2, 3], quality: 'edited' }]))
    return counts
  }

  test('late, corrected, estimated and withdrawn reads come to the same as in chunks of rows', async () => {
    for (const utility of [columnar, rows]) {
      await registered(utility)
      for (const n of [1, 2, 3, 4]) await utility.settle(fleet(n, 100))
      await utility.settle(meterNames.map((meter) => ({ meter, start: day(5), values: Array.from({ length: 48 }, () => 33) })))
    }
    const asRows = await disturb(rows)
    await convert()
    const asColumns = await disturb(columnar)
    expect(asColumns).toEqual(asRows)
    await expectSame()
    expect(await partlyRows()).toBeGreaterThan(0)
    // The next run of the policy takes them in again.
    await convert()
    expect(await partlyRows()).toBe(0)
    await expectSame()
    await expectSound(db.pool, columnar.utilityId)
    await expectNoDeadlock(db.pool)
  })

  test('a correction opens more rows than TimescaleDB allows by itself, and settles', async () => {
    await convert()
    // The guard at 10 rows stands for 100,000 and a fleet.
    await db.pool.query(`alter database ${db.name} set timescaledb.max_tuples_decompressed_per_dml_transaction = 10`)
    const pool = openPool(db.url, 4, 'meterline test', () => undefined)
    try {
      const other = await testUtility(pool, ZONE)
      await registered(other)
      for (const n of [10, 11, 12]) await other.settle(fleet(n, 5))
      await convert()
      await expect(pool.query("update channel_day set restated_at = now() where day = '2026-03-12'")).rejects.toMatchObject({ code: '53400' })
      expect(await other.settle(fleet(11, 6))).toMatchObject({ corrected: METERS * 96 })
      await expectSound(pool, other.utilityId)
    } finally {
      await pool.end()
    }
  })

  test('a chunk that is converted while reads are settled into it loses none of them', async () => {
    const busy = await testUtility(db.pool, ZONE)
    await registered(busy)
    for (const n of [20, 21]) await busy.settle(fleet(n, 50))
    const pushes: Promise<unknown>[] = []
    for (const n of [20, 21, 22, 23]) pushes.push(busy.settle(fleet(n, 60)))
    // The policy gives way to writers, and comes back.
    const converted = convert().catch((err: unknown) => expect(String(err)).toMatch(/concurrent (DML|updates)/))
    const [, ...receipts] = await Promise.all([converted, ...pushes])
    expect(receipts).toMatchObject([{ corrected: METERS * 96 }, { corrected: METERS * 96 }, { stored: METERS * 96 }, { stored: METERS * 96 }])
    await expectSound(db.pool, busy.utilityId)
    await expectNoDeadlock(db.pool)
  })

  /** What the columnstore policy does to chunks of its age. */
  async function convert(): Promise<void> {
    const { rows: chunks } = await db.pool.query<{ chunk: string }>(
      "select c::text as chunk from show_chunks('channel_day', newer_than => date '2026-02-01', older_than => date '2026-05-15') c")
    expect(chunks.length).toBeGreaterThan(0)
    for (const { chunk } of chunks) await db.pool.query(`call convert_to_columnstore('${chunk}', if_not_columnstore => true)`)
  }

  /** Converted chunks that hold rows beside the columnstore. */
  async function partlyRows(): Promise<number> {
    const { rowCount } = await db.pool.query(`
      select from show_chunks('channel_day') c where 'PARTIAL' = any (_timescaledb_functions.chunk_status_text(c))`)
    return rowCount ?? 0
  }

  async function expectSame(): Promise<void> {
    for (const sql of [STATE, LOAD]) {
      const [a, b] = await Promise.all([columnar, rows].map(async (u) => (await db.pool.query<Record<string, unknown>>(sql, [u.utilityId])).rows))
      expect(a).toEqual(b)
      expect(a.length).toBeGreaterThan(0)
    }
  }
})
