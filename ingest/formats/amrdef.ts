import { unitOf, type Unit } from '../../engine/quantity.js'
import { Flow, Quality, type FlowCode } from '../../engine/read-batch.js'
import type { DecodeContext, Decoded, Format, FormatState } from './format.js'
import { kindOfEvent } from './iec61968-codes.js'
import { ReadSink } from './sink.js'
import { plainBytes } from './text.js'
import { TimeReader } from './timestamps.js'
import { meterFault } from './words.js'
import { attribute, cutElements, XmlReader, type XmlAttributes, type XmlHandler } from './xml-reader.js'
import { XmlReads, type ReadFacts } from './xml-reads.js'
import { DecimalReader, isBlankAt, ownText, XmlTime } from './xml-text.js'

const E = {
  AMRDEF: 1, MeterReadings: 2, Meter: 3, ConsumptionData: 4, ConsumptionSpec: 5, MaxDemandData: 6, MaxDemandSpec: 7,
  CumulativeDemandData: 8, CumulativeDemandSpec: 9, CoincidentDemandData: 10, CoincidentDemandSpec: 11, Channel: 12,
  IntervalData: 13, IntervalSpec: 14, Reading: 15, QualityFlags: 16, Event: 17, InstrumentationValue: 18,
} as const
const VOCABULARY: ReadonlyMap<string, number> = new Map(Object.entries(E))
const RECORDS = new Set(['MeterReadings'])
/** Flags that say nothing against the value. */
const HARMLESS = new Set(['DST', 'Restoration'])

/** Labels of the registers that are no consumption. */
const LABELS: Readonly<Record<number, string>> = {
  [E.MaxDemandSpec]: 'max', [E.CumulativeDemandSpec]: 'cumulative', [E.CoincidentDemandSpec]: 'coincident',
}

interface Spec {
  unit: Unit | undefined
  unitText: string
  flow: FlowCode
  label: string
  /** Seconds; 0: the readings are those of registers. */
  intervalS: number
  multiplier: number
  multiplierDigits: number
}

/**
 * AMRDEF of Elster/Honeywell EnergyAxis MAS 7.x, as public programs that read it have it; no description of the maker was
 * found. Interval readings are labelled by their end and raw: times the Multiplier of their IntervalSpec. That the values
 * of ConsumptionData are engineering units already, and the layout of events, are not verified.
 *
 * Times are the wall clock of the meter's zone: TimeZoneOffset minutes west all year where ObservesDaylightSavings is
 * not set, else local time of the source's zone.
 */
export const amrdef: Format = {
  name: 'amrdef',

  decode(part: Uint8Array, ctx: DecodeContext, state: FormatState | null, final: boolean): Decoded {
    const bytes = plainBytes(part)
    const reader = new XmlReader(bytes, state?.xml ?? null, VOCABULARY)
    const file = new MeterFile(reader, bytes.length, ctx, state)
    const xml = reader.read(file, final)
    if (file.passedOver > 0) file.sink.notes.push(`${file.passedOver} InstrumentationValue elements are no reads, and are passed over.`)
    return file.sink.finish(final, { bytes: (state?.bytes ?? 0) + bytes.length, lines: 0, records: file.records, xml })
  },

  cut(bytes: Uint8Array, limit: number): number {
    return cutElements(plainBytes(bytes), limit, RECORDS)
  },
}

class MeterFile implements XmlHandler {
  readonly sink: ReadSink
  records: number
  passedOver = 0
  readonly #reader: XmlReader
  readonly #ctx: DecodeContext
  readonly #reads: XmlReads
  readonly #time = new TimeReader()
  readonly #decimal = new DecimalReader()
  readonly #at = new XmlTime()
  readonly #collected = new XmlTime()
  #meter = ''
  /** What is wrong with the meter's id. */
  #fault: string | undefined
  /** Seconds east of UTC of the meter's clock; NaN: local time of the source's zone. */
  #offsetS = NaN
  #spec: Spec | null = null
  #isReading = false
  /** The open Reading's value: mantissa x 10^-digits, NaN where it is no number. */
  #isBlank = false
  #mantissa = NaN
  #digits = 0
  #rawFrom = 0
  #isSkipped = false
  #isDoubted = false
  /** What the readings under a Meter and a spec have in common. */
  #facts: ReadFacts | null = null

