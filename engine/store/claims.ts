import type pg from 'pg'
import { onConnection, patientClient, type Pool } from './db.js'

/**
 * Who holds files of the watched folder: each process has a name and, as long as it lives, an advisory lock on it. The
 * database's word counts over hosts that share the folder, where a process id would say nothing.
 */

/** First key of the advisory locks. */
const CLAIMS_LOCK = 7_340_041

export interface ClaimHold {
  release: () => Promise<void>
}

/** Holds the name on a connection of its own, taken again when it breaks. */
export async function holdClaims(pool: Pool, name: string): Promise<ClaimHold> {
  let released = false
  let client: pg.Client | null = null
  const hold = async (): Promise<void> => {
    const own = patientClient(pool)
    own.once('end', () => {
      if (!released) setTimeout(() => void again(), 500).unref()
    })
    await own.connect()
    await own.query('select pg_advisory_lock($1::int, hashtext($2))', [CLAIMS_LOCK, name])
    client = own
  }
  const again = async (): Promise<void> => {
    if (released) return
    await hold().catch(() => {
      setTimeout(() => void again(), 500).unref()
    })
  }
  await hold()
  return {
    release: async () => {
      released = true
      await client?.end().catch(() => undefined)
    },
  }
}

/** True where no process holds the name: what it claimed may be taken over. */
export async function isAbandoned(pool: Pool, name: string): Promise<boolean> {
  return onConnection(pool, async (client) => {
    const { rows } = await client.query<{ free: boolean }>('select pg_try_advisory_lock($1::int, hashtext($2)) as free', [CLAIMS_LOCK, name])
    if (rows[0].free) await client.query('select pg_advisory_unlock($1::int, hashtext($2))', [CLAIMS_LOCK, name])
    return rows[0].free
  })
}
