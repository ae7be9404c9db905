import { createHash } from 'node:crypto'
import type { Submission } from '../submission.js'
import { Quality, ReadBatchBuilder } from '../read-batch.js'
import { sourceSettings } from '../source-settings.js'
import type { Settler } from '../settler.js'
import type { Block } from '../settle.js'
import { intArray, readBlocks } from '../store/blocks.js'
import type { Pool, Queryable } from '../store/db.js'
import { dayNumber, dayText } from '../time/text.js'
import { getZone, type Zone } from '../time/zone.js'
import { newestDueDay } from '../usage/completeness.js'
import { uuidv7 } from '../uuid.js'
import { loadFacts, type ChannelFacts } from '../validate/facts.js'
import { slotsFrom } from '../validate/day.js'
import { loadRules } from '../validate/rule-set-store.js'
import { fillGaps, type Basis, type Estimate, type EstimationRules } from './fill.js'
import { estimateVersion, seriesOf, type StoredSeries } from './series.js'

/** Source that the engine's own estimates and edits are deliveries of. */
export const ENGINE_SOURCE = 'meterline'
const CHANNELS_AT_A_TIME = 50

export interface EstimationResult {
  /** Channel-days looked at, and reads estimated anew. */
  days: number
  reads: number
  more: boolean
}

interface DueGap { day: number; touched: number }

/** What a channel's due gaps come to. */
export interface ChannelEstimates {
  fact: ChannelFacts
  series: StoredSeries
  /** Runs of slots that get another estimate than stands. */
  runs: { slot: number; mantissas: number[]; lanes: number[] }[]
  basis: Map<number, Basis>
  /** All that fills the series' gaps, whether it stands already or not. */
  estimates: readonly Estimate[]
}

/**
 * Fills some of the due gaps: works the estimates out of what stands and settles those that say something else than the
 * engine's estimate that stands, as a delivery of kind `estimate`. The same gap with the same surroundings comes to the
 * same reads, and nothing is settled twice.
 * @param nowMs epoch milliseconds: says which days are due, and is the estimates' version
 */
export async function estimateSome(pool: Pool, settler: Settler, utilityId: number, nowMs: number): Promise<EstimationResult> {
  const nothing = { days: 0, reads: 0, more: false }
  const { rows: [utility] } = await pool.query<{ zone: string | null }>('select zone from utility where utility_id = $1', [utilityId])
  const { rules: { estimation }, version: ruleSet } = await loadRules(pool, utilityId)
  if (!estimation.enabled || utility.zone === null) return nothing
  const zone = getZone(utility.zone)
  const dueDay = newestDueDay(zone, nowMs / 1000)
  const due = await dueGaps(pool, utilityId, dueDay)
  if (due.size === 0) return nothing
  const found = await estimateChannels(pool, zone, due, estimation, dueDay)
  const builder = new ReadBatchBuilder(64, 4096)
  for (const { fact, series, runs } of found) {
    for (const run of runs) {
      builder.addBlock({
        meter: fact.meter, startS: series.startS[run.slot], intervalS: fact.intervalS, flow: fact.flow, lane: run.lanes[0],
        exponent: series.exponent, version: estimateVersion(nowMs), place: 1, rawFrom: 0, rawTo: 0,
      }, run.mantissas, run.lanes)
    }
  }
  const batch = builder.finish()
  const days = [...due.values()].reduce((n, d) => n + d.size, 0)
  const more = due.size === CHANNELS_AT_A_TIME
  if (batch.count === 0) {
    await markDone(pool, due)
    return { days, reads: 0, more }
  }
  await submit(settler, utilityId, {
    ...await ownSubmission(pool, utilityId, nowMs, batch, 'estimate'),
    after: async (client, deliveryNo) => {
      await writeBasis(client, found, deliveryNo, ruleSet)
      await markDone(client, due)
    },
  })
  return { days, reads: batch.size, more }
}

/** A delivery of the engine's own. The caller's batch is settled as it is, once. */
export async function ownSubmission(
  pool: Pool, utilityId: number, nowMs: number, batch: Submission['decoded']['batch'], kind: 'estimate' | 'edit',
): Promise<Submission> {
  await pool.query('insert into source (utility_id, name) values ($1, $2) on conflict do nothing', [utilityId, ENGINE_SOURCE])
  const { rows: [source] } = await pool.query<{ source_id: number }>(
    'select source_id from source where utility_id = $1 and name = $2', [utilityId, ENGINE_SOURCE])
  const kept = { ...batch, values: batch.values.slice() }
  const decode = (): Submission['decoded'] => ({ batch: { ...kept, values: kept.values.slice() }, problems: [], rounded: 0 })
  const sha256 = createHash('sha256').update(new Uint8Array(kept.values.buffer, kept.values.byteOffset, kept.values.byteLength)).digest()
  return {
    deliveryId: uuidv7(nowMs), sourceId: source.source_id, settings: sourceSettings({ unknownMeters: 'reject' }), kind, door: 'engine', format: null,
    history: false, idempotencyKey: null, sha256, bodySha256: null, bytes: 0, version: nowMs * 1000, versionStated: true, part: 1, final: true,
    decoded: decode(), redecode: decode, raw: () => null,
  }
}

async function submit(settler: Settler, utilityId: number, submission: Submission): Promise<void> {
  const [result] = await settler.settle(utilityId, [submission])
  if (result.status === 'failed') throw result.error
}

