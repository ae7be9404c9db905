import type { FastifyInstance } from 'fastify'
import { Type, type Static, type TSchema } from 'typebox'
import { applyAccounts, type WriteOptions } from '../../engine/registry/accounts.js'
import { addBillingPeriods, listBillingPeriods } from '../../engine/registry/billing-periods.js'
import { collectWhenIdle } from '../../engine/memory.js'
import { applyMeters } from '../../engine/registry/meters.js'
import { readAccounts, readMeters, type AccountView, type MeterView } from '../../engine/registry/read.js'
import type { RegistryReceipt } from '../../engine/registry/receipt.js'
import { parseRegistryBody } from '../../engine/registry/records.js'
import { AccountRecord, FLOWS, METER_ROLES, METER_STATES, MeterRecord } from '../../engine/registry/schema.js'
import { ApiError } from '../../engine/problem.js'
import type { ApiContext, Principal, Role } from '../context.js'
import { requireAccount } from '../guards.js'
import { decodeCursor, encodeCursor, nullable, page, pageOf, pageQuery, words } from '../schemas.js'

/** Largest bulk body, bytes: several hundred thousand records. */
const BULK_LIMIT = 256 * 1024 * 1024
/** Bytes of heap that a byte of a bulk body leaves behind, about. */
const GARBAGE_TIMES = 8
const READERS: Role[] = ['portal', 'viewer', 'operator']

const ProblemEntry = Type.Object({ code: Type.String(), at: Type.String(), message: Type.String(), help: Type.Optional(Type.String()) })
const Receipt = Type.Object({
  received: Type.Integer(), created: Type.Integer(), changed: Type.Integer(), unchanged: Type.Integer(), rejected: Type.Integer(),
  problems: Type.Array(ProblemEntry, { description: 'The first 100.' }),
})
const Account = Type.Object({
  account: Type.String(), nickname: nullable(Type.String()), name: nullable(Type.String()), billingDay: nullable(Type.Integer()),
  periodSource: words(['cis', 'billingDay', 'calendar']), rate: nullable(Type.Object({ id: Type.String(), from: Type.String() })),
  groups: Type.Record(Type.String(), Type.String()), zone: nullable(Type.String()),
})
const Meter = Type.Object({
  meter: Type.String(), aliases: Type.Array(Type.String()), role: words(METER_ROLES), status: words(METER_STATES),
  intervalSeconds: nullable(Type.Integer()), flows: nullable(Type.Array(words(FLOWS))), multiplier: Type.Number(),
  serviceKw: nullable(Type.Number()),
  assignments: Type.Array(Type.Object({
    account: Type.String(), servicePoint: nullable(Type.String()), from: Type.String(), to: nullable(Type.String()) })),
})
const Period = Type.Object({
  start: Type.String({ format: 'date' }), end: Type.String({ format: 'date', description: 'Local date, exclusive' }) })
const PeriodList = Type.Array(Period, { minItems: 1, maxItems: 1000 })
const Periods = Type.Union([Type.Object({ periods: PeriodList }), PeriodList])
const ListQuery = Type.Object(pageQuery)
const MeterQuery = Type.Object({ ...pageQuery, account: Type.Optional(Type.String({ description: 'Meters that serve or served it' })) })
const RECORD_PROBLEMS = ['malformed-body', 'malformed-csv', 'unknown-column', 'unknown-account', 'unknown-zone', 'invalid-record']

/** Accounts, meters and billing periods (contract §5). */
export function registryRoutes(app: FastifyInstance, context: ApiContext): void {
  bulkRoutes(app, context)
  accountRoutes(app, context)
  meterRoutes(app, context)
}

function bulkRoutes(app: FastifyInstance, context: ApiContext): void {
  app.register((scope, _options, done) => {
    scope.removeAllContentTypeParsers()
    // The thread that serves is idle afterwards: the records of a fleet would stay beside the reads that come next.
    scope.addHook('onResponse', (request, _reply, next) => {
      if (Buffer.isBuffer(request.body)) collectWhenIdle(request.body.length * GARBAGE_TIMES)
      next()
    })
    scope.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: BULK_LIMIT }, (_request, body, parsed) => parsed(null, body))
    scope.put<{ Body: Buffer | undefined }>('/v1/accounts', {
      bodyLimit: BULK_LIMIT,
      config: { roles: ['operator'], problems: RECORD_PROBLEMS, describedBody: bodies(AccountRecord) },
      schema: bulkSchema('putAccounts', 'Create and change accounts in bulk'),
    }, (request) => applyAccounts(context.pool, request.principal.utilityId,
      parseRegistryBody('accounts', typeOf(request.headers['content-type']), request.body ?? Buffer.alloc(0)), writer(context, request.principal)))
    scope.put<{ Body: Buffer | undefined }>('/v1/meters', {
      bodyLimit: BULK_LIMIT,
      config: { roles: ['operator'], problems: RECORD_PROBLEMS, describedBody: bodies(MeterRecord) },
      schema: bulkSchema('putMeters', 'Create and change meters and their assignments in bulk'),
    }, async (request) => writeMeters(context, request.principal,
      parseRegistryBody('meters', typeOf(request.headers['content-type']), request.body ?? Buffer.alloc(0))))
    done()
  })
}

