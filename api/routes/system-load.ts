import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { ApiError } from '../../engine/problem.js'
import { Flow } from '../../engine/read-batch.js'
import { getZone } from '../../engine/time/zone.js'
import { GROUP_LOAD_DAYS, loadByGroup } from '../../engine/usage/group-load.js'
import { checkSize, rangeOf } from '../../engine/usage/range.js'
import { systemLoad } from '../../engine/usage/system-load.js'
import { inSnapshot } from '../../engine/usage/usage.js'
import { sendJson } from '../conditional.js'
import type { ApiContext } from '../context.js'
import { requireZone } from '../guards.js'
import { nullable } from '../schemas.js'
import { FlowWord, USAGE_READERS } from './usage.js'

const LoadQuery = Type.Object({
  from: Type.Optional(Type.String({ maxLength: 40, description: 'Local date or instant; without it this month.' })),
  to: Type.Optional(Type.String({ maxLength: 40, description: 'Exclusive; without it the end of today.' })),
  flow: Type.Optional(FlowWord),
  by: Type.Optional(Type.String({ minLength: 1, maxLength: 60, description: 'Name of an account group, such as substation: its values apart, too.' })),
})

const NotHourly = Type.Optional(Type.Number({ description: 'kWh of reads longer than an hour, kept apart.' }))
const Hours = Type.Array(Type.Object({ start: Type.String(), value: Type.Number(), notHourly: NotHourly }))
const Peak = nullable(Type.Object({ hour: Type.String(), value: Type.Number() }))
const Load = Type.Object({
  timeZone: Type.String(),
  from: Type.String(),
  to: Type.String(),
  flow: Type.String(),
  unit: Type.String(),
  intervalSeconds: Type.Integer(),
  hours: Hours,
  peak: Peak,
  total: nullable(Type.Number()),
  notHourly: NotHourly,
  by: Type.Optional(Type.String()),
  groups: Type.Optional(Type.Array(Type.Object({ group: nullable(Type.String()), hours: Hours, peak: Peak }))),
})

/** The utility's energy per hour. */
export function systemLoadRoutes(app: FastifyInstance, context: ApiContext): void {
  app.get<{ Querystring: Static<typeof LoadQuery> }>('/v1/system-load', {
    config: { roles: USAGE_READERS, problems: ['invalid-range', 'range-too-large', 'utility-zone-unset'] },
    schema: {
      operationId: 'getSystemLoad', tags: ['utility'], summary: 'Energy of the utility per hour, and its peak',
      querystring: LoadQuery, response: { 200: Load },
    },
  }, async (request, reply) => {
    const { principal, query } = request
    const zone = getZone(await requireZone(context, principal))
    const range = rangeOf(query, 'hour', zone, { billingDay: null, periods: [] }, Math.floor(context.now() / 1000))
    checkSize(range, 'hour')
    const flow = query.flow ?? 'delivered'
    const load = await inSnapshot(context.readPool, (db) => systemLoad(db, zone, principal.utilityId, Flow[flow], range))
    if (query.by === undefined) return sendJson(request, reply, { ...load, flow })
    if (range.toS - range.fromS > GROUP_LOAD_DAYS * 86_400) {
      throw new ApiError(422, 'range-too-large', `A load by group covers at most ${GROUP_LOAD_DAYS} days.`, { help: 'Ask for less at a time.' })
    }
    const { by } = query
    const groups = await inSnapshot(context.readPool, (db) => loadByGroup(db, zone, principal.utilityId, Flow[flow], by, range))
    return sendJson(request, reply, { ...load, flow, by, groups })
  })
}
