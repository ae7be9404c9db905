import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { alertFixture, sealer, secrets, type AlertFixture } from '../../test/alert-fixture.js'
import { takeAnyDay, testDatabase, type TestDatabase } from '../../test/database.js'
import { inTransaction } from '../store/db.js'
import type { MessageContent } from '../notify/content.js'
import { dayNumber } from '../time/text.js'
import { evaluateThresholds, reevaluateAccounts, type EvaluationResult } from './evaluate.js'

const NOW = new Date('2026-10-03T12:00:00Z')
const DAY = dayNumber('2026-10-01')

let db: TestDatabase
let f: AlertFixture

beforeAll(async () => {
  db = await testDatabase()
  // Days of these tests lie in months of their own: one partition for all of them.
  await takeAnyDay(db)
})
afterAll(async () => db.close())
beforeEach(async () => {
  f = await alertFixture(db.pool)
})

async function evaluate(accountId: number, days: number[], options: { history?: boolean; deliveryId?: string; now?: Date } = {}): Promise<EvaluationResult> {
  return inTransaction(db.pool, async (client) => {
    await client.query('select 1 from account where account_id = $1 for no key update', [accountId])
    return evaluateThresholds(client, {
      utilityId: f.utilityId, zone: f.zone, days: new Map([[accountId, days]]), history: options.history ?? false,
      deliveryId: options.deliveryId ?? null, now: options.now ?? NOW, secrets,
    })
  })
}

interface Alert {
  alert_id: string
  state: string
  step: number
  value: string
  limit_value: string
  version: number
  period_start: Date
  period_end: Date
  crossed_at: Date | null
  expected: number
  present: number
  estimated: number
  history: { state: string; at: string; delivery: string | null; value: number }[]
}

async function alerts(thresholdId: string): Promise<Alert[]> {
  const { rows } = await db.pool.query<Alert>('select * from alert where threshold_id = $1 order by version, period_start', [thresholdId])
  return rows
}

async function messages(contactId: string): Promise<{ message_id: string; purpose: string; state: string; alert_step: number; content: MessageContent }[]> {
  const { rows } = await db.pool.query<{ message_id: string; purpose: string; state: string; alert_step: number; body_enc: Buffer }>(
    'select message_id, purpose, state, alert_step, body_enc from message where contact_id = $1 order by alert_step', [contactId])
  return rows.map(({ body_enc: sealed, ...rest }) => ({
    ...rest, content: JSON.parse(sealer.open('message', rest.message_id, sealed)) as MessageContent,
  }))
}

const quarters = (mantissa: number, count = 96): number[] => new Array<number>(count).fill(mantissa)

