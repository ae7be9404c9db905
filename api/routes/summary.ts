import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import type { Client } from '../../engine/store/db.js'
import { getZone } from '../../engine/time/zone.js'
import { summarise, type SummaryAccount } from '../../engine/usage/summary.js'
import { inSnapshot } from '../../engine/usage/usage.js'
import { sendJson } from '../conditional.js'
import type { ApiContext, Principal } from '../context.js'
import { requireAccount, requireZone } from '../guards.js'
import { nullable, text } from '../schemas.js'
import { countSchemas, TotalSchema, USAGE_READERS } from './usage.js'

const Stretch = { start: Type.String(), end: Type.String(), total: TotalSchema, ...countSchemas }
const Summary = Type.Object({
  account: Type.String(),
  timeZone: Type.String(),
  unit: Type.String(),
  period: Type.Object({ ...Stretch, periodSource: Type.String() }, { description: 'The running billing period, to date.' }),
  today: Type.Object(Stretch),
  yesterday: Type.Object(Stretch),
  lastYear: Type.Object({
    start: Type.String(), end: Type.String(), total: nullable(TotalSchema),
    toDate: nullable(Type.Object({ end: Type.String(), total: TotalSchema }, {
      description: 'As many days of it as are complete in the running period.' })),
    reason: nullable(Type.String()),
  }),
  dataThrough: nullable(Type.String()),
  expectedThrough: Type.String(),
  projection: nullable(Type.Object({
    value: Type.Number(), low: Type.Number(), high: Type.Number(),
    through: Type.String({ description: 'End of the last complete day; later days are projected.' }),
    toDate: Type.Number(), daysProjected: Type.Integer(),
    basedOnDays: Type.Integer({ description: 'Complete days of the last four weeks.' }),
  }, { description: 'Delivered kWh of the running period, with a range; null where fewer than 7 of the last 28 days are complete.' })),
})

const SummariesBody = Type.Object({
  accounts: Type.Array(text(200, { minLength: 1 }), { minItems: 1, maxItems: 500 }),
})

/** Usage at a glance, of one account or of many. */
export function summaryRoutes(app: FastifyInstance, context: ApiContext): void {
  app.get<{ Params: { account: string } }>('/v1/accounts/:account/summary', {
    config: { roles: USAGE_READERS, member: true },
    schema: {
      operationId: 'getAccountSummary', tags: ['usage'], summary: 'Period to date and projected, today, yesterday, a year ago',
      params: Type.Object({ account: Type.String() }), response: { 200: Summary },
    },
  }, async (request, reply) => {
    const account = await requireAccount(context, request.principal, request.params.account)
    const found = { accountId: account.accountId, account: account.account, billingDay: account.row.billing_day }
    const [summary] = await inSnapshot(context.readPool, (db) => summarise(db, getZone(account.zone), [found], nowS(context)))
    return sendJson(request, reply, summary)
  })

  app.post<{ Body: Static<typeof SummariesBody> }>('/v1/summaries', {
    config: { roles: USAGE_READERS, member: true, problems: ['utility-zone-unset'] },
    schema: {
      operationId: 'getSummaries', tags: ['usage'], summary: 'Summaries of many accounts',
      description: 'Accounts that do not exist, or that the token does not reach, are named in notFound.',
      body: SummariesBody,
      response: { 200: Type.Object({ items: Type.Array(Summary), notFound: Type.Array(Type.String()) }) },
    },
  }, async (request, reply) => {
    const zone = getZone(await requireZone(context, request.principal))
    const asked = [...new Set(request.body.accounts)]
    return inSnapshot(context.readPool, async (db) => {
      const found = await findAccounts(db, request.principal, asked)
      const accounts = asked.flatMap((id) => found.get(id) ?? [])
      return sendJson(request, reply, {
        items: await summarise(db, zone, accounts, nowS(context)),
        notFound: asked.filter((id) => !found.has(id)),
      })
    })
  })
}

async function findAccounts(
  db: Client, principal: Principal, asked: readonly string[],
): Promise<Map<string, SummaryAccount>> {
  const allowed = asked.filter((id) => principal.accounts === null || principal.accounts.has(id))
  const { rows } = await db.query<{ account_id: number; id: string; billing_day: number | null }>(
    'select account_id, id, billing_day from account where utility_id = $1 and id = any($2::text[])',
    [principal.utilityId, allowed])
  return new Map(rows.map((r) => [r.id, { accountId: r.account_id, account: r.id, billingDay: r.billing_day }]))
}

function nowS(context: ApiContext): number {
  return Math.floor(context.now() / 1000)
}
