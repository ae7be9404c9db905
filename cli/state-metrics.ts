import type { Logger } from 'pino'
import { Gauge, type Registry } from 'prom-client'
import { impatient, type Pool } from '../engine/store/db.js'
import type { Storage } from '../engine/store/storage.js'
import { readWatch, type Watch } from '../engine/store/watch.js'
import { getZone } from '../engine/time/zone.js'
import { completeness, newestDueDay } from '../engine/usage/completeness.js'
import { inSnapshot } from '../engine/usage/usage.js'

/** How old the figures of a scrape may be. Completeness reads a row per channel, the rest an index or two. */
const WATCH_MS = 15_000
const COMPLETENESS_MS = 10 * 60_000
/** Where nothing was expected yet, the first reads are looked for sooner. */
const NOTHING_MS = 30_000
const PATIENCE_MS = 5000

/**
 * Metrics of how the data stands: freshness, completeness, quarantine, messages, size. Looked up when somebody scrapes, at
 * most every few seconds; completeness beside the scrape, which shows what was found last. Where the database does not
 * answer, meterline_state_up says so and the old figures go.
 * @returns what to await before the registry is shown
 */
export function stateMetrics(registry: Registry, pool: Pool, storage: Storage, log: Logger, now: () => number): () => Promise<void> {
  const registers = [registry]
  const gauge = <T extends string>(name: string, help: string, labelNames: T[]): Gauge<T> => new Gauge({ name, help, labelNames, registers })
  const dataAge = gauge('meterline_data_age_seconds', 'Since the end of the newest read', ['utility'])
  const deliveryAge = gauge('meterline_delivery_age_seconds', 'Since the last delivery settled', ['utility'])
  const complete = gauge('meterline_completeness_ratio', 'Reads present of those expected, newest day that is due', ['utility'])
  const lacking = gauge('meterline_missing_reads', 'Reads missing, newest day that is due', ['utility'])
  const quarantine = gauge('meterline_quarantine_reads', 'Reads that wait in quarantine', ['utility', 'reason'])
  const due = gauge('meterline_messages_due', 'Messages that are due and not sent', [])
  const oldest = gauge('meterline_message_delay_seconds', 'Since the oldest message that is due was due', [])
  const bytes = gauge('meterline_database_bytes', 'Size of the database', [])
  const jobs = gauge('meterline_database_failing_jobs', 'Jobs of TimescaleDB whose last run failed', [])
  const up = gauge('meterline_state_up', '1 where the database told how the data stands', [])
  let looked = -Infinity
  let counted = -Infinity
  let running: Promise<void> | undefined

  const show = (watch: Watch): void => {
    for (const g of [dataAge, deliveryAge, quarantine]) g.reset()
    for (const u of watch.utilities) {
      if (u.dataAgeS !== null) dataAge.set({ utility: u.utility }, u.dataAgeS)
      if (u.deliveryAgeS !== null) deliveryAge.set({ utility: u.utility }, u.deliveryAgeS)
      const waiting = Object.entries(u.quarantine)
      if (waiting.length === 0) quarantine.set({ utility: u.utility, reason: 'none' }, 0)
      for (const [reason, reads] of waiting) quarantine.set({ utility: u.utility, reason }, reads)
    }
    due.set(watch.messagesDue)
    oldest.set(watch.oldestDueS)
    bytes.set(watch.databaseBytes)
    jobs.set(watch.failingJobs)
  }
  const count = async (watch: Watch): Promise<void> => {
    let utilities = 0
    for (const u of watch.utilities) {
      if (u.zone === null) continue
      const zone = getZone(u.zone)
      const nowS = now() / 1000
      const found = await inSnapshot(pool, (db) => completeness(db, zone, u.utilityId, newestDueDay(zone, nowS), null, nowS))
      // A utility of which nothing is expected is not complete: it is not there.
      if (found.expected === 0) continue
      complete.set({ utility: u.utility }, found.present / found.expected)
      lacking.set({ utility: u.utility }, found.missing)
      utilities++
    }
    if (utilities === 0) counted = performance.now() - COMPLETENESS_MS + NOTHING_MS
  }
  const look = async (): Promise<boolean> => {
    try {
      const watch = await readWatch(impatient(pool, PATIENCE_MS), storage.mode)
      show(watch)
      if (running === undefined && performance.now() - counted > COMPLETENESS_MS) {
        counted = performance.now()
        running = count(watch).catch((err: unknown) => log.warn({ err }, 'completeness could not be counted')).finally(() => { running = undefined })
      }
      return true
    } catch {
      for (const g of [dataAge, deliveryAge, quarantine, due, oldest, bytes, jobs]) g.reset()
      return false
    }
  }
  return async () => {
    if (performance.now() - looked < WATCH_MS) return
    looked = performance.now()
    up.set(await look() ? 1 : 0)
  }
}
