import { BodyError } from '../../engine/problem.js'
import { unitOf, type Unit } from '../../engine/quantity.js'
import { Flow, Quality } from '../../engine/read-batch.js'
import { Accumulation, flowOfDirection, qualityOfEspi, unitOfCode } from './cim-codes.js'
import type { EspiLinks, EspiResources, EspiType } from './espi-resources.js'
import type { DecodeContext, FormatState } from './format.js'
import { ReadSink } from './sink.js'
import { meterFault } from './words.js'
import { XmlReads, type ReadFacts } from './xml-reads.js'

/** One IntervalReading as it stands in the file; one object serves for all. */
export interface EspiReading {
  /** Epoch seconds by the file's clock; NaN where it is no number. */
  startS: number
  /** It has a start of its own. */
  isTimed: boolean
  durationS: number
  isPresent: boolean
  isNumber: boolean
  mantissa: number
  digits: number
  /** Worst of its qualities; -1: none is stated. */
  quality: number
}

interface Block {
  first: number
  count: number
  startS: number
  rawFrom: number
  rawTo: number
  links: EspiLinks
  versionUs: number
}

/** In `digits`: no value, and a value that is no number. */
const ABSENT = 255
const NO_NUMBER = 254

const TYPE_HELP = 'Set the source\'s unit, such as Wh, or send the ReadingType with the blocks.'

/**
 * Gathers a feed's blocks as they are read, and makes reads of them when all of the body, or of its part, is known: the
 * ReadingType may stand after the blocks that are of it.
 */
