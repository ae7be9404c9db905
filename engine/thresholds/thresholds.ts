import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { writeAudit } from '../audit.js'
import type { NotifySecrets } from '../contacts/seal.js'
import { ApiError } from '../problem.js'
import { Flow, flowNames, type FlowCode, type FlowName } from '../read-batch.js'
import { loadRateBook } from '../rates/book.js'
import { beginRegistryWrite, inTransaction, type Pool, type Queryable } from '../store/db.js'
import { periodOf } from '../time/billing.js'
import { getZone } from '../time/zone.js'
import { loadPeriods } from '../usage/occupancy.js'
import { enqueueDue } from './due.js'
import { reevaluateAccounts, unitOf } from './evaluate.js'
import { compareExact, parseExact } from './exact.js'
import { kindInfo, windowOf, type ThresholdKind, type ThresholdParams } from './kinds.js'
import { checkLimit, checkParams, checkThreshold } from './params.js'

export interface ThresholdView {
  id: string
  kind: ThresholdKind
  flow: FlowName
  meter: string | null
  /** null for kinds without one. */
  limit: number | null
  unit: string
  window: string
  direction: string
  touPeriod: string | null
  params: ThresholdParams
  contacts: string[] | null
  version: number
  createdAt: string
  /** Since when this version stands: it judges periods that end later. */
  versionFrom: string
}

export interface NewThreshold {
  readonly kind: string
  readonly limit?: number | null
  readonly flow?: FlowName
  readonly meter?: string | null
  /** Of the account's rate. */
  readonly touPeriod?: string | null
  readonly params?: ThresholdParams
  readonly contacts?: readonly string[] | null
}

export interface ThresholdPatch {
  readonly limit?: number
  readonly params?: ThresholdParams
  /** null: every active contact of the account. */
  readonly contacts?: readonly string[] | null
}

/** Who writes, for which account, and what messages are sealed by. */
export interface ThresholdWriter {
  readonly utilityId: number
  readonly accountId: number
  /** Public id. */
  readonly account: string
  /** The utility's zone. */
  readonly zone: string
  readonly actor: string
  readonly now: Date
  readonly secrets: NotifySecrets
}

/** What a write came to; `messages` were left for the outbox. */
export interface ThresholdWrite {
  threshold: ThresholdView
  messages: number
}

interface Row {
  threshold_id: string
  kind: string
  flow: FlowCode
  meter: string | null
  limit_value: string | null
  tou_period: string | null
  params: ThresholdParams
  currency: string
  contacts: string[] | null
  version: number
  version_from: Date
  created_at: Date
}

/** Live thresholds that one account may have. */
const MAX_THRESHOLDS = 50

const SELECT = `select t.threshold_id, t.kind, t.flow, m.id as meter, t.limit_value, t.tou_period, t.params, u.currency,
  t.contacts, t.version, t.version_from, t.created_at
  from threshold t join utility u using (utility_id) left join meter m on m.meter_id = t.meter_id
  where t.account_id = $1 and t.deleted_at is null`

export async function listThresholds(db: Queryable, accountId: number): Promise<ThresholdView[]> {
  const { rows } = await db.query<Row>(`${SELECT} order by t.created_at, t.threshold_id`, [accountId])
  return rows.map(toView)
}

/** @throws ApiError 404 `threshold-not-found` */
export async function findThreshold(db: Queryable, accountId: number, id: string): Promise<ThresholdView> {
  const { rows } = await db.query<Row>(`${SELECT} and t.threshold_id = $2`, [accountId, id])
  if (rows.length === 0) throw notFound()
  return toView(rows[0])
}

/**
 * Makes a threshold and judges the day and the period that run: it may raise an alert at once.
 * @throws ApiError 422 `kind-unsupported`, `invalid-limit`, `invalid-combination`, `invalid-params`, `unknown-meter`,
 * `unknown-contact`, `too-many-thresholds`, `no-rate`, `unknown-tou-period`
 */
