import { Quantity, type QuantityCode } from './quantity.js'

/**
 * The columnar batch: the one shape that flows from a decoder to settlement.
 *
 * A batch is a list of blocks; a block is consecutive reads of one channel. All instants are integral seconds since the
 * Unix epoch (UTC). Values are int32 mantissas: value = mantissa x 10^exponent of the quantity's unit (kWh for energy),
 * exponent per block.
 */

/** A read that is not there: never zero. */
export const MISSING = -2147483648
/** Greatest magnitude that a mantissa may have. */
export const MAX_MANTISSA = 2147483647

export const Flow = { delivered: 1, received: 2, net: 3 } as const
export type FlowCode = (typeof Flow)[keyof typeof Flow]
export type FlowName = keyof typeof Flow
export const flowNames: Readonly<Record<FlowCode, FlowName>> = { 1: 'delivered', 2: 'received', 3: 'net' }

/**
 * Quality codes as they stand in the low three bits of a lane. `actual` is 0 so that a block of plain actuals needs no
 * lane. The codes are not the order: see {@link rankOf}.
 */
export const Quality = { actual: 0, estimated: 1, questionable: 2, validated: 4, edited: 5 } as const
export type QualityName = keyof typeof Quality
export type QualityCode = (typeof Quality)[QualityName]

/** Lane: bits 0-2 quality, bits 3-7 method (0 none, 1 linear, 2 like-day, ...), bits 8-14 validation flags. */
export const QUALITY_MASK = 0b111

/** Method of a lane's estimate. */
export function methodOf(lane: number): number {
  return lane >> 3 & 0b11111
}

const RANKS = [3, 1, 2, 0, 4, 5, 0, 0]

/** Rank of a lane's quality (design C4): edited 5 > validated 4 > actual 3 > questionable 2 > estimated 1. */
export function rankOf(lane: number): number {
  return RANKS[lane & QUALITY_MASK]
}

const QUALITY_NAMES = ['actual', 'estimated', 'questionable', undefined, 'validated', 'edited'] as const

/** Name of a lane's quality as it stands in the contract. */
export function qualityName(lane: number): QualityName {
  return QUALITY_NAMES[lane & QUALITY_MASK] ?? 'actual'
}

/** Columns of a batch; every per-block array is at least `count` long, values (and lanes) at least `size`. */
export interface ReadBatch {
  /** Number of blocks. */
  readonly count: number
  /** Number of slots in `values`, missing ones included. */
  readonly size: number
  /** Meter id as the source wrote it, per block. */
  readonly meters: string[]
  /** Start of the block's first interval, epoch seconds. */
  readonly startS: Float64Array
  /** Interval length in seconds; 86400 for a local day of whatever length. */
  readonly intervalS: Int32Array
  readonly flow: Uint8Array
  /** What is measured: quantity.ts. */
  readonly quantity: Uint8Array
  /** Lane that every read of the block has, where `lanes` is null. */
  readonly lane: Int16Array
  /** Power of ten of the block's mantissas. */
  readonly exponent: Int8Array
  /** When the source stated the block, microseconds since the epoch; 0: not stated, the delivery's version holds. */
  readonly version: Float64Array
  /** First slot of the block in `values`. */
  readonly offset: Int32Array
  /** Slots of the block. */
  readonly length: Int32Array
  /** Mantissas; {@link MISSING} where there is no read. */
  readonly values: Int32Array
  /** A lane per slot, where any block has reads of different quality; else null. */
  readonly lanes: Int16Array | null
  /** Place of the block's record in the body: its number or line, from 1. */
  readonly place: Int32Array
  /** Bytes of the record in the body: [rawFrom, rawTo); rawTo 0 where the block is not one piece of the body. */
  readonly rawFrom: Int32Array
  readonly rawTo: Int32Array
}

/** What one block needs besides its values. */
export interface BlockHead {
  meter: string
  startS: number
  intervalS: number
  flow: FlowCode
  /** Energy where not given. */
  quantity?: QuantityCode
  lane: number
  exponent: number
  version: number
  place: number
  rawFrom: number
  rawTo: number
}

/**
 * Builds a batch by appending. Either push() values one at a time and close the block with endBlock(), or give a whole
 * block's mantissas to addBlock().
 */
export class ReadBatchBuilder {
  #count = 0
  #size = 0
  #blockStart = 0
  #meters: string[] = []
  #startS: Float64Array
  #intervalS: Int32Array
  #flow: Uint8Array
  #quantity: Uint8Array
  #lane: Int16Array
  #exponent: Int8Array
  #version: Float64Array
  #offset: Int32Array
  #length: Int32Array
  #place: Int32Array
  #rawFrom: Int32Array
  #rawTo: Int32Array
  #values: Int32Array
  #lanes: Int16Array | null = null
  /** Indices of the blocks that gave lanes of their own. */
  readonly #laned = new Set<number>()

  constructor(blockHint = 64, sizeHint = 8192) {
    this.#startS = new Float64Array(blockHint)
    this.#intervalS = new Int32Array(blockHint)
    this.#flow = new Uint8Array(blockHint)
    this.#quantity = new Uint8Array(blockHint)
    this.#lane = new Int16Array(blockHint)
    this.#exponent = new Int8Array(blockHint)
    this.#version = new Float64Array(blockHint)
    this.#offset = new Int32Array(blockHint)
    this.#length = new Int32Array(blockHint)
    this.#place = new Int32Array(blockHint)
    this.#rawFrom = new Int32Array(blockHint)
    this.#rawTo = new Int32Array(blockHint)
    this.#values = new Int32Array(sizeHint)
  }

