import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import type { ApiContext } from '../context.js'
import { text } from '../schemas.js'

const TokenBody = Type.Object({
  accounts: Type.Array(text(128, { minLength: 1 }), { minItems: 1, maxItems: 100, description: 'Accounts that the token reaches' }),
  ttlSeconds: Type.Optional(Type.Integer({ minimum: 60, maximum: 86_400, default: 3600 })),
})

const Token = Type.Object({ token: Type.String(), expiresAt: Type.String() })

/** Member tokens: a portal mints one for the member who is logged in there. */
export function tokenRoutes(app: FastifyInstance, _context: ApiContext): void {
  app.post<{ Body: Static<typeof TokenBody> }>('/v1/tokens', {
    config: { roles: ['portal'], problems: ['unknown-account'] },
    schema: { operationId: 'createToken', tags: ['access'], summary: 'Mint a member token', body: TokenBody, response: { 201: Token } },
  }, async (request, reply) => {
    const { accounts, ttlSeconds = 3600 } = request.body
    const minted = await app.authenticator.mint(request.principal, accounts, ttlSeconds)
    return reply.code(201).header('cache-control', 'no-store').send(minted)
  })
}