  constructor(reader: XmlReader, bytes: number, ctx: DecodeContext, state: FormatState | null) {
    this.#reader = reader
    this.#ctx = ctx
    this.#fault = meterFault(ctx.meter ?? '')
    this.records = state?.records ?? 0
    this.sink = new ReadSink(ctx, state, 'record', bytes >> 3)
    this.#reads = new XmlReads(this.sink, ctx)
  }

  open(element: number, attributes: XmlAttributes): void {
    switch (element) {
      case E.MeterReadings:
        this.#meter = this.#ctx.meter ?? ''
        this.#fault = meterFault(this.#meter)
        this.#facts = null
        this.#offsetS = NaN
        this.#collected.clear()
        this.#collected.read(attribute(attributes, 'CollectionTime') ?? '', this.#time)
        break
      case E.Meter:
        this.#openMeter(attributes)
        break
      case E.ConsumptionSpec:
      case E.MaxDemandSpec:
      case E.CumulativeDemandSpec:
      case E.CoincidentDemandSpec:
      case E.IntervalSpec:
        this.#spec = this.#specOf(element, attributes)
        this.#facts = null
        break
      case E.ConsumptionData:
      case E.MaxDemandData:
      case E.CumulativeDemandData:
      case E.CoincidentDemandData:
      case E.IntervalData:
        this.#spec = null
        break
      case E.Reading:
        this.#isReading = true
        this.#rawFrom = this.#reader.tagFrom()
        this.#isSkipped = this.#isDoubted = false
        this.#at.clear()
        this.#at.read(attribute(attributes, 'TimeStamp') ?? '', this.#time)
        this.#value(attribute(attributes, 'RawReading') ?? attribute(attributes, 'Value') ?? '')
        break
      case E.QualityFlags:
        if (this.#isReading) this.#flags(attributes)
        break
      case E.Event:
        this.#event(attributes)
        break
      case E.InstrumentationValue:
        this.passedOver++
        break
    }
  }

  close(element: number): void {
    if (element !== E.Reading || !this.#isReading) return
    this.#isReading = false
    if (this.#isBlank || this.#isSkipped) return
    const reads = this.#reads
    reads.place = ++this.records
    reads.rawFrom = this.#rawFrom
    reads.rawTo = this.#reader.position()
    reads.lane = this.#isDoubted ? Quality.questionable : Quality.actual
    this.#place()
  }

  #value(text: string): void {
    this.#isBlank = isBlankAt(text, 0, text.length)
    const isNumber = this.#decimal.read(text)
    this.#mantissa = isNumber ? this.#decimal.mantissa : NaN
    this.#digits = this.#decimal.digits
  }

  #flags(attributes: XmlAttributes): void {
    this.#isSkipped = this.#isDoubted = false
    for (const name in attributes) {
      if (!/^(?:1|true)$/i.test(attributes[name])) continue
      if (name === 'SkippedInterval') this.#isSkipped = true
      if (!HARMLESS.has(name)) this.#isDoubted = true
    }
  }

  #openMeter(attributes: XmlAttributes): void {
    const names = ['MeterName', 'SerialNumber', 'MeterIrn'].map(name => attribute(attributes, name)?.trim() ?? '')
    this.#meter = ownText([...names, this.#ctx.meter ?? ''].find(name => name !== '') ?? '')
    this.#fault = meterFault(this.#meter)
    this.#facts = null
    const west = attribute(attributes, 'TimeZoneOffset') ?? ''
    const observes = /^(?:1|true|yes|y)$/i.test(attribute(attributes, 'ObservesDaylightSavings') ?? '')
    this.#offsetS = observes || !this.#decimal.read(west) ? NaN : -60 * (this.#decimal.mantissa / 10 ** this.#decimal.digits)
  }

