import { expect } from 'vitest'
import type { Pool } from '../engine/store/db.js'

/**
 * That the aggregates of all blocks are those of their values, and the load is that of the blocks; for utilities whose
 * meters are all main and have one channel per flow. Plain SQL, so that it can be asked of any number of blocks.
 */
export async function expectSound(pool: Pool, utilityId: number): Promise<void> {
  const { rows: unsound } = await pool.query(
    `select d.channel_id, d.day from channel_day d join channel c using (channel_id),
            lateral (select coalesce(sum(v), 0) as total, count(v) as present, max(v) as peak from unnest(d.vals) v) x
      where c.utility_id = $1 and (d.total, d.present) <> (x.total, x.present) or d.peak is distinct from x.peak`, [utilityId])
  expect(unsound).toEqual([])
  const { rows: [sums] } = await pool.query<{ blocks: string; load: string }>(
    `select trim_scale(coalesce((select sum(total * 10::numeric ^ exponent) from channel_day join channel using (channel_id) where utility_id = $1), 0))::text as blocks,
            trim_scale(coalesce((select sum(energy + coarse) from system_load where utility_id = $1), 0))::text as load`, [utilityId])
  expect(sums.load).toBe(sums.blocks)
}

/** That no transaction of the database ran into a deadlock: retrying is the last resort, not the protocol (design §4). */
export async function expectNoDeadlock(pool: Pool): Promise<void> {
  const { rows } = await pool.query<{ deadlocks: number }>('select deadlocks from pg_stat_database where datname = current_database()')
  expect(rows[0].deadlocks).toBe(0)
}
