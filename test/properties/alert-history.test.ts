import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { RateVersionRecord } from '../../engine/rates/schema.js'
import { putRate, writeAccountRates } from '../../engine/rates/store.js'
import { dayText } from '../../engine/time/text.js'
import { getZone } from '../../engine/time/zone.js'
import { addContact } from '../alert-fixture.js'
import { standing, type PlainThreshold } from '../alert-model.js'
import { expectTold, StepSender } from '../alert-sender.js'
import { periodOfRead, rateOn, type PlainRate } from '../bill-model.js'
import { Model, readsOf } from '../model.js'
import { PlainAccount, plainPeriod, type DayRange } from '../projection-model.js'
import { testUtility, type PlainBlock, type TestUtility } from '../settling.js'
import { alertFrame, TIMEOUT_MS, type Span, type Spans } from './alert-frame.js'
import { random, runs, unevenDays } from './scenario.js'

const RUNS = Number(process.env.FC_RUNS ?? 5)
const f = alertFrame()
/** How far back reads go: four weeks before the longest billing period. */
const BACK = 62
const EPSILON = { 'period-cost': 1e-9, 'projected-usage': 0.003, 'projected-cost': 0.05 }

interface Plan { zone: string; day: number; today: number; billingDay: number | null; intervalS: number; received: boolean; seed: number }

const plans: fc.Arbitrary<Plan> = fc.constantFrom(
  'America/Chicago', 'America/Chicago', 'Europe/Berlin', 'America/Havana', 'Asia/Kathmandu', 'Australia/Lord_Howe', 'America/Santiago', 'America/St_Johns',
).chain((zone) => {
  const uneven = unevenDays(getZone(zone)).filter((d) => d > 20_454 + 45)
  return fc.record({
    zone: fc.constant(zone), day: uneven.length === 0 ? fc.integer({ min: 20_520, max: 20_700 }) : fc.constantFrom(...uneven), today: fc.nat(24),
    billingDay: fc.constantFrom(null, 1, 15, 28, 31), intervalS: fc.constantFrom(3600, 3600, 86_400), received: fc.boolean(), seed: fc.nat() })
}).map((p) => ({ ...p, today: p.day + p.today, intervalS: p.zone === 'Australia/Lord_Howe' && p.intervalS === 3600 ? 1800 : p.intervalS }))

type Draw = (n: number) => number

function versionOf(draw: Draw, from: string, withCredit: boolean): RateVersionRecord {
  const cents = (n: number): number => (1 + draw(n)) / 100
  const hasHours = draw(3) > 0
  const hasSeasons = draw(3) === 0
  const tiers = (): RateVersionRecord['energy'][number]['tiers'] =>
    draw(2) === 0 ? [{ price: 0.05 + cents(20) }] : [{ upTo: 50 + draw(300), price: 0.05 + cents(20) }, { price: 0.05 + cents(40) }]
  const seasons = [{ name: 'summer', from: '04-10', to: '10-14' }]
  const charges = (season?: string): RateVersionRecord['energy'] => hasHours
    ? [{ touPeriod: 'peak', season, tiers: tiers() }, { touPeriod: 'off-peak', season, tiers: tiers() }] : [{ season, tiers: tiers() }]
  const version: RateVersionRecord = {
    from, fixed: [{ amount: draw(40) }, { amount: cents(90), per: 'day' }],
    ...(hasHours ? { holidays: ['2026-04-06', '2026-10-12'], touPeriods: [{ name: 'peak', windows: [
      { days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '15:00', to: draw(2) === 0 ? '20:00' : '19:30' }, { days: ['sat'], from: '10:00', to: '12:00', holidays: true }] }] } : {}),
    ...(hasSeasons ? { seasons: [...seasons, { name: 'winter', from: '10-15', to: '04-09' }] } : {}),
    energy: hasSeasons ? [...charges('summer'), ...charges('winter')] : charges(),
    adjustments: [{ name: 'Power cost', price: -cents(4) }],
    ...(draw(3) === 0 ? { demand: [{ price: draw(9) }] } : {}),
    ...(withCredit ? { netMetering: { method: draw(2) === 0 ? 'net' as const : 'sell' as const, creditPrice: 0.03 } } : {}),
    ...(draw(2) === 0 ? { taxes: [{ name: 'Tax', percent: 6.25 }, { name: 'Fee', percent: 2, on: ['energy', 'adjustment'] }] } : {}),
  }
  // Not every member of a rate may be undefined.
  return JSON.parse(JSON.stringify(version)) as RateVersionRecord
}

