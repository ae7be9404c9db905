import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { SingleBar } from 'cli-progress'
import { Registry } from 'prom-client'
import type { Settings } from '../engine/config.js'
import { ApiError } from '../engine/problem.js'
import { parseRate, type RateRecord } from '../engine/rates/schema.js'
import { putRate } from '../engine/rates/store.js'
import type { Receipt } from '../engine/receipt.js'
import { applyAccounts } from '../engine/registry/accounts.js'
import { applyMeters } from '../engine/registry/meters.js'
import type { RegistryReceipt } from '../engine/registry/receipt.js'
import { parseRegistryBody, type RegistryKind } from '../engine/registry/records.js'
import { migrate } from '../engine/store/migrate.js'
import { moveToTimescale } from '../engine/store/to-timescale.js'
import { findUtility, type UtilityRecord } from '../engine/utilities.js'
import { uuidv7 } from '../engine/uuid.js'
import type { IngestPool } from '../ingest/pool.js'
import { runSimulation } from '../fixtures/simulate.js'
import type { SimulationOptions } from '../fixtures/simulation.js'
import { remoteServer, ServerError } from './client.js'
import { DEFAULT_UTILITY, openDatabase, openLog, startIngest, type Database } from './runtime.js'

/** Works on the database of the settings, and closes it. */
export async function onDatabase<T>(settings: Settings, work: (database: Database) => Promise<T>): Promise<T> {
  const database = await openDatabase(settings, openLog({ logLevel: 'warn' }))
  try {
    return await work(database)
  } finally {
    await database.close()
  }
}

/** The utility named, or the default one. @throws Error where there is none */
export async function utilityOf(database: Database, id: string | null): Promise<UtilityRecord> {
  const utility = await findUtility(database.pool, id ?? DEFAULT_UTILITY)
  if (utility === undefined) throw new Error(`there is no utility ${id ?? DEFAULT_UTILITY}`)
  return utility
}

/** Prints JSON for people and for jq. */
export function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
}

/** `meterline migrate [--to-timescale]` */
export async function migrateCommand(settings: Settings, toTimescale: boolean): Promise<number> {
  if (toTimescale) await moveStorage(settings)
  await onDatabase(settings, async (database) => {
    const { rows } = await database.pool.query<{ number: number }>('select max(number) as number from schema_migration')
    process.stdout.write(`schema ${rows[0].number}, storage ${database.storage.mode}\n`)
  })
  return 0
}

async function moveStorage(settings: Settings): Promise<void> {
  if (settings.databaseUrl === null) {
    throw new Error('the embedded PostgreSQL has no TimescaleDB: pg_dump it, restore it on a server that has the extension, ' +
      'set DATABASE_URL to that, and run this again (docs/operations.md)')
  }
  await migrate(settings.databaseUrl)
  const moved = await moveToTimescale(settings.databaseUrl, ({ table, partition, rows }) => {
    process.stderr.write(`${table}: ${rows} rows, up to ${partition}\n`)
  })
  process.stderr.write(`moved and verified: ${moved.channel_day} day blocks, ${moved.system_load} hours of load\n`)
}

/**
 * `meterline register PATH…`: files named accounts… or meters…, whatever their format, and rates… in JSON.
 * @returns 2 when a record was refused
 */
export async function registerCommand(settings: Settings, paths: readonly string[], utility: string | null): Promise<number> {
  const client = remoteServer(settings)
  const refusedRates = await registerRates(settings, paths.filter(isRates), utility)
  const files = paths.filter((path) => !isRates(path)).map((path) => ({ path, kind: kindOf(path), bytes: readFileSync(path) }))
    .sort((a, b) => a.kind < b.kind ? -1 : a.kind > b.kind ? 1 : 0)
  let refused = refusedRates
  const report = (path: string, receipt: RegistryReceipt): void => {
    print({ file: path, ...receipt })
    refused += receipt.rejected
  }
  if (client !== null) {
    for (const f of files) {
      report(f.path, await client.send<RegistryReceipt>('PUT', `/v1/${f.kind}`, f.bytes, { 'content-type': typeOf(f.path) }))
    }
    client.close()
  } else if (files.length > 0) {
    await onDatabase(settings, async (database) => {
      const { utilityId } = await utilityOf(database, utility)
      const options = { actor: 'cli', now: new Date(), secrets: { secretKey: database.secretKey } }
      for (const f of files) {
        const records = parseRegistryBody(f.kind, basename(f.path), f.bytes)
        report(f.path, f.kind === 'accounts' ? await applyAccounts(database.pool, utilityId, records, options)
          : (await applyMeters(database.pool, utilityId, records, options)).receipt)
      }
      await settleWaiting(settings, database, utilityId)
    })
  }
  return refused > 0 ? 2 : 0
}

