import { arrayParsers } from '../store/array-text.js'
import { blockKey, intArray } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import { dayText } from '../time/text.js'
import { loadDayRows, type DayRow } from '../usage/day-rows.js'
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
    const days = await loadWindow(db, channels, start, slotsOfDay)
    for (const channelId of channels) made.set(baselineKey(channelId, period), summarise(period, days.get(channelId) ?? []))
  }
  return made
}

interface WindowRow {
  channel_id: number
  interval_s: number
  days: Int32Array
  exponents: Int16Array
  totals: Float64Array
  peaks: Int32Array
  present: Int16Array
  estimated: Int16Array
}

/** Days of the window before a period, by channel: one row of each for the figures of all its days, and the slots of the last days. */
async function loadWindow(
  db: Queryable, channels: readonly number[], start: number, slotsOfDay: (day: number, intervalS: number) => number,
): Promise<Map<number, HistoryDay[]>> {
  const slots = new Map<number, DayRow>()
  for (const row of await loadDayRows(db, channels, start - SLOT_DAYS, start, 'all')) slots.set(blockKey(row.channelId, row.day), row)
  const { rows } = await db.query<WindowRow>({
    text: `select channel_id, min(interval_s) as interval_s, array_agg(day - date '1970-01-01') as days, array_agg(exponent) as exponents,
                  array_agg(total) as totals, array_agg(coalesce(peak, 0)) as peaks, array_agg(present) as present, array_agg(estimated) as estimated
             from channel_day where channel_id = any($1::int[]) and day >= $2::date and day < $3::date group by channel_id`,
    values: [intArray(channels), dayText(start - WINDOW_DAYS), dayText(start)], types: arrayParsers })
  return new Map(rows.map((r) => [r.channel_id, Array.from(r.days, (day, i): HistoryDay => {
    const row = slots.get(blockKey(r.channel_id, day))
    return {
      day, exponent: r.exponents[i], total: r.totals[i], peak: r.peaks[i], present: r.present[i], estimated: r.estimated[i],
      vals: row?.vals ?? null, lane: row?.lane ?? null, slots: row?.vals?.length ?? slotsOfDay(day, r.interval_s), intervalS: r.interval_s }
  })]))
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
