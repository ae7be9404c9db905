import { createHash } from 'node:crypto'
import { workerData } from 'piscina'
import type { CommitWorld, DecodedBody, Submission } from '../engine/submission.js'
import { databaseTrouble } from '../engine/database-trouble.js'
import { editFlagged } from '../engine/estimate/edit.js'
import { veeTurn } from '../engine/estimate/turn.js'
import { collectWhenIdle } from '../engine/memory.js'
import { ApiError, BodyError } from '../engine/problem.js'
import { replayQuarantine } from './replay.js'
import { Settler, type SettleResult } from '../engine/settler.js'
import { sourceSettings, type SourceSettings } from '../engine/source-settings.js'
import { openPool, type Pool } from '../engine/store/db.js'
import { acceptedMsOf } from '../engine/store/deliveries.js'
import { partitionId } from '../engine/store/kafka-positions.js'
import { openStorage } from '../engine/store/storage.js'
import { withdrawDelivery } from '../engine/withdraw.js'
import { archiveKind, joinDecoded, unpack } from './archive.js'
import { decodeContext } from './decode-context.js'
import { detectFormat, type DecodeContext, type Format, type FormatState } from './formats/format.js'
import { decodeMessages, kafkaBatch } from './messages.js'
import type { DeliveryAnswer, DeliveryTask, ErrorAnswer, MessageFrames, SettleTask, TaskAnswer, WorkerSettings, WorkerTask } from './task.js'

/**
 * A worker thread: the whole job from bytes to commit (design §5). Only receipts go back. Up to two tasks run in one
 * worker at a time, so that one is parsed while PostgreSQL writes the other.
 */

interface Worker {
  settings: WorkerSettings
  pool: Pool
  settler: Settler
  world: CommitWorld
}

/** What a judged channel-day leaves behind as garbage, about: its stored block as text and as arrays. */
const JUDGED_BYTES = 2048

let starting: Promise<Worker> | undefined

async function start(settings: WorkerSettings): Promise<Worker> {
  const pool = openPool(settings.databaseUrl, 3, 'meterline worker', () => undefined, settings.databaseTimeoutS)
  const world: CommitWorld = {
    storage: await openStorage(pool),
    maps: new Map(),
    secrets: { secretKey: Buffer.from(settings.secretKey) },
    toleranceS: settings.toleranceS,
    now: () => Date.now() + settings.clockOffsetMs,
  }
  return { settings, pool, settler: new Settler(pool, world), world }
}

/** Entry of every task. */
export default async function run(task: WorkerTask): Promise<unknown> {
  const settings = workerData as WorkerSettings
  let worker: Worker
  try {
    starting ??= start(settings)
    worker = await starting
  } catch (err) {
    starting = undefined
    return answerAll(task, errorAnswer(err))
  }
  switch (task.kind) {
    case 'settle': {
      const bytes = task.deliveries.reduce((sum, d) => sum + d.bytes.byteLength, 0)
      const answer = await settle(worker, task)
      collectWhenIdle(bytes)
      return answer
    }
    case 'vee':
      try {
        const vee = await veeTurn(worker.pool, worker.settler, task.utilityId, worker.world.now())
        collectWhenIdle(vee.judged * JUDGED_BYTES)
        return { deliveries: [], decodeS: 0, settleS: 0, messages: vee.estimated > 0, vee }
      } catch (err) {
        return answerAll(task, errorAnswer(err))
      }
    case 'replay':
    case 'edit':
    case 'withdraw': {
      try {
        const receipt = task.kind === 'replay'
          ? await replayQuarantine(worker.settler, worker.pool, task, worker.world.now())
          : task.kind === 'edit' ? await editFlagged(worker.pool, worker.settler, task, worker.world.now())
            : await withdrawDelivery(worker.pool, worker.world, task)
        return { deliveries: [{ receipt, error: null, rest: null, state: null, format: null }], decodeS: 0, settleS: 0, messages: true }
      } catch (err) {
        return answerAll(task, errorAnswer(err))
      }
    }
  }
}

