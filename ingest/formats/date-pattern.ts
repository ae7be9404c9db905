import { dayOfCivil, monthLength } from '../../engine/time/civil.js'

const DAY_S = 86400

type Part = 'year' | 'month' | 'day' | 'hour' | 'hour12' | 'minute' | 'second' | 'fraction' | 'half'

interface Step {
  part: Part | null
  /** Digits that the part has at least and at most. */
  least: number
  most: number
  /** Byte that stands there, where it is no part. */
  literal: number
}

const TOKENS: Readonly<Record<string, [Part, number, number]>> = {
  yyyy: ['year', 4, 4], yy: ['year', 2, 2], MM: ['month', 2, 2], M: ['month', 1, 2], dd: ['day', 2, 2],
  d: ['day', 1, 2],
  HH: ['hour', 2, 2], H: ['hour', 1, 2], hh: ['hour12', 2, 2], h: ['hour12', 1, 2], mm: ['minute', 2, 2],
  m: ['minute', 1, 2], ss: ['second', 2, 2], s: ['second', 1, 2], S: ['fraction', 1, 9], a: ['half', 2, 2],
}

/**
 * Reads times written by a pattern of Unicode's letters: yyyy yy MM M dd d HH H hh h mm m ss s S (a fraction, dropped)
 * a (AM or PM); anything else stands for itself. YYYY and DD are taken for yyyy and dd. 24:00 is the end of the day.
 */
export class DatePattern {
  readonly pattern: string
  readonly #steps: Step[] = []
  readonly #hasDate: boolean
  /** Bytes of a time, where all of its parts have two or four digits always; else 0. */
  readonly width: number
  /** Where the parts of such a time stand, -1 for none, and what stands between them. */
  readonly #at: Record<'year' | 'month' | 'day' | 'hour' | 'minute' | 'second', number> = { year: -1, month: -1, day: -1, hour: -1, minute: -1, second: -1 }
  readonly #century: boolean
  readonly #literalAt: number[] = []
  readonly #literals: number[] = []
  #date = -1
  #midnightS = 0

  /** @throws RangeError for a pattern with letters that stand for nothing, a part twice, or half a date */
  constructor(pattern: string) {
    this.pattern = pattern
    const shown = `the pattern ${JSON.stringify(pattern)}`
    const parts = new Set<Part>()
    for (const [piece] of pattern.replaceAll('YYYY', 'yyyy').replaceAll('DD', 'dd').matchAll(/([A-Za-z])\1*|[^]/g)) {
      if (!/^[A-Za-z]/.test(piece) || piece === 'T') {
        for (const literal of new TextEncoder().encode(piece)) {
          this.#steps.push({ part: null, least: 0, most: 0, literal })
        }
        continue
      }
      if (!Object.hasOwn(TOKENS, piece)) throw new RangeError(`${shown} has ${piece}, which stands for nothing`)
      const [part, least, most] = TOKENS[piece]
      if (parts.has(part)) throw new RangeError(`${shown} has its ${part} twice`)
      parts.add(part)
      this.#steps.push({ part, least, most, literal: 0 })
    }
    const dateParts = (['year', 'month', 'day'] as const).filter(part => parts.has(part)).length
    if (dateParts !== 0 && dateParts !== 3) throw new RangeError(`${shown} has a part of a date only`)
    if (parts.size === 0) throw new RangeError(`${shown} is no pattern`)
    if (parts.has('hour12') !== parts.has('half')) throw new RangeError(`${shown} needs both h and a, or neither`)
    this.#hasDate = dateParts === 3
    this.#century = this.#steps.some(({ part, most }) => part === 'year' && most === 4)
    this.width = this.#fixedWidth()
  }

