import { createHash } from 'node:crypto'

export type Severity = 'warning' | 'exception'

/**
 * Everything that can be set about validation and estimation, with the defaults of the field where one is published and
 * ours where none is (docs/vee.md says which). Energies are kWh, powers kW, shares 0 to 1, `...Times` factors.
 */
export const DEFAULT_RULE_SET = {
  /** False: nothing is judged. */
  validation: true,
  rules: {
    /** Intervals of a due day that lack. */
    gap: { enabled: true, severity: 'warning' as Severity, minMissing: 1 },
    /** Intervals against the register's difference: within the greater of both tolerances. */
    'sum-check': { enabled: true, severity: 'exception' as Severity, multiplierTimes: 2, share: 0.01 },
    /** (highest - third highest) / third highest over the day, unless the channel is used to such peaks. */
    spike: { enabled: true, severity: 'warning' as Severity, ratio: 1.8, minKw: 1, usualPeakTimes: 1.3 },
    /** Change against the interval before, as a share of it. */
    'demand-tolerance': { enabled: false, severity: 'warning' as Severity, share: 10, minKw: 1 },
    /** Power above what the service can carry; `fallbackKw` where the meter's service is not known (0: not judged). */
    'high-physical': { enabled: true, severity: 'exception' as Severity, serviceTimes: 1.25, fallbackKw: 0 },
    /** The day's energy against the median of the days before, outside of its usual spread too. */
    'high-usage': { enabled: true, severity: 'warning' as Severity, medianTimes: 2, madTimes: 5, minKwh: 5 },
    'low-usage': { enabled: true, severity: 'warning' as Severity, medianTimes: 0.4, madTimes: 5, minKwh: 5 },
    /** The day's peak against the usual one of the days before. */
    'max-history': { enabled: true, severity: 'warning' as Severity, peakTimes: 2, minKw: 1 },
    /** A day of zeros on an active meter; an exception from `exceptionHours` on. */
    zero: { enabled: true, hours: 24, exceptionHours: 72, usualZeroDays: 0.1 },
    /** Equal values other than zero in a row, unless the channel is used to such runs. */
    stuck: { enabled: true, severity: 'warning' as Severity, count: 12, usualRunTimes: 1.5 },
    /** Energy on a disconnected or removed meter. */
    inactive: { enabled: true, severity: 'exception' as Severity, minKwh: 1 },
    /** Days of nothing but estimates. */
    prolonged: { enabled: true, severity: 'exception' as Severity, days: 5 },
    /** Values that head-ends send for "bad". */
    sentinel: { enabled: true, severity: 'exception' as Severity,
      values: [65.535, 655.35, 6553.5, 65_535, 9999.999, 99_999.999, 16_777.215, 99_999, 999_999] },
    /** A zero, then about the energy of two intervals: a snapshot that was read twice. */
    'stale-snapshot': { enabled: true, severity: 'warning' as Severity, tolerance: 0.35, usualZeroShare: 0.01 },
    /** Zeros at the end of what a day holds, where zeros are not usual. */
    'placeholder-zero': { enabled: true, severity: 'warning' as Severity, minHours: 2, usualZeroShare: 0.01 },
    /** The day and the four before it fit the channel's profile better an hour off: gains in log-likelihood, in all and of the day. */
    'shift-hour': { enabled: true, severity: 'warning' as Severity, gain: 22, dayGain: 2, mostLoss: 2 },
    /** Energy a thousand times, four times or the multiplier's times of what it was, the low intervals too. */
    'scale-drift': { enabled: true, severity: 'exception' as Severity, factors: [1000, 0.001, 4, 0.25], tolerance: 0.25 },
    /** Missing or zero intervals, then their energy in one. */
    'catch-up-lump': { enabled: true, severity: 'warning' as Severity, minIntervals: 2, share: 0.5, usualPeakTimes: 1.3 },
    /** A flow that the registry names for the meter has no read of a due day, while another has. */
    sibling: { enabled: true, severity: 'warning' as Severity },
    /** A whole day against the read of a channel of longer intervals: within the greater of both tolerances. */
    'sibling-sum': { enabled: true, severity: 'exception' as Severity, multiplierTimes: 1, share: 0.01 },
  },
  /** Rules of a utility's own over the day's figures. */
  dynamic: [] as DynamicRule[],
  estimation: {
    /** False: gaps stay gaps. The engine invents no number unasked. */
    enabled: false,
    linearHours: 2,
    likeDays: 3,
    /** Days before the gap that like days are looked for in. */
    likeDayReach: 35,
    /** A longer gap is not filled. */
    maxGapDays: 35,
    /** Whether registers that bracket a gap scale what fills it. */
    registerBounded: true,
  },
}

/** A statistic of the day held against limits; null where there is no limit. */
export interface DynamicRule {
  name: string
  statistic: Statistic
  above: number | null
  below: number | null
  severity: Severity
}

export const statistics = ['sum', 'min', 'max', 'mean', 'median', 'zeros', 'missing', 'estimated', 'deviation'] as const
export type Statistic = (typeof statistics)[number]

export type RuleSet = typeof DEFAULT_RULE_SET
export type RuleId = keyof RuleSet['rules']

/** What a rule set sets over the defaults. */
export interface RuleSetPatch {
  validation?: boolean
  rules?: { [K in RuleId]?: Partial<RuleSet['rules'][K]> }
  dynamic?: DynamicRule[]
  estimation?: Partial<RuleSet['estimation']>
}

/** The rule set in force: what is set over the defaults. */
export function ruleSetOf(patch: RuleSetPatch): RuleSet {
  const rules = Object.fromEntries(ruleIds.map((id) => [id, { ...DEFAULT_RULE_SET.rules[id], ...patch.rules?.[id] }]))
  return {
    validation: patch.validation ?? DEFAULT_RULE_SET.validation,
    rules: rules as RuleSet['rules'],
    dynamic: patch.dynamic ?? DEFAULT_RULE_SET.dynamic,
    estimation: { ...DEFAULT_RULE_SET.estimation, ...patch.estimation },
  }
}

/** Every rule; a rule's place is its bit in an answer's flags, so that new ones go to the end. */
export const ruleIds = Object.keys(DEFAULT_RULE_SET.rules) as RuleId[]

/** Bit of the utility's own rules in an answer's flags. */
export const DYNAMIC_BIT = 30

/** Flag bit of a rule by its id; a dynamic rule's id is `dynamic:<name>`. */
export function flagBit(rule: string): number {
  const place = (ruleIds as string[]).indexOf(rule)
  return 1 << (place < 0 ? DYNAMIC_BIT : place)
}

/** SHA-256 of the rule set whatever the order of its members, hex. */
export function ruleSetHash(rules: RuleSet): string {
  return createHash('sha256').update(canonical(rules)).digest('hex')
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  return `{${Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1).map(([k, v]) => `${JSON.stringify(k)}:${canonical(v)}`).join(',')}}`
}
