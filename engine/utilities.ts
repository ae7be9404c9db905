import { writeAudit } from './audit.js'
import { ApiError } from './problem.js'
import { beginRegistryWrite, inTransaction, type Pool, type Queryable } from './store/db.js'
import { judgeAllLater } from './thresholds/due.js'
import { getZone } from './time/zone.js'

/** A utility as answers show it. */
export interface UtilityRecord {
  readonly utilityId: number
  readonly utility: string
  readonly zone: string | null
  readonly currency: string
  readonly name: string | null
  readonly phone: string | null
  readonly links: Record<string, string>
  readonly languages: string[]
  /** Estimates that the engine made may raise alerts. */
  readonly alertOnEstimates: boolean
  readonly holdsReads: boolean
}

/** What a write may set; what is left out stays, null clears. */
export interface UtilityPatch {
  readonly zone?: string | null
  readonly currency?: string
  readonly name?: string | null
  readonly phone?: string | null
  readonly links?: Record<string, string> | null
  readonly languages?: string[]
  readonly alertOnEstimates?: boolean
}

const COLUMNS = `utility_id as "utilityId", id as utility, zone, currency, name, phone, links, languages,
  alert_on_estimates as "alertOnEstimates", holds_reads as "holdsReads"`

/** The utility of this public id. */
export async function findUtility(db: Queryable, id: string): Promise<UtilityRecord | undefined> {
  const { rows } = await db.query<UtilityRecord>(`select ${COLUMNS} from utility where id = $1`, [id])
  return rows[0]
}

/** @throws ApiError 422 `unknown-zone` where this is no IANA zone that the machine knows */
export function checkZone(zone: string, at = '/zone'): void {
  try {
    getZone(zone)
  } catch (err) {
    if (!(err instanceof RangeError)) throw err
    throw new ApiError(422, 'unknown-zone', 'This is not the name of a time zone.',
      { at, help: 'Use an IANA name such as America/Chicago.' })
  }
}

/**
 * Makes the utility or changes it. A zone is frozen once reads are held: stored days were cut by it. Where estimates begin to
 * raise alerts, or cease to, all that thresholds judge is judged anew by the schedule.
 * @throws ApiError 409 `zone-frozen`, 422 `unknown-zone`
 */
export async function putUtility(
  pool: Pool, id: string, patch: UtilityPatch, { actor, now }: { readonly actor: string; readonly now: Date },
): Promise<{ created: boolean; record: UtilityRecord }> {
  if (typeof patch.zone === 'string') checkZone(patch.zone)
  return inTransaction(pool, async (client) => {
    const made = await client.query<{ utility_id: number }>(
      'insert into utility (id) values ($1) on conflict (id) do nothing returning utility_id', [id])
    const created = made.rows.length > 0
    const before = await findUtility(client, id)
    if (before === undefined) throw new Error('the utility is gone')
    const zone = patch.zone === undefined ? before.zone : patch.zone
    if (zone !== before.zone) await changeZone(client, before.utilityId, zone)
    await client.query(
      `update utility set currency = $2, name = $3, phone = $4, links = $5, languages = $6, alert_on_estimates = $7 where utility_id = $1`,
      [before.utilityId, patch.currency ?? before.currency, patch.name === undefined ? before.name : patch.name,
        patch.phone === undefined ? before.phone : patch.phone,
        JSON.stringify(patch.links === undefined ? before.links : patch.links ?? {}),
        patch.languages ?? before.languages, patch.alertOnEstimates ?? before.alertOnEstimates])
    if ((patch.alertOnEstimates ?? before.alertOnEstimates) !== before.alertOnEstimates && zone !== null) {
      await judgeAllLater(client, before.utilityId, getZone(zone), now)
    }
    await writeAudit(client, {
      utilityId: before.utilityId, actor, action: created ? 'utility.create' : 'utility.change', subject: id,
      detail: { members: Object.keys(patch), ...(zone === before.zone ? {} : { zone }) },
    })
    const record = await findUtility(client, id)
    if (record === undefined) throw new Error('the utility is gone')
    return { created, record }
  })
}

/**
 * The utility of this id, made where it is missing; with a zone, set where it has none or may still change.
 * @throws ApiError 409 `zone-frozen` where it holds reads in another zone, 422 `unknown-zone`
 */
export async function ensureUtility(
  pool: Pool, id: string, options: { zone?: string | null } = {},
): Promise<UtilityRecord> {
  const found = await findUtility(pool, id)
  const zone = options.zone ?? undefined
  if (found !== undefined && (zone === undefined || zone === found.zone)) return found
  const { record } = await putUtility(pool, id, zone === undefined ? {} : { zone }, { actor: 'cli', now: new Date() })
  return record
}

async function changeZone(client: Queryable, utilityId: number, zone: string | null): Promise<void> {
  // Settling holds this lock shared when it sets holds_reads, so the answer below cannot change before the commit.
  await beginRegistryWrite(client, utilityId)
  const { rows } = await client.query<{ holds_reads: boolean; zone: string | null }>(
    'select holds_reads, zone from utility where utility_id = $1', [utilityId])
  if (rows[0].holds_reads) {
    throw new ApiError(409, 'zone-frozen', `The utility holds reads whose days were cut by ${rows[0].zone ?? 'UTC'}.`, {
      at: '/zone',
      help: 'Make another utility with the new zone, register its meters and load the reads into it again.',
    })
  }
  await client.query('update utility set zone = $2 where utility_id = $1', [utilityId, zone])
}
