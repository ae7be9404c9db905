import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from '../engine/store/db.js'

/**
 * Waits until the change feed shows all that is committed: it goes no further than the oldest transaction that runs
 * anywhere on the server, and other tests' databases are on it too.
 * @throws Error after 30 seconds
 */
export async function feedCaughtUp(pool: Pool): Promise<void> {
  const { rows: [{ xid }] } = await pool.query<{ xid: string }>('select pg_snapshot_xmax(pg_current_snapshot())::text as xid')
  for (const began = Date.now(); ;) {
    const { rows: [{ done }] } = await pool.query<{ done: boolean }>('select pg_snapshot_xmin(pg_current_snapshot()) >= $1::xid8 as done', [xid])
    if (done) return
    if (Date.now() - began > 30_000) throw new Error('a transaction holds the change feed back')
    await delay(20)
  }
}
