import { catchUpLump, highUsage, lowUsage, maxHistory, placeholderZero, scaleDrift, staleSnapshot } from './against-history.js'
import type { Baseline } from './baseline.js'
import type { Circumstances, DayView, Finding } from './day.js'
import type { RuleId, RuleSet } from './rule-set.js'
import { shiftHour } from './shift.js'
import { sibling, siblingSum } from './siblings.js'
import { demandTolerance, dynamic, gap, highPhysical, inactive, prolonged, sentinel, spike, stuck, sumCheck, zero, type Found } from './within-day.js'

type Check<K extends RuleId> = (day: DayView, baseline: Baseline | null, c: Circumstances, parameters: RuleSet['rules'][K]) => Found | null

/** Every rule's function: one each. */
const CHECKS: { readonly [K in RuleId]: Check<K> } = {
  gap, 'sum-check': sumCheck, spike, 'demand-tolerance': demandTolerance, 'high-physical': highPhysical, 'high-usage': highUsage,
  'low-usage': lowUsage, 'max-history': maxHistory, zero, stuck, inactive, prolonged, sentinel, 'stale-snapshot': staleSnapshot,
  'placeholder-zero': placeholderZero, 'shift-hour': shiftHour, 'scale-drift': scaleDrift, 'catch-up-lump': catchUpLump,
  sibling, 'sibling-sum': siblingSum,
}

/**
 * Judges a day by every rule that is switched on; passing one exempts from no other (CPUC 1998). Pure: the same day,
 * baseline, circumstances and rules give the same findings.
 */
export function judge(day: DayView, baseline: Baseline | null, c: Circumstances, rules: RuleSet): Finding[] {
  const findings: Finding[] = []
  for (const id in CHECKS) run(id as RuleId, day, baseline, c, rules, findings)
  for (const rule of rules.dynamic) {
    const found = dynamic(day, rule)
    if (found === null) continue
    const { name, severity, ...parameters } = rule
    findings.push({ rule: `dynamic:${name}`, severity, slots: found.slots, inputs: found.inputs, parameters })
  }
  return findings
}

function run<K extends RuleId>(
  id: K, day: DayView, baseline: Baseline | null, c: Circumstances, rules: RuleSet, findings: Finding[],
): void {
  const own = rules.rules[id]
  if (!own.enabled || (day.present === 0 && id !== 'gap')) return
  const found = CHECKS[id](day, baseline, c, own)
  if (found === null) return
  const { enabled: _, ...parameters } = own
  findings.push({
    rule: id, slots: found.slots, inputs: found.inputs, parameters,
    severity: found.severity ?? ('severity' in own ? own.severity : 'warning'),
  })
}
