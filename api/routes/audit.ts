import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { listAudit } from '../../engine/audit.js'
import type { ApiContext } from '../context.js'
import { decodeNumber, encodeCursor, page, pageOf, pageQuery } from '../schemas.js'

const Entry = Type.Object({
  at: Type.String(),
  actor: Type.String(),
  action: Type.String(),
  subject: Type.String(),
  detail: Type.Record(Type.String(), Type.Unknown()),
})
const Query = Type.Object({ ...pageQuery, subject: Type.Optional(Type.String()) })

/** Who changed what in the utility. */
export function auditRoutes(app: FastifyInstance, context: ApiContext): void {
  app.get<{ Querystring: Static<typeof Query> }>('/v1/audit', {
    config: { roles: ['viewer', 'operator'], problems: ['invalid-cursor'] },
    schema: { operationId: 'listAudit', tags: ['audit'], summary: 'Changes, newest first', querystring: Query, response: { 200: page(Entry) } },
  }, async (request) => {
    const { principal, query } = request
    const limit = query.limit ?? 100
    const before = query.cursor === undefined ? null : decodeNumber(query.cursor)
    const rows = await listAudit(context.pool, principal.utilityId, limit + 1, before, query.subject ?? null)
    return pageOf(rows, limit,
      ({ audit_id: _id, at, ...entry }) => ({ at: at.toISOString(), ...entry }), (row) => encodeCursor(row.audit_id))
  })
}
