import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { listAlerts } from '../../engine/thresholds/alerts.js'
import { getZone } from '../../engine/time/zone.js'
import type { ApiContext } from '../context.js'
import { requireAccount } from '../guards.js'
import { encodeCursor, nullable, page, pageOf, pageQuery, words } from '../schemas.js'
import { placeOf } from './place.js'

const AlertQuery = Type.Object({
  ...pageQuery,
  state: Type.Optional(words(['raised', 'retracted'])),
  threshold: Type.Optional(Type.String({ format: 'uuid' })),
})
const Alert = Type.Object({
  id: Type.String(), threshold: Type.String(), version: Type.Integer(), kind: Type.String(),
  period: Type.Object({ start: Type.String(), end: Type.String() }),
  limit: Type.Number(), value: Type.Number(), unit: Type.String(), flow: Type.String(),
  detail: nullable(Type.Record(Type.String(), Type.Unknown(), { description: 'What was compared with, or the range of a projection' })),
  crossedAt: nullable(Type.String({ description: 'End of the interval in which the running sum passed the limit' })),
  raisedAt: Type.String(), state: words(['raised', 'retracted']),
  history: Type.Array(Type.Object({
    state: Type.String(), at: Type.String(), delivery: nullable(Type.String()), value: Type.Number() })),
  completeness: nullable(Type.Number({ description: 'Share of the reads due that were held, 0 to 1' })),
  estimatedShare: nullable(Type.Number()),
  expected: Type.Integer(), present: Type.Integer(), estimated: Type.Integer(),
  messages: Type.Array(Type.Object({
    contact: Type.String(), address: Type.String({ description: 'Masked' }), channel: Type.String(), purpose: Type.String(),
    state: Type.String(), at: Type.String() })),
})

/** Alerts of an account (contract §7). */
export function alertRoutes(app: FastifyInstance, context: ApiContext): void {
  app.get<{ Params: { account: string }; Querystring: Static<typeof AlertQuery> }>('/v1/accounts/:account/alerts', {
    config: { roles: ['portal', 'viewer', 'operator'], member: true, problems: ['invalid-cursor'] },
    schema: {
      operationId: 'listAlerts', tags: ['alerts'], summary: 'Alerts of an account, newest first',
      querystring: AlertQuery, response: { 200: page(Alert) } },
  }, async (request) => {
    const { accountId, zone } = await requireAccount(context, request.principal, request.params.account)
    const { limit = 100, cursor, state, threshold } = request.query
    const place = cursor === undefined ? undefined : placeOf(cursor)
    const rows = await listAlerts(context.pool, accountId, {
      limit, state, threshold, after: place && { raisedAt: place.at, id: place.id },
    }, getZone(zone))
    return pageOf(rows, limit, (row) => row.view, (row) => encodeCursor(row.raisedAt, row.view.id))
  })
}
