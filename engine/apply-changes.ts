import type pg from 'pg'
import { distinctAscending } from './distinct.js'
import { LoadDifference } from './load.js'
import type { BlockChange } from './merge-pieces.js'
import { Quantity } from './quantity.js'
import { isEnergy, type ChannelRef, type MeterRef, type RegistryMap } from './registry-map.js'
import { difference } from './spans.js'
import { blockKey, insertBlocks, intArray, insertRevisions, readBlocks, updateBlocks, type Revision } from './store/blocks.js'
import { lockAccounts, lockChannels, readChannelsOf, readSpans, settleSpans } from './store/channels.js'
import type { NotifySecrets } from './contacts/seal.js'
import { enqueueDue, joinDue, type Due } from './thresholds/due.js'
import { evaluateThresholds } from './thresholds/evaluate.js'
import { QuietDays } from './thresholds/quiet-days.js'
import { screen, type Touched } from './thresholds/screen.js'
import { Cycles, seenOf, type Seen } from './thresholds/seen.js'
import { dayText } from './time/text.js'
import type { Zone } from './time/zone.js'
import { enqueuePending } from './validate/pending.js'

/** What a commit that changes blocks is about. */
export interface ChangeContext {
  utilityId: number
  zone: Zone
  map: RegistryMap
  secrets: NotifySecrets
  now: () => number
  /** Ids of the touched channels that have siblings. */
  shared: ReadonlySet<number>
  atUs: number
  deliveryId: string
  deliveryNo: number
  /** History loads raise no alert and keep the change feed quiet. */
  history: boolean
  setHoldsReads: boolean
  /** Changed days are left to validation. */
  validates: boolean
  /** Writes the caller's rows, given what the commit did to alerts. */
  record: (alerts: { raised: number; retracted: number }) => Promise<void>
}

/**
 * The tail that every commit which changes blocks has in common: blocks, revisions, which channel counts, alerts, change
 * feed, the caller's own rows, and last the hot rows of the load (design §4). The blocks are given slice by slice, and of
 * a slice only what the end needs is kept: a large body's blocks need not all stand in memory at once.
 */
export class ChangeWriter {
  readonly #client: pg.PoolClient
  readonly #set: ChangeContext
  readonly #load: LoadDifference
  readonly #cycles = new Cycles()
  readonly #quiet: QuietDays
  readonly #touched: TouchedDay[] = []
  /** Changes of channels that have siblings: which of them counts is settled at the end. */
  readonly #shared: BlockChange[] = []

  constructor(client: pg.PoolClient, set: ChangeContext) {
    this.#client = client
    this.#set = set
    this.#load = new LoadDifference(set.zone)
    this.#quiet = new QuietDays(set.map, set.zone, this.#cycles)
  }