describe('a day-usage threshold', () => {
  it('raises one alert when the day passes the limit, and tells each active contact once', async () => {
    const { accountId } = await f.account({ nickname: 'Lake cabin' })
    const { channelId } = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId)
    const active = await f.contact(accountId)
    const pending = await f.contact(accountId, { state: 'pending' })
    const stopped = await f.contact(accountId, { state: 'stopped' })
    await f.block(channelId, DAY, quarters(1000))
    const deliveryId = randomUUID()

    expect(await evaluate(accountId, [DAY], { deliveryId })).toMatchObject({ raised: 1, retracted: 0, messages: 1 })
    expect(await evaluate(accountId, [DAY])).toMatchObject({ raised: 0, retracted: 0, messages: 0 })

    const [alert, ...others] = await alerts(thresholdId)
    expect(others).toEqual([])
    expect(alert).toMatchObject({ state: 'raised', step: 1, value: '96', limit_value: '60', version: 1, expected: 96, present: 96, estimated: 0 })
    expect(alert.period_start.toISOString()).toBe('2026-10-01T05:00:00.000Z')
    expect(alert.period_end.toISOString()).toBe('2026-10-02T05:00:00.000Z')
    // 60 quarter-hours of 1 kWh are not above 60; the 61st is, at its end.
    expect(alert.crossed_at?.toISOString()).toBe('2026-10-01T20:15:00.000Z')
    expect(alert.history).toMatchObject([{ state: 'raised', delivery: deliveryId, value: 96 }])
    const [message, ...more] = await messages(active)
    expect(more).toEqual([])
    expect(message).toMatchObject({ purpose: 'alert', state: 'pending', alert_step: 1 })
    expect(message.content).toMatchObject({ t: 'alert', alert: {
      account: 'Lake cabin', kind: 'day-usage', limit: '60', value: '96', crossedAtS: Date.parse('2026-10-01T20:15:00Z') / 1000, expected: 96, present: 96 } })
    expect([...await messages(pending), ...await messages(stopped)]).toEqual([])
  })

  it('stands above the limit, not at it, to the last decimal', async () => {
    const { accountId } = await f.account()
    const { channelId } = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId, { limit: '9.6' })
    await f.block(channelId, DAY, quarters(100))
    expect(await evaluate(accountId, [DAY])).toMatchObject({ raised: 0 })
    await f.block(channelId, DAY, [100_000_001, ...new Array<number>(95).fill(100_000_000)], { exponent: -9 })
    expect(await evaluate(accountId, [DAY])).toMatchObject({ raised: 1 })
    expect(await alerts(thresholdId)).toMatchObject([{ value: '9.600000001', crossed_at: new Date('2026-10-02T05:00:00Z') }])
  })

  it('sums the meters of the account, blocks of different decimals and a meter exchange at noon', async () => {
    const { accountId } = await f.account()
    const old = await f.meter(accountId, { toAt: '2026-10-01T17:00:00Z' })
    const fresh = await f.meter(accountId, { fromAt: '2026-10-01T17:00:00Z' })
    const second = await f.meter(accountId, { intervalS: 3600 })
    const thresholdId = await f.threshold(accountId, { limit: '10' })
    // The old meter's afternoon and the new one's morning are somebody else's.
    await f.block(old.channelId, DAY, quarters(100))
    await f.block(fresh.channelId, DAY, quarters(10), { exponent: -2 })
    await f.block(second.channelId, DAY, quarters(1, 24), { exponent: 0, intervalS: 3600 })
    await evaluate(accountId, [DAY])
    // 48 x 0.1 + 48 x 0.1 + 24 x 1
    expect(await alerts(thresholdId)).toMatchObject([{ value: '33.6', expected: 48 + 48 + 24, present: 48 + 48 + 24 }])
  })

  it('judges one meter alone where the threshold names it', async () => {
    const { accountId } = await f.account()
    const one = await f.meter(accountId)
    const two = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId, { limit: '50', meterId: one.meterId })
    await f.block(one.channelId, DAY, quarters(500))
    await f.block(two.channelId, DAY, quarters(500))
    expect(await evaluate(accountId, [DAY])).toMatchObject({ raised: 0 })
    await f.block(one.channelId, DAY, quarters(600))
    await evaluate(accountId, [DAY])
    expect(await alerts(thresholdId)).toMatchObject([{ value: '57.6' }])
  })

  it('judges only days that end after it was made', async () => {
    const { accountId } = await f.account()
    const { channelId } = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId, { from: new Date('2026-10-02T05:00:00Z') })
    await f.block(channelId, DAY, quarters(1000))
    await f.block(channelId, DAY + 1, quarters(1000))
    expect(await evaluate(accountId, [DAY, DAY + 1])).toMatchObject({ raised: 1 })
    expect((await alerts(thresholdId)).map((a) => a.period_start.toISOString())).toEqual(['2026-10-02T05:00:00.000Z'])
  })

  it('follows the local day over a clock change: 100 quarter-hours', async () => {
    const { accountId } = await f.account()
    const { channelId } = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId, { limit: '99' })
    const day = dayNumber('2026-11-01')
    await f.block(channelId, day, quarters(1000, 100))
    await evaluate(accountId, [day], { now: new Date('2026-11-03T00:00:00Z') })
    expect(await alerts(thresholdId)).toMatchObject([{ value: '100', expected: 100, crossed_at: new Date('2026-11-02T06:00:00Z') }])
  })

  it('counts a daily read at the end of its day', async () => {
    const { accountId } = await f.account()
    const { channelId } = await f.meter(accountId, { intervalS: 86400 })
    const thresholdId = await f.threshold(accountId)
    await f.block(channelId, DAY, [61_000], { intervalS: 86400 })
    await evaluate(accountId, [DAY])
    expect(await alerts(thresholdId)).toMatchObject([{ value: '61', expected: 1, present: 1, crossed_at: new Date('2026-10-02T05:00:00Z') }])
  })
})

