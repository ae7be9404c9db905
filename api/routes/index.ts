import type { RouteModule } from '../context.js'
import { alertRoutes } from './alerts.js'
import { auditRoutes } from './audit.js'
import { changeRoutes } from './changes.js'
import { completenessRoutes } from './completeness.js'
import { contactRoutes } from './contacts.js'
import { deliveryRoutes } from './deliveries.js'
import { eventRoutes } from './events.js'
import { exceptionRoutes } from './exceptions.js'
import { explainRoutes } from './explain.js'
import { greenButtonRoutes } from './green-button.js'
import { keyRoutes } from './keys.js'
import { messageRoutes } from './messages.js'
import { noticeRoutes } from './notices.js'
import { openNotifyRoutes } from './open.js'
import { preferenceRoutes } from './preferences.js'
import { quarantineRoutes } from './quarantine.js'
import { rateRoutes } from './rates.js'
import { registerReadRoutes } from './registers.js'
import { registryRoutes } from './registry.js'
import { sourceRoutes } from './sources.js'
import { summaryRoutes } from './summary.js'
import { systemLoadRoutes } from './system-load.js'
import { thresholdRoutes } from './thresholds.js'
import { tokenRoutes } from './tokens.js'
import { usageRoutes } from './usage.js'
import { utilityRoutes } from './utilities.js'
import { veeRulesRoutes } from './vee-rules.js'
import { webhookRoutes } from './webhooks.js'

/** Access, registry and deliveries. */
export const adminRoutes: readonly RouteModule[] = [
  utilityRoutes, keyRoutes, tokenRoutes, registryRoutes, rateRoutes, sourceRoutes, deliveryRoutes, quarantineRoutes, auditRoutes,
]

/** Every route of the API but the doors of ingest, for buildServer. */
export const apiRoutes: readonly RouteModule[] = [
  ...adminRoutes,
  usageRoutes, greenButtonRoutes, summaryRoutes, changeRoutes, completenessRoutes, systemLoadRoutes, explainRoutes,
  registerReadRoutes,
  exceptionRoutes, veeRulesRoutes,
  thresholdRoutes, alertRoutes, contactRoutes, messageRoutes, eventRoutes, preferenceRoutes, noticeRoutes,
  webhookRoutes,
]

/** Routes that need no key: members' mail programs and the SMS gateway call them. */
export const openRoutes: readonly RouteModule[] = [openNotifyRoutes]
