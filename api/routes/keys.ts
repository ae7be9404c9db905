import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { ROLES, createKey, listKeys, revokeKey, type KeyRecord } from '../../engine/access.js'
import { ApiError } from '../../engine/problem.js'
import { inTransaction } from '../../engine/store/db.js'
import { findUtility } from '../../engine/utilities.js'
import type { ApiContext, Principal } from '../context.js'
import { isUuid, nullable, page, text, words } from '../schemas.js'

const Key = Type.Object({
  id: Type.String(),
  name: Type.String(),
  role: Type.String(),
  sources: Type.Array(Type.String()),
  installation: Type.Boolean(),
  createdAt: Type.String(),
  revokedAt: nullable(Type.String()),
})

const NewKey = Type.Object({
  id: Type.String(),
  key: Type.String({ description: 'Shown this once; only its hash is kept.' }),
  name: Type.String(),
  role: Type.String(),
})

const KeyBody = Type.Object({
  name: text(100, { minLength: 1 }),
  role: words(ROLES),
  sources: Type.Optional(Type.Array(text(100, { minLength: 1 }), {
    maxItems: 100, description: 'Sources that a head-end key pushes for; none: the source named like the key.' })),
  utility: Type.Optional(text(63, { description: 'Another utility; for operators of the installation.' })),
  installation: Type.Optional(Type.Boolean({ description: 'An operator who may make utilities.' })),
})

/** API keys of the utility: operators make, list and revoke them. */
export function keyRoutes(app: FastifyInstance, context: ApiContext): void {
  app.post<{ Body: Static<typeof KeyBody> }>('/v1/keys', {
    config: { roles: ['operator'], problems: ['other-utility', 'utility-not-found'] },
    schema: { operationId: 'createKey', tags: ['access'], summary: 'Make an API key', body: KeyBody, response: { 201: NewKey } },
  }, async (request, reply) => {
    const { principal, body } = request
    if (body.installation === true && body.role !== 'operator') {
      throw new ApiError(422, 'invalid-request', 'Only an operator can be one of the installation.', { at: '/installation' })
    }
    const utilityId = await targetUtility(context, principal, body)
    const made = await inTransaction(context.pool, (client) => createKey(client, {
      utilityId, role: body.role, name: body.name, sources: body.sources, installation: body.installation, actor: principal.actor,
    }))
    return reply.code(201).header('cache-control', 'no-store').send({ ...made, name: body.name, role: body.role })
  })

  app.get('/v1/keys', {
    config: { roles: ['operator'] },
    schema: { operationId: 'listKeys', tags: ['access'], summary: 'API keys, without their secrets', response: { 200: page(Key) } },
  }, async (request) => ({ items: (await listKeys(context.pool, request.principal.utilityId)).map(view), next: null }))

  app.delete<{ Params: { id: string } }>('/v1/keys/:id', {
    config: { roles: ['operator'], problems: ['key-not-found'] },
    schema: { operationId: 'revokeKey', tags: ['access'], summary: 'Revoke an API key', params: Type.Object({ id: Type.String() }) },
  }, async (request, reply) => {
    const { principal, params } = request
    const found = isUuid(params.id) && await inTransaction(context.pool,
      (client) => revokeKey(client, principal.utilityId, params.id, principal.actor))
    if (!found) throw new ApiError(404, 'key-not-found', 'There is no such key.')
    app.authenticator.forget()
    return reply.code(204).send()
  })
}

async function targetUtility(context: ApiContext, principal: Principal, body: Static<typeof KeyBody>): Promise<number> {
  const isOwn = body.utility === undefined || body.utility === principal.utility
  if ((!isOwn || body.installation === true) && !principal.installation) {
    throw new ApiError(403, 'other-utility', 'Only an operator of the installation may do this.',
      { at: isOwn ? '/installation' : '/utility' })
  }
  if (isOwn) return principal.utilityId
  const utility = await findUtility(context.pool, body.utility ?? '')
  if (utility === undefined) throw new ApiError(404, 'utility-not-found', 'There is no such utility.', { at: '/utility' })
  return utility.utilityId
}

function view(key: KeyRecord): Static<typeof Key> {
  return { ...key, createdAt: key.createdAt.toISOString(), revokedAt: key.revokedAt?.toISOString() ?? null }
}
