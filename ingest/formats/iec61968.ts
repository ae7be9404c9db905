import type { DecodeContext, Decoded, Format, FormatState } from './format.js'
import { worseQuality } from './cim-codes.js'
import { CimQualities, kindOfEvent, readingTypeOf, type CimReadingType } from './iec61968-codes.js'
import { ReadSink } from './sink.js'
import { plainBytes } from './text.js'
import { TimeReader } from './timestamps.js'
import { meterFault } from './words.js'
import { attribute, cutElements, XmlReader, type XmlAttributes, type XmlHandler } from './xml-reader.js'
import { XmlReads } from './xml-reads.js'
import { DecimalReader, isBlankAt, ownText, readDateTime, XmlTime } from './xml-text.js'

const E = {
  MeterReading: 1, IntervalBlocks: 2, IntervalReadings: 3, Readings: 4, ReadingType: 5, ReadingQualityType: 6,
  Meter: 7, UsagePoint: 8, Names: 9, NameType: 10, name: 11, mRID: 12, timeStamp: 13, timePeriod: 14, start: 15, end: 16,
  value: 17, reportedDateTime: 18, Timestamp: 19, Header: 20, EndDeviceEvent: 21, EndDeviceEvents: 22,
  createdDateTime: 23, category: 24, Assets: 25, status: 26, EndDeviceEventType: 27, IntervalBlock: 28,
  IntervalReading: 29, Reading: 30, Asset: 31, reason: 32, valuesInterval: 33, ReadingQualities: 34,
} as const
const VOCABULARY: ReadonlyMap<string, number> = new Map(Object.entries(E))
const RECORDS = new Set(['MeterReading', 'EndDeviceEvent'])

/** A message's own time, carried to the parts after its header. */
export interface CimState {
  versionUs: number
}

/** A read as it stands in the file, until its meter and ReadingType are known: either may follow it. */
interface CimRead {
  type: string
  /** Wall clock of the start, or where isEnd of the end, and its offset; NaN where it is not told. */
  localS: number
  offsetS: number
  /** Seconds of the read's own timePeriod; 0: it has none. */
  periodS: number
  isEnd: boolean
  state: 'ok' | 'no-number' | 'no-time'
  mantissa: number
  digits: number
  quality: number
  versionUs: number
  place: number
  rawFrom: number
  rawTo: number
}

interface CimEvent {
  meter: string
  kind: string
  type: string
  atS: number
  place: number
  rawFrom: number
  rawTo: number
}

/**
 * IEC 61968-9 MeterReadings (CIM; http://iec.ch/TC57/2011/MeterReadings#), bare, in an EventMessage, RequestMessage or
 * ResponseMessage, or in a SOAP envelope; EndDeviceEvents go to the meter events. Sources: a CHT head-end's message,
 * Oracle's SGG ADK sample and mapping pages; that a lone timeStamp names the end of its interval was not read in the
 * standard, and the source's `label` overrides it.
 *
 * A read's time is its timePeriod where it has one, since the timeStamp of such reads may be unrelated to it. A
 * register's timeStamp is the instant at which it was read. Of several qualities the worst holds.
 */
export const iec61968: Format = {
  name: 'iec61968-9',

  decode(part: Uint8Array, ctx: DecodeContext, state: FormatState | null, final: boolean): Decoded {
    const bytes = plainBytes(part)
    const reader = new XmlReader(bytes, state?.xml ?? null, VOCABULARY)
    const message = new Message(reader, bytes.length, ctx, state)
    const xml = reader.read(message, final)
    return message.sink.finish(final, {
      bytes: (state?.bytes ?? 0) + bytes.length, lines: 0, records: message.records, xml,
      cim: { versionUs: message.versionUs },
    })
  },

  cut(bytes: Uint8Array, limit: number): number {
    return cutElements(plainBytes(bytes), limit, RECORDS)
  },
}

