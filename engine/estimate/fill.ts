import type { RuleSet } from '../validate/rule-set.js'

/**
 * Estimation of what lacks (vee.md b2): linear over short gaps, like days over longer ones, both scaled to the register
 * where one brackets the gap; nothing where there is nothing to go by. Pure.
 */

export type EstimationRules = RuleSet['estimation']

/** As in a lane's method bits. */
export const Method = { linear: 1, likeDay: 2, linearRegister: 3, likeDayRegister: 4, outageZero: 5 } as const
export type MethodCode = (typeof Method)[keyof typeof Method]

/** A channel's slots over days in a row, those that are not stored too; slots of one day follow those of the day before. */
export interface Series {
  readonly intervalS: number
  readonly days: readonly SeriesDay[]
  /** Start of each slot, epoch seconds. */
  readonly startS: Float64Array
  /** Mantissa per slot at the series' exponent; NaN where no read but the engine's own estimate stands. */
  readonly values: Float64Array
  /** 1 where the read may be an end point of a line: actual, validated or edited. */
  readonly isFirm: Uint8Array
}

export interface SeriesDay {
  readonly day: number
  readonly offset: number
  readonly slots: number
  /** Seconds of the local clock at each slot's start, from midnight. */
  readonly clock: readonly number[]
  /** Monday 0 to Sunday 6. */
  readonly weekday: number
  /** True where any read of the day was estimated: it lends nothing to others. */
  readonly isEstimated: boolean
}

export interface Surroundings {
  /** Stretches without power, epoch seconds; confirmed: power came back. */
  readonly outages: readonly { fromS: number; toS: number }[]
  /** Register reads at the series' exponent, ascending. */
  readonly registers: readonly { atS: number; mantissa: number }[]
}

/** What fills a slot, and by what. */
export interface Estimate {
  readonly slot: number
  readonly mantissa: number
  readonly method: MethodCode
}

export interface Filling {
  readonly estimates: Estimate[]
  /** What the estimates of a day rest on, by local day: methods, like days, the register's difference. */
  readonly basis: Map<number, Basis>
}

export interface Basis {
  methods: string[]
  likeDays?: number[]
  register?: { fromS: number; toS: number; difference: number; scale: number }
}

interface Gap { from: number; to: number }

/** Fills the gaps of a series. @param toSlot slots from here on are not due */
export function fillGaps(series: Series, around: Surroundings, rules: EstimationRules, toSlot: number): Filling {
  const { values, startS } = series
  const shape = new Float64Array(toSlot).fill(NaN)
  const method = new Uint8Array(toSlot)
  const basis = new Map<number, Basis>()
  const gaps = gapsOf(series, toSlot)
  for (const gap of gaps) {
    // A gap that reaches back to before all that was read of the channel is none.
    if (gap.from === 0) continue
    const until = startS[gap.from] + rules.maxGapDays * 86_400
    fillOutages(series, gap, around, shape, method)
    const isShort = (gap.to - gap.from) * series.intervalS <= rules.linearHours * 3600
    if (isShort && fillLinear(series, gap, around, shape, method)) continue
    for (const day of series.days) fillLikeDay(series, day, gap, until, rules, shape, method, basis)
  }
  if (rules.registerBounded) scaleToRegisters(series, around, shape, method, basis)
  const estimates: Estimate[] = []
  for (let i = 0; i < toSlot; i++) {
    if (!Number.isNaN(values[i]) || Number.isNaN(shape[i])) continue
    estimates.push({ slot: i, mantissa: Math.round(shape[i]), method: method[i] as MethodCode })
  }
  noteMethods(series, estimates, basis)
  return { estimates, basis }
}

function gapsOf({ values }: Series, toSlot: number): Gap[] {
  const gaps: Gap[] = []
  for (let i = 0; i < toSlot; i++) {
    if (!Number.isNaN(values[i])) continue
    let to = i + 1
    // The gap's length counts, also beyond what is due.
    while (to < values.length && Number.isNaN(values[to])) to++
    gaps.push({ from: i, to })
    i = to
  }
  return gaps
}

/** Zero, where power was away from before the slot to after it, and came back. */
function fillOutages({ startS, intervalS }: Series, gap: Gap, { outages }: Surroundings, shape: Float64Array, method: Uint8Array): void {
  for (let i = gap.from; i < Math.min(gap.to, shape.length); i++) {
    if (!outages.some((o) => o.toS !== Infinity && o.fromS <= startS[i] && o.toS >= startS[i] + intervalS)) continue
    shape[i] = 0
    method[i] = Method.outageZero
  }
}

/** Point to point, both ends firm and with power (CA: power-failure intervals cannot be end points). */
function fillLinear(series: Series, gap: Gap, { outages }: Surroundings, shape: Float64Array, method: Uint8Array): boolean {
  const { values, isFirm, startS, intervalS } = series
  if (gap.to >= values.length || gap.to > shape.length || isFirm[gap.from - 1] === 0 || isFirm[gap.to] === 0) return false
  const spanFrom = startS[gap.from - 1]
  const spanTo = startS[gap.to] + intervalS
  if (outages.some((o) => o.fromS < spanTo && o.toS > spanFrom)) return false
  const [a, b] = [values[gap.from - 1], values[gap.to]]
  const steps = gap.to - gap.from + 1
  for (let i = gap.from; i < gap.to; i++) {
    shape[i] = a + (b - a) * (i - gap.from + 1) / steps
    method[i] = Method.linear
  }
  return true
}

