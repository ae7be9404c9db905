import { acceptedRanges, passOver, partitionId, type AcceptedRange, type DeadLetter, type PositionMove } from '../engine/store/kafka-positions.js'
import type { Pool } from '../engine/store/db.js'
import { uuidv7 } from '../engine/uuid.js'
import type { VersionSequence } from '../engine/versions.js'
import { lastVersionOf, since, type Batch } from './kafka-book.js'
import type { Headers, HeldRun } from './kafka-held.js'
import type { IngestPool } from './pool.js'
import type { DeliveryAnswer, DeliveryTask, MessageFrames } from './task.js'

export type MessageBatch = Batch<HeldRun>

/** What became of a batch. */
export type BatchOutcome =
  | { status: 'settled'; deadLetters: number }
  /** Another owner has the partition, or it stands elsewhere. */
  | { status: 'fenced' }
  /** Neither the messages' fault nor final: the same batch is tried again. */
  | { status: 'again'; reason: string; workerLost: boolean }
  /** Something in it cannot be settled, and was no fault that decoding could tell. */
  | { status: 'unfit'; code: string; message: string }

export interface RoundContext {
  readonly pool: IngestPool
  readonly db: Pool
  readonly versions: Pick<VersionSequence, 'next'>
  readonly group: string
  readonly topic: string
  readonly now: () => number
  /** Utility of messages that name none. */
  readonly defaultUtility: string
  /** Source of messages that name none. */
  readonly defaultSource: string
  /** The utility's number; undefined where there is none of that name. */
  readonly utilityOf: (id: string) => Promise<number | undefined>
  /** Offset before which messages of the partition may have been accepted before. */
  readonly acceptedTo: (partition: number) => number
}

/** Messages of one batch that make one delivery. */
interface Part {
  source: string
  contentType: string | null
  runs: HeldRun[]
}

/** Batches that have their version. */
const versioned = new WeakSet<MessageBatch>()
/** Messages without a known utility stand under this mark. */
const NOBODY = '0'
const MAX_SOURCE = 100

/**
 * Settles batches of partitions, those of a utility in one transaction; a batch with messages of several utilities takes
 * one for each, and its position moves with the last.
 *
 * What is one delivery here: the messages of a batch that have the same utility, source and content type, with the
 * batch's offsets in its row. A row, a receipt and a version claim for every message would be dearer than settling it: at
 * 60,000 messages of one read in a second they would be 60,000 rows of `delivery`, of some hundred bytes each, for a
 * history that nobody asks for by message. What is lost is withdrawing a single message; its batch can be withdrawn.
 *
 * A read whose source states no version has the batch's, from the sequence that deliveries have, counted on by offset: in
 * a partition the later message always stands, whatever the clocks of producers and brokers say. A redelivery keeps the
 * version of the first time: it is looked up in the deliveries by its offset. A producer that sends a message again after
 * a lost answer writes it at a second offset, close behind; it says the same, and settles as a duplicate.
 *
 * @param refused the messages cannot be settled whatever they say, and go to the dead topic with this reason
 */
export async function settleRound(
  batches: readonly MessageBatch[], context: RoundContext, refused: { code: string; message: string } | null = null,
): Promise<BatchOutcome[]> {
  // A batch that is tried again keeps its version: the first try may stand, for some of its utilities.
  const unversioned = batches.filter((batch) => !versioned.has(batch))
  if (unversioned.length > 0) {
    const version = await context.versions.next()
    for (const batch of unversioned) {
      batch.version = Math.max(batch.version, version)
      versioned.add(batch)
    }
  }
  const plans = await Promise.all(batches.map((batch) => planBatch(batch, context)))
  const outcomes = new Array<BatchOutcome | undefined>(batches.length)
  const deadLetters = new Array<number>(batches.length).fill(0)
  const marks = [...new Set(plans.flatMap((p) => [...p.parts.keys()]))].sort((a, b) => Number(a) - Number(b))
  for (const mark of marks) {
    const open = plans.flatMap((plan, i) => outcomes[i] === undefined && plan.parts.has(mark) ? [i] : [])
    if (open.length === 0) continue
    const results = mark === NOBODY
      ? await settleNobody(open.map((i) => plans[i]), context)
      : await settleUtility(Number(mark), open.map((i) => plans[i]), context, refused)
    results.forEach((result, k) => {
      const i = open[k]
      const { batch, lastMark } = plans[i]
      if (result.status !== 'settled') outcomes[i] = result
      else {
        deadLetters[i] += result.deadLetters
        if (mark === lastMark) outcomes[i] = { status: 'settled', deadLetters: deadLetters[i] }
        else batch.ahead = { ...batch.ahead, [mark]: batch.next }
      }
    })
  }
  return outcomes.map((outcome) => outcome ?? { status: 'fenced' })
}

