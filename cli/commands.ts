import { Registry } from 'prom-client'
import type { Settings } from '../engine/config.js'
import type { Receipt } from '../engine/receipt.js'
import { migrate } from '../engine/store/migrate.js'
import { moveToTimescale } from '../engine/store/to-timescale.js'
import { findUtility, type UtilityRecord } from '../engine/utilities.js'
import { uuidv7 } from '../engine/uuid.js'
import type { IngestPool } from '../ingest/pool.js'
import { remoteServer } from './client.js'
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

/** Works with worker threads on the database, and ends them. */
export async function withIngest<T>(settings: Settings, database: Database, work: (pool: IngestPool) => Promise<T>): Promise<T> {
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
