import { Quantity } from '../quantity.js'
import { Flow, type FlowCode } from '../read-batch.js'
import { intArray } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import type { DayView, Circumstances } from './day.js'
import type { DaysToJudge } from './judge-days.js'
import type { Baseline } from './baseline.js'
import type { RuleSet } from './rule-set.js'
import { round, type Found } from './within-day.js'

/** Rules that hold a channel's day against the meter's other energy channels (vee.md b1, SIB and SUM). */

/** The same day of another energy channel of the meter. */
export interface SiblingDay {
  readonly flow: FlowCode
  readonly intervalS: number
  /** kWh. */
  readonly total: number
  readonly present: number
  /** True where it holds every read of the local day, and its first interval begins with the day. */
  readonly isWhole: boolean
}

type Parameters<K extends keyof RuleSet['rules']> = RuleSet['rules'][K]

/** SIB: a flow that the registry says the meter has did not come for a due day that others came for. */
export function sibling(_: DayView, __: Baseline | null, c: Circumstances, ___: Parameters<'sibling'>): Found | null {
  if (!c.isDue) return null
  const lacking = c.registeredFlows.filter((flow) => flow !== c.flow && !c.siblings.some((s) => s.flow === flow && s.present > 0))
  return lacking.length === 0 ? null : { slots: [], inputs: { flow: lacking[0] } }
}

/** SUM over channels: a whole day against what a channel of longer intervals says for the same flow, the longest there is. */
export function siblingSum(day: DayView, _: Baseline | null, c: Circumstances, p: Parameters<'sibling-sum'>): Found | null {
  if (day.present < day.slots || !c.beginsWithDay) return null
  let longest: SiblingDay | null = null
  for (const s of c.siblings) {
    if (s.flow === c.flow && s.isWhole && s.intervalS > (longest?.intervalS ?? day.intervalS)) longest = s
  }
  if (longest === null) return null
  const tolerance = Math.max(p.multiplierTimes * c.multiplier, p.share * Math.abs(longest.total))
  if (Math.abs(day.total - longest.total) <= tolerance + 1e-9) return null
  return { slots: [], inputs: { sum: round(day.total), sibling: round(longest.total), siblingIntervalSeconds: longest.intervalS, tolerance: round(tolerance) } }
}

/** Another energy channel of a meter. */
export interface Sibling {
  readonly channelId: number
  readonly flow: FlowCode
}

/** The other energy channels of the channels' meters, by channel. */
export async function siblingsOf(db: Queryable, channelIds: readonly number[]): Promise<Map<number, Sibling[]>> {
  const { rows } = await db.query<{ of: number; channelId: number; flow: FlowCode }>(
    `select c.channel_id as of, s.channel_id as "channelId", s.flow from channel c join channel s on s.meter_id = c.meter_id and s.channel_id <> c.channel_id
      where c.channel_id = any($1::int[]) and c.quantity = ${Quantity.energy} and s.quantity = ${Quantity.energy}`, [intArray(channelIds)])
  const siblings = new Map<number, Sibling[]>()
  for (const { of, channelId, flow } of rows) {
    const list = siblings.get(of)
    if (list === undefined) siblings.set(of, [{ channelId, flow }])
    else list.push({ channelId, flow })
  }
  return siblings
}

/** The days to judge, and those of the meters' other channels that their changed days may be judged otherwise by. */
export async function withSiblings(db: Queryable, todo: readonly DaysToJudge[]): Promise<DaysToJudge[]> {
  const siblings = await siblingsOf(db, todo.map((t) => t.channelId))
  if (siblings.size === 0) return [...todo]
  const own = new Map(todo.map((t) => [t.channelId, t]))
  const more = new Map<number, Set<number>>()
  for (const { channelId, named } of todo) {
    for (const { channelId: id } of siblings.get(channelId) ?? []) {
      const days = more.get(id) ?? new Set(own.get(id)?.others)
      for (const day of named) if (own.get(id)?.named.has(day) !== true) days.add(day)
      more.set(id, days)
    }
  }
  const none: ReadonlySet<number> = new Set()
  return [
    ...todo.map((t) => more.has(t.channelId) ? { ...t, others: more.get(t.channelId)! } : t),
    ...[...more].filter(([id]) => !own.has(id)).map(([channelId, others]) => ({ channelId, named: none, others })),
  ]
}

/** Codes of the registry's names of flows; net is none that others are held against. */
export function flowCodes(names: readonly string[] | null): FlowCode[] {
  return (names ?? []).flatMap((name) => name === 'delivered' ? [Flow.delivered] : name === 'received' ? [Flow.received] : [])
}
