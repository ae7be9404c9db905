import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseInstant } from '../../engine/time/text.js'
import { testServer, type TestServer } from '../../test/api-server.js'
import { feedCaughtUp } from '../../test/change-feed.js'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { UsageFixture, type TestChannel } from '../../test/usage-fixture.js'
import { apiRoutes } from './index.js'

const NOW = parseInstant('2026-11-10T12:00:00-06:00')!
const MOVE = '2026-10-25T12:15:00-05:00'
const at = (text: string): number => parseInstant(text)!

let db: TestDatabase
let server: TestServer

beforeAll(async () => {
  db = await testDatabase()
  server = testServer(db.pool, { routes: apiRoutes, context: { now: () => NOW * 1000 } })
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})

/** A meter that served one account until noon of a day and serves another since. */
async function moved() {
  const fixture = await UsageFixture.make(db.pool, 'America/Chicago')
  const former = await fixture.account()
  const present = await fixture.account()
  const meter = await fixture.meter()
  await fixture.assign(meter.meterId, former.accountId, at('2024-01-01T00:00:00-06:00'), at(MOVE))
  await fixture.assign(meter.meterId, present.accountId, at(MOVE))
  const channel = await fixture.channel(meter, 1, 900)
  await fixture.settle(channel, { startS: at('2026-10-24T00:00:00-05:00'), values: new Array<number>(288).fill(250) }, NOW - 5000)
  const operator = await server.key(fixture.utility, 'operator')
  const portal = await server.key(fixture.utility, 'portal')
  const token = async (account: string): Promise<string> =>
    (await server.call(portal, 'POST', '/v1/tokens', { accounts: [account] })).json<{ token: string }>().token
  return { fixture, former, present, meter, channel, operator, token, member: await token(present.account) }
}

async function correct(h: { fixture: UsageFixture; channel: TestChannel }, start: string, atS: number, version: number): Promise<void> {
  await h.fixture.settle(h.channel, { startS: at(start), values: [900, 900], version }, atS)
}

describe('the day on which an account changed hands', () => {
  it('tells nobody that the other one\'s reads were corrected', async () => {
    const h = await moved()
    const urls = ['day', 'hour', 'interval', 'month', 'billing'].flatMap((r) => [`accounts/${h.present.account}`, `meters/${h.meter.meter}`]
      .flatMap((who) => ['', `&asOf=2026-11-10T18:00:00Z`].map((asOf) => `/v1/${who}/usage?from=2026-10-20&to=2026-10-30&resolution=${r}${asOf}`)))
    const before = await Promise.all(urls.map((url) => server.call(h.member, 'GET', url)))
    await correct(h, '2026-10-25T12:00:00-05:00', NOW - 3000, 2)
    // The second of these two reads is the new occupant's own.
    const after = await Promise.all(urls.map((url) => server.call(h.member, 'GET', url)))
    expect(after.map((a) => a.json<{ restatedAt: string }>().restatedAt)).toEqual(urls.map(() => '2026-11-10T11:10:00-06:00'))
    expect(before.map((a) => a.json<{ restatedAt: string | null }>().restatedAt)).toEqual(urls.map(() => null))
    await correct(h, '2026-10-25T00:00:00-05:00', NOW - 2000, 3)
    const then = await Promise.all(urls.map((url) => server.call(h.member, 'GET', url)))
    expect(then.map((a) => a.headers.etag)).toEqual(after.map((a) => a.headers.etag))
    expect(then.map((a) => a.body)).toEqual(after.map((a) => a.body))
    const formerly = await server.call(await h.token(h.former.account), 'GET', `/v1/accounts/${h.former.account}/usage?from=2026-10-20&to=2026-10-30`)
    expect(formerly.json()).toMatchObject({ restatedAt: '2026-11-10T11:26:40-06:00' })
  })

  it('keeps restatedAt to the range where the range cuts the day', async () => {
    const h = await moved()
    await correct(h, '2026-10-24T01:00:00-05:00', NOW - 3000, 2)
    const url = (from: string, to: string): string => `/v1/meters/${h.meter.meter}/usage?resolution=hour&from=2026-10-24T${from}-05:00&to=2026-10-24T${to}-05:00`
    expect((await server.call(h.operator, 'GET', url('00:00:00', '01:30:00'))).json()).toMatchObject({ restatedAt: '2026-11-10T11:10:00-06:00' })
    expect((await server.call(h.operator, 'GET', url('01:30:00', '23:00:00'))).json()).toMatchObject({ restatedAt: null })
  })
})

describe('a meter that moves', () => {
  it('tells each account in the feed of its own days only', async () => {
    const h = await moved()
    const { account } = await h.fixture.account()
    await server.call(h.operator, 'PUT', '/v1/meters', [{ meter: h.meter.meter, account, from: '2026-10-26' }])
    const feed = async (member: string): Promise<string[]> => {
      await feedCaughtUp(db.pool)
      return (await server.call(member, 'GET', '/v1/changes')).json<{ items: { day: string }[] }>().items.map((i) => i.day).sort()
    }
    expect(await feed(await h.token(account))).toEqual(['2026-10-26'])
    // The one who lost it hears of all the time it was theirs; the one before, to whom nothing happened, of nothing.
    expect(await feed(h.member)).toEqual(['2026-10-25', '2026-10-26'])
    expect(await feed(await h.token(h.former.account))).toEqual([])
    await server.call(h.operator, 'PUT', '/v1/meters', [{ meter: h.meter.meter, role: 'check' }])
    expect(await feed(await h.token(h.former.account))).toEqual(['2026-10-24', '2026-10-25'])
    expect(await feed(await h.token(account))).toEqual(['2026-10-26', '2026-10-26'])
  })

  it('is not found by the other account\'s name', async () => {
    const h = await moved()
    const list = async (who: string, account: string): Promise<string[]> =>
      (await server.call(who, 'GET', `/v1/meters?account=${account}`)).json<{ items: { meter: string }[] }>().items.map((m) => m.meter)
    expect(await list(h.member, h.present.account)).toEqual([h.meter.meter])
    expect(await list(h.member, h.former.account)).toEqual([])
    expect(await list(h.operator, h.former.account)).toEqual([h.meter.meter])
  })
})

describe('a meter\'s alias', () => {
  it('finds the meter as its usage is found', async () => {
    const h = await moved()
    await server.call(h.operator, 'PUT', `/v1/meters/${h.meter.meter}`, { aliases: ['endpoint-7'] })
    expect((await server.call(h.operator, 'GET', '/v1/meters/endpoint-7')).json()).toMatchObject({ meter: h.meter.meter, aliases: ['endpoint-7'] })
    expect((await server.call(h.member, 'GET', '/v1/meters/endpoint-7')).json()).toMatchObject({ meter: h.meter.meter })
    expect((await server.call(h.operator, 'GET', '/v1/meters/endpoint-7/usage')).json()).toMatchObject({ meter: h.meter.meter })
  })
})
