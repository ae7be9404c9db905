import type { RouteModule } from '../context.js'
import { alertRoutes } from './alerts.js'
import { changeRoutes } from './changes.js'
import { completenessRoutes } from './completeness.js'
import { contactRoutes } from './contacts.js'
import { explainRoutes } from './explain.js'
import { adminRoutes } from './index.js'
import { messageRoutes } from './messages.js'
import { summaryRoutes } from './summary.js'
import { systemLoadRoutes } from './system-load.js'
import { thresholdRoutes } from './thresholds.js'
import { usageRoutes } from './usage.js'

/** Every route under /v1 but the push door's. */
export const routes: readonly RouteModule[] = [
  ...adminRoutes, usageRoutes, summaryRoutes, changeRoutes, completenessRoutes, systemLoadRoutes, explainRoutes,
  thresholdRoutes, alertRoutes, contactRoutes, messageRoutes,
]
