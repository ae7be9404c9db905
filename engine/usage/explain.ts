import { Flow, MISSING, qualityName, type FlowCode, flowNames } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import type { Block } from '../settle.js'
import { dayText, instantText } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import { flagBit } from '../validate/rule-set.js'
import { methodName } from './answer.js'
import { loadBlocks } from './day-rows.js'
import { scaled } from './decimal.js'
import { DAILY_S } from './grid.js'
import type { Segment } from './segments.js'

/** A delivery, as far as it explains a value. */
export interface DeliveryAnswer {
  id: string
  source: string
  kind: string
  format: string | null
  acceptedAt: string
  sha256: string | null
  /** Place of the record in the delivery; null where it is not kept. */
  place: string | null
  /** Who made it by hand, and why; null for what came from a source or from estimation. */
  edit: { by: string; reason: string } | null
}

/** What validation found about the interval or its day. */
export interface FindingAnswer {
  rule: string
  severity: string
  parameters: Record<string, unknown>
  inputs: Record<string, number>
  /** Version of the utility's rule set. */
  ruleSet: number
  state: string
  reason: string | null
}

interface ReadAnswer {
  value: number | null
  quality: string | null
  method?: string
  /** Validation flags of the read: bits, 0 for none. */
  flags: number
  /** Order of the read among reads of equal quality (microseconds since the epoch where its source stated it). */
  version: number | null
  delivery: DeliveryAnswer | null
}

export interface HistoryEntry extends ReadAnswer {
  /** superseded: stood until `at`; outranked: was offered then and lost; withdrawn: stood until its delivery was taken back. */
  outcome: 'superseded' | 'outranked' | 'withdrawn'
  at: string
}

export interface ExplainAnswer extends ReadAnswer {
  meter: string
  flow: string
  unit: 'kWh'
  interval: { start: string; end: string; seconds: number }
  /** When the value came to stand. */
  since: string | null
  /** What it replaced and what lost to it, newest first. */
  history: HistoryEntry[]
  findings: FindingAnswer[]
  /** What the engine's estimate rests on: methods, like days, the register; null for other reads. */
  estimate: (Record<string, unknown> & { ruleSet: number }) | null
}

interface RevisionRow {
  kind: number
  at_us: number
  delivery_no: number
  exponent: number
  place: number
  value: number | null
  lane: number | null
  version: number | null
}

/** A value that stood or was offered, and the number of the delivery that brought it. */
interface State {
  mantissa: number | null
  exponent: number
  lane: number
  version: number | null
  deliveryNo: number | null
  sinceUs: number
}

/**
 * Everything known about the read of one interval; null where no channel counts at the instant.
 * @param segments of the meter, cut to what the caller may see
 * @param at epoch seconds, anywhere in the interval
 */
export async function explain(
  db: Queryable, zone: Zone, segments: readonly Segment[], flow: FlowCode | null, at: number,
): Promise<ExplainAnswer | null> {
  const wanted = flow ?? (segments.some((s) => s.flow === Flow.delivered) ? Flow.delivered : segments[0]?.flow)
  for (const segment of segments.filter((s) => s.flow === wanted)) {
    // The interval may begin a day earlier than the instant; a read counts where it starts.
    const day = zone.dayOf(at)
    const blocks = await loadBlocks(db, [segment.channelId], day - 1, day + 1, null)
    for (const block of blocks) {
      const slot = slotAt(block, at, zone)
      if (slot === undefined) continue
      const startS = block.firstS + slot * block.intervalS
      if (startS < segment.fromS || startS >= segment.toS) continue
      return explainSlot(db, zone, segment, block, slot)
    }
    const startS = segment.intervalS === DAILY_S
      ? zone.dayStart(day)
      : zone.dayStart(day) + Math.floor((at - zone.dayStart(day)) / segment.intervalS) * segment.intervalS
    if (startS >= segment.fromS && startS < segment.toS) return nothingHeld(zone, segment, startS)
  }
  return null
}

