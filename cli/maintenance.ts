import type { Logger } from 'pino'
import type { Settings } from '../engine/config.js'
import type { Pool } from '../engine/store/db.js'
import { maintain } from '../engine/store/retention.js'
import type { Storage } from '../engine/store/storage.js'
import { uuidv7 } from '../engine/uuid.js'
import type { IngestPool } from '../ingest/pool.js'

const HOUR_MS = 3_600_000
const SWEEP_MS = 30_000

/** Work that goes on beside the doors, and how to end it. */
export interface Maintenance {
  /** Meters of this utility were registered: quarantined reads may settle now. */
  sweep: (utilityId: number) => void
  stop: () => Promise<void>
}

/**
 * Makes partitions ahead and applies the retention settings every hour, and settles reads that waited for a meter: at
 * once when this process registered it, and every half minute for what another one did.
 *
 * @param now the clock, epoch milliseconds
 */
export function startMaintenance(settings: Settings, pool: Pool, storage: Storage, ingest: IngestPool | null, log: Logger, now: () => number): Maintenance {
  let stopped = false
  let chain: Promise<void> = Promise.resolve()
  const enqueue = (what: string, work: () => Promise<void>): void => {
    if (stopped) return
    chain = chain.then(async () => {
      if (stopped) return
      try {
        await work()
      } catch (err) {
        log.warn({ err }, what)
      }
    })
  }
  const sweep = (utilityId: number): void => {
    if (ingest === null) return
    enqueue('reads that waited for a meter could not be settled', async () => {
      await ingest.replay({ utilityId, deliveryId: uuidv7(now()), reason: null, source: null, meter: null, onlyRegistered: true })
    })
  }
  const sweepAll = (): void => enqueue('the quarantine could not be looked at', async () => {
    const { rows } = await pool.query<{ utility_id: number }>(
      `select distinct q.utility_id from quarantine q
        where q.settled_by is null and q.reason = 'unknown-meter' and q.record is not null
          and (exists (select from meter m where m.utility_id = q.utility_id and m.id = q.meter)
               or exists (select from meter_alias a where a.utility_id = q.utility_id and a.alias = q.meter))`)
    for (const { utility_id } of rows) sweep(utility_id)
  })
  const hourly = (): void => enqueue('maintenance failed', async () => {
    await storage.makeAhead(now())
    await maintain(pool, storage, settings, now())
  })
  hourly()
  if (ingest !== null) sweepAll()
  const timers = [setInterval(hourly, HOUR_MS), ...(ingest === null ? [] : [setInterval(sweepAll, SWEEP_MS)])]
  for (const t of timers) t.unref()
  return {
    sweep,
    stop: async () => {
      stopped = true
      for (const t of timers) clearInterval(t)
      await chain
    },
  }
}
