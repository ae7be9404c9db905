import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ensurePartitions, monthOfInstant } from '../../engine/store/storage.js'
import { dayNumber, parseInstant } from '../../engine/time/text.js'
import { testServer, type TestServer } from '../../test/api-server.js'
import { feedCaughtUp } from '../../test/change-feed.js'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { UsageFixture } from '../../test/usage-fixture.js'
import { changeRoutes } from './changes.js'
import { completenessRoutes } from './completeness.js'
import { explainRoutes } from './explain.js'
import { summaryRoutes } from './summary.js'
import { systemLoadRoutes } from './system-load.js'
import { tokenRoutes } from './tokens.js'

const NOW = parseInstant('2026-11-10T12:00:00-06:00')!

let db: TestDatabase
let server: TestServer
let nowS = NOW

beforeAll(async () => {
  db = await testDatabase()
  server = testServer(db.pool, {
    routes: [summaryRoutes, changeRoutes, completenessRoutes, systemLoadRoutes, explainRoutes, tokenRoutes],
    context: { now: () => nowS * 1000 },
  })
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})

const fill = (n: number, value: number | null = 100): (number | null)[] => new Array<number | null>(n).fill(value)

async function home(fromText = '2024-01-01T00:00:00-06:00') {
  const fixture = await UsageFixture.make(db.pool, 'America/Chicago')
  const { accountId, account } = await fixture.account({ billingDay: 1, groups: { substation: 'S1' } })
  const meter = await fixture.meter()
  await fixture.assign(meter.meterId, accountId, parseInstant(fromText)!)
  const channel = await fixture.channel(meter, 1, 900)
  const key = await server.key(fixture.utility, 'portal')
  const get = async <T = Record<string, unknown>>(url: string, status = 200): Promise<T> => {
    const answer = await server.call(key, 'GET', url)
    expect(answer.statusCode, answer.body).toBe(status)
    return answer.json<T>()
  }
  return { fixture, accountId, account, meter, channel, key, get, dayS: (day: string) => fixture.zone.dayStart(dayNumber(day)) }
}

async function memberOf(h: { key: string; account: string }): Promise<string> {
  const minted = await server.call(h.key, 'POST', '/v1/tokens', { accounts: [h.account], ttlSeconds: 600 })
  return minted.json<{ token: string }>().token
}

