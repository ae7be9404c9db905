import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { createSealer } from '../../engine/contacts/seal.js'
import { writeAudit } from '../../engine/audit.js'
import { listMessages, messageStates, replayMessages } from '../../engine/notify/messages.js'
import { ApiError } from '../../engine/problem.js'
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
const Replay = Type.Object({ message: Type.Optional(Type.String({ format: 'uuid', description: 'Left out: all that failed' })) })
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

  app.post<{ Body: Static<typeof Replay> }>('/v1/messages/replay', {
    config: { roles: ['operator'], problems: ['message-not-replayable'] },
    schema: {
      operationId: 'replayMessages', tags: ['alerts'],
      summary: 'Send again what failed: all of it, or one message; an unknown one only by its id, for it may have arrived',
      body: Replay, response: { 200: Type.Object({ replayed: Type.Integer() }) } },
  }, async (request) => {
    const { principal, body } = request
    const id = body.message ?? null
    const replayed = await replayMessages(context.pool, principal.utilityId, id, new Date(context.now()))
    if (id !== null && replayed === 0) {
      throw new ApiError(404, 'message-not-replayable', 'There is no such message that failed or whose fate is unknown.', { at: '/message' })
    }
    await writeAudit(context.pool, { utilityId: principal.utilityId, actor: principal.actor, action: 'messages.replay', subject: id ?? 'failed', detail: { replayed } })
    context.onMessages()
    return { replayed }
  })
}
