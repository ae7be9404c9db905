import type pg from 'pg'
import { setTimeout as sleep } from 'node:timers/promises'
import { ChangeWriter } from './apply-changes.js'
import { beginSettling } from './commit.js'
import type { CommitWorld } from './submission.js'
import type { BlockChange } from './merge-pieces.js'
import { ApiError } from './problem.js'
import type { QuantityCode } from './quantity.js'
import { MISSING, rankOf, type FlowCode } from './read-batch.js'
import type { Receipt } from './receipt.js'
import { RegistryMap, type ChannelRef } from './registry-map.js'
import { cloneBlock, restoreSlots, type Block, type SlotRecord } from './settle.js'
import { blockKey, blocksOfDelivery, intArray, readBlocks, readRevisions, RevisionKind, type Revision, type StoredRevision }
  from './store/blocks.js'
import { lockChannels } from './store/channels.js'
import { withdrawRegisters } from './store/registers.js'
import { isRetryable, onConnection, type Pool } from './store/db.js'
import { acceptedMsOf, insertDeliveries, readReceipt } from './store/deliveries.js'
import type { Zone } from './time/zone.js'

/**
 * Takes a wrong delivery back: in every slot it won, the greatest of what other deliveries offered stands again, or
 * nothing does. The revisions say what was offered; the withdrawal itself is a revision, so that `asOf` still tells what
 * was believed before. A read that another delivery repeated with no later version goes too: it was the same statement.
 */
export interface Withdrawal {
  utilityId: number
  deliveryId: string
  /** Id of the delivery row that records the withdrawal. */
  withdrawalId: string
}

const CHUNK = 10_000
const MAX_ATTEMPTS = 6

interface DeliveryToWithdraw {
  delivery_no: number
  source_id: number
  kind: string
  settled_at: Date
  accepted_at: Date
  first_at: Date | null
  last_end: Date | null
  withdrawn_at: Date | null
}

/** @throws ApiError 404 `unknown-delivery`, 409 `already-withdrawn` or `not-withdrawable` */
export async function withdrawDelivery(pool: Pool, world: CommitWorld, what: Withdrawal): Promise<Receipt> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await withdrawOnce(pool, world, what)
    } catch (err) {
      if (!isRetryable(err) || attempt === MAX_ATTEMPTS) throw err
      await sleep(5 * 2 ** attempt * (0.5 + Math.random()))
    }
  }
}

async function withdrawOnce(pool: Pool, world: CommitWorld, what: Withdrawal): Promise<Receipt> {
  return onConnection(pool, async (client) => {
    const { utility, numbers: [no] } = await beginSettling(client, world.storage, what.utilityId, 1)
    const map = world.maps.get(what.utilityId) ?? new RegistryMap(what.utilityId)
    world.maps.set(what.utilityId, map)
    await map.refresh(client, utility.epoch)
    await world.storage.ensureForInstants([acceptedMsOf(what.withdrawalId), world.now()])
    const delivery = await lockDelivery(client, what)
    const atUs = world.now() * 1000
    const blocks = await blocksReached(client, utility.zone, delivery)
    const refs = await channelRefs(client, map, blocks.map((b) => b.channelId))
    const shared = await lockChannels(client, [...refs.keys()].sort((a, b) => a - b))
    let slots = 0
    const writer = new ChangeWriter(client, {
      utilityId: what.utilityId, zone: utility.zone, map, secrets: world.secrets, now: world.now, shared, atUs,
      deliveryId: what.withdrawalId, deliveryNo: no, history: false, setHoldsReads: false, validates: utility.validates,
      record: (alerts) => insertWithdrawal(client, what, delivery, { no, atUs, slots, alerts }),
    })
    for (let from = 0; from < blocks.length; from += CHUNK) {
      const { changes, revisions } = await takeBack(client, blocks.slice(from, from + CHUNK), refs, delivery.delivery_no, no, atUs)
      slots += revisions.reduce((n, r) => n + r.slots.slots.length, 0)
      await writer.write(changes, revisions)
    }
    slots += await withdrawRegisters(client, delivery.delivery_no, atUs)
    await writer.finish()
    const written = await readReceipt(client, what.withdrawalId, utility.zone.name)
    await client.query('commit')
    return written!.receipt
  })
}