describe('a correction', () => {
  it('retracts the alert, drops what was not sent, and tells nobody who was not told', async () => {
    const { accountId } = await f.account()
    const { channelId } = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId)
    const contact = await f.contact(accountId)
    await f.block(channelId, DAY, quarters(1000))
    await evaluate(accountId, [DAY])
    await f.block(channelId, DAY, quarters(100))
    expect(await evaluate(accountId, [DAY])).toMatchObject({ raised: 0, retracted: 1, messages: 0 })
    expect(await alerts(thresholdId)).toMatchObject([{ state: 'retracted', step: 2, value: '9.6', history: [{ state: 'raised' }, { state: 'retracted', value: 9.6 }] }])
    expect(await messages(contact)).toMatchObject([{ purpose: 'alert', state: 'dropped' }])
  })

  it.each(['sent', 'captured', 'unknown'])('is told to whom the alert was %s', async (state) => {
    const { accountId } = await f.account()
    const { channelId } = await f.meter(accountId)
    await f.threshold(accountId)
    const contact = await f.contact(accountId)
    const other = await f.contact(accountId)
    await f.block(channelId, DAY, quarters(1000))
    await evaluate(accountId, [DAY])
    await db.pool.query('update message set state = $2 where contact_id = $1', [contact, state])
    await f.block(channelId, DAY, quarters(100))
    expect(await evaluate(accountId, [DAY])).toMatchObject({ raised: 0, retracted: 1, messages: 1 })
    expect(await messages(contact)).toMatchObject([{ purpose: 'alert', state }, { purpose: 'correction', state: 'pending', alert_step: 2 }])
    expect(await messages(other)).toMatchObject([{ purpose: 'alert', state: 'dropped' }])
  })

  it('that is itself undone before it went out leaves the first message true', async () => {
    const { accountId } = await f.account()
    const { channelId } = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId)
    const contact = await f.contact(accountId)
    await f.block(channelId, DAY, quarters(1000))
    await evaluate(accountId, [DAY])
    await db.pool.query(`update message set state = 'sent' where contact_id = $1`, [contact])
    await f.block(channelId, DAY, quarters(100))
    await evaluate(accountId, [DAY])
    await f.block(channelId, DAY, quarters(900))
    expect(await evaluate(accountId, [DAY])).toMatchObject({ raised: 1, retracted: 0, messages: 0 })
    expect(await alerts(thresholdId)).toMatchObject([{ state: 'raised', step: 3, value: '86.4' }])
    expect(await messages(contact)).toMatchObject([{ state: 'sent' }, { purpose: 'correction', state: 'dropped' }])
  })

  it('that went out is followed by a new message when the day passes the limit again', async () => {
    const { accountId } = await f.account()
    const { channelId } = await f.meter(accountId)
    await f.threshold(accountId)
    const contact = await f.contact(accountId)
    const values = [1000, 100, 900]
    for (const value of values) {
      await f.block(channelId, DAY, quarters(value))
      await evaluate(accountId, [DAY])
      await db.pool.query(`update message set state = 'sent' where contact_id = $1`, [contact])
    }
    expect((await messages(contact)).map((m) => `${m.alert_step} ${m.purpose}`)).toEqual(['1 alert', '2 correction', '3 alert'])
  })

  it('that leaves the day above the limit moves the value and tells nobody', async () => {
    const { accountId } = await f.account()
    const { channelId } = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId)
    const contact = await f.contact(accountId)
    await f.block(channelId, DAY, quarters(1000, 70))
    await evaluate(accountId, [DAY])
    await f.block(channelId, DAY, quarters(900), { lane: [1, 1, ...new Array<number>(94).fill(0)] })
    expect(await evaluate(accountId, [DAY])).toMatchObject({ raised: 0, retracted: 0, messages: 0 })
    expect(await alerts(thresholdId)).toMatchObject([{ value: '86.4', step: 1, present: 96, estimated: 2 }])
    expect(await messages(contact)).toHaveLength(1)
  })

  it('of an earlier version of the threshold takes its alert back too', async () => {
    const { accountId } = await f.account()
    const { channelId } = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId)
    await f.block(channelId, DAY, quarters(1000))
    await evaluate(accountId, [DAY])
    await db.pool.query(`update threshold set limit_value = 80, version = 2, version_from = '2026-10-05T00:00:00Z' where threshold_id = $1`, [thresholdId])
    await f.block(channelId, DAY, quarters(700))
    await evaluate(accountId, [DAY])
    expect(await alerts(thresholdId)).toMatchObject([{ version: 1, state: 'raised', value: '67.2' }])
    await f.block(channelId, DAY, quarters(100))
    await evaluate(accountId, [DAY])
    expect(await alerts(thresholdId)).toMatchObject([{ version: 1, state: 'retracted' }])
    await f.block(channelId, DAY, quarters(700))
    await evaluate(accountId, [DAY])
    expect(await alerts(thresholdId)).toMatchObject([{ version: 1, state: 'retracted' }])
  })
})

