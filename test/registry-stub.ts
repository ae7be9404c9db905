import { RegistryMap } from '../engine/registry-map.js'
import type { Queryable } from '../engine/store/db.js'

/** A registry map of these meters without a database: ids from 1 in their order, multipliers as given. */
export async function registryOf(meters: Readonly<Record<string, number>>): Promise<RegistryMap> {
  const rows = Object.entries(meters).map(([id, multiplier], i) => ({
    meter_id: i + 1, id, aliases: [], role: 'main', multiplier: String(multiplier) }))
  const db = { query: (text: string) => Promise.resolve({ rows: text.includes('from meter where') ? rows : [] }) }
  const map = new RegistryMap(1)
  await map.refresh(db as unknown as Queryable, 1)
  return map
}
