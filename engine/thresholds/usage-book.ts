import { groupBy } from '../group-by.js'
import type { Queryable } from '../store/db.js'
import type { DaySpan } from '../time/billing.js'
import type { Zone } from '../time/zone.js'
import { loadSegments, type Segment } from '../usage/segments.js'
import { crossingOf, sumBlock } from './crossing.js'
import { addExact, ZERO, type Exact } from './exact.js'
import { piecesOf, type Pieces, type SplitPiece, type WholePiece } from './pieces.js'
import { loadSplitBlocks, loadWholeBlocks, sumWholeDays, type LoadedBlock } from './store.js'

/** Whose energy, of which flow and over which local days. */
export interface UsageQuestion {
  accountId: number
  flow: number
  /** The account's one meter; null: all its main meters. */
  meterId: number | null
  period: DaySpan
}

export interface PeriodUsage {
  /** kWh. */
  sum: Exact
  /** Reads that were due, those that are held, and how many of those are estimates. */
  expected: number
  present: number
  estimated: number
}

/** Answers to a set of questions, from the stored data that the transaction sees. */
export interface UsageBook {
  /** Of a question that the book was made with. */
  of(question: UsageQuestion): PeriodUsage
  /** When (epoch seconds) each running sum passed its limit: the end of that interval. */
  crossings(questions: readonly (UsageQuestion & { limit: Exact })[]): Promise<(number | undefined)[]>
}

interface Entry {
  pieces: Pieces
  usage: PeriodUsage
}

// Blocks held in memory at a time while crossings are looked for: some 10 MB of quarter-hours.
const BLOCKS_AT_A_TIME = 10_000

/** Sums all questions by three statements, however many there are: segments, whole days, days that count in part. */
export async function createUsageBook(
  db: Queryable, zone: Zone, nowS: number, questions: readonly UsageQuestion[],
): Promise<UsageBook> {
  const accountIds = [...new Set(questions.map((q) => q.accountId))]
  const segments = groupBy(await loadSegments(db, accountIds), (s) => s.accountId)
  const entries = new Map<string, Entry>()
  for (const question of questions) {
    const key = keyOf(question)
    if (entries.has(key)) continue
    const pieces = piecesOf(matching(segments.get(question.accountId) ?? [], question), question.period, zone, nowS)
    entries.set(key, { pieces, usage: { sum: ZERO, expected: pieces.expected, present: 0, estimated: 0 } })
  }
  await sumEntries(db, zone, [...entries.values()])
  const entryOf = (question: UsageQuestion): Entry => {
    const entry = entries.get(keyOf(question))
    if (entry === undefined) throw new Error('the usage book was not made with this question')
    return entry
  }
  return {
    of: (question) => entryOf(question).usage,
    crossings: async (asked) => {
      const found: (number | undefined)[] = []
      for (const part of inParts(asked, (q) => blocksOf(entryOf(q).pieces))) {
        const blocks = await loadBlocks(db, zone, part.map((q) => entryOf(q).pieces))
        for (const [i, question] of part.entries()) found.push(crossingOf(blocks[i], question.limit))
      }
      return found
    },
  }
}

function matching(segments: readonly Segment[], { flow, meterId }: UsageQuestion): Segment[] {
  return segments.filter((s) => s.flow === flow && (meterId === null || s.meterId === meterId))
}

async function sumEntries(db: Queryable, zone: Zone, entries: Entry[]): Promise<void> {
  const all = flatten(entries.map((e) => e.pieces))
  for (const row of await sumWholeDays(db, all.wholeOf, all.whole)) {
    add(entries[row.k].usage, { mantissa: BigInt(row.total), exponent: row.exponent }, row.present, row.estimated)
  }
  for (const block of await loadSplitBlocks(db, all.split, zone)) {
    const part = sumBlock(block)
    add(entries[all.splitOf[block.k]].usage, part.sum, part.present, part.estimated)
  }
}

function add(usage: PeriodUsage, sum: Exact, present: number, estimated: number): void {
  usage.sum = addExact(usage.sum, sum)
  usage.present += present
  usage.estimated += estimated
}

/** Blocks of each of the pieces. */
async function loadBlocks(db: Queryable, zone: Zone, pieces: Pieces[]): Promise<LoadedBlock[][]> {
  const all = flatten(pieces)
  const blocks: LoadedBlock[][] = pieces.map(() => [])
  for (const block of await loadWholeBlocks(db, all.wholeOf, all.whole, zone)) blocks[block.k].push(block)
  for (const block of await loadSplitBlocks(db, all.split, zone)) blocks[all.splitOf[block.k]].push(block)
  return blocks
}

interface Flat {
  whole: WholePiece[]
  /** Index of the group that each whole piece belongs to. */
  wholeOf: number[]
  split: SplitPiece[]
  splitOf: number[]
}

function flatten(groups: readonly Pieces[]): Flat {
  const flat: Flat = { whole: [], wholeOf: [], split: [], splitOf: [] }
  for (const [k, group] of groups.entries()) {
    for (const piece of group.whole) {
      flat.whole.push(piece)
      flat.wholeOf.push(k)
    }
    for (const piece of group.split) {
      flat.split.push(piece)
      flat.splitOf.push(k)
    }
  }
  return flat
}

function blocksOf(pieces: Pieces): number {
  return pieces.whole.reduce((n, p) => n + p.endDay - p.startDay, pieces.split.length)
}

/** Cuts a list into parts of bounded weight. */
function inParts<T>(items: readonly T[], weightOf: (item: T) => number): T[][] {
  const parts: T[][] = []
  let weight = Infinity
  for (const item of items) {
    weight += weightOf(item)
    if (weight > BLOCKS_AT_A_TIME) {
      parts.push([])
      weight = weightOf(item)
    }
    parts[parts.length - 1].push(item)
  }
  return parts
}

function keyOf({ accountId, flow, meterId, period }: UsageQuestion): string {
  return `${accountId} ${flow} ${meterId ?? ''} ${period.startDay} ${period.endDay}`
}
