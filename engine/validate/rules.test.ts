import { describe, expect, it } from 'vitest'
import { Flow, MISSING, Quality, type FlowCode } from '../read-batch.js'
import { baselineOf, figuresOf, periodOf, periodsAfter, periodStart, summarise, WINDOW_DAYS, type Baseline, type HistoryDay } from './baseline.js'
import { viewOf, type Circumstances, type Finding } from './day.js'
import { judge } from './judge.js'
import { hoursOf } from './shift.js'
import type { SiblingDay } from './siblings.js'
import { flagBit, ruleIds, ruleSetHash, ruleSetOf, type RuleSetPatch } from './rule-set.js'

const USUAL: Circumstances = {
  serviceKw: 48, multiplier: 1, isActive: true, isNet: false, isDue: true, outages: [], zeroDaysBefore: 0, estimatedDaysBefore: 0, register: null,
  flow: Flow.delivered, registeredFlows: [], siblings: [], beginsWithDay: true, hoursBefore: [],
}
/** Wh per quarter hour of a plain day: 200 at night, 400 from six to ten in the evening, no two neighbours alike. */
const plain = (): number[] => Array.from({ length: 96 }, (_, i) => (i >= 24 && i < 88 ? 400 : 200) + (i % 2 === 0 ? 0 : 8) + (i % 3))
const BASE: Baseline = {
  days: 28, medianTotal: 32.4, madTotal: 2, usualPeak: 0.6, zeroDays: 0, zeroShare: 0, longestRun: 2, medianSlot: 0.401,
  profile: Array.from({ length: 24 }, (_, h) => 0.8 + (h >= 6 && h < 22 ? 0.8 : 0) + (h === 18 ? 1.5 : 0) + (h === 7 ? 1 : 0)),
}

function found(wh: readonly (number | null)[], options: { base?: Baseline | null; with?: Partial<Circumstances>; rules?: RuleSetPatch; lane?: number } = {}): Finding[] {
  const vals = Int32Array.from(wh, (v) => v ?? MISSING)
  const lane = options.lane === undefined ? null : new Int16Array(vals.length).fill(options.lane)
  const view = viewOf({ day: 20_000, intervalS: 86_400 / wh.length, exponent: -3, vals, lane })
  return judge(view, options.base === undefined ? BASE : options.base, { ...USUAL, ...options.with }, ruleSetOf(options.rules ?? {}))
}
const only = (findings: Finding[], rule: string): Finding => {
  const hit = findings.find((f) => f.rule === rule)
  expect(hit, `${rule} among ${findings.map((f) => f.rule).join(', ')}`).toBeDefined()
  return hit!
}
const ids = (findings: Finding[]): string[] => findings.map((f) => f.rule)
const put = (wh: (number | null)[], at: number, ...values: (number | null)[]): (number | null)[] => {
  wh.splice(at, values.length, ...values)
  return wh
}