interface BatchPlan {
  batch: MessageBatch
  /** By the utility's number as text. */
  parts: Map<string, Part[]>
  lastMark: string
  /** Of messages that belong to no known utility. */
  letters: DeadLetter[]
  /** Version of the message at an offset, which the broker stamped then. */
  versionOf: (offset: number, timestampMs: number) => number
}

async function planBatch(batch: MessageBatch, context: RoundContext): Promise<BatchPlan> {
  const parts = new Map<string, Part[]>()
  const letters: DeadLetter[] = []
  for (const run of batch.runs) {
    const head = readHead(run.headers, context)
    const utilityId = await context.utilityOf(head.utility)
    const fault = utilityId === undefined
      ? { code: 'unknown-utility', message: `There is no utility ${JSON.stringify(head.utility.slice(0, 60))}.` }
      : head.source.length === 0 || head.source.length > MAX_SOURCE
        ? { code: 'invalid-source', message: `The header source has 1 to ${MAX_SOURCE} characters.` } : null
    const mark = fault === null ? String(utilityId) : NOBODY
    const rest = since(run, batch.ahead[mark] ?? 0)
    if (rest === null) continue
    const list = parts.get(mark) ?? []
    parts.set(mark, list)
    if (fault !== null) {
      for (let i = 0; i < rest.count; i++) letters.push(letterOf(rest, i, context, fault))
      continue
    }
    const part = list.find((p) => p.source === head.source && p.contentType === head.contentType)
    if (part === undefined) list.push({ source: head.source, contentType: head.contentType, runs: [rest] })
    else part.runs.push(rest)
  }
  // All of it settled before under other marks: the position alone is to move.
  if (parts.size === 0) parts.set(NOBODY, [])
  const { first } = batch
  const ranges = first < context.acceptedTo(batch.partition)
    ? await acceptedRanges(context.db, context.topic, batch.partition, first, batch.next) : []
  return {
    batch, parts, letters, lastMark: [...parts.keys()].sort((a, b) => Number(a) - Number(b)).at(-1)!,
    versionOf: (offset, timestampMs) => keptVersion(offset, timestampMs, ranges) ?? batch.version + offset - first,
  }
}

/** A clock of a producer may be ahead of ours by this much. */
const CLOCKS_MS = 600_000

/** The version that a message was given when it was accepted first. One that is younger than that is of another topic of the name. */
function keptVersion(offset: number, timestampMs: number, ranges: readonly AcceptedRange[]): number | undefined {
  for (const r of ranges) {
    if (offset >= r.first && offset < r.next && timestampMs <= r.acceptedMs + CLOCKS_MS) return r.version + offset - r.first
  }
  return undefined
}

interface Head { utility: string; source: string; contentType: string | null }

function readHead(headers: Headers, context: RoundContext): Head {
  const head: Head = { utility: context.defaultUtility, source: context.defaultSource, contentType: null }
  for (const header of headers) {
    for (const name in header) {
      switch (name.toLowerCase()) {
        case 'utility':
          head.utility = String(header[name])
          break
        case 'source':
          head.source = String(header[name])
          break
        case 'content-type':
          head.contentType = String(header[name])
          break
      }
    }
  }
  return head
}

function moveOf(plan: BatchPlan, mark: string, context: RoundContext): PositionMove {
  const { batch } = plan
  return {
    group: context.group, topic: context.topic, partition: batch.partition, epoch: batch.epoch, expected: batch.expected,
    next: batch.next, mark: mark === plan.lastMark ? null : mark,
    lastVersion: lastVersionOf(batch),
  }
}

async function settleNobody(plans: readonly BatchPlan[], context: RoundContext): Promise<BatchOutcome[]> {
  const moves = plans.map((plan) => moveOf(plan, NOBODY, context))
  try {
    const moved = await passOver(context.db, moves, plans.flatMap((p) => p.letters))
    return plans.map((plan, i) => moved.has(partitionId(moves[i])) ? { status: 'settled', deadLetters: plan.letters.length } : { status: 'fenced' })
  } catch (err) {
    return plans.map(() => ({ status: 'again', reason: err instanceof Error ? err.message : String(err), workerLost: false }))
  }
}

