import { createHmac, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FastifyInstance, FastifyReply } from 'fastify'
import Handlebars from 'handlebars'
import { createLinkSigner } from '../../engine/contacts/links.js'
import { createSealer } from '../../engine/contacts/seal.js'
import { receiveText, unsubscribe } from '../../engine/contacts/stop.js'
import { findFace } from '../../engine/contacts/face.js'
import { phrasesOf } from '../../engine/notify/words.js'
import { packageRoot } from '../../engine/package-root.js'
import { ApiError } from '../../engine/problem.js'
import type { ApiContext } from '../context.js'

/** What these routes are reached without: a key. The link's signature, or the gateway's, stands for it. */
type Form = Record<string, string>

const FORM_BYTES = 16 * 1024

/** Routes that members' mail programs and the SMS gateway call (contract §7). */
export function openNotifyRoutes(app: FastifyInstance, context: ApiContext): void {
  void app.register((scope, _options, done) => {
    scope.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string', bodyLimit: FORM_BYTES },
      (_request, body, parsed) => parsed(null, Object.fromEntries(new URLSearchParams(body as string))))
    // A mail program may post its one click as multipart/form-data; nothing in it is needed.
    scope.addContentTypeParser('multipart/form-data', { parseAs: 'string', bodyLimit: FORM_BYTES }, (_request, _body, parsed) => parsed(null, {}))
    unsubscribeRoutes(scope, context)
    inboundRoute(scope, context)
    done()
  })
}

function unsubscribeRoutes(scope: FastifyInstance, context: ApiContext): void {
  const signer = createLinkSigner(context.secretKey)
  const page = Handlebars.create().compile(readFileSync(join(packageRoot(), 'engine', 'notify', 'templates', 'unsubscribe.hbs'), 'utf8'), { strict: true })
  const show = (reply: FastifyReply, status: number, view: object): FastifyReply => reply.code(status).headers({
    'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store', 'referrer-policy': 'no-referrer', 'x-robots-tag': 'noindex',
    'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
  }).send(page(view))
  const gone = (reply: FastifyReply): FastifyReply => {
    const p = phrasesOf('en')
    return show(reply, 404, { language: p.tag, title: p.unsubscribePage.unknown, text: null, button: null, all: null })
  }

  scope.get<{ Params: { token: string } }>('/u/:token', {
    schema: { operationId: 'showUnsubscribe', tags: ['unsubscribe'], summary: 'The page that an unsubscribe link leads to; changes nothing' },
  }, async (request, reply) => {
    const link = signer.read(request.params.token)
    const face = link === undefined ? null : await findFace(context.pool, link.contactId)
    if (link === undefined || face === null) return gone(reply)
    const p = phrasesOf(face.language)
    const name = face.utility ?? p.yourUtility
    return show(reply, 200, {
      language: p.tag, title: p.unsubscribePage.title(name), text: p.unsubscribePage.question(p.categories[link.category], name, face.address),
      button: p.unsubscribe(p.categories[link.category]), all: p.unsubscribePage.all })
  })

  scope.post<{ Params: { token: string }; Body: Form | undefined }>('/u/:token', {
    schema: { operationId: 'unsubscribe', tags: ['unsubscribe'], summary: 'End a category to an address: one click (RFC 8058), or the page\'s button' },
  }, async (request, reply) => {
    const link = signer.read(request.params.token)
    const isAll = request.body?.all === '1'
    const found = link === undefined ? null : await unsubscribe(context.pool, link.contactId, isAll ? null : link.category, new Date(context.now()))
    if (link === undefined || found === null) return gone(reply)
    context.onMessages()
    const p = phrasesOf(found.language)
    const name = found.utility ?? p.yourUtility
    return show(reply, 200, {
      language: p.tag, title: p.unsubscribePage.title(name), text: p.unsubscribePage.done(isAll ? p.everything : p.categories[link.category], name),
      button: null, all: null })
  })
}

function inboundRoute(scope: FastifyInstance, context: ApiContext): void {
  const sealer = createSealer({ secretKey: context.secretKey })
  scope.post<{ Body: Form | undefined }>('/v1/sms/inbound', {
    config: { problems: ['sms-inbound-off', 'invalid-signature', 'invalid-request', 'invalid-address'] },
    schema: {
      operationId: 'receiveText', tags: ['alerts'],
      summary: 'A text from a member (STOP, START, HELP), posted by the SMS gateway and signed in X-Twilio-Signature' },
  }, async (request, reply) => {
    const gateway = context.smsGateway
    if (gateway === undefined) {
      throw new ApiError(503, 'sms-inbound-off', 'Texts cannot be taken.', { help: 'Set SMS_TOKEN and PUBLIC_URL, by which the gateway\'s signature is checked.' })
    }
    const form = request.body ?? {}
    if (!isSigned(gateway.token, gateway.publicUrl + request.url, form, request.headers['x-twilio-signature'])) {
      throw new ApiError(403, 'invalid-signature', 'This was not signed by the SMS gateway.', { help: 'PUBLIC_URL must be the address that the gateway calls.' })
    }
    const { MessageSid: sid, From: from, Body: body } = form
    if (sid === undefined || from === undefined || body === undefined || sid.length > 100) {
      throw new ApiError(422, 'invalid-request', 'MessageSid, From and Body are needed.')
    }
    if (await receiveText(context.pool, sealer, { sid, from, body }, gateway.stopScope, new Date(context.now()))) context.onMessages()
    // An empty answer in the gateway's own form: what there is to say goes out by the outbox.
    return reply.type('text/xml; charset=utf-8').send('<Response/>')
  })
}

/** Twilio's scheme: HMAC-SHA1 under the account's token over the address and the form's members in the order of their names. */
function isSigned(token: string, url: string, form: Form, signature: string | string[] | undefined): boolean {
  if (typeof signature !== 'string') return false
  const said = url + Object.keys(form).sort().map((name) => name + form[name]).join('')
  const expected = createHmac('sha1', token).update(said, 'utf8').digest()
  const given = Buffer.from(signature, 'base64')
  return given.length === expected.length && timingSafeEqual(given, expected)
}
