import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { editFlagged } from '../../engine/estimate/edit.js'
import { veeTurn } from '../../engine/estimate/turn.js'
import { dayNumber } from '../../engine/time/text.js'
import { testServer, type TestServer } from '../../test/api-server.js'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { testUtility, type TestUtility } from '../../test/settling.js'

const FIRST = dayNumber('2026-10-15')
const BAD = dayNumber('2026-11-18')
const SPIKE_AT = '2026-11-18T10:00:00-06:00'

let db: TestDatabase
let server: TestServer
let u: TestUtility
let meter: string
let utility: string
let operator: string

const wh = (day: number, i: number): number => (i >= 24 && i < 88 ? 400 : 200) + (i * 7 + day * 13) % 23

async function turns(): Promise<void> {
  for (let more = true; more;) {
    u.clock.nowMs += 1000
    more = (await veeTurn(db.pool, u.settler, u.utilityId, u.clock.nowMs)).more
  }
}

beforeAll(async () => {
  db = await testDatabase()
  u = await testUtility(db.pool)
  server = testServer(db.pool, { context: {
    now: () => u.clock.nowMs, edit: (edit) => editFlagged(db.pool, u.settler, edit, u.clock.nowMs) } })
  const { rows } = await db.pool.query<{ id: string }>('select id from utility where utility_id = $1', [u.utilityId])
  utility = rows[0].id
  operator = await server.key(utility, 'operator', { name: 'ops' })
  meter = await u.meter()
  for (let d = FIRST; d <= BAD + 1; d++) {
    const slots = (u.zone.dayStart(d + 1) - u.zone.dayStart(d)) / 900
    const values = Array.from({ length: slots }, (_, i) => d === BAD && i === 40 ? 20_000 : d === BAD + 1 && i < 4 ? null : wh(d, i))
    await u.settle([{ meter, start: u.zone.dayStart(d), values }])
  }
  await turns()
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})

interface Item { id: number; rule: string; day: string; intervals: { start: string; count: number }[] }

async function list(query = ''): Promise<Item[]> {
  const answer = await server.call(operator, 'GET', `/v1/exceptions${query}`)
  expect(answer.statusCode, answer.body).toBe(200)
  return answer.json<{ items: Item[] }>().items
}

