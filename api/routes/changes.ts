import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import type { Client } from '../../engine/store/db.js'
import { readChanges } from '../../engine/usage/changes.js'
import { inSnapshot } from '../../engine/usage/usage.js'
import { sendJson } from '../conditional.js'
import type { ApiContext, Principal } from '../context.js'
import { USAGE_READERS } from './usage.js'

const ChangesQuery = Type.Object({
  since: Type.Optional(Type.String({
    maxLength: 200, description: '`next` of an earlier page; `now`: only what comes; without it from the oldest change kept.' })),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
})

const Changes = Type.Object({
  items: Type.Array(Type.Object({
    account: Type.String(), day: Type.String({ description: 'Local day.' }),
    restated: Type.Boolean({ description: 'A value that already stood was changed.' }), at: Type.String() })),
  next: Type.String({ description: 'Where to go on; always there.' }),
  more: Type.Boolean({ description: 'More can be read at once.' }),
})

/** Which account-days changed: a reader that follows `next` misses nothing. */
export function changeRoutes(app: FastifyInstance, context: ApiContext): void {
  app.get<{ Querystring: Static<typeof ChangesQuery> }>('/v1/changes', {
    config: { roles: USAGE_READERS, member: true, problems: ['cursor-expired', 'invalid-cursor'] },
    schema: {
      operationId: 'listChanges', tags: ['usage'], summary: 'Account-days that changed, in the order of their commits',
      querystring: ChangesQuery, response: { 200: Changes },
    },
  }, (request, reply) => inSnapshot(context.pool, async (db) => sendJson(request, reply, await readChanges(db, {
    utilityId: request.principal.utilityId,
    since: request.query.since ?? null,
    limit: request.query.limit ?? 1000,
    accountIds: await memberAccounts(db, request.principal),
    nowMs: context.now(),
  }))))
}

async function memberAccounts(db: Client, principal: Principal): Promise<number[] | null> {
  if (principal.accounts === null) return null
  const { rows } = await db.query<{ account_id: number }>(
    'select account_id from account where utility_id = $1 and id = any($2::text[])',
    [principal.utilityId, [...principal.accounts]])
  return rows.map((r) => r.account_id)
}
