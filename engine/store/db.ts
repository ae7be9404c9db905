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

/** Opens a pool. @param onError told of errors on idle connections, which are not anybody's query. */
export function openPool(url: string, max: number, name: string, onError: (err: Error) => void): Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max,
    application_name: name,
    types: typeParsers,
    connectionTimeoutMillis: 10_000,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
  })
  pool.on('error', onError)
  // The pool listens to idle clients only. One that breaks while it is used fails its query, and tells it by this event
  // besides, which nobody else hears: without a listener it would end the process.
  pool.on('connect', (client) => client.on('error', () => undefined))
  return pool
}

/**
 * Runs `work` on a connection of the pool. After an error a transaction left open is rolled back and the error is thrown;
 * where the roll-back fails too, the connection is destroyed, not returned to the pool.
 */
export async function onConnection<T>(pool: Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken: Error | undefined
  try {
    return await work(client)
  } catch (err) {
    try {
      await client.query('rollback')
    } catch (rollbackError) {
      broken = rollbackError instanceof Error ? rollbackError : new Error(String(rollbackError))
    }
    throw err
  } finally {
    client.release(broken)
  }
}

/** Runs `work` in one transaction on a connection of its own; errors as in {@link onConnection}. */
export async function inTransaction<T>(pool: Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
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

/** SQLSTATEs after which the same transaction may be tried again: unique violation, deadlock, serialisation, lock time-out. */
export function isRetryable(err: unknown): boolean {
  const code = sqlState(err)
  return code === '23505' || code === '40P01' || code === '40001' || code === '55P03'
}

/** True where the database cannot be reached or is going down: the caller answers 503 and tries again later. */
export function isUnavailable(err: unknown): boolean {
  const code = sqlState(err)
  if (code !== undefined && (code.startsWith('08') || code.startsWith('57P') || code.startsWith('53'))) return true
  if (!(err instanceof Error)) return false
  const errno = (err as NodeJS.ErrnoException).code
  return errno === 'ECONNREFUSED' || errno === 'ECONNRESET' || errno === 'EPIPE' || errno === 'ENOENT' || errno === 'ETIMEDOUT' ||
    /Connection terminated|connection timeout|timeout exceeded when trying to connect|Client has encountered a connection error/i.test(err.message)
}

/** SQLSTATE of a database error; undefined for any other. */
export function sqlState(err: unknown): string | undefined {
  return err instanceof pg.DatabaseError ? err.code : undefined
}