function answerAll(task: WorkerTask, error: ErrorAnswer): TaskAnswer {
  const n = task.kind === 'settle' ? task.deliveries.length : 1
  return {
    deliveries: Array.from({ length: n }, () => ({ receipt: null, error, rest: null, state: null, format: null })),
    decodeS: 0, settleS: 0, messages: false,
  }
}

async function settle(worker: Worker, task: SettleTask): Promise<TaskAnswer> {
  const answers = new Array<DeliveryAnswer>(task.deliveries.length)
  const submissions: { submission: Submission; index: number }[] = []
  const began = performance.now()
  let decodedAt = began
  try {
    const sources = await readSources(worker.pool, task.utilityId, task.deliveries.map((d) => d.source))
    task.deliveries.forEach((d, index) => {
      const source = sources.get(d.source)!
      try {
        const prepared = prepare(worker, d, source.sourceId, source.settings, source.zone)
        answers[index] = {
          receipt: null, error: null, rest: prepared.rest, state: prepared.state, format: prepared.format,
          ...(prepared.submission.kafka === undefined ? {} : { deadLetters: prepared.submission.kafka.deadLetters.length }),
        }
        submissions.push({ submission: prepared.submission, index })
      } catch (err) {
        answers[index] = { receipt: null, error: errorAnswer(err), rest: null, state: null, format: null }
      }
    })
    decodedAt = performance.now()
    dropPartial(task.deliveries, answers, submissions)
    if (submissions.length > 0) {
      const results = await worker.settler.settle(task.utilityId, submissions.map((s) => s.submission))
      for (const [k, result] of results.entries()) {
        const { submission, index } = submissions[k]
        Object.assign(answers[index], outcome(result))
        if (result.status === 'repeated' && !submission.final) answers[index].repeats = await bodyHash(worker.pool, result.receipt.delivery)
      }
    }
  } catch (err) {
    return answerAll(task, errorAnswer(err))
  }
  return {
    deliveries: answers, decodeS: (decodedAt - began) / 1000, settleS: (performance.now() - decodedAt) / 1000,
    messages: answers.some((a) => a.receipt !== null && a.receipt.alerts.raised + a.receipt.alerts.retracted > 0),
  }
}

/** A Kafka position must not pass over a delivery that could not be prepared: others of its partition do not settle either. */
function dropPartial(deliveries: readonly DeliveryTask[], answers: DeliveryAnswer[], submissions: { index: number }[]): void {
  const partition = (d: DeliveryTask): string | null => d.messages === undefined ? null : partitionId(d.messages.move)
  const failed = new Map<string, ErrorAnswer>()
  deliveries.forEach((d, i) => {
    const key = partition(d)
    const { error } = answers[i]
    if (key !== null && error !== null) failed.set(key, error)
  })
  if (failed.size === 0) return
  for (let k = submissions.length - 1; k >= 0; k--) {
    const { index } = submissions[k]
    const error = failed.get(partition(deliveries[index]) ?? '')
    if (error === undefined) continue
    answers[index] = { receipt: null, error, rest: null, state: null, format: null }
    submissions.splice(k, 1)
  }
}

/** SHA-256 of the whole body of a delivery that is complete, hex. */
async function bodyHash(pool: Pool, deliveryId: string): Promise<string> {
  const { rows } = await pool.query<{ sha256: string | null }>(
    `select encode(sha256, 'hex') as sha256 from delivery where delivery_id = $1 and accepted_at = to_timestamp($2)`,
    [deliveryId, acceptedMsOf(deliveryId) / 1000])
  return rows[0]?.sha256 ?? ''
}

