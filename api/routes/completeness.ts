import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { ApiError } from '../../engine/problem.js'
import { parseDay } from '../../engine/time/text.js'
import { getZone, type Zone } from '../../engine/time/zone.js'
import { completeness, newestDueDay } from '../../engine/usage/completeness.js'
import { inSnapshot } from '../../engine/usage/usage.js'
import { sendJson } from '../conditional.js'
import type { ApiContext } from '../context.js'
import { requireZone } from '../guards.js'
import { nullable, words } from '../schemas.js'
import { countSchemas, USAGE_READERS } from './usage.js'

const CompletenessQuery = Type.Object({
  day: Type.Optional(Type.String({ maxLength: 10, description: 'Local date; without it the newest day that is due.' })),
  by: Type.Optional(words(['source', 'group'])),
})

const Completeness = Type.Object({
  day: Type.String(),
  timeZone: Type.String(),
  due: Type.Boolean({ description: 'False while the day\'s reads are not due yet.' }),
  ...countSchemas,
  meters: Type.Integer({ description: 'Main meters that served an account on the day and had read before its end.' }),
  neverRead: Type.Integer({ description: 'Active main meters in service that have never read.' }),
  groups: Type.Optional(Type.Array(Type.Object({
    source: Type.Optional(nullable(Type.String())), group: Type.Optional(Type.String()), value: Type.Optional(Type.String()),
    ...countSchemas }))),
  worst: Type.Array(Type.Object({ meter: Type.String(), account: Type.String(), ...countSchemas })),
})

/** How much of a day is in. */
export function completenessRoutes(app: FastifyInstance, context: ApiContext): void {
  app.get<{ Querystring: Static<typeof CompletenessQuery> }>('/v1/completeness', {
    config: { roles: USAGE_READERS, problems: ['invalid-range', 'utility-zone-unset'] },
    schema: {
      operationId: 'getCompleteness', tags: ['utility'], summary: 'Reads of a day that are in and that lack',
      querystring: CompletenessQuery, response: { 200: Completeness },
    },
  }, async (request, reply) => {
    const { principal, query } = request
    const zone = getZone(await requireZone(context, principal))
    const nowS = Math.floor(context.now() / 1000)
    const day = query.day === undefined ? newestDueDay(zone, nowS) : dayOf(query.day, zone, nowS)
    return sendJson(request, reply, await inSnapshot(context.readPool,
      (db) => completeness(db, zone, principal.utilityId, day, query.by ?? null, nowS)))
  })
}

function dayOf(text: string, zone: Zone, nowS: number): number {
  const day = parseDay(text)
  if (day === undefined || day > zone.dayOf(nowS)) {
    throw new ApiError(422, 'invalid-range', '"day" is not a local date up to today.', { at: '/day', in: 'query' })
  }
  return day
}
