import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { ApiError } from '../../engine/problem.js'
import { findUtility, putUtility, type UtilityRecord } from '../../engine/utilities.js'
import type { ApiContext, Role } from '../context.js'
import { nullable, optional, text } from '../schemas.js'

const Utility = Type.Object({
  utility: Type.String(),
  zone: nullable(Type.String()),
  currency: Type.String(),
  name: nullable(Type.String()),
  phone: nullable(Type.String()),
  links: Type.Record(Type.String(), Type.String()),
  languages: Type.Array(Type.String()),
  alertOnEstimates: Type.Boolean({ description: 'Whether estimates that the engine made may raise alerts.' }),
  holdsReads: Type.Boolean({ description: 'From then on the zone is frozen.' }),
})

const Link = Type.String({ maxLength: 500, pattern: '^https?://[^\\u0000-\\u0020\\ud800-\\udfff]*$' })

const UtilityBody = Type.Object({
  zone: optional(text(100, { description: 'IANA name; frozen once the utility holds reads' })),
  currency: Type.Optional(Type.String({ pattern: '^[A-Z]{3}$' })),
  name: optional(text(200)),
  phone: optional(text(50)),
  links: optional(Type.Record(Type.String({ pattern: '^[^\\u0000\\ud800-\\udfff]{1,50}$' }), Link, { additionalProperties: false })),
  languages: Type.Optional(Type.Array(Type.String({ pattern: '^[a-z]{2,3}(-[A-Za-z0-9]+)*$' }), { minItems: 1, maxItems: 20 })),
  alertOnEstimates: Type.Optional(Type.Boolean({ description: 'Estimates that the engine made may raise alerts; false' })),
})

const Params = Type.Object({ id: Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' }) })
const ALL: Role[] = ['head-end', 'portal', 'notify', 'viewer', 'operator']

/** Utilities: made and changed by operators of the installation, read by the utility's own keys. */
export function utilityRoutes(app: FastifyInstance, context: ApiContext): void {
  app.put<{ Params: Static<typeof Params>; Body: Static<typeof UtilityBody> }>('/v1/utilities/:id', {
    config: { roles: ['operator'], installation: true, problems: ['zone-frozen', 'unknown-zone'] },
    schema: {
      operationId: 'putUtility', tags: ['utilities'], summary: 'Make or change a utility',
      params: Params, body: UtilityBody, response: { 200: Utility, 201: Utility },
    },
  }, async (request, reply) => {
    const { created, record } = await putUtility(context.pool, request.params.id, request.body, {
      actor: request.principal.actor, now: new Date(context.now()) })
    return reply.code(created ? 201 : 200).send(view(record))
  })

  app.get<{ Params: Static<typeof Params> }>('/v1/utilities/:id', {
    config: { roles: ALL, problems: ['utility-not-found'] },
    schema: { operationId: 'getUtility', tags: ['utilities'], summary: 'Read a utility', params: Params, response: { 200: Utility } },
  }, async (request) => {
    const { principal, params } = request
    const record = params.id === principal.utility || principal.installation ? await findUtility(context.pool, params.id) : undefined
    if (record === undefined) throw new ApiError(404, 'utility-not-found', 'There is no such utility.')
    return view(record)
  })
}

function view({ utilityId: _internal, ...record }: UtilityRecord): Static<typeof Utility> {
  return record
}
