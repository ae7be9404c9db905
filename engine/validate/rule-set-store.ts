import { writeAudit } from '../audit.js'
import { inTransaction, type Pool, type Queryable } from '../store/db.js'
import { ruleSetHash, ruleSetOf, type RuleSet, type RuleSetPatch } from './rule-set.js'

/** The rules in force in a utility. */
export interface RulesInForce {
  /** 0: nothing was ever set, the defaults hold. */
  version: number
  hash: string
  patch: RuleSetPatch
  rules: RuleSet
}

/** Reads the utility's rules. */
export async function loadRules(db: Queryable, utilityId: number): Promise<RulesInForce> {
  const { rows } = await db.query<{ version: number; patch: RuleSetPatch }>(
    'select version, patch from vee_rule_set where utility_id = $1 order by version desc limit 1', [utilityId])
  const patch = rows[0]?.patch ?? {}
  const rules = ruleSetOf(patch)
  return { version: rows[0]?.version ?? 0, hash: ruleSetHash(rules), patch, rules }
}

/** Puts another rule set in force, as a new version; the same one again changes nothing. Days judged from then on follow it. */
export async function putRules(pool: Pool, utilityId: number, patch: RuleSetPatch, actor: string): Promise<RulesInForce> {
  return inTransaction(pool, async (client) => {
    await client.query('select 1 from utility where utility_id = $1 for no key update', [utilityId])
    const before = await loadRules(client, utilityId)
    const rules = ruleSetOf(patch)
    const hash = ruleSetHash(rules)
    if (hash === before.hash) return before
    const version = before.version + 1
    await client.query('insert into vee_rule_set (utility_id, version, hash, patch, actor) values ($1, $2, $3, $4, $5)',
      [utilityId, version, hash, JSON.stringify(patch), actor])
    // With estimation switched on, or done otherwise, the last weeks' gaps are looked for once more.
    const again = rules.estimation.enabled && JSON.stringify(rules.estimation) !== JSON.stringify(before.rules.estimation)
    await client.query('update utility set validates = $2, gaps_swept = case when $3 then null else gaps_swept end where utility_id = $1',
      [utilityId, rules.validation, again])
    await writeAudit(client, { utilityId, actor, action: 'vee-rules.change', subject: String(version), detail: { hash, patch } })
    return { version, hash, patch, rules }
  })
}
