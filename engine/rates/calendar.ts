import { civilOfDay, DAY_S } from '../time/civil.js'
import { dayNumber } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import { weekdays, type RateVersionRecord } from './schema.js'

const QUARTER_S = 900
const QUARTERS = 96

/** A version of a rate with its calendar: which season a local day is in, and which time-of-use period an instant. */
export class RateVersion {
  /** Public id of the rate, and the version's first local day. */
  readonly rate: string
  readonly fromDay: number
  readonly body: RateVersionRecord
  /** Names of the time-of-use periods; the last is that of all other hours. One name alone: the hours do not matter. */
  readonly periods: readonly string[]
  readonly #holidays: ReadonlySet<number>
  readonly #tables = new Map<string, Uint8Array>()

  constructor(rate: string, body: RateVersionRecord) {
    this.rate = rate
    this.body = body
    this.fromDay = dayNumber(body.from)
    this.periods = [...(body.touPeriods ?? []).map((p) => p.name), body.otherPeriod ?? 'off-peak']
    this.#holidays = new Set((body.holidays ?? []).map(dayNumber))
  }

  /** True where the time of day matters. */
  get hasPeriods(): boolean {
    return this.periods.length > 1
  }

  /** The same with what is charged by the day and by the kWh alone. */
  withoutPeriodCharges(): RateVersion {
    return new RateVersion(this.rate, { ...this.body, fixed: (this.body.fixed ?? []).filter((f) => f.per === 'day') })
  }

  /** The season of a local day; undefined outside of all. */
  seasonOf(day: number): string | undefined {
    const { month, day: ofMonth } = civilOfDay(day)
    const at = `${String(month).padStart(2, '0')}-${String(ofMonth).padStart(2, '0')}`
    return this.body.seasons?.find(({ from, to }) => from <= to ? at >= from && at <= to : at >= from || at <= to)?.name
  }

  /**
   * Index of the time-of-use period in which an interval lies wholly, by the local clock; -1 where it reaches over
   * several. On a day on which the clocks change, an hour that is repeated has its period twice.
   */
  periodAt(startS: number, intervalS: number, zone: Zone): number {
    if (!this.hasPeriods) return 0
    const endS = startS + intervalS
    const found = this.#at(startS, zone)
    for (let s = startS + QUARTER_S; s < endS; s += QUARTER_S) if (this.#at(s, zone) !== found) return -1
    return this.#at(endS - 1, zone) === found ? found : -1
  }

  #at(s: number, zone: Zone): number {
    const local = s + zone.offsetAt(s)
    const day = Math.floor(local / DAY_S)
    return this.#table(day)[Math.floor((local - day * DAY_S) / QUARTER_S)]
  }

  /** The period of each quarter of an hour of a local day. */
  #table(day: number): Uint8Array {
    const season = this.seasonOf(day)
    const weekday = (((day + 4) % 7) + 7) % 7
    const isHoliday = this.#holidays.has(day)
    const key = `${season ?? ''}|${weekday}|${isHoliday}`
    const known = this.#tables.get(key)
    if (known !== undefined) return known
    const table = new Uint8Array(QUARTERS).fill(this.periods.length - 1)
    // Of windows that overlap, the first in the rate holds.
    const windows = (this.body.touPeriods ?? []).flatMap((p, index) => p.windows.map((w) => ({ w, index }))).reverse()
    for (const { w, index } of windows) {
      if (w.season !== undefined && w.season !== season) continue
      if (isHoliday && w.holidays !== true) continue
      if (w.days?.includes(weekdays[weekday]) === false) continue
      const from = quarterOf(w.from)
      const to = quarterOf(w.to)
      // A window over midnight belongs to each of its days in part.
      if (from < to) table.fill(index, from, to)
      else {
        table.fill(index, from)
        table.fill(index, 0, to)
      }
    }
    this.#tables.set(key, table)
    return table
  }
}

function quarterOf(clock: string): number {
  const [hours, minutes] = clock.split(':').map(Number)
  return hours * 4 + minutes / 15
}

/** Local days [startDay, endDay) of a period that are billed by one version and in one season. */
export interface Part {
  readonly startDay: number
  readonly endDay: number
  readonly version: RateVersion
  readonly season: string | undefined
}

/** A billing period cut where another version or season begins; null where a day of it has no rate. */
export function partsOf(
  startDay: number, endDay: number, versionAt: (day: number) => RateVersion | undefined,
): Part[] | null {
  const parts: { startDay: number; endDay: number; version: RateVersion; season: string | undefined }[] = []
  for (let day = startDay; day < endDay; day++) {
    const version = versionAt(day)
    if (version === undefined) return null
    const season = version.seasonOf(day)
    const last = parts.at(-1)
    if (last?.version === version && last.season === season) last.endDay = day + 1
    else parts.push({ startDay: day, endDay: day + 1, version, season })
  }
  return parts
}