describe('summaries', () => {
  it('tell the period to date, yesterday, today and a year ago', async () => {
    const h = await home()
    await h.fixture.settle(h.channel, { startS: h.dayS('2025-11-01'), values: fill(100 + 96 * 20, 1000) }, NOW)
    await h.fixture.settle(h.channel, { startS: h.dayS('2026-11-01'), values: fill(100 + 96 * 8 + 8, 500) }, NOW)
    const summary = await h.get(`/v1/accounts/${h.account}/summary`)
    expect(summary).toMatchObject({
      account: h.account,
      period: {
        start: '2026-11-01T00:00:00-05:00', end: '2026-12-01T00:00:00-06:00', periodSource: 'billingDay',
        total: { delivered: 438, received: null, net: null }, expected: 868, present: 868, missing: 0,
      },
      yesterday: { start: '2026-11-09T00:00:00-06:00', total: { delivered: 48 }, present: 96 },
      today: { total: { delivered: 4 }, expected: 0 },
      lastYear: {
        start: '2025-11-01T00:00:00-05:00', total: { delivered: 2020 }, reason: null,
        toDate: { end: '2025-11-10T00:00:00-06:00', total: { delivered: 868 } },
      },
      dataThrough: '2026-11-10T02:00:00-06:00', expectedThrough: '2026-11-10T00:00:00-06:00',
      // Nine days, of 48 kWh but for the Sunday of 25 hours; then 15 working days of 48 and 6 of weekends, of 48.667 (48 to 49).
      projection: { value: 1446, low: 1442, high: 1448, toDate: 434, through: '2026-11-10T00:00:00-06:00', daysProjected: 21, basedOnDays: 9 },
    })
    const other = await home()
    const many = await server.call(h.key, 'POST', '/v1/summaries', { accounts: [h.account, 'nobody', other.account] })
    expect(many.json()).toMatchObject({ items: [summary], notFound: ['nobody'] })
    const own = await server.call(await memberOf(h), 'POST', '/v1/summaries', { accounts: [h.account, 'a9'] })
    expect(own.json()).toMatchObject({ items: [summary], notFound: ['a9'] })
  })

  it('project the period from complete days alone, never from those of whoever was served before', async () => {
    const h = await home('2026-11-04T00:00:00-06:00')
    await h.fixture.settle(h.channel, { startS: h.dayS('2026-10-10'), values: fill(96 * 25 + 4, 9000) }, NOW)
    await h.fixture.settle(h.channel, { startS: h.dayS('2026-11-04'), values: fill(96 * 6, 500) }, NOW)
    // Six complete days say nothing; a seventh in the time before is somebody else's.
    expect(await h.get(`/v1/accounts/${h.account}/summary`)).toMatchObject({ yesterday: { missing: 0 }, projection: null })
    const g = await home()
    await g.fixture.settle(g.channel, { startS: g.dayS('2026-10-20'), values: fill(96 * 20 + 4, 500) }, NOW)
    await g.fixture.settle(g.channel, { startS: g.dayS('2026-11-09'), values: fill(90, 500) }, NOW)
    // Yesterday lacks reads: it is projected like the days to come.
    expect(await g.get(`/v1/accounts/${g.account}/summary`)).toMatchObject({
      projection: { through: '2026-11-09T00:00:00-06:00', toDate: 386, daysProjected: 22, basedOnDays: 20 } })
  })

  it('tell nothing of a year in which somebody else was served', async () => {
    const h = await home('2026-02-01T12:00:00-06:00')
    await h.fixture.settle(h.channel, { startS: h.dayS('2025-11-01'), values: fill(96) }, NOW)
    expect(await h.get(`/v1/accounts/${h.account}/summary`)).toMatchObject({
      period: { total: { delivered: null } }, lastYear: { total: null, toDate: null, reason: 'outside-occupancy' }, dataThrough: null, projection: null })
  })
})

interface Changes { items: { account: string; day: string; restated: boolean }[]; next: string; more: boolean }

