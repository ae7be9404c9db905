import type { IncomingMessage } from 'node:http'
import { createGunzip } from 'node:zlib'
import type { FastifyContextConfig, FastifyInstance, FastifyRequest, FastifySchema } from 'fastify'
import { ApiError, BodyError } from '../engine/problem.js'
import { parseInstant } from '../engine/time/text.js'
import { uuidv7 } from '../engine/uuid.js'
import type { VersionSequence } from '../engine/versions.js'
import { Push, type PushOptions } from './push.js'

export interface PushDoorOptions extends PushOptions {
  now: () => number
  versions: Pick<VersionSequence, 'next'>
  /** Who may call the route and how the API document shows it: the API's side of it. */
  route: { config: FastifyContextConfig; schema: FastifySchema }
}

/** How long the rest of a refused body is read and dropped, milliseconds. */
const LINGER_MS = 10_000

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
      ...options.route,
    }, async (request, reply) => {
      const query = request.query as { format?: string; mapping?: string; zone?: string; meter?: string; name?: string }
      const header = readHeaders(request)
      const gzip = isGzip(request.headers['content-encoding'])
      const guard = header.idempotencyKey === null ? null : `${request.principal.utilityId}|${header.source}|${header.idempotencyKey}`
      if (guard !== null && keysUnderWay.has(guard)) {
        options.metrics.refused('key-in-use')
        throw new ApiError(409, 'idempotency-key-in-use', 'A push with this Idempotency-Key is under way.', { retryAfter: 1 })
      }
      if (guard !== null) keysUnderWay.add(guard)
      // Asked for now, in the order of acceptance; it comes while the body does.
      const version = header.version ?? options.versions.next()
      const declared = Number(request.headers['content-length'] ?? NaN)
      const push = new Push(options, request.principal.utilityId, {
        deliveryId: uuidv7(options.now()), source: header.source, door: 'http', contentType: request.headers['content-type'] ?? null,
        format: query.format ?? null, fileName: query.name ?? null, mapping: query.mapping ?? null, zone: query.zone ?? null,
        meter: query.meter ?? null,
        history: header.history, idempotencyKey: header.idempotencyKey, version, versionStated: header.version !== null,
      })
      try {
        const receipt = await push.run(bytesOf(request.raw, gzip), gzip ? NaN : declared)
        return await reply.code(200).header('content-type', 'application/json; charset=utf-8').send(receipt)
      } finally {
        dropRest(request.raw)
        push.release()
        if (guard !== null) keysUnderWay.delete(guard)
      }
    })
    done()
  })
}

export interface PushHeaders {
  source: string
  idempotencyKey: string | null
  /** What the source stated; null: nothing. */
  version: number | null
  history: boolean
}

export function readHeaders(request: FastifyRequest): PushHeaders {
  const h = request.headers
  const { principal } = request
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
    source, idempotencyKey: key ?? null, history: purpose === 'history',
    version: stated === undefined ? null : parseVersion(stated),
  }
}

/** X-Version: an instant, or a whole number of the source's own counting. */
function parseVersion(text: string): number {
  if (/^[1-9]\d{0,15}$/.test(text)) {
    const n = Number(text)
    if (Number.isSafeInteger(n)) return n
  }
  const s = parseInstant(text)
  if (s === undefined || s <= 0 || !Number.isSafeInteger(Math.round(s * 1e6))) {
    throw new ApiError(422, 'invalid-version', 'X-Version is an RFC 3339 instant with offset, or a positive whole number.')
  }
  return Math.round(s * 1e6)
}

function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value.join(', ') : value
}

/** The body's bytes, decompressed. The request is not destroyed with them: the answer goes by its socket. */
export async function* bytesOf(raw: IncomingMessage, gzip: boolean): AsyncGenerator<Buffer> {
  try {
    yield* (gzip ? inflated(raw) : raw.iterator({ destroyOnReturn: false })) as AsyncIterable<Buffer>
  } catch (err) {
    if (!raw.complete) throw new ApiError(400, 'body-cut-off', 'The sender went away before the end of the body.')
    throw err
  }
}

async function* inflated(raw: IncomingMessage): AsyncGenerator<Buffer> {
  const gunzip = createGunzip()
  const cutOff = (): void => {
    if (!raw.complete) gunzip.destroy(new Error('the body was cut off'))
  }
  raw.once('error', cutOff).once('close', cutOff)
  raw.pipe(gunzip)
  try {
    yield* gunzip as AsyncIterable<Buffer>
  } catch (err) {
    if (String((err as NodeJS.ErrnoException).code).startsWith('Z_')) {
      throw new BodyError(400, 'malformed-gzip', 'The body is not whole gzip data.')
    }
    throw err
  } finally {
    raw.unpipe(gunzip)
  }
}

/**
 * Reads the rest of a body that was refused, for a while: a connection closed over unread bytes is reset, and takes the
 * answer with it.
 */
export function dropRest(raw: IncomingMessage): void {
  if (raw.complete) return
  raw.resume()
  const timer = setTimeout(() => raw.destroy(), LINGER_MS).unref()
  raw.once('close', () => clearTimeout(timer))
}

export function isGzip(encoding: string | undefined): boolean {
  const word = (encoding ?? 'identity').trim().toLowerCase()
  if (word === 'identity' || word === '') return false
  if (word === 'gzip' || word === 'x-gzip') return true
  throw new BodyError(415, 'unsupported-encoding', 'Content-Encoding is gzip or absent.')
}
