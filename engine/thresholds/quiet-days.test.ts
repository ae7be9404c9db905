import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Flow, type FlowCode } from '../read-batch.js'
import { RegistryMap, type MeterRef } from '../registry-map.js'
import { getZone } from '../time/zone.js'
import type { ThresholdKind } from './kinds.js'
import { QuietDays } from './quiet-days.js'
import { Cycles } from './seen.js'
import type { AccountWatch } from './watch.js'

const zone = getZone('America/Chicago')
const FIRST_DAY = 20_150

/** A map as it stands after a refresh, without a database. */
class MapOf extends RegistryMap {
  readonly #watches: ReadonlyMap<number, AccountWatch>
  readonly #meters: ReadonlyMap<number, readonly MeterRef[]>
  constructor(watches: ReadonlyMap<number, AccountWatch>, meters: ReadonlyMap<number, readonly MeterRef[]>) {
    super(1)
    this.#watches = watches
    this.#meters = meters
  }
  override watchOf(accountId: number): AccountWatch | undefined {
    return this.#watches.get(accountId)
  }
  override hasSeveralMeters(accountId: number): boolean {
    return (this.#meters.get(accountId)?.length ?? 0) > 1
  }
  override metersOf(accountId: number): Iterable<MeterRef> {
    return this.#meters.get(accountId) ?? []
  }
}

function meterOf(meterId: number, accountId: number, fromDay: number, toDay: number): MeterRef {
  return { meterId, id: `M${meterId}`, isMain: true, multiplier: 1, channels: [],
    assignments: [{ accountId, fromS: zone.dayStart(fromDay), toS: zone.dayStart(toDay) }] }
}

const watch = fc.record({
  kind: fc.constantFrom<ThresholdKind>('day-usage', 'hour-usage', 'demand', 'period-usage'), flow: fc.constantFrom<FlowCode>(Flow.delivered, Flow.received),
  limit: fc.integer({ min: 1, max: 100 }) })
const account = fc.record({
  watches: fc.array(watch, { maxLength: 4 }), billingDay: fc.integer({ min: 1, max: 28 }), hasDeferred: fc.boolean(),
  /** A second meter that serves the account until so many days after the first. */
  other: fc.option(fc.integer({ min: -60, max: 60 })) })
const touch = fc.record({ account: fc.nat(3), flow: fc.constantFrom<FlowCode>(Flow.delivered, Flow.received), day: fc.nat(50), kwh: fc.integer({ min: 0, max: 120 }) })

it('takes a day only where the block alone is what counts and passes no limit, and sums periods as a plain sum does', () => {
  fc.assert(fc.property(fc.array(account, { minLength: 4, maxLength: 4 }), fc.uniqueArray(touch, { selector: (t) => `${t.account} ${t.flow} ${t.day}`, maxLength: 60 }),
    (accounts, touches) => {
      const watches = new Map<number, AccountWatch>()
      const meters = new Map<number, MeterRef[]>()
      for (const [i, a] of accounts.entries()) {
        const id = i + 1
        if (a.watches.length > 0 || a.hasDeferred) {
          watches.set(id, { cycle: { billingDay: a.billingDay, periods: [] }, watches: a.watches, hasDeferred: a.hasDeferred, hasDeferredHours: false })
        }
        meters.set(id, [meterOf(id * 10, id, FIRST_DAY - 400, FIRST_DAY + 400),
          ...a.other === null ? [] : [meterOf(id * 10 + 1, id, FIRST_DAY - 400, FIRST_DAY + a.other)]])
      }
      const map = new MapOf(watches, meters)
      const cycles = new Cycles()
      const quiet = new QuietDays(map, zone, cycles)
      const plain = new Map<string, { added: number; first: number; last: number; greatest: number }>()
      const noted = new Set<number>()
      for (const t of [...touches].sort((a, b) => a.account - b.account || a.flow - b.flow || a.day - b.day)) {
        const id = t.account + 1
        const day = FIRST_DAY + t.day
        const seen = { channelId: id * 2 + t.flow, flow: t.flow, isShared: false, kwh: t.kwh, addedKwh: t.kwh / 2, hourKwh: t.kwh / 4, kw: t.kwh / 8 }
        const w = watches.get(id)
        const own = w?.watches.filter((x) => x.flow === t.flow) ?? []
        const value = { 'day-usage': t.kwh, 'hour-usage': t.kwh / 4, demand: t.kwh / 8, 'period-usage': 0 } as Partial<Record<ThresholdKind, number>>
        const period = w === undefined ? null : cycles.periodOf(day, w.cycle)
        const other = accounts[t.account].other
        const isAlone = period === null || other === null || FIRST_DAY + other <= period.startDay
        const isBelow = own.every((x) => value[x.kind]! <= x.limit)
        // Within a billionth of the limit it may say either.
        if (own.some((x) => value[x.kind] === x.limit)) continue
        expect(quiet.take(meters.get(id)![0], day, seen)).toBe(w === undefined || (isAlone && isBelow))
        if (w === undefined || !isAlone || !isBelow || w.watches.length === 0) continue
        noted.add(id)
        if (!own.some((x) => x.kind === 'period-usage')) continue
        const key = `${id} ${t.flow} ${period!.startDay}`
        const sum = plain.get(key) ?? { added: 0, first: Infinity, last: -Infinity, greatest: 0 }
        plain.set(key, { added: sum.added + t.kwh / 2, first: Math.min(sum.first, day), last: Math.max(sum.last, day), greatest: Math.max(sum.greatest, t.kwh) })
      }
      expect(new Set(quiet.accounts())).toEqual(noted)
      for (const apart of [new Set<number>(), new Set([1, 3])]) {
        const { columns, sumOf, sums } = quiet.periods(apart)
        const found = [...columns.accountIds.keys()].map((k) => {
          expect([columns.firstDays[k], columns.greatestDays[k]]).toEqual([sumOf(k).firstDay, sumOf(k).dayKwh])
          return sumOf(k)
        })
        expect(sums.every((s) => apart.has(s.accountId)) && found.every((s) => !apart.has(s.accountId))).toBe(true)
        expect(new Map([...found, ...sums].map((s) => [`${s.accountId} ${s.flow} ${s.startDay}`,
          { added: s.addedKwh, first: s.firstDay, last: s.lastDay, greatest: s.dayKwh }]))).toEqual(plain)
      }
    }))
})

it('leaves to others what counts in part, beside another channel, or by its cost', () => {
  const watches = new Map<number, AccountWatch>([
    [1, { cycle: { billingDay: 1, periods: [] }, watches: [{ kind: 'day-usage', flow: Flow.delivered, limit: 50 }], hasDeferred: true, hasDeferredHours: false }],
    [2, { cycle: { billingDay: 1, periods: [] }, watches: [{ kind: 'period-cost', flow: Flow.delivered, limit: 50 }], hasDeferred: false, hasDeferredHours: false }]])
  const first = meterOf(10, 1, FIRST_DAY, FIRST_DAY + 100)
  const second = meterOf(20, 2, FIRST_DAY, FIRST_DAY + 100)
  const moved = { ...first, assignments: [{ ...first.assignments[0], fromS: zone.dayStart(FIRST_DAY) + 3600 }] }
  const quiet = new QuietDays(new MapOf(watches, new Map([[1, [first]], [2, [second]]])), zone, new Cycles())
  const seen = { channelId: 1, flow: Flow.delivered, isShared: false, kwh: 1, addedKwh: 1, hourKwh: 1, kw: 1 }
  expect(quiet.take(first, FIRST_DAY, { ...seen, isShared: true })).toBe(false)
  expect(quiet.take(moved, FIRST_DAY, seen)).toBe(false)
  expect(quiet.take(second, FIRST_DAY, seen)).toBe(false)
  expect(quiet.isEmpty).toBe(true)
  expect(quiet.take(first, FIRST_DAY + 3, seen)).toBe(true)
  expect(quiet.range).toEqual({ first: FIRST_DAY + 3, last: FIRST_DAY + 3 })
  expect(quiet.daysOf(new Set([1]))).toEqual(new Map([[1, new Set([FIRST_DAY + 3])]]))
  const end = zone.dayStart(FIRST_DAY + 4)
  expect(quiet.due(end - 100)).toEqual([{ fromDay: FIRST_DAY + 3, toDay: FIRST_DAY + 4, dueS: end, everyKind: false, history: false, accountIds: [1] }])
  expect(quiet.due(end + 100)[0].dueS).toBe(end + 100)
})