async function settleUtility(
  utilityId: number, plans: readonly BatchPlan[], context: RoundContext, refused: MessageFrames['refused'],
): Promise<BatchOutcome[]> {
  const tasks: DeliveryTask[] = []
  const planOf: number[] = []
  plans.forEach((plan, i) => {
    const move = moveOf(plan, String(utilityId), context)
    for (const part of plan.parts.get(String(utilityId))!) {
      tasks.push(taskOf(part, plan, move, context, refused))
      planOf.push(i)
    }
  })
  const answers = await context.pool.submitTogether(utilityId, tasks)
  return plans.map((_, i) => outcomeOf(answers.filter((_answer, k) => planOf[k] === i)))
}

function outcomeOf(answers: readonly DeliveryAnswer[]): BatchOutcome {
  let deadLetters = 0
  for (const { receipt, error, deadLetters: dead = 0 } of answers) {
    if (receipt !== null) {
      deadLetters += dead
      continue
    }
    const { status, code, message } = error ?? { status: 500, code: 'internal-error', message: 'no answer' }
    if (code === 'partition-fenced') return { status: 'fenced' }
    // The database, a utility that is not set up, a worker that died: not for the messages to answer for.
    if (status === 503 || status === 429 || status === 409 || status === 404) {
      return { status: 'again', reason: message, workerLost: code === 'worker-lost' }
    }
    return { status: 'unfit', code, message }
  }
  return { status: 'settled', deadLetters }
}

function taskOf(part: Part, plan: BatchPlan, move: PositionMove, context: RoundContext, refused: MessageFrames['refused']): DeliveryTask {
  const { runs } = part
  const n = runs.reduce((count, run) => count + run.count, 0)
  const keys = gather(runs.map((run) => run.keys))
  const bytes = gather(runs.map((run) => run.values))
  const frames: MessageFrames = {
    move, firstOffset: plan.batch.first, ends: new Int32Array(n), offsets: new Float64Array(n), versions: new Float64Array(n),
    keys, keyEnds: new Int32Array(n), nulls: [], headers: new Map(), refused,
  }
  let at = 0
  let end = 0
  let keyEnd = 0
  for (const run of runs) {
    // Crosses to the worker once for all of the run.
    const headers = run.headers.length === 0 ? null : headersOf(run.headers)
    for (let i = 0; i < run.count; i++, at++) {
      frames.ends[at] = end + run.valueEnd(i)
      frames.keyEnds[at] = run.hasKey(i) ? keyEnd + run.keyEnd(i) : -1
      frames.offsets[at] = run.offsetAt(i)
      frames.versions[at] = plan.versionOf(run.offsetAt(i), run.timestampAt(i))
      if (!run.hasValue(i)) frames.nulls.push(at)
      if (headers !== null) frames.headers.set(at, headers)
    }
    end += run.values.length
    keyEnd += run.keys.length
  }
  return {
    deliveryId: uuidv7(context.now()), source: part.source, door: 'kafka', contentType: part.contentType, format: null, fileName: null,
    mapping: null, zone: null, history: false, idempotencyKey: null, version: plan.batch.version, versionStated: true,
    bytes: bytes.buffer, part: 1, final: true, state: null, bodySha256: null, messages: frames,
  }
}

/** An ArrayBuffer of its own, which can be transferred, and is not set to zero first. */
function gather(pieces: readonly Buffer[]): Buffer<ArrayBuffer> {
  const size = pieces.reduce((sum, piece) => sum + piece.length, 0)
  const all = Buffer.from(Buffer.allocUnsafeSlow(size).buffer, 0, size)
  let at = 0
  for (const piece of pieces) {
    all.set(piece, at)
    at += piece.length
  }
  return all
}

function headersOf(headers: Headers): [string, string][] {
  return headers.flatMap((header) => Object.entries(header).map(([name, value]): [string, string] =>
    [name, (typeof value === 'string' ? Buffer.from(value) : value).toString('base64')]))
}

function letterOf(run: HeldRun, i: number, context: RoundContext, fault: { code: string; message: string }): DeadLetter {
  return {
    group: context.group, topic: context.topic, partition: run.partition, offset: run.offsetAt(i),
    key: run.keyAt(i), value: run.valueAt(i), headers: headersOf(run.headers), ...fault,
  }
}
