import type { Logger } from 'pino'
import { Counter, Gauge, type Registry } from 'prom-client'
import type { Settings } from '../engine/config.js'
import { openPool } from '../engine/store/db.js'
import { ReplicaSource, type ReadSource } from '../engine/store/replica.js'
import type { Database } from './runtime.js'

/** The replica of DATABASE_READ_URL with its metrics; null where none is set. */
export function openReplica(
  settings: Settings, database: Database, log: Logger, registry: Registry,
): { source: ReadSource; close: () => Promise<void> } | null {
  if (settings.databaseReadUrl === null) return null
  const registers = [registry]
  const reads = new Counter({
    name: 'meterline_replica_reads_total', help: 'Reads by how the replica stood: fresh ones it answered, the others the primary did',
    labelNames: ['outcome'], registers })
  for (const outcome of ['fresh', 'behind', 'broken']) reads.inc({ outcome }, 0)
  const lag = new Gauge({ name: 'meterline_replica_lag_bytes', help: 'Write-ahead log that the replica had not replayed, at the last read', registers })
  const pool = openPool(settings.databaseReadUrl, 12, 'meterline read',
    (err) => log.warn({ err }, 'an idle read connection broke'), settings.databaseTimeoutSeconds)
  const source = new ReplicaSource(database.pool, pool, {
    onOutcome: (outcome, lagBytes) => {
      reads.inc({ outcome })
      if (lagBytes !== null) lag.set(lagBytes)
    },
    onBroken: (err) => log.warn({ err }, 'the read replica does not answer: the primary does'),
  })
  return { source, close: () => pool.end() }
}
