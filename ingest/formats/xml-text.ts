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

  /** Reads a decimal of at most 15 digits without exponent, exactly; false where the text is none. */
  read(text: string): boolean {
    const whole = integerOf(text)
    if (!Number.isNaN(whole)) {
      this.mantissa = whole
      this.digits = 0
      return true
    }
    const parts = DECIMAL.exec(text)
    if (parts === null) return false
    const [, sign, before, after] = parts
    // Zeros at the end say nothing, and real files have dozens of them.
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
  const isMidnight = /^[^T ]+[T ]24:00(?::00(?:\.0+)?)?/.test(at)
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

/** The text without spaces about it, in memory of its own: a piece of a chunk would keep all of the chunk. */
export function ownText(text: string): string {
  return Buffer.from(text.trim()).toString()
}

function isSpace(c: number): boolean {
  return c === 32 || (c >= 9 && c <= 13)
}