describe('a history load', () => {
  it('raises nothing, and retracts what its values take away', async () => {
    const { accountId } = await f.account()
    const { channelId } = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId)
    await f.block(channelId, DAY, quarters(1000))
    expect(await evaluate(accountId, [DAY], { history: true })).toMatchObject({ raised: 0 })
    expect(await alerts(thresholdId)).toEqual([])
    await evaluate(accountId, [DAY])
    await f.block(channelId, DAY, quarters(100))
    expect(await evaluate(accountId, [DAY], { history: true })).toMatchObject({ retracted: 1 })
  })
})

describe('a period-usage threshold', () => {
  it('adds up the billing period of the touched day and finds the interval that passed the limit', async () => {
    const { accountId } = await f.account({ billingDay: 15 })
    const { channelId } = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId, { kind: 'period-usage', limit: '200' })
    const start = dayNumber('2026-09-15')
    // The day before the period does not count.
    await f.block(channelId, start - 1, quarters(1000))
    await f.block(channelId, start, quarters(1000))
    await f.block(channelId, start + 1, quarters(1000))
    expect(await evaluate(accountId, [start - 1, start, start + 1])).toMatchObject({ raised: 0 })
    await f.block(channelId, start + 2, quarters(1000))
    expect(await evaluate(accountId, [start + 2])).toMatchObject({ raised: 1 })
    // 8 kWh of the third day are not above 200; the 9th is.
    expect(await alerts(thresholdId)).toMatchObject([{
      value: '288', period_start: new Date('2026-09-15T05:00:00Z'), period_end: new Date('2026-10-15T05:00:00Z'),
      crossed_at: new Date('2026-09-17T07:15:00Z'), present: 288,
    }])
  })

  it('follows explicit billing periods', async () => {
    const { accountId } = await f.account({ billingDay: 15 })
    const { channelId } = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId, { kind: 'period-usage', limit: '10' })
    await db.pool.query(`insert into billing_period values ($1, '2026-09-20', '2026-10-03')`, [accountId])
    await f.block(channelId, DAY, quarters(1000))
    await evaluate(accountId, [DAY])
    expect(await alerts(thresholdId)).toMatchObject([{ period_start: new Date('2026-09-20T05:00:00Z'), period_end: new Date('2026-10-03T05:00:00Z') }])
  })
})

