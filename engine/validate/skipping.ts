import { MISSING } from '../read-batch.js'
import type { Block } from '../settle.js'
import { blockKey, readBlocks, readRevisions, RevisionKind, type StoredRevision } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import type { Finding } from './day.js'
import type { JudgedDay } from './flags.js'
import { ruleIds, type RuleSet } from './rule-set.js'

/**
 * Rules that a source's settings leave out (`skipRules`), for days whose reads may come from several sources: a rule is
 * not applied to a day all of whose reads came from sources that skip it, and slots of such sources are left out of what
 * it finds on other days. Reads that the engine estimated and those edited by hand belong to no source: what the day's
 * other reads say holds for them. A day without reads is nobody's, and its gap is told.
 *
 * Who brought a read is told by the stored blocks, revisions and deliveries, so that it is a function of what is stored
 * (C2); where those were dropped for their age, the rule is applied.
 */

/** The one check before settlement that a source may leave out; its reads are then stored. */
export const NEGATIVE_ENERGY = 'negative-energy'

/** Source of a slot: none, or the engine's own; and one that cannot be told any more. */
const NOBODY = 0
const UNKNOWN = -1

/** Everything that `skipRules` may name under the rules in force. */
export function skippableRules(rules: Pick<RuleSet, 'dynamic'>): string[] {
  return [NEGATIVE_ENERGY, ...ruleIds, ...rules.dynamic.map((d) => `dynamic:${d.name}`)]
}

/** Rules by the id of the source that skips them; sources that skip none are left out. */
export type Skipped = ReadonlyMap<number, ReadonlySet<string>>

/** The days as they are judged once the sources' settings are heeded. Two to four statements, however many days. */
export async function heedSources(db: Queryable, judged: readonly JudgedDay[]): Promise<JudgedDay[]> {
  const flagged = judged.filter((j) => j.findings.length > 0)
  if (flagged.length === 0) return [...judged]
  const skipped = await loadSkipped(db, flagged[0].channelId)
  const names = new Set([...skipped.values()].flatMap((rules) => [...rules]))
  const doubtful = flagged.filter((j) => j.findings.some((f) => names.has(f.rule)))
  if (doubtful.length === 0) return [...judged]
  const sources = await sourcesOf(db, doubtful)
  return judged.map((j) => {
    const of = sources.get(blockKey(j.channelId, j.day))
    return of === undefined ? j : { ...j, findings: withoutSkipped(j.findings, of, skipped) }
  })
}

/** What is left of a day's findings. Pure. @param sources id of the source of each slot's read; 0: none, or the engine's own */
export function withoutSkipped(findings: readonly Finding[], sources: ArrayLike<number>, skipped: Skipped): Finding[] {
  const present = new Set(Array.from(sources).filter((s) => s !== NOBODY))
  const left: Finding[] = []
  for (const finding of findings) {
    const isSkippedBy = (source: number): boolean => skipped.get(source)?.has(finding.rule) === true
    if (present.size > 0 && [...present].every(isSkippedBy)) continue
    const slots = finding.slots.filter((slot) => !isSkippedBy(sources[slot]))
    if (slots.length === finding.slots.length) left.push(finding)
    else if (slots.length > 0) left.push({ ...finding, slots })
  }
  return left
}

/**
 * Number of the delivery that each slot's read came with; 0 where no read stands, -1 where it cannot be told. Pure.
 * @param log the block's revisions, oldest first
 */
export function deliveriesOf(block: Block, log: readonly StoredRevision[]): Float64Array {
  const found = new Float64Array(block.vals.length)
  for (let slot = 0; slot < found.length; slot++) if (block.vals[slot] !== MISSING) found[slot] = deliveryOf(block, slot, log)
  return found
}

interface State { value: number; exponent: number; lane: number; version: number }

function deliveryOf(block: Block, slot: number, log: readonly StoredRevision[]): number {
  const stands: State = {
    value: block.vals[slot], exponent: block.exponent, lane: block.lane?.[slot] ?? 0, version: block.versions?.[slot] ?? block.version }
  // After a withdrawal an older offer stands again: it is looked for among all that came before.
  let isRestored = false
  let after = stands
  for (let i = log.length - 1; i >= 0; i--) {
    const { kind, deliveryNo, slots: s } = log[i]
    const k = s.slots.indexOf(slot)
    if (k < 0) continue
    const recorded: State = { value: s.vals[k], exponent: s.exponent, lane: s.lanes[k], version: s.versions[k] }
    if (kind === RevisionKind.outranked) {
      if (isRestored && isSame(recorded, stands)) return deliveryNo
      continue
    }
    if (kind === RevisionKind.merged && (!isRestored || isSame(after, stands))) return deliveryNo
    isRestored ||= kind === RevisionKind.withdrawn
    after = recorded
  }
  return !isRestored || isSame(after, stands) ? block.deliveryNo : UNKNOWN
}

function isSame(a: State, b: State): boolean {
  const e = Math.min(a.exponent, b.exponent)
  return a.lane === b.lane && a.version === b.version && a.value !== MISSING && a.value * 10 ** (a.exponent - e) === b.value * 10 ** (b.exponent - e)
}

/** The source of every slot of the days, by blockKey(); days of which no block stands have none. */
async function sourcesOf(db: Queryable, days: readonly JudgedDay[]): Promise<Map<number, Int32Array>> {
  const [ids, numbers] = [days.map((d) => d.channelId), days.map((d) => d.day)]
  const client = db as Parameters<typeof readBlocks>[0]
  const blocks = await readBlocks(client, ids, numbers)
  const log = new Map<number, StoredRevision[]>()
  for (const r of await readRevisions(client, ids, numbers)) {
    const list = log.get(blockKey(r.channelId, r.day))
    if (list === undefined) log.set(blockKey(r.channelId, r.day), [r])
    else list.push(r)
  }
  const deliveries = new Map([...blocks].map(([key, block]) => [key, deliveriesOf(block, log.get(key) ?? [])]))
  const { rows } = await db.query<{ delivery_no: number; source_id: number; is_own: boolean }>(
    `select delivery_no, source_id, kind in ('estimate', 'edit') as is_own from delivery where delivery_no = any($1::int8[])`,
    [[...new Set([...deliveries.values()].flatMap((d) => [...d]))]])
  const sources = new Map(rows.map((r) => [r.delivery_no, r.is_own ? NOBODY : r.source_id]))
  return new Map([...deliveries].map(([key, of]) => [key, Int32Array.from(of, (no) => no === 0 ? NOBODY : sources.get(no) ?? UNKNOWN)]))
}

async function loadSkipped(db: Queryable, channelId: number): Promise<Skipped> {
  const { rows } = await db.query<{ source_id: number; rules: string[] }>(
    `select source_id, settings->'skipRules' as rules from source
      where utility_id = (select utility_id from channel where channel_id = $1) and settings ? 'skipRules'`, [channelId])
  return new Map(rows.map((r): [number, Set<string>] => [r.source_id, new Set(r.rules.filter((rule) => rule !== NEGATIVE_ENERGY))])
    .filter(([, rules]) => rules.size > 0))
}
