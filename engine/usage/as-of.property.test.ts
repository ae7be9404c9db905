import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { usageRoutes } from '../../api/routes/usage.js'
import { testServer, type TestServer } from '../../test/api-server.js'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { UsageFixture } from '../../test/usage-fixture.js'

const RUNS = Number(process.env.FC_RUNS ?? 15)
const DAY = 20_700

let db: TestDatabase
let server: TestServer
let nowS = 0

beforeAll(async () => {
  db = await testDatabase()
  server = testServer(db.pool, { routes: [usageRoutes], context: { now: () => nowS * 1000 } })
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})

const push = fc.record({
  slot: fc.integer({ min: 0, max: 150 }),
  values: fc.array(fc.option(fc.integer({ min: 0, max: 3 })), { minLength: 1, maxLength: 60 }),
  exponent: fc.constantFrom(-3, -3, -5, 1),
  lane: fc.constantFrom(0, 0, 1, 4, 5),
  version: fc.integer({ min: 1, max: 4 }),
  channel: fc.integer({ min: 0, max: 1 }),
})

it('a past state is told as it was answered at the time', async () => {
  await fc.assert(fc.asyncProperty(fc.array(push, { minLength: 1, maxLength: 8 }), async (pushes) => {
    const fixture = await UsageFixture.make(db.pool, 'America/Chicago')
    const { accountId, account } = await fixture.account()
    const channels = []
    for (let m = 0; m < 2; m++) {
      const meter = await fixture.meter()
      await fixture.assign(meter.meterId, accountId, fixture.zone.dayStart(DAY - 10))
      channels.push(await fixture.channel(meter, 1, 900))
    }
    const key = await server.key(fixture.utility, 'viewer')
    const ask = async (asOf: string): Promise<unknown[]> => {
      const range = `from=${new Date(fixture.zone.dayStart(DAY) * 1000).toISOString()}&to=${new Date(fixture.zone.dayStart(DAY + 3) * 1000).toISOString()}`
      const answers = []
      for (const resolution of ['interval', 'day']) {
        const answer = await server.call(key, 'GET', `/v1/accounts/${account}/usage?${range}&resolution=${resolution}${asOf}`)
        expect(answer.statusCode, answer.body).toBe(200)
        answers.push({ ...answer.json<object>(), asOf: null, restatedAt: null })
      }
      return answers
    }
    const told: { text: string; answer: unknown }[] = []
    for (const [i, p] of pushes.entries()) {
      nowS = fixture.zone.dayStart(DAY + 2) + i * 40_000
      const startS = fixture.zone.dayStart(DAY) + p.slot * 900
      await fixture.settle(channels[p.channel], { startS, values: p.values, exponent: p.exponent, lane: p.lane, version: p.version }, nowS)
      told.push({ text: new Date(nowS * 1000).toISOString(), answer: await ask('') })
    }
    nowS += 5_000_000
    for (const { text, answer } of told) expect(await ask(`&asOf=${text}`)).toEqual(answer)
  }), { numRuns: RUNS, endOnFailure: true })
}, 120_000)