function slotAt(block: Block, at: number, zone: Zone): number | undefined {
  if (block.intervalS === DAILY_S) return zone.dayOf(at) === block.day ? 0 : undefined
  const slot = Math.floor((at - block.firstS) / block.intervalS)
  return slot >= 0 && slot < block.vals.length ? slot : undefined
}

function headOf(zone: Zone, segment: Segment, startS: number): Pick<ExplainAnswer, 'meter' | 'flow' | 'unit' | 'interval'> {
  const endS = segment.intervalS === DAILY_S ? zone.dayStart(zone.dayOf(startS) + 1) : startS + segment.intervalS
  return {
    meter: segment.meter, flow: flowNames[segment.flow], unit: 'kWh',
    interval: { start: instantText(startS, zone), end: instantText(endS, zone), seconds: segment.intervalS },
  }
}

function nothingHeld(zone: Zone, segment: Segment, startS: number): ExplainAnswer {
  return {
    ...headOf(zone, segment, startS),
    value: null, quality: null, flags: 0, version: null, delivery: null, since: null, history: [], findings: [], estimate: null,
  }
}

async function explainSlot(
  db: Queryable, zone: Zone, segment: Segment, block: Block, slot: number,
): Promise<ExplainAnswer> {
  const { rows } = await db.query<RevisionRow>(
    `select kind, (extract(epoch from at) * 1000000)::int8 as at_us, delivery_no, exponent, place,
            old_vals[place] as value, old_lane[place] as lane, old_versions[place] as version
       from (select *, array_position(slots, $3::smallint) as place from revision
              where channel_id = $1 and day = $2::date and slots @> array[$3::smallint]) r
      order by r.at desc, r.seq desc`, [block.channelId, dayText(block.day), slot])
  const { current, entries } = retrace(standing(block, slot), rows, block)
  const deliveries = await loadDeliveries(db, zone,
    [current.deliveryNo, ...entries.map((e) => e.state.deliveryNo)].filter((n) => n !== null))
  const read = (s: State): ReadAnswer => readAnswer(s, deliveries)
  const findings = await loadFindings(db, block, slot)
  return {
    ...headOf(zone, segment, block.firstS + slot * block.intervalS),
    ...read(current),
    flags: findings.reduce((bits, f) => bits | flagBit(f.rule), 0), findings, estimate: await loadBasis(db, block, current.deliveryNo),
    since: current.mantissa === null ? null : stamp(current.sinceUs, zone),
    history: entries.map(({ outcome, atUs, state }) => ({ outcome, at: stamp(atUs, zone), ...read(state) })),
  }
}

/** Flags of the interval, and of its day as a whole. */
async function loadFindings(db: Queryable, block: Block, slot: number): Promise<FindingAnswer[]> {
  const { rows } = await db.query<FindingAnswer>(
    `select rule, severity, parameters, inputs, rule_set as "ruleSet", state, reason from day_flag
      where channel_id = $1 and day = $2::date and (cardinality(slots) = 0 or $3::smallint = any(slots)) order by flag_id`,
    [block.channelId, dayText(block.day), slot])
  return rows
}

async function loadBasis(db: Queryable, block: Block, deliveryNo: number | null): Promise<ExplainAnswer['estimate']> {
  const { rows } = await db.query<{ basis: Record<string, unknown>; rule_set: number }>(
    'select basis, rule_set from estimate_basis where channel_id = $1 and day = $2::date and delivery_no = $3',
    [block.channelId, dayText(block.day), deliveryNo])
  return rows.length === 0 ? null : { ...rows[0].basis, ruleSet: rows[0].rule_set }
}

function standing(block: Block, slot: number): State {
  const isMissing = block.vals[slot] === MISSING
  return {
    mantissa: isMissing ? null : block.vals[slot],
    exponent: block.exponent,
    lane: block.lane?.[slot] ?? 0,
    version: isMissing ? null : block.versions?.[slot] ?? block.version,
    deliveryNo: null,
    sinceUs: 0,
  }
}

