import { DecimalReader, isBlankAt } from './xml-text.js'

/** Digits of a value that is blank, and of one that is no decimal. */
export const BLANK = -1, NO_DECIMAL = -2

const MINUS = 45, PLUS = 43, POINT = 46

/** The values that a delimiter joins in one text: found and read in one pass over its bytes, without a text for each. */
export class JoinedValues {
  /** How many there are, and how many of them are not blank. */
  count = 0
  present = 0
  /** Value i = mantissas[i] x 10^-digits[i]; below 0 the digits say that there is none. */
  mantissas = new Float64Array(128)
  digits = new Int8Array(128)
  #bytes = Buffer.alloc(4096)
  readonly #decimal = new DecimalReader()

  /** Reads decimals as DecimalReader does. @param delimiter not '' */
  read(text: string, delimiter: string): void {
    this.count = this.present = 0
    const mark = delimiter.length === 1 ? delimiter.charCodeAt(0) : 0
    // A delimiter that could be part of a number is looked for first.
    if (mark >= 128 || mark === 0 || /[-+.\d\s]/.test(delimiter)) this.#readPieces(text, delimiter)
    else this.#readBytes(text, mark)
  }

  #readBytes(text: string, mark: number): void {
    // UTF-8, in which no byte of another character is taken for a digit or for the delimiter.
    if (text.length * 3 > this.#bytes.length) this.#bytes = Buffer.alloc(text.length * 3)
    const bytes = this.#bytes
    const end = bytes.write(text)
    for (let p = 0; ; p++) {
      const from = p
      let c = p < end ? bytes[p] : mark
      const isNegative = c === MINUS
      if (isNegative || c === PLUS) c = ++p < end ? bytes[p] : mark
      const first = p
      let point = -1
      let m = 0
      for (; ; c = ++p < end ? bytes[p] : mark) {
        if (c >= 48 && c <= 57) m = m * 10 + c - 48
        else if (c === POINT && point < 0) point = p
        else break
      }
      const figures = point < 0 ? p - first : p - first - 1
      if (c === mark && figures > 0 && figures <= 15) {
        let digits = point < 0 ? 0 : p - point - 1
        for (; digits > 3 && m % 10 === 0; digits--) m /= 10
        this.#put(isNegative ? -m : m, digits)
      } else {
        while (p < end && bytes[p] !== mark) p++
        this.#readPiece(bytes.toString('utf8', from, p))
      }
      if (p >= end) return
    }
  }

  #readPieces(text: string, delimiter: string): void {
    for (let from = 0; ;) {
      const end = text.indexOf(delimiter, from)
      this.#readPiece(text.slice(from, end < 0 ? text.length : end))
      if (end < 0) return
      from = end + delimiter.length
    }
  }

  #readPiece(text: string): void {
    if (isBlankAt(text, 0, text.length)) this.#put(0, BLANK)
    else if (this.#decimal.read(text)) this.#put(this.#decimal.mantissa, this.#decimal.digits)
    else this.#put(0, NO_DECIMAL)
  }

  #put(mantissa: number, digits: number): void {
    if (this.count === this.mantissas.length) this.#grow()
    this.mantissas[this.count] = mantissa
    this.digits[this.count++] = digits
    if (digits !== BLANK) this.present++
  }

  #grow(): void {
    const mantissas = new Float64Array(this.mantissas.length * 2)
    mantissas.set(this.mantissas)
    this.mantissas = mantissas
    const digits = new Int8Array(mantissas.length)
    digits.set(this.digits)
    this.digits = digits
  }
}
