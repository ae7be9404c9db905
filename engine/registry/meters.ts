import { isDeepStrictEqual } from 'node:util'
import { writeAudit } from '../audit.js'
import type { Problem } from '../problem.js'
import { afterRegistryChange, type ServiceSpan } from '../registry-effects.js'
import type { Pool, Queryable } from '../store/db.js'
import { getZone, type Zone } from '../time/zone.js'
import type { WriteOptions } from './accounts.js'
import { assignmentsAfter, type Assignment } from './assignments.js'
import { loadAccountIds, loadMeters, writeMeters, type MeterFields, type MeterState } from './meter-rows.js'
import { RecordRefused, emptyReceipt, reject, type RegistryReceipt } from './receipt.js'
import type { RawRecord } from './records.js'
import { checkMeter, type MeterRecord } from './schema.js'
import { registryWrite } from './write.js'

/** A receipt, and whether quarantined reads may settle now. */
export interface MetersResult {
  readonly receipt: RegistryReceipt
  /** True where a meter or an alias is new: reads that waited for that name can be replayed. */
  readonly newNames: boolean
}

type Checked = { record: MeterRecord; place: string; problem?: undefined } | { problem: Problem }

const NEW_METER: MeterFields = {
  aliases: [], role: 'main', status: 'active', interval_s: null, flows: null, multiplier: 1, service_kw: null, assignments: [],
}

/**
 * Creates and changes meters and their assignments in bulk: one transaction, records apply in their order, a bad one is
 * refused alone. Members that a record leaves out stay, null clears; meters without a record are untouched.
 */
export async function applyMeters(
  pool: Pool, utilityId: number, records: readonly RawRecord[], options: WriteOptions,
): Promise<MetersResult> {
  const checked = records.map(check)
  return registryWrite(pool, utilityId, async (client, epoch) => {
    const receipt = emptyReceipt(records.length)
    const registry = await Registry.load(client, utilityId, checked.flatMap((c) => c.problem === undefined ? [c.record] : []))
    for (const c of checked) {
      if (c.problem !== undefined) reject(receipt, c.problem)
      else registry.apply(c.record, c.place, receipt)
    }
    const { created, changed } = registry.differences()
    const result: MetersResult = { receipt, newNames: created.length > 0 || changed.some(hasNewName) }
    if (created.length + changed.length === 0) return { changed: false, result }
    await writeMeters(client, { utilityId, epoch, created, changed, accounts: registry.accounts })
    await afterRegistryChange(client, consequences(utilityId, epoch, changed, registry.accounts), options)
    const ids = [...created, ...changed].map((s) => s.id)
    await writeAudit(client, {
      utilityId, actor: options.actor, action: 'meters.write', subject: ids.length === 1 ? ids[0] : 'meters',
      detail: { created: created.length, changed: changed.length, first: ids.slice(0, 20) },
    })
    return { changed: true, result }
  })
}

function check(raw: RawRecord): Checked {
  if (raw.problem !== undefined) return { problem: raw.problem }
  try {
    const record = checkMeter(raw.value, raw.place)
    const interval = record.intervalSeconds
    if (typeof interval === 'number' && 86_400 % interval !== 0) {
      throw new RecordRefused('invalid-record', `${raw.place} /intervalSeconds`, 'An interval length divides a day of 86400 seconds.')
    }
    return { record, place: raw.place }
  } catch (err) {
    if (!(err instanceof RecordRefused)) throw err
    return { problem: err.problem }
  }
}

/** The part of the registry that a bulk write touches, in memory: what stands, and what the records make of it. */
class Registry {
  readonly accounts: ReadonlyMap<string, number>
  readonly #meters: Map<string, MeterState>
  /** Who holds a name, by id or alias: both live in one space, for a read names its meter by either. */
  readonly #names: Map<string, MeterState>
  readonly #zone: Zone | null

  private constructor(states: MeterState[], accounts: ReadonlyMap<string, number>, zone: Zone | null) {
    this.#meters = new Map(states.map((s) => [s.id, s]))
    this.#names = new Map(this.#meters)
    for (const s of states) for (const alias of s.now.aliases) this.#names.set(alias, s)
    this.accounts = accounts
    this.#zone = zone
  }

  static async load(client: Queryable, utilityId: number, records: readonly MeterRecord[]): Promise<Registry> {
    const names = new Set<string>()
    const accounts = new Set<string>()
    for (const record of records) {
      names.add(record.meter)
      for (const alias of record.aliases ?? []) names.add(alias)
      if (typeof record.account === 'string') accounts.add(record.account)
      for (const a of record.assignments ?? []) accounts.add(a.account)
    }
    const { rows } = await client.query<{ zone: string | null }>('select zone from utility where utility_id = $1', [utilityId])
    const states = await loadMeters(client, utilityId, [...names])
    for (const s of states) for (const a of s.now.assignments) accounts.add(a.account)
    const known = await loadAccountIds(client, utilityId, [...accounts])
    return new Registry(states, known, rows[0].zone === null ? null : getZone(rows[0].zone))
  }

