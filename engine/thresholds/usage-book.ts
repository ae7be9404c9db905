import { groupBy } from '../group-by.js'
import { Flow, type FlowCode } from '../read-batch.js'
import type { Queryable } from '../store/db.js'
import type { DaySpan } from '../time/billing.js'
import type { Zone } from '../time/zone.js'
import { loadSegments, type Segment } from '../usage/segments.js'
import { crossingOf, sumBlock } from './crossing.js'
import { addExact, subtractExact, ZERO, type Exact } from './exact.js'
import { piecesOf, type Pieces, type SplitPiece, type WholePiece } from './pieces.js'
import { loadSplitBlocks, loadWholeBlocks, sumWholeDays, type LoadedBlock } from './blocks.js'

/** Whose energy, of which flow and over which local days. */
export interface UsageQuestion {
  accountId: number
  flow: FlowCode
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
  /** When (epoch seconds) each running sum passed its limit: the end of that interval. Not for net energy. */
  crossings(questions: readonly (UsageQuestion & { limit: Exact })[]): Promise<(number | undefined)[]>
}

interface Entry {
  pieces: Pieces
  usage: PeriodUsage
}

// Blocks held in memory at a time while crossings are looked for: some 10 MB of quarter-hours.
const BLOCKS_AT_A_TIME = 10_000

/** What a book is made from. */
export interface BookContext {
  readonly db: Queryable
  /** The utility's zone. */
  readonly zone: Zone
  readonly nowS: number
  readonly segments: ReadonlyMap<number, readonly Segment[]>
  /** Estimates that the engine made are passed over. */
  readonly isMeasuredOnly: boolean
}

/** The segments of the accounts, by account. */
export async function segmentsOf(db: Queryable, accountIds: readonly number[]): Promise<Map<number, Segment[]>> {
  return groupBy(await loadSegments(db, [...new Set(accountIds)]), (s) => s.accountId)
}

/** Those of an account's segments that a question is about. */
export function matching(
  context: BookContext, { accountId, flow, meterId }: Pick<UsageQuestion, 'accountId' | 'flow' | 'meterId'>,
): Segment[] {
  return (context.segments.get(accountId) ?? []).filter((s) => s.flow === flow && (meterId === null || s.meterId === meterId))
}

/**
 * The flows that a question's energy is made of, each with its sign. Net is delivered less received where both are
 * metered, and else what a net channel says.
 */
export function signedFlows(context: BookContext, question: Omit<UsageQuestion, 'period'>, fromS: number, toS: number): [FlowCode, 1 | -1][] {
  if (question.flow !== Flow.net) return [[question.flow, 1]]
  const isMetered = (flow: FlowCode): boolean =>
    matching(context, { ...question, flow }).some((s) => s.fromS < toS && s.toS > fromS)
  return isMetered(Flow.delivered) && isMetered(Flow.received) ? [[Flow.delivered, 1], [Flow.received, -1]] : [[Flow.net, 1]]
}

/** Sums all questions by a few statements, however many there are: whole days, and days that count in part. */
export async function createUsageBook(context: BookContext, questions: readonly UsageQuestion[]): Promise<UsageBook> {
  const { zone, nowS } = context
  const entries = new Map<string, Entry>()
  const parts = new Map<string, [string, 1 | -1][]>()
  for (const question of questions) {
    const key = keyOf(question)
    if (parts.has(key)) continue
    const { startDay, endDay } = question.period
    parts.set(key, signedFlows(context, question, zone.dayStart(startDay), zone.dayStart(endDay)).map(([flow, sign]) => {
      const part = { ...question, flow }
      const partKey = keyOf(part)
      if (!entries.has(partKey)) {
        const pieces = piecesOf(matching(context, part), part.period, zone, nowS)
        entries.set(partKey, { pieces, usage: { sum: ZERO, expected: pieces.expected, present: 0, estimated: 0 } })
      }
      return [partKey, sign]
    }))
  }
  await sumEntries(context, [...entries.values()])
  const entryOf = (key: string): Entry => {
    const entry = entries.get(key)
    if (entry === undefined) throw new Error('the usage book was not made with this question')
    return entry
  }
  return {
    of: (question) => {
      const found = parts.get(keyOf(question))?.map(([key, sign]) => ({ usage: entryOf(key).usage, sign })) ?? []
      if (found.length === 1) return found[0].usage
      return found.reduce((total, { usage, sign }) => ({
        sum: sign === 1 ? addExact(total.sum, usage.sum) : subtractExact(total.sum, usage.sum),
        expected: total.expected + usage.expected, present: total.present + usage.present,
        estimated: total.estimated + usage.estimated,
      }), { sum: ZERO, expected: 0, present: 0, estimated: 0 })
    },
    crossings: async (asked) => {
      const found: (number | undefined)[] = []
      for (const part of inParts(asked, (q) => blocksOf(entryOf(keyOf(q)).pieces))) {
        const blocks = await loadBlocks(context, part.map((q) => entryOf(keyOf(q)).pieces))
        for (const [i, question] of part.entries()) found.push(crossingOf(blocks[i], question.limit))
      }
      return found
    },
  }
}

async function sumEntries(context: BookContext, entries: Entry[]): Promise<void> {
  const { db, zone, isMeasuredOnly } = context
  const all = flatten(entries.map((e) => e.pieces))
  for (const row of await sumWholeDays(db, all.wholeOf, all.whole, isMeasuredOnly)) {
    add(entries[row.k].usage, { mantissa: BigInt(row.total), exponent: row.exponent }, row.present, row.estimated)
  }
  const blocks = (await loadSplitBlocks(db, all.split, zone)).map((block) => ({ ...block, k: all.splitOf[block.k] }))
  // Days with estimates are summed from their slots where some may have to be passed over.
  if (isMeasuredOnly) blocks.push(...await loadWholeBlocks(db, all.wholeOf, all.whole, zone, true))
  for (const block of blocks) {
    const part = sumBlock({ ...block, isMeasuredOnly })
    add(entries[block.k].usage, part.sum, part.present, part.estimated)
  }
}

function add(usage: PeriodUsage, sum: Exact, present: number, estimated: number): void {
  usage.sum = addExact(usage.sum, sum)
  usage.present += present
  usage.estimated += estimated
}

/** Blocks of each of the pieces. */
export async function loadBlocks({ db, zone, isMeasuredOnly }: BookContext, pieces: readonly Pieces[]): Promise<LoadedBlock[][]> {
  const all = flatten(pieces)
  const blocks: LoadedBlock[][] = pieces.map(() => [])
  for (const block of await loadWholeBlocks(db, all.wholeOf, all.whole, zone)) blocks[block.k].push({ ...block, isMeasuredOnly })
  for (const block of await loadSplitBlocks(db, all.split, zone)) blocks[all.splitOf[block.k]].push({ ...block, isMeasuredOnly })
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

export function blocksOf(pieces: Pieces): number {
  return pieces.whole.reduce((n, p) => n + p.endDay - p.startDay, pieces.split.length)
}

/** Cuts a list into parts of bounded weight. */
export function inParts<T>(items: readonly T[], weightOf: (item: T) => number): T[][] {
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