  /** Slots appended since the last endBlock(). */
  get pending(): number {
    return this.#size - this.#blockStart
  }

  /** The values column, for a decoder that writes mantissas in place; call reserve() first. */
  get values(): Int32Array {
    return this.#values
  }

  /** Index in the values column at which the next slot goes. */
  get cursor(): number {
    return this.#size
  }

  /** Makes room for n more slots and returns the values column (which may have moved). */
  reserve(n: number): Int32Array {
    if (this.#size + n > this.#values.length) {
      this.#values = grow(this.#values, Int32Array, Math.max(this.#values.length * 2, this.#size + n))
      if (this.#lanes !== null) this.#lanes = grow(this.#lanes, Int16Array, this.#values.length)
    }
    return this.#values
  }

  /** Counts n slots as appended that the decoder wrote into the reserved values itself. */
  advance(n: number): void {
    this.#size += n
  }

  /** Drops the slots appended since the last endBlock(). */
  discard(): void {
    this.#size = this.#blockStart
  }

  /** Appends one slot to the open block. */
  push(mantissa: number): void {
    if (this.#size === this.#values.length) this.reserve(1)
    this.#values[this.#size++] = mantissa
  }

  /** Gives the last `count` appended slots lanes of their own. */
  setLanes(lanes: ArrayLike<number>, count: number, blockLane: number): void {
    if (this.#lanes === null) {
      this.#lanes = new Int16Array(this.#values.length)
      for (let b = 0; b < this.#count; b++) {
        this.#lanes.fill(this.#lane[b], this.#offset[b], this.#offset[b] + this.#length[b])
      }
    }
    this.#lanes.fill(blockLane, this.#blockStart, this.#size)
    for (let i = 0; i < count; i++) this.#lanes[this.#size - count + i] = lanes[i]
    this.#laned.add(this.#count)
  }

  /** Closes the open block. A block with no slot is dropped. */
  endBlock(head: BlockHead): void {
    const length = this.#size - this.#blockStart
    if (length === 0) return
    if (this.#count === this.#startS.length) this.#growBlocks()
    const b = this.#count++
    this.#meters.push(head.meter)
    this.#startS[b] = head.startS
    this.#intervalS[b] = head.intervalS
    this.#flow[b] = head.flow
    this.#quantity[b] = head.quantity ?? Quantity.energy
    this.#lane[b] = head.lane
    this.#exponent[b] = head.exponent
    this.#version[b] = head.version
    this.#offset[b] = this.#blockStart
    this.#length[b] = length
    this.#place[b] = head.place
    this.#rawFrom[b] = head.rawFrom
    this.#rawTo[b] = head.rawTo
    this.#blockStart = this.#size
    // A later block without lanes of its own, in a batch that has them: fill with its block lane.
    if (this.#lanes !== null && !this.#laned.has(b)) this.#lanes.fill(head.lane, this.#offset[b], this.#size)
  }

  /** Appends a whole block; `lanes`, where given, has one lane per slot. */
  addBlock(head: BlockHead, mantissas: ArrayLike<number>, lanes?: ArrayLike<number>): void {
    const n = mantissas.length
    const values = this.reserve(n)
    for (let i = 0; i < n; i++) values[this.#size + i] = mantissas[i]
    this.#size += n
    if (lanes !== undefined) {
      this.setLanes(lanes, n, head.lane)
    }
    this.endBlock(head)
  }

  finish(): ReadBatch {
    return {
      count: this.#count,
      size: this.#blockStart,
      meters: this.#meters,
      startS: this.#startS,
      intervalS: this.#intervalS,
      flow: this.#flow,
      quantity: this.#quantity,
      lane: this.#lane,
      exponent: this.#exponent,
      version: this.#version,
      offset: this.#offset,
      length: this.#length,
      values: this.#values,
      lanes: this.#lanes,
      place: this.#place,
      rawFrom: this.#rawFrom,
      rawTo: this.#rawTo,
    }
  }

  #growBlocks(): void {
    const n = this.#startS.length * 2
    this.#startS = grow(this.#startS, Float64Array, n)
    this.#intervalS = grow(this.#intervalS, Int32Array, n)
    this.#flow = grow(this.#flow, Uint8Array, n)
    this.#quantity = grow(this.#quantity, Uint8Array, n)
    this.#lane = grow(this.#lane, Int16Array, n)
    this.#exponent = grow(this.#exponent, Int8Array, n)
    this.#version = grow(this.#version, Float64Array, n)
    this.#offset = grow(this.#offset, Int32Array, n)
    this.#length = grow(this.#length, Int32Array, n)
    this.#place = grow(this.#place, Int32Array, n)
    this.#rawFrom = grow(this.#rawFrom, Int32Array, n)
    this.#rawTo = grow(this.#rawTo, Int32Array, n)
  }
}

function grow<T extends { set(from: T): void }>(from: T, make: new (length: number) => T, length: number): T {
  const to = new make(length)
  to.set(from)
  return to
}
