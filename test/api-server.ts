import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import pino from 'pino'
import { createKey, ensureUtility, type KeyRole } from '../engine/access.js'
import type { Pool } from '../engine/store/db.js'
import type { ApiContext, RouteModule } from '../api/context.js'
import { apiRoutes, openRoutes } from '../api/routes/index.js'
import { buildServer } from '../api/server.js'

/** A server for tests, without listening, and what a test calls it with. */
export interface TestServer {
  readonly app: FastifyInstance
  readonly context: ApiContext
  /** Utilities that onMetersRegistered was told of. */
  readonly registered: number[]
  /** Lines logged at level error. */
  readonly errors: string[]
  key(utility: string, role: KeyRole, options?: { name?: string; sources?: string[]; installation?: boolean }): Promise<string>
  /** One call; a body that is not text or bytes goes as JSON. */
  call(key: string | null, method: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE', url: string, body?: unknown, type?: string): Promise<LightMyRequestResponse>
}

/** Builds the server on a test's database, with the ordinary routes or the given ones. */
export function testServer(
  pool: Pool, options: { routes?: readonly RouteModule[]; bodyRoutes?: readonly RouteModule[]; openRoutes?: readonly RouteModule[]; context?: Partial<ApiContext> } = {},
): TestServer {
  const registered: number[] = []
  const errors: string[] = []
  const context: ApiContext = {
    pool,
    readPool: pool,
    log: pino({ level: 'error' }, { write: (line: string) => void errors.push(line) }),
    secretKey: Buffer.alloc(32, 7),
    now: () => Date.now(),
    onMetersRegistered: (utilityId) => void registered.push(utilityId),
    onMessages: () => undefined,
    ...options.context,
  }
  const app = buildServer(context, {
    routes: options.routes ?? apiRoutes,
    bodyRoutes: options.bodyRoutes,
    openRoutes: options.openRoutes ?? openRoutes,
    ready: () => Promise.resolve({ ok: true, reasons: [] }),
    metrics: () => Promise.resolve('meterline_up 1\n'),
  })
  return {
    app,
    context,
    registered,
    errors,
    async key(utility, role, keyOptions = {}) {
      const { utilityId } = await ensureUtility(pool, utility)
      const { key } = await createKey(pool, { utilityId, role, name: keyOptions.name ?? `${role} of ${utility}`, actor: 'test', ...keyOptions })
      return key
    },
    call(key, method, url, body, type) {
      const isRaw = typeof body === 'string' || Buffer.isBuffer(body)
      return app.inject({
        method,
        url,
        headers: {
          ...(key === null ? {} : { authorization: `Bearer ${key}` }),
          ...(body === undefined ? {} : { 'content-type': type ?? 'application/json' }),
        },
        ...(body === undefined ? {} : { payload: isRaw ? body : JSON.stringify(body) }),
      })
    },
  }
}