function isRates(path: string): boolean {
  return basename(path).toLowerCase().startsWith('rate')
}

/** Rates from JSON files: an array of {"rate","name","versions"}. @returns how many were refused */
async function registerRates(settings: Settings, paths: readonly string[], utility: string | null): Promise<number> {
  let refused = 0
  for (const path of paths) {
    const rates = readRates(path)
    const done: { rate: string; outcome: string }[] = []
    const put = async (write: (id: string, record: RateRecord) => Promise<string>): Promise<void> => {
      for (const { id, record } of rates) {
        try {
          done.push({ rate: id, outcome: await write(id, record) })
        } catch (err) {
          if (!(err instanceof ApiError) && !(err instanceof ServerError)) throw err
          refused++
          done.push({ rate: id, outcome: err.message })
        }
      }
    }
    const client = remoteServer(settings)
    if (client === null) {
      await onDatabase(settings, async (database) => {
        const { utilityId } = await utilityOf(database, utility)
        await put((id, record) => putRate(database.pool, utilityId, id, record, { actor: 'cli', now: new Date() }))
      })
    } else {
      await put(async (id, record) => {
        await client.send('PUT', `/v1/rates/${encodeURIComponent(id)}`, Buffer.from(JSON.stringify(record)), { 'content-type': 'application/json' })
        return 'written'
      })
      client.close()
    }
    print({ file: path, rates: done })
  }
  return refused
}

function readRates(path: string): { id: string; record: RateRecord }[] {
  const value: unknown = JSON.parse(readFileSync(path, 'utf8'))
  if (!Array.isArray(value)) throw new Error(`${path}: a file of rates is a JSON array of {"rate","name","versions"}`)
  return value.map((entry: unknown, i) => {
    const { rate: id, ...record } = entry as { rate?: unknown }
    if (typeof id !== 'string' || id === '') throw new Error(`${path}: record ${i + 1} has no "rate", which is its id`)
    return { id, record: parseRate(record, `${path} record ${i + 1} `) }
  })
}

/** Reads that waited in quarantine for a meter that is registered now. */
async function settleWaiting(settings: Settings, database: Database, utilityId: number): Promise<void> {
  const { rows } = await database.pool.query<{ waiting: boolean }>(
    `select exists (
       select from quarantine q
        where q.utility_id = $1 and q.settled_by is null and q.reason = 'unknown-meter' and q.record is not null
          and (exists (select from meter m where m.utility_id = q.utility_id and m.id = q.meter)
               or exists (select from meter_alias a where a.utility_id = q.utility_id and a.alias = q.meter))) as waiting`, [utilityId])
  if (!rows[0].waiting) return
  const receipt = await withIngest(settings, database, (pool) => pool.replay({
    utilityId, deliveryId: uuidv7(Date.now()), reason: null, source: null, meter: null, onlyRegistered: true }))
  print({ settled: 'reads that waited for a meter', ...receipt })
}

function kindOf(path: string): RegistryKind {
  const name = basename(path).toLowerCase()
  if (name.startsWith('account')) return 'accounts'
  if (name.startsWith('meter')) return 'meters'
  throw new Error(`${path}: the name must begin with "accounts" or "meters", so that it is known what the records are`)
}

function typeOf(path: string): string {
  if (path.endsWith('.csv')) return 'text/csv'
  return path.endsWith('.json') ? 'application/json' : 'application/x-ndjson'
}

/** `meterline withdraw DELIVERY` */
export async function withdrawCommand(settings: Settings, delivery: string, utility: string | null): Promise<number> {
  checkId(delivery, 'delivery')
  const client = remoteServer(settings)
  if (client !== null) {
    print(await client.json<Receipt>('POST', `/v1/deliveries/${encodeURIComponent(delivery)}/withdraw`))
    client.close()
  } else {
    await onDatabase(settings, async (database) => {
      const { utilityId } = await utilityOf(database, utility)
      print(await withIngest(settings, database, (pool) => pool.withdraw({
        utilityId, deliveryId: delivery, withdrawalId: uuidv7(Date.now()) })))
    })
  }
  return 0
}