describe('each rule, by a day of which the answer is known', () => {
  it('finds nothing in a plain day, with a baseline and without', () => {
    expect(ids(found(plain()))).toEqual([])
    expect(ids(found(plain(), { base: null }))).toEqual([])
  })

  it('gap: what lacks on a due day, and only there', () => {
    const wh = put(plain(), 10, null, null)
    expect(only(found(wh), 'gap')).toMatchObject({ slots: [10, 11], inputs: { missing: 2, expected: 96 }, severity: 'warning' })
    expect(ids(found(wh, { with: { isDue: false } }))).toEqual([])
    expect(only(found(new Array<null>(96).fill(null)), 'gap').slots).toHaveLength(96)
  })

  it('sum-check: intervals against the register, within the greater tolerance', () => {
    const register = (difference: number): Partial<Circumstances> => ({ register: { difference, from: 0, to: 4 } })
    const wh = put(plain(), 0, 1000, 1000, 1000, 1000)
    const rules = { rules: { 'sum-check': { multiplierTimes: 0.1 } } }
    expect(ids(found(wh, { with: register(4.1), rules, base: null }))).not.toContain('sum-check')
    expect(only(found(wh, { with: register(4.11), rules, base: null }), 'sum-check')).toMatchObject({
      slots: [0, 1, 2, 3], inputs: { sum: 4, registerDifference: 4.11, tolerance: 0.1 }, severity: 'exception' })
    expect(ids(found(put(wh, 1, null), { with: register(9), rules, base: null }))).not.toContain('sum-check')
    expect(ids(found(wh, { with: register(5.9), base: null }))).not.toContain('sum-check')
  })

  it('spike: (highest - third highest) / third highest above 1.8, not below 1 kW, not where it is usual', () => {
    // third highest 410: 410 x 2.8 = 1148 is the limit itself, which is not above it.
    const third = viewOf({ day: 0, intervalS: 900, exponent: -3, vals: Int32Array.from(put(plain(), 40, 1000) as number[]), lane: null }).top[2] * 1000
    const limit = Math.round(third * 2.8)
    expect(ids(found(put(plain(), 40, limit)))).not.toContain('spike')
    expect(only(found(put(plain(), 40, limit + 1)), 'spike')).toMatchObject({ slots: [40], inputs: { highest: (limit + 1) / 1000 } })
    expect(ids(found(put(plain(), 40, limit + 1), { base: { ...BASE, usualPeak: 1 } }))).not.toContain('spike')
    expect(ids(found(put(plain().map(() => 20), 40, 240), { base: null }))).not.toContain('spike')
  })

  it('demand-tolerance: off by default; the change against the last valid interval', () => {
    const wh = put(plain(), 30, 5000)
    expect(ids(found(wh))).not.toContain('demand-tolerance')
    expect(only(found(wh, { rules: { rules: { 'demand-tolerance': { enabled: true } } } }), 'demand-tolerance').slots).toEqual([30])
  })

  it('high-physical: more than 1.25 of the service', () => {
    expect(ids(found(put(plain(), 5, 15_000), { base: null }))).not.toContain('high-physical')
    expect(only(found(put(plain(), 5, 15_001), { base: null }), 'high-physical')).toMatchObject({ slots: [5], inputs: { peakKw: 60.004, limitKw: 60 }, severity: 'exception' })
    expect(ids(found(put(plain(), 5, 15_001), { base: null, with: { serviceKw: null } }))).not.toContain('high-physical')
  })

  it('high-usage and low-usage: against the median, and outside of the usual spread', () => {
    expect(only(found(plain().map((v) => v * 2 + 20)), 'high-usage').inputs).toMatchObject({ medianTotal: 32.4, madTotal: 2 })
    expect(ids(found(plain().map((v) => v * 2 + 20), { base: { ...BASE, madTotal: 10 } }))).not.toContain('high-usage')
    expect(only(found(plain().map((v) => Math.round(v * 0.35))), 'low-usage').inputs).toMatchObject({ medianTotal: 32.4 })
    expect(ids(found(plain().map((v) => Math.round(v * 0.35)), { base: { ...BASE, madTotal: 10 } }))).not.toContain('low-usage')
    expect(ids(found(put(plain().map((v) => Math.round(v * 0.3)), 3, null)))).not.toContain('low-usage')
  })

  it('max-history: the peak against twice the usual one', () => {
    expect(ids(found(put(plain(), 50, 1200)))).not.toContain('max-history')
    expect(only(found(put(plain(), 50, 1201)), 'max-history')).toMatchObject({ slots: [50], inputs: { peak: 1.201, usualPeak: 0.6 } })
  })

  it('zero: a day warns, the third is an exception; not where it is usual, disconnected, net or without power', () => {
    const zeros = new Array<number>(96).fill(0)
    expect(only(found(zeros), 'zero')).toMatchObject({ severity: 'warning', inputs: { hoursOfZero: 24 }, slots: [] })
    expect(only(found(zeros, { with: { zeroDaysBefore: 2 } }), 'zero')).toMatchObject({ severity: 'exception', inputs: { hoursOfZero: 72 } })
    for (const c of [{ isActive: false }, { isNet: true }, { outages: [[0, 8] as const] }]) expect(ids(found(zeros, { with: c }))).not.toContain('zero')
    expect(ids(found(zeros, { base: { ...BASE, zeroDays: 5 } }))).not.toContain('zero')
  })

  it('stuck: twelve equal values that are not zero, beyond what is usual', () => {
    expect(ids(found(put(plain(), 20, ...new Array<number>(11).fill(777))))).not.toContain('stuck')
    const wh = put(plain(), 20, ...new Array<number>(12).fill(777))
    expect(only(found(wh), 'stuck')).toMatchObject({ inputs: { count: 12, value: 0.777, usualRun: 2 }, slots: Array.from({ length: 12 }, (_, i) => 20 + i) })
    expect(ids(found(wh, { base: { ...BASE, longestRun: 8 } }))).not.toContain('stuck')
  })

  it('inactive: energy on a disconnected meter; prolonged: nothing but estimates on the fifth day', () => {
    expect(only(found(plain(), { with: { isActive: false } }), 'inactive').severity).toBe('exception')
    expect(ids(found(plain().map(() => 10), { with: { isActive: false }, base: null }))).not.toContain('inactive')
    expect(only(found(plain(), { lane: Quality.estimated, with: { estimatedDaysBefore: 4 } }), 'prolonged').inputs).toEqual({ days: 5 })
    expect(ids(found(plain(), { lane: Quality.estimated, with: { estimatedDaysBefore: 3 } }))).not.toContain('prolonged')
  })

  it('sentinel: a constant that stands for bad, exactly', () => {
    expect(only(found(put(plain(), 3, 65_535)), 'sentinel').slots).toEqual([3])
    expect(ids(found(put(plain(), 3, 65_534)))).not.toContain('sentinel')
  })

  it('stale-snapshot: a zero and then the energy of two', () => {
    const wh = put(plain(), 41, 0, 815)
    expect(only(found(wh), 'stale-snapshot').slots).toEqual([41, 42])
    expect(ids(found(put(plain(), 41, 0, 410)))).not.toContain('stale-snapshot')
    expect(ids(found(wh, { base: { ...BASE, zeroShare: 0.2 } }))).not.toContain('stale-snapshot')
  })

  it('placeholder-zero: zeros at the end of what is there', () => {
    const wh = put(plain(), 80, ...new Array<number>(16).fill(0))
    expect(only(found(wh), 'placeholder-zero')).toMatchObject({ inputs: { count: 16 }, slots: Array.from({ length: 16 }, (_, i) => 80 + i) })
    expect(ids(found(wh, { with: { outages: [[84, 90]] } }))).not.toContain('placeholder-zero')
    expect(ids(found(put(plain(), 90, 0, 0, 0, 0, 0, 0)))).not.toContain('placeholder-zero')
  })

  it('shift-hour: the profile an hour late or early, day after day', () => {
    const peaked: Baseline = { ...BASE, profile: BASE.profile.map((_, h) => h === 7 || h === 18 ? 3 : h === 12 ? 1.5 : 0.5) }
    const shape = (lag: number, seed = 0): number[] => Array.from({ length: 96 }, (_, i) => Math.round(peaked.profile[(Math.floor(i / 4) - lag + 24) % 24] * 250) + (i * 7 + seed * 13) % 40)
    const before = (lag: number, count: number): (Float64Array | null)[] => Array.from({ length: 4 }, (_, k) => {
      const wh = shape(k < count ? lag : 0, k + 1)
      return hoursOf(wh, 96, 96, 900)
    })
    const at = (lag: number, hoursBefore: (Float64Array | null)[]): Finding[] => found(shape(lag), { base: peaked, with: { hoursBefore } })
    expect(only(at(1, before(1, 4)), 'shift-hour').inputs).toMatchObject({ hours: 1, days: 5 })
    expect(only(at(-1, before(-1, 4)), 'shift-hour').inputs).toMatchObject({ hours: -1, days: 5 })
    expect(ids(at(0, before(0, 4)))).not.toContain('shift-hour')
    // The days before are as ever, or fewer than two of them can be compared, or they were not looked at.
    expect(ids(at(1, before(0, 4)))).not.toContain('shift-hour')
    expect(ids(at(1, [...before(1, 4).slice(0, 1), null, null, null]))).not.toContain('shift-hour')
    expect(only(at(1, [...before(1, 4).slice(0, 2), null, null]), 'shift-hour').inputs).toMatchObject({ days: 3 })
    expect(ids(at(1, []))).not.toContain('shift-hour')
    expect(ids(found(shape(1), { base: null, with: { hoursBefore: before(1, 4) } }))).not.toContain('shift-hour')
    expect(hoursOf(shape(1), 96, 95, 900)).toBeNull()
    expect(hoursOf(shape(1).slice(4), 92, 92, 900)).toBeNull()
    expect(hoursOf([1], 1, 1, 86_400)).toBeNull()
  })

  it('sibling: a flow that the registry names has nothing of a due day', () => {
    const both: Partial<Circumstances> = { registeredFlows: [Flow.delivered, Flow.received] }
    const other = (present: number, flow: FlowCode = Flow.received): Partial<Circumstances> => ({
      ...both, siblings: [{ flow, intervalS: 900, total: 0, present, isWhole: present === 96 }] })
    expect(only(found(plain(), { with: both }), 'sibling')).toMatchObject({ slots: [], inputs: { flow: 2 }, severity: 'warning' })
    expect(only(found(plain(), { with: { ...both, flow: Flow.received } }), 'sibling').inputs).toEqual({ flow: 1 })
    expect(only(found(plain(), { with: other(96, Flow.delivered) }), 'sibling').inputs).toEqual({ flow: 2 })
    expect(ids(found(plain(), { with: other(1) }))).not.toContain('sibling')
    expect(ids(found(plain(), { with: { ...both, isDue: false } }))).not.toContain('sibling')
    expect(ids(found(plain(), { with: { registeredFlows: [] } }))).not.toContain('sibling')
  })

  it('sibling-sum: the day against a channel of longer intervals', () => {
    const total = plain().reduce((a, b) => a + b, 0) / 1000
    const daily = (kwh: number, more: Partial<SiblingDay> = {}): Partial<Circumstances> => ({
      siblings: [{ flow: Flow.delivered, intervalS: 86_400, total: kwh, present: 1, isWhole: true, ...more }] })
    expect(ids(found(plain(), { with: daily(total + 1) }))).not.toContain('sibling-sum')
    expect(only(found(plain(), { with: daily(total + 1.01) }), 'sibling-sum')).toMatchObject({
      slots: [], inputs: { sibling: Number((total + 1.01).toFixed(6)), siblingIntervalSeconds: 86_400, tolerance: 1 }, severity: 'exception' })
    expect(only(found(plain(), { with: daily(total - 1.01) }), 'sibling-sum').inputs).toMatchObject({ sum: total })
    for (const c of [daily(9, { isWhole: false }), daily(9, { flow: Flow.received }), daily(9, { intervalS: 300 }), { ...daily(9), beginsWithDay: false }]) {
      expect(ids(found(plain(), { with: c }))).not.toContain('sibling-sum')
    }
    expect(ids(found(put(plain(), 9, null), { with: daily(9) }))).not.toContain('sibling-sum')
  })

  it('scale-drift: a thousand times, a quarter, the multiplier', () => {
    expect(only(found(plain().map((v) => v * 1000)), 'scale-drift').inputs).toMatchObject({ factor: 1000 })
    expect(only(found(plain().map((v) => Math.round(v / 4))), 'scale-drift').inputs).toMatchObject({ factor: 0.25 })
    expect(only(found(plain().map((v) => v * 40), { with: { multiplier: 40 } }), 'scale-drift').inputs).toMatchObject({ factor: 40 })
    expect(ids(found(plain().map((v) => v * 40)))).not.toContain('scale-drift')
  })

  it('catch-up-lump: nothing, then all of it', () => {
    const wh = put(plain(), 40, null, null, null, null, null, null, 2800)
    expect(only(found(wh), 'catch-up-lump')).toMatchObject({ inputs: { intervals: 6, value: 2.8 }, slots: [40, 41, 42, 43, 44, 45, 46] })
    expect(ids(found(put(plain(), 40, null, null, null, null, null, null, 500)))).not.toContain('catch-up-lump')
  })

  it('a rule of a utility\'s own, by a figure of the day', () => {
    const rules: RuleSetPatch = { dynamic: [{ name: 'leak', statistic: 'min', above: 0.1, below: null, severity: 'exception' }] }
    expect(only(found(plain(), { rules }), 'dynamic:leak')).toMatchObject({ inputs: { min: 0.2 }, parameters: { statistic: 'min', above: 0.1 }, severity: 'exception' })
    expect(ids(found(put(plain(), 0, 50), { rules }))).toEqual([])
  })

  it('a rule that is switched off finds nothing, and says its parameters where it is on', () => {
    const wh = put(plain(), 3, 65_535)
    const off = { rules: Object.fromEntries(ruleIds.map((id) => [id, { enabled: false }])) }
    expect(found(wh, { rules: off })).toEqual([])
    expect(only(found(wh), 'spike').parameters).toEqual({ severity: 'warning', ratio: 1.8, minKw: 1, usualPeakTimes: 1.3 })
  })
})

