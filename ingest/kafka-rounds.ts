import { readPosition } from '../engine/store/kafka-positions.js'
import { settleRound, type BatchOutcome, type MessageBatch, type RoundContext } from './kafka-round.js'

export interface RoundsOptions extends Omit<RoundContext, 'utilityOf' | 'defaultSource'> {
  /** False where nobody waits for the batch any more: the partition is given up, or the door closes. */
  isWanted: (batch: MessageBatch) => boolean
  /** Told of every batch that is tried again. */
  onRetry: (reason: string) => void
}

/** Source of messages without the header. */
const DEFAULT_SOURCE = 'kafka'
const RETRY_MS = [200, 500, 1000, 2000, 5000]
/** A worker that died may have died of another task: the batch is suspected when it happens again. */
const WORKER_LOSSES = 2
const UTILITIES_MS = 5000

/** Settles rounds to the end, whatever the database does meanwhile. */
export class Rounds {
  readonly #options: RoundsOptions
  readonly #context: RoundContext
  #utilities = new Map<string, number>()
  #utilitiesAtMs = 0

  constructor(options: RoundsOptions) {
    this.#options = options
    this.#context = { ...options, defaultSource: DEFAULT_SOURCE, utilityOf: (id) => this.#utilityOf(id) }
  }

  /** Settles batches, again and again while the database is away; those that nobody waits for stay `again`. Never rejects. */
  async settle(batches: readonly MessageBatch[]): Promise<BatchOutcome[]> {
    const outcomes = new Array<BatchOutcome>(batches.length)
    const losses = new Map<MessageBatch, number>()
    let open = batches.map((_, i) => i)
    for (let attempt = 0; open.length > 0; attempt++) {
      const results = await this.#try(open.map((i) => batches[i]), null)
      const again: number[] = []
      for (const [k, i] of open.entries()) {
        outcomes[i] = await this.#judged(batches[i], results[k], losses)
        if (outcomes[i].status === 'again') again.push(i)
      }
      if (again.length === 0) break
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]))
      open = []
      for (const i of again) {
        if (!this.#options.isWanted(batches[i])) continue
        const standing = await this.#standing(batches[i])
        if (standing === 'again') open.push(i)
        else outcomes[i] = standing
      }
    }
    return outcomes
  }

  async #judged(batch: MessageBatch, given: BatchOutcome, losses: Map<MessageBatch, number>): Promise<BatchOutcome> {
    let result = given
    if (result.status === 'again' && result.workerLost) {
      const lost = (losses.get(batch) ?? 0) + 1
      losses.set(batch, lost)
      if (lost >= WORKER_LOSSES) result = { status: 'unfit', code: 'worker-lost', message: 'The worker that settled it ended, twice.' }
    }
    if (result.status === 'unfit' && batch.count === 1) {
      // The culprit: it goes to the dead topic by its own transaction, like any message that cannot be read.
      [result] = await this.#try([batch], result)
    }
    if (result.status === 'again') this.#options.onRetry(result.reason)
    return result
  }

  async #try(batches: readonly MessageBatch[], refused: { code: string; message: string } | null): Promise<BatchOutcome[]> {
    try {
      return await settleRound(batches, this.#context, refused)
    } catch (err) {
      return batches.map(() => ({ status: 'again', reason: err instanceof Error ? err.message : String(err), workerLost: false }))
    }
  }

  /** What a batch came to whose commit may or may not stand. */
  async #standing(batch: MessageBatch): Promise<BatchOutcome | 'again'> {
    const { db, group, topic } = this.#options
    try {
      const position = await readPosition(db, { group, topic, partition: batch.partition })
      if (position === undefined || position.epoch !== batch.epoch) return { status: 'fenced' }
      if (position.next >= batch.next) return { status: 'settled', deadLetters: 0 }
      batch.ahead = position.ahead
      return 'again'
    } catch {
      return 'again'
    }
  }

  /** @throws what the database throws */
  async #utilityOf(id: string): Promise<number | undefined> {
    const known = this.#utilities.get(id)
    if (known !== undefined || this.#options.now() - this.#utilitiesAtMs < UTILITIES_MS) return known
    const { rows } = await this.#options.db.query<{ id: string; utility_id: number }>('select id, utility_id from utility')
    this.#utilities = new Map(rows.map((r) => [r.id, r.utility_id]))
    this.#utilitiesAtMs = this.#options.now()
    return this.#utilities.get(id)
  }
}
