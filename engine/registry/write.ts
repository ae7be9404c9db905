import { beginRegistryWrite, inTransaction, isRetryable, type Client, type Pool } from '../store/db.js'

/** What a registry write found to do. */
export interface Outcome<T> {
  /** False: nothing differs, and the registry epoch stays as it was. */
  readonly changed: boolean
  readonly result: T
}

/**
 * Runs a registry write under the utility's exclusive registry lock, with the epoch to stamp rows with. Where nothing
 * changed the epoch is not raised: every worker would reload its map for nothing, and a nightly extract that repeats
 * itself is the ordinary case.
 */
export async function registryWrite<T>(
  pool: Pool, utilityId: number, work: (client: Client, epoch: number) => Promise<Outcome<T>>,
): Promise<T> {
  const attempt = () => inTransaction(pool, async (client) => {
    await client.query('savepoint before_write')
    const epoch = await beginRegistryWrite(client, utilityId)
    const { changed, result } = await work(client, epoch)
    if (!changed) await client.query('rollback to savepoint before_write')
    return result
  })
  try {
    return await attempt()
  } catch (err) {
    // A deadlock with a writer outside of the protocol: once more, then it is somebody's fault.
    if (isRetryable(err)) return attempt()
    throw err
  }
}

/** Rows of one statement's JSON parameter: keeps a bulk write of any size within tens of megabytes per statement. */
export const ROWS_PER_STATEMENT = 10_000

/** The list in pieces of ROWS_PER_STATEMENT. */
export function* pieces<T>(list: readonly T[]): Generator<T[]> {
  for (let i = 0; i < list.length; i += ROWS_PER_STATEMENT) yield list.slice(i, i + ROWS_PER_STATEMENT)
}
