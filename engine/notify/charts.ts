import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Piscina } from 'piscina'
import type { Logger } from 'pino'
import { Flow } from '../read-batch.js'
import type { Pool, Queryable } from '../store/db.js'
import { getZone } from '../time/zone.js'
import { loadAccountSubject, measureUsage } from '../usage/usage.js'
import type { DayChart } from './chart-image.js'
import type { MessageContent } from './content.js'
import type { LeasedMessage } from './outbox-store.js'
import type { Phrases } from './phrases.js'
import { chartDay } from './render.js'
import type { MailChart } from './transport.js'
import { hourWords, longDay, phrasesOf } from './words.js'

/** Charts that a process draws in a second. A mail that comes faster goes without: its words say all. */
const PER_SECOND = 10
/** Charts asked for and not drawn, at a time: the thread takes some 30 ms for one. */
const AT_A_TIME = 8
/** A mail waits so long for its chart; the first one longer, while the thread begins. */
const WAIT_MS = 400
const BEGIN_MS = 2_000
/** The thread ends when it has had nothing to do for so long. */
const IDLE_MS = 300_000

export interface Charts {
  /** null at once where there is none to show or too much to draw; a promise of null where it takes too long. */
  readonly draw: (message: Pick<LeasedMessage, 'account_id' | 'language'>, content: MessageContent) => Promise<MailChart | null> | null
  close(): Promise<void>
}

/** Draws charts of the day beside alert mails, on a thread of its own that leaves the processor to everything else. */
export function openCharts(options: { pool: Pool; log: Pick<Logger, 'warn'>; now: () => number }): Charts {
  const { pool, log, now } = options
  let threads: Piscina | undefined
  let drawnAt = -Infinity
  let budget = PER_SECOND
  let filledAt = now()
  /** By what they show: the contacts of an account share one. */
  const asked = new Map<string, Promise<MailChart | null>>()

  function mayDraw(): boolean {
    budget = Math.min(PER_SECOND, budget + (now() - filledAt) / 1000 * PER_SECOND)
    filledAt = now()
    if (budget < 1 || asked.size >= AT_A_TIME) return false
    budget--
    return true
  }

  async function draw(message: Pick<LeasedMessage, 'account_id' | 'language'>, shown: { day: number; zone: string }): Promise<MailChart | null> {
    try {
      const p = phrasesOf(message.language)
      const day = await loadDay(pool, message.account_id, shown, p, now() / 1000)
      if (day === null) return null
      threads ??= new Piscina({ filename: entry(), minThreads: 0, maxThreads: 1, idleTimeout: IDLE_MS, atomics: 'disabled' })
      const png = await threads.run(day.chart) as Uint8Array
      drawnAt = now()
      return { png: Buffer.from(png), alt: p.chartAlt(longDay(p, shown.day), day.peak), note: day.peak }
    } catch (err) {
      log.warn({ err }, 'a mail goes without its chart')
      return null
    }
  }

  return {
    draw(message, content) {
      const shown = chartDay(content)
      if (shown === null || (content.t === 'alert' && content.alert.meter !== null)) return null
      const key = `${message.account_id} ${shown.day} ${shown.zone} ${message.language}`
      let drawing = asked.get(key)
      if (drawing === undefined) {
        if (!mayDraw()) return null
        drawing = draw(message, shown).finally(() => asked.delete(key))
        asked.set(key, drawing)
      }
      // What comes too late is drawn to its end: breaking it off would end the thread.
      return within(drawing, now() - drawnAt < IDLE_MS ? WAIT_MS : BEGIN_MS)
    },
    close: async () => threads?.destroy(),
  }
}

/** null where it takes longer than `ms` milliseconds. */
async function within<T>(work: Promise<T>, ms: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<null>((done) => {
    timer = setTimeout(() => done(null), ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** The account's day by the hour; null where fewer than two hours are held. */
export async function loadDay(
  db: Queryable, accountId: number, { day, zone: name }: { day: number; zone: string }, p: Phrases, nowS: number,
): Promise<{ chart: DayChart; peak: string | null } | null> {
  const zone = getZone(name)
  const subject = await loadAccountSubject(db, zone, accountId, null)
  const usage = await measureUsage(db, subject, {
    fromS: zone.dayStart(day), toS: zone.dayStart(day + 1), resolution: 'hour', by: 'account', flow: Flow.delivered, asOf: null, nowS })
  const series = usage.series.at(0)
  if (series?.kind !== 'steps' || series.steps.stepS !== 3600) return null
  const { starts, sums } = series.steps
  const values = sums.map((sum) => sum === null ? null : Number(sum.text()))
  if (values.filter((v) => v !== null).length < 2) return null
  const mark = values.reduce((best: number, v, i) => v !== null && (best < 0 || v > (values[best] ?? 0)) ? i : best, -1)
  const labels = starts.map((s) => {
    const hour = Math.floor((s + zone.offsetAt(s)) / 3600) % 24
    return p.clock(hour, 0).replace(':00', '')
  })
  const peak = p.chartNote(hourWords(p, { startS: starts[mark], endS: starts[mark] + 3600 }, zone), `${values[mark]} kWh`)
  return { chart: { labels, values, mark }, peak }
}

function entry(): string {
  const here = fileURLToPath(new URL('./chart-image.js', import.meta.url))
  return existsSync(here) ? here : fileURLToPath(new URL('../../dist/engine/notify/chart-image.js', import.meta.url))
}
