import { BodyError, type ApiError } from '../engine/problem.js'
import { attribute, listen, localName, newParser } from './formats/xml-reader.js'

/** What the beginning of a SOAP 1.1 message says: enough to know who calls, and what for. */
export interface SoapHead {
  /** Local name of the first element in the Body. */
  operation: string
  /** Its namespace: the answer is in the same. */
  namespace: string
  /** Of MultiSpeakMsgHeader; '' where it has none. */
  password: string
  version: string
}

const V3 = 'http://www.multispeak.org/Version_3.0'
const ENVELOPE = 'http://schemas.xmlsoap.org/soap/envelope/'

/**
 * Reads the head of a message.
 * @param bytes the beginning of it, the start tag of the operation among it
 * @throws BodyError 400 where it is no SOAP message, or its head is longer than the bytes
 */
export function soapHead(bytes: Uint8Array): SoapHead {
  const head: SoapHead = { operation: '', namespace: '', password: '', version: '' }
  const namespaces: Record<string, string> = {}
  const parser = newParser()
  let depth = 0
  let bodyDepth = 0
  let failure = ''
  listen(parser, {
    error: () => {
      failure = 'The message is no well-formed XML.'
    },
    doctype: () => {
      failure = 'The message has a DTD.'
    },
    text: () => undefined,
    opentag: (name, attributes) => {
      depth++
      if (head.operation !== '' || failure !== '') return
      for (const own in attributes) if (own === 'xmlns' || own.startsWith('xmlns:')) namespaces[own.slice(6)] = attributes[own]
      const local = localName(name)
      if (depth === 1 && local !== 'Envelope') failure = `The root element is ${JSON.stringify(local.slice(0, 60))}, not a SOAP Envelope.`
      else if (depth === 2 && local === 'Body') bodyDepth = depth
      else if (local === 'MultiSpeakMsgHeader' && bodyDepth === 0) {
        head.password = attribute(attributes, 'Pwd') ?? ''
        head.version = attribute(attributes, 'Version') ?? attribute(attributes, 'MajorVersion') ?? ''
      } else if (bodyDepth > 0 && depth === bodyDepth + 1) {
        head.operation = local
        const prefix = name.slice(0, Math.max(0, name.indexOf(':')))
        head.namespace = namespaces[prefix] ?? V3
      }
    },
    closetag: () => {
      depth--
    },
  })
  const text = new TextDecoder().decode(bytes).replace(/^\ufeff/, '')
  for (let at = 0; at < text.length && head.operation === '' && failure === ''; at += 4096) parser.write(text.slice(at, at + 4096))
  if (failure !== '') throw new BodyError(400, 'malformed-xml', failure)
  if (head.operation === '') throw new BodyError(400, 'malformed-xml', 'The message has no operation in its Body.')
  return head
}

/** One object that a notification could not settle. */
export interface ErrorObject {
  objectID: string
  errorString: string
  nounType: string
}

/** Answer of a method whose result is an array of errorObject: empty is success. */
export function errorObjectsAnswer(head: SoapHead, errors: readonly ErrorObject[], atMs: number): string {
  const objects = errors.map(({ objectID, errorString, nounType }) =>
    `<errorObject objectID="${escaped(objectID)}" errorString="${escaped(errorString)}" nounType="${escaped(nounType)}"`
    + ` eventTime="${new Date(atMs).toISOString()}"/>`)
  return answer(head, objects.join(''))
}

/** Answer of GetMethods. */
export function stringsAnswer(head: SoapHead, words: readonly string[]): string {
  return answer(head, words.map(word => `<string>${escaped(word)}</string>`).join(''))
}

/** A fault (SOAP 1.1, section 4.4). */
export function faultAnswer(error: ApiError): string {
  const at = typeof error.extra.at === 'string' ? ` (${error.extra.at})` : ''
  const help = typeof error.extra.help === 'string' ? ` ${error.extra.help}` : ''
  return envelope(`<soap:Fault><faultcode>soap:${error.status >= 500 ? 'Server' : 'Client'}</faultcode>`
    + `<faultstring>${escaped(`${error.message}${at}${help}`)}</faultstring>`
    + `<detail><code xmlns="urn:meterline:problem">${escaped(error.code)}</code></detail></soap:Fault>`)
}

function answer({ operation, namespace }: SoapHead, result: string): string {
  return envelope(`<${operation}Response xmlns="${escaped(namespace)}"><${operation}Result>${result}</${operation}Result>`
    + `</${operation}Response>`)
}

function envelope(body: string): string {
  return `<?xml version="1.0" encoding="utf-8"?>\n<soap:Envelope xmlns:soap="${ENVELOPE}"><soap:Body>${body}</soap:Body></soap:Envelope>`
}

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', '\'': '&apos;' }

/** Text as it stands in an element or attribute; characters that XML has not are left out. */
export function escaped(text: string): string {
  return text.replace(/[&<>"']/g, c => ESCAPES[c]).replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '')
}
