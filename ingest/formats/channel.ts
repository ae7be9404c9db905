import { MAX_MANTISSA, MISSING, type FlowCode, type ReadBatchBuilder } from '../../engine/read-batch.js'
import { P10 } from './decimal.js'
import type { HeldReads } from './format.js'

const DAY_S = 86400

/**
 * Gathers single reads of one channel into blocks. A read that follows the last one lengthens the block; one that
 * leaves out less than a day fills the gap with missing slots; any other begins a block of its own, and so does a
 * second read for a slot: which of the two stands is for settlement to decide.
 */
export class Channel {
  readonly meter: string
  readonly flow: FlowCode
  readonly intervalS: number
  /** The meter's next channel, of another flow or interval length. */
  next: Channel | null = null

  /** Reads at repeated local times, in file order, and the start of the first read after them. */
  held: HeldReads[] | null = null
  followedByS = NaN

  /** Where the last read ended; NaN before the first. */
  endS = NaN

  readonly #builder: ReadBatchBuilder
  #values = new Int32Array(32)
  #lanes: Int16Array | null = null
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

  constructor(meter: string, flow: FlowCode, intervalS: number, builder: ReadBatchBuilder) {
    this.meter = meter
    this.flow = flow
    this.intervalS = intervalS
    this.#builder = builder
  }

  /**
   * Appends a read of mantissa x 10^-decimals kWh.
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
      && this.#lanes === null && this.#length < this.#values.length) {
      this.#values[this.#length++] = mantissa
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

  /** Ends the open block. */
  close(): void {
    if (this.#length > 0) {
      this.#builder.addBlock({
        meter: this.meter,
        startS: this.#startS,
        intervalS: this.intervalS,
        flow: this.flow,
        lane: this.#lane,
        exponent: -this.#decimals,
        version: this.#version,
        place: this.#place,
        rawFrom: this.#whole ? this.#rawFrom : 0,
        rawTo: this.#whole ? this.#rawTo : 0,
      }, this.#values.subarray(0, this.#length), this.#lanes?.subarray(0, this.#length))
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
      this.#values.fill(MISSING, this.#length, slot)
      if (this.#lanes === null && lane !== this.#lane) {
        this.#lanes = new Int16Array(this.#values.length).fill(this.#lane)
      }
      this.#lanes?.fill(this.#lane, this.#length, slot)
    }
    this.#values[slot] = mantissa * P10[this.#decimals - decimals]
    if (this.#lanes !== null) this.#lanes[slot] = lane
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
    for (let i = 0; i < this.#length; i++) {
      if (this.#values[i] !== MISSING && Math.abs(this.#values[i]) > limit) return false
    }
    for (let i = 0; i < this.#length; i++) if (this.#values[i] !== MISSING) this.#values[i] *= factor
    this.#decimals = decimals
    return true
  }

  #reserve(length: number): void {
    if (length <= this.#values.length) return
    const capacity = Math.max(length, this.#values.length * 2)
    const values = new Int32Array(capacity)
    values.set(this.#values.subarray(0, this.#length))
    this.#values = values
    if (this.#lanes === null) return
    const lanes = new Int16Array(capacity)
    lanes.set(this.#lanes.subarray(0, this.#length))
    this.#lanes = lanes
  }
}