export async function createThreshold(pool: Pool, writer: ThresholdWriter, input: NewThreshold): Promise<ThresholdWrite> {
  const { kind, flow, limit, touPeriod, params } = checkThreshold(input)
  const id = randomUUID()
  return inTransaction(pool, async (client) => {
    const epoch = await beginRegistryWrite(client, writer.utilityId)
    await countThresholds(client, writer, epoch, 1)
    const meterId = typeof input.meter === 'string' ? await findMeter(client, writer.accountId, input.meter) : null
    await checkContacts(client, writer.accountId, input.contacts)
    if (touPeriod !== null || kindInfo(kind).watches === 'account') await checkRate(client, writer, touPeriod)
    await client.query(
      `insert into threshold (threshold_id, utility_id, account_id, kind, flow, meter_id, limit_value, tou_period, params, version,
                              version_from, contacts, created_at)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $11, $10)`,
      [id, writer.utilityId, writer.accountId, kind, Flow[flow], meterId, limit, touPeriod, params, writer.now, input.contacts ?? null])
    return finish(client, writer, 'threshold.create', id, { kind })
  })
}

/**
 * Changes a threshold. Another limit is a new version: it judges periods that end from now on, and the alerts of the
 * version before stay as they are, unless corrected reads take them back.
 * @throws ApiError 404 `threshold-not-found`, 422 `invalid-limit`, `invalid-combination`, `invalid-params`, `unknown-contact`
 */
export async function changeThreshold(
  pool: Pool, writer: ThresholdWriter, id: string, patch: ThresholdPatch,
): Promise<ThresholdWrite> {
  return inTransaction(pool, async (client) => {
    const epoch = await beginRegistryWrite(client, writer.utilityId)
    await countThresholds(client, writer, epoch, 0)
    const { rows } = await client.query<{ kind: ThresholdKind; limit_value: string | null; params: ThresholdParams }>(
      'select kind, limit_value, params from threshold where threshold_id = $1 and account_id = $2 and deleted_at is null',
      [id, writer.accountId])
    if (rows.length === 0) throw notFound()
    const [before] = rows
    const limit = patch.limit === undefined ? before.limit_value : checkLimit(before.kind, patch.limit)
    const params = patch.params === undefined ? before.params : checkParams(before.kind, patch.params)
    const isSameLimit = limit === null || before.limit_value === null ? limit === before.limit_value
      : compareExact(parseExact(limit), parseExact(before.limit_value)) === 0
    if (!isSameLimit || !isDeepStrictEqual(params, before.params)) {
      await client.query(
        'update threshold set limit_value = $2, params = $3, version = version + 1, version_from = $4 where threshold_id = $1',
        [id, limit, params, writer.now])
    }
    if (patch.contacts !== undefined) {
      await checkContacts(client, writer.accountId, patch.contacts)
      await client.query('update threshold set contacts = $2 where threshold_id = $1', [id, patch.contacts])
    }
    return finish(client, writer, 'threshold.change', id, { members: Object.keys(patch) })
  })
}

/**
 * Ends a threshold. Its alerts stay as they are, and messages that were not handed over yet are dropped.
 * @throws ApiError 404 `threshold-not-found`
 */
export async function deleteThreshold(pool: Pool, writer: ThresholdWriter, id: string): Promise<void> {
  await inTransaction(pool, async (client) => {
    const epoch = await beginRegistryWrite(client, writer.utilityId)
    const { rowCount } = await client.query(
      'update threshold set deleted_at = $3 where threshold_id = $1 and account_id = $2 and deleted_at is null',
      [id, writer.accountId, writer.now])
    if (rowCount === 0) throw notFound()
    await countThresholds(client, writer, epoch, -1)
    await client.query(
      `with unsent as (
         select m.message_id from message m join alert a using (alert_id)
          where a.threshold_id = $1 and m.purpose = 'alert'
            and (m.state = 'pending' or m.state = 'sending' and m.handed_at is null)
          order by m.message_id for update of m)
       update message m set state = 'dropped', done_at = $2, lease = null, leased_until = null
         from unsent where m.message_id = unsent.message_id`, [id, writer.now])
    await audit(client, writer, 'threshold.delete', id, {})
  })
}

/** Judges the account by its thresholds as they are now, and shows the one that was written. */
async function finish(
  client: Queryable, writer: ThresholdWriter, action: string, id: string, detail: Record<string, unknown>,
): Promise<ThresholdWrite> {
  const { messages } = await reevaluateAccounts(client, {
    utilityId: writer.utilityId, zone: getZone(writer.zone), accountIds: [writer.accountId], deliveryId: null,
    now: writer.now, secrets: writer.secrets,
  })
  await judgeLater(client, writer)
  await audit(client, writer, action, id, detail)
  return { threshold: await findThreshold(client, writer.accountId, id), messages }
}