describe('the change feed', () => {
  const put = (utilityId: number, day: string, accountIds: number[], client: { query: TestDatabase['pool']['query'] } = db.pool) => client.query(
    'insert into change (utility_id, day, restated, account_ids, delivery_no) values ($1, $2, false, $3, 1)', [utilityId, day, accountIds])

  it('skips nobody who commits late, and tells nothing twice', async () => {
    const h = await home()
    const seen: string[] = []
    let cursor = (await h.get<Changes>('/v1/changes?since=now')).next
    const follow = async (): Promise<void> => {
      for (let more = true; more;) {
        const page = await h.get<Changes>(`/v1/changes?limit=2&since=${cursor}`)
        seen.push(...page.items.map((i) => i.day))
        cursor = page.next
        more = page.more
      }
    }
    const late = await db.pool.connect()
    await late.query('begin')
    await put(h.fixture.utilityId, '2026-10-01', [h.accountId], late)
    await put(h.fixture.utilityId, '2026-10-02', [h.accountId, h.accountId, h.accountId])
    await follow()
    expect(seen).toEqual([])
    await late.query('commit')
    late.release()
    await feedCaughtUp(db.pool)
    await follow()
    expect(seen).toEqual(['2026-10-01', '2026-10-02', '2026-10-02', '2026-10-02'])
    await follow()
    await put(h.fixture.utilityId, '2026-10-03', [h.accountId])
    await feedCaughtUp(db.pool)
    await follow()
    expect(seen.slice(4)).toEqual(['2026-10-03'])
  })

  it('is the same for any size of its pages', async () => {
    const h = await home()
    const accounts = [h, await withAccount(h), await withAccount(h), await withAccount(h)]
    for (let i = 0; i < 9; i++) {
      await put(h.fixture.utilityId, `2026-10-0${i + 1}`, accounts.slice(0, i % 5).map((a) => a.accountId))
    }
    await feedCaughtUp(db.pool)
    const pages = async (limit: number, key: string): Promise<string[]> => {
      const found: string[] = []
      let since = ''
      for (let more = true; more;) {
        const page = (await server.call(key, 'GET', `/v1/changes?limit=${limit}${since}`)).json<Changes>()
        expect(page.items.length).toBeLessThanOrEqual(limit)
        found.push(...page.items.map((i) => `${i.day} ${i.account}`))
        since = `&since=${page.next}`
        more = page.more
      }
      return found
    }
    const all = await pages(10_000, h.key)
    expect(all.length).toBe(0 + 1 + 2 + 3 + 4 + 0 + 1 + 2 + 3)
    for (const limit of [1, 2, 3, 4, 7]) expect(await pages(limit, h.key)).toEqual(all)
    const token = await memberOf(accounts[1])
    for (const limit of [1, 3, 100]) {
      expect(await pages(limit, token)).toEqual(all.filter((x) => x.endsWith(` ${accounts[1].account}`)))
    }
    const stranger = await home()
    expect(await pages(100, stranger.key)).toEqual([])
  })

  async function withAccount(h: Awaited<ReturnType<typeof home>>) {
    return { ...h, ...await h.fixture.account() }
  }

  it('says when a cursor is too old, and when it is none', async () => {
    const h = await home()
    await put(h.fixture.utilityId, '2026-10-01', [h.accountId])
    await feedCaughtUp(db.pool)
    const old = (await h.get<Changes>('/v1/changes?since=now')).next
    await put(h.fixture.utilityId, '2026-10-02', [h.accountId])
    await feedCaughtUp(db.pool)
    try {
      nowS = NOW + 13.5 * 86_400
      expect((await h.get<Changes>(`/v1/changes?since=${old}`)).items.length).toBe(1)
      await db.pool.query('delete from change where utility_id = $1 and day = $2', [h.fixture.utilityId, '2026-10-01'])
      expect(await h.get(`/v1/changes?since=${old}`, 410)).toMatchObject({ code: 'cursor-expired' })
    } finally {
      nowS = NOW
    }
    expect(await h.get('/v1/changes?since=abc', 422)).toMatchObject({ code: 'invalid-cursor' })
    const ahead = Buffer.from(`99999999999.0.0.${NOW}`).toString('base64url')
    expect(await h.get(`/v1/changes?since=${ahead}`, 410)).toMatchObject({ code: 'cursor-expired' })
  })
})

