import type { Socket } from 'node:net'
import Fastify, { LogController, type FastifyBaseLogger, type FastifyInstance, type FastifyPluginCallback } from 'fastify'
import type { Registry } from 'prom-client'
import { Authenticator, installAuth } from './auth.js'
import type { ApiContext, Principal, RouteModule } from './context.js'
import { measureCalls } from './metrics.js'
import { installOpenApi } from './openapi.js'
import { answer, installProblems } from './problem-details.js'
import { healthRoutes, type Health } from './routes/health.js'
import { installValidation } from './validation.js'

export interface ServerOptions extends Health {
  /** Modules whose routes all begin with /v1/, need a key or token, and take JSON bodies. */
  readonly routes: readonly RouteModule[]
  /** Like `routes`, but each in a scope without any content-type parser: they install their own. */
  readonly bodyRoutes?: readonly RouteModule[]
  /** Modules that need no key, such as the console's static files. */
  readonly openRoutes?: readonly RouteModule[]
  readonly version?: string
  /** Where calls are measured; nowhere without. */
  readonly registry?: Registry
}

/** Largest JSON body of the ordinary routes, bytes. */
const BODY_LIMIT = 1024 * 1024
/** A call must have arrived whole by then: a client that sends a byte now and then holds nothing for ever. */
const REQUEST_TIMEOUT_MS = 60 * 60_000

/**
 * The HTTP server with every route, not yet listening. Close it with `close()`: calls under way are finished.
 * Its `authenticator` is shared with the routes that make and revoke keys.
 */
export function buildServer(context: ApiContext, options: ServerOptions): FastifyInstance {
  const loggerInstance: FastifyBaseLogger = context.log
  const app: FastifyInstance = Fastify({
    loggerInstance,
    // One line per delivery at most: the doors write it.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_LIMIT,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: 65_000,
    // A call that still comes on a kept connection while the server closes is served, and its connection ends with it.
    return503OnClosing: false,
    routerOptions: { maxParamLength: 512, querystringParser: parseQuery },
    frameworkErrors: (err, request, reply) => void answer(err, request, reply),
    clientErrorHandler: refuseConnection,
  })
  // Without this, a text body would be taken where JSON is asked for.
  app.removeContentTypeParser('text/plain')
  app.decorateRequest('principal', null as unknown as Principal)
  app.decorate('authenticator', new Authenticator(context))
  installProblems(app)
  installValidation(app)
  installOpenApi(app, options.version ?? '0.1.0')
  if (options.registry !== undefined) measureCalls(app, options.registry)
  app.addHook('onRequest', async (_request, reply) => void reply.header('x-content-type-options', 'nosniff'))
  app.register(inScope((scope) => {
    healthRoutes(scope, options)
    for (const module of options.openRoutes ?? []) module(scope, context)
  }))
  app.register(inScope((scope) => {
    guarded(scope)
    for (const module of options.routes) module(scope, context)
  }))
  // Modules here install their own parser of every content type.
  for (const module of options.bodyRoutes ?? []) {
    app.register(inScope((scope) => {
      scope.removeAllContentTypeParsers()
      guarded(scope)
      module(scope, context)
    }))
  }
  return app
}

/** A scope of its own for the work; what it throws makes the start fail, not the process. */
function inScope(work: (scope: FastifyInstance) => void): FastifyPluginCallback {
  return (scope, _options, done) => {
    try {
      work(scope)
    } catch (err) {
      done(err instanceof Error ? err : new Error(String(err)))
      return
    }
    done()
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    authenticator: Authenticator
  }
}

function guarded(scope: FastifyInstance): void {
  installAuth(scope, scope.authenticator)
  // Usage is personal: shared caches keep none of it, and a private one asks again.
  scope.addHook('onRequest', async (_request, reply) => void reply.header('cache-control', 'private, no-cache'))
}

/** A query string as a plain object; a name that comes twice is a list. */
function parseQuery(text: string): Record<string, unknown> {
  const values: Record<string, unknown> = Object.create(null) as Record<string, unknown>
  for (const [name, value] of new URLSearchParams(text)) {
    const known = values[name]
    values[name] = known === undefined ? value : [...(Array.isArray(known) ? known as unknown[] : [known]), value]
  }
  return values
}

/** Answers what is no HTTP, or headers beyond all measure, before there is a request. */
function refuseConnection(err: Error & { code?: string }, socket: Socket): void {
  if (err.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const [status, title] = err.code === 'HPE_HEADER_OVERFLOW' ? [431, 'Request Header Fields Too Large']
    : err.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? [408, 'Request Timeout'] : [400, 'Bad Request']
  const body = JSON.stringify({
    type: 'urn:meterline:problem:malformed-request', title, status, code: 'malformed-request', detail: 'The request cannot be read.' })
  socket.end(`HTTP/1.1 ${status} ${title}\r\nContent-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`
    + `Connection: close\r\n\r\n${body}`)
}
