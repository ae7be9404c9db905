import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { ApiError } from '../../engine/problem.js'
import { thresholdKinds, windows } from '../../engine/thresholds/kinds.js'
import { previewThreshold } from '../../engine/thresholds/preview.js'
import {
  changeThreshold, createThreshold, deleteThreshold, findThreshold, listThresholds, type ThresholdWrite, type ThresholdWriter,
} from '../../engine/thresholds/thresholds.js'
import { inSnapshot } from '../../engine/usage/usage.js'
import type { ApiContext, Principal, Role } from '../context.js'
import { requireAccount } from '../guards.js'
import { isUuid, nullable, optional, page, text, words } from '../schemas.js'

const READERS: Role[] = ['portal', 'viewer', 'operator']
const WRITERS: Role[] = ['portal', 'operator']

const Limit = Type.Number({ description: 'In the kind\'s unit (kWh, kW, the utility\'s currency), above 0 and at most 1000000, with at most 3 decimals' })
const Params = Type.Object({
  window: Type.Optional(words(windows)),
  percent: Type.Optional(Type.Number({ description: 'unusual: least percent above the median, 30 to 1000' })),
  mads: Type.Optional(Type.Number({ description: 'unusual: least median absolute deviations above the median, 1 to 20' })),
}, { description: 'Of low-usage and no-usage: window (day, billing-period). Of unusual: percent (30), mads (3).' })
const Contacts = optional(Type.Array(Type.String({ format: 'uuid' }), {
  minItems: 1, maxItems: 20, description: 'Ids of the contacts that are told; null: every active one' }))
const NewThreshold = Type.Object({
  kind: Type.String({ maxLength: 40, description: thresholdKinds.join(', ') }),
  limit: optional(Limit),
  flow: Type.Optional(words(['delivered', 'received', 'net'])),
  meter: optional(text(200, { minLength: 1, description: 'One meter of the account alone' })),
  touPeriod: optional(text(60, { minLength: 1, description: 'Only the hours of this time-of-use period of the account\'s rate' })),
  params: Type.Optional(Params),
  contacts: Contacts,
})
const ThresholdPatch = Type.Object({ limit: Type.Optional(Limit), params: Type.Optional(Params), contacts: Contacts })
const Threshold = Type.Object({
  id: Type.String(), kind: Type.String(), flow: Type.String(), meter: nullable(Type.String()), limit: nullable(Type.Number()),
  unit: Type.String(), window: Type.String(), direction: Type.String(), touPeriod: nullable(Type.String()), params: Params, contacts: nullable(Type.Array(Type.String())),
  version: Type.Integer(), createdAt: Type.String(), versionFrom: Type.String(),
})

const Preview = Type.Object({
  from: Type.String(), to: Type.String(), days: Type.Integer(), unit: Type.String(),
  judged: Type.Integer({ description: 'Periods that ended in these days and whose data tell something' }),
  wouldHaveFired: nullable(Type.Integer({ description: 'null where no limit was given' })),
  alerts: Type.Array(Type.Object({ start: Type.String(), end: Type.String(), value: Type.Number(), limit: Type.Number() }), {
    description: 'The newest hundred, oldest first' }),
  suggestions: Type.Array(Type.Object({
    limit: Type.Number(), quantile: Type.Number({ description: 'Share of the account\'s own periods below it' }), wouldHaveFired: Type.Integer() })),
})

interface OneThreshold {
  account: string
  id: string
}

