import { isDeepStrictEqual } from 'node:util'
import { writeAudit } from '../audit.js'
import { sourceSettings, type SourceSettings } from '../source-settings.js'
import { inTransaction, type Pool, type Queryable } from '../store/db.js'

/** A source with the settings in force: the stored ones over the defaults. */
export interface SourceRecord {
  readonly name: string
  readonly settings: SourceSettings
  readonly createdAt: Date
}

/** What a write sets: left out stays, null goes back to the default. */
export type SourcePatch = { readonly [K in keyof SourceSettings]?: SourceSettings[K] | null }

interface Row {
  name: string
  settings: Partial<SourceSettings>
  createdAt: Date
}

const COLUMNS = 'name, settings, created_at as "createdAt"'

/** The source of this name. */
export async function getSource(db: Queryable, utilityId: number, name: string): Promise<SourceRecord | undefined> {
  const { rows } = await db.query<Row>(
    `select ${COLUMNS} from source where utility_id = $1 and name = $2`, [utilityId, name])
  return rows.map(recordOf)[0]
}

/** The utility's sources by name. */
export async function listSources(db: Queryable, utilityId: number): Promise<SourceRecord[]> {
  const { rows } = await db.query<Row>(`select ${COLUMNS} from source where utility_id = $1 order by name`, [utilityId])
  return rows.map(recordOf)
}

/** Makes the source or changes its settings: what the patch leaves out stays, null goes back to the default. */
export async function putSource(
  pool: Pool, utilityId: number, name: string, patch: SourcePatch, actor: string,
): Promise<{ created: boolean; record: SourceRecord }> {
  return inTransaction(pool, async (client) => {
    const made = await client.query(
      'insert into source (utility_id, name) values ($1, $2) on conflict (utility_id, name) do nothing', [utilityId, name])
    const { rows } = await client.query<Row>(
      `select ${COLUMNS} from source where utility_id = $1 and name = $2 for update`, [utilityId, name])
    const merged = Object.entries({ ...rows[0].settings, ...patch }).filter(([, value]) => value !== null && value !== undefined)
    const settings = Object.fromEntries(merged) as Partial<SourceSettings>
    const created = (made.rowCount ?? 0) > 0
    if (created || !isDeepStrictEqual(settings, rows[0].settings)) {
      await client.query('update source set settings = $3 where utility_id = $1 and name = $2',
        [utilityId, name, JSON.stringify(settings)])
      await writeAudit(client, { utilityId, actor, action: created ? 'source.create' : 'source.change', subject: name, detail: { settings } })
    }
    return { created, record: recordOf({ ...rows[0], settings }) }
  })
}

function recordOf(row: Row): SourceRecord {
  return { ...row, settings: sourceSettings(row.settings) }
}
