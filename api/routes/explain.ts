import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { ApiError } from '../../engine/problem.js'
import { Flow } from '../../engine/read-batch.js'
import { getZone } from '../../engine/time/zone.js'
import { explain } from '../../engine/usage/explain.js'
import { loadMeterSegments } from '../../engine/usage/segments.js'
import { inSnapshot } from '../../engine/usage/usage.js'
import { sendJson } from '../conditional.js'
import type { ApiContext } from '../context.js'
import { requireMeter } from '../guards.js'
import { instantParameter } from '../instant.js'
import { nullable } from '../schemas.js'
import { FlowWord, USAGE_READERS } from './usage.js'

const ExplainQuery = Type.Object({
  at: Type.String({ maxLength: 40, description: 'An instant in the interval.' }),
  flow: Type.Optional(FlowWord),
})

const Read = {
  value: nullable(Type.Number({ description: 'kWh' })),
  quality: nullable(Type.String()),
  method: Type.Optional(Type.String()),
  flags: Type.Integer(),
  version: nullable(Type.Integer({ description: 'Microseconds since the epoch where the source stated it.' })),
  delivery: nullable(Type.Object({
    id: Type.String(), source: Type.String(), kind: Type.String(), format: nullable(Type.String()), acceptedAt: Type.String(),
    sha256: nullable(Type.String()), place: nullable(Type.String()),
    edit: nullable(Type.Object({ by: Type.String(), reason: Type.String() })) })),
}

const Explanation = Type.Object({
  meter: Type.String(),
  flow: Type.String(),
  unit: Type.String(),
  interval: Type.Object({ start: Type.String(), end: Type.String(), seconds: Type.Integer() }),
  ...Read,
  since: nullable(Type.String({ description: 'When the value came to stand.' })),
  findings: Type.Array(Type.Object({
    rule: Type.String(), severity: Type.String(), parameters: Type.Record(Type.String(), Type.Unknown()),
    inputs: Type.Record(Type.String(), Type.Number()), ruleSet: Type.Integer(), state: Type.String(), reason: nullable(Type.String()),
  }), { description: 'What validation found about the interval or its day' }),
  estimate: nullable(Type.Record(Type.String(), Type.Unknown(), { description: 'What the engine\'s estimate rests on: methods, like days, register, rule set' })),
  history: Type.Array(Type.Object({
    outcome: Type.String({ description: 'superseded, outranked or withdrawn' }), at: Type.String(), ...Read })),
})

/** Where a number comes from. */
export function explainRoutes(app: FastifyInstance, context: ApiContext): void {
  app.get<{ Params: { meter: string }; Querystring: Static<typeof ExplainQuery> }>('/v1/meters/:meter/explain', {
    config: { roles: USAGE_READERS, member: true, problems: ['invalid-instant', 'interval-not-found'] },
    schema: {
      operationId: 'explainRead', tags: ['usage'], summary: 'A read, what it replaced, what lost to it, and who sent them',
      params: Type.Object({ meter: Type.String() }), querystring: ExplainQuery, response: { 200: Explanation },
    },
  }, async (request, reply) => {
    const { query } = request
    const { s: at } = instantParameter('at', query.at)
    const meter = await requireMeter(context, request.principal, request.params.meter)
    const zone = getZone(meter.zone)
    const found = await inSnapshot(context.readPool, async (db) => explain(db, zone,
      await loadMeterSegments(db, meter.meterId, meter.windows), query.flow === undefined ? null : Flow[query.flow], at))
    if (found === null) {
      throw new ApiError(404, 'interval-not-found', 'No channel of the meter counts at that instant.', { at: '/at', in: 'query' })
    }
    return sendJson(request, reply, found)
  })
}
