import { createHash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { ApiError } from '../engine/problem.js'

/** Media types that a usage answer can take, the default first. */
const JSON_TYPE = 'application/json; charset=utf-8'
const CSV_TYPE = 'text/csv; charset=utf-8'
const ATOM_TYPE = 'application/atom+xml; charset=utf-8'

/**
 * Whether the caller asked for CSV. Where neither is named, JSON; a caller that names only other types is refused.
 * @throws ApiError 406 `not-acceptable`
 */
export function wantsCsv(request: FastifyRequest): boolean {
  const accept = request.headers.accept?.toLowerCase() ?? '*/*'
  const types = accept.split(',').map((part) => part.split(';')[0].trim())
  if (types.includes('text/csv')) return true
  if (types.some((t) => t === '*/*' || t === 'application/*' || t === 'application/json' || t === '')) return false
  throw new ApiError(406, 'not-acceptable', 'This answer is application/json or text/csv.', { at: '/accept', in: 'header' })
}

/** Answers with JSON under an ETag; see {@link sendConditional}. */
export function sendJson(request: FastifyRequest, reply: FastifyReply, answer: unknown): FastifyReply {
  return sendConditional(request, reply, JSON.stringify(answer), JSON_TYPE)
}

/** Answers with CSV under an ETag; see {@link sendConditional}. */
export function sendCsv(request: FastifyRequest, reply: FastifyReply, csv: string): FastifyReply {
  return sendConditional(request, reply, csv, CSV_TYPE)
}

/** Answers with a feed of XML under an ETag; see {@link sendConditional}. */
export function sendXml(request: FastifyRequest, reply: FastifyReply, feed: string): FastifyReply {
  return sendConditional(request, reply, feed, ATOM_TYPE)
}

/**
 * Sends the body with its hash as ETag, or 304 where the caller holds it already. The hash of the body, not of some
 * state behind it: it cannot be wrong, and hashing costs a hundredth of making the answer.
 */
function sendConditional(request: FastifyRequest, reply: FastifyReply, body: string, type: string): FastifyReply {
  const etag = `"${createHash('sha256').update(type).update(body).digest('base64url').slice(0, 27)}"`
  void reply.header('etag', etag).header('vary', 'Accept, Authorization')
  const held = request.headers['if-none-match']
  if (held !== undefined && (held.trim() === '*' || held.split(',').some((t) => t.trim().replace(/^W\//, '') === etag))) {
    return reply.code(304).send()
  }
  return reply.type(type).send(body)
}
