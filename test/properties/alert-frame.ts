import { afterAll, beforeAll, expect } from 'vitest'
import { openPool, type Pool } from '../../engine/store/db.js'
import { judgeDue } from '../../engine/thresholds/sweep.js'
import { dayNumber, dayText } from '../../engine/time/text.js'
import { standing, type PlainThreshold } from '../alert-model.js'
import { takeAnyDay, testDatabase, type TestDatabase } from '../database.js'
import { nanoText, type Model } from '../model.js'
import type { TestUtility } from '../settling.js'
import { expectNoDeadlock } from '../soundness.js'

export const TIMEOUT_MS = 60_000
export const SETTLE_S = 48 * 3600

export type Span = [number, number]

/** Local days and billing periods, [from, to) in epoch seconds. */
export interface Spans { days: Span[]; months: Span[] }

/** An alert as the database has it: its value in billionths, and the states that it went through. */
export interface StoredAlert { threshold_id: string; start_s: number; value: string; state: string; states: string[] }

/** What the properties of alerts share: a database with two pools, as two processes have, and the schedule. */
export interface AlertFrame {
  db: TestDatabase
  pools: Pool[]
  /** Judges what is due. */
  judge(u: TestUtility, nowMs: number): Promise<void>
  /** The same by several processes at once. */
  sweep(u: TestUtility, nowMs: number): Promise<void>
  watch(u: TestUtility, accountId: number, t: Omit<PlainThreshold, 'id'>, touPeriod?: string): Promise<PlainThreshold>
  /** All alerts, once it is sure that raised and retracted come in turn. */
  alerts(u: TestUtility): Promise<StoredAlert[]>
  /** @param nowS given: what waits for later may wait on */
  expectStanding(u: TestUtility, watches: readonly PlainThreshold[], model: Model, spans: Spans, nowS?: number): Promise<void>
}

export function alertFrame(): AlertFrame {
  const frame = {} as AlertFrame
  beforeAll(async () => {
    frame.db = await testDatabase()
    await takeAnyDay(frame.db)
    frame.pools = [0, 1].map(() => openPool(frame.db.url, 3, 'meterline test', () => undefined))
  })
  afterAll(async () => {
    await Promise.all(frame.pools.map((pool) => pool.end()))
    await expectNoDeadlock(frame.db.pool)
    await frame.db.close()
  })
  const judgeBy = (u: TestUtility, pool: Pool, nowMs: number): Promise<unknown> =>
    judgeDue(pool, { secrets: u.world.secrets, settleS: SETTLE_S, now: () => nowMs })
  return Object.assign(frame, {
    async judge(u: TestUtility, nowMs: number): Promise<void> {
      await judgeBy(u, frame.db.pool, nowMs)
    },
    async sweep(u: TestUtility, nowMs: number): Promise<void> {
      await Promise.all(frame.pools.map((pool) => judgeBy(u, pool, nowMs)))
      await judgeBy(u, frame.db.pool, nowMs)
    },
    async watch(u: TestUtility, accountId: number, t: Omit<PlainThreshold, 'id'>, touPeriod?: string): Promise<PlainThreshold> {
      const id = await u.threshold(accountId, {
        kind: t.kind, flow: t.flow, limit: t.kind === 'no-usage' || t.kind === 'unusual' ? null : nanoText(t.limit), touPeriod,
        params: t.window === undefined ? {} : { window: t.window } })
      return { ...t, id }
    },
    async alerts(u: TestUtility): Promise<StoredAlert[]> {
      const { rows } = await frame.db.pool.query<StoredAlert>(
        `select threshold_id, extract(epoch from period_start)::float8 as start_s, trim_scale(value * 1000000000)::text as value, state,
                array(select h ->> 'state' from jsonb_array_elements(history) h) as states from alert where utility_id = $1`, [u.utilityId])
      for (const r of rows) {
        expect(r.states).toEqual(r.states.map((_, i) => i % 2 === 0 ? 'raised' : 'retracted'))
        expect(r.state).toBe(r.states.at(-1))
      }
      return rows
    },
    async expectStanding(u: TestUtility, watches: readonly PlainThreshold[], model: Model, spans: Spans, nowS?: number): Promise<void> {
      const stand = (await frame.alerts(u)).filter((r) => r.state === 'raised')
      for (const w of watches) {
        expect({ ...told(w), stands: stand.filter((r) => r.threshold_id === w.id).map((r) => `${r.threshold_id} ${r.start_s} ${r.value}`).sort() })
          .toEqual({ ...told(w), stands: standing(w, model, spans.days, spans.months, nowS).sort() })
      }
      if (nowS === undefined) expect((await frame.db.pool.query('select 1 from threshold_due where utility_id = $1', [u.utilityId])).rows).toEqual([])
    },
  })
}

function told({ kind, flow, limit, window }: PlainThreshold): object {
  return { kind, flow, limit: nanoText(limit), window }
}

/** The days of the calendar months around a day, and the months. */
export function spansAround(u: TestUtility, day: number): Spans {
  const first = dayNumber(`${dayText(day - 1).slice(0, 7)}-01`)
  let last = day + 2
  while (dayText(last).slice(8) !== '01') last++
  const starts = Array.from({ length: last - first + 1 }, (_, i) => first + i)
  const days = starts.slice(0, -1).map((d): Span => [u.zone.dayStart(d), u.zone.dayStart(d + 1)]).filter(([from, to]) => from < to)
  const firsts = starts.filter((d) => dayText(d).endsWith('-01'))
  return { days, months: firsts.slice(0, -1).map((d, i) => [u.zone.dayStart(d), u.zone.dayStart(firsts[i + 1])]) }
}
