import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { alertFixture, secrets, type AlertFixture } from '../../test/alert-fixture.js'
import { takeAnyDay, testDatabase, type TestDatabase } from '../../test/database.js'
import { inTransaction } from '../store/db.js'
import { dayNumber } from '../time/text.js'
import { getZone } from '../time/zone.js'
import { putUtility } from '../utilities.js'
import { enqueueDue } from './due.js'
import { evaluateThresholds } from './evaluate.js'
import { periodsOf } from './kinds.js'
import { judgeDue } from './sweep.js'

const DAY = dayNumber('2026-10-01')
const CYCLE = { billingDay: null, periods: [] }
const HOUR_MS = 3_600_000

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

/** What a commit that touched these days does, and then the schedule. */
async function settle(accountId: number, days: readonly number[], history = false): Promise<void> {
  await inTransaction(db.pool, async (client) => {
    await client.query('select 1 from account where account_id = $1 for no key update', [accountId])
    await evaluateThresholds(client, {
      utilityId: f.utilityId, zone: f.zone, days: new Map([[accountId, days]]), history, deliveryId: null, now: new Date(nowMs), secrets })
    await enqueueDue(client, f.utilityId, days.map((d) => ({
      fromDay: d, toDay: d + 1, dueS: nowMs / 1000, everyKind: false, history, accountIds: [accountId] })))
  })
  await sweep()
}

async function sweep(): Promise<void> {
  await judgeDue(db.pool, { secrets, settleS: 48 * 3600, now: () => nowMs })
}

interface Alert { start: string; state: string; value: string; limit_value: string; unit: string; crossed: string | null; detail: Record<string, unknown> | null; steps: number }

async function alerts(threshold: string): Promise<Alert[]> {
  const { rows } = await db.pool.query<Alert>(
    `select to_char(period_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI') as start, state, trim_scale(value)::text as value,
            trim_scale(limit_value)::text as limit_value, unit, to_char(crossed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI') as crossed,
            detail, jsonb_array_length(history) as steps
       from alert where threshold_id = $1 order by period_start`, [threshold])
  return rows
}

const hours = (value: number, others: Record<number, number> = {}): number[] => Array.from({ length: 24 }, (_, h) => others[h] ?? value)

async function house(intervalS = 3600): Promise<{ accountId: number; meterId: number; channelId: number }> {
  const { accountId } = await f.account()
  return { accountId, ...await f.meter(accountId, { intervalS }) }
}

describe('an hour-usage threshold', () => {
  it('raises one alert for each hour above the limit, and takes back the one that a correction undoes', async () => {
    const { accountId, channelId } = await house(900)
    const id = await f.threshold(accountId, { kind: 'hour-usage', limit: '4' })
    const quarters = new Array<number>(96).fill(200)
    quarters.splice(40, 4, 1000, 1000, 1000, 1001)
    quarters.splice(60, 4, 2000, 2000, 2000, 2000)
    await f.block(channelId, DAY, quarters)
    await settle(accountId, [DAY])
    expect(await alerts(id)).toMatchObject([
      { start: '2026-10-01T15:00', state: 'raised', value: '4.001', crossed: '2026-10-01T16:00' },
      { start: '2026-10-01T20:00', state: 'raised', value: '8', crossed: '2026-10-01T20:45' }])
    quarters[43] = 1000
    await f.block(channelId, DAY, quarters)
    await settle(accountId, [DAY])
    expect(await alerts(id)).toMatchObject([{ state: 'retracted', value: '4' }, { state: 'raised' }])
  })

  it('judges the repeated hour twice and the skipped one never', () => {
    const zone = getZone('America/Chicago')
    expect(periodsOf('hour', dayNumber('2026-11-01'), CYCLE, zone)).toHaveLength(25)
    expect(periodsOf('hour', dayNumber('2026-03-08'), CYCLE, zone)).toHaveLength(23)
    const kathmandu = periodsOf('hour', DAY, CYCLE, getZone('Asia/Kathmandu'))
    expect([kathmandu.length, kathmandu[0].startS]).toEqual([24, getZone('Asia/Kathmandu').dayStart(DAY)])
  })

  it('does not guess how a daily read spreads over its hours', async () => {
    const { accountId, channelId } = await house(86_400)
    const id = await f.threshold(accountId, { kind: 'hour-usage', limit: '1' })
    await f.block(channelId, DAY, [90_000], { intervalS: 86_400 })
    await settle(accountId, [DAY])
    expect(await alerts(id)).toEqual([])
  })
})

