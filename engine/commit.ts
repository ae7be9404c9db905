import type pg from 'pg'
import { ChangeWriter } from './apply-changes.js'
import { distinctAscending } from './distinct.js'
import { storeEvents, type MeterEvent } from './events.js'
import { collectGarbage } from './memory.js'
import { emptyTally, mergePieces, type Tally } from './merge-pieces.js'
import { planBatch, type Piece, type Plan } from './plan.js'
import { ApiError, type RecordProblem } from './problem.js'
import { MISSING, type ReadBatch } from './read-batch.js'
import type { Receipt } from './receipt.js'
import { NO_REGISTERS, type RegisterBatch } from './register-batch.js'
import { planRegisters, settleRegisters, type RegisterOffer } from './registers.js'
import { isEnergy, RegistryMap, type ChannelRef } from './registry-map.js'
import { Quantity } from './quantity.js'
import type { SourceSettings } from './source-settings.js'
import { blockKey, readBlocks } from './store/blocks.js'
import { lockChannels, makeChannels, markShared } from './store/channels.js'
import { REGISTRY_LOCK } from './store/db.js'
import { claimId, claimKeys, claimVersions, clean, extendDelivery, insertDeliveries, insertQuarantine, openDeliveries, readReceipt,
  readReceipts, retakeKey, acceptedMsOf, type DeliveryRow, type QuarantineRow } from './store/deliveries.js'
import { insertDeadLetters, movePositions, partitionId, type DeadLetter, type PositionMove } from './store/kafka-positions.js'
import { lockMeters } from './store/registers.js'
import type { Storage } from './store/storage.js'
import type { NotifySecrets } from './contacts/seal.js'
import { getZone, type Zone } from './time/zone.js'
import { enqueuePending } from './validate/pending.js'
import { parseDay } from './time/text.js'

/** What a decoder made of a body, or of a part of one. */
export interface DecodedBody {
  batch: ReadBatch
  /** Reads that are no intervals; none where not given. */
  registers?: RegisterBatch
  events?: readonly MeterEvent[]
  problems: RecordProblem[]
  /** Values rounded by the source's `round` setting. */
  rounded: number
}

/** One delivery, or one part of a large one, ready to be settled. */
export interface Submission {
  /** UUIDv7 minted before the transaction: after a connection lost in COMMIT it tells whether the commit stands. */
  deliveryId: string
  sourceId: number
  settings: SourceSettings
  kind: 'push' | 'replay' | 'estimate' | 'edit'
  door: string
  format: string | null
  history: boolean
  idempotencyKey: string | null
  /** SHA-256 of these bytes: the part's, or the whole body's where it is one part. */
  sha256: Buffer
  /** SHA-256 of the whole body, hex, once it is known. */
  bodySha256: string | null
  bytes: number
  /** Version of reads whose source stated none: microseconds at which the delivery was accepted. */
  version: number
  /** True: the source stated the version, and an identical body does not keep an older one. */
  versionStated: boolean
  /** Part number from 1, and whether it is the last. */
  part: number
  final: boolean
  decoded: DecodedBody
  /** Decodes the bytes again, for a second plan: planning consumes the batch. */
  redecode: () => DecodedBody
  /** The bytes of a record, for quarantine. */
  raw: (from: number, to: number) => Buffer | null
  /** Run in the transaction after the delivery was written: a replay closes the records it took. */
  after?: (client: pg.PoolClient, deliveryNo: number) => Promise<void>
  /** Messages of a Kafka partition: its position moves in this transaction, or nothing of them settles. */
  kafka?: KafkaBatch
}

/** Where the messages of a submission stood, and what of them goes to the dead topic. */
export interface KafkaBatch {
  move: PositionMove
  /** First offset of the batch that this is a part of. */
  firstOffset: number
  deadLetters: DeadLetter[]
  /** The place of a problem, given by the number of its record, in terms of offsets. */
  place: (at: string) => string
}

