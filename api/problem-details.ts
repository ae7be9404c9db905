import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { databaseTrouble } from '../engine/database-trouble.js'
import { ApiError } from '../engine/problem.js'

/** An error as RFC 9457 shows it; `code` is stable, `detail` is for people and may change. */
export interface ProblemDocument {
  type: string
  title: string
  status: number
  code: string
  detail: string
  [member: string]: unknown
}

const PROBLEM_TYPE = 'application/problem+json; charset=utf-8'
/** Seconds after which a caller tries again when the database is away. */
const RETRY_AFTER_S = 5

/** Any error as one that may be told to the caller; nothing internal is left in it. */
export function toApiError(err: unknown): ApiError {
  if (err instanceof ApiError) return err
  const trouble = databaseTrouble(err, { retryAfter: RETRY_AFTER_S })
  if (trouble !== undefined) return trouble
  const status = err instanceof Error ? (err as FastifyError).statusCode : undefined
  if (err instanceof Error && status !== undefined && status >= 400 && status < 500) return fromFastify(err as FastifyError, status)
  if (status === 503) return new ApiError(503, 'stopping', 'The server is stopping.', { retryAfter: RETRY_AFTER_S })
  return new ApiError(500, 'internal-error', 'The server failed. It is logged; nothing of this call was kept.')
}

/** The error as a problem document. */
export function problemDocument(err: ApiError): ProblemDocument {
  return {
    ...err.extra,
    type: `urn:meterline:problem:${err.code}`,
    title: STATUS_CODES[err.status] ?? 'Error',
    status: err.status,
    code: err.code,
    detail: err.message,
  }
}

/** Answers the request with the error. */
export function sendProblem(reply: FastifyReply, err: ApiError): FastifyReply {
  const retryAfter = err.extra.retryAfter
  if (typeof retryAfter === 'number') void reply.header('retry-after', String(Math.max(1, Math.ceil(retryAfter))))
  if (err.status === 401) {
    void reply.header('www-authenticate', err.code === 'missing-credentials'
      ? 'Bearer realm="meterline"'
      : 'Bearer realm="meterline", error="invalid_token"')
  }
  // A string, so that no response schema of the route filters the document.
  return reply.code(err.status).type(PROBLEM_TYPE).send(JSON.stringify(problemDocument(err)))
}

/** Makes every error, unknown address and wrong method of the server a problem document. */
export function installProblems(app: FastifyInstance): void {
  const routes = new RouteTable()
  app.addHook('onRoute', (route) => routes.add(route.url, route.method))
  app.setErrorHandler((err, request, reply) => answer(err, request, reply))
  app.setNotFoundHandler((request, reply) => {
    const allowed = routes.methodsOf(request.url.split('?')[0])
    if (allowed.length === 0) return sendProblem(reply, new ApiError(404, 'not-found', 'There is nothing at this address.'))
    void reply.header('allow', allowed.join(', '))
    return sendProblem(reply, new ApiError(405, 'method-not-allowed', `This address takes ${allowed.join(', ')}.`))
  })
}

/** Answers an error that came before any route, such as a malformed address. */
export function answer(err: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const told = toApiError(err)
  if (told.status >= 500 && told !== err) {
    const log = told.code === 'internal-error' ? request.log.error.bind(request.log) : request.log.warn.bind(request.log)
    log({ err, method: request.method, route: request.routeOptions.url, code: told.code }, 'a call failed')
  }
  return sendProblem(reply, told)
}

const FASTIFY_CODES: Record<string, { status: number; code: string; detail: string }> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: { status: 415, code: 'unsupported-media-type', detail: 'This content type is not taken here.' },
  FST_ERR_CTP_BODY_TOO_LARGE: { status: 413, code: 'body-too-large', detail: 'The body is larger than is taken here.' },
  FST_ERR_CTP_EMPTY_JSON_BODY: { status: 400, code: 'malformed-json', detail: 'The body is empty; JSON was announced.' },
  FST_ERR_CTP_INVALID_JSON_BODY: { status: 400, code: 'malformed-json', detail: 'The body is not JSON.' },
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: { status: 400, code: 'malformed-request', detail: 'The body is not as long as announced.' },
  FST_ERR_BAD_URL: { status: 400, code: 'malformed-request', detail: 'The address is malformed.' },
}

function fromFastify(err: FastifyError, status: number): ApiError {
  const known = FASTIFY_CODES[err.code]
  if (known !== undefined) return new ApiError(known.status, known.code, known.detail)
  if (err instanceof SyntaxError) return new ApiError(400, 'malformed-json', 'The body is not JSON.')
  if (status === 414) return new ApiError(414, 'malformed-request', 'The address is too long.')
  if (status === 413) return new ApiError(413, 'body-too-large', FASTIFY_CODES.FST_ERR_CTP_BODY_TOO_LARGE.detail)
  if (status === 415) return new ApiError(415, 'unsupported-media-type', FASTIFY_CODES.FST_ERR_CTP_INVALID_MEDIA_TYPE.detail)
  return new ApiError(status, 'malformed-request', 'The request cannot be read.')
}

/** Which methods an address takes, to tell a wrong method (405) from an unknown address (404). */
class RouteTable {
  readonly #routes: { pattern: RegExp; methods: readonly string[] }[] = []

  add(url: string, method: string | readonly string[]): void {
    const parts = url.split('/').map((part) => part.startsWith(':') ? '[^/]+' : part === '*' ? '.*' : escape(part))
    this.#routes.push({ pattern: new RegExp(`^${parts.join('/')}$`), methods: typeof method === 'string' ? [method] : method })
  }

  methodsOf(path: string): string[] {
    const methods = this.#routes.filter((r) => r.pattern.test(path)).flatMap((r) => r.methods)
    return [...new Set(methods)].sort()
  }
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}
