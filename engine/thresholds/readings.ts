import type { FlowCode } from '../read-batch.js'
import { DAY_S } from '../time/civil.js'
import { gridAtOrAfter } from '../usage/grid.js'
import type { Segment } from '../usage/segments.js'
import { type Block } from './crossing.js'
import { piecesBetween, restOfDay, type RestOfDay } from './pieces.js'
import { blocksOf, inParts, loadBlocks, matching, signedFlows, type BookContext } from './usage-book.js'

/** A block whose slots are looked at one by one; received energy has the sign -1 in a net. */
export interface Reading extends Block {
  readonly flow: FlowCode
  readonly sign: 1 | -1
}

/** Whose reads, of which flow, in [startS, endS), epoch seconds. */
export interface ReadingQuestion {
  readonly accountId: number
  readonly flow: FlowCode
  /** Several flows side by side, each with the sign 1, in place of `flow`. */
  readonly flows?: readonly FlowCode[]
  readonly meterId: number | null
  readonly startS: number
  readonly endS: number
  /** Which slots count; all where it is not given. */
  readonly counts?: (startS: number, intervalS: number) => boolean
}

/** Answers each question with its blocks, read some thousands at a time. */
export async function eachReadings(
  context: BookContext, questions: readonly ReadingQuestion[], visit: (index: number, readings: Reading[]) => void,
): Promise<void> {
  const asked = questions.map((question, index) => {
    const parts = flowsOf(context, question).map(([flow, sign]) => ({
      flow, sign,
      pieces: piecesBetween(matching(context, { ...question, flow }), question.startS, question.endS, context.zone, context.nowS) }))
    return { question, index, parts }
  })
  for (const group of inParts(asked, (a) => a.parts.reduce((n, p) => n + blocksOf(p.pieces), 0))) {
    const flat = group.flatMap((a) => a.parts.map((part) => ({ a, part })))
    const blocks = await loadBlocks(context, flat.map(({ part }) => part.pieces))
    const found = new Map<number, Reading[]>()
    for (const [i, { a, part }] of flat.entries()) {
      const { counts } = a.question
      const list = found.get(a.index) ?? []
      for (const block of blocks[i]) list.push({ ...block, flow: part.flow, sign: part.sign, ...(counts === undefined ? {} : { counts }) })
      found.set(a.index, list)
    }
    for (const a of group) visit(a.index, found.get(a.index) ?? [])
  }
}

function flowsOf(context: BookContext, question: ReadingQuestion): [FlowCode, 1 | -1][] {
  return question.flows?.map((flow) => [flow, 1]) ?? signedFlows(context, question, question.startS, question.endS)
}

/**
 * Reads of the question's channels that start in [startS, endS), have ended by now, and count.
 * @param readings of the question: they tell on which grid a channel's reads lie, where only some slots count
 */
export function expectedReads(
  context: BookContext, question: ReadingQuestion, startS: number, endS: number, readings: readonly Reading[] = [],
): number {
  const { zone, nowS } = context
  let expected = 0
  for (const [flow] of flowsOf(context, question)) {
    const segments = matching(context, { ...question, flow })
    const { counts } = question
    if (counts === undefined) {
      expected += piecesBetween(segments, startS, endS, zone, nowS).expected
      continue
    }
    for (const s of segments) {
      const fromS = Math.max(s.fromS, startS)
      const toS = Math.min(s.toS, endS)
      if (fromS >= toS) continue
      const rest = restOfDay(s, segments, zone, startS, endS, nowS)
      if (rest !== null && hasCounted(rest, counts)) expected++
      const grid = gridOf(s, flow, readings)
      for (let day = zone.dayOf(Math.floor(fromS)); zone.dayStart(day) < toS; day++) {
        const dayEndS = zone.dayStart(day + 1)
        let at = s.intervalS === DAY_S ? zone.dayStart(day) : grid(zone.dayStart(day), dayEndS)
        while (at < dayEndS && at < toS) {
          const next = s.intervalS === DAY_S ? dayEndS : at + s.intervalS
          if (at >= fromS && next <= nowS && counts(at, s.intervalS)) expected++
          at = next
        }
      }
    }
  }
  return expected
}

/** Whether any interval of the rest of a day would count. */
function hasCounted({ fromS, toS, intervalS }: RestOfDay, counts: (startS: number, intervalS: number) => boolean): boolean {
  for (let at = fromS; at < toS; at += intervalS) if (counts(at, intervalS)) return true
  return false
}

/**
 * The first grid point of a channel's day: the stored day says it, else the nearest stored day before, else the first
 * after; where none is stored the grid begins with the day. Local grids may lie off the hour in UTC.
 */
function gridOf({ intervalS }: Segment, flow: FlowCode, readings: readonly Reading[]): (dayStartS: number, dayEndS: number) => number {
  const own = readings.filter((r) => r.flow === flow && r.intervalS === intervalS)
  const firstOf = new Map(own.map((r) => [r.dayEndS, r.firstAtS]))
  let anchorS = own.reduce((least, r) => Math.min(least, r.firstAtS), Infinity)
  return (dayStartS, dayEndS) => {
    const firstS = firstOf.get(dayEndS) ?? (anchorS === Infinity ? dayStartS : gridAtOrAfter(dayStartS, anchorS, intervalS))
    if (firstOf.has(dayEndS)) anchorS = firstS
    return firstS
  }
}
