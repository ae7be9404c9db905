import { createHash, type Hash } from 'node:crypto'
import { passed } from '../engine/memory.js'
import { ApiError, BodyError } from '../engine/problem.js'
import type { Receipt } from '../engine/receipt.js'
import type { FormatState } from './formats/format.js'
import type { IngestMetrics } from './metrics.js'
import { toApiError, type IngestPool } from './pool.js'
import { keepPace, LEAST_PACE } from './pace.js'
import type { DeliveryTask } from './task.js'

export interface PushOptions {
  pool: IngestPool
  metrics: IngestMetrics
  /** Bytes settled in one transaction; a larger body is cut into parts. */
  atomicBytes: number
  /** Bytes of a body after decompression. */
  maxBodyBytes: number
  /** In every such span, milliseconds, a sender brings LEAST_PACE bytes or the end of its body. */
  bodyTimeoutMs: number
}

const STEP = 1024 * 1024
/** What a push is counted as at least: its socket, headers and bookkeeping cost about that, however short the body. */
const LEAST = 16 * 1024

/** What is known of a delivery before its bytes; its version may still be on its way. */
export type TaskHead = Omit<DeliveryTask, 'bytes' | 'part' | 'final' | 'state' | 'bodySha256' | 'version'> & { version: number | Promise<number> }

/** One push under way: gathers its bytes within the memory bound, and settles them in one or more parts. */
export class Push {
  readonly #options: PushOptions
  readonly #utilityId: number
  #head: TaskHead
  /** Of the whole body, where it has several parts; the worker hashes a body of one part. */
  #hash: Hash | null = null
  #reserved = 0
  #buffer: Uint8Array
  #filled = 0
  /** The sender is slow: it holds the memory of what it sent, not of what it announced. */
  #slow = false
  #total = 0
  #part = 1
  #state: FormatState | null = null
  #receipt: Receipt | null = null
  /** A large body whose first part came before, with this key: its first receipt, and the SHA-256 of the whole. */
  #repeats: { receipt: Receipt; sha256: string } | null = null

  constructor(options: PushOptions, utilityId: number, head: TaskHead) {
    this.#options = options
    this.#utilityId = utilityId
    this.#head = head
    // A push that is refused before it needs the version does not wait for it.
    if (typeof head.version !== 'number') head.version.catch(() => undefined)
    this.#buffer = new Uint8Array(0)
  }

