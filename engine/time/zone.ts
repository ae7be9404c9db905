import { DAY_S, dayOfCivil } from './civil.js'
import { joinStretches, readStretches, zoneId, type Stretch } from './transitions.js'

/**
 * A time zone as look-ups in a table: settling asks for a day once or twice per block, some 100,000 times a second,
 * where Temporal or Intl would take microseconds each.
 *
 * Instants are epoch seconds, local days are day numbers (days since 1970-01-01). Local days are contiguous and
 * partition time: day d runs from the first instant at which the local date is d (or later, where d does not exist) to
 * the first instant of d + 1. An hour that is repeated across midnight belongs to the day that had begun.
 */
export interface Zone {
  /** IANA name as given, in its usual spelling. */
  readonly name: string
  /** Seconds east of UTC at an instant. */
  offsetAt(s: number): number
  /** Local day in which an instant lies: dayStart(d) <= s < dayStart(d + 1). */
  dayOf(s: number): number
  /** First instant of a local day; that of the following day where the day does not exist (Apia, 2011-12-30). */
  dayStart(day: number): number
  /**
   * Instants at which local clocks show a time, ascending: none where the clocks skip it, two where they repeat it.
   * @param localS the wall clock as seconds since 1970-01-01T00:00 local
   */
  localToInstants(localS: number): number[]
}

// Changes are read for the years that meter data usually has first, and the rest only when it is asked for: reading all
// of them takes 20-80 ms for a zone with daylight saving, these 5-10 ms. Before and after, the last known offset holds.
const EARLIEST_S = yearStart(1980)
const USUAL_FROM_S = yearStart(2015)
const USUAL_TO_S = yearStart(2040)
const LATEST_S = yearStart(2100)

/** How near the edge of an unfinished table an instant may be, so that what lies beyond cannot matter for its day. */
const MARGIN_S = 2 * DAY_S
/** The same for a local day: its start lies at most this much from its own number of days in UTC. */
const MARGIN_DAYS = 3

class TableZone implements Zone {
  readonly name: string
  #stretches: Stretch[]

  // The table, one entry per stretch and one more that closes the last.
  #at = new Float64Array(0)
  #offset = new Int32Array(0)
  /** Greatest local day that any earlier stretch came to: where clocks go back over midnight, days do not. */
  #reached = new Float64Array(0)

  // What the table can answer.
  #fromS = 0
  #toS = 0
  #fromDay = 0
  #toDay = 0

  // The stretch that the last call hit: nearly every call hits it again.
  #hitAt = 0
  #hitFromS = 0
  #hitToS = 0
  #hitFromDay = 0
  #hitToDay = 0
  #hitOffset = 0
  #hitReached = 0

  constructor(name: string) {
    this.name = name
    this.#stretches = readStretches(name, USUAL_FROM_S, USUAL_TO_S)
    this.#build(USUAL_FROM_S, USUAL_TO_S)
  }

