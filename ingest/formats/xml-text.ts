/** What the XML formats share in reading the text of elements: numbers, instants, hrefs. */
import type { ReadSink } from './sink.js'
import type { TimeReader } from './timestamps.js'

const DECIMAL = /^\s*([+-]?)(\d*)\.?(\d*)\s*$/

/** A whole number of at most 15 digits, spaces about it allowed; NaN where the text is none. */
export function integerOf(text: string): number {
  let i = 0
  let end = text.length
  while (i < end && isSpace(text.charCodeAt(i))) i++
  while (end > i && isSpace(text.charCodeAt(end - 1))) end--
  const isNegative = text.charCodeAt(i) === 45
  if (isNegative || text.charCodeAt(i) === 43) i++
  if (i === end || end - i > 15) return NaN
  let n = 0
  for (; i < end; i++) {
    const digit = text.charCodeAt(i) - 48
    if (!(digit >= 0 && digit <= 9)) return NaN
    n = n * 10 + digit
  }
  return isNegative ? -n : n
}

/** The last decimal that was read, value = mantissa x 10^-digits. */
export class DecimalReader {
  mantissa = 0
  digits = 0

  /**
   * Reads a decimal of at most 15 digits without exponent, exactly; false where characters [from, to) are none. The usual
   * one takes one pass, and makes no text of its own.
   */
  read(text: string, from = 0, to = text.length): boolean {
    let p = from
    let end = to
    while (p < end && isSpace(text.charCodeAt(p))) p++
    while (end > p && isSpace(text.charCodeAt(end - 1))) end--
    let c = p < end ? text.charCodeAt(p) : 0
    const isNegative = c === 45
    if (isNegative || c === 43) p++
    const first = p
    let point = end
    let n = 0
    for (; p < end; p++) {
      c = text.charCodeAt(p)
      if (c >= 48 && c <= 57) n = n * 10 + c - 48
      else if (c === 46 && point === end) point = p
      else return this.#slowly(text.slice(from, to))
    }
    const isWhole = point === end
    const count = end - first - (isWhole ? 0 : 1)
    if (count === 0 || count > 15) return this.#slowly(text.slice(from, to))
    let digits = isWhole ? 0 : end - point - 1
    // Zeros at the end say nothing, and real files have dozens of them.
    for (; digits > 0 && n % 10 === 0; digits--) n /= 10
    this.mantissa = isNegative ? -n : n
    this.digits = digits
    return true
  }

  #slowly(text: string): boolean {
    const whole = integerOf(text)
    if (!Number.isNaN(whole)) {
      this.mantissa = whole
      this.digits = 0
      return true
    }
    const parts = DECIMAL.exec(text)
    if (parts === null) return false
    const [, sign, before, after] = parts
    const fraction = after.replace(/0+$/, '')
    if (before + after === '' || before.length + fraction.length > 15) return false
    this.mantissa = Number(before + fraction) * (sign === '-' ? -1 : 1)
    this.digits = fraction.length
    return true
  }
}

/**
 * Reads an xsd:dateTime, with or without offset and fraction, into the reader's fields; false where the text is none.
 * `24:00:00` is taken for the midnight that ends the day, as XML Schema has it.
 */
export function readDateTime(text: string, time: TimeReader): boolean {
  let at = text.trim()
  if (at.length < 16 || at.length > 40) return false
  const isMidnight = at.charCodeAt(11) === 50 && at.charCodeAt(12) === 52 && /^[^T ]+[T ]24:00(?::00(?:\.0+)?)?/.test(at)
  if (isMidnight) at = at.replace(/24:00/, '00:00')
  for (let i = 0; i < at.length; i++) scratch[i] = Math.min(at.charCodeAt(i), 255)
  if (!time.read(scratch, 0, at.length)) return false
  if (isMidnight) time.localS += 86_400
  return true
}

/** A time that an element may give or leave out. */
export class XmlTime {
  isSet = false
  /** Wall clock as seconds since 1970-01-01T00:00, and seconds east of UTC; NaN: local time of the source's zone. */
  localS = NaN
  offsetS = NaN

  clear(): void {
    this.isSet = false
    this.localS = NaN
    this.offsetS = NaN
  }

  /** Takes the time of an element's text, where it is one. */
  read(text: string, time: TimeReader): void {
    if (!readDateTime(text, time)) return
    this.isSet = true
    this.localS = time.localS
    this.offsetS = time.offsetS
  }

  /** Instant, epoch seconds; NaN where it is not set or cannot be told. */
  instant(sink: ReadSink): number {
    if (!this.isSet) return NaN
    if (!sink.isLocal({ localS: this.localS, offsetS: this.offsetS, backS: 0 })) return this.localS - this.offsetS
    return sink.clock?.instants(this.localS)[0] ?? NaN
  }
}

/** mantissa x 10^-digits as a number's text. */
export function exactText(mantissa: number, digits: number): string {
  return `${mantissa}e${-digits}`
}

const scratch = new Uint8Array(64)

/** Whether characters [from, to) are nothing but spaces. */
export function isBlankAt(text: string, from: number, to: number): boolean {
  let p = from
  while (p < to && isSpace(text.charCodeAt(p))) p++
  return p === to || (text.charCodeAt(p) > 127 && text.slice(p, to).trim() === '')
}

/** The text without spaces about it, in memory of its own: a piece of a chunk would keep all of the chunk. */
export function ownText(text: string): string {
  return Buffer.from(text.trim()).toString()
}

function isSpace(c: number): boolean {
  return c === 32 || (c >= 9 && c <= 13)
}
