import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { listConsent } from '../../engine/contacts/consent.js'
import { eraseMember, exportMember } from '../../engine/contacts/member.js'
import { putPreferences, readPreferences } from '../../engine/contacts/preferences.js'
import { createSealer } from '../../engine/contacts/seal.js'
import type { ApiContext, Role } from '../context.js'
import { requireAccount } from '../guards.js'
import { nullable, optional, page, words } from '../schemas.js'

const WRITERS: Role[] = ['portal', 'operator']

const Entry = Type.Object({ contact: Type.String({ format: 'uuid' }), mode: words(['now', 'digest']) })
const Entries = Type.Array(Entry, { maxItems: 20 })
const Clock = Type.String({ pattern: '^([01]\\d|2[0-3]):[0-5]\\d$', description: 'HH:MM of the local clock' })
const Quiet = Type.Object({ from: Clock, to: Clock })
const Body = Type.Object({
  usage: Type.Optional(Entries), service: Type.Optional(Entries), billing: Type.Optional(Entries),
  quietHours: Type.Optional(Type.Object({ sms: optional(Quiet), email: optional(Quiet) })),
})
const Preferences = Type.Object({
  usage: Type.Array(Entry), service: Type.Array(Entry), billing: Type.Array(Entry),
  quietHours: Type.Object({ sms: nullable(Quiet), email: nullable(Quiet) }),
})
const Consent = Type.Object({
  contact: nullable(Type.String()), channel: Type.String(), action: Type.String(), categories: Type.Array(Type.String()), actor: Type.String(),
  via: nullable(Type.String()), wording: nullable(Type.String()), at: Type.String(),
})
const Erasure = Type.Object({ contacts: Type.Integer(), messages: Type.Integer(), thresholds: Type.Integer() })

/** Who is told what, the proof of what was agreed to, and a member's right to take everything along or have it erased (contract §7). */
export function preferenceRoutes(app: FastifyInstance, context: ApiContext): void {
  const sealer = createSealer({ secretKey: context.secretKey })
  const now = (): Date => new Date(context.now())

  app.get<{ Params: { account: string } }>('/v1/accounts/:account/preferences', {
    config: { roles: ['portal', 'viewer', 'operator'], member: true },
    schema: { operationId: 'getPreferences', tags: ['alerts'], summary: 'Who is told what, and how', response: { 200: Preferences } },
  }, async (request) => {
    const { accountId } = await requireAccount(context, request.principal, request.params.account)
    return readPreferences(context.pool, accountId)
  })

  app.put<{ Params: { account: string }; Body: Static<typeof Body> }>('/v1/accounts/:account/preferences', {
    config: { roles: WRITERS, member: true, problems: ['unknown-contact', 'contact-stopped'] },
    schema: {
      operationId: 'putPreferences', tags: ['alerts'],
      summary: 'Choose who is told what: of a category that is named, the contacts listed are told and the others are not',
      body: Body, response: { 200: Preferences } },
  }, async (request) => {
    const account = await requireAccount(context, request.principal, request.params.account)
    return putPreferences(context.pool, account, request.body, request.principal.actor, now())
  })

  app.get<{ Params: { account: string } }>('/v1/accounts/:account/consent', {
    config: { roles: ['portal', 'viewer', 'operator'], member: true },
    schema: { operationId: 'listConsent', tags: ['alerts'], summary: 'What was agreed to and ended, oldest first', response: { 200: page(Consent) } },
  }, async (request) => {
    const { account, utilityId } = await requireAccount(context, request.principal, request.params.account)
    return { items: await listConsent(context.pool, utilityId, account), next: null }
  })

  app.get<{ Params: { account: string } }>('/v1/accounts/:account/export', {
    config: { roles: ['portal', 'operator'], member: true },
    schema: {
      operationId: 'exportMember', tags: ['accounts'], summary: 'Everything held about the member but the reads, which the usage routes give',
      response: { 200: Type.Object({}, { additionalProperties: true }) } },
  }, async (request, reply) => {
    const account = await requireAccount(context, request.principal, request.params.account)
    return reply.header('cache-control', 'no-store').send(await exportMember(context.pool, sealer, account, now()))
  })

  app.delete<{ Params: { account: string } }>('/v1/accounts/:account/member', {
    config: { roles: ['portal', 'operator'] },
    schema: {
      operationId: 'eraseMember', tags: ['accounts'],
      summary: 'Erase name, contacts, messages and thresholds; reads and the proof of consent stay', response: { 200: Erasure } },
  }, async (request) => {
    const account = await requireAccount(context, request.principal, request.params.account)
    return eraseMember(context.pool, account, request.principal.actor, now())
  })
}
