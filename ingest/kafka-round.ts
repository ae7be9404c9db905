import { acceptedRanges, passOver, partitionId, type AcceptedRange, type DeadLetter, type PositionMove } from '../engine/store/kafka-positions.js'
import type { Pool } from '../engine/store/db.js'
import { uuidv7 } from '../engine/uuid.js'
import type { VersionSequence } from '../engine/versions.js'
import { lastVersionOf, type Batch } from './kafka-book.js'
import { Gatherer, keyOf, valueOf, type Headers, type HeldMessage } from './kafka-held.js'
import type { IngestPool } from './pool.js'
import type { DeliveryAnswer, DeliveryTask, MessageFrames } from './task.js'

export type MessageBatch = Batch<HeldMessage>

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
  messages: HeldMessage[]
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
  versionOf: (message: HeldMessage) => number
}

async function planBatch(batch: MessageBatch, context: RoundContext): Promise<BatchPlan> {
  const parts = new Map<string, Part[]>()
  const letters: DeadLetter[] = []
  let lastHeaders: Headers | undefined
  let lastPart: Part | undefined
  let lastMark = ''
  for (const message of batch.messages) {
    // Messages that follow each other mostly say the same.
    if (lastPart !== undefined && message.headers === lastHeaders) {
      if (message.offset >= (batch.ahead[lastMark] ?? 0)) lastPart.messages.push(message)
      continue
    }
    const head = readHead(message.headers, context)
    const utilityId = await context.utilityOf(head.utility)
    const fault = utilityId === undefined
      ? { code: 'unknown-utility', message: `There is no utility ${JSON.stringify(head.utility.slice(0, 60))}.` }
      : head.source.length === 0 || head.source.length > MAX_SOURCE
        ? { code: 'invalid-source', message: `The header source has 1 to ${MAX_SOURCE} characters.` } : null
    const mark = fault === null ? String(utilityId) : NOBODY
    if (message.offset < (batch.ahead[mark] ?? 0)) continue
    const list = parts.get(mark) ?? []
    parts.set(mark, list)
    if (fault !== null) {
      letters.push(letterOf(message, context, fault))
      continue
    }
    let part = list.find((p) => p.source === head.source && p.contentType === head.contentType)
    if (part === undefined) list.push(part = { source: head.source, contentType: head.contentType, messages: [] })
    part.messages.push(message)
    lastHeaders = message.headers
    lastPart = part
    lastMark = mark
  }
  // All of it settled before under other marks: the position alone is to move.
  if (parts.size === 0) parts.set(NOBODY, [])
  const first = batch.messages[0].offset
  const ranges = first < context.acceptedTo(batch.partition)
    ? await acceptedRanges(context.db, context.topic, batch.partition, first, batch.next) : []
  return {
    batch, parts, letters, lastMark: [...parts.keys()].sort((a, b) => Number(a) - Number(b)).at(-1)!,
    versionOf: (message) => keptVersion(message, ranges) ?? batch.version + message.offset - first,
  }
}

/** A clock of a producer may be ahead of ours by this much. */
const CLOCKS_MS = 600_000

/** The version that a message was given when it was accepted first. One that is younger than that is of another topic of the name. */
function keptVersion(message: HeldMessage, ranges: readonly AcceptedRange[]): number | undefined {
  for (const r of ranges) {
    if (message.offset >= r.first && message.offset < r.next && message.timestamp <= r.acceptedMs + CLOCKS_MS) {
      return r.version + message.offset - r.first
    }
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
  const { messages } = part
  const n = messages.length
  const frames: MessageFrames = {
    move, firstOffset: plan.batch.messages[0].offset, ends: new Int32Array(n), offsets: new Float64Array(n), versions: new Float64Array(n),
    keys: new Uint8Array(0), keyEnds: new Int32Array(n), nulls: [], headers: new Map(), refused,
  }
  let size = 0
  let keySize = 0
  for (const { from, to, keyFrom, keyTo } of messages) {
    size += to - from
    keySize += keyTo - keyFrom
  }
  // An ArrayBuffer of its own, which can be transferred, and is not set to zero first.
  const bytes = Buffer.from(Buffer.allocUnsafeSlow(size).buffer, 0, size)
  const keys = Buffer.allocUnsafeSlow(keySize)
  const values = new Gatherer(bytes)
  const keyBytes = new Gatherer(keys)
  let headersText: [string, string][] = []
  let end = 0
  let keyEnd = 0
  for (let i = 0; i < n; i++) {
    const message = messages[i]
    if (message.from < 0) frames.nulls.push(i)
    else {
      values.add(message.bytes, message.from, message.to)
      end += message.to - message.from
    }
    frames.ends[i] = end
    frames.offsets[i] = message.offset
    frames.versions[i] = plan.versionOf(message)
    if (message.keyFrom < 0) frames.keyEnds[i] = -1
    else {
      keyBytes.add(message.bytes, message.keyFrom, message.keyTo)
      keyEnd += message.keyTo - message.keyFrom
      frames.keyEnds[i] = keyEnd
    }
    if (message.headers.length === 0) continue
    // Most messages of a batch have the same headers: they cross to the worker once.
    if (i === 0 || message.headers !== messages[i - 1].headers) headersText = headersOf(message.headers)
    frames.headers.set(i, headersText)
  }
  values.finish()
  keyBytes.finish()
  frames.keys = keys
  return {
    deliveryId: uuidv7(context.now()), source: part.source, door: 'kafka', contentType: part.contentType, format: null, fileName: null,
    mapping: null, zone: null, history: false, idempotencyKey: null, version: plan.batch.version, versionStated: true,
    bytes: bytes.buffer, part: 1, final: true, state: null, bodySha256: null, messages: frames,
  }
}

function headersOf(headers: Headers): [string, string][] {
  return headers.flatMap((header) => Object.entries(header).map(([name, value]): [string, string] =>
    [name, (typeof value === 'string' ? Buffer.from(value) : value).toString('base64')]))
}

function letterOf(message: HeldMessage, context: RoundContext, fault: { code: string; message: string }): DeadLetter {
  return {
    group: context.group, topic: context.topic, partition: message.partition, offset: message.offset,
    key: keyOf(message), value: valueOf(message), headers: headersOf(message.headers), ...fault,
  }
}
