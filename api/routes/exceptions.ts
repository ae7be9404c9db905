import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { ApiError } from '../../engine/problem.js'
import { parseDay } from '../../engine/time/text.js'
import { getZone } from '../../engine/time/zone.js'
import { acceptException, listExceptions } from '../../engine/validate/exceptions.js'
import type { ApiContext } from '../context.js'
import { requireZone } from '../guards.js'
import { instantParameter } from '../instant.js'
import { decodeNumber, encodeCursor, nullable, page, pageOf, pageQuery, text, words } from '../schemas.js'
import { ingestElsewhere, ReceiptSchema } from './deliveries.js'

const severities = ['warning', 'exception'] as const

const Exception = Type.Object({
  id: Type.Integer(),
  meter: Type.String(),
  flow: Type.String(),
  day: Type.String({ description: 'Local date' }),
  rule: Type.String(),
  severity: words(severities),
  intervals: Type.Array(Type.Object({ start: Type.String(), count: Type.Integer() }), { description: 'Flagged intervals; empty: the day as a whole' }),
  inputs: Type.Record(Type.String(), Type.Number(), { description: 'The figures that were held against the parameters' }),
  parameters: Type.Record(Type.String(), Type.Unknown()),
  ruleSet: Type.Integer({ description: 'Version of the rule set that it was judged by' }),
  flaggedAt: Type.String(),
  state: words(['open', 'accepted']),
  decidedBy: nullable(Type.String()),
  decidedAt: nullable(Type.String()),
  reason: nullable(Type.String()),
})

const Query = Type.Object({
  ...pageQuery,
  rule: Type.Optional(text(100)),
  severity: Type.Optional(words(severities)),
  meter: Type.Optional(text(128)),
  from: Type.Optional(Type.String({ maxLength: 10, description: 'First local date' })),
  to: Type.Optional(Type.String({ maxLength: 10, description: 'Local date, exclusive' })),
  state: Type.Optional(words(['open', 'accepted', 'all'])),
})
const Params = Type.Object({ id: Type.Integer({ minimum: 1 }) })
const reason = text(1000, { minLength: 1, description: 'Why; kept with the reads and in the audit' })
const Reason = Type.Object({ reason })
const EditBody = Type.Object({
  reason,
  values: Type.Array(Type.Object({ start: Type.String({ maxLength: 40 }), value: Type.Number({ description: 'kWh' }) }), { minItems: 1, maxItems: 300 }),
})

/** What validation found, and what somebody decides about it. */
export function exceptionRoutes(app: FastifyInstance, context: ApiContext): void {
  app.get<{ Querystring: Static<typeof Query> }>('/v1/exceptions', {
    config: { roles: ['viewer', 'operator'], problems: ['invalid-cursor', 'invalid-range', 'utility-zone-unset'] },
    schema: {
      operationId: 'listExceptions', tags: ['validation'], summary: 'Reads that validation flagged, newest first; open ones where `state` is not given',
      querystring: Query, response: { 200: page(Exception) } },
  }, async (request) => {
    const { principal, query } = request
    const zone = getZone(await requireZone(context, principal))
    const limit = query.limit ?? 100
    const rows = await listExceptions(context.pool, zone, {
      utilityId: principal.utilityId, rule: query.rule ?? null, severity: query.severity ?? null, meter: query.meter ?? null,
      from: dateOf('from', query.from), to: dateOf('to', query.to), state: query.state === 'all' ? null : query.state ?? 'open',
      before: query.cursor === undefined ? null : decodeNumber(query.cursor), limit: limit + 1,
    })
    return pageOf(rows, limit, (row) => row, (row) => encodeCursor(row.id))
  })

  app.post<{ Params: Static<typeof Params>; Body: Static<typeof Reason> }>('/v1/exceptions/:id/accept', {
    config: { roles: ['operator'], problems: ['exception-not-found'] },
    schema: {
      operationId: 'acceptException', tags: ['validation'], summary: 'Leave the reads as they are: the exception leaves the queue',
      params: Params, body: Reason, response: { 200: Type.Object({ id: Type.Integer(), state: Type.String() }) } },
  }, async (request) => {
    const { principal, params, body } = request
    await acceptException(context.pool, principal.utilityId, params.id, principal.actor, body.reason, new Date(context.now()))
    return { id: params.id, state: 'accepted' }
  })

  app.post<{ Params: Static<typeof Params>; Body: Static<typeof EditBody> }>('/v1/exceptions/:id/edit', {
    config: { roles: ['operator'], problems: ['exception-not-found', 'edit-outside-day', 'invalid-instant', 'ingest-elsewhere'] },
    schema: {
      operationId: 'editException', tags: ['validation'], summary: 'Put reads of the flagged day right: reads of quality "edited", with who and why',
      params: Params, body: EditBody, response: { 200: ReceiptSchema } },
  }, (request) => {
    const { principal, params, body } = request
    if (context.edit === undefined) throw ingestElsewhere()
    return context.edit({
      utilityId: principal.utilityId, flagId: params.id, actor: principal.actor, reason: body.reason,
      values: body.values.map((v) => ({ startS: instantParameter('start', v.start).s, kwh: v.value })) })
  })

  app.post<{ Params: Static<typeof Params>; Body: Static<typeof Reason> }>('/v1/exceptions/:id/estimate', {
    config: { roles: ['operator'], problems: ['exception-not-found', 'not-estimable', 'ingest-elsewhere'] },
    schema: {
      operationId: 'estimateException', tags: ['validation'],
      summary: 'Have the flagged reads estimated as if they lacked: reads of quality "edited" with their method, who and why',
      params: Params, body: Reason, response: { 200: ReceiptSchema } },
  }, (request) => {
    const { principal, params, body } = request
    if (context.edit === undefined) throw ingestElsewhere()
    return context.edit({ utilityId: principal.utilityId, flagId: params.id, actor: principal.actor, reason: body.reason, values: null })
  })
}

function dateOf(name: string, given: string | undefined): string | null {
  if (given === undefined) return null
  if (parseDay(given) === undefined) throw new ApiError(422, 'invalid-range', `"${name}" is not a local date.`, { at: `/${name}`, in: 'query' })
  return given
}
