import type { DecodeContext, Decoded, Format, FormatState } from './format.js'
import { FormattedBlocks } from './multispeak-formatted.js'
import { IntervalData } from './multispeak-intervals.js'
import type { MultiSpeakProfile } from './multispeak-profile.js'
import { MeterReads } from './multispeak-registers.js'
import { ReadSink } from './sink.js'
import { plainBytes } from './text.js'
import { TimeReader } from './timestamps.js'
import { attribute, cutElements, localName, XmlReader, type XmlAttributes, type XmlHandler } from './xml-reader.js'
import { XmlReads } from './xml-reads.js'
import { readDateTime } from './xml-text.js'

/** Elements of MultiSpeak that have to do with reads, by their local names. */
export const M = {
  meterRead: 1, meterReading: 2, intervalData: 3, block: 4, formattedBlock: 5, profileType: 6, blockList: 7,
  MultiSpeakMsgHeader: 8, readingDate: 9, meterNo: 10, meterID: 11, deviceID: 12, posKWh: 13, negKWh: 14, kW: 15, kVAr: 16,
  kWDateTime: 17, TOUReading: 18, ratePeriod: 19, kWh: 20, readingValue: 21, units: 22, value: 23, readingType: 24,
  dateTime: 25, timeStamp: 26, fieldName: 27, name: 28, measurementPeriod: 29, readingStatusCode: 30, readingTypeCode: 31,
  statusDelimiter: 32, intervalDelimiter: 33, profile: 34, intervalLength: 35, channel: 36, index: 37, profileID: 38,
  endReading: 39, channelIndex: 40, reading: 41, logTime: 42, intervalStart: 43, ch: 44, idx: 45, d: 46, cS: 47,
  separator: 48, syntaxItem: 49, position: 50, uom: 51, val: 52, valSyntax: 53, interval: 54, status: 55, channelList: 56,
  readingValueType: 57, utility: 58, transactionID: 59,
} as const
const VOCABULARY: ReadonlyMap<string, number> = new Map(Object.entries(M))
const OBJECTS = new Set(['intervalData', 'profileType'])
const RECORDS = new Set(['meterRead', 'meterReading', 'block', 'formattedBlock'])

/** What a part of a body hands on to the next. */
export interface MultiSpeakState {
  versionUs: number
  profiles: MultiSpeakProfile[]
  statusDelimiter: string
  intervalDelimiter: string
  /** The profileType that is open: its meter and the unit of its channel. */
  older: { meter: string, units: string } | null
}

/** A reader of one kind of MultiSpeak object: it has the elements between its own tags. */
export interface ObjectReader {
  open: (element: number, attributes: XmlAttributes) => void
  close: (element: number, text: string) => void
}

/** What the readers of objects share. */
export interface MultiSpeakShared {
  readonly ctx: DecodeContext
  readonly reader: XmlReader
  readonly sink: ReadSink
  readonly reads: XmlReads
  readonly time: TimeReader
  /** The message's own time: microseconds, 0 where it has none. */
  versionUs: number
  /** Number of the record read last. */
  records: number
}

/**
 * MultiSpeak 3.0 and 4.1 (NRECA; WSDLs of MDM_Server 3.0AC and 4.1.6): the reads of ReadingChangedNotification (registers,
 * as meterRead or meterReading), IntervalDataNotification (intervalData, or the older profileType) and
 * FormattedBlockNotification, with or without their SOAP envelope. The order of the statuses in `cS` is inferred from the
 * names of its delimiters; no message that has them has been seen.
 */
export const multispeak: Format = {
  name: 'multispeak',

  decode(part: Uint8Array, ctx: DecodeContext, state: FormatState | null, final: boolean): Decoded {
    const bytes = plainBytes(part)
    const reader = new XmlReader(bytes, state?.xml ?? null, VOCABULARY)
    const sink = new ReadSink(ctx, state, 'record', bytes.length)
    const message = new Message({
      ctx, reader, sink, reads: new XmlReads(sink, ctx), time: new TimeReader(),
      versionUs: state?.multispeak?.versionUs ?? 0, records: state?.records ?? 0,
    }, state?.multispeak, state?.xml?.open ?? [])
    const xml = reader.read(message, final)
    return sink.finish(final, {
      bytes: (state?.bytes ?? 0) + bytes.length, lines: 0, records: message.shared.records, xml, multispeak: message.state(),
    })
  },

  cut(bytes: Uint8Array, limit: number): number {
    return cutElements(plainBytes(bytes), limit, RECORDS)
  },
}

class Message implements XmlHandler {
  readonly shared: MultiSpeakShared
  readonly #meters: MeterReads
  readonly #intervals: IntervalData
  readonly #formatted: FormattedBlocks
  /** The object that is open, and its element. */
  #object: ObjectReader | null = null
  #element = 0

  constructor(shared: MultiSpeakShared, state: MultiSpeakState | undefined, open: readonly string[]) {
    this.shared = shared
    this.#meters = new MeterReads(shared)
    this.#intervals = new IntervalData(shared, state)
    this.#formatted = new FormattedBlocks(shared)
    // A part that goes on within an object: its own tag is not opened again.
    const within = state === undefined ? undefined : open.map(localName).findLast(name => OBJECTS.has(name))
    if (within !== undefined) this.#enter(VOCABULARY.get(within) ?? 0)
  }

  state(): MultiSpeakState {
    return { versionUs: this.shared.versionUs, ...this.#intervals.state() }
  }

  open(element: number, attributes: XmlAttributes): void {
    if (element === M.MultiSpeakMsgHeader) this.#header(attributes)
    if (this.#object === null) this.#enter(element)
    this.#object?.open(element, attributes)
  }

  close(element: number, text: string): void {
    this.#object?.close(element, text)
    if (element === this.#element) {
      this.#object = null
      this.#element = 0
    }
  }

  #enter(element: number): void {
    switch (element) {
      case M.meterRead:
      case M.meterReading:
        this.#object = this.#meters
        break
      case M.intervalData:
      case M.profileType:
        this.#object = this.#intervals
        break
      case M.formattedBlock:
        this.#object = this.#formatted
        break
      default:
        return
    }
    this.#element = element
  }

  #header(attributes: XmlAttributes): void {
    const stamp = attribute(attributes, 'TimeStamp') ?? ''
    const { time } = this.shared
    if (readDateTime(stamp, time) && !Number.isNaN(time.offsetS)) {
      this.shared.versionUs = Math.max(0, (time.localS - time.offsetS) * 1e6 + time.micros)
    }
  }
}
