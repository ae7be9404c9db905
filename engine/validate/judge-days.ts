import { emptyBlock } from '../settle.js'
import type { Queryable } from '../store/db.js'
import type { Zone } from '../time/zone.js'
import { loadDayRows, type DayRow } from '../usage/day-rows.js'
import { periodOf, type Baseline } from './baseline.js'
import { baselineKey } from './baseline-store.js'
import { viewOf, type Circumstances } from './day.js'
import { loadFacts, type ChannelFacts } from './facts.js'
import type { JudgedDay } from './flags.js'
import { judge } from './judge.js'
import type { RuleSet } from './rule-set.js'
import { mayBeShifted, hoursOf, shiftGains } from './shift.js'
import { hoursBefore } from './shift-days.js'
import { siblingsOf, type SiblingDay } from './siblings.js'
import { heedSources } from './skipping.js'
import { Flow, type FlowCode } from '../read-batch.js'
import { blockKey } from '../store/blocks.js'

/** Days after a changed one whose judgement it takes part in, by what comes before them: runs of zeros, of estimates. */
export const DEPENDENT_DAYS = 4

/** Which days of which channels. `named` are judged also where nothing is stored of them; `others` where something is. */
export interface DaysToJudge {
  readonly channelId: number
  readonly named: ReadonlySet<number>
  readonly others: ReadonlySet<number>
}

/** Judges days by the stored blocks; reads only. @param dueDay newest local day whose reads are all due */
export async function judgeDays(
  db: Queryable, zone: Zone, todo: readonly DaysToJudge[], baselines: ReadonlyMap<number, Baseline | null>, rules: RuleSet, dueDay: number,
): Promise<{ judged: JudgedDay[]; incomplete: { channelId: number; day: number }[] }> {
  const judged: JudgedDay[] = []
  const incomplete: { channelId: number; day: number }[] = []
  const wanted = new Set<number>()
  for (const { named, others } of todo) {
    for (const d of named) wanted.add(d)
    for (const d of others) wanted.add(d)
  }
  if (wanted.size === 0) return { judged, incomplete }
  const from = Math.min(...wanted)
  const to = Math.max(...wanted) + 1
  const ids = todo.map((t) => t.channelId)
  const facts = await loadFacts(db, ids, from, to)
  const siblings = await siblingsOf(db, ids)
  const rows = new Map<number, Map<number, DayRow>>()
  const take = (row: DayRow): void => {
    const days = rows.get(row.channelId)
    if (days === undefined) rows.set(row.channelId, new Map([[row.day, row]]))
    else days.set(row.day, row)
  }
  for (const row of await loadDayRows(db, ids, from - DEPENDENT_DAYS, to, [...wanted])) take(row)
  const others = [...new Set([...siblings.values()].flat().map((s) => s.channelId))].filter((id) => !facts.has(id))
  for (const row of await loadDayRows(db, others, from, to, [])) take(row)
  const siblingDays = (channelId: number, day: number): SiblingDay[] =>
    (siblings.get(channelId) ?? []).flatMap((s) => siblingDay(zone, s.flow, rows.get(s.channelId)?.get(day)))
  const hours = await hoursBefore(db, rules.rules['shift-hour'].enabled ? suspects(todo, rows, facts, baselines, rules, siblingDays) : [], rows)
  for (const { channelId, named, others } of todo) {
    const fact = facts.get(channelId)
    if (fact === undefined) continue
    const days = rows.get(channelId) ?? new Map<number, DayRow>()
    for (const day of named.size === 0 ? others : others.size === 0 ? named : new Set([...named, ...others])) {
      const row = days.get(day)
      if (row === undefined && !named.has(day)) continue
      const block = row !== undefined && row.vals !== null ? { ...row, vals: row.vals } : nothingOf(zone, fact, day)
      const view = viewOf(block)
      const baseline = baselines.get(baselineKey(channelId, periodOf(day))) ?? null
      judged.push({ channelId, day, findings: judge(view, baseline, {
        ...circumstances(fact, days, day, block.firstS, view.slots, dueDay), siblings: siblingDays(channelId, day),
        beginsWithDay: block.firstS === zone.dayStart(day), hoursBefore: hours.get(blockKey(channelId, day)) ?? [],
      }, rules) })
      if (view.present < view.slots || view.estimated > 0) incomplete.push({ channelId, day })
    }
  }
  return { judged: await heedSources(db, judged), incomplete }
}

