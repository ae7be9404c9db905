import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { createSealer } from '../../engine/contacts/seal.js'
import { listMessages, messageStates } from '../../engine/notify/messages.js'
import type { ApiContext } from '../context.js'
import { encodeCursor, nullable, page, pageOf, pageQuery, text, words } from '../schemas.js'
import { placeOf } from './place.js'

/** Purposes whose text shows nothing but what members are told. */
const TELLING = ['alert', 'correction', 'notice', 'reply']

const MessageQuery = Type.Object({
  ...pageQuery,
  state: Type.Optional(words(messageStates)),
  account: Type.Optional(text(200)),
})
const Message = Type.Object({
  id: Type.String(), account: nullable(Type.String()), contact: nullable(Type.String()),
  address: nullable(Type.String({ description: 'Masked' })), channel: Type.String(), purpose: Type.String(),
  category: Type.String(), digest: Type.Boolean({ description: 'Goes, or went, out together with others' }),
  alert: nullable(Type.String()), state: words(messageStates), attempts: Type.Integer(), error: nullable(Type.String()),
  createdAt: Type.String(), doneAt: nullable(Type.String()),
  subject: nullable(Type.String()), text: nullable(Type.String({ description: 'Of captured messages alone' })),
})

/** Messages of the utility: what was sent, and the text of what was captured for want of a mail or SMS server. */
export function messageRoutes(app: FastifyInstance, context: ApiContext): void {
  const sealer = createSealer({ secretKey: context.secretKey })
  app.get<{ Querystring: Static<typeof MessageQuery> }>('/v1/messages', {
    config: { roles: ['viewer', 'operator'], problems: ['invalid-cursor'] },
    schema: {
      operationId: 'listMessages', tags: ['alerts'], summary: 'Messages of the utility, newest first',
      querystring: MessageQuery, response: { 200: page(Message) } },
  }, async (request) => {
    const { principal, query: { limit = 100, cursor, state, account } } = request
    const place = cursor === undefined ? undefined : placeOf(cursor)
    const rows = await listMessages(context.pool, sealer, principal.utilityId, {
      limit, state, account, after: place && { createdAt: place.at, id: place.id },
      // A code proves who holds an address: whoever may only read does not see it.
      readable: principal.role === 'operator' ? [...TELLING, 'code'] : TELLING,
    })
    return pageOf(rows, limit, (row) => row.view, (row) => encodeCursor(row.createdAt, row.view.id))
  })
}