  #fixedWidth(): number {
    let width = 0
    for (const { part, least, most, literal } of this.#steps) {
      if (part === null) {
        this.#literalAt.push(width++)
        this.#literals.push(literal)
      } else if (least !== most || part === 'half' || part === 'hour12' || part === 'fraction') {
        return 0
      } else {
        this.#at[part] = width
        width += most
      }
    }
    return width
  }

  /** Whether the pattern has a date; a time alone counts from midnight. */
  get hasDate(): boolean {
    return this.#hasDate
  }

  /** Seconds since 1970-01-01T00:00, or since midnight, of the text at [from, to); NaN where it does not fit. */
  read(bytes: Uint8Array, from: number, to: number): number {
    if (this.width > 0) return this.#readFixed(bytes, from, to)
    let year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0
    let half = -1
    let p = from
    for (const step of this.#steps) {
      if (step.part === null) {
        if (p >= to || bytes[p++] !== step.literal) return NaN
        continue
      }
      if (step.part === 'half') {
        const letter = p + 2 <= to ? bytes[p] | 32 : 0
        if ((letter !== 97 && letter !== 112) || (bytes[p + 1] | 32) !== 109) return NaN
        half = letter === 112 ? 12 : 0
        p += 2
        continue
      }
      const first = p
      let n = 0
      while (p < to && p - first < step.most && bytes[p] >= 48 && bytes[p] <= 57) n = n * 10 + bytes[p++] - 48
      if (p - first < step.least) return NaN
      switch (step.part) {
        case 'year': year = step.most === 2 ? 2000 + n : n; break
        case 'month': month = n; break
        case 'day': day = n; break
        case 'minute': minute = n; break
        case 'second': second = n; break
        case 'hour': hour = n; break
        case 'hour12':
          if (n < 1 || n > 12) return NaN
          hour = n % 12
          break
        case 'fraction': break
        default: return NaN
      }
    }
    if (half >= 0) hour += half
    return p === to ? this.#secondsOf(year, month, day, hour, minute, second) : NaN
  }

  #readFixed(bytes: Uint8Array, from: number, to: number): number {
    if (to - from !== this.width) return NaN
    const literals = this.#literals
    for (let i = 0; i < literals.length; i++) if (bytes[from + this.#literalAt[i]] !== literals[i]) return NaN
    const at = this.#at
    const hour = at.hour < 0 ? 0 : twoDigits(bytes, from + at.hour)
    const minute = at.minute < 0 ? 0 : twoDigits(bytes, from + at.minute)
    const second = at.second < 0 ? 0 : twoDigits(bytes, from + at.second)
    if (hour < 0 || minute < 0 || second < 0) return NaN
    if (!this.#hasDate) return this.#secondsOf(1970, 1, 1, hour, minute, second)
    const month = twoDigits(bytes, from + at.month)
    const day = twoDigits(bytes, from + at.day)
    let year = twoDigits(bytes, from + at.year)
    const last = this.#century ? twoDigits(bytes, from + at.year + 2) : 0
    if (month < 0 || day < 0 || year < 0 || last < 0) return NaN
    year = this.#century ? year * 100 + last : 2000 + year
    return this.#secondsOf(year, month, day, hour, minute, second)
  }

  #secondsOf(year: number, month: number, day: number, hour: number, minute: number, second: number): number {
    const isMidnight = hour === 24 && minute === 0 && second === 0
    if ((hour > 23 && !isMidnight) || minute > 59 || second > 59) return NaN
    const clockS = hour * 3600 + minute * 60 + second
    if (!this.#hasDate) return clockS
    const date = year * 512 + month * 32 + day
    if (date !== this.#date) {
      if (year < 1 || month < 1 || month > 12 || day < 1 || day > monthLength(year, month)) return NaN
      this.#date = date
      this.#midnightS = dayOfCivil(year, month, day) * DAY_S
    }
    return this.#midnightS + clockS
  }
}

/** The number that two digits make; -1 where they are none. */
function twoDigits(bytes: Uint8Array, at: number): number {
  const a = bytes[at] - 48, b = bytes[at + 1] - 48
  return a >= 0 && a <= 9 && b >= 0 && b <= 9 ? a * 10 + b : -1
}
