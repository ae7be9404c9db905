import type { FlowCode } from '../read-batch.js'
import type { MeterRef, RegistryMap } from '../registry-map.js'
import type { DaySpan } from '../time/billing.js'
import type { Zone } from '../time/zone.js'
import type { Due } from './due.js'
import type { PeriodColumns, PeriodSum } from './period-bounds.js'
import { isPassed, MARGIN, type Cycles, type Seen } from './seen.js'

/** Rows that there is room for once a day was noted: a commit that touches no threshold makes none. */
const FIRST = 256

/**
 * The days of a commit that pass no limit on a day, an hour or a demand, in columns: of a fleet's delivery nearly all
 * are such, and an object for each of them and its account cost more than settling it (bench `thresholds`). Taken are
 * days of accounts that have one meter from the period's start on, so that the block is all that the day can count.
 * Days of a channel are given in a row.
 */
export class QuietDays {
  readonly #map: RegistryMap
  readonly #zone: Zone
  readonly #cycles: Cycles
  #length = 0
  #accounts = new Int32Array(0)
  #days = new Int32Array(0)
  #meters = new Int32Array(0)
  #flows = new Int8Array(0)
  #starts = new Int32Array(0)
  #ends = new Int32Array(0)
  #kwh = new Float64Array(0)
  #added = new Float64Array(0)
  /** Least limit on the period's energy; Infinity where there is none. */
  #limits = new Float64Array(0)
  /** Accounts with thresholds that the schedule judges, by twice the day; one more where their period may be an hour. */
  readonly #deferred = new Map<number, Set<number>>()
  #first = Infinity
  #last = -Infinity

  constructor(map: RegistryMap, zone: Zone, cycles: Cycles) {
    this.#map = map
    this.#zone = zone
    this.#cycles = cycles
  }

  /** Notes the day, where it is a quiet one. False: the account must be looked at with all that the commit touched of it. */
  take(meter: MeterRef, day: number, seen: Seen): boolean {
    if (seen.isShared) return false
    const from = this.#zone.dayStart(day)
    const to = this.#zone.dayStart(day + 1)
    let accountId = 0
    for (const a of meter.assignments) {
      if (a.fromS >= to || a.toS <= from) continue
      if (a.fromS > from || a.toS < to) return false
      accountId = a.accountId
    }
    const watch = accountId === 0 ? undefined : this.#map.watchOf(accountId)
    if (watch === undefined) return true
    const period = this.#cycles.periodOf(day, watch.cycle)
    if (this.#map.hasSeveralMeters(accountId)) {
      const startS = this.#zone.dayStart(period.startDay)
      for (const other of this.#map.metersOf(accountId)) {
        if (other !== meter && other.assignments.some((a) => a.accountId === accountId && a.toS > startS)) return false
      }
    }
    let limit = Infinity
    for (const w of watch.watches) {
      if (w.kind === 'period-cost') return false
      if (w.flow !== seen.flow) continue
      if (w.kind === 'period-usage') limit = Math.min(limit, w.limit)
      else if (isPassed(w, seen)) return false
    }
    if (watch.watches.length > 0) this.#note(accountId, meter.meterId, day, seen, limit, period)
    if (watch.hasDeferred) {
      const key = day * 2 + (watch.hasDeferredHours ? 1 : 0)
      const known = this.#deferred.get(key)
      if (known === undefined) this.#deferred.set(key, new Set([accountId]))
      else known.add(accountId)
    }
    return true
  }

  #note(accountId: number, meterId: number, day: number, seen: Seen, limit: number, period: DaySpan): void {
    const i = this.#length++
    if (i === this.#accounts.length) this.#grow()
    this.#accounts[i] = accountId
    this.#days[i] = day
    this.#meters[i] = meterId
    this.#flows[i] = seen.flow
    this.#starts[i] = period.startDay
    this.#ends[i] = period.endDay
    this.#kwh[i] = seen.kwh
    this.#added[i] = seen.addedKwh
    this.#limits[i] = limit
    this.#first = Math.min(this.#first, day)
    this.#last = Math.max(this.#last, day)
  }

