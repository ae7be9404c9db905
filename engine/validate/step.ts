import { passed } from '../memory.js'
import { inTransaction, type Pool, type Queryable } from '../store/db.js'
import { intArray } from '../store/blocks.js'
import { dayText } from '../time/text.js'
import { getZone, type Zone } from '../time/zone.js'
import { newestDueDay } from '../usage/completeness.js'
import { periodOf, periodsAfter, periodStart, PERIOD_DAYS, SLOT_DAYS, type Baseline } from './baseline.js'
import { baselineKey, laterPeriods, makeBaselines, readBaselines, sameBaseline, writeBaselines } from './baseline-store.js'
import { settleFlags, type JudgedDay } from './flags.js'
import { DEPENDENT_DAYS, judgeDays, slotsOf, type DaysToJudge } from './judge-days.js'
import { dayKey, enqueuePending, stillPending, takePending } from './pending.js'
import { loadRules } from './rule-set-store.js'
import type { RuleSet } from './rule-set.js'
import { withSiblings } from './siblings.js'

/** Advisory lock class of validation: one process at a time judges a utility's days. */
export const VALIDATION_LOCK = 0x4d05
/** Channels whose days stand in memory at a time. */
const CHUNK = 250
/** A day's block as it comes from the socket: its text, and the row around it. */
const DAY_BYTES = 1024

export interface ValidationResult {
  /** Channel-days judged, and flags that are new or changed. */
  judged: number
  flagged: number
  /** True where more may wait. */
  more: boolean
}

/**
 * Judges some of the channel-days that changed, in one transaction. What is found is a function of what is stored: a day
 * is judged again when it changes, when a day before it does that it is judged by, and when the baseline of its fortnight
 * comes out otherwise. So the flags that stand in the end do not depend on the order of arrival (C2).
 * @param nowS epoch seconds: says which days' reads are due
 */
export async function validateSome(pool: Pool, utilityId: number, nowS: number): Promise<ValidationResult> {
  return inTransaction(pool, async (client) => {
    const { rows: [{ mine }] } = await client.query<{ mine: boolean }>(
      'select pg_try_advisory_xact_lock($1::int, $2::int) as mine', [VALIDATION_LOCK, utilityId])
    if (!mine) return { judged: 0, flagged: 0, more: false }
    const { rows: [utility] } = await client.query<{ zone: string | null }>('select zone from utility where utility_id = $1', [utilityId])
    const pending = utility.zone === null ? new Map<number, Set<number>>() : await takePending(client, utilityId)
    if (utility.zone === null || pending.size === 0) return { judged: 0, flagged: 0, more: false }
    const zone = getZone(utility.zone)
    const { rules, version } = await loadRules(client, utilityId)
    const awaiting = await stillPending(client, utilityId, pending, DEPENDENT_DAYS)
    let judged = 0
    let flagged = 0
    const channels = [...pending.keys()].sort((a, b) => a - b)
    const parts = Array.from({ length: Math.ceil(channels.length / CHUNK) }, (_, i) =>
      channels.slice(i * CHUNK, (i + 1) * CHUNK).map((channelId) => ({ channelId, days: pending.get(channelId)! })))
    const read = (part: readonly ChannelDays[]): Promise<Validated> => validateChannels(client, zone, part, rules, newestDueDay(zone, nowS), awaiting)
    // Each part is read while the one before it is judged: one by one, worker and database wait for each other half of the time.
    for await (const { part, result } of oneAhead(parts, read)) {
      await writeBaselines(client, result.made)
      judged += result.judged.length
      flagged += await settleFlags(client, utilityId, result.judged, version, new Date(nowS * 1000))
      if (rules.estimation.enabled) await touchGaps(client, utilityId, part, result, rules.estimation.likeDayReach)
      passed((result.judged.length + result.made.size * SLOT_DAYS) * DAY_BYTES)
    }
    return { judged, flagged, more: true }
  })
}

/** Reads the parts in order, each while the one before it is worked on. */
async function* oneAhead<P, R>(parts: readonly P[], read: (part: P) => Promise<R>): AsyncGenerator<{ part: P; result: R }> {
  const begin = (part: P): Promise<R> => {
    const result = read(part)
    // It may fail before it is awaited, while the one before it is worked on.
    result.catch(() => undefined)
    return result
  }
  let ahead = begin(parts[0])
  try {
    for (const [i, part] of parts.entries()) {
      const result = await ahead
      if (i + 1 < parts.length) ahead = begin(parts[i + 1])
      yield { part, result }
    }
  } finally {
    // Nobody else may have the connection before.
    await ahead.catch(() => undefined)
  }
}

