import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Piscina } from 'piscina'
import type { Edit } from '../engine/estimate/edit.js'
import type { VeeTurn } from '../engine/estimate/turn.js'
import { ApiError } from '../engine/problem.js'
import type { Receipt } from '../engine/receipt.js'
import type { IngestMetrics } from './metrics.js'
import type { DeliveryAnswer, DeliveryTask, ReplayTask, SettleTask, TaskAnswer, WithdrawTask, WorkerSettings, WorkerTask } from './task.js'

/** Pushes up to this size wait together and share a transaction. */
const SMALL_BYTES = 256 * 1024
const GROUP_BYTES = 8 * 1024 * 1024
const GROUP_DELIVERIES = 200
/**
 * Bytes decoded and settled at a time, over all workers: what a body becomes takes several times its bytes. A larger
 * body runs alone.
 */
const RUNNING_BYTES = 64 * 1024 * 1024
/** Young generation of a worker's heap: blocks outlive it anyway, and the default of 48 MB in every thread is only kept. */
const YOUNG_MB = 12
/** Tasks in one worker at a time: one is parsed while PostgreSQL writes the other. */
const TASKS_PER_WORKER = 2

export interface PoolOptions {
  workers: number
  /** Bytes that may be accepted and not yet settled, over all doors (C8). */
  maxInflightBytes: number
  settings: WorkerSettings
  metrics: IngestMetrics
  /** Told of alerts raised or retracted by a commit. */
  onMessages: () => void
  /** Told of faults that are ours, not the sender's. */
  onFault: (cause: unknown) => void
  /** Told when the database begins to refuse pushes, by the code that senders get, and with null when it takes them again. */
  onTrouble?: (code: string | null) => void
}

interface Waiting {
  utilityId: number
  /** One delivery, or several that settle in one transaction. */
  tasks: DeliveryTask[]
  /** The receipt after the part before this one. */
  before: Receipt | null
  resolve: (answers: DeliveryAnswer[]) => void
}

/**
 * Owns the worker threads: hands them deliveries, groups the small ones that wait at the same time (group commit), and
 * bounds the bytes in flight.
 */
export class IngestPool {
  readonly #piscina: Piscina
  readonly #options: PoolOptions
  readonly #queue: Waiting[] = []
  readonly #slots: number
  #running = 0
  #runningBytes = 0
  #inflight = 0
  #closing = false
  #trouble: { code: string; atMs: number } | null = null
  #idle: (() => void)[] = []

