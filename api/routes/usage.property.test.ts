import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { FlowCode } from '../../engine/read-batch.js'
import { civilOfDay } from '../../engine/time/civil.js'
import { dayNumber, dayText, instantText, parseInstant } from '../../engine/time/text.js'
import { getZone } from '../../engine/time/zone.js'
import type { CountsAnswer, PeriodSeriesAnswer, SeriesAnswer, StepSeriesAnswer, TotalsAnswer } from '../../engine/usage/answer.js'
import { testServer, type TestServer } from '../../test/api-server.js'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { UsageFixture, type TestChannel } from '../../test/usage-fixture.js'
import { energy, UsageModel, type ModelRead, type ModelSegment } from '../../test/usage-model.js'
import { usageRoutes } from './usage.js'

const RUNS = Number(process.env.FC_RUNS ?? 40)
const SEED = process.env.FC_SEED === undefined ? {} : { seed: Number(process.env.FC_SEED) }

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

/** Zones and days near a change of their clocks: forward, back, over midnight, by half an hour, never. */
const PLACES: [string, string][] = [
  ['America/Chicago', '2026-03-08'], ['America/Chicago', '2026-11-01'], ['Europe/Berlin', '2026-10-25'],
  ['Africa/Cairo', '2026-04-24'], ['Africa/Cairo', '2026-10-29'], ['America/Sao_Paulo', '2017-10-15'],
  ['Australia/Lord_Howe', '2026-04-05'], ['Australia/Lord_Howe', '2026-10-04'], ['Asia/Kathmandu', '2026-06-01'],
  ['Pacific/Apia', '2011-12-30'], ['UTC', '2026-02-28'],
]

interface UsageAnswer extends CountsAnswer {
  from: string
  to: string
  total: TotalsAnswer
  series: SeriesAnswer[]
}

interface Case {
  fixture: UsageFixture
  account: string
  model: UsageModel
  reads: Map<number, Map<number, ModelRead>>
  fromS: number
  toS: number
  query: string
}

/** Random meters, exchanges, re-programming, gaps, estimates and a random range, written to the database and the model. */
async function makeCase(g: fc.GeneratorValue): Promise<Case> {
  const [zoneName, near] = g(() => fc.constantFrom(...PLACES))
  const zone = getZone(zoneName)
  const fixture = await UsageFixture.make(db.pool, zoneName)
  const { accountId, account } = await fixture.account({ billingDay: g(() => fc.integer({ min: 1, max: 31 })) })
  const other = await fixture.account()
  const middle = dayNumber(near)
  const firstDay = middle - g(() => fc.integer({ min: 1, max: 6 }))
  const days = g(() => fc.integer({ min: 2, max: 12 }))
  const lengths = zoneName === 'Australia/Lord_Howe' ? [300, 900, 1800, 86_400] : [300, 900, 1800, 3600, 86_400]
  const segments: ModelSegment[] = []
  const reads = new Map<number, Map<number, ModelRead>>()
  const instant = (): number => zone.dayStart(firstDay) + g(() => fc.integer({ min: 0, max: days * 24 })) * 3600 +
    g(() => fc.constantFrom(0, 0, 900, 437))

  for (let m = g(() => fc.integer({ min: 1, max: 3 })); m > 0; m--) {
    const meter = await fixture.meter()
    // The account has the meter in the middle of its life, or all of it.
    const isAll = g(() => fc.boolean())
    const [a, b] = [instant(), instant()].sort((x, y) => x - y)
    const served = isAll || a === b ? { fromS: zone.dayStart(firstDay - 30), toS: Infinity } : { fromS: a, toS: b }
    await fixture.assign(meter.meterId, accountId, served.fromS, served.toS === Infinity ? null : served.toS)
    if (served.toS !== Infinity) await fixture.assign(meter.meterId, other.accountId, served.toS)
    for (const flow of g(() => fc.constantFrom<FlowCode[]>([1], [1, 2], [3], [1, 2, 3]))) {
      const first = g(() => fc.constantFrom(...lengths))
      const second = g(() => fc.constantFrom(...lengths))
      const isReprogrammed = first !== second && g(() => fc.boolean())
      const changeS = instant()
      const spans = isReprogrammed
        ? [{ intervalS: first, fromS: 0, toS: changeS }, { intervalS: second, fromS: changeS, toS: 4e9 }]
        : [{ intervalS: first, fromS: -Infinity, toS: Infinity }]
      for (const span of spans) {
        const channel = await fixture.channel(meter, flow, span.intervalS, isReprogrammed ? [span] : [])
        reads.set(channel.channelId, await pushReads(g, fixture, channel, firstDay, days))
        const segment = { channel, fromS: Math.max(span.fromS, served.fromS), toS: Math.min(span.toS, served.toS) }
        if (segment.fromS < segment.toS) segments.push(segment)
      }
    }
  }
  nowS = zone.dayStart(firstDay + days) + g(() => fc.integer({ min: -3, max: 3 })) * 86_400 + 40_000
  const isDates = g(() => fc.boolean())
  const [x, y] = [instant(), instant()].sort((p, q) => p - q)
  const fromDay = firstDay + g(() => fc.integer({ min: -3, max: days }))
  const fromS = isDates || x === y ? zone.dayStart(fromDay) : x
  const toDay = Math.max(fromDay + 2, firstDay + days + 1)
  const toS = isDates || x === y ? zone.dayStart(toDay) : y
  const text = (s: number, day: number): string => isDates || x === y ? dayText(day) : encodeURIComponent(instantText(s, zone))
  const query = `from=${text(fromS, fromDay)}&to=${text(toS, toDay)}`
  return { fixture, account, model: new UsageModel(zone, segments, reads, nowS), reads, fromS, toS, query }
}

