import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { eventKinds, listEvents, storeEvents, type MeterEvent } from '../../engine/events.js'
import { ApiError, type Problem } from '../../engine/problem.js'
import { inTransaction } from '../../engine/store/db.js'
import { parseInstant } from '../../engine/time/text.js'
import { getZone } from '../../engine/time/zone.js'
import type { ApiContext, Principal } from '../context.js'
import { ownSources, requireZone } from '../guards.js'
import { instantParameter } from '../instant.js'
import { decodeNumber, encodeCursor, nullable, page, pageOf, pageQuery, text } from '../schemas.js'

const EVENTS_AT_ONCE = 10_000
/** A clock may be ahead by so much, as for reads. */
const AHEAD_S = 600
const SHOWN_PROBLEMS = 100

const Event = Type.Object({
  meter: text(128, { minLength: 1, description: 'Id or alias' }),
  kind: Type.String({ pattern: '^[a-z][a-z0-9-]{0,59}$', description: `${eventKinds.join(', ')}, or the head-end's own word` }),
  at: text(40, { description: 'RFC 3339 with offset' }),
  details: Type.Optional(Type.Record(Type.String({ maxLength: 60 }), Type.Union([text(500), Type.Number(), Type.Boolean(), Type.Null()]), { maxProperties: 20 })),
})
const Body = Type.Object({ events: Type.Array(Event, { minItems: 1, maxItems: EVENTS_AT_ONCE }) })
const Receipt = Type.Object({
  received: Type.Integer({ description: 'The sum of the three counts that follow.' }),
  stored: Type.Integer(),
  duplicate: Type.Integer({ description: 'Known already: same meter, kind and instant' }),
  rejected: Type.Integer(),
  problems: Type.Array(Type.Object({ code: Type.String(), at: Type.String(), message: Type.String(), help: Type.Optional(Type.String()) }), { description: 'The first 100.' }),
})
const Stored = Type.Object({
  id: Type.Integer(), meter: Type.String(), registered: Type.Boolean({ description: 'The meter was registered when the event came' }),
  kind: Type.String(), at: Type.String(), source: Type.String(), delivery: nullable(Type.String()), details: Type.Object({}, { additionalProperties: true }),
})
const EventQuery = Type.Object({
  ...pageQuery,
  meter: Type.Optional(text(128)),
  kind: Type.Optional(text(60)),
  from: Type.Optional(Type.String({ description: 'Instant, inclusive' })),
  to: Type.Optional(Type.String({ description: 'Instant, exclusive' })),
})

/** What meters report beside reads (contract §7): stored once however often it is pushed. */
export function eventRoutes(app: FastifyInstance, context: ApiContext): void {
  app.post<{ Body: Static<typeof Body>; Headers: { 'x-source'?: string } }>('/v1/events', {
    config: { roles: ['head-end', 'operator'], problems: ['source-not-allowed'] },
    schema: {
      operationId: 'pushEvents', tags: ['events'], summary: 'Push meter events; repetitions do nothing',
      headers: Type.Object({ 'x-source': Type.Optional(text(100, { minLength: 1, description: 'One of the key\'s sources; default: the key\'s name' })) }, { additionalProperties: true }),
      body: Body, response: { 200: Receipt } },
  }, async (request) => {
    const { principal, body } = request
    const now = context.now()
    const source = sourceOf(principal, request.headers['x-source'])
    const problems: Problem[] = []
    const events: MeterEvent[] = []
    body.events.forEach((event, i) => {
      const atS = parseInstant(event.at)
      if (atS === undefined) {
        problems.push({ code: 'invalid-instant', at: `/events/${i}/at`, message: 'This is not an instant with an offset.', help: 'Write it as 2026-10-01T00:00:00-05:00.' })
      } else if (atS * 1000 > now + AHEAD_S * 1000) {
        problems.push({ code: 'in-the-future', at: `/events/${i}/at`, message: 'The event is more than 10 minutes ahead.', help: 'Check the clock and the offset.' })
      } else events.push({ meter: event.meter, kind: event.kind, atS, details: event.details })
    })
    const receipt = await inTransaction(context.pool, (client) => storeEvents(
      client, { utilityId: principal.utilityId, source, deliveryId: null, now: new Date(now) }, events))
    return { ...receipt, received: body.events.length, rejected: problems.length, problems: problems.slice(0, SHOWN_PROBLEMS) }
  })

  app.get<{ Querystring: Static<typeof EventQuery> }>('/v1/events', {
    config: { roles: ['head-end', 'portal', 'viewer', 'operator'], problems: ['invalid-cursor', 'invalid-instant', 'utility-zone-unset'] },
    schema: {
      operationId: 'listEvents', tags: ['events'], summary: 'Meter events, those that arrived last first',
      querystring: EventQuery, response: { 200: page(Stored) } },
  }, async (request) => {
    const { principal, query: { limit = 100, cursor, meter, kind, from, to } } = request
    const zone = getZone(await requireZone(context, principal))
    const rows = await listEvents(context.pool, principal.utilityId, {
      limit, meter, kind, sources: ownSources(principal), before: cursor === undefined ? undefined : decodeNumber(cursor),
      fromS: from === undefined ? undefined : instantParameter('from', from).s,
      toS: to === undefined ? undefined : instantParameter('to', to).s,
    }, zone)
    return pageOf(rows, limit, (row) => row, (row) => encodeCursor(row.id))
  })
}

/** @throws ApiError 403 `source-not-allowed` */
function sourceOf(principal: Principal, named: string | undefined): string {
  const own = ownSources(principal)
  const source = named ?? (own === null ? principal.name : own[0])
  if (own !== null && !own.includes(source)) {
    throw new ApiError(403, 'source-not-allowed', 'This key may not push for that source.', { help: `It may for: ${own.join(', ')}` })
  }
  return source
}
