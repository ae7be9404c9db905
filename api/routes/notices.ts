import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { createSealer } from '../../engine/contacts/seal.js'
import { noticeTemplates } from '../../engine/notify/content.js'
import { sendNotice } from '../../engine/notify/notices.js'
import { ApiError } from '../../engine/problem.js'
import { parseDay, parseInstant } from '../../engine/time/text.js'
import type { ApiContext } from '../context.js'
import { nullable, text, words } from '../schemas.js'

const Notice = Type.Object({
  category: words(['service', 'billing']),
  template: words(noticeTemplates),
  params: Type.Optional(Type.Object({
    amount: Type.Optional(Type.String({ pattern: '^-?\\d{1,9}(\\.\\d{1,4})?$' })),
    currency: Type.Optional(Type.String({ pattern: '^[A-Z]{3}$' })),
    dueOn: Type.Optional(Type.String({ description: 'YYYY-MM-DD' })),
    startsAt: Type.Optional(Type.String({ description: 'RFC 3339' })),
    endsAt: Type.Optional(Type.String({ description: 'RFC 3339' })),
    text: Type.Optional(text(500, { minLength: 1, description: 'Said beside the template\'s own words; needed by general' })),
    link: Type.Optional(Type.String({ maxLength: 300, pattern: '^https?://[^\\u0000-\\u0020\\ud800-\\udfff]*$' })),
  })),
  audience: Type.Union([
    Type.Object({ accounts: Type.Array(text(128, { minLength: 1 }), { minItems: 1, maxItems: 10_000 }) }),
    Type.Object({ groups: Type.Record(Type.String({ maxLength: 100 }), text(200), { minProperties: 1, maxProperties: 10 }) }),
  ], { description: 'Accounts by id, or those that are in all of these groups' }),
  expiresAt: Type.Optional(nullable(Type.String({ description: 'RFC 3339: not worth telling after this' }))),
  dryRun: Type.Optional(Type.Boolean({ default: false, description: 'Counts, and tells nobody' })),
})
const Receipt = Type.Object({
  notice: nullable(Type.String()), accounts: Type.Integer(), unknownAccounts: Type.Array(Type.String(), { description: 'The first 100' }),
  messages: Type.Integer({ description: 'To contacts that want the category' }), dryRun: Type.Boolean(),
})

/** Notices of the utility: bills, outages, peak times (contract §7). */
export function noticeRoutes(app: FastifyInstance, context: ApiContext): void {
  const sealer = createSealer({ secretKey: context.secretKey })
  app.post<{ Body: Static<typeof Notice>; Headers: { 'idempotency-key'?: string } }>('/v1/notices', {
    config: { roles: ['notify', 'operator'], problems: ['idempotency-key-missing', 'idempotency-key-reused', 'empty-audience', 'invalid-instant'] },
    schema: {
      operationId: 'sendNotice', tags: ['alerts'], summary: 'Tell an audience of something; the same key tells nobody twice',
      headers: Type.Object({ 'idempotency-key': Type.Optional(text(255, { minLength: 1, description: 'Required' })) }, { additionalProperties: true }),
      body: Notice, response: { 200: Receipt } },
  }, async (request) => {
    const { body, principal } = request
    const key = request.headers['idempotency-key']
    if (key === undefined) {
      throw new ApiError(422, 'idempotency-key-missing', 'A notice needs an Idempotency-Key, so that a repeated call tells nobody twice.',
        { help: 'Send a key of your own that names this notice.' })
    }
    const params = checkParams(body)
    const receipt = await sendNotice(context.pool, sealer, { utilityId: principal.utilityId, actor: principal.actor, now: new Date(context.now()) }, key, {
      category: body.category, template: body.template, params, audience: body.audience, dryRun: body.dryRun === true,
      expiresAt: typeof body.expiresAt === 'string' ? instant(body.expiresAt, '/expiresAt') : null,
    })
    context.onMessages()
    return receipt
  })
}

function checkParams({ template, params = {} }: Static<typeof Notice>): NonNullable<Static<typeof Notice>['params']> {
  if (template === 'general' && params.text === undefined) {
    throw new ApiError(422, 'invalid-request', 'A general notice says its text.', { at: '/params/text' })
  }
  if (params.dueOn !== undefined && parseDay(params.dueOn) === undefined) {
    throw new ApiError(422, 'invalid-instant', 'dueOn is not a date.', { at: '/params/dueOn', help: 'Write it as 2026-10-01.' })
  }
  for (const name of ['startsAt', 'endsAt'] as const) if (params[name] !== undefined) instant(params[name], `/params/${name}`)
  return params
}

function instant(value: string, at: string): Date {
  const s = parseInstant(value)
  if (s === undefined) throw new ApiError(422, 'invalid-instant', 'This is not an instant with an offset.', { at, help: 'Write it as 2026-10-01T00:00:00-05:00.' })
  return new Date(s * 1000)
}