  /**
   * Takes the body's bytes as they come and settles them.
   * @param declared length of the body in bytes, NaN where it is not known
   * @throws ApiError with what went wrong; for a large body that broke midway, with the receipt so far
   */
  async run(body: AsyncIterable<Buffer>, declared: number): Promise<Receipt> {
    try {
      return await this.#run(body, declared)
    } catch (err) {
      // A large body that breaks midway: with the receipt of the parts that did settle.
      if (this.#receipt === null || !(err instanceof ApiError)) throw err
      throw new ApiError(err.status, err.code, err.message, { ...err.extra, receipt: { ...this.#receipt, complete: false } })
    }
  }

  async #run(body: AsyncIterable<Buffer>, declared: number): Promise<Receipt> {
    if (declared > this.#options.maxBodyBytes) throw this.#tooLarge()
    if (declared === 0) throw new BodyError(400, 'empty-body', 'The body is empty.')
    if (Number.isFinite(declared)) this.#grow(Math.min(declared, this.#options.atomicBytes))
    const paced = keepPace(body, { windowMs: this.#options.bodyTimeoutMs, onSlow: () => this.#slowDown(), tooSlow: () => this.#tooSlow() })
    for await (const chunk of paced) await this.#take(chunk)
    if (this.#total === 0) throw new BodyError(400, 'empty-body', 'The body is empty.')
    return this.#repeats === null ? this.#settle(true) : this.#repeated(this.#repeats)
  }

  /** Gives the memory back; called once, whatever came. */
  release(): void {
    this.#options.pool.release(this.#reserved)
    this.#reserved = 0
  }

  async #take(chunk: Buffer): Promise<void> {
    this.#total += chunk.length
    if (this.#total > this.#options.maxBodyBytes) throw this.#tooLarge()
    this.#hash?.update(chunk)
    passed(chunk.length)
    let from = 0
    while (from < chunk.length && this.#repeats === null) {
      if (this.#filled === this.#options.atomicBytes) {
        // The first part is all there was before this chunk.
        this.#hash ??= createHash('sha256').update(this.#buffer).update(chunk.subarray(from))
        await this.#settle(false)
      }
      const room = Math.min(chunk.length - from, this.#options.atomicBytes - this.#filled)
      this.#grow(this.#filled + room)
      this.#buffer.set(chunk.subarray(from, from + room), this.#filled)
      this.#filled += room
      from += room
    }
  }

  /** Makes the buffer at least that large, within the bound on bytes in flight. */
  #grow(need: number): void {
    if (need <= this.#buffer.length) return this.#hold(need)
    const size = Math.min(this.#options.atomicBytes, Math.max(need, Math.min(this.#buffer.length * 2, this.#buffer.length + 16 * STEP)))
    this.#hold(this.#slow ? need : size)
    const larger = bytesOf(size)
    larger.set(this.#buffer.subarray(0, this.#filled))
    this.#buffer = larger
  }

  /** Reserves room for that many bytes in all. @throws ApiError 429 where there is none */
  #hold(bytes: number): void {
    const cost = Math.max(bytes, LEAST)
    if (cost <= this.#reserved) return
    if (!this.#options.pool.reserve(cost - this.#reserved)) {
      this.#options.metrics.refused('inflight')
      throw new ApiError(429, 'too-much-in-flight', 'More bytes are being settled than memory is set aside for.',
        { retryAfter: 1, help: 'Push again after Retry-After; MAX_INFLIGHT_MB is the bound.' })
    }
    this.#reserved = cost
  }

  /** Gives back what was reserved for bytes that have not come: their pages have not been touched either. */
  #slowDown(): void {
    this.#slow = true
    const kept = Math.max(this.#filled, LEAST)
    if (this.#part > 1 || kept >= this.#reserved) return
    this.#options.pool.release(this.#reserved - kept)
    this.#reserved = kept
  }

  async #settle(final: boolean): Promise<Receipt> {
    const version = await this.#head.version
    const whole = this.#filled === this.#buffer.length
    const bytes = (whole ? this.#buffer.buffer : this.#buffer.slice(0, this.#filled).buffer) as ArrayBuffer
    // Gone to the worker, or copied: what this push reserved covers one of them, not both.
    this.#buffer = new Uint8Array(0)
    const answer = await this.#options.pool.submit(this.#utilityId, {
      ...this.#head, version, bytes, part: this.#part, final, state: this.#state, bodySha256: final ? this.#hash?.digest('hex') ?? null : null,
    }, this.#receipt)
    if (answer.receipt === null) throw toApiError(answer)
    if (answer.repeats !== undefined) {
      this.#repeats = { receipt: answer.receipt, sha256: answer.repeats }
      return answer.receipt
    }
    this.#receipt = answer.receipt
    if (!final) {
      this.#part++
      this.#state = answer.state
      // The middle of a body may look like something else than its beginning.
      this.#head = { ...this.#head, format: answer.format }
      const rest = new Uint8Array(answer.rest ?? new ArrayBuffer(0))
      this.#buffer = bytesOf(Math.max(this.#options.atomicBytes, rest.length))
      this.#buffer.set(rest)
      this.#filled = rest.length
    }
    return answer.receipt
  }

  /** The first receipt, where the rest of the body is the same too. */
  #repeated(first: { receipt: Receipt; sha256: string }): Receipt {
    if (this.#hash?.digest('hex') === first.sha256) return first.receipt
    throw new ApiError(422, 'idempotency-key-reused', 'This Idempotency-Key was used with another body.',
      { help: 'Use a new key for a new body.' })
  }

  #tooSlow(): ApiError {
    this.#options.metrics.refused('too-slow')
    return new ApiError(408, 'body-too-slow', `The body comes too slowly: less than ${LEAST_PACE} bytes in ${this.#options.bodyTimeoutMs / 1000} seconds.`,
      { help: 'Push less at a time, or compressed; BODY_TIMEOUT_SECONDS is the span.' })
  }

  #tooLarge(): BodyError {
    this.#options.metrics.refused('too-large')
    return new BodyError(413, 'body-too-large', `A body has at most ${this.#options.maxBodyBytes} bytes after decompression.`,
      undefined, 'Split it: any split settles to the same.')
  }
}

/** Bytes that are not set to zero first, in an ArrayBuffer of their own, which can be transferred. */
function bytesOf(size: number): Uint8Array {
  // Not the Buffer itself, whose slice() does not copy.
  return new Uint8Array(Buffer.allocUnsafeSlow(size).buffer)
}
