import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { alertFixture, secrets, type AlertFixture } from '../../test/alert-fixture.js'
import { takeAnyDay, testDatabase, type TestDatabase } from '../../test/database.js'
import type { RateVersionRecord } from '../rates/schema.js'
import { putRate, writeAccountRates } from '../rates/store.js'
import { inTransaction } from '../store/db.js'
import { dayNumber } from '../time/text.js'
import { costOf } from '../usage/cost.js'
import { enqueueDue } from './due.js'
import { evaluateThresholds } from './evaluate.js'
import { previewThreshold } from './preview.js'
import { judgeDue } from './sweep.js'

const DAY = dayNumber('2026-10-01')
const FLAT: RateVersionRecord = { from: '2026-01-01', fixed: [{ amount: 20 }], energy: [{ tiers: [{ price: 0.1 }] }] }
const TOU: RateVersionRecord = {
  ...FLAT, touPeriods: [{ name: 'peak', windows: [{ from: '16:00', to: '20:00' }] }],
  energy: [{ touPeriod: 'peak', tiers: [{ price: 0.5 }] }, { touPeriod: 'off-peak', tiers: [{ price: 0.1 }] }] }

let db: TestDatabase
let f: AlertFixture
let nowMs: number

beforeAll(async () => {
  db = await testDatabase()
  await takeAnyDay(db)
})
afterAll(async () => db.close())
beforeEach(async () => {
  f = await alertFixture(db.pool)
  nowMs = Date.parse('2026-11-20T12:00:00Z')
})

async function house(rate: RateVersionRecord | null, intervalS = 3600): Promise<{ accountId: number; account: string; meterId: number; channelId: number }> {
  const made = await f.account()
  if (rate !== null) {
    await putRate(db.pool, f.utilityId, 'R', { versions: [rate] }, { actor: 'test', now: new Date(nowMs) })
    await writeAccountRates(db.pool, f.utilityId, [{ account: made.account, rate: { id: 'R', from: '2026-01-01' } }])
  }
  return { ...made, ...await f.meter(made.accountId, { intervalS }) }
}

async function settle(accountId: number, days: readonly number[]): Promise<void> {
  await inTransaction(db.pool, async (client) => {
    await evaluateThresholds(client, {
      utilityId: f.utilityId, zone: f.zone, days: new Map([[accountId, days]]), history: false, deliveryId: null, now: new Date(nowMs), secrets })
    await enqueueDue(client, f.utilityId, days.map((d) => ({
      fromDay: d, toDay: d + 1, dueS: nowMs / 1000, everyKind: false, history: false, accountIds: [accountId] })))
  })
}

const sweep = () => judgeDue(db.pool, { secrets, settleS: 48 * 3600, now: () => nowMs })

async function alerts(threshold: string): Promise<Record<string, unknown>[]> {
  const { rows } = await db.pool.query<Record<string, unknown>>(
    `select state, trim_scale(value)::text as value, unit, detail, jsonb_array_length(history) as steps from alert where threshold_id = $1 order by period_start`, [threshold])
  return rows
}

const hours = (value: number, others: Record<number, number> = {}): number[] => Array.from({ length: 24 }, (_, h) => others[h] ?? value)

async function cost(accountId: number, resolution: 'day' | 'month' | 'billing', fromDay = DAY, toDay = DAY + 31, billingDay: number | null = null) {
  return costOf(db.pool, {
    utilityId: f.utilityId, accountId, zone: f.zone, cycle: { billingDay, periods: [] }, currency: 'USD', nowS: nowMs / 1000, resolution,
    buckets: [{ startS: f.zone.dayStart(fromDay), endS: f.zone.dayStart(toDay) }] })
}

describe('a period-cost threshold', () => {
  it('is judged in settling by a rate that can only rise', async () => {
    const { accountId, channelId } = await house(FLAT)
    const id = await f.threshold(accountId, { kind: 'period-cost', limit: '24' })
    await f.block(channelId, DAY, hours(1000), { intervalS: 3600 })
    await settle(accountId, [DAY])
    expect(await alerts(id)).toEqual([])
    await f.block(channelId, DAY + 1, hours(1000), { intervalS: 3600 })
    await settle(accountId, [DAY + 1])
    // 20 + 48 x 0.1
    expect(await alerts(id)).toMatchObject([{ state: 'raised', value: '24.8', unit: 'USD', detail: { rates: ['R 2026-01-01'] } }])
  })

  it('follows a version that is put in later', async () => {
    const { accountId, channelId } = await house(FLAT)
    const id = await f.threshold(accountId, { kind: 'period-cost', limit: '24' })
    await f.block(channelId, DAY, hours(1000), { intervalS: 3600 })
    await settle(accountId, [DAY])
    await putRate(db.pool, f.utilityId, 'R', { versions: [{ ...FLAT, fixed: [{ amount: 30 }] }] }, { actor: 'test', now: new Date(nowMs) })
    await sweep()
    expect(await alerts(id)).toMatchObject([{ state: 'raised', value: '32.4' }])
  })

  it('waits for the period\'s end where what is sent back is credited', async () => {
    const { accountId, meterId, channelId } = await house({ ...FLAT, netMetering: { method: 'net', creditPrice: 0.05 } })
    const received = await f.channel(meterId, { flow: 2, intervalS: 3600 })
    const id = await f.threshold(accountId, { kind: 'period-cost', limit: '24' })
    nowMs = f.zone.dayStart(DAY + 2) * 1000
    await f.block(channelId, DAY, hours(10_000), { intervalS: 3600 })
    await settle(accountId, [DAY])
    await sweep()
    expect(await alerts(id)).toEqual([])
    await f.block(received, DAY, hours(1000), { intervalS: 3600 })
    await settle(accountId, [DAY])
    nowMs = Date.parse('2026-11-10T12:00:00Z')
    await sweep()
    // 20 + (240 - 24) x 0.1
    expect(await alerts(id)).toMatchObject([{ state: 'raised', value: '41.6' }])
  })

  it('tells nothing without a rate', async () => {
    const { accountId, channelId } = await house(null)
    const id = await f.threshold(accountId, { kind: 'period-cost', limit: '1' })
    await f.block(channelId, DAY, hours(10_000), { intervalS: 3600 })
    await settle(accountId, [DAY])
    await sweep()
    expect(await alerts(id)).toEqual([])
  })
})