function bulkSchema(operationId: string, summary: string) {
  return {
    operationId, summary, tags: ['registry'], response: { 200: Receipt },
    description: 'Idempotent. What a record leaves out is unchanged, null clears, absent records are untouched; '
      + 'a record that cannot be taken is rejected alone. In CSV an empty cell is left out, the word null clears, lists are separated by semicolons.',
  }
}

function bodies(record: TSchema): Record<string, object> {
  return {
    'application/json': Type.Array(record),
    'application/x-ndjson': Type.String({ description: 'One record per line' }),
    'text/csv': Type.String({ description: 'A header row with the members\' names' }),
  }
}

function typeOf(header: string | undefined): string {
  return header ?? 'application/json'
}

function writer(context: ApiContext, principal: Principal): WriteOptions {
  return { actor: principal.actor, now: new Date(context.now()), secrets: { secretKey: context.secretKey } }
}

async function writeMeters(context: ApiContext, principal: Principal, records: Parameters<typeof applyMeters>[2]): Promise<RegistryReceipt> {
  const { receipt, newNames } = await applyMeters(context.pool, principal.utilityId, records, writer(context, principal))
  if (newNames) context.onMetersRegistered(principal.utilityId)
  return receipt
}

function accountRoutes(app: FastifyInstance, context: ApiContext): void {
  const list = async (principal: Principal, query: Static<typeof ListQuery>) => {
    const limit = query.limit ?? 100
    const rows = await readAccounts(context.pool, {
      utilityId: principal.utilityId, id: null, after: after(query.cursor), limit: limit + 1, accounts: seen(principal) })
    return pageOf(rows, limit, (row) => row, (row) => encodeCursor(row.account))
  }
  const one = async (principal: Principal, id: string): Promise<AccountView> => {
    const [row] = principal.accounts?.has(id) === false ? [] : await readAccounts(context.pool,
      { utilityId: principal.utilityId, id, after: null, limit: 1, accounts: null })
    if (row === undefined) throw new ApiError(404, 'account-not-found', 'There is no such account.')
    return row
  }

  app.get<{ Querystring: Static<typeof ListQuery> }>('/v1/accounts', {
    config: { roles: READERS, member: true, problems: ['invalid-cursor'] },
    schema: { operationId: 'listAccounts', tags: ['registry'], summary: 'Accounts', querystring: ListQuery, response: { 200: page(Account) } },
  }, (request) => list(request.principal, request.query))

  app.get<{ Querystring: Static<typeof ListQuery> }>('/v1/me/accounts', {
    config: { roles: [], member: true, problems: ['invalid-cursor'] },
    schema: { operationId: 'listMyAccounts', tags: ['registry'], summary: 'Accounts of the token', querystring: ListQuery, response: { 200: page(Account) } },
  }, (request) => list(request.principal, request.query))

  app.get<{ Params: { account: string } }>('/v1/accounts/:account', {
    config: { roles: READERS, member: true },
    schema: { operationId: 'getAccount', tags: ['registry'], summary: 'An account', response: { 200: Account } },
  }, (request) => one(request.principal, request.params.account))

  app.put<{ Params: { account: string }; Body: Partial<AccountRecord> }>('/v1/accounts/:account', {
    config: { roles: ['operator'], problems: ['id-mismatch', 'invalid-record', 'unknown-zone'] },
    schema: {
      operationId: 'putAccount', tags: ['registry'], summary: 'Create or change an account',
      body: single(AccountRecord, 'account'), response: { 200: Account, 201: Account } },
  }, async (request, reply) => {
    const id = request.params.account
    const record = withId(request.body, 'account', id)
    const receipt = await applyAccounts(context.pool, request.principal.utilityId, [{ place: '', value: record }],
      writer(context, request.principal))
    refuseRejected(receipt)
    return reply.code(receipt.created > 0 ? 201 : 200).send(await one(request.principal, id))
  })

  app.put<{ Params: { account: string }; Body: Static<typeof Periods> }>('/v1/accounts/:account/billing-periods', {
    config: { roles: ['operator'], problems: ['invalid-period', 'billing-period-overlap'] },
    schema: {
      operationId: 'putBillingPeriods', tags: ['registry'], summary: 'Append explicit billing periods',
      body: Periods, response: { 200: page(Period) } },
  }, async (request) => {
    const account = await requireAccount(context, request.principal, request.params.account)
    const spans = Array.isArray(request.body) ? request.body : request.body.periods
    await addBillingPeriods(context.pool, account, spans, writer(context, request.principal))
    return { items: await listBillingPeriods(context.pool, account.accountId), next: null }
  })

  app.get<{ Params: { account: string } }>('/v1/accounts/:account/billing-periods', {
    config: { roles: READERS, member: true },
    schema: { operationId: 'listBillingPeriods', tags: ['registry'], summary: 'Explicit billing periods', response: { 200: page(Period) } },
  }, async (request) => {
    const account = await requireAccount(context, request.principal, request.params.account)
    return { items: await listBillingPeriods(context.pool, account.accountId), next: null }
  })
}

