import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { listQuarantine } from '../../engine/deliveries.js'
import type { ApiContext } from '../context.js'
import { decodeNumber, encodeCursor, nullable, page, pageOf, pageQuery, text } from '../schemas.js'
import { ReceiptSchema, ingestElsewhere } from './deliveries.js'

const Quarantined = Type.Object({
  id: Type.Integer(),
  at: Type.String(),
  reason: Type.String(),
  message: Type.String(),
  place: nullable(Type.String()),
  source: Type.String(),
  meter: nullable(Type.String()),
  reads: Type.Integer(),
  format: nullable(Type.String()),
  record: Type.Unknown({ description: 'The record as a block, where it could be decoded' }),
  raw: nullable(Type.String({ description: 'Else what the source wrote, its first 2000 characters' })),
})

const Filter = {
  reason: Type.Optional(text(100)),
  source: Type.Optional(text(100)),
  meter: Type.Optional(text(128)),
}
const Query = Type.Object({ ...pageQuery, ...Filter })
const ReplayBody = Type.Object(Filter)

/** Reads that were refused but kept, and their second chance. */
export function quarantineRoutes(app: FastifyInstance, context: ApiContext): void {
  app.get<{ Querystring: Static<typeof Query> }>('/v1/quarantine', {
    config: { roles: ['viewer', 'operator'], problems: ['invalid-cursor'] },
    schema: {
      operationId: 'listQuarantine', tags: ['quarantine'], summary: 'Records in quarantine, newest first',
      querystring: Query, response: { 200: page(Quarantined) } },
  }, async (request) => {
    const { principal, query } = request
    const limit = query.limit ?? 100
    const rows = await listQuarantine(context.pool, {
      utilityId: principal.utilityId,
      reason: query.reason ?? null,
      source: query.source ?? null,
      meter: query.meter ?? null,
      before: query.cursor === undefined ? null : decodeNumber(query.cursor),
      limit: limit + 1,
    })
    return pageOf(rows, limit, (row) => row, (row) => encodeCursor(row.id))
  })

  app.post<{ Body: Static<typeof ReplayBody> }>('/v1/quarantine/replay', {
    config: { roles: ['operator'], problems: ['quarantine-changed', 'ingest-elsewhere'] },
    schema: {
      operationId: 'replayQuarantine', tags: ['quarantine'], summary: 'Settle quarantined records again',
      body: ReplayBody, response: { 200: ReceiptSchema } },
  }, (request) => {
    if (context.replayQuarantine === undefined) throw ingestElsewhere()
    return context.replayQuarantine(request.principal.utilityId, request.body)
  })
}
