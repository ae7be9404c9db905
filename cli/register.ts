import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import type { Settings } from '../engine/config.js'
import { ApiError } from '../engine/problem.js'
import { parseRate, type RateRecord } from '../engine/rates/schema.js'
import { putRate } from '../engine/rates/store.js'
import { applyAccounts } from '../engine/registry/accounts.js'
import { applyMeters } from '../engine/registry/meters.js'
import type { RegistryReceipt } from '../engine/registry/receipt.js'
import { parseRegistryBody, type RegistryKind } from '../engine/registry/records.js'
import { uuidv7 } from '../engine/uuid.js'
import { remoteServer, ServerError } from './client.js'
import { onDatabase, print, utilityOf, withIngest } from './commands.js'
import type { Database } from './runtime.js'

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
