import { Cron } from 'croner'
import type { Logger } from 'pino'
import type { Pool } from '../engine/store/db.js'
import { utilitiesToValidate } from '../engine/validate/step.js'
import type { IngestPool } from '../ingest/pool.js'

/** Every two seconds where nothing is settled. */
const SCHEDULE = '*/2 * * * * *'
/** Beside pushes so much seldomer: flags may wait, acknowledgements may not. Milliseconds. */
const BETWEEN_TURNS_MS = 9_000

/**
 * Validates what changed and fills what lacks, in the workers, on a schedule; several processes may do so at once. While
 * pushes are settled it takes one short turn each time and leaves the rest to the lull that follows: judged beside them,
 * day blocks settled at half their rate (bench `http-day-blocks`).
 */
export function startValidating(pool: Pool, ingest: IngestPool, log: Logger): { stop: () => Promise<void> } {
  let running: Promise<void> = Promise.resolve()
  let stopping = false
  const job = new Cron(SCHEDULE, {
    // A turn that takes longer than its time is not begun again beside itself.
    protect: true, unref: true,
    catch: (err) => log.warn({ err }, 'reads could not be validated'),
  }, () => {
    running = validate()
    return running
  })
  let lastAt = -Infinity
  async function validate(): Promise<void> {
    if (ingest.isSettling && performance.now() - lastAt < BETWEEN_TURNS_MS) return
    lastAt = performance.now()
    for (const utilityId of await utilitiesToValidate(pool)) {
      for (let more = true; more && !stopping;) {
        const turn = await ingest.vee(utilityId)
        more = turn.more && !ingest.isSettling
        if (turn.flagged + turn.estimated > 0) log.info({ judged: turn.judged, flagged: turn.flagged, estimated: turn.estimated }, 'days validated')
      }
    }
  }
  return {
    stop: async () => {
      stopping = true
      job.stop()
      await running.catch(() => undefined)
    },
  }
}