describe('a demand threshold', () => {
  it('keeps one row per billing period, whose maximum moves with the sum of the meters', async () => {
    const { accountId, channelId } = await house(900)
    const second = await f.meter(accountId)
    const id = await f.threshold(accountId, { kind: 'demand', limit: '10' })
    const one = new Array<number>(96).fill(500)
    one[20] = 2000
    const two = new Array<number>(96).fill(0)
    two[20] = 499
    await f.block(channelId, DAY, one)
    await f.block(second.channelId, DAY, two)
    await settle(accountId, [DAY])
    // 2.499 kWh in a quarter of an hour: 9.996 kW.
    expect(await alerts(id)).toEqual([])
    two[20] = 501
    await f.block(second.channelId, DAY, two)
    await settle(accountId, [DAY])
    expect(await alerts(id)).toMatchObject([{
      start: '2026-10-01T05:00', state: 'raised', value: '10.004', unit: 'kW', crossed: '2026-10-01T10:15',
      detail: { peakAt: '2026-10-01T05:00:00-05:00', intervalSeconds: 900 } }])
    one[21] = 4000
    await f.block(channelId, DAY + 3, one)
    await settle(accountId, [DAY + 3])
    expect(await alerts(id)).toMatchObject([{ value: '16', steps: 1, crossed: '2026-10-01T10:15' }])
  })
})

describe('net energy', () => {
  it('waits for the end of the period and for both flows, then is the difference', async () => {
    const { accountId, meterId, channelId } = await house()
    const received = await f.channel(meterId, { flow: 2, intervalS: 3600 })
    const id = await f.threshold(accountId, { limit: '20', flow: 3 })
    nowMs = (f.zone.dayStart(DAY + 1) - 3600) * 1000
    await f.block(channelId, DAY, hours(2000), { intervalS: 3600 })
    await settle(accountId, [DAY])
    expect(await alerts(id)).toEqual([])
    nowMs += 2 * HOUR_MS
    await sweep()
    // The received side is missing: it may yet come.
    expect(await alerts(id)).toEqual([])
    await f.block(received, DAY, hours(1000), { intervalS: 3600 })
    await settle(accountId, [DAY])
    expect(await alerts(id)).toMatchObject([{ state: 'raised', value: '24', crossed: null }])
    await f.block(received, DAY, hours(1200), { intervalS: 3600 })
    await settle(accountId, [DAY])
    expect(await alerts(id)).toMatchObject([{ state: 'retracted', value: '19.2' }])
  })

  it('is judged without what is missing once its settle time has passed', async () => {
    const { accountId, meterId, channelId } = await house()
    await f.channel(meterId, { flow: 2, intervalS: 3600 })
    const id = await f.threshold(accountId, { limit: '20', flow: 3 })
    nowMs = (f.zone.dayStart(DAY + 1) + 3600) * 1000
    await f.block(channelId, DAY, hours(2000), { intervalS: 3600 })
    await settle(accountId, [DAY])
    nowMs += 46 * HOUR_MS
    await sweep()
    expect(await alerts(id)).toEqual([])
    nowMs += 2 * HOUR_MS
    await sweep()
    expect(await alerts(id)).toMatchObject([{ state: 'raised', value: '48' }])
    const { rows } = await db.pool.query('select 1 from threshold_due where utility_id = $1', [f.utilityId])
    expect(rows).toEqual([])
  })
})

describe('low-usage and no-usage', () => {
  it('fire on a complete day, never on one with a missing read', async () => {
    const { accountId, channelId } = await house()
    const low = await f.threshold(accountId, { kind: 'low-usage', limit: '2' })
    const none = await f.threshold(accountId, { kind: 'no-usage', limit: null })
    await f.block(channelId, DAY, [...hours(0).slice(1), null], { intervalS: 3600 })
    await settle(accountId, [DAY])
    expect([await alerts(low), await alerts(none)]).toEqual([[], []])
    await f.block(channelId, DAY, hours(0), { intervalS: 3600 })
    await settle(accountId, [DAY])
    expect(await alerts(none)).toMatchObject([{ state: 'raised', value: '0', limit_value: '0' }])
    await f.block(channelId, DAY, hours(0, { 5: 1 }), { intervalS: 3600 })
    await settle(accountId, [DAY])
    expect(await alerts(none)).toMatchObject([{ state: 'retracted' }])
    expect(await alerts(low)).toMatchObject([{ state: 'raised', value: '0.001' }])
    // A read that is taken away leaves nothing to stand on.
    await f.block(channelId, DAY, [...hours(0).slice(1), null], { intervalS: 3600 })
    await settle(accountId, [DAY])
    expect(await alerts(low)).toMatchObject([{ state: 'retracted' }])
  })

  it('judge the billing period where they are told to', async () => {
    const { accountId, channelId } = await house(86_400)
    const id = await f.threshold(accountId, { kind: 'low-usage', limit: '31', params: { window: 'billing-period' } })
    for (let d = 0; d < 30; d++) await f.block(channelId, DAY + d, [1000], { intervalS: 86_400 })
    await settle(accountId, [DAY])
    expect(await alerts(id)).toEqual([])
    await f.block(channelId, DAY + 30, [999], { intervalS: 86_400 })
    await settle(accountId, [DAY + 30])
    expect(await alerts(id)).toMatchObject([{ value: '30.999', state: 'raised' }])
  })
})

