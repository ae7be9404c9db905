import { DOUBLE_DIGITS, NULL_DIGITS, type JsonRecord } from './json-record.js'
import { unitOf, type Unit } from '../../engine/quantity.js'
import type { FlowCode } from '../../engine/read-batch.js'
import { TimeReader } from './timestamps.js'
import { flowOf, meterFault, qualityOf } from './words.js'

const encoder = new TextEncoder()
const [METER, START, END, INTERVAL, VALUES, VALUE, UNIT, FLOW, QUALITY, KIND, CAPTURED, KIND_INTERVAL] = [
  'meter', 'start', 'end', 'intervalSeconds', 'values', 'value', 'unit', 'flow', 'quality', 'kind', 'capturedAt',
  'interval',
].map(name => encoder.encode(name))

// One bit for each member, to see a member twice and to know what is there.
const HAS_METER = 1, HAS_START = 2, HAS_END = 4, HAS_INTERVAL = 8, HAS_VALUES = 16, HAS_VALUE = 32, HAS_UNIT = 64
const HAS_FLOW = 128, HAS_QUALITY = 256, HAS_KIND = 512, HAS_CAPTURED = 1024

/** Values that are taken without looking at the record's length: two years of minutes. */
const MAX_VALUES = 1_048_576

/** The word last read for a member: records that follow each other mostly say the same. */
class LastWord {
  code = 0
  #from = 0
  #to = 0

  is(bytes: Uint8Array, from: number, to: number): boolean {
    const shift = this.#from - from
    if (to - from !== this.#to - this.#from || to === from) return false
    for (let p = from; p < to; p++) if (bytes[p] !== bytes[p + shift]) return false
    return true
  }

  keep(from: number, to: number, code: number): void {
    this.#from = from
    this.#to = to
    this.code = code
  }
}

/**
 * Reads the usual records straight from bytes, several times faster than JSON.parse, and with the values' decimals
 * exact. Whatever is unusual (escapes, letters beyond ASCII, words or members that it does not know, a quality per
 * read) and whatever is wrong it leaves to the complete reader (json-slow.ts), which says what.
 */
export class FastReader {
  readonly #record: JsonRecord
  readonly #time = new TimeReader()
  #bytes: Uint8Array = new Uint8Array(0)
  #text: Buffer = Buffer.alloc(0)
  /** The string last read: its bytes are [from, to). */
  #from = 0
  #to = 0
  readonly #meter = new LastWord()
  readonly #unit = new LastWord()
  readonly #flow = new LastWord()
  readonly #quality = new LastWord()
  #meterText = ''
  #unitSeen: Unit | null = null

  constructor(record: JsonRecord) {
    this.#record = record
  }

  /** Sets the bytes that the following read() calls are about. */
  over(bytes: Uint8Array): void {
    this.#bytes = bytes
    this.#text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    for (const word of [this.#meter, this.#unit, this.#flow, this.#quality]) word.keep(0, 0, 0)
  }

  /** Fills the record from the object at p; returns where the object ends, -1 where it takes the complete reader. */
  read(from: number): number {
    const bytes = this.#bytes
    const record = this.#record
    if (bytes[from] !== 123) return -1
    record.reset()
    let has = 0
    let p = from + 1
    for (;;) {
      p = this.#space(p)
      p = this.#string(p)
      if (p < 0) return -1
      const bit = this.#member()
      if (bit === 0 || (has & bit) !== 0) return -1
      has |= bit
      p = this.#space(p)
      if (bytes[p] !== 58) return -1
      p = this.#space(p + 1)
      if (bit === HAS_VALUES) p = this.#values(p)
      else if (bit === HAS_VALUE) p = this.#number(p)
      else if (bit === HAS_INTERVAL) p = this.#seconds(p)
      else {
        p = this.#string(p)
        if (p < 0 || !this.#word(bit)) return -1
      }
      if (p < 0) return -1
      p = this.#space(p)
      const c = bytes[p++]
      if (c === 44) continue
      if (c !== 125) return -1
      break
    }
    const isBlock = (has & HAS_VALUES) !== 0
    if ((has & HAS_METER) === 0 || isBlock === ((has & HAS_VALUE) !== 0)) return -1
    if (((has & HAS_START) !== 0) === ((has & HAS_END) !== 0) || (isBlock && (has & HAS_END) !== 0)) return -1
    record.single = !isBlock
    record.isEnd = (has & HAS_END) !== 0
    return p
  }

  #space(p: number): number {
    const bytes = this.#bytes
    let c = bytes[p]
    while (c === 32 || c === 10 || c === 13 || c === 9) c = bytes[++p]
    return p
  }

  /** Reads a plain ASCII string; returns where it ends. */
  #string(p: number): number {
    const bytes = this.#bytes
    if (bytes[p] !== 34) return -1
    this.#from = ++p
    let c = bytes[p]
    while (c >= 32 && c < 127 && c !== 34 && c !== 92) c = bytes[++p]
    if (c !== 34) return -1
    this.#to = p
    return p + 1
  }