describe('a registry change', () => {
  const reevaluate = (accountId: number, options: { fromDay?: number; now?: Date } = {}): Promise<EvaluationResult> =>
    inTransaction(db.pool, (client) => reevaluateAccounts(client, {
      utilityId: f.utilityId, zone: f.zone, accountIds: [accountId], deliveryId: null, secrets, now: options.now ?? NOW, fromDay: options.fromDay,
    }))

  it('that takes a meter away retracts its alerts, past ones too', async () => {
    const { accountId } = await f.account()
    const { channelId, meterId } = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId)
    await f.block(channelId, DAY, quarters(1000))
    await evaluate(accountId, [DAY])
    await db.pool.query('delete from meter_assignment where meter_id = $1', [meterId])
    expect(await reevaluate(accountId)).toMatchObject({ retracted: 1 })
    expect(await alerts(thresholdId)).toMatchObject([{ state: 'retracted', value: '0' }])
  })

  it('judges from its first day on', async () => {
    const { accountId } = await f.account()
    const { channelId } = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId)
    await f.block(channelId, DAY, quarters(1000))
    expect(await reevaluate(accountId)).toMatchObject({ raised: 0 })
    expect(await reevaluate(accountId, { fromDay: DAY })).toMatchObject({ raised: 1 })
    expect(await alerts(thresholdId)).toHaveLength(1)
  })

  it('of the billing day moves the running period, and leaves finished ones as they were told', async () => {
    const { accountId } = await f.account({ billingDay: 1 })
    const { channelId } = await f.meter(accountId)
    const thresholdId = await f.threshold(accountId, { kind: 'period-usage', limit: '50' })
    await f.block(channelId, dayNumber('2026-09-05'), quarters(1000))
    await f.block(channelId, DAY, quarters(1000))
    await evaluate(accountId, [dayNumber('2026-09-05'), DAY])
    expect(await alerts(thresholdId)).toHaveLength(2)
    await db.pool.query('update account set billing_day = 20 where account_id = $1', [accountId])
    await reevaluate(accountId)
    expect((await alerts(thresholdId)).map((a) => `${a.period_start.toISOString().slice(0, 10)} ${a.state}`)).toEqual([
      '2026-09-01 raised', '2026-09-20 raised', '2026-10-01 retracted',
    ])
  })
})

describe('two accounts and many thresholds', () => {
  it('are judged apart, by a fixed number of statements', async () => {
    const made: number[] = []
    for (let i = 0; i < 12; i++) {
      const { accountId } = await f.account()
      const { channelId } = await f.meter(accountId)
      await f.threshold(accountId, { limit: i % 2 === 0 ? '10' : '1000' })
      await f.threshold(accountId, { kind: 'period-usage', limit: '15' })
      await f.contact(accountId)
      await f.block(channelId, DAY, quarters(200))
      made.push(accountId)
    }
    const statements: string[] = []
    const result = await inTransaction(db.pool, (client) => {
      const counting = new Proxy(client, {
        get: (target, name, receiver) => name === 'query'
          ? (...args: [string, unknown[]]) => {
              statements.push(args[0])
              return target.query(...args)
            }
          : Reflect.get(target, name, receiver) as unknown,
      })
      return evaluateThresholds(counting, {
        utilityId: f.utilityId, zone: f.zone, days: new Map(made.map((id) => [id, [DAY]])), history: false, deliveryId: null, now: NOW, secrets,
      })
    })
    expect(result).toMatchObject({ raised: 18, retracted: 0, messages: 18 })
    expect(statements.length).toBeLessThanOrEqual(12)
  })
})
