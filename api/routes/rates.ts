import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { RateRecord, RateVersionRecord } from '../../engine/rates/schema.js'
import { putRate, rateNotFound, readRates } from '../../engine/rates/store.js'
import { PublicId } from '../../engine/registry/schema.js'
import type { ApiContext, Role } from '../context.js'
import { decodeCursor, encodeCursor, nullable, page, pageOf, pageQuery } from '../schemas.js'

const READERS: Role[] = ['portal', 'viewer', 'operator']
const Params = Type.Object({ id: PublicId })
const ListQuery = Type.Object(pageQuery)
const Rate = Type.Object({
  rate: Type.String(), name: nullable(Type.String()),
  versions: Type.Array(Type.Object({ ...RateVersionRecord.properties }), { description: 'The oldest first.' }),
})

/** Dated rates (contract §5). */
export function rateRoutes(app: FastifyInstance, context: ApiContext): void {
  app.put<{ Params: Static<typeof Params>; Body: RateRecord }>('/v1/rates/:id', {
    config: { roles: ['operator'], problems: ['invalid-rate'] },
    schema: {
      operationId: 'putRate', tags: ['registry'], summary: 'Make a rate, or add and replace versions of it',
      description: 'Idempotent. A version replaces the one that begins on the same day; versions that are left out stay.',
      params: Params, body: RateRecord, response: { 200: Rate, 201: Rate } },
  }, async (request, reply) => {
    const { utilityId, actor } = request.principal
    const done = await putRate(context.pool, utilityId, request.params.id, request.body, { actor, now: new Date(context.now()) })
    const [rate] = await readRates(context.pool, utilityId, { id: request.params.id, limit: 1 })
    return reply.code(done === 'created' ? 201 : 200).send(rate)
  })

  app.get<{ Params: Static<typeof Params> }>('/v1/rates/:id', {
    config: { roles: READERS, problems: ['rate-not-found'] },
    schema: { operationId: 'getRate', tags: ['registry'], summary: 'A rate', params: Params, response: { 200: Rate } },
  }, async (request) => {
    const rate = (await readRates(context.pool, request.principal.utilityId, { id: request.params.id, limit: 1 })).at(0)
    if (rate === undefined) throw rateNotFound()
    return rate
  })

  app.get<{ Querystring: Static<typeof ListQuery> }>('/v1/rates', {
    config: { roles: READERS, problems: ['invalid-cursor'] },
    schema: { operationId: 'listRates', tags: ['registry'], summary: 'Rates', querystring: ListQuery, response: { 200: page(Rate) } },
  }, async (request) => {
    const { limit = 100, cursor } = request.query
    const after = cursor === undefined ? null : String(decodeCursor(cursor, 1)[0])
    const rows = await readRates(context.pool, request.principal.utilityId, { after, limit: limit + 1 })
    return pageOf(rows, limit, (row) => row, (row) => encodeCursor(row.rate))
  })
}