/** A cost or a projection that is watched, and whether its alert stands as far as is known. */
interface Watch {
  id: string
  kind: 'period-cost' | 'projected-usage' | 'projected-cost'
  limit: number
  /** By start of the period: its value where an alert stands, null where none does, undefined where it is too near to say. */
  stands: Map<number, number | null | undefined>
}

const KINDS: [PlainThreshold['kind'], PlainThreshold['flow'], boolean][] = [
  ['low-usage', 'delivered', false], ['low-usage', 'delivered', true], ['low-usage', 'received', false], ['no-usage', 'delivered', false],
  ['unusual', 'delivered', false], ['day-usage', 'delivered', true], ['period-usage', 'delivered', true], ['hour-usage', 'delivered', true],
  ['demand', 'delivered', true], ['period-usage', 'delivered', false],
]

/** One household's months: what its meter reads, what it is billed by, and all that is watched there. */
class Household {
  readonly model: Model
  readonly watches: Watch[] = []
  readonly plain: PlainThreshold[] = []
  readonly versions: { rate: string; body: RateVersionRecord }[]
  readonly held: { rate: string; from: string }[]
  readonly periods: DayRange[] = []
  readonly #u: TestUtility
  readonly #plan: Plan
  readonly #draw: Draw
  readonly #first: number

