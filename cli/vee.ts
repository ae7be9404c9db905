import { readFileSync } from 'node:fs'
import { Value } from 'typebox/value'
import type { Settings } from '../engine/config.js'
import { shadowRules } from '../engine/estimate/shadow.js'
import { RuleSetPatchSchema } from '../engine/validate/rule-set-schema.js'
import type { RuleSetPatch } from '../engine/validate/rule-set.js'
import { onDatabase, print, utilityOf } from './commands.js'

/** `meterline vee --shadow RULESET --days N`: what another rule set would change. Changes nothing. */
export async function veeCommand(settings: Settings, options: { shadow: string | null; days: number }, utility: string | null): Promise<number> {
  const { shadow, days } = options
  if (shadow === null) throw new Error('vee needs --shadow with a file of rules, as PUT /v1/vee/rules takes them')
  if (settings.meterlineUrl !== null) throw new Error('vee looks into the database: leave --url and METERLINE_URL out')
  const patch = readRules(shadow)
  return onDatabase(settings, async (database) => {
    const { utilityId } = await utilityOf(database, utility)
    print(await shadowRules(database.pool, utilityId, patch, days, Date.now() / 1000))
    return 0
  })
}

/** @throws Error that says where the file is wrong */
function readRules(path: string): RuleSetPatch {
  let rules: unknown
  try {
    rules = JSON.parse(readFileSync(path, 'utf8'))
  } catch (err) {
    throw new Error(`${path}: ${err instanceof Error ? err.message : String(err)}`, { cause: err })
  }
  if (Value.Check(RuleSetPatchSchema, rules)) return rules
  const [fault] = Value.Errors(RuleSetPatchSchema, rules)
  throw new Error(`${path}: ${fault.instancePath === '' ? 'the whole' : fault.instancePath} ${fault.message}`)
}
