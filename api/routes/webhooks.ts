import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { createSealer } from '../../engine/contacts/seal.js'
import { webhookEvents } from '../../engine/notify/webhook-store.js'
import { deleteWebhook, listWebhookDeliveries, listWebhooks, putWebhook, replayWebhook } from '../../engine/notify/webhooks.js'
import type { ApiContext } from '../context.js'
import { encodeCursor, nullable, page, pageOf, pageQuery, text, words } from '../schemas.js'
import { placeOf } from './place.js'

const Params = Type.Object({ id: Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' }) })
const Body = Type.Object({
  url: text(500, { description: 'http or https; where private networks are not allowed by WEBHOOK_PRIVATE, an address of the internet' }),
  events: Type.Array(words(webhookEvents), { minItems: 1, maxItems: webhookEvents.length }),
  secret: Type.Optional(text(200, { description: '24 to 64 bytes: as text, or as whsec_ and base64; left out, one is made for a new webhook' })),
})
const Webhook = Type.Object({ id: Type.String(), url: Type.String(), events: Type.Array(Type.String()), createdAt: Type.String(), updatedAt: Type.String() })
const Made = Type.Object({ ...Webhook.properties, secret: nullable(Type.String({ description: 'One that was made here, shown this once' })) })
const Delivery = Type.Object({
  id: Type.String({ description: 'The webhook-id header: the same at every try' }), event: Type.String(), state: words(['pending', 'sending', 'sent', 'failed']),
  attempts: Type.Integer(), status: nullable(Type.Integer({ description: 'HTTP status of the last try' })), error: nullable(Type.String()),
  createdAt: Type.String(), doneAt: nullable(Type.String()),
})
const DeliveryQuery = Type.Object({ ...pageQuery, state: Type.Optional(words(['pending', 'sending', 'sent', 'failed'])) })

/** Webhooks of the utility: signed by the Standard Webhooks scheme, tried again, kept as dead letters (contract §7). */
export function webhookRoutes(app: FastifyInstance, context: ApiContext): void {
  const sealer = createSealer({ secretKey: context.secretKey })
  const now = (): Date => new Date(context.now())

  app.put<{ Params: Static<typeof Params>; Body: Static<typeof Body> }>('/v1/webhooks/:id', {
    config: { roles: ['operator'], problems: ['invalid-url', 'invalid-secret', 'too-many-webhooks'] },
    schema: { operationId: 'putWebhook', tags: ['webhooks'], summary: 'Make or change a webhook', params: Params, body: Body, response: { 200: Made, 201: Made } },
  }, async (request, reply) => {
    const { principal, params, body } = request
    const { created, webhook, secret } = await putWebhook(context.pool, sealer, { utilityId: principal.utilityId, actor: principal.actor, now: now() }, params.id, body)
    return reply.code(created ? 201 : 200).header('cache-control', 'no-store').send({ ...webhook, secret })
  })

  app.get('/v1/webhooks', {
    config: { roles: ['viewer', 'operator'] },
    schema: { operationId: 'listWebhooks', tags: ['webhooks'], summary: 'Webhooks of the utility', response: { 200: page(Webhook) } },
  }, async (request) => ({ items: await listWebhooks(context.pool, request.principal.utilityId), next: null }))

  app.delete<{ Params: Static<typeof Params> }>('/v1/webhooks/:id', {
    config: { roles: ['operator'], problems: ['webhook-not-found'] },
    schema: { operationId: 'deleteWebhook', tags: ['webhooks'], summary: 'Take a webhook away, with what it has not taken', params: Params },
  }, async (request, reply) => {
    const { principal, params } = request
    await deleteWebhook(context.pool, { utilityId: principal.utilityId, actor: principal.actor, now: now() }, params.id)
    return reply.code(204).send()
  })

  app.get<{ Params: Static<typeof Params>; Querystring: Static<typeof DeliveryQuery> }>('/v1/webhooks/:id/deliveries', {
    config: { roles: ['viewer', 'operator'], problems: ['webhook-not-found', 'invalid-cursor'] },
    schema: {
      operationId: 'listWebhookDeliveries', tags: ['webhooks'], summary: 'What was, or is to be, told to a webhook, newest first',
      params: Params, querystring: DeliveryQuery, response: { 200: page(Delivery) } },
  }, async (request) => {
    const { principal, params, query: { limit = 100, cursor, state } } = request
    const rows = await listWebhookDeliveries(context.pool, principal.utilityId, params.id, {
      limit, state, after: cursor === undefined ? undefined : placeOf(cursor) })
    return pageOf(rows, limit, (row) => row.view, (row) => encodeCursor(row.createdAt, row.view.id))
  })

  app.post<{ Params: Static<typeof Params> }>('/v1/webhooks/:id/replay', {
    config: { roles: ['operator'], problems: ['webhook-not-found'] },
    schema: {
      operationId: 'replayWebhook', tags: ['webhooks'], summary: 'Send a webhook\'s dead letters again', params: Params,
      response: { 200: Type.Object({ replayed: Type.Integer() }) } },
  }, async (request) => {
    const replayed = await replayWebhook(context.pool, request.principal.utilityId, request.params.id, now())
    context.onMessages()
    return { replayed }
  })
}