  #specOf(element: number, attributes: XmlAttributes): Spec {
    const text = (name: string): string => attribute(attributes, name)?.trim() ?? ''
    const unitText = text('UOM')
    const minutes = this.#decimal.read(text('Interval')) ? this.#decimal.mantissa / 10 ** this.#decimal.digits : NaN
    const direction = text('Direction')
    const bucket = text('TouBucket')
    const isPlain = this.#decimal.read(text('Multiplier'))
    return {
      unit: unitText === '' ? unitOf(this.#ctx.defaultUnit ?? '') : unitOf(unitText), unitText,
      flow: /receiv/i.test(direction) ? Flow.received : /net/i.test(direction) ? Flow.net : Flow.delivered,
      label: [LABELS[element] ?? '', /^(?:total)?$/i.test(bucket) ? '' : bucket].filter(part => part !== '').join(' '),
      intervalS: element === E.IntervalSpec ? (minutes > 0 ? minutes * 60 : this.#ctx.defaultIntervalS ?? 0) : 0,
      multiplier: element === E.IntervalSpec && isPlain ? this.#decimal.mantissa : 1,
      multiplierDigits: element === E.IntervalSpec && isPlain ? this.#decimal.digits : 0,
    }
  }

  #place(): void {
    const reads = this.#reads
    const spec = this.#spec
    if (this.#fault !== undefined) {
      reads.problem('', 'meter-invalid', this.#fault)
      return
    }
    if (spec?.unit === undefined) {
      reads.problem(this.#meter, 'unit-unsupported', `The unit ${JSON.stringify(spec?.unitText.slice(0, 40) ?? '')} is not known.`)
      return
    }
    const facts = this.#facts ??= { meter: this.#meter, flow: spec.flow, unit: spec.unit, versionUs: 0, tou: spec.label }
    const mantissa = this.#mantissa * spec.multiplier
    if (!(Math.abs(mantissa) < 1e15)) {
      reads.refuseValue(facts)
      return
    }
    const digits = this.#digits + spec.multiplierDigits
    // A register without a time was read when the data were collected.
    const at = this.#at.isSet || spec.intervalS > 0 ? this.#at : this.#collected
    if (!at.isSet) reads.refuseTime(facts)
    else {
      const offsetS = Number.isNaN(at.offsetS) ? this.#offsetS : at.offsetS
      if (spec.intervalS > 0) reads.addInterval(facts, at.localS, offsetS, spec.intervalS, spec.intervalS, mantissa, digits)
      else reads.addRegister(facts, at.localS, offsetS, mantissa, digits)
    }
  }

  #event(attributes: XmlAttributes): void {
    const word = ['EventType', 'Type', 'Name', 'Description', 'Code'].map(name => attribute(attributes, name)?.trim() ?? '').find(text => text !== '') ?? ''
    const kind = kindOfEvent(word, '')
    this.#at.clear()
    this.#at.read(attribute(attributes, 'TimeStamp') ?? '', this.#time)
    if (Number.isNaN(this.#at.offsetS)) this.#at.offsetS = this.#offsetS
    const atS = this.#at.instant(this.sink)
    const reads = this.#reads
    reads.place = ++this.records
    reads.rawFrom = this.#reader.tagFrom()
    reads.rawTo = this.#reader.position()
    if (this.#fault !== undefined) reads.problem('', 'meter-invalid', this.#fault)
    else if (kind === '' || Number.isNaN(atS)) reads.problem(this.#meter, 'event-unknown', 'The event says no type, or no time.')
    else this.sink.events.push({ meter: this.#meter, kind, atS })
  }
}
