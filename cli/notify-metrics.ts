import { Counter, Histogram, type Registry } from 'prom-client'
import type { OutboxOptions } from '../engine/notify/outbox.js'

/** Metrics of the outbox: attempts by outcome, and how long after its alert a message left. */
export function notifyMetrics(registry: Registry): NonNullable<OutboxOptions['onAttempt']> {
  const registers = [registry]
  const attempts = new Counter({
    name: 'meterline_notify_attempts_total', help: 'Attempts to send a message', labelNames: ['channel', 'purpose', 'outcome'], registers })
  const age = new Histogram({
    name: 'meterline_notify_delay_seconds', help: 'From the commit that wrote a message to its acceptance', labelNames: ['channel'],
    buckets: [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 60, 600], registers })
  for (const channel of ['email', 'sms']) {
    age.zero({ channel })
    for (const outcome of ['sent', 'failed', 'unknown']) attempts.inc({ channel, purpose: 'alert', outcome }, 0)
  }
  return ({ channel, purpose, state, ageMs }) => {
    attempts.inc({ channel, purpose, outcome: state })
    if (state === 'sent' || state === 'captured') age.observe({ channel }, ageMs / 1000)
  }
}
