import { dayOfCivil, monthLength } from '../../engine/time/civil.js'
import type { Zone } from '../../engine/time/zone.js'

const DAY_S = 86400

/**
 * Reads RFC 3339 timestamps, with or without offset, straight from bytes: one stands in every row of a CSV file, and
 * making a string of it would cost more than all the rest of the row. The last result stands in the fields.
 */
export class TimeReader {
  /** The wall clock as written, as seconds since 1970-01-01T00:00 of that clock. */
  localS = 0
  /** Seconds east of UTC; NaN for a local time. */
  offsetS = NaN
  /** Microseconds beyond the whole second. */
  micros = 0

  /** The date last seen, and its midnight: rows of one day follow each other. */
  #date = -1
  #midnightS = 0

  /** Reads bytes [from, to) as one timestamp; false where they are not one. */
  read(bytes: Uint8Array, from: number, to: number): boolean {
    return this.readAt(bytes, from, to) === to
  }

  /** Reads a timestamp that begins at `from`; returns where it ends, -1 where there is none. */
  readAt(bytes: Uint8Array, from: number, limit: number): number {
    // YYYY-MM-DDTHH:MM is the least.
    if (from + 16 > limit) return -1
    const y1 = bytes[from] - 48, y2 = bytes[from + 1] - 48, y3 = bytes[from + 2] - 48, y4 = bytes[from + 3] - 48
    const m1 = bytes[from + 5] - 48, m2 = bytes[from + 6] - 48
    const d1 = bytes[from + 8] - 48, d2 = bytes[from + 9] - 48
    const h1 = bytes[from + 11] - 48, h2 = bytes[from + 12] - 48
    const i1 = bytes[from + 14] - 48, i2 = bytes[from + 15] - 48
    if (!digits(y1, y2) || !digits(y3, y4) || !digits(m1, m2) || !digits(d1, d2) || !digits(h1, h2)) return -1
    if (!digits(i1, i2) || bytes[from + 4] !== 45 || bytes[from + 7] !== 45 || bytes[from + 13] !== 58) return -1
    const separator = bytes[from + 10]
    if (separator !== 84 && separator !== 32 && separator !== 116) return -1

    const date = ((y1 * 1000 + y2 * 100 + y3 * 10 + y4) << 9) | ((m1 * 10 + m2) << 5) | (d1 * 10 + d2)
    if (date !== this.#date && !this.#setDate(date, m1 * 10 + m2, d1 * 10 + d2)) return -1
    const hour = h1 * 10 + h2
    const minute = i1 * 10 + i2
    if (hour > 23 || minute > 59) return -1
    let second = 0
    this.micros = 0
    let p = from + 16
    if (bytes[p] === 58 && p < limit) {
      const s1 = bytes[p + 1] - 48, s2 = bytes[p + 2] - 48
      if (p + 3 > limit || !digits(s1, s2)) return -1
      second = s1 * 10 + s2
      if (second > 59) return -1
      p += 3
      if (p < limit && bytes[p] === 46) {
        const first = ++p
        let unit = 100_000
        while (p < limit && bytes[p] >= 48 && bytes[p] <= 57) {
          this.micros += (bytes[p++] - 48) * unit
          unit = Math.floor(unit / 10)
        }
        if (p === first || p - first > 12) return -1
      }
    }
    this.localS = this.#midnightS + hour * 3600 + minute * 60 + second
    this.offsetS = NaN
    if (p === limit) return p
    const sign = bytes[p]
    if (sign === 90 || sign === 122) {
      this.offsetS = 0
      return p + 1
    }
    if (sign === 43 || sign === 45) {
      const oh1 = bytes[p + 1] - 48, oh2 = bytes[p + 2] - 48, om1 = bytes[p + 4] - 48, om2 = bytes[p + 5] - 48
      if (p + 6 > limit || bytes[p + 3] !== 58 || !digits(oh1, oh2) || !digits(om1, om2)) return -1
      const seconds = (oh1 * 10 + oh2) * 3600 + (om1 * 10 + om2) * 60
      if (om1 > 5 || seconds > 86340) return -1
      this.offsetS = sign === 43 ? seconds : -seconds
      return p + 6
    }
    return p
  }

  #setDate(date: number, month: number, day: number): boolean {
    const year = date >> 9
    if (year === 0 || month < 1 || month > 12 || day < 1 || day > monthLength(year, month)) return false
    this.#date = date
    this.#midnightS = dayOfCivil(year, month, day) * DAY_S
    return true
  }
}

function digits(a: number, b: number): boolean {
  return a >= 0 && a <= 9 && b >= 0 && b <= 9
}

/** Instants of local times, by the day: most local days have one offset, and then a read costs a subtraction. */
export class LocalClock {
  readonly zone: Zone
  #day = NaN
  #offsetS = NaN
  readonly #days = new Map<number, number>()

  constructor(zone: Zone) {
    this.zone = zone
  }

  /** Offset of all of a local day, seconds east of UTC; NaN where the clocks change on or near it. */
  offsetOn(day: number): number {
    if (day === this.#day) return this.#offsetS
    let offsetS = this.#days.get(day)
    if (offsetS === undefined) {
      offsetS = this.zone.offsetAt(day * DAY_S)
      // Offsets lie within 16 h of UTC; two changes that undo each other within four hours have never been made.
      for (let s = -16 * 3600; s <= DAY_S + 16 * 3600; s += 4 * 3600) {
        if (this.zone.offsetAt(day * DAY_S + s) !== offsetS) offsetS = NaN
      }
      this.#days.set(day, offsetS)
    }
    this.#day = day
    this.#offsetS = offsetS
    return offsetS
  }

  /** Instants at which local clocks show a time: none, one or two, ascending. */
  instants(localS: number): number[] {
    const offsetS = this.offsetOn(Math.floor(localS / DAY_S))
    return Number.isNaN(offsetS) ? this.zone.localToInstants(localS) : [localS - offsetS]
  }
}

/** `YYYY-MM-DDTHH:MM:SS` of a local time. */
export function localText(localS: number): string {
  return new Date(localS * 1000).toISOString().slice(0, 19)
}

/** RFC 3339 text of an instant, in UTC. */
export function utcText(s: number): string {
  return `${localText(s)}Z`
}
