import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pino, { type Logger } from 'pino'
import { Registry, collectDefaultMetrics } from 'prom-client'
import { ensureFirstOperatorKey, ensureUtility } from '../engine/access.js'
import type { Settings } from '../engine/config.js'
import { openPool, type Pool } from '../engine/store/db.js'
import { startEmbedded } from '../engine/store/embedded.js'
import { migrate } from '../engine/store/migrate.js'
import { openStorage, type Storage } from '../engine/store/storage.js'
import { VersionSequence } from '../engine/versions.js'
import { IngestMetrics } from '../ingest/metrics.js'
import { IngestPool } from '../ingest/pool.js'

const MB = 1024 * 1024
/** The utility of an installation that has only one. */
export const DEFAULT_UTILITY = 'default'

/** The log of the program: JSON lines, or readable ones on a terminal. Names in `redact` never reach it. */
export function openLog(settings: Pick<Settings, 'logLevel'>): Logger {
  const options = {
    level: settings.logLevel,
    // Only what tells what went wrong: pg's errors carry their whole client.
    serializers: { err: (err: Error & { code?: string }) => ({ type: err.name, code: err.code, message: err.message, stack: err.stack }) },
    redact: ['req.headers.authorization', 'headers.authorization', '*.password', '*.address', '*.key'],
  }
  return process.stderr.isTTY
    ? pino({ ...options, transport: { target: 'pino-pretty', options: { destination: 2, ignore: 'pid,hostname' } } })
    : pino(options, pino.destination(2))
}

/** A migrated database with what every command needs of it. */
export interface Database {
  url: string
  pool: Pool
  storage: Storage
  secretKey: Buffer
  /** Set on the first start of an empty database: the operator key that was made and kept in METERLINE_DIR. */
  firstKey: string | null
  close: () => Promise<void>
}

/** Connects to DATABASE_URL, or starts (or joins) the embedded PostgreSQL, and brings the schema up. */
export async function openDatabase(settings: Settings, log: Logger): Promise<Database> {
  const embedded = settings.databaseUrl === null ? await startEmbedded(settings.meterlineDir, log) : null
  const url = embedded?.url ?? settings.databaseUrl!
  let pool: Pool | undefined
  try {
    const { applied } = await migrate(url)
    if (applied.length > 0) log.info({ applied }, 'schema brought up')
    let closing = false
    pool = openPool(url, 12, 'meterline', (err) => {
      if (!closing) log.warn({ err }, 'an idle database connection broke')
    }, settings.databaseTimeoutSeconds)
    const opened = pool
    const storage = await openStorage(pool)
    await storage.makeAhead(Date.now())
    const utility = await ensureUtility(pool, DEFAULT_UTILITY, { zone: settings.utilityZone })
    mkdirSync(settings.meterlineDir, { recursive: true })
    const firstKey = await ensureFirstOperatorKey(pool, utility.utilityId, (secret) => replaceSecret(settings.meterlineDir, 'operator-key', secret)) ?? null
    return {
      url, pool: opened, storage, secretKey: secretKeyOf(settings), firstKey,
      close: async () => {
        closing = true
        await opened.end()
        await embedded?.stop()
      },
    }
  } catch (err) {
    await pool?.end()
    await embedded?.stop()
    throw err
  }
}

/** 32 bytes from SECRET_KEY, or from a file made once in METERLINE_DIR (mode 0600). */
function secretKeyOf(settings: Settings): Buffer {
  const text = settings.secretKey ?? keepSecret(settings.meterlineDir, 'secret-key', randomBytes(32).toString('base64url'))
  return createHash('sha256').update(text).digest()
}

/** Puts a secret into its file, whole or not at all, and onto the disk. */
function replaceSecret(dir: string, name: string, text: string): void {
  const half = join(dir, `${name}.new`)
  writeFileSync(half, `${text}\n`, { mode: 0o600, flush: true })
  renameSync(half, join(dir, name))
}

/** Keeps a secret in a file of its own, or gives the one that stands there: of two processes that start at once one wins. */
function keepSecret(dir: string, name: string, text: string): string {
  mkdirSync(dir, { recursive: true })
  const path = join(dir, name)
  try {
    writeFileSync(path, `${text}\n`, { mode: 0o600, flag: 'wx' })
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== 'EEXIST') throw err
  }
  return readFileSync(path, 'utf8').trim()
}

/** The ingest side: worker threads behind a pool, with their metrics. */
export interface Ingest {
  pool: IngestPool
  metrics: IngestMetrics
  limits: { atomicBytes: number; maxBodyBytes: number; bodyTimeoutMs: number }
  versions: VersionSequence
}

/** Starts the worker threads on a database. @param clockOffsetMs added to the system's clock */
export function startIngest(
  settings: Settings, database: Database, log: Logger, registry: Registry, onMessages: () => void, clockOffsetMs = 0,
): Ingest {
  const limits = { atomicBytes: settings.atomicMb * MB, maxBodyBytes: settings.maxBodyMb * MB, bodyTimeoutMs: settings.bodyTimeoutSeconds * 1000 }
  const metrics: IngestMetrics = new IngestMetrics(registry, () => pool.inflightBytes, () => pool.queued)
  const pool = new IngestPool({
    workers: settings.workers,
    maxInflightBytes: Math.max(settings.maxInflightMb * MB, limits.atomicBytes),
    settings: {
      databaseUrl: database.url, databaseTimeoutS: settings.databaseTimeoutSeconds, secretKey: new Uint8Array(database.secretKey), atomicBytes: limits.atomicBytes,
      toleranceS: settings.alignToleranceSeconds, clockOffsetMs,
    },
    metrics, onMessages,
    onTrouble: (code) => {
      if (code === null) log.info('pushes settle again')
      else log.error({ code }, 'pushes cannot be settled: senders get 503 and push again')
    },
    onFault: (cause) => log.error({ cause: cause instanceof Error ? cause.stack : cause }, 'a push could not be settled'),
  })
  return { pool, metrics, limits, versions: new VersionSequence(database.pool) }
}

/** A registry of metrics with the process's own. */
export function openMetrics(): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  return registry
}

