import { Cron } from 'croner'
import type { Logger } from 'pino'
import type { Pool } from '../engine/store/db.js'
import { judgeDue, type SweepOptions } from '../engine/thresholds/sweep.js'

/** Every ten seconds: what is due is known by then for minutes or hours. */
const SCHEDULE = '*/10 * * * * *'

/** Judges the thresholds that wait for a period's end, on a schedule; several processes may do so at once. */
export function startJudging(pool: Pool, log: Logger, options: SweepOptions, onMessages: () => void): { stop: () => Promise<void> } {
  let running: Promise<void> = Promise.resolve()
  const job = new Cron(SCHEDULE, {
    // A sweep that takes longer than its turn is not begun again beside itself.
    protect: true, unref: true,
    catch: (err) => log.warn({ err }, 'thresholds could not be judged'),
  }, () => {
    running = judge()
    return running
  })
  async function judge(): Promise<void> {
    const { raised, retracted, messages } = await judgeDue(pool, options)
    if (messages > 0) onMessages()
    if (raised + retracted > 0) log.info({ raised, retracted }, 'thresholds judged')
  }
  return {
    stop: async () => {
      job.stop()
      await running.catch(() => undefined)
    },
  }
}
