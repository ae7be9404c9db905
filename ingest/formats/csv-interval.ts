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
  const last = new Map<string, number>()
  const spacings = new Map<string, Map<number, number>>()
  const all = new Map<number, number>()
  let neighbours = 0
  for (; rows.split(p); p = rows.next) {
    if (rows.fault !== null || rows.count <= Math.max(columns.meter, columns.flow, columns.time)) continue
    rows.trim(columns.time)
    if (!time.read(bytes, rows.from[columns.time], rows.to[columns.time])) continue
    const key = `${rows.text(columns.meter)}\n${columns.flow < 0 ? '' : rows.text(columns.flow)}`
    // Where clocks change the wall clock's spacing differs; that is too rare to matter here.
    const at = time.localS - (Number.isNaN(time.offsetS) ? 0 : time.offsetS)
    const spacing = at - (last.get(key) ?? NaN)
    last.set(key, at)
    if (!(spacing > 0)) continue
    neighbours++
    count(all, spacing)
    let own = spacings.get(key)
    if (own === undefined) spacings.set(key, own = new Map<number, number>())
    count(own, spacing)
  }
  const mode = mostFrequent(all)
  const times = all.get(mode) ?? 0
  if (times < 2 || times * 2 < neighbours || intervalKind(mode) !== 'grid') return undefined
  for (const own of spacings.values()) if ((own.get(mode) ?? 0) < (own.get(mostFrequent(own)) ?? 0)) return undefined
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
