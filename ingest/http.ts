import { PassThrough, type Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { Principal } from '../api/context.js'
import { ApiError, BodyError } from '../engine/problem.js'
import { parseInstant } from '../engine/time/text.js'
import { uuidv7 } from '../engine/uuid.js'
import { Push, type PushOptions } from './push.js'

export interface PushDoorOptions extends PushOptions {
  now: () => number
}

const QUERY = Type.Object({
  format: Type.Optional(Type.String({ maxLength: 40 })),
  mapping: Type.Optional(Type.String({ maxLength: 20_000 })),
  zone: Type.Optional(Type.String({ maxLength: 60 })),
  name: Type.Optional(Type.String({ maxLength: 200 })),
})

/**
 * POST /v1/reads (contract §4). The main thread only moves bytes: they are gathered into one buffer, or one per part, and
 * handed to a worker; the answer comes after the commit.
 */
export function registerPushDoor(app: FastifyInstance, options: PushDoorOptions): void {
  const keysUnderWay = new Set<string>()
  void app.register((scope, _opts, done) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', { bodyLimit: Number.MAX_SAFE_INTEGER }, (_request, _payload, parsed) => parsed(null))
    scope.post('/v1/reads', {
      config: { roles: ['head-end', 'operator'], member: false },
      schema: {
        operationId: 'pushReads', tags: ['reads'], summary: 'Push interval reads; the receipt comes after the commit',
        querystring: QUERY,
      },
    }, async (request, reply) => {
      const query = request.query as { format?: string; mapping?: string; zone?: string; name?: string }
      const header = readHeaders(request, options.now())
      const guard = header.idempotencyKey === null ? null : `${request.principal.utilityId}|${header.source}|${header.idempotencyKey}`
      if (guard !== null && keysUnderWay.has(guard)) {
        options.metrics.refused('key-in-use')
        throw new ApiError(409, 'idempotency-key-in-use', 'A push with this Idempotency-Key is under way.', { retryAfter: 1 })
      }
      if (guard !== null) keysUnderWay.add(guard)
      const gzip = isGzip(request.headers['content-encoding'])
      const declared = Number(request.headers['content-length'] ?? NaN)
      const push = new Push(options, request.principal.utilityId, {
        deliveryId: uuidv7(options.now()), source: header.source, door: 'http', contentType: request.headers['content-type'] ?? null,
        format: query.format ?? null, fileName: query.name ?? null, mapping: query.mapping ?? null, zone: query.zone ?? null,
        history: header.history, idempotencyKey: header.idempotencyKey, version: header.version, versionStated: header.versionStated,
      })
      try {
        const receipt = await push.run(bodyOf(request, gzip), gzip ? NaN : declared)
        return await reply.code(200).header('content-type', 'application/json; charset=utf-8').send(receipt)
      } finally {
        push.release()
        if (guard !== null) keysUnderWay.delete(guard)
      }
    })
    done()
  })
}

interface PushHeaders {
  source: string
  idempotencyKey: string | null
  version: number
  versionStated: boolean
  history: boolean
}

function readHeaders(request: FastifyRequest, nowMs: number): PushHeaders {
  const h = request.headers
  const principal: Principal = request.principal
  const source = single(h['x-source']) ?? principal.name
  if (source.length === 0 || source.length > 100) throw new ApiError(422, 'invalid-source', 'X-Source has 1 to 100 characters.')
  const allowed = principal.sources.length === 0 ? [principal.name] : principal.sources
  if (principal.role === 'head-end' && !allowed.includes(source)) {
    throw new ApiError(403, 'source-not-allowed', 'This key may not push for that source.', { help: `It may for: ${allowed.join(', ')}` })
  }
  const purpose = single(h['x-purpose'])
  if (purpose !== undefined && purpose !== 'history') {
    throw new ApiError(422, 'invalid-purpose', 'X-Purpose knows one word: history.')
  }
  const key = single(h['idempotency-key'])
  if (key !== undefined && (key.length === 0 || key.length > 255)) {
    throw new ApiError(422, 'invalid-idempotency-key', 'Idempotency-Key has 1 to 255 characters.')
  }
  const stated = single(h['x-version'])
  return {
    source, idempotencyKey: key ?? null, history: purpose === 'history', versionStated: stated !== undefined,
    version: stated === undefined ? nextVersion(nowMs) : parseVersion(stated),
  }
}

/** X-Version: an instant, or a whole number of the source's own counting. */
function parseVersion(text: string): number {
  if (/^[1-9]\d{0,15}$/.test(text)) {
    const n = Number(text)
    if (Number.isSafeInteger(n)) return n
  }
  const s = parseInstant(text)
  if (s === undefined || s <= 0) {
    throw new ApiError(422, 'invalid-version', 'X-Version is an RFC 3339 instant with offset, or a positive whole number.')
  }
  return Math.round(s * 1e6)
}

let lastVersion = 0

/** The sequence of deliveries whose source states no version: microseconds of their acceptance, ascending. */
export function nextVersion(nowMs: number): number {
  lastVersion = Math.max(lastVersion + 1, Math.floor(nowMs * 1000))
  return lastVersion
}

function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value.join(', ') : value
}

/** The body's bytes, decompressed. */
function bodyOf({ raw }: FastifyRequest, gzip: boolean): Readable {
  if (!gzip) return raw
  const out = new PassThrough()
  const gunzip = createGunzip()
  gunzip.on('error', () => out.destroy(new BodyError(400, 'malformed-gzip', 'The body is not whole gzip data.')))
  raw.on('error', (err) => out.destroy(err))
  raw.on('aborted', () => out.destroy(new Error('the sender went away')))
  raw.pipe(gunzip).pipe(out)
  return out
}

function isGzip(encoding: string | undefined): boolean {
  const word = (encoding ?? 'identity').trim().toLowerCase()
  if (word === 'identity' || word === '') return false
  if (word === 'gzip' || word === 'x-gzip') return true
  throw new BodyError(415, 'unsupported-encoding', 'Content-Encoding is gzip or absent.')
}
