import { setTimeout as sleep } from 'node:timers/promises'
import { commitGroup } from './commit.js'
import { RegisterMeters, type CommitWorld, type SettleOutcome, type Submission } from './submission.js'
import { databaseTrouble } from './database-trouble.js'
import { beginRegistryWrite, impatient, inTransaction, isRetryable, isUnavailable, onConnection, type Pool } from './store/db.js'
import { readReceipt } from './store/deliveries.js'
import { partitionId } from './store/kafka-positions.js'

/** What became of one submission: settled, or why not. Never a throw, so that one cannot take its group with it. */
export type SettleResult = SettleOutcome | { status: 'failed'; error: Error }

const MAX_ATTEMPTS = 6
/** After a lost connection the commit may stand: so long it is looked for before the push is given up as not settled. */
const LOOKUP_TRIES = 4
/** A look-up reads one row: a connection that does not bring it by then is cut off, as the one before it was. */
const LOOKUP_MS = 3000

/** Settles groups of submissions, and knows what to do when the database says no. */
export class Settler {
  readonly #pool: Pool
  readonly #world: CommitWorld

  constructor(pool: Pool, world: CommitWorld) {
    this.#pool = pool
    this.#world = world
  }

  /**
   * Settles the submissions of one utility in one transaction. A fault of the data splits the group, so that only the
   * culprit fails; a deadlock or unique violation is tried again; after a lost connection the deliveries are looked up.
   */
  async settle(utilityId: number, submissions: readonly Submission[]): Promise<SettleResult[]> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await onConnection(this.#pool, (client) => commitGroup(client, this.#world, utilityId, submissions))
      } catch (err) {
        if (err instanceof RegisterMeters) {
          await this.#register(utilityId, err.names)
          if (attempt < MAX_ATTEMPTS) continue
        }
        if (isRetryable(err) && attempt < MAX_ATTEMPTS) {
          await sleep(5 * 2 ** attempt * (0.5 + Math.random()))
          continue
        }
        if (isUnavailable(err)) return await this.#lookUp(submissions, err as Error)
        const parts = separable(submissions)
        if (parts.length > 1) {
          const results = new Array<SettleResult>(submissions.length)
          for (const part of parts) {
            const settled = await this.settle(utilityId, part.map((i) => submissions[i]))
            part.forEach((i, k) => { results[i] = settled[k] })
          }
          return results
        }
        return submissions.map(() => ({ status: 'failed', error: err instanceof Error ? err : new Error(String(err)) }))
      }
    }
  }

  async #lookUp(submissions: readonly Submission[], cause: Error): Promise<SettleResult[]> {
    const failed = (): SettleResult => ({
      status: 'failed',
      error: databaseTrouble(cause, { help: 'Push it again: reads that did settle are counted as duplicates.' }) ?? cause,
    })
    const db = impatient(this.#pool, LOOKUP_MS)
    const until = Date.now() + 2 * LOOKUP_MS
    for (let n = 1; n <= LOOKUP_TRIES; n++) {
      try {
        const results: SettleResult[] = []
        for (const s of submissions) {
          const found = await readReceipt(db, s.deliveryId, null)
          results.push(found !== undefined && found.parts >= s.part ? { status: 'settled', receipt: found.receipt } : failed())
        }
        return results
      } catch (err) {
        if (!isUnavailable(err) || Date.now() > until) break
        await sleep(150 * n)
      }
    }
    return submissions.map(failed)
  }

  /** Registers meters on behalf of a source whose `unknownMeters` setting says so. */
  async #register(utilityId: number, names: readonly string[]): Promise<void> {
    await inTransaction(this.#pool, async (client) => {
      const epoch = await beginRegistryWrite(client, utilityId)
      await client.query(
        `insert into meter (utility_id, id, epoch)
         select $1, name, $3 from unnest($2::text[]) as n(name)
          where not exists (select from meter_alias a where a.utility_id = $1 and a.alias = name)
          order by name on conflict do nothing`, [utilityId, names, epoch])
    })
  }
}

/** Indices of the submissions that can settle without each other: each alone, but those of a Kafka partition together. */
function separable(submissions: readonly Submission[]): number[][] {
  const parts = new Map<string | number, number[]>()
  submissions.forEach(({ kafka }, i) => {
    const key = kafka === undefined ? i : partitionId(kafka.move)
    const part = parts.get(key)
    if (part === undefined) parts.set(key, [i])
    else part.push(i)
  })
  return [...parts.values()]
}
