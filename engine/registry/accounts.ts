import { isDeepStrictEqual } from 'node:util'
import { writeAudit } from '../audit.js'
import type { NotifySecrets } from '../contacts/seal.js'
import type { Problem } from '../problem.js'
import { afterRegistryChange } from '../registry-effects.js'
import { writeAccountRates } from '../rates/store.js'
import type { Pool, Queryable } from '../store/db.js'
import { parseDay } from '../time/text.js'
import { getZone } from '../time/zone.js'
import { RecordRefused, emptyReceipt, reject, type RegistryReceipt } from './receipt.js'
import type { RawRecord } from './records.js'
import { checkAccount, type AccountRecord } from './schema.js'
import { pieces, registryWrite } from './write.js'

/** Who writes, for the audit list, and when. */
export interface WriteOptions {
  readonly actor: string
  readonly now: Date
  /** Seal the messages of alerts that the write raises or takes back. */
  readonly secrets: NotifySecrets
}

interface Fields {
  nickname: string | null
  name: string | null
  billing_day: number | null
  zone: string | null
  rate: { id: string; from: string } | null
  groups: Record<string, string>
}

interface AccountState {
  id: string
  accountId: number | null
  before: Fields | null
  now: Fields | null
}

/**
 * Creates and changes accounts in bulk: one transaction, records apply in their order, a bad one is refused alone.
 * Members that a record leaves out stay, null clears; accounts without a record are untouched.
 */
export async function applyAccounts(
  pool: Pool, utilityId: number, records: readonly RawRecord[], options: WriteOptions,
): Promise<RegistryReceipt> {
  const checked = records.map(check)
  const ids = new Set(checked.flatMap((c) => c.problem === undefined ? [c.record.account] : []))
  return registryWrite(pool, utilityId, async (client, epoch) => {
    const result = emptyReceipt(records.length)
    const states = await load(client, utilityId, [...ids])
    for (const c of checked) {
      if (c.problem !== undefined) reject(result, c.problem)
      else applyOne(states, c.record, result)
    }
    const created = [...states.values()].filter((s) => s.before === null && s.now !== null)
    const changed = [...states.values()].filter((s) => s.before !== null && !isDeepStrictEqual(s.before, s.now))
    if (created.length + changed.length === 0) return { changed: false, result }
    await insert(client, utilityId, epoch, created)
    await update(client, epoch, changed)
    const isRated = (s: AccountState): boolean => !isDeepStrictEqual(s.before?.rate ?? null, s.now?.rate ?? null)
    await writeAccountRates(client, utilityId, [...created, ...changed].filter(isRated).map((s) => ({ account: s.id, rate: s.now?.rate ?? null })))
    await afterRegistryChange(client, {
      utilityId, epoch, moves: [], roleChanges: [],
      // A new account has no reads yet; only the billing day and the rate move totals that alerts were judged by.
      accountIds: changed.filter((s) => s.before?.billing_day !== s.now?.billing_day || isRated(s)).map((s) => s.accountId ?? -1),
    }, options)
    const written = [...created, ...changed].map((s) => s.id)
    await writeAudit(client, {
      utilityId, actor: options.actor, action: 'accounts.write', subject: written.length === 1 ? written[0] : 'accounts',
      detail: { created: created.length, changed: changed.length, first: written.slice(0, 20) },
    })
    return { changed: true, result }
  })
}

type Checked = { record: AccountRecord; problem?: undefined } | { problem: Problem }

function check(raw: RawRecord): Checked {
  if (raw.problem !== undefined) return { problem: raw.problem }
  try {
    const record = checkAccount(raw.value, raw.place)
    if (typeof record.zone === 'string') checkZoneOf(record.zone, raw.place)
    if (record.rate !== undefined && record.rate !== null && parseDay(record.rate.from.slice(0, 10)) === undefined) {
      throw new RecordRefused('invalid-record', `${raw.place} /rate/from`, 'The rate is from a local date on, such as 2026-10-01.')
    }
    return { record }
  } catch (err) {
    if (!(err instanceof RecordRefused)) throw err
    return { problem: err.problem }
  }
}