  #member(): number {
    switch (this.#to - this.#from) {
      case 3: return this.#is(END) ? HAS_END : 0
      case 4: return this.#is(UNIT) ? HAS_UNIT : this.#is(FLOW) ? HAS_FLOW : this.#is(KIND) ? HAS_KIND : 0
      case 5: return this.#is(METER) ? HAS_METER : this.#is(START) ? HAS_START : this.#is(VALUE) ? HAS_VALUE : 0
      case 6: return this.#is(VALUES) ? HAS_VALUES : 0
      case 7: return this.#is(QUALITY) ? HAS_QUALITY : 0
      case 10: return this.#is(CAPTURED) ? HAS_CAPTURED : 0
      case 15: return this.#is(INTERVAL) ? HAS_INTERVAL : 0
      default: return 0
    }
  }

  #is(name: Uint8Array): boolean {
    const bytes = this.#bytes
    const from = this.#from
    for (let i = 0; i < name.length; i++) if (bytes[from + i] !== name[i]) return false
    return true
  }

  /** Takes the string as the value of a member; false where it is not plainly right. */
  #word(bit: number): boolean {
    const record = this.#record
    switch (bit) {
      case HAS_METER:
        if (!this.#meter.is(this.#bytes, this.#from, this.#to)) {
          const text = this.#string8()
          if (meterFault(text) !== undefined) return false
          this.#meterText = text
          this.#meter.keep(this.#from, this.#to, 0)
        }
        record.meter = this.#meterText
        return true
      case HAS_START:
      case HAS_END:
        if (!this.#time.read(this.#bytes, this.#from, this.#to)) return false
        record.localS = this.#time.localS
        record.offsetS = this.#time.offsetS
        return true
      case HAS_UNIT: {
        if (!this.#unit.is(this.#bytes, this.#from, this.#to)) {
          const unit = unitOf(this.#string8())
          if (unit === undefined) return false
          this.#unit.keep(this.#from, this.#to, 0)
          this.#unitSeen = unit
        }
        record.unit = this.#unitSeen
        return true
      }
      case HAS_FLOW: {
        if (!this.#flow.is(this.#bytes, this.#from, this.#to)) {
          const flow = flowOf(this.#string8())
          if (flow === undefined) return false
          this.#flow.keep(this.#from, this.#to, flow)
        }
        record.flow = this.#flow.code as FlowCode
        return true
      }
      case HAS_QUALITY: {
        if (!this.#quality.is(this.#bytes, this.#from, this.#to)) {
          const quality = qualityOf(this.#string8())
          if (quality === undefined) return false
          this.#quality.keep(this.#from, this.#to, quality)
        }
        record.lane = this.#quality.code
        return true
      }
      case HAS_KIND: return this.#to - this.#from === KIND_INTERVAL.length && this.#is(KIND_INTERVAL)
      case HAS_CAPTURED: {
        if (!this.#time.read(this.#bytes, this.#from, this.#to) || Number.isNaN(this.#time.offsetS)) return false
        record.version = (this.#time.localS - this.#time.offsetS) * 1e6 + this.#time.micros
        return record.version > 0
      }
      default: return false
    }
  }

  #string8(): string {
    return this.#text.toString('latin1', this.#from, this.#to)
  }

  #seconds(p: number): number {
    const bytes = this.#bytes
    let s = 0
    const from = p
    while (bytes[p] >= 48 && bytes[p] <= 57 && p - from < 6) s = s * 10 + bytes[p++] - 48
    if (bytes[from] < 49 || p === from || (bytes[p] !== 44 && bytes[p] !== 125 && bytes[p] > 32)) return -1
    this.#record.intervalS = s
    return p
  }

  #values(p: number): number {
    const bytes = this.#bytes
    if (bytes[p] !== 91) return -1
    p = this.#space(p + 1)
    if (bytes[p] === 93) return p + 1
    for (;;) {
      p = this.#number(p)
      if (p < 0 || this.#record.count > MAX_VALUES) return -1
      let c = bytes[p]
      if (c <= 32) {
        p = this.#space(p)
        c = bytes[p]
      }
      p++
      if (c === 44) {
        if (bytes[p] <= 32) p = this.#space(p)
        continue
      }
      return c === 93 ? p : -1
    }
  }

  /** Reads a number or null and appends it to the record's values; returns where it ends. */
  #number(p: number): number {
    const bytes = this.#bytes
    const from = p
    let c = bytes[p]
    if (c === 110) {
      if (bytes[p + 1] !== 117 || bytes[p + 2] !== 108 || bytes[p + 3] !== 108) return -1
      this.#record.push(0, NULL_DIGITS)
      return p + 4
    }
    const isNegative = c === 45
    if (isNegative) c = bytes[++p]
    if (!(c >= 48 && c <= 57)) return -1
    const first = p
    let m = c - 48
    c = bytes[++p]
    // JSON knows no leading zeros.
    if (m === 0 && c >= 48 && c <= 57) return -1
    while (c >= 48 && c <= 57) {
      m = m * 10 + c - 48
      c = bytes[++p]
    }
    let digits = 0
    let length = p - first
    if (c === 46) {
      c = bytes[++p]
      const point = p
      while (c >= 48 && c <= 57) {
        m = m * 10 + c - 48
        c = bytes[++p]
      }
      digits = p - point
      if (digits === 0) return -1
      length += digits
    }
    if (length > 15 || c === 101 || c === 69) return this.#double(from, p)
    this.#record.push(isNegative ? -m : m, digits)
    return p
  }

  /** A number with an exponent, or with more digits than a double holds. */
  #double(from: number, p: number): number {
    const bytes = this.#bytes
    if (bytes[p] === 101 || bytes[p] === 69) {
      p++
      if (bytes[p] === 43 || bytes[p] === 45) p++
      const exponent = p
      while (bytes[p] >= 48 && bytes[p] <= 57) p++
      if (p === exponent) return -1
    }
    this.#record.push(Number(this.#text.toString('latin1', from, p)), DOUBLE_DIGITS)
    return p
  }
}
