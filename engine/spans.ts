import type { FlowCode } from './read-batch.js'
import type { Spans } from './load.js'

/**
 * Which of several channels of one meter and flow counts, and when (design §2: head-ends send 15-minute, hourly and daily
 * channels of the same energy side by side, and meters are re-programmed).
 *
 * The rule looks at nothing but the reads that stand, so it cannot depend on the order they came in: a channel reaches from the
 * start of its first read to the end of its last; where channels reach over the same instant, the shorter interval counts.
 */

export interface ChannelReach {
  channelId: number
  flow: FlowCode
  intervalS: number
  /** Start of the first read that stands and end of the last, epoch seconds; null: the channel has none. */
  firstS: number | null
  endS: number | null
}

/** Spans per channel id, for the channels of one meter and flow. A channel that never counts has an empty list. */
export function spansOf(channels: readonly ChannelReach[]): Map<number, [number, number][]> {
  const result = new Map<number, [number, number][]>()
  let taken: [number, number][] = []
  for (const c of [...channels].sort((a, b) => a.intervalS - b.intervalS || a.channelId - b.channelId)) {
    if (c.firstS === null || c.endS === null) {
      result.set(c.channelId, [])
      continue
    }
    const free = subtract([c.firstS, c.endS], taken)
    result.set(c.channelId, free)
    taken = merge([...taken, ...free])
  }
  return result
}

/** Where two lists of spans differ, as spans. */
export function difference(a: Spans, b: Spans): [number, number][] {
  const all: [number, number] = [-Infinity, Infinity]
  const listA = a === null ? [all] : a
  const listB = b === null ? [all] : b
  const out: [number, number][] = []
  for (const s of listA) out.push(...subtract([s[0], s[1]], listB))
  for (const s of listB) out.push(...subtract([s[0], s[1]], listA))
  return merge(out)
}

function subtract(span: [number, number], taken: readonly (readonly [number, number])[]): [number, number][] {
  let free: [number, number][] = [span]
  for (const [from, to] of taken) {
    free = free.flatMap(([a, b]) => {
      if (to <= a || from >= b) return [[a, b] as [number, number]]
      const parts: [number, number][] = []
      if (a < from) parts.push([a, from])
      if (to < b) parts.push([to, b])
      return parts
    })
  }
  return free
}

function merge(spans: [number, number][]): [number, number][] {
  const sorted = [...spans].sort((a, b) => a[0] - b[0])
  const out: [number, number][] = []
  for (const s of sorted) {
    const last = out.at(-1)
    if (last !== undefined && s[0] <= last[1]) last[1] = Math.max(last[1], s[1])
    else out.push([s[0], s[1]])
  }
  return out
}
