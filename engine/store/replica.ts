import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { isUnavailable, sqlState, type Pool } from './db.js'

/** Where reads in one snapshot get their connection from. */
export interface ReadSource {
  connect(): Promise<pg.PoolClient>
  /** Where a read is tried again that this source's server broke off; absent where there is no other. */
  readonly fallback?: Pool
}

/** fresh: the replica answers; behind: it had not replayed enough; broken: it could not be asked. Then the primary answers. */
export type ReplicaOutcome = 'fresh' | 'behind' | 'broken'

export interface ReplicaOptions {
  /** @param lagBytes write-ahead log that the replica had not replayed; null where it could not be asked */
  onOutcome: (outcome: ReplicaOutcome, lagBytes: number | null) => void
  /** Told when the replica breaks, once until it answers again. */
  onBroken: (err: unknown) => void
}

/** How long a read waits for the replica to come up to the primary before the primary answers. */
const PATIENCE_MS = 100
/** After a replica was found behind, reads do not wait for it so long; nor is it asked after it broke. */
const IMPATIENCE_MS = 1000
const BROKEN_MS = 5000
const CONNECT_MS = 1000

/**
 * Reads from a replica, and only from one that has replayed every commit whose receipt the caller may have, whichever
 * process settled it: the primary's flushed position, asked after the call came in, must have been replayed on the very
 * connection that answers (DATABASE_READ_URL may lead to several servers in turn). A replica that is behind, broken,
 * promoted or of another cluster is passed over.
 */
export class ReplicaSource implements ReadSource {
  readonly fallback: Pool
  readonly #replica: Pool
  readonly #options: ReplicaOptions
  /** The position query that calls may still join: it has not been sent yet. */
  #next: Promise<string> | undefined
  #current: Promise<unknown> = Promise.resolve()
  readonly #ours = new WeakSet<pg.PoolClient>()
  #behindUntil = 0
  #brokenUntil = 0
  #isBroken = false

  /** @param replica a pool of its own; its time to connect is cut down here */
  constructor(primary: Pool, replica: Pool, options: ReplicaOptions) {
    this.fallback = primary
    this.#replica = replica
    this.#options = options
    replica.options.connectionTimeoutMillis = CONNECT_MS
  }

  async connect(): Promise<pg.PoolClient> {
    if (performance.now() < this.#brokenUntil) {
      this.#options.onOutcome('broken', null)
      return this.fallback.connect()
    }
    // Of the primary: where it fails, so does the call, which could not have been let in either.
    const position = await this.#position()
    let client: pg.PoolClient | undefined
    try {
      client = await this.#replica.connect()
      await this.#refuseStranger(client)
      const lag = await this.#lag(client, position)
      this.#isBroken = false
      this.#options.onOutcome(lag > 0 ? 'behind' : 'fresh', Math.max(0, lag))
      if (lag <= 0) return client
      this.#behindUntil = performance.now() + IMPATIENCE_MS
      client.release()
    } catch (err) {
      client?.release(true)
      this.#broke(err)
    }
    return this.fallback.connect()
  }

  #broke(err: unknown): void {
    this.#brokenUntil = performance.now() + BROKEN_MS
    this.#options.onOutcome('broken', null)
    if (!this.#isBroken) this.#options.onBroken(err)
    this.#isBroken = true
  }

  /** The primary's position, asked after this call; calls that come while one is asked share the next. */
  #position(): Promise<string> {
    if (this.#next === undefined) {
      const asked = this.#current.then(async () => {
        this.#next = undefined
        // Without synchronous commits a receipt may be out before its commit is on disk.
        const { rows } = await this.fallback.query<{ position: string }>(`
          select case when current_setting('synchronous_commit') = 'off' then pg_current_wal_insert_lsn()
                      else pg_current_wal_flush_lsn() end::text as position`)
        return rows[0].position
      })
      this.#next = asked
      this.#current = asked.catch(() => undefined)
    }
    return this.#next
  }

  /** Bytes that the connection's server lacks; waits a moment for it to come up. */
  async #lag(client: pg.PoolClient, position: string): Promise<number> {
    const started = performance.now()
    const patience = started < this.#behindUntil ? 0 : PATIENCE_MS
    for (let pause = 2; ; pause *= 2) {
      const { rows } = await client.query<{ lag: number | null }>(
        'select case when pg_is_in_recovery() then pg_wal_lsn_diff($1, pg_last_wal_replay_lsn())::float8 end as lag', [position])
      const { lag } = rows[0]
      if (lag === null) throw new Error('DATABASE_READ_URL is not a replica: the server is not in recovery')
      if (lag <= 0 || performance.now() - started + pause > patience) return lag
      await delay(pause)
    }
  }

  /** @throws Error where the connection leads to another cluster, whose positions mean nothing here */
  async #refuseStranger(client: pg.PoolClient): Promise<void> {
    if (this.#ours.has(client)) return
    const sql = 'select system_identifier::text as id, current_database() as name from pg_control_system()'
    const [theirs, own] = await Promise.all([client, this.fallback].map(async (db) => (await db.query<{ id: string; name: string }>(sql)).rows[0]))
    if (theirs.id !== own.id || theirs.name !== own.name) {
      throw new Error('DATABASE_READ_URL is not a replica of DATABASE_URL: it leads to another database')
    }
    this.#ours.add(client)
  }
}

/** True for errors of a replica that say nothing of the read: it may be tried on the primary. */
export function isReplicaFault(err: unknown): boolean {
  const code = sqlState(err)
  // 40001 and 57P01: cancelled by a conflict with recovery; 57014: it waited for one, or was slow.
  return isUnavailable(err) || code === '40001' || code === '40P01' || code === '57014'
}
