import type { QuantityCode } from '../../engine/quantity.js'
import { MAX_MANTISSA, MISSING, type FlowCode, type ReadBatchBuilder } from '../../engine/read-batch.js'
import { P10, USUAL_DECIMALS } from './decimal.js'
import type { ChannelState, HeldReads } from './format.js'

const DAY_S = 86400
const NONE = new Int32Array(0)

/** Ints of the first slab and of the largest: small pushes take little, and large ones few slabs. */
const FIRST_SLAB = 1024
const LARGEST_SLAB = 256 * 1024

/**
 * Room for the values of many channels in few arrays: an array for each of 50,000 channels would cost more in
 * allocation and garbage collection than the reads in it.
 */
export class Slabs {
  #values = new Int32Array(0)
  #used = 0

  /** Room for n values, from the returned index of the array that `current` then is. */
  take(n: number): number {
    if (this.#used + n > this.#values.length) {
      this.#values = new Int32Array(Math.max(Math.min(LARGEST_SLAB, Math.max(FIRST_SLAB, this.#values.length * 4)), n))
      this.#used = 0
    }
    this.#used += n
    return this.#used - n
  }

  get current(): Int32Array {
    return this.#values
  }
}

/**
 * Gathers single reads of one channel into blocks. A read that follows the last one lengthens the block; one that
 * leaves out less than a day fills the gap with missing slots; any other begins a block of its own, and so does a
 * second read for a slot: which of the two stands is for settlement to decide.
 */
export class Channel {
  readonly meter: string
  readonly flow: FlowCode
  readonly intervalS: number
  readonly quantity: QuantityCode
  /** The meter's next channel, of another quantity, flow or interval length. */
  next: Channel | null = null

  /** Reads at repeated local times, in file order, and the start of the first read after them. */
  held: HeldReads[] | null = null
  followedByS = NaN

  /** Where the last read ended; NaN before the first. */
  endS = NaN

  readonly #builder: ReadBatchBuilder
  readonly #slabs: Slabs
  /** The open block's values are values[first .. first + length), of a room of `capacity`. */
  #values: Int32Array = NONE
  #first = 0
  #capacity = 0
  #lanes: number[] | null = null
  #length = 0
  #startS = 0
  /** Start of the slot that would lengthen the open block. */
  #nextS = NaN
  #decimals = 0
  #lane = 0
  #version = 0
  #place = 0
  #rawFrom = 0
  #rawTo = 0
  /** The block's records stand together in the body. */
  #whole = true

  constructor(
    meter: string, flow: FlowCode, intervalS: number, quantity: QuantityCode, builder: ReadBatchBuilder, slabs: Slabs,
  ) {
    this.meter = meter
    this.flow = flow
    this.intervalS = intervalS
    this.quantity = quantity
    this.#builder = builder
    this.#slabs = slabs
  }