describe('the utility', () => {
  it('sees its load per hour, its peak, and what is not hourly apart', async () => {
    const h = await home()
    for (const [hour, energy, coarse] of [['00', '1.250', '0'], ['01', '7.5', '24'], ['02', '7.5', '0'], ['04', '0', '0']]) {
      await db.pool.query(
        'insert into system_load (utility_id, flow, hour, energy, coarse) values ($1, 1, $2, $3, $4)',
        [h.fixture.utilityId, `2026-11-02T${hour}:00:00-06:00`, energy, coarse])
    }
    expect(await h.get('/v1/system-load?from=2026-11-02&to=2026-11-03')).toEqual({
      timeZone: 'America/Chicago', from: '2026-11-02T00:00:00-06:00', to: '2026-11-03T00:00:00-06:00', flow: 'delivered',
      unit: 'kWh', intervalSeconds: 3600,
      hours: [
        { start: '2026-11-02T00:00:00-06:00', value: 1.25 },
        { start: '2026-11-02T01:00:00-06:00', value: 7.5, notHourly: 24 },
        { start: '2026-11-02T02:00:00-06:00', value: 7.5 },
        { start: '2026-11-02T04:00:00-06:00', value: 0 },
      ],
      peak: { hour: '2026-11-02T01:00:00-06:00', value: 7.5 }, total: 40.25, notHourly: 24,
    })
    expect(await h.get('/v1/system-load?from=2026-11-02&to=2026-11-03&flow=received')).toMatchObject({ hours: [], peak: null, total: null })
    expect((await server.call(await memberOf(h), 'GET', '/v1/system-load')).statusCode).toBe(403)
  })

  it('sees what of a day is in, and the worst meters', async () => {
    const h = await home()
    const values = fill(96)
    values[3] = values[50] = null
    await h.fixture.settle(h.channel, { startS: h.dayS('2026-11-09'), values, lane: 1 }, NOW)
    await db.pool.query('insert into source (utility_id, name) values ($1, $2)', [h.fixture.utilityId, 'ami'])
    // Exchanged at half past ten, read before and after; only its own time counts.
    const swap = h.dayS('2026-11-09') + 10.5 * 3600
    const second = await h.fixture.account({ groups: { substation: 'S2' } })
    const [oldMeter, newMeter] = [await h.fixture.meter(), await h.fixture.meter()]
    await h.fixture.assign(oldMeter.meterId, second.accountId, h.dayS('2026-01-01'), swap)
    await h.fixture.assign(newMeter.meterId, second.accountId, swap)
    await h.fixture.settle(await h.fixture.channel(oldMeter, 1, 900), { startS: h.dayS('2026-11-09'), values: fill(96) }, NOW)
    await h.fixture.settle(await h.fixture.channel(newMeter, 1, 3600), { startS: h.dayS('2026-11-09'), values: fill(20) }, NOW)
    // Silent since the 7th; a daily channel; a sub-meter; one that never read.
    const silent = await h.fixture.meter()
    await h.fixture.assign(silent.meterId, second.accountId, h.dayS('2026-01-01'))
    await h.fixture.settle(await h.fixture.channel(silent, 1, 900), { startS: h.dayS('2026-11-07'), values: fill(96) }, NOW)
    const daily = await h.fixture.meter()
    await h.fixture.assign(daily.meterId, second.accountId, h.dayS('2026-01-01'))
    await h.fixture.settle(await h.fixture.channel(daily, 1, 86_400), { startS: h.dayS('2026-11-09'), values: [1] }, NOW)
    const sub = await h.fixture.meter('sub')
    await h.fixture.assign(sub.meterId, second.accountId, h.dayS('2026-01-01'))
    await h.fixture.settle(await h.fixture.channel(sub, 1, 900), { startS: h.dayS('2026-11-09'), values: fill(5) }, NOW)
    const never = await h.fixture.meter()
    await h.fixture.assign(never.meterId, second.accountId, h.dayS('2026-01-01'))

    expect(await h.get('/v1/completeness?by=group')).toEqual({
      day: '2026-11-09', timeZone: 'America/Chicago', due: true, meters: 5, neverRead: 1,
      expected: 96 + 42 + 13 + 96 + 1, present: 94 + 42 + 9 + 0 + 1, estimated: 94, missing: 2 + 4 + 96,
      groups: [
        { group: 'substation', value: 'S1', expected: 96, present: 94, estimated: 94, missing: 2 },
        { group: 'substation', value: 'S2', expected: 152, present: 52, estimated: 0, missing: 100 },
      ],
      worst: [
        { meter: silent.meter, account: second.account, expected: 96, present: 0, estimated: 0, missing: 96 },
        { meter: newMeter.meter, account: second.account, expected: 13, present: 9, estimated: 0, missing: 4 },
        { meter: h.meter.meter, account: h.account, expected: 96, present: 94, estimated: 94, missing: 2 },
      ],
    })
    expect(await h.get('/v1/completeness?day=2026-11-08')).toMatchObject({ expected: 96, present: 0, meters: 1 })
    expect(await h.get('/v1/completeness?day=2026-11-10')).toMatchObject({ due: false })
    expect(await h.get('/v1/completeness?day=2026-11-11', 422)).toMatchObject({ code: 'invalid-range' })
    expect(await h.get('/v1/completeness?by=source')).toMatchObject({ groups: [{ source: null, expected: 248 }] })
    expect((await server.call(await memberOf(h), 'GET', '/v1/completeness')).statusCode).toBe(403)
  })
})

