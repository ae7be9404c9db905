import { createHash } from 'node:crypto'
import type { Submission } from '../engine/submission.js'
import { ApiError } from '../engine/problem.js'
import type { Receipt } from '../engine/receipt.js'
import type { Settler } from '../engine/settler.js'
import { sourceSettings, type SourceSettings } from '../engine/source-settings.js'
import type { Pool } from '../engine/store/db.js'
import { uuidv7 } from '../engine/uuid.js'
import { decodeContext } from './decode-context.js'
import { ndjson } from './formats/ndjson.js'
import type { ReplayTask } from './task.js'

const BATCH_ROWS = 5000
/** Characters of records in a batch: what one transaction holds in memory is bounded (C8). One record is always taken. */
const BATCH_CHARS = 16 * 1024 * 1024

interface Row {
  quarantine_id: number
  source_id: number
  version: number
  history: boolean
  record: string
}

/**
 * Settles quarantined records again, in batches of one transaction each, with the versions they came with (C4). A record
 * that is refused again goes back into quarantine as a new row of the replay's delivery: the receipts add up.
 * @returns the sum of the replay's receipts; of several deliveries (one per source and batch) the last one's id
 */
export async function replayQuarantine(settler: Settler, pool: Pool, task: ReplayTask, nowMs: number): Promise<Receipt> {
  let sum: Receipt | null = null
  let after = 0
  // Records that are refused again come back with higher ids than all that this replay began with.
  const { rows: [{ last }] } = await pool.query<{ last: number }>('select coalesce(max(quarantine_id), 0) as last from quarantine')
  for (;;) {
    const rows = await nextRows(pool, task, after, last)
    if (rows.length === 0) break
    after = rows[rows.length - 1].quarantine_id
    for (const group of groups(rows)) {
      const receipt = await settleRows(settler, pool, task, group, nowMs)
      if (receipt !== null) sum = sum === null ? receipt : add(sum, receipt)
    }
  }
  return sum ?? nothing(task)
}

async function nextRows(pool: Pool, task: ReplayTask, after: number, last: number): Promise<Row[]> {
  const { rows } = await pool.query<Row>(
    `select quarantine_id, source_id, version, history, record
       from (select *, sum(length(record)) over (order by quarantine_id) - length(record) as before from (${WAITING}) w) b
      where before < ${BATCH_CHARS} order by quarantine_id`,
    [task.utilityId, after, task.reason, task.source, task.meter, task.onlyRegistered, last])
  return rows
}

const WAITING = `
     select q.quarantine_id, q.source_id, q.version, q.history, q.record
       from quarantine q join source s using (source_id)
      where q.utility_id = $1 and q.settled_by is null and q.record is not null and q.quarantine_id > $2
        and ($3::text is null or q.reason = $3) and ($4::text is null or s.name = $4) and ($5::text is null or q.meter = $5)
        and (not $6::boolean or q.reason = 'unknown-meter' and (
              exists (select from meter m where m.utility_id = $1 and m.id = q.meter)
              or exists (select from meter_alias a where a.utility_id = $1 and a.alias = q.meter)))
        and q.quarantine_id <= $7
      order by q.quarantine_id limit ${BATCH_ROWS}`

function groups(rows: readonly Row[]): Row[][] {
  const byKey = new Map<string, Row[]>()
  for (const r of rows) {
    const key = `${r.source_id}|${r.history}`
    const list = byKey.get(key)
    if (list === undefined) byKey.set(key, [r])
    else list.push(r)
  }
  return [...byKey.values()]
}

async function settleRows(settler: Settler, pool: Pool, task: ReplayTask, rows: readonly Row[], nowMs: number): Promise<Receipt | null> {
  const { rows: [source] } = await pool.query<{ settings: Partial<SourceSettings>; zone: string | null }>(
    'select s.settings, u.zone from source s join utility u using (utility_id) where s.source_id = $1', [rows[0].source_id])
  const settings = sourceSettings(source.settings)
  // The settings may have been put right since: a zone, a default interval, rounding.
  const context = decodeContext(settings, source.zone, { zone: null, mapping: null })
  const bytes = Buffer.from(rows.map((r) => r.record).join('\n'))
  const decode = (): ReturnType<typeof ndjson.decode> => {
    const decoded = ndjson.decode(bytes, context, null, true)
    const { batch, registers } = decoded
    for (let i = 0; i < registers.count; i++) if (registers.version[i] === 0) registers.version[i] = rows[registers.place[i] - 1].version
    for (let b = 0; b < batch.count; b++) if (batch.version[b] === 0) batch.version[b] = rows[batch.place[b] - 1].version
    return decoded
  }
  const ids = rows.map((r) => r.quarantine_id)
  const submission: Submission = {
    deliveryId: uuidv7(nowMs), sourceId: rows[0].source_id, settings, kind: 'replay', door: 'quarantine',
    format: 'ndjson', history: rows[0].history, idempotencyKey: null, sha256: createHash('sha256').update(bytes).digest(),
    bodySha256: null, bytes: bytes.length, version: nowMs * 1000, versionStated: true, part: 1, final: true,
    decoded: decode(), redecode: decode, raw: (from, to) => bytes.subarray(from, to),
    after: async (client, deliveryNo) => {
      const { rowCount } = await client.query(
        'update quarantine set settled_by = $2 where quarantine_id = any($1::bigint[]) and settled_by is null', [ids, deliveryNo])
      if (rowCount !== ids.length) throw new ApiError(409, 'quarantine-changed', 'Another replay took these records.')
    },
  }
  const [result] = await settler.settle(task.utilityId, [submission])
  if (result.status === 'failed') {
    if (result.error instanceof ApiError && result.error.code === 'quarantine-changed') return null
    throw result.error
  }
  return result.status === 'settled' || result.status === 'repeated' ? result.receipt : null
}

function add(a: Receipt, b: Receipt): Receipt {
  return {
    ...b,
    received: a.received + b.received, stored: a.stored + b.stored, duplicate: a.duplicate + b.duplicate,
    corrected: a.corrected + b.corrected, outranked: a.outranked + b.outranked, quarantined: a.quarantined + b.quarantined,
    rejected: a.rejected + b.rejected, rounded: a.rounded + b.rounded,
    alerts: { raised: a.alerts.raised + b.alerts.raised, retracted: a.alerts.retracted + b.alerts.retracted },
    problems: [...a.problems, ...b.problems].slice(0, 100), problemCount: a.problemCount + b.problemCount,
  }
}

/** The receipt of a replay that found nothing: no delivery was made, and its id names none. */
function nothing(task: ReplayTask): Receipt {
  return {
    delivery: task.deliveryId, source: task.source ?? '', complete: true, received: 0, stored: 0, duplicate: 0, corrected: 0,
    outranked: 0, quarantined: 0, rejected: 0, rounded: 0, from: null, to: null, alerts: { raised: 0, retracted: 0 }, problems: [],
    problemCount: 0,
  }
}