/** What waits for a period's end is judged by the schedule: the reads of the periods that run may all be there. */
async function judgeLater(client: Queryable, writer: ThresholdWriter): Promise<void> {
  const zone = getZone(writer.zone)
  const nowS = writer.now.getTime() / 1000
  const today = zone.dayOf(nowS)
  const { rows: [{ billing_day: billingDay }] } = await client.query<{ billing_day: number | null }>(
    'select billing_day from account where account_id = $1', [writer.accountId])
  const periods = (await loadPeriods(client, [writer.accountId])).get(writer.accountId) ?? []
  await enqueueDue(client, writer.utilityId, [{
    fromDay: periodOf(today, { billingDay, periods }).startDay, toDay: today + 1, dueS: nowS, everyKind: false, history: false,
    accountIds: [writer.accountId] }])
}

/** Keeps account.thresholds right: settling locks and judges exactly the accounts where it is not zero. */
async function countThresholds(db: Queryable, writer: ThresholdWriter, epoch: number, by: number): Promise<void> {
  const { rows } = await db.query<{ thresholds: number }>(
    'update account set thresholds = thresholds + $2, epoch = $3 where account_id = $1 returning thresholds',
    [writer.accountId, by, epoch])
  if (by > 0 && rows[0].thresholds > MAX_THRESHOLDS) {
    throw new ApiError(422, 'too-many-thresholds', `An account has at most ${MAX_THRESHOLDS} thresholds.`)
  }
}

async function findMeter(db: Queryable, accountId: number, meter: string): Promise<number> {
  const { rows } = await db.query<{ meter_id: number }>(
    `select m.meter_id from meter m
      where m.id = $2 and exists (select 1 from meter_assignment s where s.meter_id = m.meter_id and s.account_id = $1)`,
    [accountId, meter])
  if (rows.length === 0) throw new ApiError(422, 'unknown-meter', 'The account has no such meter.', { at: '/meter' })
  return rows[0].meter_id
}

/** A cost, or the hours of a time-of-use period, can be told only by the account's rate. */
async function checkRate(db: Queryable, writer: ThresholdWriter, touPeriod: string | null): Promise<void> {
  const zone = getZone(writer.zone)
  const rates = await loadRateBook(db, writer.utilityId, zone, [writer.accountId])
  const version = rates.versionAt(writer.accountId, zone.dayOf(writer.now.getTime() / 1000))
  if (version === undefined) {
    throw new ApiError(422, 'no-rate', 'The account has no rate today.', {
      at: touPeriod === null ? '/kind' : '/touPeriod', help: 'PUT /v1/rates/{id}, and give the account {"rate":{"id","from"}}.' })
  }
  if (touPeriod !== null && !version.periods.includes(touPeriod)) {
    throw new ApiError(422, 'unknown-tou-period', 'The account\'s rate has no such time-of-use period.', { at: '/touPeriod', supported: version.periods })
  }
}

async function checkContacts(db: Queryable, accountId: number, contacts: readonly string[] | null | undefined): Promise<void> {
  if (contacts === null || contacts === undefined) return
  const { rows } = await db.query<{ contact_id: string }>(
    'select contact_id from contact where account_id = $1 and deleted_at is null and contact_id = any($2::uuid[])',
    [accountId, contacts])
  const known = new Set(rows.map((r) => r.contact_id))
  const missing = contacts.findIndex((id) => !known.has(id.toLowerCase()))
  if (missing >= 0) {
    throw new ApiError(422, 'unknown-contact', 'The account has no such contact.', { at: `/contacts/${missing}` })
  }
}

function toView(row: Row): ThresholdView {
  const kind = row.kind as ThresholdKind
  return {
    id: row.threshold_id,
    kind,
    flow: flowNames[row.flow],
    meter: row.meter,
    limit: row.limit_value === null ? null : Number(row.limit_value),
    unit: unitOf({ kind, currency: row.currency }),
    window: windowOf(kind, row.params),
    direction: kindInfo(kind).direction,
    touPeriod: row.tou_period,
    params: row.params,
    contacts: row.contacts,
    version: row.version,
    createdAt: row.created_at.toISOString(),
    versionFrom: row.version_from.toISOString(),
  }
}

async function audit(
  db: Queryable, writer: ThresholdWriter, action: string, id: string, detail: Record<string, unknown>,
): Promise<void> {
  await writeAudit(db, {
    utilityId: writer.utilityId, actor: writer.actor, action, subject: writer.account, detail: { threshold: id, ...detail },
  })
}

function notFound(): ApiError {
  return new ApiError(404, 'threshold-not-found', 'There is no such threshold.')
}
