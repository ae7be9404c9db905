import { createHash, randomUUID } from 'node:crypto'
import type { CommitWorld, DecodedBody, Submission } from '../engine/submission.js'
import type { RecordProblem } from '../engine/problem.js'
import { Quantity, type QuantityName } from '../engine/quantity.js'
import { Flow, MISSING, Quality, ReadBatchBuilder, type FlowName, type QualityName, type ReadBatch } from '../engine/read-batch.js'
import { RegisterBatchBuilder, type RegisterBatch, type RegisterEntry } from '../engine/register-batch.js'
import type { Receipt } from '../engine/receipt.js'
import { Settler, type SettleResult } from '../engine/settler.js'
import { sourceSettings, type SourceSettings } from '../engine/source-settings.js'
import type { Pool } from '../engine/store/db.js'
import { beginRegistryWrite, inTransaction } from '../engine/store/db.js'
import { openStorage } from '../engine/store/storage.js'
import { getZone, type Zone } from '../engine/time/zone.js'
import { uuidv7 } from '../engine/uuid.js'
import { withdrawDelivery } from '../engine/withdraw.js'

/** Reads of one meter, as a test writes them down: the mantissas of consecutive slots, null where there is none. */
export interface PlainBlock {
  meter: string
  /** Epoch seconds, or an RFC 3339 instant. */
  start: number | string
  values: readonly (number | null)[]
  /** Seconds; 900 where not given. */
  intervalS?: number
  /** Power of ten of the mantissas, kWh; -3 (watt-hours) where not given. */
  exponent?: number
  flow?: FlowName
  /** Energy where not given. */
  quantity?: QuantityName
  /** One for all, or one per slot. */
  quality?: QualityName | readonly QualityName[]
  /** Microseconds, where the source stated it. */
  version?: number
}

export interface SettleOptions {
  /** Microseconds; where not given, one that ascends from delivery to delivery. */
  version?: number
  versionStated?: boolean
  idempotencyKey?: string
  history?: boolean
  source?: TestSource
  deliveryId?: string
  part?: number
  final?: boolean
  /** Problems that the decoder found besides the blocks. */
  problems?: RecordProblem[]
  /** Register reads besides the blocks. */
  registers?: readonly PlainRegister[]
  after?: Submission['after']
}

export interface TestSource { sourceId: number; settings: SourceSettings }

/** A utility of its own with ways to fill its registry, and the real settler to push through. */
export interface TestUtility {
  readonly utilityId: number
  readonly zone: Zone
  readonly world: CommitWorld
  readonly settler: Settler
  /** The clock that settling sees, milliseconds; settle() moves it on by a second each time. */
  clock: { nowMs: number }
  account(options?: { billingDay?: number }): Promise<{ accountId: number; account: string }>
  meter(options?: MeterOptions): Promise<string>
  source(settings?: Partial<SourceSettings>): Promise<TestSource>
  threshold(accountId: number, options: { kind?: string; flow?: FlowName; limit: string | null; meter?: string; params?: object; touPeriod?: string }): Promise<string>
  submission(blocks: readonly PlainBlock[], options?: SettleOptions): Submission
  /** Settles one delivery and returns its receipt. @throws what the settler answered otherwise */
  settle(blocks: readonly PlainBlock[], options?: SettleOptions): Promise<Receipt>
  /** Settles several deliveries in one group. */
  settleGroup(submissions: readonly Submission[]): Promise<SettleResult[]>
  withdraw(deliveryId: string): Promise<Receipt>
  /** Takes an alias from one meter and gives it to another, in one registry write. */
  moveAlias(alias: string, from: string, to: string): Promise<void>
  /** A further settler with a registry map and a pool of its own, as another process has. */
  another(pool: Pool): Promise<Settler>
}

export interface MeterOptions {
  id?: string
  aliases?: string[]
  role?: 'main' | 'sub' | 'check' | 'generation'
  multiplier?: number
  /** Whom the meter serves and from when to when, epoch seconds; open where not given. */
  assignments?: readonly { accountId: number; fromS?: number; toS?: number }[]
}

const START_MS = Date.parse('2026-11-20T12:00:00Z')
let lastVersion = START_MS * 1000

