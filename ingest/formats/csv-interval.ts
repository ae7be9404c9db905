import type { CsvRows } from './csv-rows.js'
import type { TimeReader } from './timestamps.js'
import { intervalKind } from './words.js'

/**
 * The interval length of a file that does not state it, from the spacing of its reads: the most frequent one, where it
 * is that of every meter and flow that has a spacing of its own, and of at least half of all neighbours.
 *
 * @param p where the rows begin
 * @param columns positions of the meter, of the flow (-1: none) and of the time
 * @returns seconds, or undefined where the reads do not tell
 */
export function deriveInterval(
  rows: CsvRows, bytes: Uint8Array, p: number, columns: { meter: number, flow: number, time: number }, time: TimeReader,
): number | undefined {
  const channels = new Map<string, { last: number, own: Map<number, number> }>()
  const all = new Map<number, number>()
  let neighbours = 0
  // The channel of the row before, which is most often that of this one too.
  let channel: { last: number, own: Map<number, number> } | undefined
  let meterFrom = 0, meterTo = 0, flowFrom = 0, flowTo = 0
  for (; rows.split(p); p = rows.next) {
    if (rows.fault !== null || rows.count <= Math.max(columns.meter, columns.flow, columns.time)) continue
    rows.trim(columns.time)
    if (!time.read(bytes, rows.from[columns.time], rows.to[columns.time])) continue
    const isSame = channel !== undefined && rows.same(columns.meter, meterFrom, meterTo)
      && (columns.flow < 0 || rows.same(columns.flow, flowFrom, flowTo))
    if (!isSame || channel === undefined) {
      const key = `${rows.text(columns.meter)}\n${columns.flow < 0 ? '' : rows.text(columns.flow)}`
      channel = channels.get(key)
      if (channel === undefined) channels.set(key, channel = { last: NaN, own: new Map<number, number>() })
      meterFrom = rows.from[columns.meter]
      meterTo = rows.to[columns.meter]
      flowFrom = columns.flow < 0 ? 0 : rows.from[columns.flow]
      flowTo = columns.flow < 0 ? 0 : rows.to[columns.flow]
    }
    // Where clocks change the wall clock's spacing differs; that is too rare to matter here.
    const at = time.localS - (Number.isNaN(time.offsetS) ? 0 : time.offsetS)
    const spacing = at - channel.last
    channel.last = at
    if (!(spacing > 0)) continue
    neighbours++
    count(all, spacing)
    count(channel.own, spacing)
  }
  const mode = mostFrequent(all)
  const times = all.get(mode) ?? 0
  if (times < 2 || times * 2 < neighbours || intervalKind(mode) !== 'grid') return undefined
  for (const { own } of channels.values()) {
    if ((own.get(mode) ?? 0) < (own.get(mostFrequent(own)) ?? 0)) return undefined
  }
  return mode
}

function count(counts: Map<number, number>, spacing: number): void {
  counts.set(spacing, (counts.get(spacing) ?? 0) + 1)
}

function mostFrequent(counts: ReadonlyMap<number, number>): number {
  let mode = NaN
  let most = 0
  for (const [spacing, n] of counts) {
    if (n <= most) continue
    mode = spacing
    most = n
  }
  return mode
}

/** Spacings of a channel that are enough for a guess, and how far they are looked for. */
const GUESSED_BY = 3
const GUESS_BYTES = 1024 * 1024

/** What the interval length may be, by the first reads of the first channel; undefined where they do not tell. */
export function guessInterval(
  rows: CsvRows, bytes: Uint8Array, p: number, columns: { meter: number, flow: number, time: number }, time: TimeReader,
): number | undefined {
  const limit = p + GUESS_BYTES
  const spacings = new Map<number, number>()
  let last = NaN
  let meterFrom = 0, meterTo = 0, flowFrom = 0, flowTo = 0
  for (let n = 0; n < GUESSED_BY && p < limit && rows.split(p); p = rows.next) {
    if (rows.fault !== null || rows.count <= Math.max(columns.meter, columns.flow, columns.time)) continue
    const isFirst = Number.isNaN(last)
    if (!isFirst && !(rows.same(columns.meter, meterFrom, meterTo)
      && (columns.flow < 0 || rows.same(columns.flow, flowFrom, flowTo)))) continue
    if (!time.read(bytes, rows.from[columns.time], rows.to[columns.time])) continue
    const at = time.localS - (Number.isNaN(time.offsetS) ? 0 : time.offsetS)
    if (isFirst) {
      meterFrom = rows.from[columns.meter]
      meterTo = rows.to[columns.meter]
      flowFrom = columns.flow < 0 ? 0 : rows.from[columns.flow]
      flowTo = columns.flow < 0 ? 0 : rows.to[columns.flow]
    } else if (at > last) {
      n++
      count(spacings, at - last)
    }
    last = at
  }
  const guess = mostFrequent(spacings)
  return intervalKind(guess) === 'grid' ? guess : undefined
}

/** Counts, as rows are decoded, what of a guessed interval length deriveInterval() would have to say. */
export class Spacings {
  /** Rows that were told. */
  seen = 0
  /** There was a row that was not. */
  missed = false
  readonly #intervalS: number
  #lastS = new Float64Array(1024).fill(NaN)
  #regular = new Int32Array(1024)
  #other = new Int32Array(1024)

  constructor(intervalS: number) {
    this.#intervalS = intervalS
  }

  /** @param channel a small number for each meter and flow  @param at the read's label, as deriveInterval() takes it */
  see(channel: number, at: number): void {
    this.seen++
    if (channel >= this.#lastS.length) this.#grow(channel)
    const spacing = at - this.#lastS[channel]
    this.#lastS[channel] = at
    if (spacing === this.#intervalS) this.#regular[channel]++
    else if (spacing > 0) this.#other[channel]++
  }

  /** Whether deriveInterval() would come to the guess; false where that is not certain. */
  holds(): boolean {
    let regular = 0
    let other = 0
    for (let i = 0; i < this.#regular.length; i++) {
      if (this.#regular[i] < this.#other[i]) return false
      regular += this.#regular[i]
      other += this.#other[i]
    }
    return !this.missed && regular >= 2 && regular > other
  }

  #grow(channel: number): void {
    const length = Math.max(channel + 1, this.#lastS.length * 4)
    const lastS = new Float64Array(length).fill(NaN)
    lastS.set(this.#lastS)
    this.#lastS = lastS
    const [regular, other] = [this.#regular, this.#other].map(counts => {
      const wider = new Int32Array(length)
      wider.set(counts)
      return wider
    })
    this.#regular = regular
    this.#other = other
  }
}
