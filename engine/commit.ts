import type pg from 'pg'
import { planBatch } from './plan.js'
import { ApiError } from './problem.js'
import { MISSING, type ReadBatch } from './read-batch.js'
import { NO_REGISTERS } from './register-batch.js'
import { planRegisters } from './registers.js'
import { RegistryMap } from './registry-map.js'
import { settleEntries, type Entry, type MadeChannel } from './settle-entries.js'
import { REGISTRY_LOCK } from './store/db.js'
import { claimId, claimKeys, claimVersions, openDeliveries, readReceipt, retakeKey } from './store/deliveries.js'
import { movePositions, partitionId, type PositionMove } from './store/kafka-positions.js'
import type { Storage } from './store/storage.js'
import { RegisterMeters, type CommitWorld, type SettleOutcome, type Submission, type UtilityState } from './submission.js'
import { parseDay } from './time/text.js'
import { getZone, type Zone } from './time/zone.js'

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

