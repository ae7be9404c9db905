import type { DecodeContext, Decoded, Format, FormatState } from './format.js'
import { BodyError } from '../../engine/problem.js'
import { qualityOfEspi, worseQuality } from './cim-codes.js'
import { EspiBlocks, type EspiReading } from './espi-blocks.js'
import { EspiResources, noLinks, type EspiLinks, type EspiType } from './espi-resources.js'
import { plainBytes } from './text.js'
import { TimeReader } from './timestamps.js'
import { attribute, cutElements, XmlReader, type XmlAttributes, type XmlHandler } from './xml-reader.js'
import { DecimalReader, integerOf, ownText, readDateTime } from './xml-text.js'

const E = {
  entry: 1, link: 2, updated: 3, UsagePoint: 4, MeterReading: 5, ReadingType: 6, IntervalBlock: 7, interval: 8,
  IntervalReading: 9, quality: 10, timePeriod: 11, duration: 12, start: 13, value: 14, accumulationBehaviour: 15,
  commodity: 16, defaultQuality: 17, flowDirection: 18, intervalLength: 19, powerOfTenMultiplier: 20, uom: 21, tou: 22,
  cpp: 23, consumptionTier: 24,
} as const
const VOCABULARY: ReadonlyMap<string, number> = new Map(Object.entries(E))
const ENTRIES = new Set(['entry'])

/**
 * Green Button: an Atom feed of ESPI resources (NAESB REQ.21; espi.xsd 4.0 of the Green Button Alliance's
 * OpenESPI-GreenButton-Java), a lone entry, or a lone IntervalBlock.
 *
 * Start and duration are epoch seconds; the source's `clock` says where they are those of a wall clock. Costs,
 * summaries and tariffs are passed over. A body larger than one transaction is cut between entries, and its ReadingTypes
 * have to stand before the blocks that are of them.
 */
export const espi: Format = {
  name: 'espi',

  decode(part: Uint8Array, ctx: DecodeContext, state: FormatState | null, final: boolean): Decoded {
    const bytes = plainBytes(part)
    const reader = new XmlReader(bytes, state?.xml ?? null, VOCABULARY)
    const feed = new Feed(reader, bytes.length, ctx, state, final)
    const xml = reader.read(feed, final)
    const records = feed.place()
    return feed.blocks.sink.finish(final, {
      bytes: (state?.bytes ?? 0) + bytes.length, lines: 0, records, xml, espi: feed.resources.state,
    })
  },

  cut(bytes: Uint8Array, limit: number): number {
    return cutElements(plainBytes(bytes), limit, ENTRIES)
  },
}

class Feed implements XmlHandler {
  readonly resources: EspiResources
  readonly blocks: EspiBlocks
  readonly #reader: XmlReader
  readonly #time = new TimeReader()
  readonly #decimal = new DecimalReader()
  #links: EspiLinks = noLinks()
  #versionUs = 0
  /** Resources of the entry that is open, to be filed when all of its links are known. */
  #pending: (() => void)[] = []
  #type: EspiType | null = null
  /** A ReadingType within a MeterReading is that one's own. */
  #ownType: EspiType | null = null
  #isInMeterReading = false
  #isInBlock = false
  /** The open reading; null outside of readings. */
  #reading: EspiReading | null = null
  #isInInterval = false

  constructor(reader: XmlReader, bytes: number, ctx: DecodeContext, state: FormatState | null, final: boolean) {
    this.#reader = reader
    this.resources = new EspiResources(state?.espi)
    this.blocks = new EspiBlocks(this.resources, ctx, state, bytes, final)
  }