  constructor(options: PoolOptions) {
    this.#options = options
    this.#slots = options.workers * TASKS_PER_WORKER
    this.#piscina = new Piscina({
      filename: workerEntry(), minThreads: options.workers, maxThreads: options.workers, workerData: options.settings,
      concurrentTasksPerWorker: TASKS_PER_WORKER, atomics: 'disabled', idleTimeout: 0x7fffffff,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
    })
    // A thread that ends outside of a task is replaced by piscina; without a listener the process would end with it.
    this.#piscina.on('error', (err) => options.onFault(err))
  }

  get inflightBytes(): number {
    return this.#inflight
  }

  get queued(): number {
    return this.#queue.length
  }

  /** True while pushes are being settled or wait for it. */
  get isSettling(): boolean {
    return this.#running > 0 || this.#queue.length > 0
  }

  /** The code of the 503 that the database's state gave the last push, and when; null once a push has settled since. */
  get trouble(): { code: string; atMs: number } | null {
    return this.#trouble
  }

  /**
   * Reserves room for bytes about to be read. Returns false where the bound is reached: the door then refuses, and says
   * so in a metric. A body is always let in when nothing else is in flight, however small the bound.
   */
  reserve(bytes: number): boolean {
    if (this.#closing || (this.#inflight > 0 && this.#inflight + bytes > this.#options.maxInflightBytes)) return false
    this.#inflight += bytes
    return true
  }

  release(bytes: number): void {
    this.#inflight -= bytes
  }

  /**
   * Settles one delivery, or one part of it. Never rejects: what went wrong is in the answer.
   * @param before the receipt after the part before: receipts of parts add up, and the metrics count each read once
   */
  submit(utilityId: number, task: DeliveryTask, before: Receipt | null = null): Promise<DeliveryAnswer> {
    return new Promise((resolve) => {
      this.#queue.push({ utilityId, tasks: [task], before, resolve: ([answer]) => resolve(answer) })
      this.#pump()
    })
  }

  /** Settles deliveries of one utility in one transaction of their own. Never rejects; answers in the order given. */
  submitTogether(utilityId: number, tasks: DeliveryTask[]): Promise<DeliveryAnswer[]> {
    return new Promise((resolve) => {
      this.#queue.push({ utilityId, tasks, before: null, resolve })
      this.#pump()
    })
  }

  /** @throws ApiError as the worker answered */
  async replay(task: Omit<ReplayTask, 'kind'>): Promise<Receipt> {
    return this.#single({ kind: 'replay', ...task })
  }

  /** @throws ApiError as the worker answered */
  async withdraw(task: Omit<WithdrawTask, 'kind'>): Promise<Receipt> {
    return this.#single({ kind: 'withdraw', ...task })
  }

  /** One turn of validation and estimation. @throws ApiError as the worker answered */
  async vee(utilityId: number): Promise<VeeTurn> {
    const { deliveries, messages, vee } = await this.#run({ kind: 'vee', utilityId }, [])
    if (messages) this.#options.onMessages()
    if (vee === undefined) throw toApiError(deliveries[0])
    return vee
  }

  /** Puts the reads that a flag means right. @throws ApiError as the worker answered */
  async edit(edit: Edit): Promise<Receipt> {
    return this.#single({ kind: 'edit', ...edit })
  }

  /** Waits until everything accepted is settled or answered, then ends the threads. */
  async close(): Promise<void> {
    this.#closing = true
    if (this.#running > 0 || this.#queue.length > 0) await new Promise<void>((resolve) => this.#idle.push(resolve))
    await this.#piscina.destroy()
  }

  async #single(task: WorkerTask): Promise<Receipt> {
    const { deliveries: [answer], messages } = await this.#run(task, [])
    if (messages) this.#options.onMessages()
    if (answer.receipt === null) throw toApiError(answer)
    return answer.receipt
  }

  #pump(): void {
    while (this.#running < this.#slots && this.#queue.length > 0) {
      // In order: a large body that waits is not overtaken for ever by small ones.
      if (this.#running > 0 && this.#runningBytes + bytesOf(this.#queue[0]) > RUNNING_BYTES) return
      const group = this.#takeGroup()
      this.#running++
      void this.#settle(group)
    }
  }

  #takeGroup(): Waiting[] {
    const first = this.#queue.shift()!
    const group = [first]
    if (!isSmall(first)) return group
    let bytes = bytesOf(first)
    for (let i = 0; i < this.#queue.length && group.length < GROUP_DELIVERIES && bytes < GROUP_BYTES;) {
      const w = this.#queue[i]
      if (w.utilityId === first.utilityId && isSmall(w) && w.tasks[0].history === first.tasks[0].history) {
        group.push(w)
        bytes += bytesOf(w)
        this.#queue.splice(i, 1)
      } else i++
    }
    return group
  }

  async #settle(group: Waiting[]): Promise<void> {
    const task: SettleTask = { kind: 'settle', utilityId: group[0].utilityId, deliveries: group.flatMap((w) => w.tasks) }
    // Taken now: the bytes go to the worker.
    const parts = group.flatMap(({ tasks, before }) => tasks.map(({ deliveryId, bytes }) => ({ deliveryId, bytes: bytes.byteLength, before })))
    const size = parts.reduce((sum, p) => sum + p.bytes, 0)
    this.#runningBytes += size
    const answer = await this.#run(task, task.deliveries.map((d) => d.bytes))
    this.#runningBytes -= size
    this.#options.metrics.settled(answer, parts)
    let taken = 0
    for (const w of group) w.resolve(answer.deliveries.slice(taken, taken += w.tasks.length))
    if (answer.messages) this.#options.onMessages()
    this.#running--
    this.#pump()
    if (this.#running === 0 && this.#queue.length === 0) for (const done of this.#idle.splice(0)) done()
  }

  #noteTrouble(deliveries: readonly DeliveryAnswer[]): void {
    const was = this.#trouble?.code ?? null
    const code = deliveries.find((d) => d.error?.code.startsWith('database-'))?.error?.code
    if (code !== undefined) this.#trouble = { code, atMs: Date.now() }
    else if (deliveries.some((d) => d.receipt !== null)) this.#trouble = null
    const is = this.#trouble?.code ?? null
    if (is !== was) this.#options.onTrouble?.(is)
  }

  async #run(task: WorkerTask, transferList: ArrayBuffer[]): Promise<TaskAnswer> {
    try {
      const answer = await this.#piscina.run(task, { transferList }) as TaskAnswer
      this.#noteTrouble(answer.deliveries)
      for (const d of answer.deliveries) {
        if (d.error?.extra.cause === undefined) continue
        this.#options.onFault(d.error.extra.cause)
        delete d.error.extra.cause
      }
      return answer
    } catch (err) {
      // A worker that died took its bytes with it: the sender has them still and pushes again.
      this.#options.onFault(err)
      const n = task.kind === 'settle' ? task.deliveries.length : 1
      const error = {
        status: 503, code: 'worker-lost', message: 'The worker that settled this push ended.',
        extra: { retryAfter: 1, help: 'Push it again: reads that did settle are counted as duplicates.' },
      }
      return {
        deliveries: Array.from({ length: n }, () => ({ receipt: null, error, rest: null, state: null, format: null })),
        decodeS: 0, settleS: 0, messages: false,
      }
    }
  }
}

/** The answer's error as it is thrown to the API. */
export function toApiError(answer: DeliveryAnswer): ApiError {
  const e = answer.error ?? { status: 500, code: 'internal-error', message: 'The push could not be settled.', extra: {} }
  return new ApiError(e.status, e.code, e.message, e.extra)
}

function bytesOf(waiting: Waiting): number {
  return waiting.tasks.reduce((sum, { bytes }) => sum + bytes.byteLength, 0)
}

function isSmall({ tasks }: Waiting): boolean {
  return tasks.length === 1 && tasks[0].messages === undefined && tasks[0].final && tasks[0].part === 1 && tasks[0].bytes.byteLength <= SMALL_BYTES
}

/** The worker's built file: run from sources (tests), the build beside them is used. */
function workerEntry(): string {
  const here = fileURLToPath(new URL('./worker.js', import.meta.url))
  if (existsSync(here)) return here
  const built = fileURLToPath(new URL('../dist/ingest/worker.js', import.meta.url))
  if (!existsSync(built)) throw new Error('the worker is not built: run npm run build')
  return built
}