  #grow(): void {
    const size = Math.max(FIRST, this.#accounts.length * 4)
    const wider = <T extends { set: (from: T) => void }>(make: new (size: number) => T, from: T): T => {
      const to = new make(size)
      to.set(from)
      return to
    }
    this.#accounts = wider(Int32Array, this.#accounts)
    this.#days = wider(Int32Array, this.#days)
    this.#meters = wider(Int32Array, this.#meters)
    this.#flows = wider(Int8Array, this.#flows)
    this.#starts = wider(Int32Array, this.#starts)
    this.#ends = wider(Int32Array, this.#ends)
    this.#kwh = wider(Float64Array, this.#kwh)
    this.#added = wider(Float64Array, this.#added)
    this.#limits = wider(Float64Array, this.#limits)
  }

  get isEmpty(): boolean {
    return this.#length === 0
  }

  /** First and last local day; Infinity and -Infinity where no day was noted. */
  get range(): { first: number; last: number } {
    return { first: this.#first, last: this.#last }
  }

  /** The accounts, one for each stretch of days in a row. */
  accounts(): number[] {
    const ids: number[] = []
    for (let i = 0; i < this.#length; i++) if (i === 0 || this.#accounts[i] !== this.#accounts[i - 1]) ids.push(this.#accounts[i])
    return ids
  }

  /**
   * What is asked of periods with a limit on their energy, in columns.
   * @param apart accounts of which the commit touched other days, too: theirs as sums, to be joined with those
   */
  periods(apart: ReadonlySet<number>): { columns: PeriodColumns; sumOf: (k: number) => PeriodSum; sums: PeriodSum[] } {
    const firsts: number[] = []
    const lasts: number[] = []
    const sums: PeriodSum[] = []
    for (let i = 0; i < this.#length;) {
      const from = i
      do i++
      while (i < this.#length && this.#isSamePeriod(i, from))
      if (this.#limits[from] === Infinity) continue
      if (apart.has(this.#accounts[from])) sums.push(this.#sumOf(from, i))
      else {
        firsts.push(from)
        lasts.push(i)
      }
    }
    return {
      columns: {
        accountIds: firsts.map((i) => this.#accounts[i]), flows: firsts.map((i) => this.#flows[i]), startDays: firsts.map((i) => this.#starts[i]),
        firstDays: firsts.map((from, k) => extreme(Math.min, this.#days, from, lasts[k])),
        greatestDays: firsts.map((from, k) => extreme(Math.max, this.#kwh, from, lasts[k])),
      },
      sumOf: (k) => this.#sumOf(firsts[k], lasts[k]),
      sums,
    }
  }

  #sumOf(from: number, to: number): PeriodSum {
    return {
      accountId: this.#accounts[from], flow: this.#flows[from] as FlowCode, meterIds: [this.#meters[from]], limit: this.#limits[from] * MARGIN,
      startDay: this.#starts[from], endDay: this.#ends[from], 
      firstDay: extreme(Math.min, this.#days, from, to), lastDay: extreme(Math.max, this.#days, from, to),
      addedKwh: this.#added.subarray(from, to).reduce((a, b) => a + b, 0), dayKwh: extreme(Math.max, this.#kwh, from, to) }
  }

  #isSamePeriod(i: number, j: number): boolean {
    return this.#accounts[i] === this.#accounts[j] && this.#flows[i] === this.#flows[j] && this.#starts[i] === this.#starts[j]
      && this.#meters[i] === this.#meters[j]
  }

  /** The days noted of some accounts. */
  daysOf(accountIds: { has: (accountId: number) => boolean }): Map<number, Set<number>> {
    const days = new Map<number, Set<number>>()
    for (let i = 0; i < this.#length; i++) {
      if (!accountIds.has(this.#accounts[i])) continue
      const known = days.get(this.#accounts[i])
      if (known === undefined) days.set(this.#accounts[i], new Set([this.#days[i]]))
      else known.add(this.#days[i])
    }
    return days
  }

  /** What the schedule is to judge; a day that runs cannot be told before its end. @param nowS epoch seconds */
  due(nowS: number): Due[] {
    return [...this.#deferred].map(([key, accounts]) => {
      const day = Math.floor(key / 2)
      return { fromDay: day, toDay: day + 1, dueS: key % 2 === 1 ? nowS : Math.max(nowS, this.#zone.dayStart(day + 1)),
        everyKind: false, history: false, accountIds: [...accounts].sort((a, b) => a - b) }
    })
  }
}

/** The least or greatest of a stretch of a column, [from, to). */
function extreme(of: (a: number, b: number) => number, column: ArrayLike<number>, from: number, to: number): number {
  let found = column[from]
  for (let i = from + 1; i < to; i++) found = of(found, column[i])
  return found
}
