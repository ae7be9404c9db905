import { Type, type TSchema, type TUnsafe } from 'typebox'
import { DEFAULT_RULE_SET, ruleIds, statistics, type RuleSetPatch } from './rule-set.js'

/** The schema of what a rule set sets over the defaults: every member optional, of the kind that its default is of. */

const severity = Type.Enum(['warning', 'exception'])

const dynamicRule = Type.Object({
  name: Type.String({ minLength: 1, maxLength: 60, pattern: '^[A-Za-z0-9._-]+$' }),
  statistic: Type.Enum([...statistics]),
  above: Type.Union([Type.Number(), Type.Null()]),
  below: Type.Union([Type.Number(), Type.Null()]),
  severity,
}, { additionalProperties: false })

function kindOf(name: string, value: unknown): TSchema {
  if (name === 'severity') return severity
  if (typeof value === 'boolean') return Type.Boolean({ default: value })
  if (Array.isArray(value)) return Type.Array(Type.Number(), { maxItems: 100, default: value })
  const isWhole = /^(min|like|max)(Missing|Intervals|Days|DayReach|GapDays)$|^count$|^days$/.test(name)
  return isWhole ? Type.Integer({ minimum: 1, maximum: 366, default: value }) : Type.Number({ minimum: 0, maximum: 1e9, default: value })
}

function partial(defaults: object): TSchema {
  return Type.Object(Object.fromEntries(Object.entries(defaults).map(([name, value]) => [name, Type.Optional(withoutDefault(kindOf(name, value)))])),
    { additionalProperties: false })
}

/** A default in the schema would be filled in, and read as set: it is told as description. */
function withoutDefault(schema: TSchema): TSchema {
  const { default: value, ...rest } = schema as TSchema & { default?: unknown }
  return value === undefined ? rest : { ...rest, description: `Default: ${JSON.stringify(value)}` }
}

const shape = Type.Object({
  validation: Type.Optional(Type.Boolean({ description: 'False: nothing is judged' })),
  rules: Type.Optional(Type.Object(
    Object.fromEntries(ruleIds.map((id) => [id, Type.Optional(partial(DEFAULT_RULE_SET.rules[id]))])), { additionalProperties: false })),
  dynamic: Type.Optional(Type.Array(dynamicRule, { maxItems: 50 })),
  estimation: Type.Optional(partial(DEFAULT_RULE_SET.estimation)),
}, { additionalProperties: false })

export const RuleSetPatchSchema: TUnsafe<RuleSetPatch> = Type.Unsafe<RuleSetPatch>(shape)