async function pushReads(
  g: fc.GeneratorValue, fixture: UsageFixture, channel: TestChannel, firstDay: number, days: number,
): Promise<Map<number, ModelRead>> {
  const { zone } = fixture
  const held = new Map<number, ModelRead>()
  const isDaily = channel.intervalS === 86_400
  // On a day that the zone skips, reads begin on the next: their positions are counted from there.
  const startDay = zone.dayOf(zone.dayStart(firstDay + g(() => fc.integer({ min: 0, max: 2 }))))
  const startS = zone.dayStart(startDay)
  const n = isDaily ? days - 1 : Math.ceil((zone.dayStart(startDay + days - 1) - startS) / channel.intervalS)
  const exponent = g(() => fc.constantFrom(-3, -3, -4, -6, 0))
  const lane = g(() => fc.constantFrom(0, 0, 1, 9, 4))
  const seed = g(() => fc.integer({ min: 1, max: 1_000_000 }))
  const gap = g(() => fc.constantFrom(0, 0.05, 0.5, 0.97))
  const values: (number | null)[] = []
  for (let i = 0; i < n; i++) {
    const day = startDay + i
    const t = isDaily ? zone.dayStart(day) : startS + i * channel.intervalS
    const isThere = noise(seed, i) >= gap && (!isDaily || zone.dayStart(day + 1) > t)
    const mantissa = Math.floor(noise(seed, -i - 1) * 10_000) - (channel.flow === 3 ? 5000 : 0)
    values.push(isThere ? mantissa : null)
    if (isThere) held.set(t, { micro: BigInt(mantissa) * 10n ** BigInt(exponent + 6), lane })
  }
  await fixture.settle(channel, { startS, values, exponent, lane }, zone.dayStart(firstDay + days))
  return held
}

function noise(seed: number, i: number): number {
  const x = Math.sin(seed * 12.9898 + i * 78.233) * 43_758.5453
  return x - Math.floor(x)
}

async function usage(key: string, c: Case, rest: string): Promise<UsageAnswer> {
  const answer = await server.call(key, 'GET', `/v1/accounts/${c.account}/usage?${c.query}&${rest}`)
  expect(answer.statusCode, answer.body).toBe(200)
  return answer.json<UsageAnswer>()
}