  constructor(u: TestUtility, plan: Plan, draw: Draw) {
    this.#u = u
    this.#plan = plan
    this.#draw = draw
    this.#first = plan.today - BACK
    this.model = new Model(u.zone)
    const credit = plan.received && draw(2) === 0
    const date = (back: number): string => dayText(plan.today - back)
    this.versions = [
      { rate: 'R', body: versionOf(draw, '2025-01-01', credit) }, { rate: 'R', body: versionOf(draw, date(draw(20)), credit) },
      { rate: 'Q', body: versionOf(draw, '2025-01-01', credit) }]
    this.held = [{ rate: 'R', from: draw(5) === 0 ? date(40) : '2025-01-01' }, ...draw(3) === 0 ? [{ rate: 'Q', from: date(draw(15)) }] : []]
    for (let day = this.#first; day <= plan.today + 40; day = this.periods.at(-1)![1]) this.periods.push(plainPeriod(day, plan.billingDay))
  }

  get rates(): PlainRate[] {
    const day = (text: string): number => Date.parse(text) / 86_400_000
    return this.held.flatMap(({ rate, from }) => {
      const of = this.versions.filter((v) => v.rate === rate).toSorted((a, b) => day(a.body.from) - day(b.body.from))
      const first = of.filter((v) => day(v.body.from) <= day(from)).at(-1)!
      return [{ fromDay: day(from), body: first.body }, ...of.filter((v) => day(v.body.from) > day(from)).map((v) => ({ fromDay: day(v.body.from), body: v.body }))]
        .filter((v) => this.held.every((h) => h.rate === rate || h.from <= from || v.fromDay < day(h.from)))
    })
  }

  /** Some of a day's reads: those of its slots from one share of the day to another. */
  block(day: number, flow: 'delivered' | 'received', level: number, version: number, from = 0, to = 1): PlainBlock {
    const { zone } = this.#u
    const { intervalS } = this.#plan
    const startS = zone.dayStart(day)
    const slots = intervalS === 86_400 ? 1 : Math.floor((zone.dayStart(day + 1) - startS) / intervalS)
    const first = Math.min(slots - 1, Math.floor(from * slots))
    const count = Math.max(1, Math.floor(to * slots) - first)
    const values = Array.from({ length: count }, (_, i) => Math.round(level * intervalS / 3600 * (1 + (first + i) % 5 / 4)))
    return { meter: 'm0', flow, intervalS, start: startS + first * intervalS, values, version: 1_700_000_000_000_000 + version }
  }

  /** The ordinary reads of a day: more at weekends, and some days of none. */
  ordinary(day: number, version: number): PlainBlock[] {
    const draw = random(this.#plan.seed + day)
    const level = draw(9) === 0 ? 0 : (300 + 40 * draw(12)) * (new Date(day * 86_400_000).getUTCDay() % 6 === 0 ? 2 : 1)
    return [this.block(day, 'delivered', level, version), ...this.#plan.received ? [this.block(day, 'received', draw(4) * 100, version)] : []]
  }

  /** Reads as they come: days in any order, some late, some in pieces, corrected or said twice. */
  deliveries(days: readonly number[]): PlainBlock[][] {
    const draw = this.#draw
    const blocks = days.filter(() => draw(25) > 0).flatMap((d) => this.ordinary(d, 1))
    const corrections = Array.from({ length: draw(8) }, () => {
      const day = draw(3) === 0 ? this.#first + draw(BACK) : days[draw(days.length)]
      const from = draw(2) === 0 ? 0 : draw(20) / 24
      return this.block(day, 'delivered', [0, 100, 2000, 9000][draw(4)], draw(4), from, from === 0 ? 1 : from + draw(5) / 24)
    })
    const all = [...blocks, ...corrections, ...blocks.filter(() => draw(12) === 0)]
    for (let i = all.length - 1; i > 0; i--) {
      const j = Math.max(0, i - draw(15));
      [all[i], all[j]] = [all[j], all[i]]
    }
    return runs(all, Math.max(2, all.length / 2), draw)
  }

  spans(): Spans {
    const { zone } = this.#u
    const [from, to] = [this.periods[0][0], this.periods.at(-1)![1]]
    return {
      days: Array.from({ length: to - from }, (_, i): Span => [zone.dayStart(from + i), zone.dayStart(from + i + 1)]),
      months: this.periods.map(([a, b]): Span => [zone.dayStart(a), zone.dayStart(b)]) }
  }

  /** Follows what stands on costs and projections: a projection that comes in a period's last two days raises nothing. */
  follow(nowS: number): void {
    const { zone } = this.#u
    const account = new PlainAccount(this.model, this.rates, nowS)
    for (const w of this.watches) {
      for (const period of this.periods) {
        const startS = zone.dayStart(period[0])
        if (w.kind === 'period-cost') {
          const value = account.bill(period)
          w.stands.set(startS, value !== undefined && value > w.limit ? value : null)
          continue
        }
        const stood = w.stands.get(startS)
        const isLate = nowS >= zone.dayStart(period[1] - 2)
        if (isLate && stood === null) continue
        const told = account.projections(w.kind === 'projected-usage' ? 'usage' : 'cost', period)
        const first = told.find(({ value }) => value > w.limit - EPSILON[w.kind])
        if (isLate && !w.stands.has(startS)) w.stands.set(startS, null)
        else if (first === undefined) w.stands.set(startS, null)
        else if (first.value <= w.limit + EPSILON[w.kind] || isLate && stood === undefined) w.stands.set(startS, undefined)
        else w.stands.set(startS, first.value)
      }
    }
  }
}

async function watchAll(u: TestUtility, accountId: number, house: Household, draw: Draw, plan: Plan, nowS: number): Promise<void> {
  const served = [{ meter: 'm0', fromS: -Infinity, toS: Infinity }]
  const hasPeak = rateOn(house.rates, plan.today)?.touPeriods !== undefined
  for (let i = 0; i < 5; i++) {
    const [kind, flow, byHours] = KINDS[draw(KINDS.length)]
    const name = byHours && hasPeak ? ['peak', 'off-peak'][draw(2)] : undefined
    const t: Omit<PlainThreshold, 'id' | 'limit'> = {
      kind, flow, served, ...kind.startsWith('low') && draw(2) === 0 ? { window: 'billing-period' as const } : {},
      ...(name === undefined ? {} : { counts: (startS, intervalS) => {
        const body = rateOn(house.rates, u.zone.dayOf(startS))
        return body !== undefined && periodOfRead(body, startS, startS + intervalS, u.zone) === name
      } }) }
    const spans = house.spans()
    const values = standing({ ...t, id: 'x', limit: kind === 'low-usage' ? 10n ** 18n : -1n }, house.model, spans.days, spans.months).map((s) => BigInt(s.split(' ')[2]))
    const limit = values.length === 0 ? 1n : values[draw(values.length)] + BigInt(draw(3) - 1)
    house.plain.push(await f.watch(u, accountId, { ...t, limit: limit > 0n ? limit : 1n }, name))
  }
  const account = new PlainAccount(house.model, house.rates, nowS)
  for (const kind of ['period-cost', 'period-cost', 'projected-usage', 'projected-cost'] as const) {
    const near = kind === 'period-cost' ? house.periods.flatMap((p) => account.bill(p) ?? [])
      : account.projections(kind === 'projected-usage' ? 'usage' : 'cost', plainPeriod(plan.today, plan.billingDay)).map((p) => p.value * (0.98 + draw(5) / 100))
    const value = near.length === 0 ? 100 : near[draw(near.length)]
    const limit = Math.max(0.01, Math.round((kind === 'period-cost' ? value - draw(2) / 100 : value) * 100) / 100)
    const id = await u.threshold(accountId, { kind, limit: String(limit) })
    house.watches.push({ id, kind, limit, stands: new Map() })
  }
}

async function expectAll(u: TestUtility, house: Household, nowS: number): Promise<void> {
  await f.expectStanding(u, house.plain, house.model, house.spans(), nowS)
  house.follow(nowS)
  const stored = (await f.alerts(u)).filter((a) => a.state === 'raised')
  for (const { id, kind, limit, stands } of house.watches) {
    const found = new Map(stored.filter((a) => a.threshold_id === id).map((a) => [a.start_s, Number(a.value) / 1e9]))
    const seen = [...stands].map(([startS, value]) => {
      const there = found.get(startS)
      if (value === undefined) return `${startS} undecided`
      const isSame = value !== null && there !== undefined && Math.abs(there - value) <= EPSILON[kind]
      return `${startS} ${isSame ? value : there ?? 'none'}`
    })
    expect({ kind, limit, seen }).toEqual({ kind, limit, seen: [...stands].map(([startS, v]) => `${startS} ${v === undefined ? 'undecided' : v ?? 'none'}`) })
    expect([...found.keys()].filter((s) => !stands.has(s))).toEqual([])
  }
}

it('costs, projections, time-of-use hours, low, no and unusual usage stand as the final data have them, and are told once (C6)', async () => {
  await fc.assert(fc.asyncProperty(plans, async (plan) => {
    const draw = random(plan.seed)
    const u = await testUtility(f.db.pool, plan.zone)
    const house = new Household(u, plan, draw)
    const atS = (day: number): number => u.zone.dayStart(day) + 12 * 3600
    const { accountId, account } = await u.account({ billingDay: plan.billingDay ?? undefined })
    await u.meter({ id: 'm0', assignments: [{ accountId }] })
    await addContact(f.db.pool, u.utilityId, accountId, {})
    await addContact(f.db.pool, u.utilityId, accountId, { channel: 'sms' })
    const put = (rate: string, body: RateVersionRecord): Promise<unknown> =>
      putRate(f.db.pool, u.utilityId, rate, { versions: [body] }, { actor: 'test', now: new Date(u.clock.nowMs) })
    for (const { rate, body } of house.versions) await put(rate, body)
    for (const { rate, from } of house.held) await writeAccountRates(f.db.pool, u.utilityId, [{ account, rate: { id: rate, from } }])
    const sender = new StepSender(f.db.pool, () => new Date(u.clock.nowMs))
    const step = async (): Promise<void> => {
      if (draw(3) === 0) await sender.lease()
      if (draw(3) === 0) await sender.handOver()
      if (draw(3) === 0) await sender.end((['sent', 'unknown', 'retry'] as const)[draw(3)])
      if (draw(6) === 0) await sender.crash()
    }
    const days = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i)
    /** All that comes in at one time, and then the schedule: beside it too, where nothing is raised only once. */
    const stage = async (day: number, bodies: readonly PlainBlock[][], isLast: boolean): Promise<void> => {
      u.clock.nowMs = Math.max(u.clock.nowMs, atS(day) * 1000)
      if (day === plan.today) u.clock.nowMs = atS(day) * 1000
      for (const body of bodies) {
        for (const block of body) house.model.offer(readsOf(block, u.zone))
        await u.settle(body)
        if (!isLast && draw(4) === 0) await f.judge(u, u.clock.nowMs)
        await step()
      }
      await f.judge(u, u.clock.nowMs)
      await expectAll(u, house, u.clock.nowMs / 1000)
      await step()
    }
    u.clock.nowMs = atS(plan.today) * 1000
    // What the limits are set near to.
    const bodies = house.deliveries(days(plan.today - BACK, plan.today))
    for (const block of bodies.flat()) house.model.offer(readsOf(block, u.zone))
    await watchAll(u, accountId, house, draw, plan, u.clock.nowMs / 1000)
    await stage(plan.today, bodies, false)
    const [, end] = plainPeriod(plan.today, plan.billingDay)
    const later = Math.min(plan.today + 1 + draw(3), end)
    if (draw(2) === 0) {
      house.versions[1] = { rate: 'R', body: { ...house.versions[1].body, fixed: [{ amount: draw(60) }] } }
      await put('R', house.versions[1].body)
    }
    await stage(later, house.deliveries(days(plan.today, later + 1).slice(0, -1)), later >= end - 2)
    await stage(end + 3, house.deliveries(days(later, end + 3)), true)
    await stage(end + 3, house.deliveries(days(plan.today - 5, end)).slice(0, 3), true)
    u.clock.nowMs += 26 * 3_600_000
    await sender.drain()
    await expectTold(f.db.pool, u.utilityId, sender)
  }), { numRuns: RUNS })
}, TIMEOUT_MS + RUNS * 15_000)
