import { randomBytes, randomUUID } from 'node:crypto'
import { Webhook } from 'standardwebhooks'
import { writeAudit } from '../audit.js'
import type { Sealer } from '../contacts/seal.js'
import { ApiError } from '../problem.js'
import { inTransaction, type Pool, type Queryable } from '../store/db.js'
import type { WebhookEvent } from './webhook-store.js'

export interface WebhookView {
  id: string
  url: string
  events: string[]
  createdAt: string
  updatedAt: string
}

export interface WebhookDeliveryView {
  id: string
  event: string
  state: string
  attempts: number
  status: number | null
  error: string | null
  createdAt: string
  doneAt: string | null
}

interface Row {
  id: string
  url: string
  events: string[]
  created_at: Date
  updated_at: Date
}

interface Writer {
  readonly utilityId: number
  readonly actor: string
  readonly now: Date
}

const COLUMNS = 'id, url, events, created_at, updated_at'
const MAX_WEBHOOKS = 20

/**
 * Makes or changes a webhook. Without a secret a new one is made, and shown this once.
 * @throws ApiError 422 `invalid-url`, `invalid-secret`, `too-many-webhooks`
 */
export async function putWebhook(
  pool: Pool, sealer: Sealer, writer: Writer, id: string, input: { url: string; events: readonly WebhookEvent[]; secret?: string },
): Promise<{ created: boolean; webhook: WebhookView; secret: string | null }> {
  checkUrl(input.url)
  if (input.secret !== undefined) signer(input.secret)
  return inTransaction(pool, async (client) => {
    const { rows: found } = await client.query<{ webhook_id: string }>(
      'select webhook_id from webhook where utility_id = $1 and id = $2 for update', [writer.utilityId, id])
    const created = found.length === 0
    const webhookId = found[0]?.webhook_id ?? randomUUID()
    if (created) await checkRoom(client, writer.utilityId)
    const secret = input.secret ?? (created ? `whsec_${randomBytes(32).toString('base64')}` : null)
    const { rows } = await client.query<Row>(
      `insert into webhook (webhook_id, utility_id, id, url, events, secret_enc, created_at, updated_at)
       values ($1, $2, $3, $4, $5, coalesce($6, ''::bytea), $7, $7)
       on conflict (utility_id, id) do update set url = excluded.url, events = excluded.events, updated_at = excluded.updated_at,
          secret_enc = coalesce($6, webhook.secret_enc) returning ${COLUMNS}`,
      [webhookId, writer.utilityId, id, input.url, [...new Set(input.events)],
        secret === null ? null : sealer.seal('message', webhookId, secret), writer.now])
    await writeAudit(client, {
      utilityId: writer.utilityId, actor: writer.actor, action: created ? 'webhook.create' : 'webhook.change', subject: id, detail: { events: input.events } })
    return { created, webhook: toView(rows[0]), secret: input.secret === undefined ? secret : null }
  })
}

export async function listWebhooks(db: Queryable, utilityId: number): Promise<WebhookView[]> {
  const { rows } = await db.query<Row>(`select ${COLUMNS} from webhook where utility_id = $1 order by id`, [utilityId])
  return rows.map(toView)
}

/** @throws ApiError 404 `webhook-not-found` */
export async function deleteWebhook(pool: Pool, writer: Writer, id: string): Promise<void> {
  await inTransaction(pool, async (client) => {
    const { rowCount } = await client.query('delete from webhook where utility_id = $1 and id = $2', [writer.utilityId, id])
    if (rowCount === 0) throw notFound()
    await writeAudit(client, { utilityId: writer.utilityId, actor: writer.actor, action: 'webhook.delete', subject: id })
  })
}

/** One more than a page of a webhook's deliveries, newest first. @throws ApiError 404 `webhook-not-found` */
export async function listWebhookDeliveries(
  db: Queryable, utilityId: number, id: string, filter: { limit: number; state?: string; after?: { at: string; id: string } },
): Promise<{ view: WebhookDeliveryView; createdAt: string }[]> {
  const webhookId = await findId(db, utilityId, id)
  const { rows } = await db.query<{
    delivery_id: string; event: string; state: string; attempts: number; last_status: number | null; last_error: string | null
    created_at: Date; created_text: string; done_at: Date | null
  }>(
    `select delivery_id, event, state, attempts, last_status, last_error, created_at, created_at::text as created_text, done_at
       from webhook_delivery where webhook_id = $1 and ($2::text is null or state = $2)
        and ($3::timestamptz is null or (created_at, delivery_id) < ($3, $4::uuid))
      order by created_at desc, delivery_id desc limit $5`,
    [webhookId, filter.state ?? null, filter.after?.at ?? null, filter.after?.id ?? null, filter.limit + 1])
  return rows.map((r) => ({
    createdAt: r.created_text,
    view: {
      id: r.delivery_id, event: r.event, state: r.state, attempts: r.attempts, status: r.last_status, error: r.last_error,
      createdAt: r.created_at.toISOString(), doneAt: r.done_at?.toISOString() ?? null,
    },
  }))
}

/** Sends dead letters again, each under its own id, so that a receiver can tell a repetition. @throws ApiError 404 `webhook-not-found` */
export async function replayWebhook(db: Queryable, utilityId: number, id: string, now: Date): Promise<number> {
  const webhookId = await findId(db, utilityId, id)
  const { rowCount } = await db.query(
    `update webhook_delivery set state = 'pending', attempts = 0, next_at = $2, done_at = null where webhook_id = $1 and state = 'failed'`, [webhookId, now])
  return rowCount ?? 0
}

/** Signs by the Standard Webhooks scheme. @throws ApiError 422 `invalid-secret` */
export function signer(secret: string): Webhook {
  try {
    const webhook = secret.startsWith('whsec_') ? new Webhook(secret) : new Webhook(Buffer.from(secret, 'utf8').toString('base64'))
    const bytes = secret.startsWith('whsec_') ? Buffer.from(secret.slice(6), 'base64').length : Buffer.byteLength(secret)
    if (bytes >= 24 && bytes <= 64) return webhook
  } catch {
    // Told below.
  }
  throw new ApiError(422, 'invalid-secret', 'A secret has 24 to 64 bytes: as text, or as whsec_ and base64.', { at: '/secret' })
}

function checkUrl(text: string): void {
  try {
    const url = new URL(text)
    if ((url.protocol === 'https:' || url.protocol === 'http:') && url.username === '' && url.password === '') return
  } catch {
    // Told below.
  }
  throw new ApiError(422, 'invalid-url', 'This is not an http or https address without a user name.', { at: '/url' })
}

async function checkRoom(db: Queryable, utilityId: number): Promise<void> {
  const { rows } = await db.query<{ count: number }>('select count(*) as count from webhook where utility_id = $1', [utilityId])
  if (rows[0].count >= MAX_WEBHOOKS) throw new ApiError(422, 'too-many-webhooks', `A utility has at most ${MAX_WEBHOOKS} webhooks.`)
}

async function findId(db: Queryable, utilityId: number, id: string): Promise<string> {
  const { rows } = await db.query<{ webhook_id: string }>('select webhook_id from webhook where utility_id = $1 and id = $2', [utilityId, id])
  if (rows.length === 0) throw notFound()
  return rows[0].webhook_id
}

function toView(r: Row): WebhookView {
  return { id: r.id, url: r.url, events: r.events, createdAt: r.created_at.toISOString(), updatedAt: r.updated_at.toISOString() }
}

function notFound(): ApiError {
  return new ApiError(404, 'webhook-not-found', 'There is no such webhook.')
}