  /** Applies the record and counts what came of it; a record that is refused leaves everything as it was. */
  apply(record: MeterRecord, place: string, receipt: RegistryReceipt): void {
    const state = this.#meters.get(record.meter)
    let next: MeterFields
    try {
      next = this.#next(state, record, place)
    } catch (err) {
      if (!(err instanceof RecordRefused)) throw err
      reject(receipt, err.problem)
      return
    }
    if (state === undefined) {
      const made: MeterState = { id: record.meter, meterId: null, before: null, now: next }
      this.#meters.set(record.meter, made)
      this.#names.set(record.meter, made)
      for (const alias of next.aliases) this.#names.set(alias, made)
      receipt.created++
    } else if (isDeepStrictEqual(next, state.now)) {
      receipt.unchanged++
    } else {
      for (const alias of state.now.aliases) this.#names.delete(alias)
      for (const alias of next.aliases) this.#names.set(alias, state)
      state.now = next
      receipt.changed++
    }
  }

  differences(): { created: MeterState[]; changed: MeterState[] } {
    const all = [...this.#meters.values()]
    return {
      created: all.filter((s) => s.before === null),
      changed: all.filter((s) => s.before !== null && !isDeepStrictEqual(s.before, s.now)),
    }
  }

  #next(state: MeterState | undefined, record: MeterRecord, place: string): MeterFields {
    const old = state?.now ?? NEW_METER
    const aliases = record.aliases === undefined ? old.aliases : [...new Set(record.aliases ?? [])].sort()
    const assignments = assignmentsAfter(old.assignments, record, this.#zone, place)
    this.#checkNames(state, record, aliases, place)
    const unknown = assignments.find((a) => !this.accounts.has(a.account))
    if (unknown !== undefined) {
      throw new RecordRefused('unknown-account', place, `There is no account "${unknown.account}".`,
        'Register accounts before the meters that serve them.')
    }
    return {
      aliases,
      role: record.role === undefined ? old.role : record.role ?? 'main',
      status: record.status === undefined ? old.status : record.status ?? 'active',
      interval_s: record.intervalSeconds === undefined ? old.interval_s : record.intervalSeconds,
      flows: record.flows === undefined ? old.flows : record.flows === null ? null : [...new Set(record.flows)],
      multiplier: record.multiplier === undefined ? old.multiplier : record.multiplier ?? 1,
      service_kw: record.serviceKw === undefined ? old.service_kw : record.serviceKw,
      assignments,
    }
  }

  #checkNames(state: MeterState | undefined, record: MeterRecord, aliases: readonly string[], place: string): void {
    if (state === undefined && this.#names.has(record.meter)) {
      throw new RecordRefused('alias-taken', `${place} /meter`, `"${record.meter}" is an alias of another meter.`)
    }
    for (const alias of aliases) {
      const holder = this.#names.get(alias)
      if (alias === record.meter || (holder !== undefined && holder !== state)) {
        throw new RecordRefused('alias-taken', `${place} /aliases`, alias === record.meter
          ? 'A meter\'s own id is no alias.'
          : `"${alias}" names another meter already.`)
      }
    }
  }
}

function hasNewName(state: MeterState): boolean {
  return state.now.aliases.some((alias) => !(state.before?.aliases.includes(alias) ?? false))
}

/** What totals, load and alerts must hear of; a meter that was just made has no reads yet. */
function consequences(utilityId: number, epoch: number, changed: readonly MeterState[], accounts: ReadonlyMap<string, number>) {
  const moved = changed.filter((s) => !isDeepStrictEqual(s.before?.assignments, s.now.assignments))
  const names = new Set(moved.flatMap((s) => [...s.before?.assignments ?? [], ...s.now.assignments].map((a) => a.account)))
  return {
    utilityId,
    epoch,
    moves: moved.flatMap((s) => movesOf(s, accounts)),
    accountIds: [...names].map((name) => accounts.get(name) ?? -1),
    roleChanges: changed.filter((s) => s.before?.role !== s.now.role)
      .map((s) => ({ meterId: s.meterId ?? -1, from: s.before?.role ?? 'main', to: s.now.role })),
  }
}

/** The meter's assignments that are not what they were, old and new; those that stay are nobody's news. */
function movesOf(state: MeterState, accounts: ReadonlyMap<string, number>): ServiceSpan[] {
  const before = state.before?.assignments ?? []
  const now = state.now.assignments
  const without = (list: readonly Assignment[], others: readonly Assignment[]): Assignment[] =>
    list.filter((a) => !others.some((b) => a.account === b.account && a.fromS === b.fromS && a.toS === b.toS))
  return [...without(before, now), ...without(now, before)].map((a) => ({
    meterId: state.meterId ?? -1, accountId: accounts.get(a.account) ?? -1, fromS: a.fromS, toS: a.toS }))
}