  /**
   * Writes blocks and their revisions. The channels are locked; a channel's day is given once in a commit.
   * @param changes in channel and day order
   */
  async write(changes: readonly BlockChange[], revisions: readonly Revision[]): Promise<void> {
    const set = this.#set
    await insertBlocks(this.#client, changes.filter((c) => c.before === null).map((c) => c.after))
    await updateBlocks(this.#client, changes.filter((c) => c.before !== null).map((c) => c.after))
    await insertRevisions(this.#client, revisions, set.atUs)
    for (const c of changes) {
      this.#touched.push({
        meter: c.channel.meter, channelId: isEnergy(c.channel) ? c.channel.channelId : 0, day: c.after.day,
        restated: c.before !== null && c.after.restatedAtUs === set.atUs, seen: this.#seenOf(c) })
      if (set.shared.has(c.channel.channelId)) {
        this.#shared.push(c)
        continue
      }
      if (!c.channel.meter.isMain || !isEnergy(c.channel)) continue
      this.#load.add(c.after, c.channel.flow, null, 1)
      if (c.before !== null) this.#load.add(c.before, c.channel.flow, null, -1)
    }
  }

  /** Bounds of the block for accounts with thresholds; null where no threshold can be about it, or the day is a quiet one. */
  #seenOf({ channel, before, after }: BlockChange): Seen | null {
    const { map, shared } = this.#set
    if (!map.hasWatched || !isEnergy(channel) || !isWatched(map, channel.meter)) return null
    const seen = seenOf(after, before, channel.flow, shared.has(channel.channelId), this.#set.zone, map.watchesHours)
    return !this.#set.history && this.#quiet.take(channel.meter, after.day, seen) ? null : seen
  }

  /** Settles what follows from all that was written, and tells what it did to alerts. Once, last. */
  async finish(): Promise<{ raised: number; retracted: number }> {
    const client = this.#client
    const set = this.#set
    const changed = this.#touched.length > 0
    if (this.#shared.length > 0) for (const t of await applySpans(client, this.#shared, this.#load)) this.#touched.push(t)
    const alerts = await evaluate(client, set, this.#touched, this.#quiet, this.#cycles)
    if (!set.history) await writeChanges(client, set, this.#touched)
    if (set.validates) await enqueuePending(client, set.utilityId, this.#touched)
    await set.record(alerts)
    if (set.setHoldsReads && changed) {
      await client.query('update utility set holds_reads = true where utility_id = $1 and not holds_reads', [set.utilityId])
    }
    await this.#load.write(client, set.utilityId)
    return alerts
  }
}

interface TouchedDay {
  meter: MeterRef
  /** The channel to validate; 0 where its block did not change, or is no energy. */
  channelId: number
  day: number
  restated: boolean
  /** null: no threshold can be about it; undefined: the block stands as before and counts otherwise. */
  seen?: Seen | null
}

/**
 * Settles anew which of the touched meters' channels counts when, and adds to the load what that and the changed blocks
 * come to. Returns the days of blocks that did not change but count otherwise now.
 */
async function applySpans(client: pg.PoolClient, touched: readonly BlockChange[], load: LoadDifference): Promise<TouchedDay[]> {
  const meters = new Map<number, MeterRef>()
  const kinds = new Set<string>()
  for (const c of touched) {
    meters.set(c.channel.meter.meterId, c.channel.meter)
    kinds.add(kindOf(c.channel.meter.meterId, c.channel))
  }
  const all = await readChannelsOf(client, [...meters.keys()])
  const groups = new Map<string, ChannelRef[]>()
  const refs = new Map<number, ChannelRef>()
  for (const c of all) {
    const key = kindOf(c.meterId, c)
    if (!kinds.has(key)) continue
    const meter = meters.get(c.meterId)!
    const ref: ChannelRef = meter.channels.find((m) => m.channelId === c.channelId) ??
      { channelId: c.channelId, meter, quantity: c.quantity, flow: c.flow, intervalS: c.intervalS }
    refs.set(c.channelId, ref)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [ref])
    else group.push(ref)
  }
  const ids = [...refs.keys()].sort((a, b) => a - b)
  // Siblings that another process made after our map was read are locked here; the rest are ours already.
  await lockChannels(client, ids)
  const before = await readSpans(client, ids)
  const after = await settleSpans(client, [...groups.values()])

  const changed = new Map<number, BlockChange>()
  for (const c of touched) changed.set(blockKey(c.channel.channelId, c.after.day), c)
  const extra: { ref: ChannelRef; day: number }[] = []
  for (const id of ids) {
    // Several stretches may reach over one day.
    const days = new Set<number>()
    for (const [from, to] of difference(before.get(id) ?? null, after.get(id)!)) {
      for (const day of await reachOf(client, id, from, to)) days.add(day)
    }
    for (const day of days) if (!changed.has(blockKey(id, day))) extra.push({ ref: refs.get(id)!, day })
  }
  const blocks = await readBlocks(client, extra.map((e) => e.ref.channelId), extra.map((e) => e.day))
  for (const c of changed.values()) {
    if (!c.channel.meter.isMain || !isEnergy(c.channel)) continue
    load.add(c.after, c.channel.flow, after.get(c.channel.channelId)!, 1)
    if (c.before !== null) load.add(c.before, c.channel.flow, before.get(c.channel.channelId) ?? null, -1)
  }
  const days: TouchedDay[] = []
  for (const { ref, day } of extra) {
    const block = blocks.get(blockKey(ref.channelId, day))
    if (block === undefined) continue
    days.push({ meter: ref.meter, channelId: 0, day, restated: true })
    if (!ref.meter.isMain || !isEnergy(ref)) continue
    load.add(block, ref.flow, after.get(ref.channelId)!, 1)
    load.add(block, ref.flow, before.get(ref.channelId) ?? null, -1)
  }
  return days
}

function isWatched(map: RegistryMap, { assignments }: MeterRef): boolean {
  for (const a of assignments) if (map.isWatched(a.accountId)) return true
  return false
}

/** Channels of one meter, quantity and flow: of them one counts at any instant. */
function kindOf(meterId: number, { quantity = Quantity.energy, flow }: Pick<ChannelRef, 'quantity' | 'flow'>): string {
  return `${meterId}|${quantity}|${flow}`
}

/** Stored days of a channel that overlap a stretch of time. */
async function reachOf(client: pg.PoolClient, channelId: number, fromS: number, toS: number): Promise<number[]> {
  const { rows } = await client.query<{ day: number }>(
    `select day - date '1970-01-01' as day from channel_day
      where channel_id = $1 and day >= $2::date and day <= $3::date`,
    [channelId, Number.isFinite(fromS) ? dayText(Math.floor(fromS / 86_400) - 1) : '-infinity',
      Number.isFinite(toS) ? dayText(Math.ceil(toS / 86_400) + 1) : 'infinity'])
  return rows.map((r) => r.day)
}

/** Visits the accounts that each touched meter was assigned to on that day. */
function eachAccount(set: ChangeContext, touched: readonly TouchedDay[], visit: (accountId: number, t: TouchedDay) => void): void {
  let day = NaN
  let from = 0
  let to = 0
  for (const t of touched) {
    const { assignments } = t.meter
    if (assignments.length === 0) continue
    if (t.day !== day) {
      day = t.day
      from = set.zone.dayStart(day)
      to = set.zone.dayStart(day + 1)
    }
    for (const a of assignments) if (a.fromS < to && a.toS > from) visit(a.accountId, t)
  }
}

async function evaluate(
  client: pg.PoolClient, set: ChangeContext, touched: readonly TouchedDay[], quiet: QuietDays, cycles: Cycles,
): Promise<{ raised: number; retracted: number }> {
  const accounts = new Map<number, Touched[]>()
  // Of most deliveries every day is a quiet one.
  if (set.map.hasWatched && touched.some((t) => t.seen !== null)) {
    eachAccount(set, touched, (accountId, { meter, day, seen }) => {
      if (seen === null || !set.map.isWatched(accountId)) return
      const known = accounts.get(accountId)
      if (known === undefined) accounts.set(accountId, [{ meter, day, seen }])
      else known.push({ meter, day, seen })
    })
  }
  await enqueueDue(client, set.utilityId, [...dueOf(set, accounts), ...quiet.due(set.now() / 1000)])
  if (accounts.size === 0 && quiet.isEmpty) return { raised: 0, retracted: 0 }
  const ids = intArray([...accounts.keys(), ...quiet.accounts()])
  await lockAccounts(client, ids)
  const suspects = await screen(client, { map: set.map, zone: set.zone, history: set.history, accounts, ids, quiet, cycles })
  if (suspects.size === 0) return { raised: 0, retracted: 0 }
  const days = new Map<number, Iterable<number>>()
  const quietDays = quiet.daysOf(suspects)
  for (const id of [...suspects.keys()].sort((a, b) => a - b)) {
    days.set(id, [...(accounts.get(id) ?? []).map((t) => t.day), ...quietDays.get(id) ?? []])
  }
  return evaluateThresholds(client, {
    utilityId: set.utilityId, zone: set.zone, days, suspects, history: set.history, deliveryId: set.deliveryId, now: new Date(set.now()),
    secrets: set.secrets,
  })
}

/** What of the touched accounts and days the schedule is to judge; a day that runs cannot be told before its end. */
function dueOf(set: ChangeContext, accounts: ReadonlyMap<number, readonly Touched[]>): Due[] {
  const nowS = set.now() / 1000
  const waiting: Parameters<typeof joinDue>[0][number][] = []
  for (const [accountId, of] of accounts) {
    const watch = set.map.watchOf(accountId)
    if (watch?.hasDeferred !== true) continue
    for (const day of new Set(of.map((t) => t.day))) {
      const againAtS = watch.hasDeferredHours ? nowS : Math.max(nowS, set.zone.dayStart(day + 1))
      waiting.push({ accountId, startDay: day, endDay: day + 1, againAtS, history: set.history })
    }
  }
  return joinDue(waiting)
}

const FEED_ROW = 1000

/** One row per day and up to 1,000 accounts: a delivery of the whole fleet adds a few dozen rows, not one per account. */
async function writeChanges(client: pg.PoolClient, set: ChangeContext, touched: readonly TouchedDay[]): Promise<void> {
  interface Group { day: number; restated: boolean; accounts: number[] }
  const groups = new Map<number, Group>()
  let last: Group | undefined
  eachAccount(set, touched, (accountId, t) => {
    if (last === undefined || last.day !== t.day || last.restated !== t.restated) {
      const key = t.day * 2 + (t.restated ? 1 : 0)
      last = groups.get(key)
      if (last === undefined) groups.set(key, last = { day: t.day, restated: t.restated, accounts: [] })
    }
    last.accounts.push(accountId)
  })
  const rows: { day: string; restated: boolean; accounts: Int32Array }[] = []
  for (const g of groups.values()) {
    const accounts = distinctAscending(g.accounts)
    for (let i = 0; i < accounts.length; i += FEED_ROW) {
      rows.push({ day: dayText(g.day), restated: g.restated, accounts: accounts.subarray(i, i + FEED_ROW) })
    }
  }
  if (rows.length === 0) return
  await client.query(
    `insert into change (utility_id, day, restated, account_ids, delivery_no)
     select $1, day, restated, accounts::int[], $5
       from unnest($2::date[], $3::boolean[], $4::text[]) as c(day, restated, accounts)`,
    [set.utilityId, rows.map((r) => r.day), rows.map((r) => r.restated), rows.map((r) => `{${r.accounts.join(',')}}`),
      set.deliveryNo])
}