function checkZoneOf(zone: string, place: string): void {
  try {
    getZone(zone)
  } catch (err) {
    if (!(err instanceof RangeError)) throw err
    throw new RecordRefused('unknown-zone', `${place} /zone`, 'This is not the name of a time zone.',
      'Use an IANA name such as America/Chicago.')
  }
}

async function load(client: Queryable, utilityId: number, ids: string[]): Promise<Map<string, AccountState>> {
  const states = new Map<string, AccountState>(ids.map((id) => [id, { id, accountId: null, before: null, now: null }]))
  const { rows } = await client.query<Fields & { account_id: number; id: string }>(
    `select account_id, id, nickname, name, billing_day, zone, rate, groups from account
      where utility_id = $1 and id = any($2::text[])`, [utilityId, ids])
  for (const { account_id: accountId, id, ...fields } of rows) {
    states.set(id, { id, accountId, before: fields, now: fields })
  }
  return states
}

function applyOne(states: Map<string, AccountState>, record: AccountRecord, receipt: RegistryReceipt): void {
  const state = states.get(record.account)
  if (state === undefined) throw new Error('a record without its state')
  const old = state.now ?? { nickname: null, name: null, billing_day: null, zone: null, rate: null, groups: {} }
  const next: Fields = {
    nickname: pick(record.nickname, old.nickname),
    name: pick(record.name, old.name),
    billing_day: pick(record.billingDay, old.billing_day),
    zone: pick(record.zone, old.zone),
    rate: pick(record.rate, old.rate),
    groups: mergeGroups(old.groups, record.groups),
  }
  if (state.now === null) receipt.created++
  else if (isDeepStrictEqual(next, state.now)) receipt.unchanged++
  else receipt.changed++
  state.now = next
}

/** Left out: as it was; null: cleared. */
function pick<T>(given: T | null | undefined, old: T | null): T | null {
  return given === undefined ? old : given
}

/** Groups merge by name: a group that is left out stays, null takes the account out of it. */
function mergeGroups(old: Record<string, string>, given: Record<string, string | null> | null | undefined): Record<string, string> {
  if (given === undefined) return old
  if (given === null) return {}
  const next = new Map(Object.entries(old))
  for (const [group, value] of Object.entries(given)) {
    if (value === null) next.delete(group)
    else next.set(group, value)
  }
  return Object.fromEntries(next)
}

const COLUMNS = 'id text, account_id int, nickname text, name text, billing_day int, zone text, rate jsonb, groups jsonb'

function rowsOf(states: readonly AccountState[]): string {
  return JSON.stringify(states.map((s) => ({ id: s.id, account_id: s.accountId, ...s.now })))
}

async function insert(client: Queryable, utilityId: number, epoch: number, states: AccountState[]): Promise<void> {
  for (const piece of pieces(states)) {
    await client.query(
      `insert into account (utility_id, id, nickname, name, billing_day, zone, rate, groups, epoch)
       select $1, r.id, r.nickname, r.name, r.billing_day, r.zone, r.rate, r.groups, $2
         from jsonb_to_recordset($3::jsonb) as r(${COLUMNS})`, [utilityId, epoch, rowsOf(piece)])
  }
}

async function update(client: Queryable, epoch: number, states: AccountState[]): Promise<void> {
  for (const piece of pieces(states)) {
    await client.query(
      `update account a
          set nickname = r.nickname, name = r.name, billing_day = r.billing_day, zone = r.zone, rate = r.rate,
              groups = r.groups, epoch = $1
         from jsonb_to_recordset($2::jsonb) as r(${COLUMNS})
        where a.account_id = r.account_id`, [epoch, rowsOf(piece)])
  }
}
