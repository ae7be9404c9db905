import { MISSING, type FlowCode } from './read-batch.js'
import type { Block } from './settle.js'
import type { Queryable } from './store/db.js'
import type { Zone } from './time/zone.js'

/** Stretches of time, epoch seconds [from, to), in which a channel counts; null: always. */
export type Spans = readonly (readonly [number, number])[] | null

const HOUR_S = 3600
const CHUNK_HOURS = 1024
const MAX_SAFE = Number.MAX_SAFE_INTEGER / 2

interface Series {
  flow: FlowCode
  exponent: number
  coarse: boolean
  hours: HourSums
}

/**
 * Differences of the utility's energy per local-clock hour, gathered over one commit. Exact: mantissas are summed as
 * integers per exponent, and put together as decimals only when they are written.
 *
 * An hour is the 3,600 s that begin at a whole hour of the utility's clock; a read is booked in the hour it starts in.
 * Reads longer than an hour go to `coarse`, because how they spread over their hours is not known.
 */
export class LoadDifference {
  readonly #zone: Zone
  readonly #series = new Map<string, Series>()
  /** The series of the block before: nearly every block has the same. */
  #last: Series | undefined

  constructor(zone: Zone) {
    this.#zone = zone
  }

  /** Adds (sign 1) or takes away (sign -1) what a block contributes where its channel counts. */
  add(block: Block, flow: FlowCode, spans: Spans, sign: 1 | -1): void {
    if (block.present === 0) return
    const { vals, firstS, intervalS } = block
    const hours = this.#hours(flow, block.exponent, intervalS > HOUR_S)
    const shift = mod(this.#zone.offsetAt(firstS), HOUR_S)
    const endS = firstS + vals.length * intervalS
    const steady = mod(this.#zone.offsetAt(endS), HOUR_S) === shift
    const step = HOUR_S / intervalS
    if (steady && spans === null && Number.isInteger(step) && mod(firstS + shift, HOUR_S) === 0) {
      // Whole hours from the first slot on: the ordinary block.
      hours.addRun(firstS / HOUR_S, vals, step, sign)
      return
    }
    for (let i = 0; i < vals.length; i++) {
      if (vals[i] === MISSING || vals[i] === 0) continue
      const at = firstS + i * intervalS
      if (!counts(spans, at)) continue
      const slotShift = steady ? shift : mod(this.#zone.offsetAt(at), HOUR_S)
      const hourS = Math.floor((at + slotShift) / HOUR_S) * HOUR_S - slotShift
      hours.add(hourS / HOUR_S, sign * vals[i])
    }
  }

  /** Adds the differences to system_load, in key order: the last statement before the commit, because its rows are hot. */
  async write(db: Queryable, utilityId: number): Promise<void> {
    const rows = this.rows()
    if (rows.length === 0) return
    await db.query(
      `insert into system_load as l (utility_id, group_id, flow, hour, energy, coarse)
       select $1, 0, flow, to_timestamp(hour), energy, coarse
         from unnest($2::smallint[], $3::float8[], $4::numeric[], $5::numeric[]) as d(flow, hour, energy, coarse)
        order by flow, hour
           on conflict (utility_id, group_id, flow, hour)
           do update set energy = l.energy + excluded.energy, coarse = l.coarse + excluded.coarse`,
      [utilityId, rows.map((r) => r.flow), rows.map((r) => r.hourS), rows.map((r) => r.energy), rows.map((r) => r.coarse)])
  }

  /** First and last hour touched, epoch seconds; undefined when nothing changed. */
  hoursTouched(): number[] {
    return this.rows().map((r) => r.hourS)
  }

  /** The differences that are not zero, as exact decimal texts in kWh, by flow and hour. */
  rows(): { flow: FlowCode; hourS: number; energy: string; coarse: string }[] {
    const byKey = new Map<string, { flow: FlowCode; hourS: number; energy: bigint; coarse: bigint }>()
    for (const { flow, exponent, coarse, hours } of this.#series.values()) {
      const scale = 10n ** BigInt(exponent + FINEST)
      hours.each((hour, sum) => {
        const key = `${flow}|${hour}`
        let entry = byKey.get(key)
        if (entry === undefined) byKey.set(key, entry = { flow, hourS: Math.round(hour * HOUR_S), energy: 0n, coarse: 0n })
        if (coarse) entry.coarse += sum * scale
        else entry.energy += sum * scale
      })
    }
    return [...byKey.values()].filter((e) => e.energy !== 0n || e.coarse !== 0n)
      .sort((a, b) => a.flow - b.flow || a.hourS - b.hourS)
      .map((e) => ({ flow: e.flow, hourS: e.hourS, energy: nanoText(e.energy), coarse: nanoText(e.coarse) }))
  }

  #hours(flow: FlowCode, exponent: number, coarse: boolean): HourSums {
    const last = this.#last
    if (last !== undefined && last.flow === flow && last.exponent === exponent && last.coarse === coarse) return last.hours
    const key = `${flow}|${exponent}|${coarse}`
    let series = this.#series.get(key)
    if (series === undefined) this.#series.set(key, series = { flow, exponent, coarse, hours: new HourSums() })
    this.#last = series
    return series.hours
  }
}

const FINEST = 9

/** Billionths of a kWh as decimal text. */
function nanoText(n: bigint): string {
  const digits = (n < 0n ? -n : n).toString().padStart(FINEST + 1, '0')
  return `${n < 0n ? '-' : ''}${digits.slice(0, -FINEST)}.${digits.slice(-FINEST)}`
}

/** True when a slot that starts at that instant counts. */
export function counts(spans: Spans, atS: number): boolean {
  if (spans === null) return true
  for (const [from, to] of spans) if (atS >= from && atS < to) return true
  return false
}

/** Sums per hour number (hours since the epoch; fractional in zones with a half-hour offset), in chunks of typed arrays. */
class HourSums {
  readonly #chunks = new Map<number, Float64Array>()
  readonly #spill = new Map<number, bigint>()
  #lastKey = NaN
  #last: Float64Array | undefined

  add(hour: number, amount: number): void {
    this.#addQuarter(Math.round(hour * 4), amount)
  }

  /** Adds a block's slots, `step` to the hour from that hour on. */
  addRun(hour: number, vals: Int32Array, step: number, sign: 1 | -1): void {
    let quarter = Math.round(hour * 4)
    for (let i = 0; i < vals.length; quarter += 4) {
      let sum = 0
      for (const to = Math.min(i + step, vals.length); i < to; i++) if (vals[i] !== MISSING) sum += vals[i]
      if (sum !== 0) this.#addQuarter(quarter, sign * sum)
    }
  }

  #addQuarter(quarter: number, amount: number): void {
    // Quarter-hours, so that zones with :15, :30 and :45 offsets have whole keys.
    const key = Math.floor(quarter / CHUNK_HOURS)
    if (key !== this.#lastKey) {
      this.#lastKey = key
      this.#last = this.#chunks.get(key)
      if (this.#last === undefined) this.#chunks.set(key, this.#last = new Float64Array(CHUNK_HOURS))
    }
    const i = quarter - key * CHUNK_HOURS
    const sum = this.#last![i] + amount
    if (Math.abs(sum) > MAX_SAFE) {
      this.#spill.set(quarter, (this.#spill.get(quarter) ?? 0n) + BigInt(this.#last![i]))
      this.#last![i] = amount
    } else this.#last![i] = sum
  }

  each(visit: (hour: number, sum: bigint) => void): void {
    for (const [key, chunk] of this.#chunks) {
      for (let i = 0; i < chunk.length; i++) if (chunk[i] !== 0) visit((key * CHUNK_HOURS + i) / 4, BigInt(chunk[i]))
    }
    for (const [quarter, sum] of this.#spill) visit(quarter / 4, sum)
  }
}

function mod(a: number, n: number): number {
  return ((a % n) + n) % n
}