export async function testUtility(pool: Pool, zoneName = 'America/Chicago'): Promise<TestUtility> {
  const clock = { nowMs: START_MS }
  const { rows: [{ utility_id: utilityId }] } = await pool.query<{ utility_id: number }>(
    'insert into utility (id, zone) values ($1, $2) returning utility_id', [`u-${randomUUID()}`, zoneName])
  const world = await testWorld(pool, () => clock.nowMs)
  const settler = new Settler(pool, world)
  const ids = new Map<string, number>()

  async function source(settings: Partial<SourceSettings> = {}): Promise<TestSource> {
    const { rows: [{ source_id: sourceId }] } = await pool.query<{ source_id: number }>(
      'insert into source (utility_id, name, settings) values ($1, $2, $3) returning source_id',
      [utilityId, `s-${randomUUID()}`, settings])
    return { sourceId, settings: sourceSettings(settings) }
  }
  const ordinary = await source()

  const utility: TestUtility = {
    utilityId, zone: getZone(zoneName), world, settler, clock, source,
    async account({ billingDay } = {}) {
      const account = `a-${randomUUID()}`
      const accountId = await registryWrite(pool, utilityId, async (client, epoch) => {
        const { rows } = await client.query<{ account_id: number }>(
          'insert into account (utility_id, id, billing_day, epoch) values ($1, $2, $3, $4) returning account_id',
          [utilityId, account, billingDay ?? null, epoch])
        return rows[0].account_id
      })
      return { accountId, account }
    },
    async meter({ id = `m-${randomUUID()}`, aliases = [], role = 'main', multiplier = 1, assignments = [] } = {}) {
      await registryWrite(pool, utilityId, async (client, epoch) => {
        const { rows: [{ meter_id: meterId }] } = await client.query<{ meter_id: number }>(
          'insert into meter (utility_id, id, aliases, role, multiplier, epoch) values ($1, $2, $3, $4, $5, $6) returning meter_id',
          [utilityId, id, aliases, role, multiplier, epoch])
        ids.set(id, meterId)
        for (const alias of aliases) {
          await client.query('insert into meter_alias (utility_id, alias, meter_id) values ($1, $2, $3)', [utilityId, alias, meterId])
        }
        for (const a of assignments) {
          await client.query(
            'insert into meter_assignment (meter_id, account_id, from_at, to_at) values ($1, $2, to_timestamp($3), to_timestamp($4))',
            [meterId, a.accountId, a.fromS ?? 0, a.toS ?? null])
        }
      })
      return id
    },
    async threshold(accountId, { kind = 'day-usage', flow = 'delivered', limit, meter, params = {}, touPeriod }) {
      const id = randomUUID()
      await registryWrite(pool, utilityId, async (client, epoch) => {
        await client.query(
          `insert into threshold (threshold_id, utility_id, account_id, kind, meter_id, limit_value, flow, params, tou_period, version_from)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'epoch')`,
          [id, utilityId, accountId, kind, meter === undefined ? null : ids.get(meter), limit, Flow[flow], params, touPeriod ?? null])
        await client.query('update account set thresholds = thresholds + 1, epoch = $2 where account_id = $1', [accountId, epoch])
      })
      return id
    },
    submission(blocks, options = {}) {
      return submissionOf(blocks, options.source ?? ordinary, clock.nowMs, options)
    },
    async settle(blocks, options) {
      clock.nowMs += 1000
      const [result] = await settler.settle(utilityId, [utility.submission(blocks, options)])
      return receiptOf(result)
    },
    settleGroup(submissions) {
      clock.nowMs += 1000
      return settler.settle(utilityId, submissions)
    },
    withdraw(deliveryId) {
      clock.nowMs += 1000
      return withdrawDelivery(pool, world, { utilityId, deliveryId, withdrawalId: uuidv7(clock.nowMs) })
    },
    async moveAlias(alias, from, to) {
      await registryWrite(pool, utilityId, async (client, epoch) => {
        await client.query('update meter set aliases = array_remove(aliases, $1), epoch = $2 where meter_id = $3', [alias, epoch, ids.get(from)])
        await client.query('update meter set aliases = aliases || $1::text, epoch = $2 where meter_id = $3', [alias, epoch, ids.get(to)])
        await client.query('update meter_alias set meter_id = $3 where utility_id = $1 and alias = $2', [utilityId, alias, ids.get(to)])
      })
    },
    async another(other) {
      return new Settler(other, await testWorld(other, () => clock.nowMs))
    },
  }
  return utility
}

/** What a settler needs of its process. @param now epoch milliseconds */
export async function testWorld(pool: Pool, now: () => number): Promise<CommitWorld> {
  return {
    storage: await openStorage(pool), maps: new Map(), secrets: { secretKey: new Uint8Array(32).fill(7) }, toleranceS: 5, now,
  }
}

/** A delivery of these blocks as a door would hand it over; an equal list of blocks is an identical body. */
export function submissionOf(
  blocks: readonly PlainBlock[], source: TestSource, nowMs: number, options: SettleOptions = {},
): Submission {
  const body = JSON.stringify([blocks, options.registers])
  const sha256 = createHash('sha256').update(body).digest()
  const decode = (): DecodedBody => ({
    batch: batchOf(blocks), registers: registersOf(options.registers ?? []), problems: (options.problems ?? []).map((p) => ({ ...p })), rounded: 0 })
  const final = options.final ?? true
  return {
    deliveryId: options.deliveryId ?? uuidv7(nowMs), sourceId: source.sourceId, settings: source.settings,
    kind: 'push', door: 'http', format: 'json', history: options.history ?? false,
    idempotencyKey: options.idempotencyKey ?? null, sha256, bodySha256: final ? sha256.toString('hex') : null,
    bytes: body.length, version: options.version ?? (lastVersion += 1000), versionStated: options.versionStated ?? false,
    part: options.part ?? 1, final, decoded: decode(), redecode: decode, raw: (from, to) => Buffer.from(body).subarray(from, to),
    after: options.after,
  }
}

