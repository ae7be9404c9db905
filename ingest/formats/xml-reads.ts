import type { FlowCode } from '../../engine/read-batch.js'
import type { Channel } from './channel.js'
import type { Clock, DecodeContext } from './format.js'
import { refuseValue } from './json-record.js'
import type { ReadSink, RecordFacts, RecordTime } from './sink.js'
import { localText, utcText } from './timestamps.js'
import { intervalKind } from './words.js'

/** Beyond the year 9999 there is no text for a time, and no read. */
const LATEST_S = 253_402_300_799
const QUARTER_S = 91 * 86_400
const TIME_HELP = 'Check the head-end\'s export.'

/** What a group of reads has in common. */
export interface ReadFacts {
  meter: string
  flow: FlowCode
  /** Unit in which the quantity is kept, and the decimals that the file's unit adds. */
  unit: string
  shift: number
  /** Microseconds since the epoch; 0: not stated. */
  versionUs: number
  isRegister: boolean
  /** Time of use of a register; '' for the total. */
  touLabel: string
}

/** Where the XML formats put single reads; the place, bytes and quality of the next read stand in the fields. */
export class XmlReads {
  place = 0
  rawFrom = 0
  rawTo = 0
  lane = 0
  readonly #sink: ReadSink
  readonly #clock: Clock
  /** The channel of the last read. */
  #channel: Channel | null = null
  readonly #time: RecordTime = { localS: 0, offsetS: 0, backS: 0 }

  constructor(sink: ReadSink, ctx: DecodeContext) {
    this.#sink = sink
    this.#clock = ctx.clock ?? 'utc'
  }

  /**
   * Takes an interval read by its start on the file's clock.
   *
   * @param startS epoch seconds of that clock
   * @param mantissa value = mantissa x 10^-digits in the unit that `facts.shift` is of
   */
  addEpoch(facts: ReadFacts, startS: number, durationS: number, mantissa: number, digits: number): void {
    if (!isTime(startS)) this.refuseTime(facts)
    else if (this.#clock === 'utc') this.addInterval(facts, startS, 0, 0, durationS, mantissa, digits)
    else if (this.#clock === 'local-standard') {
      this.addInterval(facts, startS, this.standardOffset(startS), 0, durationS, mantissa, digits)
    } else this.addInterval(facts, startS, NaN, 0, durationS, mantissa, digits)
  }

  /**
   * Takes an interval read by a wall clock.
   *
   * @param localS seconds since 1970-01-01T00:00 of that clock
   * @param offsetS seconds east of UTC; NaN: local time of the source's zone
   * @param backS subtracted to come to the start: the interval length of an end label, else 0
   */
  addInterval(
    facts: ReadFacts, localS: number, offsetS: number, backS: number, intervalS: number, mantissa: number, digits: number,
  ): void {
    if (!isTime(localS)) {
      this.refuseTime(facts)
      return
    }
    if (!(intervalS > 0)) {
      this.problem(facts, 'interval-unknown', 'The interval length is not stated.',
        { help: 'Set the source\'s interval length.' })
      return
    }
    const { decimals } = this.#sink
    const fit = decimals.fit(mantissa, digits + facts.shift)
    const record: RecordFacts = this.#record(facts, intervalS)
    if (fit !== 'ok') {
      const text = Number.isNaN(offsetS) ? localText(localS - backS) : utcText(localS - offsetS - backS)
      const factor = digits + facts.shift
      refuseValue(this.#sink, record, fit, factor > 0 ? mantissa / 10 ** factor : mantissa * 10 ** -factor, text)
      return
    }
    if (!Number.isNaN(offsetS) && intervalS < 86_400 && intervalKind(intervalS) === 'grid') {
      this.#channelOf(facts, intervalS).append(localS - offsetS - backS, decimals.mantissa, decimals.decimals, this.lane,
        facts.versionUs, this.place, this.rawFrom, this.rawTo)
      return
    }
    this.#time.localS = localS
    this.#time.offsetS = offsetS
    this.#time.backS = backS
    this.#sink.addFitted(record, this.#time)
  }

  /** Takes a counter's value at an instant. */
  addRegister(facts: ReadFacts, _atS: number, _mantissa: number, _digits: number): void {
    this.problem(facts, 'register-read', 'The value is that of a register.',
      { outcome: 'rejected', help: 'Send the interval data.' })
  }

  /** Seconds east of UTC of the zone's standard time about a time; NaN where no zone is known. */
  standardOffset(localS: number): number {
    const zone = this.#sink.clock?.zone
    if (zone === undefined) return NaN
    let offsetS = Infinity
    for (let quarter = 0; quarter < 4; quarter++) offsetS = Math.min(offsetS, zone.offsetAt(localS + quarter * QUARTER_S))
    return offsetS
  }

  refuseValue(facts: ReadFacts): void {
    this.problem(facts, 'value-not-number', 'The value is no number.', { help: TIME_HELP })
  }

  refuseTime(facts: ReadFacts): void {
    this.problem(facts, 'time-invalid', 'The time of the read is missing, or is none.', { help: TIME_HELP })
  }

  problem(
    facts: { meter: string }, code: string, message: string, options: Parameters<ReadSink['problem']>[3] = {},
  ): void {
    this.#sink.problem({ place: this.place, rawFrom: this.rawFrom, rawTo: this.rawTo, meter: facts.meter }, code, message,
      options)
  }

  #record({ meter, flow, versionUs }: ReadFacts, intervalS: number): RecordFacts {
    return {
      meter, flow, intervalS, lane: this.lane, version: versionUs, place: this.place, rawFrom: this.rawFrom,
      rawTo: this.rawTo,
    }
  }

  #channelOf({ meter, flow }: ReadFacts, intervalS: number): Channel {
    const last = this.#channel
    if (last?.meter === meter && last.flow === flow && last.intervalS === intervalS) return last
    return this.#channel = this.#sink.channel(meter, flow, intervalS)
  }
}

/** Whether a number of seconds is a time that has a text. */
export function isTime(s: number): boolean {
  return s >= 0 && s <= LATEST_S
}
