import { intArray } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import { loadDayRows, type DayRow } from '../usage/day-rows.js'
import { slotsFrom } from './day.js'
import { baselineOf, figuresOf, periodStart, SLOT_DAYS, summarise, WINDOW_DAYS, type Baseline, type HistoryDay } from './baseline.js'

/** Key of a baseline in a map. */
export function baselineKey(channelId: number, period: number): number {
  return channelId * 65_536 + period
}

/** Those of the wanted baselines that stand; null ones had too little history. */
export async function readBaselines(
  db: Queryable, wanted: readonly { channelId: number; period: number }[],
): Promise<Map<number, Baseline | null>> {
  // As text: pg's own array parser takes several times as long for the figures.
  const { rows } = await db.query<{ channel_id: number; period: number; figures: string | null }>(
    `select b.channel_id, b.period, b.figures::text from unnest($1::int[], $2::int[]) as k(channel_id, period)
       join channel_baseline b using (channel_id, period)`, [intArray(wanted.map((w) => w.channelId)), intArray(wanted.map((w) => w.period))])
  return new Map(rows.map((r) => [baselineKey(r.channel_id, r.period), r.figures === null ? null : baselineOf(r.figures.slice(1, -1).split(',').map(Number))]))
}

/** The stored periods of the channels after the one given. */
export async function laterPeriods(db: Queryable, channelIds: readonly number[], after: number): Promise<{ channelId: number; period: number }[]> {
  const { rows } = await db.query<{ channelId: number; period: number }>(
    'select channel_id as "channelId", period from channel_baseline where channel_id = any($1::int[]) and period > $2', [intArray(channelIds), after])
  return rows
}

/** Works the baselines out of the stored days. */
export async function makeBaselines(
  db: Queryable, wanted: readonly { channelId: number; period: number }[], slotsOfDay: (day: number, intervalS: number) => number,
): Promise<Map<number, Baseline | null>> {
  const made = new Map<number, Baseline | null>()
  const byPeriod = new Map<number, number[]>()
  for (const { channelId, period } of wanted) {
    const channels = byPeriod.get(period)
    if (channels === undefined) byPeriod.set(period, [channelId])
    else channels.push(channelId)
  }
  for (const [period, channels] of byPeriod) {
    const start = periodStart(period)
    const rows = await loadDayRows(db, channels, start - WINDOW_DAYS, start, slotsFrom(start - SLOT_DAYS, start))
    const days = new Map<number, HistoryDay[]>()
    for (const row of rows) {
      const list = days.get(row.channelId)
      const day = historyDay(row, slotsOfDay)
      if (list === undefined) days.set(row.channelId, [day])
      else list.push(day)
    }
    for (const channelId of channels) made.set(baselineKey(channelId, period), summarise(period, days.get(channelId) ?? []))
  }
  return made
}

function historyDay(row: DayRow, slotsOfDay: (day: number, intervalS: number) => number): HistoryDay {
  const { day, exponent, total, peak, present, estimated, vals, lane, intervalS } = row
  return { day, exponent, total, peak, present, estimated, vals, lane, intervalS, slots: vals?.length ?? slotsOfDay(day, intervalS) }
}

/** Keeps baselines. */
export async function writeBaselines(db: Queryable, made: ReadonlyMap<number, Baseline | null>): Promise<void> {
  if (made.size === 0) return
  const keys = [...made.keys()]
  await db.query(
    `insert into channel_baseline (channel_id, period, figures)
     select channel_id, period, figures::float8[] from unnest($1::int[], $2::int[], $3::text[]) as b(channel_id, period, figures)
     on conflict (channel_id, period) do update set figures = excluded.figures`,
    [intArray(keys.map((k) => Math.floor(k / 65_536))), intArray(keys.map((k) => k % 65_536)),
      [...made.values()].map((b) => b === null ? null : `{${figuresOf(b).join(',')}}`)])
}

/** Whether two baselines say the same. */
export function sameBaseline(a: Baseline | null | undefined, b: Baseline | null | undefined): boolean {
  if (a === undefined || b === undefined) return false
  if (a === null || b === null) return a === b
  const [x, y] = [figuresOf(a), figuresOf(b)]
  return x.length === y.length && x.every((v, i) => v === y[i])
}
