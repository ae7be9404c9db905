import type { Unit } from '../../engine/quantity.js'
import type { FlowCode } from '../../engine/read-batch.js'
import type { Channel } from './channel.js'
import type { DecodeContext } from './format.js'
import { refuseValue } from './json-record.js'
import type { RegisterFacts } from './register-sink.js'
import type { ReadSink, RecordFacts, RecordTime } from './sink.js'
import { localText, utcText } from './timestamps.js'
import { intervalKind } from './words.js'
import { exactText } from './xml-text.js'

/** Beyond the year 9999 there is no text for a time, and no read. */
const LATEST_S = 253_402_300_799
/** A local day has at most so many seconds: longer is a period. */
const LONGEST_DAY_S = 93_600
const HELP = 'Check the head-end\'s export.'

/** What a group of reads has in common. */
export interface ReadFacts {
  meter: string
  flow: FlowCode
  unit: Unit
  /** Microseconds since the epoch; 0: not stated. */
  versionUs: number
  /** Name that tells a register from others of its quantity and flow; '' for the total. */
  tou: string
}

/** Where the XML formats put single reads; the place, bytes and quality of the next read stand in the fields. */
export class XmlReads {
  place = 0
  rawFrom = 0
  rawTo = 0
  lane = 0
  readonly #sink: ReadSink
  /** Epoch times are those of a wall clock, told in the zone of the context. */
  readonly #isWallClock: boolean
  /** The channel of the last read, where its interval length fits a grid. */
  #channel: Channel | null = null

  constructor(sink: ReadSink, ctx: DecodeContext) {
    this.#sink = sink
    this.#isWallClock = ctx.clock !== undefined && ctx.clock !== 'utc'
  }

  /** Seconds east of UTC of an epoch time; NaN where the source writes a wall clock as if it were UTC. */
  get epochOffsetS(): number {
    return this.#isWallClock ? NaN : 0
  }

  /**
   * Takes an interval read, or what a period longer than a day came to.
   *
   * @param localS start, or with backS end, as seconds since 1970-01-01T00:00 of the clock that the record uses
   * @param offsetS seconds east of UTC of that clock; NaN: local time of the source's zone
   * @param backS subtracted to come to the start: the interval length of an end label, else 0
   * @param mantissa value = mantissa x 10^-digits of the source's unit
   */
  addInterval(
    facts: ReadFacts, localS: number, offsetS: number, backS: number, intervalS: number, mantissa: number, digits: number,
  ): void {
    if (!isTime(localS) || !(localS >= backS)) {
      this.refuseTime(facts)
      return
    }
    if (!(intervalS > 0)) {
      this.problem(facts.meter, 'interval-unknown', 'The interval length is not stated.',
        { help: 'Set the source\'s interval length.' })
      return
    }
    if (intervalS > LONGEST_DAY_S) {
      this.#addPeriod(facts, localS, offsetS, backS, intervalS, mantissa, digits)
      return
    }
    const { decimals, wallAsEpoch } = this.#sink
    const { quantity, shift } = facts.unit
    const fit = decimals.fit(mantissa, digits + shift)
    if (fit !== 'ok') {
      const text = Number.isNaN(offsetS) ? localText(localS - backS) : utcText(localS - offsetS - backS)
      refuseValue(this.#sink, this.#record(facts, intervalS), fit, Number(exactText(mantissa, digits + shift)), text)
      return
    }
    if (!Number.isNaN(offsetS) && !wallAsEpoch) {
      let channel = this.#channel
      if (channel?.meter !== facts.meter || channel.flow !== facts.flow || channel.intervalS !== intervalS
        || channel.quantity !== quantity) {
        channel = intervalS < 86_400 && intervalKind(intervalS) === 'grid'
          ? this.#sink.channel(facts.meter, facts.flow, intervalS, quantity) : null
        this.#channel = channel
      }
      if (channel !== null) {
        channel.append(localS - offsetS - backS, decimals.mantissa, decimals.decimals, this.lane, facts.versionUs,
          this.place, this.rawFrom, this.rawTo)
        return
      }
    }
    this.#sink.addFitted(this.#record(facts, intervalS), { localS, offsetS, backS })
  }

  /**
   * Seconds east of UTC at a time from which on, or back, intervals are counted: where clocks change among them they
   * still follow each other. NaN where a local time cannot be told.
   */
  offsetOf(localS: number, offsetS: number): number {
    if (!this.#sink.isLocal({ localS, offsetS, backS: 0 })) return offsetS
    const instants = isTime(localS) ? this.#sink.clock?.instants(localS) ?? [] : []
    return instants.length === 1 ? localS - instants[0] : offsetS
  }

  /** Takes a counter's value at an instant of the record's clock. */
  addRegister(facts: ReadFacts, localS: number, offsetS: number, mantissa: number, digits: number): void {
    if (!isTime(localS)) {
      this.refuseTime(facts)
      return
    }
    this.#register(facts, { localS, offsetS, backS: 0 }, mantissa, digits)
  }

  refuseValue(facts: { meter: string }): void {
    this.problem(facts.meter, 'value-not-number', 'The value is no number of at most 15 digits.', { help: HELP })
  }

  refuseTime(facts: { meter: string }): void {
    this.problem(facts.meter, 'time-invalid', 'The time of the read is missing, or is none.', { help: HELP })
  }

  /** Reports the record whose place stands in the fields. */
  problem(meter: string, code: string, message: string, options: Parameters<ReadSink['problem']>[3] = {}): void {
    this.#sink.problem({ place: this.place, rawFrom: this.rawFrom, rawTo: this.rawTo, meter }, code, message, options)
  }

  #addPeriod(
    facts: ReadFacts, localS: number, offsetS: number, backS: number, intervalS: number, mantissa: number, digits: number,
  ): void {
    const from: RecordTime = { localS: localS - backS, offsetS, backS: 0 }
    const to: RecordTime = { localS: localS - backS + intervalS, offsetS, backS: 0 }
    if (isTime(to.localS)) this.#register(facts, to, mantissa, digits, from)
    else this.refuseTime(facts)
  }

  #register(facts: ReadFacts, at: RecordTime, mantissa: number, digits: number, from?: RecordTime): void {
    const { intervalS: _, ...record } = this.#record(facts, 0)
    const register: RegisterFacts = { ...record, tou: facts.tou }
    this.#sink.registers.add(register, at, exactText(mantissa, digits), facts.unit.shift, from)
  }

  #record({ meter, flow, unit, versionUs }: ReadFacts, intervalS: number): RecordFacts {
    return {
      meter, flow, quantity: unit.quantity, intervalS, lane: this.lane, version: versionUs, place: this.place,
      rawFrom: this.rawFrom, rawTo: this.rawTo,
    }
  }
}

/** Whether a number of seconds is a time that has a text. */
export function isTime(s: number): boolean {
  return s >= 0 && s <= LATEST_S
}