function checkPeriods(c: Case, answer: UsageAnswer, resolution: string): void {
  const { zone } = c.fixture
  for (const s of answer.series as PeriodSeriesAnswer[]) {
    const { flow } = c.model.series(false, c.fromS, c.toS).find((x) => x.name === s.flow)!
    let reachedS = c.fromS
    for (const p of s.periods) {
      const startS = parseInstant(p.start)!
      const endS = parseInstant(p.end)!
      expect(startS).toBe(reachedS)
      reachedS = endS
      if (endS < c.toS) {
        const day = zone.dayOf(endS)
        expect(zone.dayStart(day)).toBe(endS)
        if (resolution === 'month') expect(civilOfDay(day).day).toBe(1)
      }
      const { peakAtS, ...expected } = c.model.period(flow, s.meter ?? null, startS, endS)
      expect(p).toMatchObject({ ...expected, peakAt: peakAtS === null ? null : instantText(peakAtS, zone) })
    }
    expect(reachedS).toBe(c.toS)
  }
}

function checkSteps(c: Case, answer: UsageAnswer): void {
  const { zone } = c.fixture
  for (const s of answer.series as StepSeriesAnswer[]) {
    const { flow } = c.model.series(false, c.fromS, c.toS).find((x) => x.name === s.flow)!
    const startS = parseInstant(s.start)!
    const isDaily = s.intervalSeconds === 86_400
    const startOf = (i: number): number => isDaily ? zone.dayStart(zone.dayOf(startS) + i) : startS + i * s.intervalSeconds
    const steps = new Map<number, { held: ModelRead[]; missing: number }>()
    for (const x of c.model.slots(flow, s.meter ?? null, c.fromS, c.toS)) {
      const step = isDaily ? x.day - zone.dayOf(startS) : Math.floor((x.t - startS) / s.intervalSeconds)
      const at = steps.get(step) ?? { held: [], missing: 0 }
      steps.set(step, at)
      if (x.read !== undefined) at.held.push(x.read)
      else if (x.due) at.missing++
    }
    s.values.forEach((value, i) => {
      const at = steps.get(i)
      expect(value).toBe(at === undefined || at.held.length === 0 ? null : energy(at.held))
      const missing = value === null ? 0 : at!.missing
      expect(s.missing?.find((m) => m.at === i)?.count ?? 0).toBe(missing)
      steps.delete(i)
      // The offsets say which of two equal local hours a step is.
      const offset = s.offsets.filter((o) => o.at <= i).at(-1)!.offset
      expect(instantText(startOf(i), zone).endsWith(offset)).toBe(true)
    })
    expect([...steps.keys()]).toEqual([])
  }
}

it('usage equals the sum of its reads at every resolution, in every zone, over exchanges and clock changes (C3, C7)', async () => {
  await fc.assert(fc.asyncProperty(fc.gen(), async (g) => {
    const c = await makeCase(g)
    const key = await server.key(c.fixture.utility, 'portal')
    for (const by of ['account', 'meter']) {
      const shown = c.model.series(by === 'meter', c.fromS, c.toS)
      const flows = [...new Set(shown.map((s) => s.flow))]
      const whole = flows.map((flow) => c.model.period(flow, null, c.fromS, c.toS))
      for (const resolution of ['interval', 'hour', 'day', 'month', 'billing']) {
        const answer = await usage(key, c, `resolution=${resolution}&by=${by}`)
        expect(answer.series.map((s) => `${s.meter} ${s.flow}`).sort())
          .toEqual(shown.map((s) => `${s.meter ?? undefined} ${s.name}`).sort())
        if (resolution === 'interval' || resolution === 'hour') checkSteps(c, answer)
        else checkPeriods(c, answer, resolution)
        // However it is cut, the energy and the counts are the same.
        const delivered = flows.indexOf(1)
        expect(answer.total.delivered).toBe(delivered < 0 ? null : whole[delivered].value)
        for (const count of ['expected', 'present', 'estimated', 'missing'] as const) {
          expect(answer[count], count).toBe(whole.reduce((sum, p) => sum + p[count], 0))
        }
      }
    }
  }), { numRuns: RUNS, ...SEED, endOnFailure: true })
}, 300_000)
