import type pg from 'pg'
import { ChangeWriter } from './apply-changes.js'
import { distinctAscending } from './distinct.js'
import { storeEvents } from './events.js'
import { collectGarbage } from './memory.js'
import { emptyTally, mergePieces, type Tally } from './merge-pieces.js'
import type { Piece, Plan } from './plan.js'
import { Quantity } from './quantity.js'
import type { Receipt } from './receipt.js'
import { settleRegisters, type RegisterOffer } from './registers.js'
import { isEnergy, type ChannelRef, type RegistryMap } from './registry-map.js'
import { blockKey, readBlocks } from './store/blocks.js'
import { lockChannels, makeChannels, markShared } from './store/channels.js'
import { acceptedMsOf, clean, extendDelivery, insertDeliveries, insertQuarantine, readReceipts, type DeliveryRow,
  type QuarantineRow } from './store/deliveries.js'
import { insertDeadLetters } from './store/kafka-positions.js'
import { lockMeters } from './store/registers.js'
import type { CommitWorld, DecodedBody, Submission, UtilityState } from './submission.js'
import type { Zone } from './time/zone.js'
import { enqueuePending } from './validate/pending.js'

export type MadeChannel = Awaited<ReturnType<typeof makeChannels>>[number]

/** A submission that is settled in this transaction, planned. */
export interface Entry {
  submission: Submission
  /** Index among the submissions. */
  index: number
  deliveryNo: number
  version: number
  decoded: DecodedBody
  received: number
  plan: Plan
  registers: RegisterOffer[]
}

/** Settles planned submissions on a connection whose transaction holds their keys and positions; returns their receipts. */
export async function settleEntries(
  client: pg.PoolClient, world: CommitWorld, utilityId: number, map: RegistryMap, utility: UtilityState, entries: Entry[],
): Promise<{ receipts: Receipt[]; made: MadeChannel[] }> {
  const pieces = entries.flatMap((e) => e.plan.pieces)
  const days = new Set<number>()
  for (const p of pieces) days.add(p.day)
  await world.storage.ensureForDays(days)
  // Made ahead by months; a clock that was set forward is further.
  await world.storage.ensureForInstants([...entries.map((e) => acceptedMsOf(e.submission.deliveryId)), world.now()])

  const registers = entries.flatMap((e) => e.registers)
  if (registers.length > 0) {
    // With the meters of channels yet to be made, which are locked too: all at once, in one order.
    const makers = pieces.filter((p) => p.channel.channelId < 0).map((p) => p.channel.meter.meterId)
    await lockMeters(client, [...registers.map((o) => o.meter.meterId), ...makers])
  }
  const { shared, made } = await resolveChannels(client, utilityId, pieces)
  pieces.sort((a, b) => a.channel.channelId - b.channel.channelId || a.day - b.day || a.delivery - b.delivery)
  const atUs = world.now() * 1000
  const last = entries[entries.length - 1]
  const tallies = entries.map(emptyTally)
  await settleRegisters(client, registers, entries.map((e) => e.deliveryNo), tallies, atUs)
  if (utility.validates) await enqueuePending(client, utilityId, registerDays(registers, utility.zone))
  for (const [k, e] of entries.entries()) await settleEvents(client, utilityId, e, tallies[k], atUs)
  const writer = new ChangeWriter(client, {
    utilityId, zone: utility.zone, map, secrets: world.secrets, now: world.now, shared, atUs,
    deliveryId: last.submission.deliveryId, deliveryNo: last.deliveryNo,
    history: entries.every((e) => e.submission.history),
    setHoldsReads: !utility.holdsReads, validates: utility.validates,
    record: async (alerts) => writeDeliveries(client, utilityId, entries, tallies, alerts),
  })
  const deliveries = entries.map((e) => ({ batch: e.decoded.batch, deliveryNo: e.deliveryNo, version: e.version }))
  const large = isLarge(entries)
  let slices = 0
  for (const slice of slicesOf(pieces, large ? LARGE_SLICE : SLICE)) {
    if (++slices % COLLECT_SLICES === 0 && large) collectGarbage()
    const { changes, revisions } = mergePieces({ pieces: slice, stored: await readStored(client, slice), atUs, deliveries }, tallies)
    await writer.write(changes, revisions)
  }
  await writer.finish()
  for (const e of entries) await e.submission.after?.(client, e.deliveryNo)
  const receipts = await readReceipts(client, entries.map((e) => e.submission.deliveryId), utility.zone.name)
  return { receipts, made }
}

/** Days of channels that register reads are held against: those that they end or begin. */
function registerDays(registers: readonly RegisterOffer[], zone: Zone): { channelId: number; day: number }[] {
  return registers.flatMap(({ meter, flow, quantity, atS }) => meter.channels
    .filter((c) => isEnergy(c) && quantity === Quantity.energy && c.flow === flow)
    .flatMap(({ channelId }) => [{ channelId, day: zone.dayOf(atS) }, { channelId, day: zone.dayOf(atS - 1) }]))
}

async function settleEvents(client: pg.PoolClient, utilityId: number, e: Entry, tally: Tally, atUs: number): Promise<void> {
  const { events = [] } = e.decoded
  if (events.length === 0) return
  const { rows: [{ name }] } = await client.query<{ name: string }>('select name from source where source_id = $1', [e.submission.sourceId])
  const origin = { utilityId, source: name, deliveryId: e.submission.deliveryId, now: new Date(atUs / 1000) }
  const { stored, duplicate } = await storeEvents(client, origin, events)
  tally.stored += stored
  tally.duplicate += duplicate
}