  open(element: number, attributes: XmlAttributes): void {
    switch (element) {
      case E.IntervalReading:
        if (this.#isInBlock) this.#reading = this.blocks.begin(this.#reader.tagFrom())
        break
      case E.IntervalBlock:
        this.#isInBlock = true
        this.blocks.beginBlock(this.#reader.tagFrom())
        break
      case E.interval:
        this.#isInInterval = true
        break
      case E.entry:
        this.#links = noLinks()
        this.#versionUs = 0
        break
      case E.link:
        this.#link(attributes)
        break
      case E.ReadingType:
        this.#type = {
          accumulation: -1, commodity: -1, defaultQuality: -1, flow: -1, intervalS: 0, multiplier: 0, uom: -1, bucket: 0,
        }
        break
      case E.MeterReading:
        this.#isInMeterReading = true
        this.#ownType = null
        break
    }
  }

  close(element: number, text: string): void {
    const reading = this.#reading
    if (reading !== null) {
      this.#closeInReading(element, text, reading)
      return
    }
    if (this.#type !== null) {
      this.#closeInType(element, text, this.#type)
      return
    }
    switch (element) {
      case E.start:
        if (this.#isInBlock && this.#isInInterval) this.blocks.startS = integerOf(text)
        break
      case E.interval:
        this.#isInInterval = false
        break
      case E.IntervalBlock:
        this.#isInBlock = false
        this.blocks.endBlock(this.#reader.position())
        break
      case E.UsagePoint: {
        this.#pending.push(() => {
          this.resources.addUsagePoint(this.#links)
        })
        break
      }
      case E.MeterReading: {
        const own = this.#ownType
        this.#isInMeterReading = false
        this.#pending.push(() => {
          this.resources.addReading(this.#links, own)
        })
        break
      }
      case E.updated:
        if (!this.#isInBlock && readDateTime(text, this.#time) && !Number.isNaN(this.#time.offsetS)) {
          this.#versionUs = (this.#time.localS - this.#time.offsetS) * 1e6 + this.#time.micros
        }
        break
      case E.entry:
        this.#endEntry()
        break
    }
  }

  /** Makes reads of all that was read; returns how many records there were, those of earlier parts included. */
  place(): number {
    this.#endEntry()
    return this.blocks.place()
  }

  #endEntry(): void {
    for (const file of this.#pending) file()
    this.#pending = []
    this.blocks.endEntry(this.#links, Math.max(0, this.#versionUs))
    this.#links = noLinks()
    this.#versionUs = 0
  }

  #link(attributes: XmlAttributes): void {
    const href = ownText(attribute(attributes, 'href') ?? '')
    switch (attribute(attributes, 'rel')?.trim().toLowerCase()) {
      case 'self':
        this.#links.self = href
        break
      case 'up':
        this.#links.up = href
        break
      case 'related':
        if (this.#links.related.length === 1000) {
          throw new BodyError(422, 'too-many-links', 'An entry has more than 1000 links.',
            this.#reader.placeOf(this.#reader.position()))
        }
        this.#links.related.push(href)
        break
      case undefined:
    }
  }

  #closeInReading(element: number, text: string, reading: EspiReading): void {
    switch (element) {
      case E.start:
        reading.startS = integerOf(text)
        reading.isTimed = true
        break
      case E.duration:
        reading.durationS = integerOf(text)
        break
      case E.value:
        if (text.trim() === '') break
        reading.isPresent = true
        reading.isNumber = this.#decimal.read(text)
        reading.mantissa = this.#decimal.mantissa
        reading.digits = this.#decimal.digits
        break
      case E.quality:
        reading.quality = worseQuality(reading.quality, qualityOfEspi(integerOf(text)))
        break
      case E.IntervalReading:
        this.#reading = null
        this.blocks.end(this.#reader.position())
        break
    }
  }

  #closeInType(element: number, text: string, type: EspiType): void {
    const n = integerOf(text)
    switch (element) {
      case E.accumulationBehaviour:
        type.accumulation = n
        break
      case E.commodity:
        type.commodity = n
        break
      case E.defaultQuality:
        type.defaultQuality = n
        break
      case E.flowDirection:
        type.flow = n
        break
      case E.intervalLength:
        type.intervalS = n > 0 ? n : 0
        break
      case E.powerOfTenMultiplier:
        type.multiplier = n
        break
      case E.uom:
        type.uom = n
        break
      case E.tou:
      case E.cpp:
      case E.consumptionTier:
        if (n !== 0) type.bucket = n
        break
      case E.ReadingType:
        this.#type = null
        if (this.#isInMeterReading) {
          this.#ownType = type
          this.resources.addType(noLinks(), type)
        } else {
          this.#pending.push(() => {
            this.resources.addType(this.#links, type)
          })
        }
        break
    }
  }
}
