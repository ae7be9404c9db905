import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { findDelivery, listDeliveries, type DeliveryView } from '../../engine/deliveries.js'
import { ApiError } from '../../engine/problem.js'
import type { ApiContext, Principal, Role } from '../context.js'
import { ownSources } from '../guards.js'
import { instantParameter } from '../instant.js'
import { decodeNumber, encodeCursor, nullable, page, pageOf, pageQuery } from '../schemas.js'
import { placeOf } from './place.js'

const READERS: Role[] = ['head-end', 'viewer', 'operator']

const ProblemEntry = Type.Object({ code: Type.String(), at: Type.String(), message: Type.String(), help: Type.Optional(Type.String()) })

/** The receipt of a delivery (contract §4). */
export const ReceiptSchema = Type.Object({
  delivery: Type.String(),
  source: Type.String(),
  complete: Type.Boolean({ description: 'False while parts of a large body are missing.' }),
  received: Type.Integer({ description: 'The sum of the six counts that follow.' }),
  stored: Type.Integer(),
  duplicate: Type.Integer(),
  corrected: Type.Integer(),
  outranked: Type.Integer(),
  quarantined: Type.Integer(),
  rejected: Type.Integer(),
  rounded: Type.Integer(),
  from: nullable(Type.String()),
  to: nullable(Type.String()),
  alerts: Type.Object({ raised: Type.Integer(), retracted: Type.Integer() }),
  problems: Type.Array(ProblemEntry, { description: 'The first 100.' }),
  problemCount: Type.Integer(),
})

const Delivery = Type.Object({
  ...ReceiptSchema.properties,
  kind: Type.String({ description: 'push, replay or withdrawal' }),
  door: Type.String(),
  format: nullable(Type.String()),
  history: Type.Boolean(),
  idempotencyKey: nullable(Type.String()),
  bytes: Type.Integer(),
  sha256: nullable(Type.String()),
  acceptedAt: Type.String(),
  settledAt: nullable(Type.String()),
  withdrawnAt: nullable(Type.String()),
  kafka: nullable(Type.Object({
    topic: Type.String(), partition: Type.Integer(), from: Type.Integer(), to: Type.Integer(),
  }, { description: "Offsets of the batch of messages that it was read from, both included; another utility's may be among them. Null for other doors." })),
})

const DeliveryQuery = Type.Object({
  ...pageQuery,
  source: Type.Optional(Type.String()),
  from: Type.Optional(Type.String({ description: 'Accepted at or after this instant' })),
  idempotencyKey: Type.Optional(Type.String()),
})
const PageQuery = Type.Object(pageQuery)

/** Deliveries and their receipts; a head-end key sees those of its own sources. */
export function deliveryRoutes(app: FastifyInstance, context: ApiContext): void {
  const find = async (principal: Principal, id: string): Promise<DeliveryView> => {
    const delivery = await findDelivery(context.pool, principal.utilityId, id, ownSources(principal))
    if (delivery === undefined) throw new ApiError(404, 'delivery-not-found', 'There is no such delivery.')
    return delivery
  }

  app.get<{ Querystring: Static<typeof DeliveryQuery> }>('/v1/deliveries', {
    config: { roles: READERS, problems: ['invalid-cursor', 'invalid-instant'] },
    schema: {
      operationId: 'listDeliveries', tags: ['deliveries'], summary: 'Deliveries, newest first',
      querystring: DeliveryQuery, response: { 200: page(Delivery) } },
  }, async (request) => {
    const { principal, query } = request
    const limit = query.limit ?? 100
    const after = query.cursor === undefined ? null : placeOf(query.cursor)
    const rows = await listDeliveries(context.pool, {
      utilityId: principal.utilityId,
      sources: ownSources(principal),
      source: query.source ?? null,
      idempotencyKey: query.idempotencyKey ?? null,
      fromMs: query.from === undefined ? null : instantParameter('from', query.from).s * 1000,
      after: after === null ? null : { acceptedAt: after.at, id: after.id },
      limit: limit + 1,
    })
    return pageOf(rows, limit, (row) => row.view, (row) => encodeCursor(row.place.acceptedAt, row.place.id))
  })

  app.get<{ Params: { id: string } }>('/v1/deliveries/:id', {
    config: { roles: READERS, problems: ['delivery-not-found'] },
    schema: { operationId: 'getDelivery', tags: ['deliveries'], summary: 'A delivery with its receipt', response: { 200: Delivery } },
  }, (request) => find(request.principal, request.params.id))

  app.get<{ Params: { id: string }; Querystring: Static<typeof PageQuery> }>('/v1/deliveries/:id/problems', {
    config: { roles: READERS, problems: ['delivery-not-found', 'invalid-cursor'] },
    schema: {
      operationId: 'listDeliveryProblems', tags: ['deliveries'], summary: 'Problems of a delivery',
      description: 'The first 100 are kept in full; problemCount counts all. What was quarantined is in /v1/quarantine whole.',
      querystring: PageQuery,
      response: { 200: Type.Object({ ...page(ProblemEntry).properties, problemCount: Type.Integer() }) } },
  }, async (request) => {
    const { problems, problemCount } = await find(request.principal, request.params.id)
    const start = request.query.cursor === undefined ? 0 : decodeNumber(request.query.cursor)
    const end = start + (request.query.limit ?? 100)
    return { items: problems.slice(start, end), next: end < problems.length ? encodeCursor(end) : null, problemCount }
  })

  app.post<{ Params: { id: string } }>('/v1/deliveries/:id/withdraw', {
    config: { roles: ['operator'], problems: ['delivery-not-found', 'already-withdrawn', 'not-withdrawable', 'ingest-elsewhere'] },
    schema: {
      operationId: 'withdrawDelivery', tags: ['deliveries'], summary: 'Take a wrong delivery back: what stood before stands again',
      response: { 200: ReceiptSchema } },
  }, async (request) => {
    const { principal, params } = request
    await find(principal, params.id)
    if (context.withdraw === undefined) throw ingestElsewhere()
    return context.withdraw(principal.utilityId, params.id)
  })
}

/** Told where this process serves the API without settling reads. */
export function ingestElsewhere(): ApiError {
  return new ApiError(503, 'ingest-elsewhere', 'This process does not settle reads.',
    { help: 'Ask a process with the role ingest.', retryAfter: 60 })
}