/** Thresholds of an account (contract §7). */
export function thresholdRoutes(app: FastifyInstance, context: ApiContext): void {
  const writer = async (principal: Principal, account: string): Promise<ThresholdWriter> => {
    const { accountId, utilityId, zone } = await requireAccount(context, principal, account)
    return {
      accountId, account, utilityId, zone, actor: principal.actor, now: new Date(context.now()),
      secrets: { secretKey: context.secretKey },
    }
  }
  const told = ({ threshold, messages }: ThresholdWrite): ThresholdWrite['threshold'] => {
    if (messages > 0) context.onMessages()
    return threshold
  }

  app.post<{ Params: { account: string }; Body: Static<typeof NewThreshold> }>('/v1/accounts/:account/thresholds', {
    config: {
      roles: WRITERS, member: true,
      problems: ['kind-unsupported', 'invalid-limit', 'invalid-combination', 'invalid-params', 'unknown-meter', 'unknown-contact', 'too-many-thresholds', 'no-rate', 'unknown-tou-period'],
    },
    schema: {
      operationId: 'createThreshold', tags: ['alerts'], summary: 'Make a threshold', body: NewThreshold, response: { 201: Threshold } },
  }, async (request, reply) => {
    const by = await writer(request.principal, request.params.account)
    return reply.code(201).send(told(await createThreshold(context.pool, by, request.body)))
  })

  const PreviewBody = Type.Object({
    ...Type.Omit(NewThreshold, ['contacts']).properties,
    days: Type.Optional(Type.Integer({ minimum: 1, maximum: 400, description: 'Local days back from today; 90 where it is not given' })),
  })
  app.post<{ Params: { account: string }; Body: Static<typeof PreviewBody> }>('/v1/accounts/:account/thresholds/preview', {
    config: {
      roles: READERS, member: true,
      problems: ['kind-unsupported', 'invalid-limit', 'invalid-combination', 'invalid-params', 'unknown-meter'],
    },
    schema: {
      operationId: 'previewThreshold', tags: ['alerts'], summary: 'How often a threshold would have fired, and which limits the account suggests',
      description: 'The code that judges thresholds, run over the stored days. Without a limit it only suggests.',
      body: PreviewBody, response: { 200: Preview } },
  }, async (request) => {
    const account = await requireAccount(context, request.principal, request.params.account)
    return inSnapshot(context.readPool, (db) => previewThreshold(db, account, request.body, new Date(context.now())))
  })

  app.get<{ Params: { account: string } }>('/v1/accounts/:account/thresholds', {
    config: { roles: READERS, member: true },
    schema: { operationId: 'listThresholds', tags: ['alerts'], summary: 'Thresholds of an account', response: { 200: page(Threshold) } },
  }, async (request) => {
    const { accountId } = await requireAccount(context, request.principal, request.params.account)
    return { items: await listThresholds(context.pool, accountId), next: null }
  })

  app.get<{ Params: OneThreshold }>('/v1/accounts/:account/thresholds/:id', {
    config: { roles: READERS, member: true, problems: ['threshold-not-found'] },
    schema: { operationId: 'getThreshold', tags: ['alerts'], summary: 'A threshold', response: { 200: Threshold } },
  }, async (request) => {
    const { accountId } = await requireAccount(context, request.principal, request.params.account)
    return findThreshold(context.pool, accountId, uuid(request.params.id))
  })

  app.patch<{ Params: OneThreshold; Body: Static<typeof ThresholdPatch> }>('/v1/accounts/:account/thresholds/:id', {
    config: { roles: WRITERS, member: true, problems: ['threshold-not-found', 'invalid-limit', 'invalid-combination', 'invalid-params', 'unknown-contact'] },
    schema: {
      operationId: 'changeThreshold', tags: ['alerts'], summary: 'Change a threshold',
      description: 'Another limit is a new version: it judges periods that end from now on.',
      body: ThresholdPatch, response: { 200: Threshold } },
  }, async (request) => {
    const by = await writer(request.principal, request.params.account)
    return told(await changeThreshold(context.pool, by, uuid(request.params.id), request.body))
  })

  app.delete<{ Params: OneThreshold }>('/v1/accounts/:account/thresholds/:id', {
    config: { roles: WRITERS, member: true, problems: ['threshold-not-found'] },
    schema: { operationId: 'deleteThreshold', tags: ['alerts'], summary: 'End a threshold' },
  }, async (request, reply) => {
    const by = await writer(request.principal, request.params.account)
    await deleteThreshold(context.pool, by, uuid(request.params.id))
    return reply.code(204).send()
  })
}

function uuid(id: string): string {
  if (!isUuid(id)) throw new ApiError(404, 'threshold-not-found', 'There is no such threshold.')
  return id
}