export class EspiBlocks {
  readonly sink: ReadSink
  /** Start of the open block's interval. */
  startS = NaN
  readonly #resources: EspiResources
  readonly #ctx: DecodeContext
  readonly #reads: XmlReads
  readonly #final: boolean
  readonly #before: number
  readonly #blocks: Block[] = []
  /** Blocks whose entry is still open. */
  #inEntry = 0
  #blockFrom = 0
  #first = 0
  #count = 0
  readonly #reading: EspiReading = {
    startS: NaN, isTimed: false, durationS: 0, isPresent: false, isNumber: false, mantissa: 0, digits: 0, quality: -1,
  }
  #readingFrom = 0
  #starts = new Float64Array(256)
  #durations = new Float64Array(256)
  #mantissas = new Float64Array(256)
  #digits = new Uint8Array(256)
  #qualities = new Int8Array(256)
  #rawFrom = new Int32Array(256)
  #rawTo = new Int32Array(256)

  constructor(
    resources: EspiResources, ctx: DecodeContext, state: FormatState | null, bytes: number, final: boolean,
  ) {
    this.#resources = resources
    this.#ctx = ctx
    this.#final = final
    this.#before = state?.records ?? 0
    this.sink = new ReadSink(ctx, state, 'record', bytes >> 4)
    this.#reads = new XmlReads(this.sink, ctx)
  }

  beginBlock(rawFrom: number): void {
    this.startS = NaN
    this.#blockFrom = rawFrom
    this.#first = this.#count
  }

  /** Begins a reading, which the caller then fills. */
  begin(rawFrom: number): EspiReading {
    const reading = this.#reading
    reading.startS = NaN
    reading.isTimed = false
    reading.durationS = 0
    reading.isPresent = false
    reading.isNumber = false
    reading.digits = 0
    reading.quality = -1
    this.#readingFrom = rawFrom
    return reading
  }

  /** Takes the reading that begin() gave. */
  end(rawTo: number): void {
    const i = this.#count++
    if (i === this.#starts.length) this.#grow()
    const { startS, isTimed, durationS, isPresent, isNumber, mantissa, digits, quality } = this.#reading
    // Infinity: the reading has no time of its own, and follows the one before.
    this.#starts[i] = isTimed ? startS : Infinity
    this.#durations[i] = durationS
    this.#mantissas[i] = mantissa
    this.#digits[i] = !isPresent ? ABSENT : isNumber ? digits : NO_NUMBER
    this.#qualities[i] = quality
    this.#rawFrom[i] = this.#readingFrom
    this.#rawTo[i] = rawTo
  }

  endBlock(rawTo: number): void {
    this.#blocks.push({
      first: this.#first, count: this.#count - this.#first, startS: this.startS, rawFrom: this.#blockFrom, rawTo,
      links: { self: '', up: '', related: [] }, versionUs: 0,
    })
    this.#inEntry++
  }

  /** Tells the blocks read since the last entry the links of theirs. */
  endEntry(links: EspiLinks, versionUs: number): void {
    for (const block of this.#blocks.slice(this.#blocks.length - this.#inEntry)) {
      block.links = links
      block.versionUs = versionUs
    }
    this.#inEntry = 0
  }

  /** Makes reads of all blocks; returns how many records there were, those of earlier parts included. */
  place(): number {
    for (const block of this.#blocks) if (block.count > 0) this.#place(block)
    return this.#before + this.#count
  }

  #place(block: Block): void {
    const type = this.#typeOf(block)
    const meter = this.#resources.meterOf(block.links) ?? this.#ctx.meter
    if (meter === undefined) {
      throw new BodyError(422, 'meter-not-stated', 'The file names no usage point, and so no meter.',
        `record ${this.#before + block.first + 1}`, 'Say whose reads they are with ?meter= or --meter.')
    }
    const fault = meterFault(meter)
    const unit = this.#unitOf(type)
    const flow = type === null || type.flow < 0 ? Flow.delivered : flowOfDirection(type.flow)
    if (fault !== undefined) this.#refuse(block, '', 'meter-invalid', fault)
    else if (unit === undefined) {
      this.#refuse(block, meter, 'unit-unsupported', `The unit uom ${type?.uom ?? 0} is not known.`, TYPE_HELP)
    } else if (flow === undefined) {
      this.#refuse(block, meter, 'flow-unsupported',
        `The flowDirection ${type?.flow ?? 0} is neither delivered, received nor net.`)
    } else if (type !== null && type.bucket !== 0 && !isRegister(type, 0)) {
      this.#refuse(block, meter, 'bucket-unsupported', 'The reads are of one tier or time of use, a part of the total.',
        'Send the ReadingType of the total: its reads are the sum.')
    } else {
      const tou = type === null || type.bucket === 0 ? '' : String(type.bucket)
      this.#placeReads(block, type, { meter, flow, unit, versionUs: block.versionUs, tou })
    }
  }

  /** Unit of a type's values: its own, or the source's where it states none. */
  #unitOf(type: EspiType | null): Unit | undefined {
    if (type === null || type.uom <= 0) return unitOf(this.#ctx.defaultUnit ?? '')
    const unit = unitOfCode(type.uom)
    return unit === undefined || Number.isNaN(type.multiplier)
      ? undefined
      : { quantity: unit.quantity, shift: unit.shift - type.multiplier }
  }

  #placeReads(block: Block, type: EspiType | null, facts: ReadFacts): void {
    const defaultLane = type === null || type.defaultQuality < 0 ? Quality.actual : qualityOfEspi(type.defaultQuality)
    const typeS = (type?.intervalS ?? 0) > 0 ? type?.intervalS ?? 0 : this.#ctx.defaultIntervalS ?? 0
    const reads = this.#reads
    const offsetS = reads.epochOffsetS
    let nextS = block.startS
    for (let i = block.first; i < block.first + block.count; i++) {
      const ownS = this.#durations[i]
      const durationS = ownS > 0 ? ownS : typeS
      const startS = this.#starts[i] === Infinity ? nextS : this.#starts[i]
      nextS = startS + durationS
      const digits = this.#digits[i]
      if (digits === ABSENT) continue
      reads.place = this.#before + i + 1
      reads.rawFrom = this.#rawFrom[i]
      reads.rawTo = this.#rawTo[i]
      reads.lane = this.#qualities[i] < 0 ? defaultLane : this.#qualities[i]
      if (digits === NO_NUMBER) reads.refuseValue(facts)
      // A counter is read when its interval ends.
      else if (isRegister(type, ownS)) reads.addRegister(facts, startS + Math.max(0, ownS), offsetS, this.#mantissas[i], digits)
      else reads.addInterval(facts, startS, offsetS, 0, durationS, this.#mantissas[i], digits)
    }
  }

  #typeOf({ links, first }: Block): EspiType | null {
    const type = this.#resources.typeOf(links)
    if (type !== undefined) return type
    if (!this.#final) {
      throw new BodyError(413, 'reading-type-late',
        'The file is larger than one transaction, and a block stands before its ReadingType.',
        `record ${this.#before + first + 1}`,
        'Put the ReadingTypes and MeterReadings first, send fewer usage points at a time, or raise ATOMIC_MB.')
    }
    const only = this.#resources.onlyType()
    if (only !== undefined) return only
    if (this.#ctx.defaultUnit === undefined) {
      throw new BodyError(422, 'unit-not-stated', 'The links of the blocks lead to no ReadingType: their unit is not known.',
        `record ${this.#before + first + 1}`, TYPE_HELP)
    }
    return null
  }

  /** Refuses a whole block: its reads are told together. */
  #refuse(block: Block, meter: string, code: string, message: string, help?: string): void {
    let count = 0
    for (let i = block.first; i < block.first + block.count; i++) if (this.#digits[i] !== ABSENT) count++
    if (count === 0) return
    this.sink.problem({ place: this.#before + block.first + 1, rawFrom: block.rawFrom, rawTo: block.rawTo, meter }, code,
      message, { reads: count, outcome: 'rejected', ...(help === undefined ? {} : { help }) })
  }

  #grow(): void {
    const wider = <T extends { length: number, set(from: T): void }>(from: T, make: new (length: number) => T): T => {
      const to = new make(from.length * 2)
      to.set(from)
      return to
    }
    this.#starts = wider(this.#starts, Float64Array)
    this.#durations = wider(this.#durations, Float64Array)
    this.#mantissas = wider(this.#mantissas, Float64Array)
    this.#digits = wider(this.#digits, Uint8Array)
    this.#qualities = wider(this.#qualities, Int8Array)
    this.#rawFrom = wider(this.#rawFrom, Int32Array)
    this.#rawTo = wider(this.#rawTo, Int32Array)
  }
}

/**
 * Whether values are read at an instant: cumulative and summation always are; bulkQuantity and indications where the
 * reading has no duration, since files are known that say bulkQuantity of intervals.
 */
function isRegister(type: EspiType | null, durationS: number): boolean {
  if (type === null) return false
  if (type.accumulation === Accumulation.cumulative || type.accumulation === Accumulation.summation) return true
  const { bulkQuantity, indicating, instantaneous } = Accumulation
  return !(durationS > 0) && [bulkQuantity, indicating, instantaneous].some(code => code === type.accumulation)
}