/** Channel-days that the delivery may have changed. */
async function blocksReached(
  client: pg.PoolClient, zone: Zone, delivery: DeliveryToWithdraw,
): Promise<{ channelId: number; day: number }[]> {
  if (delivery.first_at === null || delivery.last_end === null) return []
  // The clocks of the door and of the database may differ.
  const settled = [delivery.accepted_at.getTime(), delivery.settled_at.getTime()]
  return blocksOfDelivery(client, delivery.delivery_no,
    zone.dayOf(delivery.first_at.getTime() / 1000) - 1, zone.dayOf(delivery.last_end.getTime() / 1000) + 1,
    new Date(Math.min(...settled) - 3_600_000), new Date(Math.max(...settled) + 3_600_000))
}

async function insertWithdrawal(
  client: pg.PoolClient, what: Withdrawal, delivery: DeliveryToWithdraw,
  { no, atUs, slots, alerts }: { no: number; atUs: number; slots: number; alerts: { raised: number; retracted: number } },
): Promise<void> {
  await client.query('update delivery set withdrawn_at = clock_timestamp() where delivery_id = $1 and accepted_at = $2',
    [what.deliveryId, new Date(acceptedMsOf(what.deliveryId))])
  await insertDeliveries(client, [{
    delivery_id: what.withdrawalId, accepted_at: new Date(acceptedMsOf(what.withdrawalId)).toISOString(), delivery_no: no,
    utility_id: what.utilityId, source_id: delivery.source_id, kind: 'withdrawal', door: 'operator', format: null, history: false,
    idempotency_key: null, sha256: null, bytes: 0, version: atUs, complete: true, parts: 1, received: slots, stored: 0,
    duplicate: 0, corrected: slots, outranked: 0, quarantined: 0, rejected: 0, snapped: 0, rounded: 0,
    first_s: delivery.first_at === null ? null : delivery.first_at.getTime() / 1000,
    last_s: delivery.last_end === null ? null : delivery.last_end.getTime() / 1000,
    alerts_raised: alerts.raised, alerts_retracted: alerts.retracted, problems: [], problem_count: 0,
    withdraws: delivery.delivery_no,
  }])
}

async function lockDelivery(client: pg.PoolClient, what: Withdrawal): Promise<DeliveryToWithdraw> {
  const { rows } = await client.query<DeliveryToWithdraw>(
    `select delivery_no, source_id, kind, settled_at, accepted_at, first_at, last_end, withdrawn_at from delivery
      where delivery_id = $1 and accepted_at = $2 and utility_id = $3 for update`,
    [what.deliveryId, new Date(acceptedMsOf(what.deliveryId)), what.utilityId])
  const delivery = rows[0]
  if (delivery === undefined) throw new ApiError(404, 'unknown-delivery', 'There is no such delivery.')
  if (delivery.withdrawn_at !== null) throw new ApiError(409, 'already-withdrawn', 'This delivery was withdrawn before.')
  if (delivery.kind === 'withdrawal') {
    throw new ApiError(409, 'not-withdrawable', 'A withdrawal cannot be withdrawn.', { help: 'Push the reads again.' })
  }
  return delivery
}

async function channelRefs(client: pg.PoolClient, map: RegistryMap, ids: readonly number[]): Promise<Map<number, ChannelRef>> {
  const { rows } = await client.query<{ channel_id: number; meter_id: number; quantity: QuantityCode; flow: FlowCode; interval_s: number }>(
    `select channel_id, meter_id, quantity, flow, interval_s from channel where (meter_id, quantity, flow) in (
       select meter_id, quantity, flow from channel where channel_id = any($1::int[]))`, [intArray([...new Set(ids)])])
  return new Map(rows.map((r) => [r.channel_id, map.addChannel(r.meter_id, r.channel_id, r.flow, r.interval_s, r.quantity)]))
}