export type SettleOutcome =
  /** Settled by this commit. */
  | { status: 'settled'; receipt: Receipt }
  /** The idempotency key was known with this body: the first receipt. */
  | { status: 'repeated'; receipt: Receipt }
  /** The idempotency key was known with another body. */
  | { status: 'key-reused' }
  /** The Kafka partition stands elsewhere or has another owner: nothing of it was settled. */
  | { status: 'fenced' }

/** What a transaction needs of its process. */
export interface CommitWorld {
  storage: Storage
  maps: Map<number, RegistryMap>
  secrets: NotifySecrets
  toleranceS: number
  now: () => number
}

/** Thrown to plan a group again once meters that the source may register exist. */
export class RegisterMeters extends Error {
  readonly names: string[]
  constructor(names: string[]) {
    super('meters to register')
    this.names = names
  }
}

export interface UtilityState {
  epoch: number
  zone: Zone
  horizonDay: number
  holdsReads: boolean
  validates: boolean
}

/** Begins the transaction: the registry lock (shared), the utility's state, and one delivery number per submission. */
export async function beginSettling(
  client: pg.PoolClient, storage: Storage, utilityId: number, numbers: number,
): Promise<{ utility: UtilityState; numbers: number[] }> {
  // One round trip: the integers are ours, nothing of a caller's goes into the text.
  const results = await client.query(
    `begin; select pg_advisory_xact_lock_shared(${REGISTRY_LOCK}, ${utilityId});
     select registry_epoch, zone, horizon, holds_reads, validates from utility where utility_id = ${utilityId};
     select nextval('delivery_no_seq') as no from generate_series(1, ${numbers}); ${storage.settlingSettings}`) as unknown as pg.QueryResult[]
  const row = results[2].rows[0] as { registry_epoch: number; zone: string | null; horizon: string | null; holds_reads: boolean; validates: boolean } | undefined
  if (row === undefined) throw new ApiError(404, 'unknown-utility', 'The utility does not exist.')
  if (row.zone === null) {
    throw new ApiError(409, 'utility-zone-unset', 'The utility has no time zone yet, and local days cannot be cut without one.',
      { help: 'Set UTILITY_ZONE for the default utility, or PUT /v1/utilities/{id} {"zone":"America/Chicago"}.' })
  }
  return {
    utility: {
      epoch: row.registry_epoch, zone: getZone(row.zone), holdsReads: row.holds_reads, validates: row.validates,
      horizonDay: row.horizon === null ? -Infinity : parseDay(row.horizon) ?? -Infinity,
    },
    numbers: (results[3].rows as { no: number }[]).map((r) => r.no),
  }
}

/**
 * Settles a group of submissions of one utility in one transaction on the given connection, and commits. Throws what the
 * database throws; nothing is settled then, unless the connection was lost in the COMMIT itself.
 */
export async function commitGroup(
  client: pg.PoolClient, world: CommitWorld, utilityId: number, submissions: readonly Submission[],
): Promise<SettleOutcome[]> {
  const { utility, numbers } = await beginSettling(client, world.storage, utilityId, submissions.length)
  const map = world.maps.get(utilityId) ?? new RegistryMap(utilityId)
  world.maps.set(utilityId, map)
  await map.refresh(client, utility.epoch)

  const outcomes = new Array<SettleOutcome | undefined>(submissions.length)
  const repeats = await claim(client, utilityId, utility.zone, submissions, outcomes)
  await fence(client, submissions, outcomes)
  const open = await openDeliveries(client, submissions.filter((s) => s.part > 1).map((s) => s.deliveryId))
  const live = submissions.map((s, i) => ({ s, i, no: open.get(s.deliveryId) ?? numbers[i] }))
    .filter(({ i }) => outcomes[i] === undefined && !repeats.has(i))
  let made: MadeChannel[] = []
  if (live.length > 0) {
    const versions = await versionsOf(client, live.map(({ s }) => s))
    const entries = live.map(({ s, i, no }, delivery) => planEntry(s, i, no, versions[delivery], delivery, map, utility, world))
    const names = new Set(entries.flatMap((e) => e.submission.settings.unknownMeters === 'register' ? [...e.plan.unknown] : []))
    if (names.size > 0) throw new RegisterMeters([...names])
    const settled = await settleEntries(client, world, utilityId, map, utility, entries)
    entries.forEach((e, k) => { outcomes[e.index] = { status: 'settled', receipt: settled.receipts[k] } })
    made = settled.made
  }
  await client.query('commit')
  // Only now: channels of a transaction that was rolled back do not exist.
  for (const c of made) map.addChannel(c.meterId, c.channelId, c.flow, c.intervalS, c.quantity)
  for (const [i, first] of repeats) {
    const outcome = outcomes[first]
    outcomes[i] = outcome?.status === 'settled' ? { status: 'repeated', receipt: outcome.receipt } : outcome
  }
  return outcomes as SettleOutcome[]
}

