import { randomUUID } from 'node:crypto'
import { createSealer } from '../engine/contacts/seal.js'
import type { Pool } from '../engine/store/db.js'
import { dayText } from '../engine/time/text.js'
import { getZone, type Zone } from '../engine/time/zone.js'

export const secrets = { secretKey: new Uint8Array(32).fill(7) }
export const sealer = createSealer(secrets)

/** A utility, made anew for each test, with ways to write what alerts depend on straight into the tables. */
export interface AlertFixture {
  readonly utilityId: number
  readonly zone: Zone
  account(options?: { nickname?: string; billingDay?: number }): Promise<{ accountId: number; account: string }>
  meter(accountId: number, options?: { intervalS?: number; fromAt?: string; toAt?: string }): Promise<{ meterId: number; channelId: number; meter: string }>
  /** Another channel of the meter. */
  channel(meterId: number, options: { flow: number; intervalS?: number }): Promise<number>
  threshold(accountId: number, options?: {
    kind?: string; limit?: string | null; meterId?: number; from?: Date; flow?: number; params?: object; touPeriod?: string
  }): Promise<string>
  contact(accountId: number, options?: { channel?: 'email' | 'sms'; state?: string; address?: string }): Promise<string>
  /** Writes a channel's day: mantissas at `exponent`, null where missing; an empty list takes the block away. */
  block(channelId: number, day: number, values: readonly (number | null)[], options?: { intervalS?: number; exponent?: number; lane?: number[] }): Promise<void>
}

export async function alertFixture(pool: Pool, zoneName = 'America/Chicago'): Promise<AlertFixture> {
  const zone = getZone(zoneName)
  const name = `u${randomUUID()}`
  const { rows } = await pool.query<{ utility_id: number }>(
    'insert into utility (id, zone, name) values ($1, $2, $3) returning utility_id', [name, zoneName, 'Lakeside Electric'])
  const utilityId = rows[0].utility_id
  return {
    utilityId,
    zone,
    async account({ nickname, billingDay } = {}) {
      const account = `a${randomUUID()}`
      const made = await pool.query<{ account_id: number }>(
        'insert into account (utility_id, id, nickname, billing_day, epoch) values ($1, $2, $3, $4, 1) returning account_id',
        [utilityId, account, nickname ?? null, billingDay ?? null])
      return { accountId: made.rows[0].account_id, account }
    },
    async meter(accountId, { intervalS = 900, fromAt = '2020-01-01T00:00:00Z', toAt } = {}) {
      const meter = `m${randomUUID()}`
      const made = await pool.query<{ meter_id: number }>(
        'insert into meter (utility_id, id, epoch) values ($1, $2, 1) returning meter_id', [utilityId, meter])
      const meterId = made.rows[0].meter_id
      await pool.query('insert into meter_assignment (meter_id, account_id, from_at, to_at) values ($1, $2, $3, $4)',
        [meterId, accountId, fromAt, toAt ?? null])
      const channel = await pool.query<{ channel_id: number }>(
        `insert into channel (utility_id, meter_id, quantity, flow, interval_s) values ($1, $2, 1, 1, $3) returning channel_id`,
        [utilityId, meterId, intervalS])
      return { meterId, meter, channelId: channel.rows[0].channel_id }
    },
    async channel(meterId, { flow, intervalS = 900 }) {
      const made = await pool.query<{ channel_id: number }>(
        'insert into channel (utility_id, meter_id, quantity, flow, interval_s) values ($1, $2, 1, $3, $4) returning channel_id',
        [utilityId, meterId, flow, intervalS])
      return made.rows[0].channel_id
    },
    async threshold(accountId, { kind = 'day-usage', limit = '60', meterId, from = new Date(0), flow = 1, params = {}, touPeriod } = {}) {
      const id = randomUUID()
      await pool.query(
        `insert into threshold (threshold_id, utility_id, account_id, kind, flow, meter_id, limit_value, version_from, params, tou_period)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
        [id, utilityId, accountId, kind, flow, meterId ?? null, limit, from, params, touPeriod ?? null])
      await pool.query('update account set thresholds = thresholds + 1 where account_id = $1', [accountId])
      return id
    },
    contact: (accountId, options = {}) => addContact(pool, utilityId, accountId, options),
    async block(channelId, day, values, { intervalS = 900, exponent = -3, lane } = {}) {
      await pool.query('delete from channel_day where channel_id = $1 and day = $2', [channelId, dayText(day)])
      if (values.length === 0) return
      const present = values.filter((v) => v !== null)
      const estimated = (lane ?? []).filter((bits, i) => (bits & 7) === 1 && values[i] !== null).length
      await pool.query(
        `insert into channel_day (channel_id, day, first_at, interval_s, exponent, total, present, estimated, version,
                                  delivery_no, settled_at, vals, lane)
         values ($1, $2, to_timestamp($3::float8), $4, $5, $6, $7, $8, 1, 1, now(), $9, $10)`,
        [channelId, dayText(day), zone.dayStart(day), intervalS, exponent, present.reduce((a, b) => a + b, 0),
          present.length, estimated, values, lane ?? null])
    },
  }
}

/** Writes a contact; returns its id. */
export async function addContact(
  pool: Pool, utilityId: number, accountId: number, { channel = 'email', state = 'active', address }: { channel?: 'email' | 'sms'; state?: string; address?: string },
): Promise<string> {
  const id = randomUUID()
  const to = address ?? (channel === 'email' ? `m${id}@example.com` : '+15125550123')
  await pool.query(
    `insert into contact (contact_id, utility_id, account_id, channel, address_enc, address_hash, masked, state)
     values ($1, $2, $3, $4, $5, $6, 'm***@example.com', $7)`,
    [id, utilityId, accountId, channel, sealer.seal('address', id, to), sealer.hashAddress(utilityId, channel, to), state])
  return id
}
