import type { Zone } from '../engine/time/zone.js'
import { periodOfRead, plainBill, rateOn, type PlainRate } from './bill-model.js'
import type { Model, ModelRead } from './model.js'

/**
 * Bills and projections of an account with one meter, told plainly from all reads that count. Projections are means of
 * days, so that they agree with the engine's to a watt-hour, not to the last bit.
 */

const SETTLE_S = 48 * 3600
const DAY_S = 86_400

/** Local days [from, to). */
export type DayRange = readonly [number, number]

/** The billing period that a local day lies in: from the billing day on, in shorter months from their last day. */
export function plainPeriod(day: number, billingDay: number | null): DayRange {
  const date = new Date(day * DAY_S * 1000)
  const startIn = (months: number): number => {
    const first = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + months, 1)
    const last = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + months + 1, 0)).getUTCDate()
    return first / DAY_S / 1000 + Math.min(billingDay ?? 1, last) - 1
  }
  return day >= startIn(0) ? [startIn(0), startIn(1)] : [startIn(-1), startIn(0)]
}

interface Day {
  day: number
  reads: ModelRead[]
  kwh: number
  isComplete: boolean
  isRipe: boolean
}

export class PlainAccount {
  readonly #zone: Zone
  readonly #days = new Map<number, ModelRead[]>()
  readonly #lengths = new Map<number, number>()
  readonly #rates: readonly PlainRate[]
  readonly #nowS: number

  constructor(model: Model, rates: readonly PlainRate[], nowS: number) {
    this.#zone = model.zone
    this.#rates = rates
    this.#nowS = nowS
    for (const r of model.counting()) {
      const day = this.#zone.dayOf(r.startS)
      this.#days.set(day, [...this.#days.get(day) ?? [], r])
      this.#lengths.set(r.flow, r.intervalS)
    }
  }

  /** What the period's bill comes to; undefined where it cannot be told, or not yet. */
  bill([from, to]: DayRange): number | undefined {
    const reads = this.#reads(from, to)
    if (reads.length === 0) return undefined
    const credits = Array.from({ length: to - from }, (_, i) => rateOn(this.#rates, from + i)).some((body) => body?.netMetering !== undefined)
    if (credits && !this.#isRipe(from, to, [1, 2])) return undefined
    return plainBill(this.#rates, from, to, reads, this.#zone)
  }

  /** What the period's energy, or its bill, is projected to come to, by the end of each day on which that can be told. */
  projections(what: 'usage' | 'cost', [from, to]: DayRange): { day: number; value: number }[] {
    const days = Array.from({ length: to - from + 28 }, (_, i) => this.#day(from - 28 + i, what))
    const within = days.filter((d) => d.day >= from)
    const open = within.findIndex((d) => !d.isRipe)
    const told: { day: number; value: number }[] = []
    // The next day is neither in the first week nor one of the last two.
    for (const { day: through } of within.slice(6, -3).filter((d) => open < 0 || d.day < from + open)) {
      const usable = days.filter((d) => d.isComplete && d.day > through - 28 && d.day <= through)
      if (usable.length < 7) continue
      const [working, weekend] = [false, true].map((is) => {
        const same = usable.filter((d) => isWeekend(d.day) === is)
        const days = same.length < 3 ? usable : same
        return { kwh: mean(days.map((d) => d.kwh)), parts: what === 'usage' ? new Map() : this.#meanDay(days) }
      })
      const like = (day: number): typeof working => isWeekend(day) ? weekend : working
      const value = what === 'usage'
        ? within.reduce((n, d) => n + (d.day <= through ? d.kwh : like(d.day).kwh), 0)
        : plainBill(this.#rates, from, to, this.#reads(from, through + 1), this.#zone, through + 1, (day) => like(day).parts)
      if (value !== undefined) told.push({ day: through, value })
    }
    return told
  }

  #meanDay(days: readonly Day[]): Map<string, { delivered: number; received: number }> {
    const sums = new Map<string, { delivered: number; received: number }>()
    for (const { day, reads } of days) {
      const body = rateOn(this.#rates, day)!
      for (const r of reads) {
        const name = periodOfRead(body, r.startS, r.startS + r.intervalS, this.#zone)!
        const sum = sums.get(name) ?? { delivered: 0, received: 0 }
        sum[r.flow === 1 ? 'delivered' : 'received'] += Number(r.nano) / 1e9 / days.length
        sums.set(name, sum)
      }
    }
    return sums
  }

  #reads(from: number, to: number): ModelRead[] {
    return Array.from({ length: to - from }, (_, i) => this.#days.get(from + i) ?? []).flat()
  }

  #day(day: number, what: 'usage' | 'cost'): Day {
    const flows = what === 'usage' ? [1] : [1, 2]
    const reads = this.#reads(day, day + 1)
    const body = rateOn(this.#rates, day)
    const isTold = what === 'usage' || body !== undefined
      && reads.every((r) => periodOfRead(body, r.startS, r.startS + r.intervalS, this.#zone) !== undefined)
    const isFull = this.#isFull(day, day + 1, flows)
    const isEnded = this.#nowS >= this.#zone.dayStart(day + 1)
    return {
      day, reads, kwh: reads.reduce((n, r) => r.flow === 1 ? n + Number(r.nano) / 1e9 : n, 0),
      isComplete: isEnded && isFull && isTold,
      // Without a rate nothing is held of a day that would be billed.
      isRipe: isEnded && (isFull && (what === 'usage' || body !== undefined) || this.#nowS >= this.#zone.dayStart(day + 1) + SETTLE_S),
    }
  }

  #isRipe(from: number, to: number, flows: readonly number[]): boolean {
    const endS = this.#zone.dayStart(to)
    return this.#nowS >= endS && (this.#isFull(from, to, flows) || this.#nowS >= endS + SETTLE_S)
  }

  #isFull(from: number, to: number, flows: readonly number[]): boolean {
    const due = flows.reduce((n, flow) => {
      const length = this.#lengths.get(flow)
      if (length === undefined) return n
      return n + (length === DAY_S ? to - from : Math.floor((this.#zone.dayStart(to) - this.#zone.dayStart(from)) / length))
    }, 0)
    return due > 0 && this.#reads(from, to).filter((r) => flows.includes(r.flow)).length >= due
  }
}

function isWeekend(day: number): boolean {
  return [0, 6].includes(new Date(day * DAY_S * 1000).getUTCDay())
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length
}
