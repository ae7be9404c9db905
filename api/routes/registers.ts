import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { quantityNames } from '../../engine/quantity.js'
import { getZone } from '../../engine/time/zone.js'
import { meterRegisters } from '../../engine/usage/registers.js'
import { rangeOf } from '../../engine/usage/range.js'
import { inSnapshot } from '../../engine/usage/usage.js'
import { instantText } from '../../engine/time/text.js'
import { sendJson } from '../conditional.js'
import type { ApiContext } from '../context.js'
import { clip, requireMeter } from '../guards.js'
import { nullable, words } from '../schemas.js'
import { FlowWord, USAGE_READERS } from './usage.js'

const RegistersQuery = Type.Object({
  from: Type.Optional(Type.String({ maxLength: 40, description: 'Local date or instant; without it the running month.' })),
  to: Type.Optional(Type.String({ maxLength: 40, description: 'Without it the end of today.' })),
  quantity: Type.Optional(words(quantityNames)),
  flow: Type.Optional(FlowWord),
})

const Head = {
  quantity: Type.String(), unit: Type.String(), flow: Type.String(),
  tou: Type.String({ description: 'Time-of-use label; empty: the total.' }),
}
const Registers = Type.Object({
  meter: Type.String(), timeZone: Type.String(), from: Type.String(), to: Type.String(),
  registers: Type.Array(Type.Object({
    ...Head,
    reads: Type.Array(Type.Object({ at: Type.String(), value: Type.Number({ description: 'What the register showed, exact.' }), quality: Type.String() })),
    consumption: Type.Array(Type.Object({
      from: Type.String(), to: Type.String(),
      kind: Type.String({ description: 'difference, step-back, rollover, exchange, reset or unexplained' }),
      value: nullable(Type.Number({ description: 'null where the reads do not tell it.' })) })),
  })),
  periods: Type.Array(Type.Object({ ...Head, from: Type.String(), to: Type.String(), value: Type.Number(), quality: Type.String() }), {
    description: 'Consumption that was stated for periods longer than a day.' }),
})

/** Cumulative registers of a meter, which are never summed with its intervals. */
export function registerReadRoutes(app: FastifyInstance, context: ApiContext): void {
  app.get<{ Params: { meter: string }; Querystring: Static<typeof RegistersQuery> }>('/v1/meters/:meter/registers', {
    config: { roles: USAGE_READERS, member: true, problems: ['invalid-range', 'range-too-large'] },
    schema: {
      operationId: 'getMeterRegisters', tags: ['usage'], summary: 'Register reads of a meter, and the consumption between them',
      params: Type.Object({ meter: Type.String() }), querystring: RegistersQuery, response: { 200: Registers },
    },
  }, async (request, reply) => {
    const { query } = request
    const meter = await requireMeter(context, request.principal, request.params.meter)
    const zone = getZone(meter.zone)
    const range = rangeOf(query, 'day', zone, { billingDay: null, periods: [] }, Math.floor(context.now() / 1000))
    const found = await inSnapshot(context.readPool, (db) => meterRegisters(db, zone, meter, clip(meter.windows, range), query))
    return sendJson(request, reply, {
      meter: meter.meter, timeZone: zone.name, from: instantText(range.fromS, zone), to: instantText(range.toS, zone), ...found,
    })
  })
}