/** A cumulative register's read, or with `from` a period's consumption. */
export interface PlainRegister {
  meter: string
  at: number | string
  from?: string
  mantissa: number
  exponent?: number
  quantity?: QuantityName
  flow?: FlowName
  tou?: string
  quality?: QualityName
  version?: number
}

export function registersOf(registers: readonly PlainRegister[]): RegisterBatch {
  const builder = new RegisterBatchBuilder()
  registers.forEach((r, i) => {
    const entry: RegisterEntry = {
      meter: r.meter, tou: r.tou ?? '', quantity: Quantity[r.quantity ?? 'energy'], flow: Flow[r.flow ?? 'delivered'],
      atS: typeof r.at === 'string' ? Date.parse(r.at) / 1000 : r.at, fromS: r.from === undefined ? NaN : Date.parse(r.from) / 1000,
      mantissa: r.mantissa, exponent: r.exponent ?? 0, lane: Quality[r.quality ?? 'actual'], version: r.version ?? 0, place: i + 1,
    }
    builder.add(entry)
  })
  return builder.finish()
}

export function batchOf(blocks: readonly PlainBlock[]): ReadBatch {
  const builder = new ReadBatchBuilder(4, 16)
  blocks.forEach((b, i) => {
    const { quality = 'actual' } = b
    builder.addBlock({
      meter: b.meter, startS: typeof b.start === 'string' ? Date.parse(b.start) / 1000 : b.start, intervalS: b.intervalS ?? 900,
      flow: Flow[b.flow ?? 'delivered'], quantity: Quantity[b.quantity ?? 'energy'], lane: typeof quality === 'string' ? Quality[quality] : 0, exponent: b.exponent ?? -3,
      version: b.version ?? 0, place: i + 1, rawFrom: 0, rawTo: 0,
    }, b.values.map((v) => v ?? MISSING), typeof quality === 'string' ? undefined : quality.map((q) => Quality[q]))
  })
  return builder.finish()
}

export function receiptOf(result: SettleResult): Receipt {
  if (result.status === 'failed') throw result.error
  if (result.status === 'key-reused') throw new Error('the idempotency key was reused')
  if (result.status === 'fenced') throw new Error('the partition was fenced')
  return result.receipt
}

async function registryWrite<T>(
  pool: Pool, utilityId: number, work: (client: Parameters<Parameters<typeof inTransaction>[1]>[0], epoch: number) => Promise<T>,
): Promise<T> {
  return inTransaction(pool, async (client) => work(client, await beginRegistryWrite(client, utilityId)))
}

/** A stored block as plain values; what only tells who wrote it and when is left out. */
export interface PlainRow {
  meter: string
  flow: number
  interval_s: number
  day: string
  first_s: number
  exponent: number
  total: number
  peak: number | null
  peak_slot: number | null
  present: number
  estimated: number
  version: number
  vals: (number | null)[]
  lane: number[] | null
  versions: number[] | null
}

/** All blocks of a utility, in order, read by plain SQL. */
export async function storedBlocks(pool: Pool, utilityId: number): Promise<PlainRow[]> {
  const { rows } = await pool.query<Omit<PlainRow, 'versions'> & { versions: string[] | null }>(
    `select m.id as meter, c.flow, c.interval_s, d.day, extract(epoch from d.first_at)::float8 as first_s, d.exponent, d.total,
            d.peak, d.peak_slot, d.present, d.estimated, d.version, d.vals, d.lane, d.versions::text[] as versions
       from channel_day d join channel c using (channel_id) join meter m using (meter_id)
      where m.utility_id = $1 and d.present > 0 order by 1, 2, 3, 4`, [utilityId])
  return rows.map((r) => ({ ...r, versions: r.versions?.map(Number) ?? null }))
}

/** The load that stands, hours of no energy left out: flow, hour (epoch seconds), kWh as exact text without trailing zeros. */
export async function storedLoad(pool: Pool, utilityId: number): Promise<{ flow: number; hour: number; energy: string; coarse: string }[]> {
  const { rows } = await pool.query<{ flow: number; hour: number; energy: string; coarse: string }>(
    `select flow, extract(epoch from hour)::float8 as hour, trim_scale(energy)::text as energy, trim_scale(coarse)::text as coarse
       from system_load where utility_id = $1 and (energy <> 0 or coarse <> 0) order by 1, 2`, [utilityId])
  return rows
}

/** What waits in quarantine, with its records parsed. */
export async function quarantineOf(
  pool: Pool, utilityId: number,
): Promise<{ reason: string; meter: string | null; reads: number; version: number; record: unknown }[]> {
  const { rows } = await pool.query<{ reason: string; meter: string | null; reads: number; version: number; record: unknown }>(
    `select reason, meter, reads, version, record::jsonb as record from quarantine
      where utility_id = $1 and settled_by is null order by quarantine_id`, [utilityId])
  return rows
}