/** Channel-days settled in one go: each slice costs its round trips, and with 2,048 day blocks settle at two thirds of the rate. */
const SLICE = 8192
/** The same of a large body, whose bytes stand in memory beside them. */
const LARGE_SLICE = 2048
/** On the way of a large body the thread's garbage is collected once for as many slices. */
const COLLECT_SLICES = 4
const LARGE_BYTES = 16 * 1024 * 1024

function isLarge(entries: readonly Entry[]): boolean {
  return entries.reduce((sum, e) => sum + e.submission.bytes, 0) > LARGE_BYTES
}

/** Cuts sorted pieces into as many channel-days. */
function* slicesOf(pieces: readonly Piece[], days: number): Generator<readonly Piece[]> {
  let from = 0
  let n = 0
  for (let i = 1; i <= pieces.length; i++) {
    if (i < pieces.length && pieces[i].day === pieces[i - 1].day && pieces[i].channel.channelId === pieces[i - 1].channel.channelId) continue
    if (++n < days && i < pieces.length) continue
    yield from === 0 && i === pieces.length ? pieces : pieces.slice(from, i)
    from = i
    n = 0
  }
}

/** Makes missing channels and locks all channels touched, with their siblings, in id order. */
async function resolveChannels(
  client: pg.PoolClient, utilityId: number, pieces: readonly Piece[],
): Promise<{ shared: Set<number>; made: MadeChannel[] }> {
  const missing = new Set<ChannelRef>()
  for (const p of pieces) if (p.channel.channelId < 0) missing.add(p.channel)
  const ids: number[] = []
  const made = missing.size === 0 ? [] : await makeChannels(client, utilityId, [...missing])
  for (const c of made) ids.push(c.channelId)
  for (const p of pieces) {
    ids.push(p.channel.channelId)
    const { channels } = p.channel.meter
    if (channels.length > 1) for (const c of channels) if (c.channelId > 0) ids.push(c.channelId)
  }
  const shared = ids.length === 0 ? new Set<number>() : await lockChannels(client, distinctAscending(ids))
  if (missing.size > 0) {
    const meterIds = [...new Set([...missing].map((c) => c.meter.meterId))]
    for (const id of await markShared(client, meterIds)) shared.add(id)
  }
  return { shared, made }
}

async function readStored(client: pg.PoolClient, pieces: readonly Piece[]): ReturnType<typeof readBlocks> {
  const channelIds: number[] = []
  const days: number[] = []
  let lastKey = NaN
  for (const p of pieces) {
    const key = blockKey(p.channel.channelId, p.day)
    if (key === lastKey) continue
    lastKey = key
    channelIds.push(p.channel.channelId)
    days.push(p.day)
  }
  return readBlocks(client, channelIds, days)
}

async function writeDeliveries(
  client: pg.PoolClient, utilityId: number, entries: readonly Entry[], tallies: readonly Tally[],
  alerts: { raised: number; retracted: number },
): Promise<void> {
  const quarantine: QuarantineRow[] = []
  const rows = entries.map((e, k) => {
    const s = e.submission
    const tally = tallies[k]
    const late = tally.problems
    // These values have been multiplied: a replay, which would multiply them again, must not find a record.
    if (!s.settings.multiplierApplied) for (const p of late) delete p.record
    const problems = [...e.decoded.problems, ...e.plan.problems, ...late]
    if (s.kafka !== undefined) for (const p of problems) p.at = s.kafka.place(p.at)
    let quarantined = 0
    let rejected = 0
    for (const p of problems) {
      if (p.outcome === 'rejected') rejected += p.reads
      else {
        quarantined += p.reads
        quarantine.push({
          sourceId: s.sourceId, deliveryNo: e.deliveryNo, version: p.version ?? e.version, history: s.history, format: s.format, problem: p,
          raw: p.rawFrom !== undefined && p.rawTo !== undefined ? s.raw(p.rawFrom, p.rawTo) : null,
        })
      }
    }
    const own = k === entries.length - 1
    const row: DeliveryRow = {
      delivery_id: s.deliveryId, accepted_at: new Date(acceptedMsOf(s.deliveryId)).toISOString(), delivery_no: e.deliveryNo,
      utility_id: utilityId, source_id: s.sourceId, kind: s.kind, door: s.door, format: s.format, history: s.history,
      idempotency_key: s.idempotencyKey, sha256: s.bodySha256, bytes: s.bytes, version: e.version, complete: s.final, parts: s.part,
      received: e.received, stored: tally.stored, duplicate: tally.duplicate, corrected: tally.corrected,
      outranked: tally.outranked, quarantined, rejected, snapped: e.plan.snapped, rounded: e.decoded.rounded,
      first_s: Number.isFinite(e.plan.fromS) ? e.plan.fromS : null, last_s: Number.isFinite(e.plan.toS) ? e.plan.toS : null,
      alerts_raised: own ? alerts.raised : 0, alerts_retracted: own ? alerts.retracted : 0,
      problems: problems.slice(0, 100).map((p) => ({
        code: p.code, at: clean(p.at), message: clean(p.message), ...(p.help === undefined ? {} : { help: p.help }) })),
      problem_count: problems.length, withdraws: null,
      ...(s.kafka === undefined ? {} : {
        kafka_topic: s.kafka.move.topic, kafka_partition: s.kafka.move.partition, first_offset: s.kafka.firstOffset, next_offset: s.kafka.move.next }),
    }
    return row
  })
  await insertQuarantine(client, utilityId, quarantine)
  await insertDeadLetters(client, entries.flatMap((e) => e.submission.kafka?.deadLetters ?? []))
  const first = rows.filter((r) => r.parts === 1)
  if (first.length > 0) await insertDeliveries(client, first)
  for (const r of rows) if (r.parts > 1) await extendDelivery(client, r)
}
