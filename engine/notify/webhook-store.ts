import type { Queryable } from '../store/db.js'

/** What a webhook can be told of. */
export const webhookEvents = [
  'alert.raised', 'alert.retracted', 'contact.active', 'contact.stopped', 'contact.bounced',
] as const
export type WebhookEvent = (typeof webhookEvents)[number]

/** Writes the present steps of alerts for the utility's webhooks that want them, in the transaction that changed the alerts. */
export async function announceToWebhooks(db: Queryable, utilityId: number, alertIds: readonly string[], now: Date): Promise<void> {
  await db.query(
    `insert into webhook_delivery (delivery_id, webhook_id, utility_id, event, payload, state, next_at, created_at)
     select gen_random_uuid(), w.webhook_id, $1, 'alert.' || a.state,
            jsonb_build_object('type', 'alert.' || a.state, 'timestamp', to_jsonb($3::timestamptz), 'data', jsonb_build_object(
              'account', o.id, 'alert', a.alert_id, 'step', a.step, 'threshold', a.threshold_id, 'version', a.version, 'kind', a.kind,
              'period', jsonb_build_object('start', a.period_start, 'end', a.period_end), 'limit', trim_scale(a.limit_value),
              'value', trim_scale(a.value), 'crossedAt', a.crossed_at, 'expected', a.expected, 'present', a.present,
              'estimated', a.estimated)),
            'pending', $3, $3
       from webhook w
       join alert a on a.alert_id = any($2::uuid[])
       join account o using (account_id)
      where w.utility_id = $1 and 'alert.' || a.state = any(w.events)`, [utilityId, alertIds, now])
}

/** Writes another event for the utility's webhooks that want it. `data` names things by their ids: no addresses. */
export async function tellWebhooks(
  db: Queryable, utilityId: number, event: WebhookEvent, data: Record<string, unknown>, now: Date,
): Promise<void> {
  await db.query(
    `insert into webhook_delivery (delivery_id, webhook_id, utility_id, event, payload, state, next_at, created_at)
     select gen_random_uuid(), webhook_id, $1, $2,
            jsonb_build_object('type', $2::text, 'timestamp', to_jsonb($4::timestamptz), 'data', $3::jsonb), 'pending', $4, $4
       from webhook where utility_id = $1 and $2 = any(events)`, [utilityId, event, JSON.stringify(data), now])
}