describe('the queue of exceptions', () => {
  it('lists what was found, by rule, severity, meter and day, with figures and parameters', async () => {
    const all = await list()
    expect(all.map((i) => `${i.day} ${i.rule}`).sort()).toEqual(
      ['2026-11-18 high-physical', '2026-11-18 max-history', '2026-11-18 spike', '2026-11-19 gap'].filter((x) => !x.includes('physical')))
    expect(await list(`?rule=spike&meter=${meter}&from=2026-11-18&to=2026-11-19&severity=warning`)).toMatchObject([{
      meter, flow: 'delivered', intervals: [{ start: SPIKE_AT, count: 1 }], inputs: { highest: 20 }, parameters: { ratio: 1.8 }, ruleSet: 0, state: 'open' }])
    expect(await list('?severity=exception')).toEqual([])
    const first = await server.call(operator, 'GET', '/v1/exceptions?limit=2')
    const { items, next } = first.json<{ items: Item[]; next: string }>()
    expect([...items, ...await list(`?cursor=${next}`)]).toEqual(all)
  })

  it('explains a read by the rule and its parameters, and what estimation rests on', async () => {
    const explained = (await server.call(operator, 'GET', `/v1/meters/${meter}/explain?at=${encodeURIComponent(SPIKE_AT)}`)).json<Record<string, unknown>>()
    expect(explained).toMatchObject({ value: 20, estimate: null, findings: [{ rule: 'spike', parameters: { ratio: 1.8 }, inputs: { highest: 20 } }, { rule: 'max-history' }] })
    expect(explained.flags).toBe(1 << 2 | 1 << 7)
    expect((await server.call(operator, 'PUT', '/v1/vee/rules', { estimation: { enabled: true } })).json()).toMatchObject({ version: 1, inForce: { estimation: { enabled: true, linearHours: 2 } } })
    await turns()
    const filled = await server.call(operator, 'GET', `/v1/meters/${meter}/explain?at=${encodeURIComponent('2026-11-19T00:30:00-06:00')}`)
    expect(filled.json()).toMatchObject({ quality: 'estimated', method: 'linear', estimate: { methods: ['linear'], ruleSet: 1 }, delivery: { kind: 'estimate', source: 'meterline', edit: null } })
    expect((await list()).map((i) => i.rule)).not.toContain('gap')
  })

  it('lets an operator accept, estimate and edit, with a reason that explain and the audit show', async () => {
    const [spike] = await list('?rule=spike')
    const [peak] = await list('?rule=max-history')
    expect((await server.call(operator, 'POST', `/v1/exceptions/${peak.id}/accept`, { reason: 'a welder' })).statusCode).toBe(200)
    expect(await list('?rule=max-history')).toEqual([])
    expect(await list('?rule=max-history&state=accepted')).toMatchObject([{ decidedBy: 'key:ops', reason: 'a welder' }])
    const estimated = await server.call(operator, 'POST', `/v1/exceptions/${spike.id}/estimate`, { reason: 'no such load' })
    expect(estimated.json()).toMatchObject({ received: 1, corrected: 1 })
    u.clock.nowMs += 1000
    const edited = await server.call(operator, 'POST', `/v1/exceptions/${spike.id}/edit`, { reason: 'read off the display', values: [{ start: SPIKE_AT, value: 0.417 }] })
    expect(edited.json()).toMatchObject({ received: 1, corrected: 1, alerts: { raised: 0 } })
    await turns()
    expect(await list('?state=all')).toEqual([])
    const explained = await server.call(operator, 'GET', `/v1/meters/${meter}/explain?at=${encodeURIComponent(SPIKE_AT)}`)
    expect(explained.json()).toMatchObject({
      value: 0.417, quality: 'edited', findings: [], delivery: { kind: 'edit', edit: { by: 'key:ops', reason: 'read off the display' } },
      history: [{ quality: 'edited', method: 'linear', delivery: { edit: { reason: 'no such load' } } }, { value: 20, delivery: { kind: 'push', edit: null } }] })
    const audit = (await server.call(operator, 'GET', '/v1/audit')).json<{ items: { action: string }[] }>()
    expect(audit.items.map((i) => i.action)).toEqual(expect.arrayContaining(['exception.accept', 'exception.estimate', 'exception.edit', 'vee-rules.change']))
  })

  it('refuses what it cannot do, and knows nothing of another utility', async () => {
    const status = async (key: string, url: string, body: unknown): Promise<[number, string]> => {
      const answer = await server.call(key, 'POST', url, body)
      return [answer.statusCode, answer.json<{ code: string }>().code]
    }
    await u.settle([{ meter, start: u.zone.dayStart(BAD) + 50 * 900, values: [25_000], quality: 'validated' }])
    await turns()
    const [spike] = await list('?rule=spike')
    const other = await server.key('another', 'operator')
    expect(await status(other, `/v1/exceptions/${spike.id}/accept`, { reason: 'x' })).toEqual([404, 'exception-not-found'])
    expect(await status(other, `/v1/exceptions/${spike.id}/edit`, { reason: 'x', values: [{ start: SPIKE_AT, value: 1 }] })).toEqual([404, 'exception-not-found'])
    expect(await status(operator, `/v1/exceptions/${spike.id}/edit`, { reason: 'x', values: [{ start: '2026-11-19T00:00:00-06:00', value: 1 }] })).toEqual([422, 'edit-outside-day'])
    expect(await status(operator, `/v1/exceptions/${spike.id}/edit`, { reason: '', values: [{ start: SPIKE_AT, value: 1 }] })).toEqual([422, 'invalid-request'])
    for (const role of ['portal', 'head-end', 'viewer'] as const) {
      expect((await status(await server.key(utility, role), `/v1/exceptions/${spike.id}/accept`, { reason: 'x' }))[0]).toBe(403)
    }
    for (const wrong of [{ rules: { spike: { ratio: 'high' } } }, { rules: { spikes: {} } }, { estimation: { linearHours: -1 } }]) {
      expect((await server.call(operator, 'PUT', '/v1/vee/rules', wrong)).statusCode).toBe(422)
    }
    expect((await server.call(operator, 'GET', '/v1/vee/rules')).json()).toMatchObject({ version: 1 })
  })
})