  /**
   * Appends a read of mantissa x 10^-decimals of the quantity's unit.
   *
   * @param startS start of its interval, epoch seconds
   * @param version microseconds since the epoch, 0 where the source states none
   * @param place line or record number
   * @param rawFrom first byte of the record, [rawFrom, rawTo)
   */
  append(
    startS: number, mantissa: number, decimals: number, lane: number, version: number, place: number,
    rawFrom: number, rawTo: number,
  ): void {
    if (startS === this.#nextS && decimals === this.#decimals && lane === this.#lane && version === this.#version
      && this.#lanes === null && this.#length < this.#capacity) {
      this.#values[this.#first + this.#length++] = mantissa
      this.#nextS = this.endS = startS + this.intervalS
      if (rawFrom === this.#rawTo) this.#rawTo = rawTo
      else this.#whole = false
      return
    }
    this.#appendSlowly(startS, mantissa, decimals, lane, version, place, rawFrom, rawTo)
  }

  /** Keeps reads at a repeated local time until it can be told which pass they belong to. */
  hold(reads: HeldReads): void {
    this.close()
    this.held ??= []
    this.held.push(reads)
    this.followedByS = NaN
  }

  /** Goes on where the part before ended. */
  restore({ endS, held, followedByS }: ChannelState): void {
    this.endS = endS
    this.held = held === null ? null : [...held]
    this.followedByS = followedByS
  }

  /** Ends the open block. */
  close(): void {
    const n = this.#length
    if (n > 0) {
      const builder = this.#builder
      const to = builder.reserve(n)
      const from = this.#values
      const first = this.#first
      const cursor = builder.cursor
      for (let i = 0; i < n; i++) to[cursor + i] = from[first + i]
      builder.advance(n)
      if (this.#lanes !== null) builder.setLanes(this.#lanes, n, this.#lane)
      builder.endBlock({
        meter: this.meter,
        startS: this.#startS,
        intervalS: this.intervalS,
        flow: this.flow,
        quantity: this.quantity,
        lane: this.#lane,
        exponent: -this.#decimals,
        version: this.#version,
        place: this.#place,
        rawFrom: this.#whole ? this.#rawFrom : 0,
        rawTo: this.#whole ? this.#rawTo : 0,
      })
    }
    this.#length = 0
    this.#lanes = null
    this.#nextS = NaN
  }

  #appendSlowly(
    startS: number, mantissa: number, decimals: number, lane: number, version: number, place: number,
    rawFrom: number, rawTo: number,
  ): void {
    if (this.held !== null && Number.isNaN(this.followedByS)) this.followedByS = startS
    // Days are stored each at a scale of its own: a finer read must not make weeks finer.
    if (decimals !== this.#decimals && Math.max(decimals, this.#decimals) > USUAL_DECIMALS
      && this.#length * this.intervalS >= DAY_S) this.close()
    const gap = (startS - this.#nextS) / this.intervalS
    const fits = this.#length > 0 && version === this.#version && Number.isInteger(gap) && gap >= 0
      && gap * this.intervalS < DAY_S && this.#rescale(mantissa, decimals)
    if (!fits) {
      this.close()
      this.#startS = startS
      this.#decimals = decimals
      this.#lane = lane
      this.#version = version
      this.#place = place
      this.#rawFrom = rawFrom
      this.#rawTo = rawFrom
      this.#whole = true
    }
    const slot = fits ? this.#length + gap : 0
    this.#reserve(slot + 1)
    if (fits) {
      for (let i = this.#length; i < slot; i++) this.#values[this.#first + i] = MISSING
      if (this.#lanes === null && lane !== this.#lane) {
        this.#lanes = new Array<number>(this.#length).fill(this.#lane)
      }
      if (this.#lanes !== null) {
        while (this.#lanes.length < slot) this.#lanes.push(this.#lane)
        this.#lanes.push(lane)
      }
    }
    this.#values[this.#first + slot] = mantissa * P10[this.#decimals - decimals]
    this.#length = slot + 1
    this.#nextS = this.endS = startS + this.intervalS
    if (rawFrom === this.#rawTo) this.#rawTo = rawTo
    else this.#whole = false
  }

  /** Brings the open block to the finer of its own scale and the read's; false where one scale cannot hold both. */
  #rescale(mantissa: number, decimals: number): boolean {
    if (decimals <= this.#decimals) return Math.abs(mantissa) * P10[this.#decimals - decimals] <= MAX_MANTISSA
    const factor = P10[decimals - this.#decimals]
    const limit = MAX_MANTISSA / factor
    const values = this.#values
    const end = this.#first + this.#length
    for (let i = this.#first; i < end; i++) if (values[i] !== MISSING && Math.abs(values[i]) > limit) return false
    for (let i = this.#first; i < end; i++) if (values[i] !== MISSING) values[i] *= factor
    this.#decimals = decimals
    return true
  }

  #reserve(length: number): void {
    if (length <= this.#capacity) return
    const capacity = Math.max(length, this.#capacity === 0 ? 24 : this.#capacity * 4)
    const first = this.#slabs.take(capacity)
    const values = this.#slabs.current
    for (let i = 0; i < this.#length; i++) values[first + i] = this.#values[this.#first + i]
    this.#values = values
    this.#first = first
    this.#capacity = capacity
  }
}