function outcome(result: SettleResult): Pick<DeliveryAnswer, 'receipt' | 'error'> {
  switch (result.status) {
    case 'settled':
    case 'repeated':
      return { receipt: result.receipt, error: null }
    case 'key-reused':
      return {
        receipt: null,
        error: {
          status: 422, code: 'idempotency-key-reused', message: 'This Idempotency-Key was used with another body.',
          extra: { help: 'Use a new key for a new body.' },
        },
      }
    case 'fenced':
      return {
        receipt: null,
        error: { status: 409, code: 'partition-fenced', message: 'The partition has another owner or stands elsewhere.', extra: {} },
      }
    case 'failed':
      return { receipt: null, error: errorAnswer(result.error) }
  }
}

interface Prepared {
  submission: Submission
  format: string
  rest: ArrayBuffer | null
  state: FormatState | null
}

function prepare(worker: Worker, d: DeliveryTask, sourceId: number, settings: SourceSettings, utilityZone: string | null): Prepared {
  const all = new Uint8Array(d.bytes)
  if (d.messages !== undefined) return prepareMessages(d, d.messages, all, sourceId, settings, utilityZone)
  const kind = d.part === 1 ? archiveKind(all) : null
  if (kind !== null) return prepareArchive(worker, d, sourceId, settings, utilityZone, all, kind)
  const format = detectFormat(d.contentType ?? undefined, d.format ?? undefined, d.fileName ?? undefined, all)
  const context = decodeContext(settings, utilityZone, d)
  let bytes = all
  let rest: ArrayBuffer | null = null
  if (!d.final) {
    const end = format.cut(all, worker.settings.atomicBytes, d.state)
    if (end === 0) {
      throw new BodyError(413, 'record-too-large', `A record of more than ${worker.settings.atomicBytes} bytes cannot be settled at once.`,
        undefined, 'Send smaller blocks.')
    }
    bytes = all.subarray(0, end)
    rest = d.bytes.slice(end)
  }
  const decoded = decode(format, bytes, context, d)
  const sha256 = createHash('sha256').update(bytes).digest()
  return {
    rest, state: decoded.state, format: format.name,
    submission: {
      deliveryId: d.deliveryId, sourceId, settings, kind: 'push', door: d.door, format: format.name, history: d.history,
      idempotencyKey: d.idempotencyKey, sha256, bodySha256: d.bodySha256 ?? (d.final && d.part === 1 ? sha256.toString('hex') : null),
      bytes: bytes.length, version: d.version, versionStated: d.versionStated, part: d.part, final: d.final, decoded,
      redecode: (): DecodedBody => decode(format, bytes, context, d),
      raw: (from, to) => Buffer.from(bytes.subarray(from, to)),
    },
  }
}

/** Messages of a Kafka partition: one delivery, which the position moves with. */
function prepareMessages(
  d: DeliveryTask, frames: MessageFrames, bytes: Uint8Array, sourceId: number, settings: SourceSettings, utilityZone: string | null,
): Prepared {
  const context = decodeContext(settings, utilityZone, d)
  const decodeAll = (): ReturnType<typeof decodeMessages> => noted(decodeMessages(bytes, frames, d.contentType, context))
  const decoded = decodeAll()
  const sha256 = createHash('sha256').update(bytes).digest()
  return {
    rest: null, state: null, format: decoded.format,
    submission: {
      deliveryId: d.deliveryId, sourceId, settings, kind: 'push', door: d.door, format: decoded.format, history: d.history,
      idempotencyKey: null, sha256, bodySha256: sha256.toString('hex'), bytes: bytes.length, version: d.version,
      versionStated: true, part: 1, final: true, decoded, redecode: decodeAll,
      raw: (from, to) => Buffer.from(bytes.subarray(from, to)), kafka: kafkaBatch(frames, decoded, bytes),
    },
  }
}

