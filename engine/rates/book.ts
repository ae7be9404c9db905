import { groupBy } from '../group-by.js'
import { intArray } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import { dayNumber } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import { RateVersion } from './calendar.js'
import type { RateVersionRecord } from './schema.js'

/** The rates of some accounts over time. */
export interface RateBook {
  /** The version that an account is billed by on a local day; undefined where none is known. */
  versionAt(accountId: number, day: number): RateVersion | undefined
  /** Which slots lie in a time-of-use period of the account's rate; none where the rate has no such period then. */
  touOf(accountId: number, touPeriod: string): (startS: number, intervalS: number) => boolean
}

/** Reads the rates of the accounts by two statements. */
export async function loadRateBook(db: Queryable, utilityId: number, zone: Zone, accountIds: readonly number[]): Promise<RateBook> {
  const ids = [...new Set(accountIds)]
  const { rows: accounts } = ids.length === 0 ? { rows: [] } : await db.query<{ account_id: number; from_day: string; rate: string }>(
    'select account_id, from_day, rate from account_rate where account_id = any($1::int[]) order by account_id, from_day desc', [intArray(ids)])
  const { rows: versions } = accounts.length === 0 ? { rows: [] } : await db.query<{ id: string; body: RateVersionRecord }>(
    `select r.id, v.body from rate r join rate_version v using (rate_id)
      where r.utility_id = $1 and r.id = any($2::text[]) order by r.id, v.from_day desc`,
    [utilityId, [...new Set(accounts.map((a) => a.rate))]])
  const byRate = groupBy(versions.map((v) => new RateVersion(v.id, v.body)), (v) => v.rate)
  const byAccount = groupBy(accounts.map((a) => ({ accountId: a.account_id, fromDay: dayNumber(a.from_day), rate: a.rate })), (a) => a.accountId)
  const versionAt = (accountId: number, day: number): RateVersion | undefined => {
    const held = byAccount.get(accountId)?.find((a) => a.fromDay <= day)
    return held === undefined ? undefined : byRate.get(held.rate)?.find((v) => v.fromDay <= day)
  }
  return {
    versionAt,
    touOf: (accountId, touPeriod) => (startS, intervalS) => {
      const version = versionAt(accountId, zone.dayOf(startS))
      return version !== undefined && version.periods[version.periodAt(startS, intervalS, zone)] === touPeriod
    },
  }
}