class Message implements XmlHandler {
  readonly sink: ReadSink
  records: number
  versionUs: number
  readonly #reader: XmlReader
  readonly #ctx: DecodeContext
  readonly #reads: XmlReads
  readonly #time = new TimeReader()
  readonly #decimal = new DecimalReader()
  readonly #types = new Map<string, CimReadingType | null>()
  readonly #qualities = new CimQualities()
  readonly #open: number[] = []
  /** Reads of the open MeterReading. */
  #pending: CimRead[] = []
  #events: CimEvent[] = []
  #read: CimRead | null = null
  #blockType = ''
  /** Reads before this one are of IntervalBlocks that are closed. */
  #blockFrom = 0
  #meter = ''
  #meterRank = 0
  #usagePoint = ''
  #name = ''
  #nameType = ''
  readonly #at = new XmlTime()
  readonly #start = new XmlTime()
  readonly #end = new XmlTime()
  readonly #eventAt = new XmlTime()
  #eventKind = ''
  #eventCategory = ''
  #eventMeter = ''
  #eventFrom = 0
  #inEvent = false

  constructor(reader: XmlReader, bytes: number, ctx: DecodeContext, state: FormatState | null) {
    this.#reader = reader
    this.#ctx = ctx
    this.records = state?.records ?? 0
    this.versionUs = state?.cim?.versionUs ?? 0
    this.sink = new ReadSink(ctx, state, 'record', bytes >> 4)
    this.#reads = new XmlReads(this.sink, ctx)
  }

  open(element: number, attributes: XmlAttributes): void {
    const parent = this.#open.at(-1) ?? 0
    this.#open.push(element)
    switch (element) {
      case E.MeterReading:
        this.#meter = this.#usagePoint = ''
        this.#meterRank = 0
        this.#pending = []
        this.#events = []
        this.#blockFrom = 0
        break
      case E.IntervalBlocks:
      case E.IntervalBlock:
        this.#blockType = ''
        this.#blockFrom = this.#pending.length
        break
      case E.IntervalReadings:
      case E.IntervalReading:
      case E.Readings:
      case E.Reading:
        this.#begin()
        break
      case E.ReadingType: {
        const ref = attribute(attributes, 'ref')
        if (ref !== undefined) this.#type(ref)
        break
      }
      case E.ReadingQualityType: {
        const ref = attribute(attributes, 'ref')
        if (ref !== undefined && this.#read !== null) {
          this.#read.quality = worseQuality(this.#read.quality, this.#qualities.of(ref))
        }
        break
      }
      case E.Names:
        this.#name = this.#nameType = ''
        break
      case E.EndDeviceEvents:
        // In a MeterReading it is one event, and elsewhere what holds them.
        if (parent === E.MeterReading) this.#beginEvent()
        break
      case E.EndDeviceEvent:
        this.#beginEvent()
        break
      case E.EndDeviceEventType:
        this.#eventCategory = ownText(attribute(attributes, 'ref') ?? '')
        break
    }
  }

