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

/**
 * That no bound of a period which holds at the utility's registry epoch lies below what is stored, and no day from its cap's
 * first on above the cap: of meters that served the account alone and have one channel of the flow, over the days that any
 * billing period has.
 */
export async function expectBounds(pool: Pool, utilityId: number): Promise<void> {
  const { rows } = await pool.query(
    `select b.*, x.kwh as stored, x.greatest
       from period_bound b join account a using (account_id) join utility u on u.utility_id = a.utility_id and u.registry_epoch = b.epoch,
            lateral (select coalesce(sum(s.kwh) filter (where s.day < coalesce(b.cap_from, 'infinity')), 0) as kwh,
                            max(s.kwh) filter (where s.day >= b.cap_from) as greatest
                       from (select d.day, sum(d.total * 10::float8 ^ d.exponent) as kwh
                               from meter_assignment m join channel c using (meter_id) join channel_day d using (channel_id)
                              where m.account_id = b.account_id and m.to_at is null and (m.from_at <= b.start_day or m.from_at = '-infinity')
                                and c.flow = b.flow and c.quantity = 1 and not c.shared and d.day >= b.start_day and d.day < b.start_day + 28
                              group by d.day) s) x
      where a.utility_id = $1 and (b.kwh < x.kwh * (1 - 1e-9) or b.cap_kwh < x.greatest * (1 - 1e-9))`, [utilityId])
  expect(rows).toEqual([])
}

/** That no transaction of the database ran into a deadlock: retrying is the last resort, not the protocol (design §4). */
export async function expectNoDeadlock(pool: Pool): Promise<void> {
  const { rows } = await pool.query<{ deadlocks: number }>('select deadlocks from pg_stat_database where datname = current_database()')
  expect(rows[0].deadlocks).toBe(0)
}
