import pg from 'pg'

/** A connection that a transaction runs on. */
export type Client = pg.PoolClient | pg.Client
/** Anything that can run a query: a pool outside of transactions, a client inside. */
export type Queryable = Pick<pg.Client, 'query'>
export type Pool = pg.Pool

const INT8 = 20
const NUMERIC = 1700
const DATE = 1082

/**
 * Type parsers of every Meterline connection: int8 as number (counts and microseconds stay below 2^53), numeric as its
 * exact text, date as 'YYYY-MM-DD' (never a Date, which would shift by the machine's zone); the rest as pg has it.
 */
export const typeParsers: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') => {
    if (format !== 'binary') {
      if (oid === INT8) return Number
      if (oid === NUMERIC || oid === DATE) return (text: string) => text
    }
    return pg.types.getTypeParser(oid, format) as unknown
  }) as pg.CustomTypesConfig['getTypeParser'],
}

/** Seconds that a statement may take where DATABASE_TIMEOUT_SECONDS does not say otherwise. */
export const STATEMENT_TIMEOUT_S = 30
/** The server answers that a statement took too long; only a server that is cut off leaves that to this side. */
const GRACE_MS = 1000

/**
 * Opens a pool whose connections wait for nothing for ever. A statement ends after `timeoutS` seconds, on the server and,
 * where no answer comes through, here; a lock is waited for two thirds of that. A transaction whose client has gone
 * silent, or cannot be reached any more, is ended by the server after twice that: its locks go with it.
 *
 * @param onError told of errors on idle connections, which are not anybody's query
 */
export function openPool(
  url: string, max: number, name: string, onError: (err: Error) => void, timeoutS: number = STATEMENT_TIMEOUT_S,
): Pool {
  const pool = new pg.Pool({
    ...withOptions(url, serverTimeouts(timeoutS)),
    max,
    application_name: name,
    types: typeParsers,
    query_timeout: timeoutS * 1000 + GRACE_MS,
    connectionTimeoutMillis: Math.min(10_000, timeoutS * 1000),
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  })
  pool.on('error', onError)
  // The pool listens to idle clients only. One that breaks while it is used fails its query, and tells it by this event
  // besides, which nobody else hears: without a listener it would end the process.
  pool.on('connect', (client) => client.on('error', () => undefined))
  return pool
}

function serverTimeouts(timeoutS: number): string {
  const settings = {
    statement_timeout: `${timeoutS}s`,
    lock_timeout: `${Math.ceil(timeoutS * 667)}ms`,
    idle_in_transaction_session_timeout: `${timeoutS * 2}s`,
    // A client that cannot be reached: noticed while the server waits for it, and while it sends to it.
    tcp_keepalives_idle: String(timeoutS),
    tcp_keepalives_interval: '5',
    tcp_keepalives_count: '3',
    tcp_user_timeout: `${timeoutS * 2}s`,
  }
  return Object.entries(settings).map(([setting, value]) => `-c ${setting}=${value}`).join(' ')
}

/** The URL with options for the server; what the URL itself says goes before them. */
function withOptions(url: string, options: string): pg.ClientConfig {
  if (!/[?&]options=/.test(url)) return { connectionString: url, options }
  const parts = new URL(url)
  parts.searchParams.set('options', `${options} ${parts.searchParams.get('options')}`)
  return { connectionString: parts.href }
}

/**
 * A connection of its own with the pool's settings, not yet connected, for work that waits long and rightly: upkeep that
 * detaches partitions behind every open reader. Only its statements have no time limits.
 */
export function patientClient(pool: Pool): pg.Client {
  const { options } = pool
  const client = new pg.Client({
    ...options, types: typeParsers, query_timeout: 0,
    options: `${options.options ?? ''} -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0`,
  })
  client.on('error', () => undefined)
  return client
}

/** The pool for single statements that must answer within `waitMs`; the connection of one that does not is destroyed. */
export function impatient(pool: Pool, waitMs: number): Queryable {
  // pg reads query_timeout of a single query too; its types know it of connections only.
  const query = (text: string, values: unknown[] = []): Promise<pg.QueryResult> =>
    pool.query({ text, values, query_timeout: waitMs } as pg.QueryConfig)
  return { query } as Queryable
}