/** A zip or gzip body: each file is decoded by what it is, and all settle together. */
function prepareArchive(
  worker: Worker, d: DeliveryTask, sourceId: number, settings: SourceSettings, utilityZone: string | null, all: Uint8Array, kind: 'zip' | 'gzip',
): Prepared {
  const limit = worker.settings.atomicBytes
  if (!d.final) {
    throw new BodyError(413, 'archive-too-large', `An archive is settled at once, and has at most ${limit} bytes.`, undefined,
      'Send the files themselves, which may be larger; or one with Content-Encoding: gzip.')
  }
  const context = decodeContext(settings, utilityZone, d)
  const entries = unpack(all, kind, d.fileName, limit)
  if (entries.length === 0) throw new BodyError(400, 'empty-body', 'The archive holds no file.')
  const formats = entries.map((entry) => detectFormat(undefined, d.format ?? undefined, entry.name, entry.bytes))
  const decodeAll = (): DecodedBody => {
    let base = 0
    return joinDecoded(entries.map(({ name, bytes }, i) => {
      const decoded = decode(formats[i], bytes, context, d)
      base += bytes.length
      return { name, decoded, base: base - bytes.length }
    }))
  }
  const sha256 = createHash('sha256').update(all).digest()
  const format = formats.every((f) => f === formats[0]) ? formats[0].name : 'zip'
  return {
    rest: null, state: null, format,
    submission: {
      deliveryId: d.deliveryId, sourceId, settings, kind: 'push', door: d.door, format, history: d.history, idempotencyKey: d.idempotencyKey,
      sha256, bodySha256: sha256.toString('hex'), bytes: all.length, version: d.version, versionStated: d.versionStated, part: 1, final: true,
      decoded: decodeAll(), redecode: decodeAll, raw: (from, to) => Buffer.concat(entries.map((e) => e.bytes)).subarray(from, to),
    },
  }
}

/** Decodes a part of a body. */
function decode(format: Format, bytes: Uint8Array, context: DecodeContext, d: DeliveryTask): ReturnType<Format['decode']> {
  return noted(format.decode(bytes, context, d.state, d.final))
}

/** What the decoder had to conclude by itself stands in the receipt beside the problems. */
function noted<T extends ReturnType<Format['decode']>>(decoded: T): T {
  for (const note of decoded.notes) {
    decoded.problems.push({ code: 'concluded', at: 'body', message: note, outcome: 'rejected', reads: 0,
      help: 'State it in the file, or set it for the source, where this is wrong.' })
  }
  return decoded
}

interface SourceRow { sourceId: number; settings: SourceSettings; zone: string | null }

/** The sources of that name with their settings as they stand now; new ones are made. */
async function readSources(pool: Pool, utilityId: number, names: readonly string[]): Promise<Map<string, SourceRow>> {
  const wanted = [...new Set(names)].sort()
  const read = async (): Promise<Map<string, SourceRow>> => {
    const { rows } = await pool.query<{ source_id: number; name: string; settings: Partial<SourceSettings>; zone: string | null }>(
      `select s.source_id, s.name, s.settings, u.zone from source s join utility u using (utility_id)
        where s.utility_id = $1 and s.name = any($2::text[])`, [utilityId, wanted])
    return new Map(rows.map((r) => [r.name, { sourceId: r.source_id, settings: sourceSettings(r.settings), zone: r.zone }]))
  }
  const found = await read()
  if (found.size === wanted.length) return found
  await pool.query(
    'insert into source (utility_id, name) select $1, n from unnest($2::text[]) as t(n) order by n on conflict do nothing',
    [utilityId, wanted.filter((n) => !found.has(n))])
  return read()
}

function errorAnswer(err: unknown): ErrorAnswer {
  if (err instanceof ApiError) return { status: err.status, code: err.code, message: err.message, extra: err.extra }
  const trouble = databaseTrouble(err)
  if (trouble !== undefined) return errorAnswer(trouble)
  // The cause is for the log of the main thread; the client is told nothing of it.
  const cause = err instanceof Error ? err.stack ?? err.message : String(err)
  return { status: 500, code: 'internal-error', message: 'The push could not be settled.', extra: { cause } }
}