/** `meterline replay` @returns 2 when something was refused again */
export async function replayCommand(
  settings: Settings, filter: { reason: string | null; source: string | null }, utility: string | null,
): Promise<number> {
  const client = remoteServer(settings)
  let receipt: Receipt
  if (client !== null) {
    receipt = await client.json<Receipt>('POST', '/v1/quarantine/replay', {
      ...(filter.reason === null ? {} : { reason: filter.reason }), ...(filter.source === null ? {} : { source: filter.source }) })
    client.close()
  } else {
    receipt = await onDatabase(settings, async (database) => {
      const { utilityId } = await utilityOf(database, utility)
      return withIngest(settings, database, (pool) => pool.replay({
        utilityId, deliveryId: uuidv7(Date.now()), ...filter, meter: null, onlyRegistered: false }))
    })
  }
  print(receipt)
  return receipt.quarantined + receipt.rejected > 0 ? 2 : 0
}

async function withIngest<T>(settings: Settings, database: Database, work: (pool: IngestPool) => Promise<T>): Promise<T> {
  const ingest = startIngest(settings, database, openLog({ logLevel: 'warn' }), new Registry(), () => undefined)
  try {
    return await work(ingest.pool)
  } finally {
    await ingest.pool.close()
  }
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** @throws Error for a text that no id looks like, before the database is asked */
export function checkId(id: string, what: string): void {
  if (!UUID.test(id)) throw new Error(`${id} is not the id of a ${what}`)
}

/** `meterline simulate` */
export async function simulateCommand(
  settings: Settings, options: Omit<SimulationOptions, 'zone' | 'url' | 'key' | 'kafka'>, utility: string | null,
): Promise<number> {
  const zone = settings.utilityZone
  if (zone === null) throw new Error('simulate needs UTILITY_ZONE, the zone of the utility that it plays')
  if (options.to === 'http' && (settings.meterlineUrl === null || settings.meterlineKey === null)) {
    throw new Error('simulate --to http needs a running server: --url and --key, or METERLINE_URL and METERLINE_KEY')
  }
  if (options.to === 'kafka') {
    if (settings.kafkaBrokers.length === 0) throw new Error('simulate --to kafka needs KAFKA_BROKERS')
    if (options.dir === undefined && (settings.meterlineUrl === null || settings.meterlineKey === null)) {
      throw new Error('simulate --to kafka registers its meters at a running server (--url and --key), or writes files for meterline register (--dir)')
    }
  } else if (utility !== null) throw new Error('simulate --utility is the header of Kafka messages: it needs --to kafka')
  const bar = process.stderr.isTTY ? new SingleBar({ format: '{phase} {bar} {percentage}% {eta_formatted}', stream: process.stderr }) : null
  bar?.start(1, 0, { phase: '' })
  const summary = await runSimulation({
    ...options, zone, kafka: { settings, utility }, ...(settings.meterlineUrl === null ? {} : { url: settings.meterlineUrl }),
    ...(settings.meterlineKey === null ? {} : { key: settings.meterlineKey }),
  }, ({ phase, done, total }) => {
    bar?.setTotal(total)
    bar?.update(Math.min(done, total), { phase })
  })
  bar?.stop()
  const { ledger: _ledger, ...shown } = summary
  print(shown)
  return summary.differences.length > 0 ? 1 : 0
}

/** `meterline status`: freshness, completeness, lag and quarantine at a glance. */
export async function statusCommand(settings: Settings): Promise<number> {
  if (settings.meterlineUrl !== null) throw new Error('status looks into the database: leave --url and METERLINE_URL out')
  return onDatabase(settings, async (database) => {
    const { rows } = await database.pool.query(
      `select u.id as utility, u.zone,
              (select count(*) from meter m where m.utility_id = u.utility_id) as meters,
              (select count(*) from account a where a.utility_id = u.utility_id) as accounts,
              (select max(settled_at) from delivery d where d.utility_id = u.utility_id) as "lastDelivery",
              (select max(last_end) from delivery d where d.utility_id = u.utility_id) as "dataThrough",
              (select count(*) from delivery d where d.utility_id = u.utility_id and not complete) as "incompleteDeliveries",
              (select count(*) from quarantine q where q.utility_id = u.utility_id and settled_by is null) as quarantined,
              (select count(*) from alert l where l.utility_id = u.utility_id and state = 'raised') as "standingAlerts",
              (select count(*) from message e where e.utility_id = u.utility_id and state = 'pending') as "pendingMessages",
              (select count(*) from message e where e.utility_id = u.utility_id and state in ('failed', 'unknown')) as "failedMessages"
         from utility u order by u.utility_id`)
    print(rows)
    const { rows: positions } = await database.pool.query(
      `select topic, consumer_group as "group", kafka_partition as partition, next_offset as position,
              greatest(end_offset - next_offset, 0) as lag, end_seen_at as "lagAsOf", updated_at as "lastMoved"
         from kafka_position order by 1, 2, 3`)
    if (positions.length > 0) print({ kafka: positions })
    return 0
  })
}