/** A day of which nothing is stored, on the day's plain grid. */
function nothingOf(zone: Zone, fact: ChannelFacts, day: number): ReturnType<typeof emptyBlock> {
  return emptyBlock(fact.channelId, day, zone.dayStart(day), fact.intervalS, slotsOf(zone, day, fact.intervalS), 0, 0)
}

/** Intervals that begin on a local day. */
export function slotsOf(zone: Zone, day: number, intervalS: number): number {
  return intervalS >= 86_400 ? 1 : Math.ceil((zone.dayStart(day + 1) - zone.dayStart(day)) / intervalS)
}

function circumstances(
  fact: ChannelFacts, days: ReadonlyMap<number, DayRow>, day: number, firstS: number, slots: number, dueDay: number,
): Omit<Circumstances, 'siblings' | 'beginsWithDay' | 'hoursBefore'> {
  const slotAt = (s: number): number => (s - firstS) / fact.intervalS
  return {
    serviceKw: fact.serviceKw, multiplier: fact.multiplier, isActive: fact.isActive, flow: fact.flow, registeredFlows: fact.registeredFlows, isNet: fact.flow === Flow.net, isDue: day <= dueDay,
    outages: fact.outages.length === 0 ? [] : fact.outages.map((o): [number, number] => [Math.floor(slotAt(o.fromS)), Math.ceil(slotAt(o.toS))])
      .filter(([a, b]) => a < slots && b > 0),
    zeroDaysBefore: before(days, day, (r) => r.total === 0 && r.peak === 0),
    estimatedDaysBefore: before(days, day, (r) => r.estimated === r.present),
    register: registerOf(fact, slotAt, slots),
  }
}

function siblingDay(zone: Zone, flow: FlowCode, row: DayRow | undefined): SiblingDay[] {
  if (row === undefined || row.present === 0) return []
  const isWhole = row.present === slotsOf(zone, row.day, row.intervalS) && row.firstS === zone.dayStart(row.day)
  return [{ flow, intervalS: row.intervalS, total: row.total * 10 ** row.exponent, present: row.present, isWhole }]
}

/** Days that may be found an hour off once those before them are looked at: few, so that few slots more are read. */
function suspects(
  todo: readonly DaysToJudge[], rows: ReadonlyMap<number, ReadonlyMap<number, DayRow>>, facts: ReadonlyMap<number, ChannelFacts>,
  baselines: ReadonlyMap<number, Baseline | null>, rules: RuleSet, siblingDays: (channelId: number, day: number) => readonly SiblingDay[],
): { channelId: number; day: number }[] {
  const found: { channelId: number; day: number }[] = []
  for (const { channelId, named, others } of todo) {
    if (facts.get(channelId)?.flow !== Flow.delivered) continue
    for (const day of new Set([...named, ...others])) {
      const row = rows.get(channelId)?.get(day)
      const baseline = baselines.get(baselineKey(channelId, periodOf(day))) ?? null
      if (row === undefined || row.vals === null || baseline === null) continue
      const hours = hoursOf(row.vals, row.vals.length, row.present, row.intervalS)
      const gains = hours === null ? null : shiftGains(hours, baseline.profile)
      if (gains === null || !mayBeShifted(gains, rules.rules['shift-hour']) || siblingDays(channelId, day).some((s) => s.flow === Flow.received)) continue
      found.push({ channelId, day })
    }
  }
  return found
}

/** Stored days in a row before a day of which something holds; as many as judging looks back. */
function before(days: ReadonlyMap<number, DayRow>, day: number, holds: (row: DayRow) => boolean): number {
  let count = 0
  while (count < DEPENDENT_DAYS) {
    const row = days.get(day - 1 - count)
    if (row === undefined || row.present === 0 || !holds(row)) break
    count++
  }
  return count
}

/** The first and last register read at ends of the day's slots. */
function registerOf(fact: ChannelFacts, slotAt: (s: number) => number, slots: number): Circumstances['register'] {
  if (fact.registers.length < 2) return null
  const within = fact.registers.map((r) => ({ slot: slotAt(r.atS), kwh: r.kwh })).filter((r) => Number.isInteger(r.slot) && r.slot >= 0 && r.slot <= slots)
  const first = within.at(0)
  const last = within.at(-1)
  if (first === undefined || last === undefined || last.slot <= first.slot || last.kwh < first.kwh) return null
  return { difference: last.kwh - first.kwh, from: first.slot, to: last.slot }
}