async function takeBack(
  client: pg.PoolClient, where: readonly { channelId: number; day: number }[], refs: ReadonlyMap<number, ChannelRef>,
  withdrawn: number, by: number, atUs: number,
): Promise<{ changes: BlockChange[]; revisions: Revision[] }> {
  const ids = where.map((w) => w.channelId)
  const days = where.map((w) => w.day)
  const blocks = await readBlocks(client, ids, days)
  const log = new Map<number, StoredRevision[]>()
  for (const r of await readRevisions(client, ids, days)) {
    const key = blockKey(r.channelId, r.day)
    const list = log.get(key)
    if (list === undefined) log.set(key, [r])
    else list.push(r)
  }
  const gone = await withdrawnAmong(client, [...blocks.values()].map((b) => b.deliveryNo), [...log.values()].flat())
  gone.add(withdrawn)
  const changes: BlockChange[] = []
  const revisions: Revision[] = []
  for (const w of where) {
    const block = blocks.get(blockKey(w.channelId, w.day))
    if (block === undefined) continue
    const without = standingWithout(block, log.get(blockKey(w.channelId, w.day)) ?? [], gone)
    if (without === null) continue
    const after = cloneBlock(block)
    restoreSlots(after, without.now)
    after.restatedAtUs = atUs
    changes.push({ channel: refs.get(w.channelId)!, before: block, after })
    revisions.push({ channelId: w.channelId, day: w.day, kind: RevisionKind.withdrawn, deliveryNo: by, slots: without.was })
  }
  return { changes, revisions }
}

async function withdrawnAmong(client: pg.PoolClient, creators: number[], log: readonly StoredRevision[]): Promise<Set<number>> {
  const numbers = [...new Set([...creators, ...log.map((r) => r.deliveryNo)])]
  const { rows } = await client.query<{ delivery_no: number }>(
    'select delivery_no from delivery where delivery_no = any($1::bigint[]) and withdrawn_at is not null', [numbers])
  return new Set(rows.map((r) => r.delivery_no))
}

interface Candidate { value: number; exponent: number; lane: number; version: number }

/** What stands in the block's slots when the deliveries in `gone` never came; null when that changes nothing. Pure. */
export function standingWithout(
  block: Block, log: readonly StoredRevision[], gone: ReadonlySet<number>,
): { was: SlotRecord; now: SlotRecord } | null {
  const was: SlotRecord = { slots: [], exponent: block.exponent, vals: [], lanes: [], versions: [] }
  const found: { slot: number; best: Candidate | null }[] = []
  for (let slot = 0; slot < block.vals.length; slot++) {
    const stands = candidate(block.vals[slot], block.exponent, block.lane?.[slot] ?? 0, block.versions?.[slot] ?? block.version)
    let best: Candidate | null = null
    const offer = (by: number, c: Candidate | null): void => {
      if (c !== null && !gone.has(by) && (best === null || compare(c, best) > 0)) best = c
    }
    // Backwards through the slot's history: what stood after a merge was its delivery's offer.
    let after: Candidate | null = stands
    for (let i = log.length - 1; i >= 0; i--) {
      const r = log[i]
      const k = r.slots.slots.indexOf(slot)
      if (k < 0) continue
      const recorded = candidate(r.slots.vals[k], r.slots.exponent, r.slots.lanes[k], r.slots.versions[k])
      if (r.kind === RevisionKind.outranked) offer(r.deliveryNo, recorded)
      else {
        if (r.kind === RevisionKind.merged) offer(r.deliveryNo, after)
        after = recorded
      }
    }
    offer(block.deliveryNo, after)
    if (same(best, stands)) continue
    was.slots.push(slot)
    was.vals.push(block.vals[slot])
    was.lanes.push(stands?.lane ?? 0)
    was.versions.push(stands?.version ?? 0)
    found.push({ slot, best })
  }
  if (found.length === 0) return null
  const exponent = Math.min(block.exponent, ...found.map((f) => f.best?.exponent ?? 0))
  return {
    was,
    now: {
      slots: found.map((f) => f.slot), exponent,
      vals: found.map((f) => f.best === null ? MISSING : f.best.value * 10 ** (f.best.exponent - exponent)),
      lanes: found.map((f) => f.best?.lane ?? 0), versions: found.map((f) => f.best?.version ?? 0),
    },
  }
}

function candidate(value: number, exponent: number, lane: number, version: number): Candidate | null {
  return value === MISSING ? null : { value, exponent, lane, version }
}

function compare(a: Candidate, b: Candidate): number {
  const e = Math.min(a.exponent, b.exponent)
  return rankOf(a.lane) - rankOf(b.lane) || a.version - b.version ||
    a.value * 10 ** (a.exponent - e) - b.value * 10 ** (b.exponent - e) || a.lane - b.lane
}

function same(a: Candidate | null, b: Candidate | null): boolean {
  return a === null || b === null ? a === b : compare(a, b) === 0
}