interface Entry {
  outcome: HistoryEntry['outcome']
  atUs: number
  state: State
}

/**
 * Goes back through the revisions of a slot, newest first. A merge tells what stood before it and brought what stood
 * after it; what stands before the oldest merge came with the block itself. A withdrawal brings back an older value: its
 * delivery is that of the older state that equals it.
 */
function retrace(current: State, revisions: readonly RevisionRow[], block: Block): { current: State; entries: Entry[] } {
  const entries: Entry[] = []
  const stood: { state: State; broughtByMerge: boolean }[] = []
  let after = current
  for (const r of revisions) {
    const old: State = {
      mantissa: r.value, exponent: r.exponent, lane: r.lane ?? 0, version: r.value === null ? null : r.version,
      deliveryNo: null, sinceUs: 0,
    }
    if (r.kind === 2) {
      entries.push({ outcome: 'outranked', atUs: r.at_us, state: { ...old, deliveryNo: r.delivery_no } })
      continue
    }
    after.sinceUs = r.at_us
    stood.push({ state: after, broughtByMerge: r.kind === 1 })
    if (r.kind === 1) after.deliveryNo = r.delivery_no
    if (old.mantissa !== null) {
      entries.push({ outcome: r.kind === 1 ? 'superseded' : 'withdrawn', atUs: r.at_us, state: old })
    }
    after = old
  }
  after.sinceUs = block.settledAtUs
  if (after.mantissa !== null) after.deliveryNo = block.deliveryNo
  stood.push({ state: after, broughtByMerge: true })
  for (let i = stood.length - 1; i >= 0; i--) {
    if (stood[i].broughtByMerge) continue
    const origin = stood.slice(i + 1).find((o) => isSame(o.state, stood[i].state))
    stood[i].state.deliveryNo = origin?.state.deliveryNo ?? null
  }
  return { current, entries }
}

function isSame(a: State, b: State): boolean {
  return a.mantissa !== null && b.mantissa !== null && a.version === b.version && a.lane === b.lane &&
    scaled(a.mantissa, a.exponent) === scaled(b.mantissa, b.exponent)
}

function readAnswer(s: State, deliveries: ReadonlyMap<number, DeliveryAnswer>): ReadAnswer {
  const delivery = s.deliveryNo === null ? null : deliveries.get(s.deliveryNo) ?? null
  if (s.mantissa === null) return { value: null, quality: null, flags: 0, version: null, delivery: null }
  const method = methodName(s.lane)
  return {
    value: scaled(s.mantissa, s.exponent), quality: qualityName(s.lane), ...(method === undefined ? {} : { method }),
    flags: (s.lane >> 8) & 0b1111111, version: s.version, delivery,
  }
}

async function loadDeliveries(db: Queryable, zone: Zone, numbers: number[]): Promise<Map<number, DeliveryAnswer>> {
  const { rows } = await db.query<{
    delivery_no: number; delivery_id: string; source: string; kind: string; format: string | null; accepted_at: Date
    sha256: string | null; actor: string | null; reason: string | null
  }>(
    `select d.delivery_no, d.delivery_id, s.name as source, d.kind, d.format, d.accepted_at, encode(d.sha256, 'hex') as sha256,
            e.actor, e.reason
       from delivery d join source s using (source_id) left join delivery_reason e using (delivery_no) where d.delivery_no = any($1::int8[])`, [numbers])
  return new Map(rows.map((r) => [r.delivery_no, {
    id: r.delivery_id, source: r.source, kind: r.kind, format: r.format,
    acceptedAt: instantText(r.accepted_at.getTime() / 1000, zone), sha256: r.sha256, place: null,
    edit: r.actor === null ? null : { by: r.actor, reason: r.reason ?? '' },
  }]))
}

function stamp(us: number, zone: Zone): string {
  return instantText(us / 1_000_000, zone)
}