/** The mean of the same time of day on the nearest like days before: the same weekday, else working day or weekend. */
function fillLikeDay(
  series: Series, day: SeriesDay, gap: Gap, untilS: number, rules: EstimationRules, shape: Float64Array, method: Uint8Array, basis: Map<number, Basis>,
): void {
  const from = Math.max(gap.from, day.offset)
  const to = Math.min(gap.to, day.offset + day.slots, shape.length)
  if (from >= to) return
  const like = likeDaysOf(series, day, rules)
  if (like.length === 0) return
  let isUsed = false
  for (let i = from; i < to && series.startS[i] < untilS; i++) {
    if (method[i] !== 0) continue
    const clock = day.clock[i - day.offset]
    let sum = 0
    let count = 0
    for (const other of like) {
      const at = other.clock.indexOf(clock)
      const v = at < 0 ? NaN : series.values[other.offset + at]
      if (Number.isNaN(v)) continue
      sum += v
      count++
    }
    if (count === 0) continue
    shape[i] = sum / count
    method[i] = Method.likeDay
    isUsed = true
  }
  if (isUsed) basisOf(basis, day.day).likeDays = like.map((d) => d.day)
}

function likeDaysOf(series: Series, day: SeriesDay, rules: EstimationRules): SeriesDay[] {
  const usable = series.days.filter((d) => d.day < day.day && d.day >= day.day - rules.likeDayReach && !d.isEstimated && isWhole(series, d)).reverse()
  const same = usable.filter((d) => d.weekday === day.weekday).slice(0, rules.likeDays)
  if (same.length === rules.likeDays) return same
  const like = usable.filter((d) => (d.weekday >= 5) === (day.weekday >= 5)).slice(0, rules.likeDays)
  return like.length > same.length ? like : same
}

function isWhole({ values }: Series, day: SeriesDay): boolean {
  for (let i = day.offset; i < day.offset + day.slots; i++) if (Number.isNaN(values[i])) return false
  return true
}

/** Between two register reads that bracket gaps, all of which have a shape: the shapes scaled to what the reads leave over. */
function scaleToRegisters(series: Series, { registers }: Surroundings, shape: Float64Array, method: Uint8Array, basis: Map<number, Basis>): void {
  const { startS, values, intervalS } = series
  if (registers.length < 2) return
  const slotAt = new Map<number, number>()
  for (let i = 0; i < startS.length; i++) slotAt.set(startS[i], i)
  slotAt.set(startS[startS.length - 1] + intervalS, startS.length)
  for (let r = 1; r < registers.length; r++) {
    const [a, b] = [registers[r - 1], registers[r]]
    const from = slotAt.get(a.atS)
    const to = slotAt.get(b.atS)
    if (from === undefined || to === undefined || to > shape.length || b.mantissa < a.mantissa) continue
    let left = b.mantissa - a.mantissa
    let sum = 0
    const open: number[] = []
    for (let i = from; i < to; i++) {
      if (!Number.isNaN(values[i])) left -= values[i]
      else {
        open.push(i)
        sum += shape[i]
      }
    }
    // A slot without a shape makes the sum NaN: the register's energy cannot be shared out then.
    if (open.length === 0 || left < 0 || Number.isNaN(sum)) continue
    const scale = sum > 0 ? left / sum : NaN
    shareOut(open, (i) => sum > 0 ? shape[i] * scale : left / open.length, left, shape)
    for (const i of open) {
      if (method[i] !== Method.outageZero) method[i] = method[i] === Method.linear ? Method.linearRegister : Method.likeDayRegister
    }
    for (const day of series.days) {
      if (day.offset >= to || day.offset + day.slots <= from || !open.some((i) => i >= day.offset && i < day.offset + day.slots)) continue
      basisOf(basis, day.day).register = { fromS: a.atS, toS: b.atS, difference: b.mantissa - a.mantissa, scale: Number.isNaN(scale) ? 0 : scale }
    }
  }
}

/** Whole numbers whose sum is `left`: each rounded such that what was cut off so far is carried on. */
function shareOut(slots: readonly number[], part: (slot: number) => number, left: number, shape: Float64Array): void {
  let exact = 0
  let given = 0
  slots.forEach((i, k) => {
    exact += part(i)
    const upTo = k === slots.length - 1 ? Math.round(left) : Math.round(exact)
    shape[i] = upTo - given
    given = upTo
  })
}

const METHOD_WORDS: Readonly<Record<MethodCode, string>> = {
  1: 'linear', 2: 'like-day', 3: 'linear-register', 4: 'like-day-register', 5: 'outage-zero',
}

function noteMethods(series: Series, estimates: readonly Estimate[], basis: Map<number, Basis>): void {
  let d = 0
  for (const { slot, method } of estimates) {
    while (slot >= series.days[d].offset + series.days[d].slots) d++
    const { methods } = basisOf(basis, series.days[d].day)
    if (!methods.includes(METHOD_WORDS[method])) methods.push(METHOD_WORDS[method])
  }
}

function basisOf(basis: Map<number, Basis>, day: number): Basis {
  let b = basis.get(day)
  if (b === undefined) basis.set(day, b = { methods: [] })
  return b
}
