/**
 * Consumption by difference of a cumulative register's reads. A register that shows less than before has stepped back
 * (some do by a few units, Sensus's water registers with no flag at all), rolled over at the end of its dials, been
 * reset, or belongs to another device: they are told apart, and where the difference says nothing there is no value.
 */

/** One read: instant in epoch seconds, value x 10^9. */
export interface RegisterPoint {
  atS: number
  nanos: bigint
}

export type StepKind = 'difference' | 'step-back' | 'rollover' | 'exchange' | 'reset' | 'unexplained'

export interface RegisterStep {
  fromS: number
  toS: number
  kind: StepKind
  /** Consumption x 10^9; null where it cannot be told. */
  nanos: bigint | null
}

const ONE = 1_000_000_000n

/**
 * Steps between consecutive reads.
 * @param points ascending by instant, one for each
 * @param exchanges instants at which another device was put in the meter's place, epoch seconds
 */
export function consumptionOf(points: readonly RegisterPoint[], exchanges: readonly number[]): RegisterStep[] {
  const steps: RegisterStep[] = []
  for (let i = 1; i < points.length; i++) {
    const [a, b] = [points[i - 1], points[i]]
    const isExchange = exchanges.some((s) => s > a.atS && s <= b.atS)
    steps.push({ fromS: a.atS, toS: b.atS, ...(isExchange ? { kind: 'exchange', nanos: null } : stepOf(a.nanos, b.nanos)) })
  }
  return steps
}

function stepOf(before: bigint, after: bigint): { kind: StepKind; nanos: bigint | null } {
  if (after >= before) return { kind: 'difference', nanos: after - before }
  // A hundredth of what it shows at most.
  if ((before - after) * 100n <= before) return { kind: 'step-back', nanos: after - before }
  const capacity = dialsOf(before)
  // From the last tenth of the dials to their first: nine tenths of them in one step would be a reset.
  if (before * 10n >= capacity * 9n && after >= 0n && after * 10n <= capacity) return { kind: 'rollover', nanos: capacity - before + after }
  if (after >= 0n && after * 10n <= before) return { kind: 'reset', nanos: null }
  return { kind: 'unexplained', nanos: null }
}

/** What the dials that show this value count to: the next power of ten. */
function dialsOf(nanos: bigint): bigint {
  let capacity = ONE
  while (capacity <= nanos) capacity *= 10n
  return capacity
}