describe('explain', () => {
  it('tells what a read replaced, what lost to it, and the deliveries', async () => {
    const h = await home()
    const source = await db.pool.query<{ source_id: number }>(
      'insert into source (utility_id, name) values ($1, $2) returning source_id', [h.fixture.utilityId, 'ami'])
    await ensurePartitions(db.pool, 'delivery', [monthOfInstant(NOW)])
    const ids: string[] = []
    for (const no of [901, 902, 903]) {
      ids.push(randomUUID())
      await db.pool.query(
        `insert into delivery (delivery_id, accepted_at, delivery_no, utility_id, source_id, kind, door, format, version, complete, sha256)
         values ($1, to_timestamp($2::float8), $3, $4, $5, 'push', 'http', 'csv', 1, true, '\\xabcd')`,
        [ids.at(-1), NOW, no, h.fixture.utilityId, source.rows[0].source_id])
    }
    const startS = h.dayS('2026-11-02')
    await h.fixture.settle(h.channel, { startS, values: fill(4, 10), version: 10, deliveryNo: 901, lane: 1 | 2 << 3 }, NOW)
    await h.fixture.settle(h.channel, { startS, values: fill(2, 20), version: 20, deliveryNo: 902 }, NOW + 60)
    await h.fixture.settle(h.channel, { startS, values: fill(2, 15), version: 15, deliveryNo: 903 }, NOW + 120)
    const url = `/v1/meters/${h.meter.meter}/explain`
    expect(await h.get(`${url}?at=2026-11-02T00:20:00-06:00`)).toEqual({
      meter: h.meter.meter, flow: 'delivered', unit: 'kWh',
      interval: { start: '2026-11-02T00:15:00-06:00', end: '2026-11-02T00:30:00-06:00', seconds: 900 },
      value: 0.02, quality: 'actual', flags: 0, version: 20, since: '2026-11-10T12:01:00-06:00',
      delivery: {
        id: ids[1], source: 'ami', kind: 'push', format: 'csv', acceptedAt: '2026-11-10T12:00:00-06:00', sha256: 'abcd', place: null, edit: null },
      findings: [], estimate: null,
      history: [
        {
          outcome: 'outranked', at: '2026-11-10T12:02:00-06:00', value: 0.015, quality: 'actual', flags: 0, version: 15,
          delivery: expect.objectContaining({ id: ids[2] }) as unknown,
        },
        {
          outcome: 'superseded', at: '2026-11-10T12:01:00-06:00', value: 0.01, quality: 'estimated', method: 'like-day', flags: 0,
          version: 10, delivery: expect.objectContaining({ id: ids[0] }) as unknown,
        },
      ],
    })
    await h.fixture.withdraw(h.channel, dayNumber('2026-11-02'), {
      slots: [0, 1], exponent: -3, vals: [10, 10], lanes: [17, 17], versions: [10, 10] }, NOW + 180)
    const back = await h.get<{ history: { outcome: string }[] }>(`${url}?at=2026-11-02T00:20:00-06:00`)
    expect(back).toMatchObject({ value: 0.01, quality: 'estimated', since: '2026-11-10T12:03:00-06:00', delivery: { id: ids[0] } })
    expect(back.history.map((e) => e.outcome)).toEqual(['withdrawn', 'outranked', 'superseded'])
    expect(await h.get(`${url}?at=2026-11-02T03:00:00-06:00`)).toMatchObject({ value: null, delivery: null, history: [] })
    expect(await h.get(`${url}?at=2026-11-05T03:07:00-06:00`)).toMatchObject({ value: null, interval: { start: '2026-11-05T03:00:00-06:00' } })
    expect(await h.get(`${url}?at=2026-11-02T03:00:00-06:00&flow=received`, 404)).toMatchObject({ code: 'interval-not-found' })
    expect(await h.get(`${url}?at=noon`, 422)).toMatchObject({ code: 'invalid-instant' })
  })

  it('tells a member nothing of the time before', async () => {
    const h = await home('2026-11-02T00:30:00-06:00')
    await h.fixture.settle(h.channel, { startS: h.dayS('2026-11-02'), values: fill(4, 10) }, NOW)
    const token = await memberOf(h)
    const at = async (time: string): Promise<number> =>
      (await server.call(token, 'GET', `/v1/meters/${h.meter.meter}/explain?at=2026-11-02T${time}-06:00`)).statusCode
    expect(await at('00:29:59')).toBe(404)
    expect(await at('00:30:00')).toBe(200)
  })
})
