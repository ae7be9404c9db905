import { createFleet, meterDay, meterProfile } from '../fixtures/simulator.js'
import { Random } from '../fixtures/prng.js'
import { readingFaults, TAKEN, withFault, type ReadingFault } from '../fixtures/reading-faults.js'
import { Flow, MISSING } from '../engine/read-batch.js'
import { dayNumber } from '../engine/time/text.js'
import { periodOf, periodStart, SLOT_DAYS, summarise, WINDOW_DAYS, type Baseline, type HistoryDay } from '../engine/validate/baseline.js'
import { viewOf, type Circumstances } from '../engine/validate/day.js'
import { judge } from '../engine/validate/judge.js'
import { ruleIds, ruleSetOf, type RuleId, type RuleSet } from '../engine/validate/rule-set.js'
import { hoursOf, mayBeShifted, SHIFT_DAYS, shiftGains } from '../engine/validate/shift.js'

/** The rules that each fault is there for: found by any of them is found. */
const MEANT: Readonly<Record<ReadingFault, readonly RuleId[]>> = {
  spike: ['spike', 'max-history', 'high-physical'], stuck: ['stuck'], 'zero-run': ['zero'], 'shift-hour': ['shift-hour'],
  'scale-1000': ['scale-drift', 'high-physical'], 'scale-quarter': ['scale-drift', 'low-usage'], 'catch-up-lump': ['catch-up-lump'],
  'stale-snapshot': ['stale-snapshot'], 'placeholder-zeros': ['placeholder-zero'], sentinel: ['sentinel'], gap: ['gap'],
}

export interface RuleOutcome {
  /** Clean meter-days that the rule flagged, and how many it judged. */
  falseAlarms: number
  /** Of the faults that the rule is meant for: those that it found by itself. */
  found: number
  meant: number
}

/** How often a fault was put in, found by a rule meant for it, and by any. */
export interface FaultCount { injected: number; found: number; byAny: number }

/** A shift lasts: it is put in for so many days in a row, and found when one of them is flagged. */
export const SHIFT_LASTS = 8

export interface FaultOutcome {
  meters: number
  days: number
  cleanDays: number
  rules: Map<RuleId, RuleOutcome>
  faults: Map<ReadingFault, FaultCount>
  /** Of the false alarms of shift-hour: days that are held against a profile made in part of shifted days. */
  shiftEchoes: number
  /** Clean meter-days with any flag at all. */
  flaggedClean: number
}

/**
 * Injects every fault once into each simulated meter, on days of their own (a shift by an hour on a week of them), and judges all days by the engine's own
 * functions: what each rule finds, and what it flags that is not wrong. The baselines are made of the faulty days too.
 */
export function judgeFaultyFleet(options: { meters: number; days: number; seed: string; startDay?: string; rules?: RuleSet }): FaultOutcome {
  const { meters, days, seed, rules = ruleSetOf({}) } = options
  const startDay = dayNumber(options.startDay ?? '2026-01-20')
  const fleet = createFleet({ meters, seed, zone: 'America/Chicago', startDay })
  const outcome: FaultOutcome = {
    meters, days, cleanDays: 0, flaggedClean: 0, shiftEchoes: 0, rules: new Map(ruleIds.map((id) => [id, { falseAlarms: 0, found: 0, meant: 0 }])),
    faults: new Map(readingFaults.map((f) => [f, { injected: 0, found: 0, byAny: 0 }])),
  }
  for (let index = 0; index < meters; index++) {
    const random = new Random(77, index)
    const faults = faultDays(random, startDay, days)
    const history: HistoryDay[] = []
    const { serviceKw, multiplier, solarKw } = meterProfile(fleet, index)
    let zeroDays = 0
    const shift = new Set<string>()
    for (let day = startDay; day < startDay + days; day++) {
      const { delivered } = meterDay(fleet, index, day)
      const fault = faults.get(day)
      const usual = usualOf(history)
      const vals = (fault === undefined ? delivered : withFault(delivered, fault, 4, usual, random)).map((v) => v === TAKEN ? MISSING : v)
      const view = viewOf({ day, intervalS: 900, exponent: -3, vals, lane: null })
      const circumstances: Circumstances = {
        serviceKw, multiplier, isActive: true, flow: Flow.delivered, isNet: false, isDue: true, outages: [], zeroDaysBefore: zeroDays, estimatedDaysBefore: 0,
        register: null, registeredFlows: solarKw > 0 ? [Flow.delivered, Flow.received] : [Flow.delivered], beginsWithDay: true,
        siblings: solarKw > 0 ? [{ flow: Flow.received, intervalS: 900, total: 0, present: view.slots, isWhole: true }] : [],
        hoursBefore: solarKw > 0 ? [] : hoursBefore(history, baselineAt(history, day), vals, rules) }
      const findings = judge(view, baselineAt(history, day), circumstances, rules)
      zeroDays = view.zeros === view.present ? zeroDays + 1 : 0
      const ids = new Set(findings.map((f) => f.rule))
      if (fault === undefined && ids.has('shift-hour') && isEcho(faults, day)) outcome.shiftEchoes++
      if (fault !== 'shift-hour') count(outcome, fault, ids)
      else for (const id of ids) shift.add(id)
      history.push({
        day, exponent: -3, total: Math.round(view.total * 1000), peak: Math.round(view.top[0] * 1000), present: view.present, estimated: 0, vals,
        lane: null, slots: vals.length, intervalS: 900 })
    }
    count(outcome, 'shift-hour', shift)
  }
  return outcome
}

