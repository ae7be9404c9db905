import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { ApiError } from '../../engine/problem.js'
import { unitOf, unitWords } from '../../engine/quantity.js'
import { getSource, listSources, putSource, type SourceRecord } from '../../engine/registry/sources.js'
import { clocks } from '../../engine/source-settings.js'
import { checkZone } from '../../engine/utilities.js'
import { loadRules } from '../../engine/validate/rule-set-store.js'
import { skippableRules } from '../../engine/validate/skipping.js'
import type { ApiContext } from '../context.js'
import { page, text, words } from '../schemas.js'

const setting = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]))

/**
 * `clock`: how timestamps without an offset are told where the format leaves it open: `utc`, `local-standard` (the zone's
 * standard time all year), `local-prevailing`, or `wall-as-epoch` (stamps that say UTC hold the local wall clock).
 */
const Settings = {
  unknownMeters: setting(words(['quarantine', 'register', 'reject'])),
  zone: setting(text(100, { description: 'IANA zone of local times in the source\'s files; default: the utility\'s' })),
  label: setting(words(['start', 'end'])),
  clock: setting(words(clocks)),
  defaultIntervalSeconds: setting(Type.Integer({ minimum: 60, maximum: 86_400 })),
  unit: setting(text(20, { minLength: 1 })),
  round: setting(Type.Boolean({ description: 'True: values finer than can be kept are rounded and counted, not quarantined' })),
  multiplierApplied: setting(Type.Boolean({ description: 'False: values are raw, and the meter\'s multiplier is applied' })),
  skipRules: setting(Type.Array(text(80), { maxItems: 100, description:
    'Ids of validation rules that are not applied to this source\'s reads, from the next judgement of a day on; docs/vee.md' })),
}
const SourceBody = Type.Object(Settings)
const Source = Type.Object({ source: Type.String(), settings: Type.Object(Settings), createdAt: Type.String() })
const Params = Type.Object({ name: text(100, { minLength: 1 }) })

/** Sources of reads and how their deliveries are understood. */
export function sourceRoutes(app: FastifyInstance, context: ApiContext): void {
  app.put<{ Params: Static<typeof Params>; Body: Static<typeof SourceBody> }>('/v1/sources/:name', {
    config: { roles: ['operator'], problems: ['unknown-zone', 'unknown-unit', 'unknown-rule'] },
    schema: {
      operationId: 'putSource', tags: ['sources'], summary: 'Make a source or change its settings; null goes back to the default',
      params: Params, body: SourceBody, response: { 200: Source, 201: Source },
    },
  }, async (request, reply) => {
    const { principal, params, body } = request
    if (typeof body.zone === 'string') checkZone(body.zone)
    if (typeof body.unit === 'string' && unitOf(body.unit) === undefined) {
      throw new ApiError(422, 'unknown-unit', 'There is no such unit.', { help: `Units: ${unitWords}.` })
    }
    await checkSkipped(context, principal.utilityId, body.skipRules ?? [])
    const { created, record } = await putSource(context.pool, principal.utilityId, params.name, body, principal.actor)
    return reply.code(created ? 201 : 200).send(view(record))
  })

  app.get<{ Params: Static<typeof Params> }>('/v1/sources/:name', {
    config: { roles: ['viewer', 'operator'], problems: ['source-not-found'] },
    schema: { operationId: 'getSource', tags: ['sources'], summary: 'Read a source', params: Params, response: { 200: Source } },
  }, async (request) => {
    const record = await getSource(context.pool, request.principal.utilityId, request.params.name)
    if (record === undefined) throw new ApiError(404, 'source-not-found', 'There is no such source.')
    return view(record)
  })

  app.get('/v1/sources', {
    config: { roles: ['viewer', 'operator'] },
    schema: { operationId: 'listSources', tags: ['sources'], summary: 'Sources', response: { 200: page(Source) } },
  }, async (request) => ({ items: (await listSources(context.pool, request.principal.utilityId)).map(view), next: null }))
}

/** @throws ApiError 422 `unknown-rule` */
async function checkSkipped(context: ApiContext, utilityId: number, skipped: readonly string[]): Promise<void> {
  if (skipped.length === 0) return
  const known = skippableRules((await loadRules(context.pool, utilityId)).rules)
  const at = skipped.findIndex((rule) => !known.includes(rule))
  if (at < 0) return
  throw new ApiError(422, 'unknown-rule', `There is no rule ${JSON.stringify(skipped[at])}.`, { at: `/skipRules/${at}`, help: `Rules: ${known.join(', ')}.` })
}

function view(record: SourceRecord): Static<typeof Source> {
  return { source: record.name, settings: record.settings, createdAt: record.createdAt.toISOString() }
}
