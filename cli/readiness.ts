import { setTimeout as delay } from 'node:timers/promises'
import { impatient, type Pool } from '../engine/store/db.js'
import type { IngestPool } from '../ingest/pool.js'

/** A probe that waits longer than this has given up on the answer. */
const PROBE_MS = 2000
/** So long after the last push that found the disk full it counts as full: where no push is let in, none can tell. */
const FULL_MS = 15_000

/** Whether the process can take work, and why not, in words without internals. Answers within two seconds. */
export async function readiness(pool: Pool, ingest: IngestPool | null, stopping: boolean): Promise<{ ok: boolean; reasons: string[] }> {
  const reasons = stopping ? ['stopping'] : []
  const trouble = ingest?.trouble ?? null
  if (trouble?.code === 'database-full' && Date.now() - trouble.atMs < FULL_MS) reasons.push('the disk of the database is full')
  const late = new AbortController()
  const answered = impatient(pool, PROBE_MS).query('select 1').then(() => true, () => false)
  // The pool itself may have no connection to give.
  const isThere = await Promise.race([answered, delay(PROBE_MS, false, { signal: late.signal }).catch(() => false)])
  late.abort()
  if (!isThere) reasons.push('the database cannot be reached')
  return { ok: reasons.length === 0, reasons }
}
