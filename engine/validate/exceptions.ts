import { writeAudit } from '../audit.js'
import { ApiError } from '../problem.js'
import { flowNames, type FlowCode } from '../read-batch.js'
import { inTransaction, type Pool, type Queryable } from '../store/db.js'
import { dayNumber, instantText } from '../time/text.js'
import type { Zone } from '../time/zone.js'

/** A flag as the queue of exceptions shows it. */
export interface ExceptionView {
  id: number
  meter: string
  flow: string
  day: string
  rule: string
  severity: string
  /** Runs of flagged intervals; empty: the day as a whole. */
  intervals: { start: string; count: number }[]
  inputs: Record<string, number>
  parameters: Record<string, unknown>
  /** Version of the utility's rule set that it was judged by. */
  ruleSet: number
  flaggedAt: string
  state: string
  decidedBy: string | null
  decidedAt: string | null
  reason: string | null
}

/** Which exceptions are asked for; null: all. */
export interface ExceptionQuery {
  readonly utilityId: number
  readonly rule: string | null
  readonly severity: string | null
  readonly meter: string | null
  /** Local dates, inclusive and exclusive. */
  readonly from: string | null
  readonly to: string | null
  readonly state: string | null
  /** Id of the last one seen. */
  readonly before: number | null
  readonly limit: number
}

interface Row {
  flag_id: number
  meter: string
  flow: FlowCode
  interval_s: number
  first_s: number | null
  day: string
  rule: string
  severity: string
  slots: number[]
  inputs: Record<string, number>
  parameters: Record<string, unknown>
  rule_set: number
  flagged_at: Date
  state: string
  decided_by: string | null
  decided_at: Date | null
  reason: string | null
}

/** The utility's exceptions, those that were found last first. */
export async function listExceptions(db: Queryable, zone: Zone, query: ExceptionQuery): Promise<ExceptionView[]> {
  const { rows } = await db.query<Row>(
    `select f.flag_id, m.id as meter, c.flow, c.interval_s, extract(epoch from d.first_at)::float8 as first_s, f.day, f.rule, f.severity,
            f.slots, f.inputs, f.parameters, f.rule_set, f.flagged_at, f.state, f.decided_by, f.decided_at, f.reason
       from day_flag f join channel c using (channel_id) join meter m using (meter_id)
       left join channel_day d on d.channel_id = f.channel_id and d.day = f.day
      where f.utility_id = $1 and ($2::text is null or f.rule = $2) and ($3::text is null or f.severity = $3)
        and ($4::text is null or m.id = $4) and ($5::date is null or f.day >= $5::date) and ($6::date is null or f.day < $6::date)
        and ($7::text is null or f.state = $7) and ($8::bigint is null or f.flag_id < $8)
      order by f.flag_id desc limit $9`,
    [query.utilityId, query.rule, query.severity, query.meter, query.from, query.to, query.state, query.before, query.limit])
  return rows.map((r) => ({
    id: r.flag_id, meter: r.meter, flow: flowNames[r.flow], day: r.day, rule: r.rule, severity: r.severity,
    intervals: runsOf(r.slots).map(([slot, count]) => ({
      start: instantText((r.first_s ?? zone.dayStart(dayNumber(r.day))) + slot * r.interval_s, zone), count })),
    inputs: r.inputs, parameters: r.parameters, ruleSet: r.rule_set, flaggedAt: r.flagged_at.toISOString(), state: r.state,
    decidedBy: r.decided_by, decidedAt: r.decided_at?.toISOString() ?? null, reason: r.reason,
  }))
}

/** Runs of slots: first and count. */
export function runsOf(slots: readonly number[]): [number, number][] {
  const runs: [number, number][] = []
  for (const slot of slots) {
    const last = runs.at(-1)
    if (last !== undefined && last[0] + last[1] === slot) last[1]++
    else runs.push([slot, 1])
  }
  return runs
}

/**
 * Accepts what was flagged as it is: the flag stays and leaves the queue, until the day comes out otherwise.
 * @throws ApiError 404 `exception-not-found`
 */
export async function acceptException(
  pool: Pool, utilityId: number, flagId: number, actor: string, reason: string, now: Date,
): Promise<void> {
  await inTransaction(pool, async (client) => {
    const { rows } = await client.query<{ day: string; rule: string; meter: string }>(
      `update day_flag f set state = 'accepted', decided_by = $3, decided_at = $4, reason = $5
         from channel c join meter m using (meter_id)
        where f.flag_id = $1 and f.utility_id = $2 and c.channel_id = f.channel_id returning f.day, f.rule, m.id as meter`,
      [flagId, utilityId, actor, now, reason])
    if (rows.length === 0) throw new ApiError(404, 'exception-not-found', 'There is no such exception.')
    const { meter, day, rule } = rows[0]
    await writeAudit(client, { utilityId, actor, action: 'exception.accept', subject: meter, detail: { day, rule, reason } })
  })
}