function count(outcome: FaultOutcome, fault: ReadingFault | undefined, ids: ReadonlySet<string>): void {
  if (fault === undefined) {
    outcome.cleanDays++
    if (ids.size > 0) outcome.flaggedClean++
    for (const id of ids) outcome.rules.get(id as RuleId)!.falseAlarms++
    return
  }
  const f = outcome.faults.get(fault)!
  f.injected++
  if (ids.size > 0) f.byAny++
  if (MEANT[fault].some((id) => ids.has(id))) f.found++
  for (const id of MEANT[fault]) {
    const r = outcome.rules.get(id)!
    r.meant++
    if (ids.has(id)) r.found++
  }
}

/** A day for each fault, after five weeks of history, for the shift as many as it lasts; no two faults next to each other. */
function faultDays(random: Random, startDay: number, days: number): Map<number, ReadingFault> {
  const faults = new Map<number, ReadingFault>()
  const first = startDay + 35
  const places = Math.floor((days - 36) / 2)
  const long = SHIFT_LASTS / 2
  const shifted = random.whole(0, places - long - 1)
  for (let d = 0; d < SHIFT_LASTS; d++) faults.set(first + shifted * 2 + d, 'shift-hour')
  const order = Array.from({ length: places }, (_, i) => i).filter((i) => i < shifted || i > shifted + long)
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.whole(0, i);
    [order[i], order[j]] = [order[j], order[i]]
  }
  readingFaults.filter((f) => f !== 'shift-hour').slice(0, order.length).forEach((f, i) => faults.set(first + order[i] * 2, f))
  return faults
}

/** Whether the profile of a day's baseline is made of shifted days too: nobody put them right here. */
function isEcho(faults: ReadonlyMap<number, ReadingFault>, day: number): boolean {
  const start = periodStart(periodOf(day))
  return Array.from({ length: SLOT_DAYS }, (_, i) => faults.get(start - 1 - i)).includes('shift-hour')
}

/** Hours of the days before, where the day itself may be found shifted: as validation reads them. */
function hoursBefore(history: readonly HistoryDay[], baseline: Baseline | null, vals: Int32Array, rules: RuleSet): (Float64Array | null)[] {
  const own = hoursOf(vals, vals.length, vals.filter((v) => v !== MISSING).length, 900)
  const gains = own === null || baseline === null ? null : shiftGains(own, baseline.profile)
  if (gains === null || !mayBeShifted(gains, rules.rules['shift-hour'])) return []
  return history.slice(1 - SHIFT_DAYS).reverse().map((d) => hoursOf(d.vals!, d.slots, d.present, d.intervalS))
}

const baselines = new WeakMap<HistoryDay[], Map<number, Baseline | null>>()

function baselineAt(history: HistoryDay[], day: number): Baseline | null {
  const period = periodOf(day)
  let known = baselines.get(history)
  if (known === undefined) baselines.set(history, known = new Map<number, Baseline | null>())
  let base = known.get(period)
  if (base === undefined) known.set(period, base = summarise(period, history.filter((d) => d.day >= periodStart(period) - WINDOW_DAYS)))
  return base
}

function usualOf(history: readonly HistoryDay[]): number {
  const last = history.slice(-7)
  return last.length === 0 ? 200 : last.reduce((s, d) => s + d.total / Math.max(1, d.present), 0) / last.length
}
