import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Type, type Static } from 'typebox'
import { ApiError } from '../../engine/problem.js'
import type { Client } from '../../engine/store/db.js'
import { DAY_S } from '../../engine/time/civil.js'
import { getZone } from '../../engine/time/zone.js'
import { greenButton } from '../../engine/usage/green-button.js'
import { rangeOf } from '../../engine/usage/range.js'
import { inSnapshot, loadAccountSubject, loadMeterSubject, measureUsage, type StepSeries, type Subject } from '../../engine/usage/usage.js'
import { sendXml } from '../conditional.js'
import type { ApiContext } from '../context.js'
import { requireAccount, requireMeter } from '../guards.js'
import { USAGE_READERS } from './usage.js'

/** A year and what a billing period adds to it: what portals offer. */
const MAX_DAYS = 400

const Query = Type.Object({
  from: Type.Optional(Type.String({ maxLength: 40, description: 'Local date or instant; without it the running billing period.' })),
  to: Type.Optional(Type.String({ maxLength: 40, description: `Exclusive; without it the end of today. At most ${MAX_DAYS} days.` })),
})
const PROBLEMS = ['invalid-range', 'range-too-large']

/** Interval usage as a Green Button (ESPI) file (contract §6). */
export function greenButtonRoutes(app: FastifyInstance, context: ApiContext): void {
  app.get<{ Params: { account: string }; Querystring: Static<typeof Query> }>('/v1/accounts/:account/green-button', {
    config: { roles: USAGE_READERS, member: true, problems: PROBLEMS },
    schema: {
      operationId: 'getAccountGreenButton', tags: ['usage'], summary: 'Interval usage of an account\'s main meters as a Green Button file',
      params: Type.Object({ account: Type.String() }), querystring: Query, produces: ['application/atom+xml'],
    },
  }, async (request, reply) => {
    const account = await requireAccount(context, request.principal, request.params.account)
    return answerFile(context, request, reply, account.account, account.zone,
      (db) => loadAccountSubject(db, getZone(account.zone), account.accountId, account.row.billing_day))
  })

  app.get<{ Params: { meter: string }; Querystring: Static<typeof Query> }>('/v1/meters/:meter/green-button', {
    config: { roles: USAGE_READERS, member: true, problems: PROBLEMS },
    schema: {
      operationId: 'getMeterGreenButton', tags: ['usage'], summary: 'Interval usage of a meter as a Green Button file',
      params: Type.Object({ meter: Type.String() }), querystring: Query, produces: ['application/atom+xml'],
    },
  }, async (request, reply) => {
    const meter = await requireMeter(context, request.principal, request.params.meter)
    return answerFile(context, request, reply, meter.meter, meter.zone,
      (db) => loadMeterSubject(db, getZone(meter.zone), meter.meterId, meter.windows))
  })
}

async function answerFile(
  context: ApiContext, request: FastifyRequest<{ Querystring: Static<typeof Query> }>, reply: FastifyReply, subscription: string,
  zoneName: string, load: (db: Client) => Promise<Subject>,
): Promise<FastifyReply> {
  const zone = getZone(zoneName)
  const nowS = Math.floor(context.now() / 1000)
  return inSnapshot(context.readPool, async (db) => {
    const subject = await load(db)
    const range = rangeOf(request.query, 'interval', zone, subject.cycle, nowS)
    if (range.toS - range.fromS > (MAX_DAYS + 1) * DAY_S) {
      throw new ApiError(422, 'range-too-large', `A Green Button file may have ${MAX_DAYS} days.`,
        { at: '/to', in: 'query', help: 'ask for several files' })
    }
    const result = await measureUsage(db, subject, { ...range, resolution: 'interval', by: 'meter', flow: null, asOf: null, nowS })
    const series = result.series.filter((s): s is StepSeries => s.kind === 'steps')
    void reply.header('content-disposition', 'attachment; filename="green-button.xml"')
    return sendXml(request, reply, greenButton(series, { subscription, zone, ...range, restatedAtUs: result.restatedAtUs }))
  })
}