  close(element: number, text: string): void {
    this.#open.pop()
    const parent = this.#open.at(-1) ?? 0
    switch (element) {
      case E.Timestamp:
        if (parent === E.Header && readDateTime(text, this.#time)) this.versionUs = this.#micros(this.#time)
        break
      case E.name:
        if (parent === E.NameType) this.#nameType = text.trim()
        else if (parent === E.Names) this.#name = ownText(text)
        break
      case E.mRID:
        if (this.#inEvent) {
          if (this.#eventMeter === '' && !isEvent(parent)) this.#eventMeter = ownText(text)
        } else if (parent === E.Meter) this.#offerMeter(text, 1)
        else if (parent === E.UsagePoint) this.#usagePoint = ownText(text)
        break
      case E.Names:
        this.#endNames(parent)
        break
      case E.MeterReading:
        this.#endMeterReading()
        break
      case E.IntervalBlocks:
      case E.IntervalBlock:
        for (const read of this.#pending.slice(this.#blockFrom)) if (read.type === '') read.type = this.#blockType
        this.#blockFrom = this.#pending.length
        break
      case E.EndDeviceEvent:
      case E.EndDeviceEvents:
        this.#endEvent()
        break
      default:
        if (this.#inEvent) this.#closeInEvent(element, text, parent)
        else if (this.#read !== null) this.#closeInRead(element, text, parent, this.#read)
    }
  }

  #begin(): void {
    this.#at.clear()
    this.#start.clear()
    this.#end.clear()
    this.#read = {
      type: '', localS: NaN, offsetS: 0, periodS: 0, isEnd: true, state: 'ok', mantissa: NaN, digits: 0, quality: -1,
      versionUs: 0, place: ++this.records, rawFrom: this.#reader.tagFrom(), rawTo: 0,
    }
  }

  #closeInRead(element: number, text: string, parent: number, read: CimRead): void {
    switch (element) {
      case E.timeStamp:
        if (parent !== E.ReadingQualities) this.#at.read(text, this.#time)
        break
      case E.start:
        this.#start.read(text, this.#time)
        break
      case E.end:
        this.#end.read(text, this.#time)
        break
      case E.reportedDateTime:
        if (readDateTime(text, this.#time)) read.versionUs = this.#micros(this.#time)
        break
      case E.value:
        if (isBlankAt(text, 0, text.length)) break
        if (this.#decimal.read(text)) {
          read.mantissa = this.#decimal.mantissa
          read.digits = this.#decimal.digits
        } else read.state = 'no-number'
        break
      case E.IntervalReadings:
      case E.IntervalReading:
      case E.Readings:
      case E.Reading:
        this.#endRead(read)
        break
    }
  }

  #endRead(read: CimRead): void {
    this.#read = null
    // A read without a value is none.
    if (Number.isNaN(read.mantissa) && read.state === 'ok') return
    read.rawTo = this.#reader.position()
    const [start, end, at] = [this.#start, this.#end, this.#at]
    if (start.isSet) {
      read.localS = start.localS
      read.offsetS = start.offsetS
      read.isEnd = false
      const periodS = end.isSet ? end.localS - end.offsetS - (start.localS - start.offsetS) : 0
      read.periodS = Number.isNaN(periodS) ? end.localS - start.localS : periodS
    } else if (end.isSet || at.isSet) {
      const time = end.isSet ? end : at
      read.localS = time.localS
      read.offsetS = time.offsetS
      read.isEnd = end.isSet || this.#ctx.label !== 'start'
    } else if (read.state === 'ok') read.state = 'no-time'
    this.#pending.push(read)
  }

  #type(ref: string): void {
    if (this.#read !== null) this.#read.type = ownText(ref)
    else this.#blockType = ownText(ref)
  }

  /** Names tell meters best: the standard ones first, then any; the mRID may be a number of the head-end's own. */
  #endNames(parent: number): void {
    if (this.#inEvent) {
      if (this.#name !== '' && !isEvent(parent)) this.#eventMeter = this.#name
    } else if (parent === E.Meter) this.#offerMeter(this.#name, /^(?:MeterUniqueID|meterID)$/i.test(this.#nameType) ? 3 : 2)
    else if (parent === E.UsagePoint) {
      if (this.#usagePoint === '') this.#usagePoint = this.#name
    } else if (parent === E.ReadingType) this.#type(this.#name)
  }

  #offerMeter(text: string, rank: number): void {
    if (rank <= this.#meterRank || text.trim() === '') return
    this.#meter = ownText(text)
    this.#meterRank = rank
  }

  #endMeterReading(): void {
    const named = this.#meter !== '' ? this.#meter : this.#usagePoint
    const meter = named !== '' ? named : this.#ctx.meter ?? ''
    const fault = meterFault(meter)
    for (const read of this.#pending) {
      const reads = this.#reads
      reads.place = read.place
      reads.rawFrom = read.rawFrom
      reads.rawTo = read.rawTo
      reads.lane = Math.max(0, read.quality)
      if (fault !== undefined) {
        reads.problem('', 'meter-invalid', fault, { help: 'Name the meter in Meter/Names or Meter/mRID, or with ?meter=.' })
      } else this.#place(meter, read)
    }
    for (const event of this.#events) this.#placeEvent(event, named)
    this.#pending = []
    this.#events = []
  }

  #place(meter: string, read: CimRead): void {
    let type = this.#types.get(read.type)
    if (type === undefined) {
      type = readingTypeOf(read.type, this.#ctx)
      if (this.#types.size < 10_000) this.#types.set(read.type, type)
    }
    if (type === null || type.fault !== undefined) {
      this.#reads.problem(meter, type?.fault?.code ?? 'reading-type-unknown', type?.fault?.message ?? 'The ReadingType is not known.',
        { help: 'A ReadingType has 18 numbers with dots between them; without one, set the source\'s unit.', outcome: 'rejected' })
      return
    }
    const facts = { meter, flow: type.flow, unit: type.unit, versionUs: read.versionUs > 0 ? read.versionUs : this.versionUs, tou: type.tou }
    if (read.state === 'no-number') this.#reads.refuseValue(facts)
    else if (read.state === 'no-time') this.#reads.refuseTime(facts)
    else if (type.isRegister) {
      this.#reads.addRegister(facts, read.localS + (read.isEnd ? 0 : Math.max(0, read.periodS)), read.offsetS, read.mantissa, read.digits)
    } else {
      const intervalS = read.periodS > 0 ? read.periodS : type.intervalS > 0 ? type.intervalS : this.#ctx.defaultIntervalS ?? 0
      this.#reads.addInterval(facts, read.localS, read.offsetS, read.isEnd ? intervalS : 0, intervalS, read.mantissa, read.digits)
    }
  }

  #beginEvent(): void {
    if (!this.#inEvent) this.records++
    this.#inEvent = true
    this.#eventKind = this.#eventCategory = this.#eventMeter = ''
    this.#eventAt.clear()
    this.#eventFrom = this.#reader.tagFrom()
  }

  #closeInEvent(element: number, text: string, parent: number): void {
    switch (element) {
      case E.createdDateTime:
        this.#eventAt.read(text, this.#time)
        break
      case E.category:
        this.#eventCategory = ownText(text)
        break
      case E.value:
        if (parent === E.status) this.#eventKind = ownText(text)
        break
    }
  }

  #endEvent(): void {
    if (!this.#inEvent) return
    this.#inEvent = false
    const event: CimEvent = {
      meter: this.#eventMeter, kind: kindOfEvent(this.#eventKind, this.#eventCategory), type: this.#eventCategory.slice(0, 60),
      atS: this.#eventAt.instant(this.sink), place: this.records, rawFrom: this.#eventFrom, rawTo: this.#reader.position(),
    }
    // The meter of a MeterReading may stand behind its events.
    if (this.#open.includes(E.MeterReading)) this.#events.push(event)
    else this.#placeEvent(event, '')
  }

  #placeEvent(event: CimEvent, meterOfReading: string): void {
    const { kind, type, atS } = event
    const meter = [event.meter, meterOfReading, this.#ctx.meter ?? ''].find(name => name !== '') ?? ''
    const fault = meterFault(meter)
    const reads = this.#reads
    reads.place = event.place
    reads.rawFrom = event.rawFrom
    reads.rawTo = event.rawTo
    if (fault !== undefined) reads.problem('', 'meter-invalid', fault)
    else if (kind === '') reads.problem(meter, 'event-unknown', 'The event says neither its type nor its status.')
    else if (Number.isNaN(atS)) reads.refuseTime({ meter })
    else this.sink.events.push({ meter, kind, atS, details: type === '' ? {} : { eventType: type } })
  }

  /** Microseconds of an instant; 0 of a local time, which is no version to compare with others. */
  #micros({ localS, offsetS, micros }: TimeReader): number {
    return Number.isNaN(offsetS) ? 0 : Math.max(0, (localS - offsetS) * 1e6 + micros)
  }
}

function isEvent(element: number): boolean {
  return element === E.EndDeviceEvent || element === E.EndDeviceEvents
}