interface ChannelDays {
  readonly channelId: number
  readonly days: ReadonlySet<number>
}

interface Validated {
  judged: JudgedDay[]
  incomplete: { channelId: number; day: number }[]
  /** Baselines that are new or came out otherwise. */
  made: Map<number, Baseline | null>
}

/**
 * Judges the days of channels that changed, and those that depend on them. Reads only.
 * @param awaiting days that are judged in a later turn anyway: of a fleet's week that came at once each day would
 * otherwise be judged again for each of the four before it
 */
export async function validateChannels(
  db: Queryable, zone: Zone, changed: readonly ChannelDays[], rules: RuleSet, dueDay: number, awaiting: ReadonlySet<number> = new Set(),
): Promise<Validated> {
  const made = new Map<number, Baseline | null>()
  const periods = new Map<number, Set<number>>()
  await remake(db, zone, changed, made, periods)
  const todo = await withSiblings(db, changed.map(({ channelId, days }): DaysToJudge => {
    const others = new Set<number>()
    const add = (day: number): void => {
      if (!days.has(day) && !awaiting.has(dayKey(channelId, day))) others.add(day)
    }
    for (const day of days) for (let d = day + 1; d <= day + DEPENDENT_DAYS; d++) add(d)
    for (const period of periods.get(channelId) ?? []) for (let d = periodStart(period); d < periodStart(period) + PERIOD_DAYS; d++) add(d)
    return { channelId, named: days, others }
  }))
  const wanted = new Map<number, { channelId: number; period: number }>()
  for (const { channelId, named, others } of todo) {
    for (const days of [named, others]) {
      for (const day of days) wanted.set(baselineKey(channelId, periodOf(day)), { channelId, period: periodOf(day) })
    }
  }
  const baselines = await readBaselines(db, [...wanted.values()].filter((w) => !made.has(baselineKey(w.channelId, w.period))))
  const lacking = [...wanted.values()].filter((w) => !made.has(baselineKey(w.channelId, w.period)) && !baselines.has(baselineKey(w.channelId, w.period)))
  for (const [key, baseline] of await makeBaselines(db, lacking, (day, intervalS) => slotsOf(zone, day, intervalS))) made.set(key, baseline)
  for (const [key, baseline] of made) baselines.set(key, baseline)
  return { ...await judgeDays(db, zone, todo, baselines, rules, dueDay), made }
}

/** Works stored baselines out again that a changed day takes part in; periods whose baseline came out otherwise are entered. */
async function remake(
  db: Queryable, zone: Zone, changed: readonly ChannelDays[], made: Map<number, Baseline | null>, periods: Map<number, Set<number>>,
): Promise<void> {
  let least = Infinity
  const touched = new Set<number>()
  for (const { channelId, days } of changed) {
    for (const day of days) {
      const [from, to] = periodsAfter(day)
      least = Math.min(least, from)
      for (let p = from; p <= to; p++) touched.add(baselineKey(channelId, p))
    }
  }
  const stored = (await laterPeriods(db, changed.map((c) => c.channelId), least - 1)).filter((s) => touched.has(baselineKey(s.channelId, s.period)))
  if (stored.length === 0) return
  const before = await readBaselines(db, stored)
  const after = await makeBaselines(db, stored, (day, intervalS) => slotsOf(zone, day, intervalS))
  for (const { channelId, period } of stored) {
    const key = baselineKey(channelId, period)
    const baseline = after.get(key) ?? null
    if (sameBaseline(before.get(key), baseline)) continue
    made.set(key, baseline)
    const known = periods.get(channelId)
    if (known === undefined) periods.set(channelId, new Set([period]))
    else known.add(period)
  }
}

