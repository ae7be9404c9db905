import { randomUUID } from 'node:crypto'
import { MISSING, type FlowCode } from '../engine/read-batch.js'
import { emptyBlock, merge, restoreSlots, type Block } from '../engine/settle.js'
import { blockKey, insertBlocks, insertRevisions, RevisionKind, type Revision } from '../engine/store/blocks.js'
import { inTransaction, type Pool } from '../engine/store/db.js'
import { monthOfDay, monthOfInstant, openStorage, type Storage } from '../engine/store/storage.js'
import { dayText } from '../engine/time/text.js'
import { getZone, type Zone } from '../engine/time/zone.js'
import { mod, slotsOfDay } from '../engine/usage/grid.js'

/** A channel of a fixture. */
export interface TestChannel {
  channelId: number
  meterId: number
  meter: string
  flow: FlowCode
  intervalS: number
}

/** Reads of one channel, consecutive from startS on; null: no read. */
export interface TestReads {
  startS: number
  values: readonly (number | null)[]
  exponent?: number
  lane?: number
  version?: number
  deliveryNo?: number
}

/**
 * A utility whose registry and day blocks are written straight into the tables; the blocks are those that settlement
 * makes of the same reads. Every write of reads happens at an instant of the test's choice.
 */
export class UsageFixture {
  readonly pool: Pool
  readonly utility: string
  readonly utilityId: number
  readonly zone: Zone
  readonly #blocks = new Map<number, Block>()
  #names = 0
  #storage: Storage | undefined

  constructor(pool: Pool, utility: string, utilityId: number, zone: Zone) {
    this.pool = pool
    this.utility = utility
    this.utilityId = utilityId
    this.zone = zone
  }

  static async make(pool: Pool, zone: string): Promise<UsageFixture> {
    const utility = `u${randomUUID()}`
    const { rows } = await pool.query<{ utility_id: number }>(
      'insert into utility (id, zone) values ($1, $2) returning utility_id', [utility, zone])
    return new UsageFixture(pool, utility, rows[0].utility_id, getZone(zone))
  }

  async account(options: { billingDay?: number; groups?: Record<string, string> } = {}): Promise<{ accountId: number; account: string }> {
    const account = `a${++this.#names}`
    const { rows } = await this.pool.query<{ account_id: number }>(
      'insert into account (utility_id, id, billing_day, groups, epoch) values ($1, $2, $3, $4, 1) returning account_id',
      [this.utilityId, account, options.billingDay ?? null, options.groups ?? {}])
    return { accountId: rows[0].account_id, account }
  }

  async meter(role = 'main'): Promise<{ meterId: number; meter: string }> {
    const meter = `m${++this.#names}`
    const { rows } = await this.pool.query<{ meter_id: number }>(
      'insert into meter (utility_id, id, role, epoch) values ($1, $2, $3, 1) returning meter_id', [this.utilityId, meter, role])
    return { meterId: rows[0].meter_id, meter }
  }

  async assign(meterId: number, accountId: number, fromS: number, toS: number | null = null): Promise<void> {
    await this.pool.query(
      `insert into meter_assignment (meter_id, account_id, from_at, to_at)
       values ($1, $2, to_timestamp($3::float8), to_timestamp($4::float8))`, [meterId, accountId, fromS, toS])
  }

  /** @param spans where the channel counts, for a meter with several channels of a flow */
  async channel(
    meter: { meterId: number; meter: string }, flow: FlowCode, intervalS: number, spans: { fromS: number; toS: number }[] = [],
  ): Promise<TestChannel> {
    const { rows } = await this.pool.query<{ channel_id: number }>(
      `insert into channel (utility_id, meter_id, quantity, flow, interval_s, shared) values ($1, $2, 1, $3, $4, $5)
       returning channel_id`, [this.utilityId, meter.meterId, flow, intervalS, spans.length > 0])
    const channelId = rows[0].channel_id
    for (const span of spans) {
      await this.pool.query(
        `insert into channel_span (channel_id, meter_id, quantity, flow, from_at, to_at)
         values ($1, $2, 1, $3, to_timestamp($4::float8), to_timestamp($5::float8))`,
        [channelId, meter.meterId, flow, span.fromS, span.toS])
    }
    return { channelId, ...meter, flow, intervalS }
  }

  /** Settles reads at an instant (epoch seconds). */
  async settle(channel: TestChannel, reads: TestReads, atS: number): Promise<void> {
    const { intervalS } = channel
    const revisions: Revision[] = []
    const touched = new Map<number, Block>()
    const values = Int32Array.from(reads.values, (v) => v ?? MISSING)
    for (let i = 0; i < values.length;) {
      const startS = reads.startS + i * intervalS
      const day = intervalS === 86_400 ? this.zone.dayOf(reads.startS) + i : this.zone.dayOf(startS)
      const dayS = this.zone.dayStart(day)
      const endS = this.zone.dayStart(day + 1)
      const firstS = intervalS === 86_400 ? dayS : dayS + mod(startS - dayS, intervalS)
      const slots = slotsOfDay(firstS, intervalS, endS)
      const slot = intervalS === 86_400 ? 0 : (startS - firstS) / intervalS
      const count = Math.min(slots - slot, values.length - i)
      const key = blockKey(channel.channelId, day)
      const known = this.#blocks.get(key)
      const block = known ?? emptyBlock(channel.channelId, day, firstS, intervalS, slots, reads.deliveryNo ?? 1, atS * 1e6)
      const merged = merge(block, {
        slot, count, values, offset: i, exponent: reads.exponent ?? -3, lane: reads.lane ?? 0, lanes: null,
        version: reads.version ?? 1,
      })
      if (merged.restated) block.restatedAtUs = atS * 1e6
      const revision = { channelId: channel.channelId, day, deliveryNo: reads.deliveryNo ?? 1 }
      if (known !== undefined && merged.before !== null) revisions.push({ ...revision, kind: RevisionKind.merged, slots: merged.before })
      if (merged.lost !== null) revisions.push({ ...revision, kind: RevisionKind.outranked, slots: merged.lost })
      if (block.present > 0) {
        this.#blocks.set(key, block)
        touched.set(key, block)
      }
      i += Math.max(1, count)
    }
    await this.#write([...touched.values()], revisions, atS)
  }

  /** Takes slots of one block back to what the newest merge replaced, as a withdrawal does. */
  async withdraw(channel: TestChannel, day: number, was: Revision['slots'], atS: number): Promise<void> {
    const block = this.#blocks.get(blockKey(channel.channelId, day))!
    const slots = was.slots.map((s) => block.vals[s])
    const lanes = was.slots.map((s) => block.lane?.[s] ?? 0)
    const versions = was.slots.map((s) => block.versions?.[s] ?? block.version)
    const undone = { slots: was.slots, exponent: block.exponent, vals: slots, lanes, versions }
    restoreSlots(block, was)
    await this.#write([block], [
      { channelId: channel.channelId, day, kind: RevisionKind.withdrawn, deliveryNo: 1, slots: undone }], atS)
  }

  async #write(blocks: Block[], revisions: Revision[], atS: number): Promise<void> {
    this.#storage ??= await openStorage(this.pool)
    await this.#storage.ensure('channel_day', blocks.map((b) => monthOfDay(b.day)))
    await this.#storage.ensure('revision', [monthOfInstant(atS)])
    await inTransaction(this.pool, async (client) => {
      for (const b of blocks) {
        await client.query('delete from channel_day where channel_id = $1 and day = $2', [b.channelId, dayText(b.day)])
      }
      await insertBlocks(client, blocks)
      await insertRevisions(client, revisions, atS * 1e6)
    })
  }
}
