import { isDeepStrictEqual } from 'node:util'
import { intArray } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import { dayNumber, dayText } from '../time/text.js'
import type { Finding } from './day.js'

/** A channel's day as it was judged: everything that holds, nothing else. */
export interface JudgedDay {
  channelId: number
  day: number
  findings: readonly Finding[]
}

interface Row {
  flag_id: number
  channel_id: number
  day: string
  rule: string
  severity: string
  slots: number[]
  inputs: Record<string, number>
}

/**
 * Brings the stored flags of judged days to what was found. A flag that still holds by the same figures stays as it is,
 * with what somebody decided about it; by other figures it is open again; one that does not hold any more goes.
 * @returns how many flags are new or changed
 */
export async function settleFlags(
  db: Queryable, utilityId: number, judged: readonly JudgedDay[], ruleSet: number, at: Date,
): Promise<number> {
  if (judged.length === 0) return 0
  const texts = new Map<number, string>()
  const textOf = (day: number): string => {
    let text = texts.get(day)
    if (text === undefined) texts.set(day, text = dayText(day))
    return text
  }
  const { rows } = await db.query<Row>(
    `select f.flag_id, f.channel_id, f.day, f.rule, f.severity, f.slots, f.inputs
       from unnest($1::int[], $2::date[]) as k(channel_id, day) join day_flag f using (channel_id, day)`,
    [intArray(judged.map((j) => j.channelId)), `{${judged.map((j) => textOf(j.day)).join(',')}}`])
  const stands = new Map(rows.map((r) => [`${r.channel_id}|${dayNumber(r.day)}|${r.rule}`, r]))
  const fresh: { channelId: number; day: number; finding: Finding }[] = []
  for (const { channelId, day, findings } of judged) {
    for (const finding of findings) {
      const key = `${channelId}|${day}|${finding.rule}`
      const stood = stands.get(key)
      stands.delete(key)
      if (stood !== undefined && stood.severity === finding.severity && isDeepStrictEqual(stood.slots, [...finding.slots]) &&
        isDeepStrictEqual(stood.inputs, finding.inputs)) continue
      fresh.push({ channelId, day, finding })
    }
  }
  if (stands.size > 0) await db.query('delete from day_flag where flag_id = any($1::bigint[])', [[...stands.values()].map((r) => r.flag_id)])
  if (fresh.length === 0) return 0
  await db.query(
    `insert into day_flag (utility_id, channel_id, day, rule, severity, slots, inputs, parameters, rule_set, flagged_at)
     select $1, channel_id, day, rule, severity, slots::smallint[], inputs, parameters, $2, $3
       from unnest($4::int[], $5::date[], $6::text[], $7::text[], $8::text[], $9::jsonb[], $10::jsonb[])
         as f(channel_id, day, rule, severity, slots, inputs, parameters)
     on conflict (channel_id, day, rule) do update
        set severity = excluded.severity, slots = excluded.slots, inputs = excluded.inputs, parameters = excluded.parameters,
            rule_set = excluded.rule_set, flagged_at = excluded.flagged_at, state = 'open', decided_by = null, decided_at = null, reason = null`,
    [utilityId, ruleSet, at, fresh.map((f) => f.channelId), fresh.map((f) => textOf(f.day)), fresh.map((f) => f.finding.rule),
      fresh.map((f) => f.finding.severity), fresh.map((f) => intArray(f.finding.slots)), fresh.map((f) => JSON.stringify(f.finding.inputs)),
      fresh.map((f) => JSON.stringify(f.finding.parameters))])
  return fresh.length
}