describe('rule sets', () => {
  it('have a hash of what they say, and rules a bit of their own', () => {
    expect(ruleSetHash(ruleSetOf({}))).toBe(ruleSetHash(ruleSetOf({ rules: { spike: { ratio: 1.8 } } })))
    expect(ruleSetHash(ruleSetOf({ rules: { spike: { ratio: 1.9 } } }))).not.toBe(ruleSetHash(ruleSetOf({})))
    const bits = ruleIds.map(flagBit)
    expect(new Set(bits).size).toBe(bits.length)
    expect(bits).not.toContain(flagBit('dynamic:leak'))
  })
})

describe('the baseline', () => {
  const start = periodStart(periodOf(20_000))
  const day = (back: number, wh: readonly number[], more: Partial<HistoryDay> = {}): HistoryDay => {
    const vals = Int32Array.from(wh)
    return { day: start - back, exponent: -3, total: wh.reduce((a, b) => a + b, 0), peak: Math.max(...wh), present: wh.length, estimated: 0,
      vals, lane: null, slots: wh.length, intervalS: 900, ...more }
  }
  const days = Array.from({ length: 20 }, (_, i) => day(i + 1, plain().map((v) => v + i)))

  it('is made of the window\'s usable days alone, whatever their order', () => {
    const base = summarise(periodOf(20_000), days)!
    expect(base).toMatchObject({ days: 20, zeroDays: 0, zeroShare: 0 })
    expect(base.medianTotal).toBeCloseTo(plain().reduce((a, b) => a + b, 0) / 1000 + 96 * 9.5 / 1000, 9)
    expect(base.profile).toHaveLength(24)
    const odd = [day(0, plain().map(() => 9999)), day(WINDOW_DAYS + 1, plain().map(() => 9999)), day(5, plain().map(() => 9999), { present: 40 }),
      day(6, plain().map(() => 9999), { estimated: 96 })]
    expect(summarise(periodOf(20_000), [...odd, ...[...days].reverse()])).toEqual(base)
    expect(summarise(periodOf(20_000), days.slice(0, 6))).toBeNull()
    expect(baselineOf(figuresOf(base))).toEqual(base)
  })

  it('of every period that a day takes part in is named', () => {
    for (let d = start; d < start + 14; d++) {
      const [from, to] = periodsAfter(d)
      for (let p = from - 1; p <= to + 1; p++) {
        const isIn = d >= periodStart(p) - WINDOW_DAYS && d < periodStart(p)
        expect(isIn).toBe(p >= from && p <= to)
      }
    }
  })
})