describe('an unusual day', () => {
  it('is told with what it was compared with, and is judged anew when those days change', async () => {
    const { accountId, channelId } = await house(86_400)
    const id = await f.threshold(accountId, { kind: 'unusual', limit: null })
    const week = [10, 12, 11, 10, 13, 11, 12, 10]
    for (const [i, kwh] of week.entries()) await f.block(channelId, DAY - 7 * (i + 1), [kwh * 1000], { intervalS: 86_400 })
    await f.block(channelId, DAY, [15_000], { intervalS: 86_400 })
    await settle(accountId, [DAY])
    // Median 11, median absolute deviation 1: 30 % above is 14.3, three deviations above is 14.
    expect(await alerts(id)).toMatchObject([{ value: '15', limit_value: '14.3', state: 'raised', detail: { median: 11, mad: 1, usual: { value: '11', days: 8 } } }])
    for (const i of [0, 1, 2, 3]) await f.block(channelId, DAY - 7 * (i + 1), [20_000], { intervalS: 86_400 })
    await settle(accountId, [DAY - 7, DAY - 14, DAY - 21, DAY - 28])
    expect((await alerts(id)).find((a) => a.start.startsWith('2026-10-01'))).toMatchObject({ state: 'retracted' })
  })

  it('is none where there is too little to compare with', async () => {
    const { accountId, channelId } = await house(86_400)
    const id = await f.threshold(accountId, { kind: 'unusual', limit: null })
    for (let i = 1; i < 4; i++) await f.block(channelId, DAY - 7 * i, [1000], { intervalS: 86_400 })
    await f.block(channelId, DAY, [90_000], { intervalS: 86_400 })
    await settle(accountId, [DAY])
    expect(await alerts(id)).toEqual([])
  })
})

describe('a projected-usage threshold', () => {
  it('fires once, with a range, not in the first week and not in the last two days', async () => {
    const { accountId, channelId } = await house(86_400)
    const id = await f.threshold(accountId, { kind: 'projected-usage', limit: '600' })
    for (let d = DAY - 28; d < DAY; d++) await f.block(channelId, d, [20_000], { intervalS: 86_400 })
    await settle(accountId, Array.from({ length: 28 }, (_, i) => DAY - 28 + i))
    for (let d = DAY; d < DAY + 6; d++) {
      nowMs = (f.zone.dayStart(d + 1) + 7200) * 1000
      await f.block(channelId, d, [20_000], { intervalS: 86_400 })
      await settle(accountId, [d])
    }
    expect(await alerts(id)).toEqual([])
    nowMs = (f.zone.dayStart(DAY + 7) + 7200) * 1000
    await f.block(channelId, DAY + 6, [26_000], { intervalS: 86_400 })
    await settle(accountId, [DAY + 6])
    // 6 x 20 + 26 so far; 24 days to come at about 20 kWh.
    const [first, ...others] = (await alerts(id)).filter((a) => a.start.startsWith('2026-10'))
    expect(others).toEqual([])
    expect(first).toMatchObject({ state: 'raised', crossed: '2026-10-08T05:00', detail: { toDate: 146, throughDay: '2026-10-07', range: {} } })
    // Later days that suggest less do not take it back: it was told what was known then.
    for (let d = DAY + 7; d < DAY + 12; d++) await f.block(channelId, d, [1000], { intervalS: 86_400 })
    nowMs = (f.zone.dayStart(DAY + 12) + 7200) * 1000
    await settle(accountId, [DAY + 7, DAY + 8, DAY + 9, DAY + 10, DAY + 11])
    expect((await alerts(id)).filter((a) => a.start.startsWith('2026-10'))).toMatchObject([{ state: 'raised', steps: 1 }])
  })
})

describe('estimates', () => {
  it('that the engine made raise nothing, unless the utility says so; a source\'s own do', async () => {
    const { accountId, channelId } = await house()
    const id = await f.threshold(accountId, { limit: '20' })
    const engineMade = 1 | (2 << 3)
    await f.block(channelId, DAY, hours(1000), { intervalS: 3600, lane: [...new Array<number>(18).fill(0), ...new Array<number>(6).fill(engineMade)] })
    await settle(accountId, [DAY])
    expect(await alerts(id)).toEqual([])
    await f.block(channelId, DAY, hours(1000), { intervalS: 3600, lane: [...new Array<number>(18).fill(0), ...new Array<number>(6).fill(1)] })
    await settle(accountId, [DAY])
    expect(await alerts(id)).toMatchObject([{ state: 'raised', value: '24' }])
    await f.block(channelId, DAY + 1, hours(1000), { intervalS: 3600, lane: new Array<number>(24).fill(engineMade) })
    await settle(accountId, [DAY + 1])
    expect(await alerts(id)).toMatchObject([{ value: '24' }])
    // What is held is judged anew when the utility changes its mind, without new reads.
    const { rows: [{ id: utility }] } = await db.pool.query<{ id: string }>('select id from utility where utility_id = $1', [f.utilityId])
    const say = async (alertOnEstimates: boolean): Promise<void> => {
      await putUtility(db.pool, utility, { alertOnEstimates }, { actor: 'test', now: new Date(nowMs) })
      await sweep()
    }
    await say(true)
    expect(await alerts(id)).toMatchObject([{ value: '24' }, { value: '24', state: 'raised' }])
    await say(false)
    expect(await alerts(id)).toMatchObject([{ state: 'raised' }, { value: '0', state: 'retracted' }])
  })
})