/** Due gaps of some channels: by channel and day. */
async function dueGaps(db: Queryable, utilityId: number, dueDay: number): Promise<Map<number, Map<number, DueGap>>> {
  const { rows } = await db.query<{ channel_id: number; day: string; touched: number }>(
    `select channel_id, day, touched from vee_gap
      where channel_id in (select distinct channel_id from vee_gap where utility_id = $1 and touched > done and day <= $2::date
                            order by channel_id limit ${CHANNELS_AT_A_TIME})
        and touched > done and day <= $2::date`, [utilityId, dayText(dueDay)])
  const due = new Map<number, Map<number, DueGap>>()
  for (const r of rows) {
    const day = dayNumber(r.day)
    const days = due.get(r.channel_id) ?? new Map<number, DueGap>()
    days.set(day, { day, touched: r.touched })
    due.set(r.channel_id, days)
  }
  return due
}

/** Works out what due gaps are filled with. Reads only. */
export async function estimateChannels(
  db: Queryable, zone: Zone, due: ReadonlyMap<number, ReadonlyMap<number, unknown>>, rules: EstimationRules, dueDay: number,
): Promise<ChannelEstimates[]> {
  const out: ChannelEstimates[] = []
  const all = [...due.values()].flatMap((d) => [...d.keys()])
  const facts = await loadFacts(db, [...due.keys()], Math.min(...all) - reachOf(rules), Math.max(...all) + 2)
  for (const [channelId, days] of due) {
    const fact = facts.get(channelId)
    if (fact === undefined) continue
    const from = Math.min(...days.keys()) - reachOf(rules)
    const to = Math.max(...days.keys()) + 2
    const span = slotsFrom(from, to)
    const stored = await readBlocks(db as Parameters<typeof readBlocks>[0], span.map(() => channelId), span)
    const blocks = new Map<number, Block>([...stored.values()].filter((b) => b.present > 0).map((b) => [b.day, b]))
    const series = seriesOf(zone, blocks, from, to, fact.intervalS)
    if (series === null) continue
    const scale = 10 ** -series.exponent
    const toSlot = series.days.filter((d) => d.day <= dueDay).reduce((n, d) => n + d.slots, 0)
    const filling = fillGaps(series, {
      outages: fact.outages, registers: fact.registers.map((r) => ({ atS: r.atS, mantissa: Math.round(r.kwh * scale) })),
    }, rules, toSlot)
    out.push({ fact, series, basis: filling.basis, estimates: filling.estimates, runs: changedRuns(series, filling.estimates, days) })
  }
  return out
}

/** Days before a gap that are looked at: like days, and where the gap begins. */
function reachOf(rules: EstimationRules): number {
  return Math.max(rules.likeDayReach, rules.maxGapDays) + 1
}

function changedRuns(series: StoredSeries, estimates: readonly { slot: number; mantissa: number; method: number }[], days: ReadonlyMap<number, unknown>): ChannelEstimates['runs'] {
  const runs: ChannelEstimates['runs'] = []
  let d = 0
  let last = -2
  for (const { slot, mantissa, method } of estimates) {
    while (slot >= series.days[d].offset + series.days[d].slots) d++
    // By another method it is another estimate, though it may come to the same: what stands must not tell the way to it (C2).
    if (!days.has(series.days[d].day) || (series.own[slot] === mantissa && series.ownMethod[slot] === method)) continue
    const lane = Quality.estimated | method << 3
    // Not over a midnight: a zone's days need not be in one block's grid.
    if (slot === last + 1 && slot !== series.days[d].offset) {
      const run = runs[runs.length - 1]
      run.mantissas.push(mantissa)
      run.lanes.push(lane)
    } else runs.push({ slot, mantissas: [mantissa], lanes: [lane] })
    last = slot
  }
  return runs
}

async function writeBasis(db: Queryable, found: readonly ChannelEstimates[], deliveryNo: number, ruleSet: number): Promise<void> {
  const rows = found.flatMap(({ fact, series, runs, basis }) => series.days
    .filter((d) => runs.some((r) => r.slot >= d.offset && r.slot < d.offset + d.slots))
    .map((d) => ({ channel: fact.channelId, day: dayText(d.day), basis: basisText(basis.get(d.day), series.exponent) })))
  await db.query(
    `insert into estimate_basis (channel_id, day, delivery_no, basis, rule_set)
     select channel_id, day, $1, basis, $2 from unnest($3::int[], $4::date[], $5::jsonb[]) as b(channel_id, day, basis) on conflict do nothing`,
    [deliveryNo, ruleSet, intArray(rows.map((r) => r.channel)), rows.map((r) => r.day), rows.map((r) => r.basis)])
}

function basisText(basis: Basis | undefined, exponent: number): string {
  const { register } = basis ?? {}
  return JSON.stringify({
    methods: basis?.methods ?? [], ...(basis?.likeDays === undefined ? {} : { likeDays: basis.likeDays.map(dayText) }),
    ...(register === undefined ? {} : { register: {
      from: new Date(register.fromS * 1000).toISOString(), to: new Date(register.toS * 1000).toISOString(),
      kwh: Number((register.difference * 10 ** exponent).toFixed(9)), scale: Number(register.scale.toFixed(6)) } }),
  })
}

/** What was looked at is done, unless it was touched again meanwhile. */
async function markDone(db: Queryable, due: ReadonlyMap<number, ReadonlyMap<number, DueGap>>): Promise<void> {
  const rows = [...due].flatMap(([channel, days]) => [...days.values()].map((d) => ({ channel, ...d })))
  await db.query(
    `update vee_gap g set done = d.touched from unnest($1::int[], $2::date[], $3::int[]) as d(channel_id, day, touched)
      where g.channel_id = d.channel_id and g.day = d.day`,
    [intArray(rows.map((r) => r.channel)), rows.map((r) => dayText(r.day)), rows.map((r) => r.touched)])
}
