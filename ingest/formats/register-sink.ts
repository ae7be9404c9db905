import { Quantity } from '../../engine/quantity.js'
import { RegisterBatchBuilder, type RegisterBatch } from '../../engine/register-batch.js'
import { exactDecimal } from './number-text.js'
import { registerText } from './record-text.js'
import type { ReadSink, RecordFacts, RecordTime } from './sink.js'
import { localText } from './timestamps.js'
import { show } from './words.js'

/** What a register's record says, apart from when and how much. */
export type RegisterFacts = Omit<RecordFacts, 'intervalS'> & {
  /** Time-of-use label; the total where not given. */
  tou?: string
}

/** Where decoders put reads that are no intervals: cumulative registers, and periods longer than a day. */
export class RegisterSink {
  readonly #sink: ReadSink
  readonly #round: boolean
  readonly #builder = new RegisterBatchBuilder()

  constructor(sink: ReadSink, round: boolean) {
    this.#sink = sink
    this.#round = round
  }

  /**
   * Takes a cumulative register's read, or with `from` the consumption of the period from then to `at`.
   *
   * @param at when it was read; a local time that the clock change repeats or skips goes to quarantine
   * @param text the number as it stands in the body, in a unit that adds `shift` decimals
   */
  add(facts: RegisterFacts, at: RecordTime, text: string, shift: number, from?: RecordTime): void {
    const value = exactDecimal(text, shift, this.#round)
    if (value === undefined) {
      this.#sink.problem(facts, 'value-not-number', `${show(text)} is no number that a register shows.`, {
        help: 'Registers have up to 15 digits; leave the field empty where there is no read.',
      })
      return
    }
    const atS = this.#instant(facts, at, text, shift)
    if (atS === undefined) return
    const fromS = from === undefined ? NaN : this.#instant(facts, from, text, shift)
    if (fromS === undefined) return
    if (fromS >= atS) {
      this.#sink.problem(facts, 'period-order', 'The period ends before it begins.')
      return
    }
    if (value.rounded) this.#sink.decimals.rounded++
    this.#builder.add({
      meter: facts.meter, tou: facts.tou ?? '', quantity: facts.quantity ?? Quantity.energy, flow: facts.flow, atS, fromS,
      mantissa: value.mantissa, exponent: -value.decimals, lane: facts.lane, version: facts.version, place: facts.place,
    })
  }

  finish(): RegisterBatch {
    return this.#builder.finish()
  }

  /** Instant of a time that stands alone; reports why there is none. */
  #instant(facts: RegisterFacts, time: RecordTime, text: string, shift: number): number | undefined {
    if (!this.#sink.isLocal(time)) return time.localS - time.offsetS
    const instants = this.#sink.clock?.instants(time.localS)
    if (instants?.length === 1) return instants[0]
    const local = localText(time.localS)
    const [code, message, help] = instants === undefined
      ? ['zone-unknown', `${local} is a local time, and the source's time zone is not known.`,
          'Set the source\'s zone, or send timestamps with their offset.']
      : instants.length === 0
        ? ['local-time-does-not-exist', `Clocks skip ${local}.`, 'Check the source\'s zone.']
        : ['local-time-ambiguous', `Clocks show ${local} twice.`, 'Send the timestamp with its offset.']
    this.#sink.problem(facts, code, message, { help, record: registerText(facts, local, text, shift) })
    return undefined
  }
}
