import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import type { RulesInForce } from '../../engine/validate/rule-set-store.js'
import { loadRules, putRules } from '../../engine/validate/rule-set-store.js'
import { RuleSetPatchSchema } from '../../engine/validate/rule-set-schema.js'
import type { ApiContext } from '../context.js'

const Rules = Type.Object({
  version: Type.Integer({ description: '0: nothing was ever set, the defaults hold' }),
  hash: Type.String({ description: 'SHA-256 of the rules in force' }),
  set: Type.Unknown({ description: 'What is set over the defaults' }),
  inForce: Type.Unknown({ description: 'Every rule with its parameters, and the settings of estimation' }),
})

/** The rules that reads are validated and estimated by. */
export function veeRulesRoutes(app: FastifyInstance, context: ApiContext): void {
  app.get('/v1/vee/rules', {
    config: { roles: ['viewer', 'operator'] },
    schema: { operationId: 'getVeeRules', tags: ['validation'], summary: 'Rules in force', response: { 200: Rules } },
  }, async (request) => view(await loadRules(context.pool, request.principal.utilityId)))

  app.put<{ Body: Static<typeof RuleSetPatchSchema> }>('/v1/vee/rules', {
    config: { roles: ['operator'] },
    schema: {
      operationId: 'putVeeRules', tags: ['validation'],
      summary: 'Put a rule set in force: what is left out goes back to its default. Days judged from then on follow it',
      body: RuleSetPatchSchema, response: { 200: Rules } },
  }, async (request) => view(await putRules(context.pool, request.principal.utilityId, request.body, request.principal.actor)))
}

function view({ version, hash, patch, rules }: RulesInForce): Static<typeof Rules> {
  return { version, hash, set: patch, inForce: rules }
}