it('a threshold on a time-of-use period sums its hours alone', async () => {
  const { accountId, channelId } = await house(TOU)
  const id = await f.threshold(accountId, { limit: '8', touPeriod: 'peak' })
  await f.block(channelId, DAY, hours(5000, { 16: 2000, 17: 2000, 18: 2000, 19: 2000 }), { intervalS: 3600 })
  await settle(accountId, [DAY])
  expect(await alerts(id)).toEqual([])
  await f.block(channelId, DAY, hours(0, { 16: 2000, 17: 2000, 18: 2000, 19: 2001 }), { intervalS: 3600 })
  await settle(accountId, [DAY])
  expect(await alerts(id)).toMatchObject([{ state: 'raised', value: '8.001' }])
})

it('a projected-cost threshold projects each time-of-use period, with a range', async () => {
  const { accountId, channelId } = await house(TOU)
  const id = await f.threshold(accountId, { kind: 'projected-cost', limit: '140' })
  const days = Array.from({ length: 35 }, (_, i) => DAY - 28 + i)
  for (const d of days) await f.block(channelId, d, hours(1000), { intervalS: 3600 })
  nowMs = (f.zone.dayStart(DAY + 7) + 3600) * 1000
  await settle(accountId, days)
  await sweep()
  // A day: 4 x 0.5 + 20 x 0.1 = 4; 31 days and 20.
  expect(await alerts(id)).toMatchObject([{ state: 'raised', value: '144', detail: { range: { low: '144', high: '144' }, throughDay: '2026-10-07' } }])
})

describe('the cost of usage', () => {
  it('is a period\'s bill with its lines, or says why there is none', async () => {
    const { accountId, channelId } = await house(TOU)
    for (let d = 0; d < 31; d++) await f.block(channelId, DAY + d, hours(1000), { intervalS: 3600 })
    expect(await cost(accountId, 'billing')).toMatchObject([{ amount: 144, currency: 'USD', status: 'final', reason: null, rates: [{ rate: 'R', version: '2026-01-01' }],
      lines: [{ kind: 'fixed', amount: 20 }, { name: 'Energy peak', quantity: 124, amount: 62 }, { name: 'Energy off-peak', quantity: 620, amount: 62 }] }])
    expect(await cost(accountId, 'month', DAY, DAY + 31, 15)).toMatchObject([{ amount: null, status: 'unavailable', reason: 'not-a-billing-period' }])
    expect(await cost(accountId, 'day', DAY, DAY + 1)).toMatchObject([{ amount: 4, status: 'final', lines: [{ kind: 'energy' }, { kind: 'energy' }] }])
    await f.block(channelId, DAY, [...hours(1000).slice(1), null], { intervalS: 3600 })
    expect(await cost(accountId, 'billing')).toMatchObject([{ amount: 143.9, status: 'incomplete', missing: 1 }])
    expect(await cost(accountId, 'billing', dayNumber('2025-10-01'), dayNumber('2025-11-01'))).toMatchObject([{ amount: null, reason: 'no-rate' }])
  })

  it('cannot be told of daily reads by the hour', async () => {
    const { accountId, channelId } = await house(TOU, 86_400)
    await f.block(channelId, DAY, [24_000], { intervalS: 86_400 })
    expect(await cost(accountId, 'billing')).toMatchObject([{ amount: null, reason: 'interval-too-long' }])
  })
})

describe('a preview', () => {
  it('runs the same code over the stored days, and suggests limits from them', async () => {
    const { accountId, account, channelId } = await house(FLAT, 86_400)
    nowMs = (f.zone.dayStart(DAY + 40) + 3600) * 1000
    for (let d = 0; d < 40; d++) await f.block(channelId, DAY + d, [(d % 10) * 10_000], { intervalS: 86_400 })
    const ask = (input: Parameters<typeof previewThreshold>[2]) =>
      previewThreshold(db.pool, { utilityId: f.utilityId, accountId, account, zone: f.zone.name }, input, new Date(nowMs))
    const found = await ask({ kind: 'day-usage', limit: 75, days: 40 })
    expect(found).toMatchObject({ judged: 40, wouldHaveFired: 8, unit: 'kWh', suggestions: [{ quantile: 0.8, limit: 80 }, { quantile: 0.9, limit: 85 }, { quantile: 0.95, limit: 90 }] })
    expect(found.alerts[0]).toEqual({ start: '2026-10-09T00:00:00-05:00', end: '2026-10-10T00:00:00-05:00', value: 80, limit: 75 })
    for (const s of found.suggestions) expect((await ask({ kind: 'day-usage', limit: s.limit, days: 40 })).wouldHaveFired).toBe(s.wouldHaveFired)
    expect(await ask({ kind: 'no-usage', days: 40 })).toMatchObject({ wouldHaveFired: 4, suggestions: [] })
    expect(await ask({ kind: 'period-cost', days: 90 })).toMatchObject({ wouldHaveFired: null, unit: 'USD' })
    await expect(ask({ kind: 'day-usage', limit: 5, meter: 'nobody' })).rejects.toMatchObject({ code: 'unknown-meter' })
  })
})
