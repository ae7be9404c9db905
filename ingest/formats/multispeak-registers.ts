import { Quantity, unitOf, type Unit } from '../../engine/quantity.js'
import { Flow, Quality, type FlowCode } from '../../engine/read-batch.js'
import { MeterNames } from './multispeak-meter.js'
import { M, type MultiSpeakShared, type ObjectReader } from './multispeak.js'
import { meterFault } from './words.js'
import { attribute, type XmlAttributes } from './xml-reader.js'
import { DecimalReader, ownText, XmlTime } from './xml-text.js'

const KWH: Unit = { quantity: Quantity.energy, shift: 0 }
const KW: Unit = { quantity: Quantity.power, shift: 0 }
const KVAR: Unit = { quantity: Quantity['reactive-power'], shift: 0 }

/** One value of a meterRead, until its date and meter are known: elements come in any order. */
interface Value {
  unit: Unit | undefined
  /** Unit as written, for a message. */
  unitText: string
  flow: FlowCode
  tou: string
  text: string
  at: XmlTime | null
  quality: number
}

/**
 * meterRead (3.0) and meterReading (4.1): what a meter's registers showed at readingDate, in the elements of 3.0
 * (posKWh, negKWh, kW, kVAr, TOUReadings) and in readingValues. Whole or decimal, in the units of each.
 */
export class MeterReads implements ObjectReader {
  readonly #shared: MultiSpeakShared
  readonly #decimal = new DecimalReader()
  #values: Value[] = []
  readonly #meter = new MeterNames()
  readonly #date = new XmlTime()
  #kwDate: XmlTime | null = null
  #touRate = ''
  #inTou = false
  #value: Value | null = null
  #isOld = false
  #rawFrom = 0

  constructor(shared: MultiSpeakShared) {
    this.#shared = shared
  }

  open = (element: number, attributes: XmlAttributes): void => {
    switch (element) {
      case M.meterRead:
      case M.meterReading:
        this.#values = []
        this.#meter.clear()
        this.#date.clear()
        this.#kwDate = null
        this.#rawFrom = this.#shared.reader.tagFrom()
        break
      case M.meterID:
        this.#meter.open(attributes)
        break
      case M.TOUReading:
        this.#inTou = true
        this.#touRate = ''
        break
      case M.readingValue:
        this.#value = { unit: undefined, unitText: '', flow: Flow.delivered, tou: '', text: '', at: null, quality: Quality.actual }
        this.#isOld = false
        break
      case M.readingTypeCode: {
        if (this.#value === null) break
        const direction = attribute(attributes, 'flowDirection') ?? ''
        if (/revers|receiv/i.test(direction)) this.#value.flow = Flow.received
        else if (/net/i.test(direction)) this.#value.flow = Flow.net
        if (this.#value.unitText === '') this.#unit(attribute(attributes, 'displayableUOM') ?? '')
        break
      }
    }
  }

  close = (element: number, text: string): void => {
    if (this.#meter.close(element, text)) return
    switch (element) {
      case M.readingDate:
        this.#date.read(text, this.#shared.time)
        break
      case M.kWDateTime:
        if (!this.#inTou) (this.#kwDate ??= new XmlTime()).read(text, this.#shared.time)
        break
      case M.ratePeriod:
        if (this.#value !== null) this.#value.tou = ownText(text)
        else this.#touRate = ownText(text)
        break
      case M.posKWh:
        this.#add(KWH, Flow.delivered, '', text)
        break
      case M.negKWh:
        this.#add(KWH, Flow.received, '', text)
        break
      case M.kWh:
        this.#add(KWH, Flow.delivered, this.#inTou ? this.#touRate : '', text)
        break
      case M.kW:
        this.#add(KW, Flow.delivered, this.#inTou ? `max ${this.#touRate}` : 'max', text)
        break
      case M.kVAr:
        this.#add(KVAR, Flow.delivered, '', text)
        break
      case M.TOUReading:
        this.#inTou = false
        break
      case M.readingValue:
        this.#endValue()
        break
      case M.meterRead:
      case M.meterReading:
        this.#end()
        break
      default:
        if (this.#value !== null) this.#closeInValue(element, text, this.#value)
    }
  }

  #closeInValue(element: number, text: string, value: Value): void {
    switch (element) {
      case M.units:
      case M.uom:
        this.#unit(text)
        break
      case M.value:
        value.text = text.trim()
        break
      case M.dateTime:
      case M.timeStamp:
        value.at = new XmlTime()
        value.at.read(text, this.#shared.time)
        break
      case M.readingType:
      case M.fieldName:
      case M.name:
        // The name tells one register from another of the same quantity and flow.
        if (/revers|receiv|neg|export/i.test(text)) value.flow = Flow.received
        break
      case M.measurementPeriod:
        this.#isOld = /previous/i.test(text)
        break
      case M.readingStatusCode:
        if (/estim/i.test(text)) value.quality = Quality.estimated
        else if (/edit|manual/i.test(text)) value.quality = Quality.edited
        else if (/suspect|question|invalid|fail/i.test(text)) value.quality = Quality.questionable
        break
    }
  }

  #unit(text: string): void {
    if (this.#value === null || text.trim() === '') return
    this.#value.unitText = text.trim()
    this.#value.unit = unitOf(this.#value.unitText)
  }

  #add(unit: Unit, flow: FlowCode, tou: string, text: string): void {
    if (this.#value !== null || text.trim() === '') return
    this.#values.push({ unit, unitText: '', flow, tou, text: text.trim(), at: null, quality: Quality.actual })
  }

  #endValue(): void {
    const value = this.#value
    this.#value = null
    if (value === null || value.text === '') return
    // What a register showed at the end of the period before is a register of its own.
    if (this.#isOld) value.tou = `${value.tou} previous`.trim()
    this.#values.push(value)
  }

  #end(): void {
    const { reads, ctx } = this.#shared
    const meter = this.#meter.name(ctx)
    const fault = meterFault(meter)
    for (const value of this.#values) {
      reads.place = ++this.#shared.records
      reads.rawFrom = this.#rawFrom
      reads.rawTo = this.#shared.reader.position()
      reads.lane = value.quality
      const unit = value.unit ?? (value.unitText === '' ? unitOf(ctx.defaultUnit ?? 'kWh') : undefined)
      const own = value.at?.isSet === true ? value.at : null
      const at = own ?? (value.tou.startsWith('max') && this.#kwDate?.isSet === true ? this.#kwDate : this.#date)
      if (fault !== undefined) reads.problem('', 'meter-invalid', fault, { help: 'Name the meter in meterNo or meterID.' })
      else if (unit === undefined) {
        reads.problem(meter, 'unit-unsupported', `The unit ${JSON.stringify(value.unitText.slice(0, 40))} is not known.`)
      } else if (!this.#decimal.read(value.text)) reads.refuseValue({ meter })
      else if (!at.isSet) {
        reads.problem(meter, 'time-missing', 'The reading has no readingDate.', { help: 'Send readingDate, or a dateTime with the value.' })
      } else {
        reads.addRegister({ meter, flow: value.flow, unit, versionUs: this.#shared.versionUs, tou: value.tou }, at.localS, at.offsetS,
          this.#decimal.mantissa, this.#decimal.digits)
      }
    }
    this.#values = []
  }
}