function meterRoutes(app: FastifyInstance, context: ApiContext): void {
  const one = async (principal: Principal, id: string): Promise<MeterView> => {
    const [row] = await readMeters(context.pool,
      { utilityId: principal.utilityId, id, after: null, limit: 1, accounts: seen(principal) })
    if (row === undefined) throw new ApiError(404, 'meter-not-found', 'There is no such meter.')
    return row
  }

  app.get<{ Querystring: Static<typeof MeterQuery> }>('/v1/meters', {
    config: { roles: READERS, member: true, problems: ['invalid-cursor'] },
    schema: { operationId: 'listMeters', tags: ['registry'], summary: 'Meters', querystring: MeterQuery, response: { 200: page(Meter) } },
  }, async (request) => {
    const { principal, query } = request
    const limit = query.limit ?? 100
    const rows = await readMeters(context.pool, {
      utilityId: principal.utilityId, id: null, after: after(query.cursor), limit: limit + 1, accounts: seen(principal),
      account: query.account ?? null })
    return pageOf(rows, limit, (row) => row, (row) => encodeCursor(row.meter))
  })

  app.get<{ Params: { meter: string } }>('/v1/meters/:meter', {
    config: { roles: READERS, member: true },
    schema: { operationId: 'getMeter', tags: ['registry'], summary: 'A meter', response: { 200: Meter } },
  }, (request) => one(request.principal, request.params.meter))

  app.put<{ Params: { meter: string }; Body: Partial<MeterRecord> }>('/v1/meters/:meter', {
    config: { roles: ['operator'], problems: ['id-mismatch', 'invalid-record', 'unknown-account', 'assignment-overlap', 'assignment-incomplete', 'alias-taken', 'invalid-instant'] },
    schema: {
      operationId: 'putMeter', tags: ['registry'], summary: 'Create or change a meter and its assignments',
      body: single(MeterRecord, 'meter'), response: { 200: Meter, 201: Meter } },
  }, async (request, reply) => {
    const id = request.params.meter
    const receipt = await writeMeters(context, request.principal, [{ place: '', value: withId(request.body, 'meter', id) }])
    refuseRejected(receipt)
    return reply.code(receipt.created > 0 ? 201 : 200).send(await one(request.principal, id))
  })
}

/** The record's schema where the address has the id already. */
function single(record: typeof AccountRecord | typeof MeterRecord, id: string): TSchema {
  const properties: Record<string, TSchema> = { ...record.properties }
  return Type.Object({ ...properties, [id]: Type.Optional(properties[id]) })
}

function withId(body: Record<string, unknown>, member: string, id: string): Record<string, unknown> {
  if (body[member] !== undefined && body[member] !== id) {
    throw new ApiError(422, 'id-mismatch', 'The body names another id than the address.', { at: `/${member}` })
  }
  return { ...body, [member]: id }
}

const CONFLICTS = new Set(['assignment-overlap', 'alias-taken'])

/** A bulk write reports a refused record in its receipt; a write of one record fails with it. */
function refuseRejected(receipt: RegistryReceipt): void {
  if (receipt.rejected === 0) return
  const { code, at, message, help } = receipt.problems[0]
  throw new ApiError(CONFLICTS.has(code) ? 409 : 422, code, message, { at: at.trim(), ...(help === undefined ? {} : { help }) })
}

function seen(principal: Principal): string[] | null {
  return principal.accounts === null ? null : [...principal.accounts]
}

function after(cursor: string | undefined): string | null {
  return cursor === undefined ? null : String(decodeCursor(cursor, 1)[0])
}
