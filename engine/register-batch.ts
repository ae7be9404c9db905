import type { QuantityCode } from './quantity.js'
import type { FlowCode } from './read-batch.js'

/**
 * Reads that are no intervals: cumulative registers at an instant, and the consumption of periods longer than a day.
 * They are kept apart and never summed with intervals. Columns, as a body may hold millions of them.
 */
export interface RegisterBatch {
  readonly count: number
  /** Meter id as the source wrote it. */
  readonly meters: readonly string[]
  /** Time-of-use label, or other name that tells registers of one quantity and flow apart; empty: the total. */
  readonly tou: readonly string[]
  readonly quantity: Uint8Array
  readonly flow: Uint8Array
  /** Instant of the read, epoch seconds; of a period its end. */
  readonly atS: Float64Array
  /** Start of the period whose consumption the value is, epoch seconds; NaN: the value is a cumulative register's. */
  readonly fromS: Float64Array
  /** Value = mantissa x 10^exponent of the quantity's unit; an integer of at most 15 digits. */
  readonly mantissa: Float64Array
  readonly exponent: Int8Array
  readonly lane: Int16Array
  /** When the source stated the read, microseconds since the epoch; 0: not stated, the delivery's version holds. */
  readonly version: Float64Array
  /** Place of the record in the body: its number or line, from 1. */
  readonly place: Int32Array
}

/** One register read or one period's consumption. */
export interface RegisterEntry {
  meter: string
  tou: string
  quantity: QuantityCode
  flow: FlowCode
  atS: number
  /** NaN for a cumulative register. */
  fromS: number
  mantissa: number
  exponent: number
  lane: number
  version: number
  place: number
}

/** Builds a batch of registers by appending. */
export class RegisterBatchBuilder {
  #count = 0
  readonly #meters: string[] = []
  readonly #tou: string[] = []
  #quantity = new Uint8Array(0)
  #flow = new Uint8Array(0)
  #atS = new Float64Array(0)
  #fromS = new Float64Array(0)
  #mantissa = new Float64Array(0)
  #exponent = new Int8Array(0)
  #lane = new Int16Array(0)
  #version = new Float64Array(0)
  #place = new Int32Array(0)

  add(entry: RegisterEntry): void {
    if (this.#count === this.#flow.length) this.#grow()
    const i = this.#count++
    this.#meters.push(entry.meter)
    this.#tou.push(entry.tou)
    this.#quantity[i] = entry.quantity
    this.#flow[i] = entry.flow
    this.#atS[i] = entry.atS
    this.#fromS[i] = entry.fromS
    this.#mantissa[i] = entry.mantissa
    this.#exponent[i] = entry.exponent
    this.#lane[i] = entry.lane
    this.#version[i] = entry.version
    this.#place[i] = entry.place
  }

  finish(): RegisterBatch {
    return {
      count: this.#count, meters: this.#meters, tou: this.#tou, quantity: this.#quantity, flow: this.#flow, atS: this.#atS,
      fromS: this.#fromS, mantissa: this.#mantissa, exponent: this.#exponent, lane: this.#lane, version: this.#version,
      place: this.#place,
    }
  }

  #grow(): void {
    const n = Math.max(64, this.#count * 2)
    this.#quantity = wider(this.#quantity, new Uint8Array(n))
    this.#flow = wider(this.#flow, new Uint8Array(n))
    this.#atS = wider(this.#atS, new Float64Array(n))
    this.#fromS = wider(this.#fromS, new Float64Array(n))
    this.#mantissa = wider(this.#mantissa, new Float64Array(n))
    this.#exponent = wider(this.#exponent, new Int8Array(n))
    this.#lane = wider(this.#lane, new Int16Array(n))
    this.#version = wider(this.#version, new Float64Array(n))
    this.#place = wider(this.#place, new Int32Array(n))
  }
}

/** No register at all. */
export const NO_REGISTERS: RegisterBatch = new RegisterBatchBuilder().finish()

function wider<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from)
  return to
}
