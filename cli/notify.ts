import type { Logger } from 'pino'
import type { Registry } from 'prom-client'
import type { Settings } from '../engine/config.js'
import { createLinkSigner } from '../engine/contacts/links.js'
import { createSealer } from '../engine/contacts/seal.js'
import { bounce } from '../engine/contacts/stop.js'
import { openCharts } from '../engine/notify/charts.js'
import { startOutbox } from '../engine/notify/outbox.js'
import { tellOutages } from '../engine/notify/outages.js'
import { createSmsTransport } from '../engine/notify/sms.js'
import { createSmtpTransport } from '../engine/notify/smtp.js'
import { byChannel, captureTransport } from '../engine/notify/transport.js'
import { startWebhookSender } from '../engine/notify/webhook-sender.js'
import { notifyMetrics } from './notify-metrics.js'
import type { Database } from './runtime.js'

/** Texts under way at a time. */
const TEXTS = 16
const OUTAGES_MS = 15_000

/** Everything that tells somebody something. */
export interface Notifier {
  /** There may be something new to tell: look now. */
  wake(): void
  stop(): Promise<void>
}

/**
 * Starts the outbox, the webhooks and the watch for outages.
 *
 * @param publicUrl where links in mails lead; null before it is known
 * @param now epoch milliseconds
 */
export function startNotifier(
  settings: Settings, database: Database, log: Logger, metrics: Registry, publicUrl: () => string | null, now: () => number,
): Notifier {
  const { pool } = database
  const secrets = { secretKey: database.secretKey }
  const signer = createLinkSigner(database.secretKey)
  const charts = openCharts({ pool, log, now })
  if (settings.smtpUrl !== null && settings.publicUrl === null) {
    log.warn('PUBLIC_URL is not set: the unsubscribe links in mails lead to this machine, where members cannot follow them')
  }
  const outbox = startOutbox({
    pool, secrets, log, now, concurrency: { email: settings.smtpConnections, sms: TEXTS }, onAttempt: notifyMetrics(metrics),
    transport: byChannel({
      email: settings.smtpUrl === null ? captureTransport
        : createSmtpTransport({ url: settings.smtpUrl, from: settings.mailFrom ?? 'meterline@localhost', connections: settings.smtpConnections }),
      sms: settings.smsUrl === null ? captureTransport
        : createSmsTransport({ url: settings.smsUrl, account: settings.smsAccount ?? '', token: settings.smsToken ?? '', from: settings.smsFrom ?? '' }),
    }),
    unsubscribeLink: (contactId, category) => {
      const base = publicUrl()
      return base === null ? null : `${base}/u/${signer.sign(contactId, category)}`
    },
    chart: settings.smtpUrl === null ? undefined : charts.draw,
    onBounce: (contactId) => bounce(pool, contactId, new Date(now())),
  })
  const webhooks = startWebhookSender({ pool, secrets, log, now, allowPrivate: settings.webhookPrivate === 'allow' })
  const sealer = createSealer(secrets)
  let chain: Promise<void> = Promise.resolve()
  const watch = (): void => {
    chain = chain.then(async () => {
      try {
        if (await tellOutages(pool, sealer, new Date(now())) > 0) outbox.wake()
      } catch (err) {
        log.warn({ err }, 'outages could not be looked at')
      }
    })
  }
  const timer = setInterval(watch, OUTAGES_MS).unref()
  return {
    wake() {
      outbox.wake()
      webhooks.wake()
    },
    async stop() {
      clearInterval(timer)
      await chain
      await outbox.stop()
      await webhooks.stop()
      await charts.close()
    },
  }
}