/**
 * Runs `work` on a connection of the pool. After an error a transaction left open is rolled back and the error is thrown;
 * where the roll-back fails too, or no answer came at all, the connection is destroyed, not returned to the pool.
 */
export async function onConnection<T>(pool: Pick<Pool, 'connect'>, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken: Error | undefined
  try {
    return await work(client)
  } catch (err) {
    try {
      // Nothing more comes through a connection that left a statement without an answer.
      if (isSilent(err)) broken = err as Error
      else await client.query('rollback')
    } catch (rollbackError) {
      broken = rollbackError instanceof Error ? rollbackError : new Error(String(rollbackError))
    }
    throw err
  } finally {
    client.release(broken)
  }
}

/** Runs `work` in one transaction on a connection of its own; errors as in {@link onConnection}. */
export async function inTransaction<T>(pool: Pick<Pool, 'connect'>, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  return onConnection(pool, async (client) => {
    await client.query('begin')
    const result = await work(client)
    await client.query('commit')
    return result
  })
}

/** Advisory lock class of the registry lock: shared by settling, exclusive for registry writes, one per utility. */
export const REGISTRY_LOCK = 0x4d01
/** Advisory lock class of migrations and partition making. */
export const SCHEMA_LOCK = 0x4d02

/**
 * Takes the utility's registry lock exclusively and raises its epoch. Call first in every transaction that writes
 * accounts, meters, assignments, billing periods or thresholds, and stamp the rows written with the epoch returned.
 */
export async function beginRegistryWrite(client: Queryable, utilityId: number): Promise<number> {
  await client.query('select pg_advisory_xact_lock($1::int, $2::int)', [REGISTRY_LOCK, utilityId])
  const { rows } = await client.query<{ registry_epoch: number }>(
    'update utility set registry_epoch = registry_epoch + 1 where utility_id = $1 returning registry_epoch', [utilityId])
  if (rows.length === 0) throw new Error(`no utility ${utilityId}`)
  return rows[0].registry_epoch
}

/** SQLSTATEs after which the same transaction may be tried again at once: unique violation, deadlock, serialisation. */
export function isRetryable(err: unknown): boolean {
  const code = sqlState(err)
  return code === '23505' || code === '40P01' || code === '40001'
}

/** Why the database did not do what it was asked, where that passes: the caller tries again later. */
export type Trouble =
  /** It cannot be reached, or is going down or coming up. */
  | 'unavailable'
  /** It has no room on its disk. */
  | 'full'
  /** It took too long, or somebody held a lock for too long. */
  | 'busy'

/** What troubles the database; undefined for errors that are not its. */
export function troubleOf(err: unknown): Trouble | undefined {
  const code = sqlState(err)
  if (code === '53100') return 'full'
  // 25P03: the server ended a transaction whose client had gone silent.
  if (code === '57014' || code === '55P03' || code === '25P03') return 'busy'
  if (code !== undefined && (code.startsWith('08') || code.startsWith('57P') || code === '53000' || code === '53200' || code === '53300')) return 'unavailable'
  if (!(err instanceof Error)) return undefined
  const errno = (err as NodeJS.ErrnoException).code
  const unreachable = errno === 'ECONNREFUSED' || errno === 'ECONNRESET' || errno === 'EPIPE' || errno === 'ENOENT' || errno === 'ETIMEDOUT' ||
    /Connection terminated|connection timeout|timeout expired|timeout exceeded when trying to connect|Client has encountered a connection error/i.test(err.message)
  return unreachable || isSilent(err) ? 'unavailable' : undefined
}

/** True where the database cannot take the work now: the caller answers 503 and tries again later. */
export function isUnavailable(err: unknown): boolean {
  return troubleOf(err) !== undefined
}

/** True where no answer came within the time set: the connection is of no use any more. */
function isSilent(err: unknown): boolean {
  return err instanceof Error && err.message === 'Query read timeout'
}

/** SQLSTATE of a database error; undefined for any other. */
export function sqlState(err: unknown): string | undefined {
  return err instanceof pg.DatabaseError ? err.code : undefined
}
