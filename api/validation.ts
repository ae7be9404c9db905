import type { FastifyInstance, RouteOptions } from 'fastify'
import { Compile } from 'typebox/schema'
import { ApiError } from '../engine/problem.js'

// Schemas are checked by TypeBox's own compiler: one package for the types, the checks and the document. Bodies are never
// coerced or stripped: a member that is not known, or a number sent as text, is refused with its place.

/** A JSON schema, as far as it is walked here. */
interface Schema {
  type?: string
  properties?: Record<string, Schema>
  additionalProperties?: unknown
  items?: Schema
  anyOf?: Schema[]
  default?: unknown
  [keyword: string]: unknown
}

interface Fault {
  keyword: string
  instancePath: string
  params: object
  message: string
}

type Part = 'body' | 'querystring' | 'params' | 'headers'

/** Installs the check of bodies, query strings, addresses and headers. */
export function installValidation(app: FastifyInstance): void {
  app.addHook('onRoute', closeSchemas)
  app.addHook('preValidation', (request, _reply, done) => {
    done(nulIn(request.params, 'path') ?? nulIn(request.query, 'query'))
  })
  app.setValidatorCompiler(({ schema, httpPart }) => {
    const part = (httpPart ?? 'body') as Part
    const check = Compile(schema as Parameters<typeof Compile>[0])
    const shape = schema as Schema
    return (data: unknown) => {
      const value = part === 'body' ? withDefaults(shape, data) : coerce(shape, data)
      return check.Check(value) ? { value } : { error: refusal(check.Errors(value)[1], part) }
    }
  })
}

/** What a call is told that names a NUL: the database holds none, and no name or id has one. */
function nulIn(values: unknown, part: 'path' | 'query'): ApiError | undefined {
  for (const [name, value] of Object.entries(values as Record<string, unknown>)) {
    if (!(Array.isArray(value) ? value : [value]).some((v) => typeof v === 'string' && v.includes('\0'))) continue
    return new ApiError(422, 'invalid-request', 'The value must not contain a NUL.', { at: `/${pointer(name)}`, in: part })
  }
  return undefined
}

/** Objects with named members take no others, unless their schema says so: closed by default. */
function closeSchemas(route: RouteOptions): void {
  const schema = route.schema
  if (schema === undefined) return
  if (schema.body !== undefined) schema.body = closed(schema.body as Schema)
  if (schema.querystring !== undefined) schema.querystring = closed(schema.querystring as Schema)
}

function closed(schema: Schema): Schema {
  const copy: Schema = { ...schema }
  if (copy.properties !== undefined) {
    copy.additionalProperties ??= false
    copy.properties = Object.fromEntries(Object.entries(copy.properties).map(([name, inner]) => [name, closed(inner)]))
  }
  if (copy.items !== undefined && !Array.isArray(copy.items)) copy.items = closed(copy.items)
  if (copy.anyOf !== undefined) copy.anyOf = copy.anyOf.map(closed)
  return copy
}

function withDefaults(schema: Schema, data: unknown): unknown {
  if (schema.properties === undefined || typeof data !== 'object' || data === null || Array.isArray(data)) return data
  const missing = Object.entries(schema.properties).filter(([name, inner]) => inner.default !== undefined && !(name in data))
  return missing.length === 0 ? data : { ...data, ...Object.fromEntries(missing.map(([name, inner]) => [name, inner.default])) }
}

/** A query string's or address's values in the types of the schema; what does not fit stays text and fails the check. */
function coerce(schema: Schema, data: unknown): unknown {
  if (typeof data !== 'object' || data === null) return data
  const values = Object.fromEntries(Object.entries(data).map(([name, value]) => [name, coerceValue(schema.properties?.[name], value)]))
  return withDefaults(schema, values)
}

function coerceValue(schema: Schema | undefined, value: unknown): unknown {
  if (schema === undefined) return value
  if (schema.type === 'array') {
    const list: unknown[] = Array.isArray(value) ? value : [value]
    return list.map((v) => coerceValue(schema.items, v))
  }
  if (typeof value !== 'string') return value
  if (schema.anyOf !== undefined) {
    for (const alternative of schema.anyOf) {
      const tried = coerceValue(alternative, value)
      if (typeof tried !== 'string') return tried
    }
    return value
  }
  if ((schema.type === 'integer' || schema.type === 'number') && /^[+-]?\d+(\.\d+)?$/.test(value)) return Number(value)
  if (schema.type === 'boolean' && (value === 'true' || value === 'false')) return value === 'true'
  return value
}

function refusal(faults: Fault[], part: Part): ApiError {
  const where = part === 'body' ? {} : { in: part === 'querystring' ? 'query' : part === 'params' ? 'path' : 'header' }
  const extra = faults.find((f) => f.keyword === 'additionalProperties')
  if (extra !== undefined) {
    const name = (extra.params as { additionalProperties: string[] }).additionalProperties[0]
    const at = `${extra.instancePath}/${pointer(name)}`
    return part === 'body'
      ? new ApiError(422, 'unknown-member', 'The body has a member that this call does not know.', { at })
      : new ApiError(422, 'unknown-parameter', 'The call has a parameter that is not known here.', { at, ...where })
  }
  const fault = deepest(faults)
  const missing = (fault.params as { requiredProperties?: string[] }).requiredProperties
  if (fault.keyword === 'required' && missing !== undefined) {
    return new ApiError(422, 'invalid-request', `${missing.join(', ')} is missing.`,
      { at: `${fault.instancePath}/${pointer(missing[0])}`, ...where })
  }
  const allowed = faults.filter((f) => f.instancePath === fault.instancePath).flatMap(allowedBy)
  const message = allowed.length > 0 ? `must be one of ${allowed.join(', ')}` : fault.message
  return new ApiError(422, 'invalid-request', `The value ${message}.`, { at: fault.instancePath, ...where })
}

/** The values that an enumeration or a constant would have taken. */
function allowedBy(fault: Fault): string[] {
  const { allowedValues, allowedValue } = fault.params as { allowedValues?: unknown[]; allowedValue?: unknown }
  if (fault.keyword === 'enum' && allowedValues !== undefined) return allowedValues.map(String)
  return fault.keyword === 'const' ? [String(allowedValue)] : []
}

/** The fault furthest inside says most; of several at one place the first. */
function deepest(faults: Fault[]): Fault {
  const depth = (f: Fault): number => f.instancePath.split('/').length
  return faults.reduce((best, f) => depth(f) > depth(best) ? f : best)
}

function pointer(name: string): string {
  return name.slice(0, 100).replaceAll('~', '~0').replaceAll('/', '~1')
}
