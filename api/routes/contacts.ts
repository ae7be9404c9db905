import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { importContacts } from '../../engine/contacts/bulk.js'
import { addContact, listContacts, removeContact, resendCode, verifyContact } from '../../engine/contacts/contacts.js'
import { createSealer } from '../../engine/contacts/seal.js'
import { ApiError } from '../../engine/problem.js'
import type { ApiContext, Role } from '../context.js'
import { requireAccount } from '../guards.js'
import { isUuid, nullable, optional, page, text, words } from '../schemas.js'

const WRITERS: Role[] = ['portal', 'operator']

const NewContact = Type.Object({
  channel: words(['email', 'sms']),
  address: text(320, { minLength: 3, description: 'E-mail address, or number in E.164 form' }),
  label: optional(text(100)),
  language: optional(Type.String({ pattern: '^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$', maxLength: 20 })),
  consent: optional(Type.Object({
    categories: Type.Optional(Type.Array(words(['usage', 'service', 'billing']), { minItems: 1, maxItems: 3 })),
    text: Type.Optional(text(2000, { description: 'What was agreed to, in the words that were shown' })),
    via: Type.Optional(text(100, { description: 'How: a web form, a telephone call' })),
  })),
})
const Imported = Type.Object({
  ...NewContact.properties,
  account: text(128, { minLength: 1 }),
  verifiedAt: Type.String({ description: 'RFC 3339: when the other system verified it' }),
})
const Import = Type.Object({ contacts: Type.Array(Imported, { minItems: 1, maxItems: 5000 }) })
const ImportReceipt = Type.Object({
  received: Type.Integer(), created: Type.Integer(), changed: Type.Integer(), unchanged: Type.Integer(), rejected: Type.Integer(),
  problems: Type.Array(Type.Object({ code: Type.String(), at: Type.String(), message: Type.String(), help: Type.Optional(Type.String()) }), { description: 'The first 100.' }),
})
const Code = Type.Object({ code: Type.String({ pattern: '^[0-9]{6}$' }) })
const Contact = Type.Object({
  id: Type.String(), channel: words(['email', 'sms']), address: Type.String({ description: 'Masked' }),
  label: nullable(Type.String()), language: Type.String(), state: words(['pending', 'active', 'stopped', 'bounced']),
  consent: Type.Object({}, { additionalProperties: true }), createdAt: Type.String(), verifiedAt: nullable(Type.String()),
})

interface OneContact {
  account: string
  id: string
}

/** Contacts of an account, and their verification by a code (contract §7). */
export function contactRoutes(app: FastifyInstance, context: ApiContext): void {
  const sealer = createSealer({ secretKey: context.secretKey })
  const now = (): Date => new Date(context.now())

  app.post<{ Params: { account: string }; Body: Static<typeof NewContact> }>('/v1/accounts/:account/contacts', {
    config: { roles: WRITERS, member: true, problems: ['contact-exists', 'invalid-address', 'too-many-contacts', 'too-many-codes', 'contact-stopped'] },
    schema: {
      operationId: 'createContact', tags: ['alerts'], summary: 'Add a contact and send it a code',
      body: NewContact, response: { 201: Contact } },
  }, async (request, reply) => {
    const account = await requireAccount(context, request.principal, request.params.account)
    const contact = await addContact(context.pool, sealer, account, request.body, request.principal.actor, now(), request.principal.accounts)
    context.onMessages()
    return reply.code(201).send(contact)
  })

  app.put<{ Body: Static<typeof Import> }>('/v1/contacts', {
    config: { roles: ['operator'] },
    schema: {
      operationId: 'importContacts', tags: ['alerts'], summary: 'Bring verified contacts over from another system',
      body: Import, response: { 200: ImportReceipt } },
  }, async (request) => {
    const { principal, body } = request
    return importContacts(context.pool, sealer, { utilityId: principal.utilityId, actor: principal.actor, now: now() }, body.contacts)
  })

  app.get<{ Params: { account: string } }>('/v1/accounts/:account/contacts', {
    config: { roles: ['portal', 'viewer', 'operator'], member: true },
    schema: { operationId: 'listContacts', tags: ['alerts'], summary: 'Contacts of an account', response: { 200: page(Contact) } },
  }, async (request) => {
    const account = await requireAccount(context, request.principal, request.params.account)
    return { items: await listContacts(context.pool, account), next: null }
  })

  app.post<{ Params: OneContact; Body: Static<typeof Code> }>('/v1/accounts/:account/contacts/:id/verify', {
    config: { roles: WRITERS, member: true, problems: ['contact-not-found', 'contact-not-pending', 'code-wrong', 'code-expired'] },
    schema: {
      operationId: 'verifyContact', tags: ['alerts'], summary: 'Activate a contact by its code', body: Code, response: { 200: Contact } },
  }, async (request) => {
    const { principal, params } = request
    const account = await requireAccount(context, principal, params.account)
    return verifyContact(context.pool, sealer, account, uuid(params.id), request.body.code, principal.actor, now())
  })

  app.post<{ Params: OneContact }>('/v1/accounts/:account/contacts/:id/resend', {
    config: { roles: WRITERS, member: true, problems: ['contact-not-found', 'contact-not-pending', 'too-many-codes', 'contact-stopped'] },
    schema: { operationId: 'resendCode', tags: ['alerts'], summary: 'Send a new code', response: { 202: Contact } },
  }, async (request, reply) => {
    const account = await requireAccount(context, request.principal, request.params.account)
    const contact = await resendCode(context.pool, sealer, account, uuid(request.params.id), now())
    context.onMessages()
    return reply.code(202).send(contact)
  })

  app.delete<{ Params: OneContact }>('/v1/accounts/:account/contacts/:id', {
    config: { roles: WRITERS, member: true, problems: ['contact-not-found'] },
    schema: { operationId: 'deleteContact', tags: ['alerts'], summary: 'Take a contact away' },
  }, async (request, reply) => {
    const { principal, params } = request
    const account = await requireAccount(context, principal, params.account)
    await removeContact(context.pool, account, uuid(params.id), principal.actor, now())
    return reply.code(204).send()
  })
}

function uuid(id: string): string {
  if (!isUuid(id)) throw new ApiError(404, 'contact-not-found', 'There is no such contact.')
  return id
}