  offsetAt(s: number): number {
    if (!(s >= this.#hitFromS && s < this.#hitToS)) this.#seek(s)
    return this.#hitOffset
  }

  dayOf(s: number): number {
    if (!(s >= this.#hitFromS && s < this.#hitToS)) this.#seek(s)
    const day = Math.floor((s + this.#hitOffset) / DAY_S)
    return day <= this.#hitReached ? this.#hitReached : day
  }

  dayStart(day: number): number {
    if (!(day >= this.#hitFromDay && day <= this.#hitToDay)) this.#seekDay(day)
    const s = day * DAY_S - this.#hitOffset
    // No stretch before this one came to the day: where its midnight was skipped, it begins with the stretch.
    return s < this.#hitAt ? this.#hitAt : s
  }

  localToInstants(localS: number): number[] {
    // Offsets are less than a day, so a change more than a day away cannot matter.
    if (localS - DAY_S >= this.#hitFromS && localS + DAY_S < this.#hitToS) return [localS - this.#hitOffset]
    this.#cover(localS - DAY_S)
    this.#cover(localS + DAY_S)
    const instants: number[] = []
    for (let k = find(this.#at, localS - DAY_S); k < this.#offset.length && this.#at[k] <= localS + DAY_S; k++) {
      const s = localS - this.#offset[k]
      if (s >= this.#at[k] && s < this.#at[k + 1]) instants.push(s)
    }
    return instants
  }

  #seek(s: number): void {
    this.#cover(s)
    this.#hit(find(this.#at, s))
  }

  /** The stretch in which a day begins: the last before which the day had not been reached. */
  #seekDay(day: number): void {
    if (day < this.#fromDay) this.#cover(-Infinity)
    if (day > this.#toDay) this.#cover(Infinity)
    this.#hit(find(this.#reached, day - 1))
  }

  #hit(k: number): void {
    this.#hitAt = this.#at[k]
    this.#hitOffset = this.#offset[k]
    this.#hitReached = this.#reached[k]
    this.#hitFromS = Math.max(this.#at[k], this.#fromS)
    this.#hitToS = Math.min(this.#at[k + 1], this.#toS)
    this.#hitFromDay = Math.max(this.#reached[k] + 1, this.#fromDay)
    this.#hitToDay = Math.min(this.#reached[k + 1], this.#toDay)
  }

  /** Reads the years before or after the usual ones, when an instant asks for them for the first time. */
  #cover(s: number): void {
    if (s < this.#fromS && this.#fromS !== -Infinity) {
      this.#stretches = joinStretches(readStretches(this.name, EARLIEST_S, USUAL_FROM_S), this.#stretches)
      this.#build(-Infinity, this.#toS === Infinity ? Infinity : USUAL_TO_S)
    }
    if (s >= this.#toS && this.#toS !== Infinity) {
      this.#stretches = joinStretches(this.#stretches, readStretches(this.name, USUAL_TO_S, LATEST_S))
      this.#build(this.#fromS === -Infinity ? -Infinity : USUAL_FROM_S, Infinity)
    }
  }

  /** Lays the stretches out in columns; the ends are infinite where there is nothing more to read. */
  #build(fromS: number, toS: number): void {
    const n = this.#stretches.length
    this.#at = new Float64Array(n + 1)
    this.#offset = new Int32Array(n)
    this.#reached = new Float64Array(n + 1)
    this.#at[0] = fromS
    this.#reached[0] = -Infinity
    for (let k = 0; k < n; k++) {
      const { at, offset } = this.#stretches[k]
      this.#offset[k] = offset
      if (k === 0) continue
      this.#at[k] = at
      // The day of the last instant before the change, by the offset before it.
      const last = Math.ceil((at + this.#offset[k - 1]) / DAY_S) - 1
      this.#reached[k] = Math.max(this.#reached[k - 1], last)
    }
    this.#at[n] = Infinity
    this.#reached[n] = Infinity
    this.#fromS = fromS + MARGIN_S
    this.#toS = toS - MARGIN_S
    this.#fromDay = fromS / DAY_S + MARGIN_DAYS
    this.#toDay = toS / DAY_S - MARGIN_DAYS
    this.#hit(n - 1)
  }
}

/** Greatest index k with column[k] <= x, leaving out the closing entry; 0 where there is none. */
function find(column: Float64Array, x: number): number {
  let low = 0
  let high = column.length - 2
  while (low < high) {
    const middle = (low + high + 1) >>> 1
    if (column[middle] <= x) low = middle
    else high = middle - 1
  }
  return low
}

function yearStart(year: number): number {
  return dayOfCivil(year, 1, 1) * DAY_S
}

const zones = new Map<string, Zone>()

/**
 * The zone of an IANA name (`America/Chicago`, `Etc/GMT-1`, `UTC`, aliases such as `US/Central`); one object per name.
 *
 * @throws RangeError with the name in its message, for a name that Intl does not know; bare offsets are refused
 */
export function getZone(name: string): Zone {
  let zone = zones.get(name)
  if (zone === undefined) {
    // Other spellings are not kept, so that nobody can fill the map with them.
    const id = zoneId(name)
    zone = zones.get(id)
    if (zone === undefined) zones.set(id, zone = new TableZone(id))
  }
  return zone
}

/** True when a start is the first instant of its local day and the length reaches exactly to the next day's start. */
export function isDayLengthOf(zone: Zone, startS: number, lengthS: number): boolean {
  const day = zone.dayOf(startS)
  return zone.dayStart(day) === startS && zone.dayStart(day + 1) === startS + lengthS
}

/** A clock that never changes, such as UTC or a zone's standard time. @param offsetS seconds east of UTC */
export function fixedZone(name: string, offsetS: number): Zone {
  return {
    name,
    offsetAt: () => offsetS,
    dayOf: (s) => Math.floor((s + offsetS) / DAY_S),
    dayStart: (day) => day * DAY_S - offsetS,
    localToInstants: (localS) => [localS - offsetS],
  }
}

const WINTER_S = Date.UTC(2025, 0, 15) / 1000
const SUMMER_S = Date.UTC(2025, 6, 15) / 1000

/** The zone's standard time all year, as it is kept now: the lesser of its winter and summer offsets. */
export function standardTime(zone: Zone): Zone {
  return fixedZone(`${zone.name} standard time`, Math.min(zone.offsetAt(WINTER_S), zone.offsetAt(SUMMER_S)))
}
