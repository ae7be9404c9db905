import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyContextConfig, FastifyInstance, FastifySchema } from 'fastify'
import { Type } from 'typebox'
import { codesOf, type ProblemCode } from './problem-codes.js'

/** How an answer that is no success looks, for the API document. */
const Problem = Type.Object({
  type: Type.String({ description: 'urn:meterline:problem:<code>' }),
  title: Type.String(),
  status: Type.Integer(),
  code: Type.String({ description: 'Stable; more may be added.' }),
  detail: Type.String({ description: 'For people; may change.' }),
  at: Type.Optional(Type.String({ description: 'JSON pointer, or line or record of a body.' })),
  in: Type.Optional(Type.String({ description: 'query, path or header, where the fault is not in the body.' })),
  help: Type.Optional(Type.String({ description: 'What to do about it.' })),
  retryAfter: Type.Optional(Type.Integer({ description: 'Seconds, as in the Retry-After header.' })),
}, { description: 'RFC 9457. Members that a code adds are described with it.' })

/** Serves the API's description at /openapi.json and as pages at /docs. Register it before the routes. */
export function installOpenApi(app: FastifyInstance, version: string): void {
  app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Meterline',
        version,
        description: 'Meter reads in; usage, alerts and receipts out. Errors are application/problem+json with a stable code. '
          + 'Within /v1 only additions; enumerations are open.',
      },
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer', description: 'An API key, or a member token.' } } },
    },
    // Addresses keep their own names of schemas; nothing is shared by reference.
    transform: ({ schema, url, route }) => ({ schema: describe(schema, url, route), url }),
  })
  app.register(swaggerUi, { routePrefix: '/docs', uiConfig: { deepLinking: true }, staticCSP: true })
  app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())
}

function describe(schema: FastifySchema | undefined, url: string, route: { method: string | string[]; config?: FastifyContextConfig }): FastifySchema {
  if (schema?.hide === true) return schema
  const config = route.config ?? {}
  const method = String(route.method)
  const isOpen = config.roles === undefined
  const described: FastifySchema = {
    ...schema,
    operationId: schema?.operationId ?? operationId(method, url),
    tags: schema?.tags ?? [url.split('/')[isOpen ? 1 : 2] ?? 'other'],
    description: [schema?.description, isOpen ? undefined : rolesText(config)].filter((t) => t !== undefined).join('\n\n'),
    response: { ...success(schema?.response, method), ...problemResponses(method, url, config) },
  }
  if (!isOpen) described.security = [{ bearer: [] }]
  if (config.describedBody !== undefined) {
    described.body = { content: Object.fromEntries(Object.entries(config.describedBody).map(([type, body]) => [type, { schema: body }])) }
  }
  return described
}

function success(response: unknown, method: string): object {
  if (typeof response === 'object' && response !== null && Object.keys(response).some((status) => /^2/.test(status))) return response
  return { ...response ?? {}, ...(method === 'DELETE' ? { 204: { description: 'Done.', type: 'null' } } : { 200: { description: 'Success.' } }) }
}

function rolesText(config: FastifyContextConfig): string {
  if (config.installation === true) return 'Needs an operator key of the installation.'
  const roles = [...new Set([...config.roles ?? [], 'operator'])]
  return `Roles: ${roles.join(', ')}${config.member === true ? '; member tokens' : ''}.`
}

/** Problem answers of the route, by status, each with its codes. */
function problemResponses(method: string, url: string, config: FastifyContextConfig): Record<string, object> {
  const byStatus = new Map<number, ProblemCode[]>()
  for (const code of codesOf({ method, url, config })) {
    const list = byStatus.get(code.status) ?? []
    if (list.length === 0) byStatus.set(code.status, list)
    list.push(code)
  }
  return Object.fromEntries([...byStatus].sort(([a], [b]) => a - b).map(([status, codes]) => [status, {
    description: codes.map((c) => `\`${c.code}\`: ${c.meaning}`).join('\n\n'),
    content: { 'application/problem+json': { schema: { ...Problem, 'x-codes': codes.map((c) => c.code) } } },
  }]))
}

/** A name for a route that gives itself none, from what never changes about it: `getAccountsAccountUsage`. */
function operationId(method: string, url: string): string {
  const parts = url.split('/').map((part) => part.replace(/^:/, '')).filter((part) => part !== '' && part !== 'v1')
  const name = parts.map((part) => part.split(/[^a-zA-Z0-9]+/).map(capital).join('')).join('')
  return method.toLowerCase() + name
}

function capital(word: string): string {
  return word.slice(0, 1).toUpperCase() + word.slice(1)
}
