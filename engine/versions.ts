import type { Pool } from './store/db.js'

/**
 * The sequence of deliveries whose source states no version (design C4): microseconds since 1970, ascending over all
 * processes on one database, whatever their clocks and the database's do. Those who ask at the same time share a query.
 */
export class VersionSequence {
  readonly #pool: Pool
  #waiting: { resolve: (version: number) => void; reject: (err: unknown) => void }[] = []
  #asking = false

  constructor(pool: Pool) {
    this.#pool = pool
  }

  /** The version of a delivery that is accepted now. @throws what the database throws */
  next(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      if (!this.#asking) void this.#ask()
    })
  }

  async #ask(): Promise<void> {
    this.#asking = true
    while (this.#waiting.length > 0) {
      const group = this.#waiting
      this.#waiting = []
      try {
        // Not waiting for the disk: the commit of a delivery that uses the version does, and takes the sequence with it.
        const { rows } = await this.#pool.query<{ first: number }>(
          `select next_delivery_versions($1) as first, set_config('synchronous_commit', 'off', true)`, [group.length])
        group.forEach(({ resolve }, i) => resolve(rows[0].first + i))
      } catch (err) {
        for (const { reject } of group) reject(err)
      }
    }
    this.#asking = false
  }
}