/** Enters days that lack reads, and has gaps looked at again whose like days or neighbours changed. */
async function touchGaps(
  db: Queryable, utilityId: number, changed: readonly ChannelDays[], { judged, incomplete }: Validated, reach: number,
): Promise<void> {
  if (incomplete.length > 0) {
    await db.query(
      `insert into vee_gap (channel_id, day, utility_id) select channel_id, day, $1 from unnest($2::int[], $3::date[]) as g(channel_id, day)
       on conflict (channel_id, day) do update set touched = vee_gap.touched + 1`,
      [utilityId, intArray(incomplete.map((g) => g.channelId)), incomplete.map((g) => dayText(g.day))])
  }
  const open = new Set(incomplete.map((g) => baselineKey(g.channelId, g.day)))
  const whole = judged.filter((j) => !open.has(baselineKey(j.channelId, j.day)))
  await db.query('delete from vee_gap g using unnest($1::int[], $2::date[]) as w(channel_id, day) where g.channel_id = w.channel_id and g.day = w.day',
    [intArray(whole.map((j) => j.channelId)), whole.map((j) => dayText(j.day))])
  const spans = changed.map(({ channelId, days }) => ({ channelId, from: Math.min(...days) - reach - 1, to: Math.max(...days) + reach + 1 }))
  await db.query(
    `update vee_gap g set touched = touched + 1 from unnest($1::int[], $2::date[], $3::date[]) as c(channel_id, from_day, to_day)
      where g.channel_id = c.channel_id and g.day between c.from_day and c.to_day`,
    [intArray(spans.map((s) => s.channelId)), spans.map((s) => dayText(s.from)), spans.map((s) => dayText(s.to))])
}

/** Days before the newest due one that a sweep looks back over. */
const SWEEP_DAYS = 35

/**
 * Leaves to validation what due days lack: channels that read in the five weeks before and hold no
 * whole day now, and those of meters of which a registered flow holds nothing. Once
 * for each day, when it becomes due; what comes later is judged as it comes.
 * @returns channel-days entered
 */
export async function sweepGaps(pool: Pool, utilityId: number, nowS: number): Promise<number> {
  return inTransaction(pool, async (client) => {
    const { rows: [u] } = await client.query<{ zone: string | null; swept: number | null; validates: boolean }>(
      `select zone, gaps_swept - date '1970-01-01' as swept, validates from utility where utility_id = $1 for no key update`, [utilityId])
    if (u.zone === null || !u.validates) return 0
    const due = newestDueDay(getZone(u.zone), nowS)
    if (u.swept !== null && u.swept >= due) return 0
    let found = 0
    for (let day = Math.max((u.swept ?? due - SWEEP_DAYS) + 1, due - SWEEP_DAYS + 1); day <= due; day++) {
      const { rows } = await client.query<{ channelId: number; day: number }>(INCOMPLETE, [utilityId, dayText(day), SWEEP_DAYS, day])
      await enqueuePending(client, utilityId, rows)
      found += rows.length
    }
    await client.query('update utility set gaps_swept = $2 where utility_id = $1', [utilityId, dayText(due)])
    return found
  })
}

const INCOMPLETE = `
  select c.channel_id as "channelId", $4::int as day
    from channel c join meter m using (meter_id)
    left join channel_day d on d.channel_id = c.channel_id and d.day = $2::date
   where m.utility_id = $1 and c.quantity = 1 and m.status = 'active' and (
         ((d.channel_id is null or d.present < cardinality(d.vals))
          and exists (select from channel_day e where e.channel_id = c.channel_id and e.day >= $2::date - $3::int and e.day < $2::date))
         or (d.present > 0 and cardinality(m.flows) > 1 and exists (select from unnest(m.flows) as f(flow) where f.flow <> 'net' and not exists (
              select from channel s join channel_day o on o.channel_id = s.channel_id and o.day = $2::date
               where s.meter_id = m.meter_id and s.quantity = 1 and o.present > 0 and s.flow = case f.flow when 'delivered' then 1 else 2 end))))
     and (not c.shared or exists (select from channel_span s where s.channel_id = c.channel_id and s.to_at > $2::date))
   order by c.channel_id`

/** Utilities that have days to judge, a sweep to make, or gaps to fill. */
export async function utilitiesToValidate(db: Queryable): Promise<number[]> {
  const { rows } = await db.query<{ utility_id: number }>(
    'select utility_id from utility where zone is not null and holds_reads and validates order by utility_id')
  return rows.map((r) => r.utility_id)
}
