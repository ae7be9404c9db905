import type { FastifyContextConfig, FastifyInstance, FastifyReply, FastifyRequest, FastifySchema } from 'fastify'
import { ApiError, BodyError } from '../engine/problem.js'
import type { Receipt } from '../engine/receipt.js'
import { uuidv7 } from '../engine/uuid.js'
import { bytesOf, dropRest, isGzip, readHeaders, type PushDoorOptions } from './http.js'
import { Push } from './push.js'
import { errorObjectsAnswer, faultAnswer, soapHead, stringsAnswer, type SoapHead } from './soap.js'

export interface MultiSpeakDoorOptions extends PushDoorOptions {
  route: { config: FastifyContextConfig; schema: FastifySchema }
  /** Tells who calls by an Authorization header, and whether the role may push. @throws ApiError 401, 403 */
  authenticate: (authorization: string | undefined) => Promise<FastifyRequest['principal']>
}

/** Bytes in which a message's header and the name of its operation have to stand. */
const HEAD_BYTES = 64 * 1024
/** What is answered with results, beside PingURL and GetMethods. */
const NOTIFICATIONS: Readonly<Record<string, string>> = {
  ReadingChangedNotification: 'meterRead', IntervalDataNotification: 'intervalData', FormattedBlockNotification: 'formattedBlock',
}
const METHODS = ['PingURL', 'GetMethods', ...Object.keys(NOTIFICATIONS)]
/** Statuses that HTTP clients act upon; SOAP 1.1 has 500 for every other fault (section 6.2). */
const OWN_STATUS = new Set([401, 403, 413, 429, 503])

/**
 * POST /multispeak: SOAP 1.1 as MultiSpeak 3.0 and 4.1 have it. A notification is one delivery through the same door as
 * POST /v1/reads, with its receipt; it is answered after the commit with an array of errorObject, one for each problem of
 * the receipt, empty where all is settled.
 *
 * The key is taken from `Authorization: Bearer`, from the password of `Authorization: Basic`, or from Pwd in
 * MultiSpeakMsgHeader, in this order: head-ends know the last, proxies and logs are kept from the first two.
 */
export function registerMultiSpeakDoor(app: FastifyInstance, options: MultiSpeakDoorOptions): void {
  void app.register((scope, _opts, done) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', { bodyLimit: Number.MAX_SAFE_INTEGER }, (_request, _payload, parsed) => parsed(null))
    scope.post('/multispeak', options.route, async (request, reply) => {
      try {
        return await reply.type('text/xml; charset=utf-8').send(await answer(request, options))
      } catch (err) {
        return await sendFault(reply, err)
      } finally {
        dropRest(request.raw)
      }
    })
    done()
  })
}

async function answer(request: FastifyRequest, options: MultiSpeakDoorOptions): Promise<string> {
  const body = bytesOf(request.raw, isGzip(request.headers['content-encoding']))[Symbol.asyncIterator]()
  const { chunks, isWhole } = await readHead(body)
  const head = soapHead(Buffer.concat(chunks))
  request.principal = await options.authenticate(credential(request.headers.authorization, head))
  if (head.operation === 'PingURL') return errorObjectsAnswer(head, [], options.now())
  if (head.operation === 'GetMethods') return stringsAnswer(head, METHODS)
  if (!Object.hasOwn(NOTIFICATIONS, head.operation)) {
    throw new BodyError(422, 'unsupported-method', `There is no method ${JSON.stringify(head.operation.slice(0, 60))}.`, undefined,
      `Methods: ${METHODS.join(', ')}.`)
  }
  const receipt = await push(request, options, joined(chunks, isWhole ? null : body))
  return errorObjectsAnswer(head, receipt.problems.map(({ code, at, message, help }) => ({
    objectID: at, errorString: `${code}: ${message}${help === undefined ? '' : ` ${help}`}`, nounType: NOTIFICATIONS[head.operation],
  })), options.now())
}

async function push(request: FastifyRequest, options: MultiSpeakDoorOptions, body: AsyncIterable<Buffer>): Promise<Receipt> {
  const header = readHeaders(request)
  const version = header.version ?? options.versions.next()
  const delivery = new Push(options, request.principal.utilityId, {
    deliveryId: uuidv7(options.now()), source: header.source, door: 'http', contentType: 'text/xml', format: 'multispeak',
    fileName: null, mapping: null, zone: null, history: header.history, idempotencyKey: null, version,
    versionStated: header.version !== null,
  })
  try {
    return await delivery.run(body, NaN)
  } finally {
    delivery.release()
  }
}

/** The first chunks of a body, as many as its head may take. */
async function readHead(body: AsyncIterator<Buffer>): Promise<{ chunks: Buffer[]; isWhole: boolean }> {
  const chunks: Buffer[] = []
  for (let bytes = 0; bytes < HEAD_BYTES;) {
    const next = await body.next()
    if (next.done === true) return { chunks, isWhole: true }
    chunks.push(next.value)
    bytes += next.value.length
  }
  return { chunks, isWhole: false }
}

async function* joined(chunks: readonly Buffer[], rest: AsyncIterator<Buffer> | null): AsyncGenerator<Buffer> {
  yield* chunks
  if (rest === null) return
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value
}

/** The caller's key as an Authorization header. */
function credential(authorization: string | undefined, head: SoapHead): string | undefined {
  const basic = /^Basic +([A-Za-z0-9+/=]+) *$/i.exec(authorization ?? '')?.[1]
  if (basic !== undefined) return `Bearer ${Buffer.from(basic, 'base64').toString().replace(/^[^:]*:/, '')}`
  if (authorization !== undefined && authorization !== '') return authorization
  return head.password === '' ? undefined : `Bearer ${head.password}`
}

async function sendFault(reply: FastifyReply, err: unknown): Promise<FastifyReply> {
  const error = err instanceof ApiError ? err : new ApiError(500, 'internal-error', 'The message could not be settled.')
  const { retryAfter } = error.extra
  if (typeof retryAfter === 'number') reply.header('retry-after', retryAfter)
  if (error.status === 401) reply.header('www-authenticate', 'Basic realm="meterline"')
  if (!(err instanceof ApiError)) reply.log.error({ err }, 'a MultiSpeak message failed')
  return reply.code(OWN_STATUS.has(error.status) ? error.status : 500).type('text/xml; charset=utf-8').send(faultAnswer(error))
}