type MadeChannel = Awaited<ReturnType<typeof makeChannels>>[number]

interface Entry {
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

/**
 * Claims the idempotency keys and enters the outcome of those that are known. Returns the submissions that repeat
 * another of the same group, with its index: they have its outcome.
 */
async function claim(
  client: pg.PoolClient, utilityId: number, zone: Zone, submissions: readonly Submission[], outcomes: (SettleOutcome | undefined)[],
): Promise<Map<number, number>> {
  const repeats = new Map<number, number>()
  const firsts = new Map<string, number>()
  const keyed: { s: Submission; i: number }[] = []
  submissions.forEach((s, i) => {
    if (s.idempotencyKey === null || s.part !== 1) return
    const id = claimId(s.sourceId, s.idempotencyKey)
    const first = firsts.get(id)
    if (first === undefined) {
      firsts.set(id, i)
      keyed.push({ s, i })
    } else if (submissions[first].sha256.equals(s.sha256)) repeats.set(i, first)
    else outcomes[i] = { status: 'key-reused' }
  })
  if (keyed.length === 0) return repeats
  const claims = await claimKeys(client, utilityId, keyed.map(({ s }) => ({
    sourceId: s.sourceId, key: s.idempotencyKey!, sha256: s.sha256, deliveryId: s.deliveryId })))
  for (const { s, i } of keyed) {
    const standing = claims.get(claimId(s.sourceId, s.idempotencyKey!))
    if (standing === null || standing === undefined) continue
    if (!standing.sha256.equals(s.sha256)) {
      outcomes[i] = { status: 'key-reused' }
      continue
    }
    const found = await readReceipt(client, standing.deliveryId, zone.name)
    if (found?.complete === true) outcomes[i] = { status: 'repeated', receipt: found.receipt }
    else await retakeKey(client, utilityId, s.sourceId, s.idempotencyKey!, s.deliveryId)
  }
  return repeats
}

/** Moves the Kafka positions; submissions of a partition that stands elsewhere are dropped from the commit, the rest settles. */
async function fence(client: pg.PoolClient, submissions: readonly Submission[], outcomes: (SettleOutcome | undefined)[]): Promise<void> {
  const moves = new Map<string, PositionMove>()
  for (const { kafka } of submissions) if (kafka !== undefined) moves.set(partitionId(kafka.move), kafka.move)
  if (moves.size === 0) return
  const moved = await movePositions(client, [...moves.values()])
  submissions.forEach(({ kafka }, i) => {
    if (kafka !== undefined && !moved.has(partitionId(kafka.move))) outcomes[i] = { status: 'fenced' }
  })
}

async function versionsOf(client: pg.PoolClient, submissions: readonly Submission[]): Promise<number[]> {
  const pushes = submissions.filter((s) => s.kind === 'push' && !s.versionStated)
  if (pushes.length === 0) return submissions.map((s) => s.version)
  const versions = await claimVersions(client, pushes.map((s) => ({ sourceId: s.sourceId, sha256: s.sha256, version: s.version })))
  return submissions.map((s) => {
    const i = pushes.indexOf(s)
    return i < 0 ? s.version : versions[i]
  })
}

/** Batches that a failed attempt has already planned, and so altered: they are decoded again. */
const planned = new WeakSet<ReadBatch>()

function planEntry(
  submission: Submission, index: number, deliveryNo: number, version: number, delivery: number, map: RegistryMap,
  utility: UtilityState, world: CommitWorld,
): Entry {
  const decoded = planned.has(submission.decoded.batch) ? submission.redecode() : submission.decoded
  planned.add(decoded.batch)
  const { registers = NO_REGISTERS, events = [] } = decoded
  const received = countReads(decoded.batch) + registers.count + events.length + decoded.problems.reduce((sum, p) => sum + p.reads, 0)
  const context = {
    map, zone: utility.zone, nowS: world.now() / 1000, horizonDay: utility.horizonDay, toleranceS: world.toleranceS,
    unknownMeters: submission.settings.unknownMeters, multiplierApplied: submission.settings.multiplierApplied, skipRules: submission.settings.skipRules, delivery,
  }
  const plan = planBatch(decoded.batch, context)
  const others = planRegisters(registers, context, version)
  for (const name of others.unknown) plan.unknown.add(name)
  plan.problems.push(...others.problems)
  plan.fromS = Math.min(plan.fromS, others.fromS)
  plan.toS = Math.max(plan.toS, others.toS)
  return { submission, index, deliveryNo, version, decoded, received, plan, registers: others.offers }
}

function countReads(batch: ReadBatch): number {
  let n = 0
  for (let i = 0; i < batch.size; i++) if (batch.values[i] !== MISSING) n++
  return n
}

async function settleEntries(
  client: pg.PoolClient, world: CommitWorld, utilityId: number, map: RegistryMap, utility: UtilityState, entries: Entry[],
): Promise<{ receipts: Receipt[]; made: MadeChannel[] }> {
  const pieces = entries.flatMap((e) => e.plan.pieces)
  const days = new Set<number>()
  for (const p of pieces) days.add(p.day)
  await world.storage.ensureForDays(days)
  // Made ahead by months; a clock that was set forward is further.
  await world.storage.ensureForInstants([...entries.map((e) => acceptedMsOf(e.submission.deliveryId)), world.now()])

  const accounts = watchedAccounts(map, pieces)
  if (accounts.length > 0) {
    await client.query('select 1 from account where account_id = any($1::int[]) order by account_id for no key update', [accounts])
  }
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
  let slices = 0
  for (const slice of slicesOf(pieces)) {
    if (++slices % COLLECT_SLICES === 0) collectGarbage()
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

/** Pieces whose blocks stand in memory at a time. */
const SLICE = 4096
/** A body of that many slices is large: on its way the thread's garbage is collected once for as many. */
const COLLECT_SLICES = 8

/** Cuts sorted pieces where another channel's day begins. */
function* slicesOf(pieces: readonly Piece[]): Generator<readonly Piece[]> {
  for (let from = 0; from < pieces.length;) {
    let to = Math.min(from + SLICE, pieces.length)
    while (to < pieces.length && pieces[to].day === pieces[to - 1].day &&
      pieces[to].channel.channelId === pieces[to - 1].channel.channelId) to++
    yield from === 0 && to === pieces.length ? pieces : pieces.slice(from, to)
    from = to
  }
}

/** Accounts with thresholds that the pieces touch, ascending: the order in which everybody locks them. */
function watchedAccounts(map: RegistryMap, pieces: readonly Piece[]): number[] {
  if (!map.hasWatched) return []
  const accounts = new Set<number>()
  for (const p of pieces) {
    for (const a of p.channel.meter.assignments) if (map.isWatched(a.accountId)) accounts.add(a.accountId)
  }
  return [...accounts].sort((a, b) => a - b)
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
