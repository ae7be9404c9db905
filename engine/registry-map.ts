import { Quantity, type QuantityCode } from './quantity.js'
import { type FlowCode } from './read-batch.js'
import type { Queryable } from './store/db.js'
import { loadWatches, type AccountWatch } from './thresholds/watch.js'

/** A channel as settlement needs it. */
export interface ChannelRef {
  /** -1 until the settling transaction creates it. */
  channelId: number
  meter: MeterRef
  /** Energy where not given: what counts into usage, load and thresholds. */
  quantity?: QuantityCode
  flow: FlowCode
  intervalS: number
}

export interface Assignment {
  accountId: number
  /** Epoch seconds, inclusive. */
  fromS: number
  /** Epoch seconds, exclusive; Infinity while open. */
  toS: number
}

export interface MeterRef {
  meterId: number
  id: string
  /** Only `main` meters count in the utility's load and in accounts' totals. */
  isMain: boolean
  multiplier: number
  // Made anew by what adds to them: push() leaves room for 16 more in each of a fleet's lists.
  assignments: readonly Assignment[]
  channels: readonly ChannelRef[]
}

interface MeterRow {
  meter_id: number
  id: string
  aliases: string[]
  role: string
  multiplier: string
}

interface AssignmentRow {
  meter_id: number
  account_id: number
  from_s: number
  to_s: number | null
}

interface ChannelRow {
  channel_id: number
  meter_id: number
  quantity: QuantityCode
  flow: FlowCode
  interval_s: number
}

/**
 * A worker's map of one utility's registry, brought up to date under the shared registry lock: the epoch says whether it
 * is stale, and only what changed since is read. Channels never go away and are not part of the epoch: one that another
 * process made is found when this one tries to make it.
 */
export class RegistryMap {
  readonly utilityId: number
  /** Epoch up to which the map is loaded; -1: nothing yet. */
  epoch = -1
  readonly #byName = new Map<string, MeterRef>()
  readonly #byId = new Map<number, MeterRef>()
  readonly #aliasesOf = new Map<number, string[]>()
  /** By account. Most accounts have one meter, and a set of one in each would be a tenth of the map. */
  readonly #metersOf = new Map<number, readonly MeterRef[]>()
  readonly #watched = new Map<number, AccountWatch>()
  readonly #several = new Set<number>()
  #watchesHours = false

  constructor(utilityId: number) {
    this.utilityId = utilityId
  }

  /** The meter of that id or alias; undefined when the registry has none. */
  meter(name: string): MeterRef | undefined {
    return this.#byName.get(name)
  }

  meterById(meterId: number): MeterRef | undefined {
    return this.#byId.get(meterId)
  }

  /** True for accounts with live thresholds. */
  isWatched(accountId: number): boolean {
    return this.#watched.has(accountId)
  }

  /** The account's live thresholds; undefined where it has none. */
  watchOf(accountId: number): AccountWatch | undefined {
    return this.#watched.get(accountId)
  }

  /** True where more than one meter serves the account or did: of few accounts, so that it is told faster than which. */
  hasSeveralMeters(accountId: number): boolean {
    return this.#several.has(accountId)
  }

  /** Meters that serve the account or did. */
  metersOf(accountId: number): Iterable<MeterRef> {
    return this.#metersOf.get(accountId) ?? []
  }

  /** True where any account may have a threshold on an hour's energy. */
  get watchesHours(): boolean {
    return this.#watchesHours
  }

  /** True where any account has live thresholds. */
  get hasWatched(): boolean {
    return this.#watched.size > 0
  }

  /** Reads what changed after the map's epoch. The caller holds the utility's registry lock, shared at least. */
  async refresh(db: Queryable, epoch: number): Promise<void> {
    if (epoch === this.epoch) return
    const since = this.epoch
    const meters = await db.query<MeterRow>(
      'select meter_id, id, aliases, role, multiplier from meter where utility_id = $1 and epoch > $2 order by meter_id',
      [this.utilityId, since])
    const assignments = await db.query<AssignmentRow>(
      `select a.meter_id, a.account_id, extract(epoch from a.from_at)::float8 as from_s,
              extract(epoch from a.to_at)::float8 as to_s
         from meter_assignment a join meter m using (meter_id)
        where m.utility_id = $1 and m.epoch > $2 order by a.meter_id, a.from_at`, [this.utilityId, since])
    const channels = await db.query<ChannelRow>(
      `select c.channel_id, c.meter_id, c.quantity, c.flow, c.interval_s from channel c join meter m using (meter_id)
        where m.utility_id = $1 and m.epoch > $2 order by c.channel_id`, [this.utilityId, since])
    const watches = await loadWatches(db, this.utilityId, since)
    for (const row of meters.rows) this.#putMeter(row)
    for (const row of assignments.rows) {
      const meter = this.#byId.get(row.meter_id)!
      meter.assignments = [...meter.assignments, { accountId: row.account_id, fromS: row.from_s, toS: row.to_s ?? Infinity }]
      const meters = this.#metersOf.get(row.account_id) ?? []
      if (meters.includes(meter)) continue
      this.#metersOf.set(row.account_id, [...meters, meter])
      if (meters.length > 0) this.#several.add(row.account_id)
    }
    for (const row of channels.rows) this.addChannel(row.meter_id, row.channel_id, row.flow, row.interval_s, row.quantity)
    for (const [accountId, watch] of watches) {
      if (watch === null) this.#watched.delete(accountId)
      else {
        this.#watched.set(accountId, watch)
        this.#watchesHours ||= watch.watches.some((w) => w.kind === 'hour-usage')
      }
    }
    this.epoch = epoch
  }

  /** Enters a channel that is known to be committed, or that this transaction just made. */
  addChannel(
    meterId: number, channelId: number, flow: FlowCode, intervalS: number, quantity: QuantityCode = Quantity.energy,
  ): ChannelRef {
    const meter = this.#byId.get(meterId)!
    let channel = meter.channels.find((c) => isChannel(c, flow, intervalS, quantity))
    if (channel === undefined) {
      channel = { channelId, meter, quantity, flow, intervalS }
      meter.channels = [...meter.channels, channel]
    }
    channel.channelId = channelId
    return channel
  }

  #putMeter(row: MeterRow): void {
    const known = this.#byId.get(row.meter_id)
    // An alias that moved may belong to a meter that was put before this one.
    const before = known === undefined ? [] : [known.id, ...this.#aliasesOf.get(row.meter_id) ?? []]
    for (const name of before) if (this.#byName.get(name) === known) this.#byName.delete(name)
    const meter: MeterRef = known ?? {
      meterId: row.meter_id, id: row.id, isMain: true, multiplier: 1, assignments: [], channels: [] }
    meter.id = row.id
    meter.isMain = row.role === 'main'
    meter.multiplier = Number(row.multiplier)
    meter.assignments = []
    this.#byId.set(row.meter_id, meter)
    for (const name of [row.id, ...row.aliases]) this.#byName.set(name, meter)
    if (row.aliases.length > 0) this.#aliasesOf.set(row.meter_id, row.aliases)
    else this.#aliasesOf.delete(row.meter_id)
  }
}

/** Whether a channel is the one of that quantity, flow and interval length. */
export function isChannel(c: ChannelRef, flow: FlowCode, intervalS: number, quantity: QuantityCode): boolean {
  return c.flow === flow && c.intervalS === intervalS && (c.quantity ?? Quantity.energy) === quantity
}

/** True for channels of energy: only they count into usage totals, load and thresholds. */
export function isEnergy(c: ChannelRef): boolean {
  return c.quantity === undefined || c.quantity === Quantity.energy
}
