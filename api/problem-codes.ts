import type { FastifyContextConfig } from 'fastify'

/** A code of the API's problems: its status, what it means, and which routes may answer it. */
export interface ProblemCode {
  readonly code: string
  readonly status: number
  readonly meaning: string
}

const code = (status: number, name: string, meaning: string): ProblemCode => ({ status, code: name, meaning })

/** Answered anywhere. */
const COMMON = [
  code(500, 'internal-error', 'the server failed; it is logged'),
  code(503, 'database-busy', 'the database did not do it in time; Retry-After says when to try again'),
  code(503, 'database-full', 'the disk of the database is full; Retry-After says when to try again'),
  code(503, 'database-unavailable', 'the database cannot be reached; Retry-After says when to try again'),
  code(503, 'stopping', 'the server is stopping'),
]

/** Answered by every route that needs a key. */
const AUTHORISED = [
  code(401, 'missing-credentials', 'no Authorization header with a bearer key or token'),
  code(401, 'invalid-credentials', 'the key or token is not valid, or no longer'),
  code(403, 'role-too-small', 'the role may not do this'),
  code(422, 'invalid-request', 'a parameter or member has a wrong type or value; `at` says which'),
  code(422, 'unknown-parameter', 'a query parameter that the call does not know'),
]

const WITH_BODY = [
  code(400, 'malformed-json', 'the body is not JSON'),
  code(400, 'malformed-request', 'the request cannot be read'),
  code(413, 'body-too-large', 'the body is larger than is taken'),
  code(415, 'unsupported-media-type', 'the content type is not taken'),
  code(422, 'unknown-member', 'a member that the call does not know'),
]

const UNKNOWN_ENCODING = code(415, 'unsupported-encoding', 'Content-Encoding is not taken')

/** What a push may be answered with, beside its receipt. */
const PUSHED = [
  code(400, 'body-cut-off', 'the connection ended before the body did'),
  code(400, 'empty-body', 'there is nothing in the body'),
  code(400, 'encoding-unsupported', 'the text is UTF-16 or UTF-32'),
  code(400, 'invalid-utf8', 'the header row is not UTF-8'),
  code(400, 'malformed-csv', 'the body is not CSV'),
  code(400, 'malformed-xml', 'the body is no well-formed XML'),
  code(400, 'malformed-arrow', 'the body is no whole Arrow stream, or its columns are not what it says'),
  code(400, 'malformed-gzip', 'the body is not the gzip that it claims to be'),
  code(400, 'malformed-zip', 'the body is no whole zip archive'),
  code(403, 'source-not-allowed', 'the key may not push for this source'),
  code(404, 'unknown-utility', 'the utility is gone'),
  code(408, 'body-too-slow', 'the body comes too slowly'),
  code(409, 'idempotency-key-in-use', 'a push with this key is under way'),
  code(409, 'utility-zone-unset', 'the utility has no time zone yet'),
  code(413, 'reading-type-late', 'a Green Button file larger than a transaction has a block before its ReadingType'),
  code(413, 'archive-too-large', 'an archive is settled at once: ATOMIC_MB bounds it, packed and unpacked'),
  code(413, 'record-too-large', 'one record is larger than a transaction may be'),
  UNKNOWN_ENCODING,
  code(415, 'unsupported-charset', 'the body is not UTF-8'),
  code(415, 'unsupported-format', 'the format is unknown or cannot be told'),
  code(422, 'doctype-refused', 'the XML has a document type: entities are not taken'),
  code(422, 'meter-not-stated', 'the body names no meter and the source has none'),
  code(422, 'record-too-large', 'one record is larger than is read'),
  code(422, 'too-deep', 'the XML is nested too deeply'),
  code(422, 'too-many-links', 'the feed has more resources than are kept'),
  code(422, 'unit-not-stated', 'the body names no unit and the source has none'),
  code(422, 'unsupported-method', 'the SOAP message asks for a method that is not answered'),
  code(422, 'archive-encrypted', 'the archive is encrypted'),
  code(422, 'archive-nested', 'the archive holds another archive'),
  code(422, 'duplicate-column', 'a column comes twice'),
  code(422, 'idempotency-key-reused', 'the key was used with another body'),
  code(422, 'interval-unknown', 'nothing states the length of the intervals'),
  code(422, 'invalid-idempotency-key', 'an Idempotency-Key that cannot be kept'),
  code(422, 'invalid-instant', 'not RFC 3339 with an offset'),
  code(422, 'invalid-purpose', 'an X-Purpose that is not known'),
  code(422, 'invalid-source', 'an X-Source that cannot be kept'),
  code(422, 'invalid-version', 'an X-Version that is no instant'),
  code(422, 'meter-invalid', 'the file names a meter that cannot be one'),
  code(422, 'missing-column', 'a column that is needed is missing'),
  code(422, 'missing-member', 'a member that is needed is missing'),
  code(422, 'too-many-problems', 'more records cannot be read than are told one by one'),
  code(422, 'unknown-column', 'a column that is not known'),
  code(422, 'invalid-mapping', 'a mapping with faults'),
  code(422, 'unknown-mapping', 'no mapping of this name'),
  code(422, 'unknown-zone', 'not an IANA time zone'),
  code(422, 'wrong-type', 'a member has a wrong type'),
  code(429, 'busy', 'too much waits; Retry-After says when to come again'),
  code(429, 'too-much-in-flight', 'more bytes are being settled than memory is set aside for'),
  code(431, 'malformed-request', 'address and headers together are larger than 16 KB'),
]

/** By part of the address. */
const BY_ADDRESS: { part: string; codes: ProblemCode[] }[] = [
  { part: '/v1/reads', codes: PUSHED },
  { part: '/:account', codes: [
    code(404, 'account-not-found', 'no such account in the utility, or not in the token'),
    code(409, 'utility-zone-unset', 'the utility has no time zone yet')] },
  { part: '/:meter', codes: [
    code(404, 'meter-not-found', 'no such meter in the utility, or never the token\'s'),
    code(409, 'utility-zone-unset', 'the utility has no time zone yet')] },
]

/** Answered by the routes that declare them in `config.problems`. */
const DECLARED = [
  code(422, 'unsupported-method', 'in a SOAP fault: MultiSpeak methods other than those that bring reads'),
  code(400, 'malformed-body', 'the body is not UTF-8 text'),
  code(400, 'malformed-csv', 'the body is not CSV'),
  code(403, 'source-not-allowed', 'the key may not push for this source'),
  code(403, 'other-utility', 'only an operator of the installation may reach another utility'),
  code(403, 'invalid-signature', 'not signed by the SMS gateway'),
  code(404, 'message-not-replayable', 'no such message that failed or is unknown'),
  code(404, 'webhook-not-found', 'no such webhook of the utility'),
  code(409, 'contact-stopped', 'the holder of the number ended this by STOP; only START brings it back'),
  code(422, 'empty-audience', 'no account is in the audience'),
  code(422, 'idempotency-key-missing', 'the call needs an Idempotency-Key'),
  code(422, 'idempotency-key-reused', 'the key was used with another body'),
  code(422, 'invalid-secret', 'a secret has 24 to 64 bytes'),
  code(422, 'invalid-url', 'not an http or https address'),
  code(422, 'too-many-webhooks', 'a utility has at most 20 webhooks'),
  code(422, 'invalid-request', 'a parameter or member has a wrong type or value; `at` says which'),
  code(503, 'sms-inbound-off', 'texts cannot be taken: SMS_TOKEN and PUBLIC_URL are not set'),
  code(404, 'contact-not-found', 'no such contact of the account'),
  code(404, 'delivery-not-found', 'no such delivery of the utility or of the key\'s sources'),
  code(404, 'exception-not-found', 'no such exception in the utility'),
  code(404, 'interval-not-found', 'no channel of the meter counts at that instant'),
  code(404, 'key-not-found', 'no such key in the utility'),
  code(404, 'not-found', 'nothing is at this address'),
  code(404, 'source-not-found', 'no such source in the utility'),
  code(404, 'rate-not-found', 'no such rate'),
  code(404, 'threshold-not-found', 'no such threshold of the account'),
  code(404, 'unknown-delivery', 'no such delivery'),
  code(404, 'utility-not-found', 'no such utility'),
  code(405, 'method-not-allowed', 'the address takes other methods'),
  code(406, 'not-acceptable', 'the answer is JSON or CSV'),
  code(409, 'alias-taken', 'an id or alias names another meter already'),
  code(409, 'already-withdrawn', 'the delivery was withdrawn before'),
  code(409, 'assignment-overlap', 'two assignments of the meter overlap'),
  code(409, 'billing-period-overlap', 'two billing periods of the account overlap'),
  code(409, 'contact-exists', 'the account has this address already'),
  code(409, 'contact-not-pending', 'the contact is not one to be verified'),
  code(409, 'not-withdrawable', 'a withdrawal cannot be withdrawn'),
  code(409, 'quarantine-changed', 'another replay took these records'),
  code(409, 'utility-zone-unset', 'the utility has no time zone yet'),
  code(409, 'zone-frozen', 'the utility holds reads: its zone stays'),
  code(410, 'cursor-expired', 'changes after the cursor may have been dropped'),
  code(414, 'malformed-request', 'the address is too long'),
  code(422, 'assignment-incomplete', 'an assignment needs account and from'),
  code(422, 'code-expired', 'the code is older than 10 minutes, or was tried 5 times'),
  code(422, 'code-wrong', 'not the code that was sent; `triesLeft` says how many tries are left'),
  code(422, 'edit-outside-day', 'an edit names an instant outside of the flagged day, or a value that does not fit'),
  code(422, 'id-mismatch', 'the body names another id than the address'),
  code(422, 'cost-undefined', 'no cost is told at this resolution, or of a past state'),
  code(422, 'invalid-address', 'no e-mail address, or no number in E.164 form'),
  code(422, 'invalid-combination', 'the kind of threshold cannot have this limit, flow, meter or time-of-use period'),
  code(422, 'invalid-cursor', 'not a cursor that a list gave'),
  code(422, 'invalid-instant', 'neither RFC 3339 with offset nor a local date'),
  code(422, 'invalid-limit', 'a limit is needed, above 0 and at most 1000000, with at most 3 decimals'),
  code(422, 'invalid-params', 'parameters that the kind of threshold does not know, or a value out of range'),
  code(422, 'invalid-period', 'a period ends after it begins'),
  code(422, 'no-rate', 'the account has no rate to tell its cost or its hours by'),
  code(422, 'invalid-range', 'from, to, last or day make no range'),
  code(422, 'invalid-rate', 'a rate that does not price every kWh once, or names what it does not have; `at` says where'),
  code(422, 'invalid-record', 'a record has a wrong type or value'),
  code(422, 'kind-unsupported', 'no threshold of this kind; `supported` lists them'),
  code(422, 'not-estimable', 'nothing stands that the reads could be estimated by'),
  code(422, 'range-too-large', 'the range has more than the resolution may show'),
  code(422, 'too-many-contacts', 'an account has at most 20 contacts'),
  code(422, 'too-many-thresholds', 'an account has at most 50 thresholds'),
  code(422, 'unknown-account', 'no such account'),
  code(422, 'unknown-column', 'a CSV column that is not known'),
  code(422, 'file-misplaced', 'a file of the watched folder stands in no utility\'s folder; told in its reason'),
  code(422, 'file-not-regular', 'a thing in the watched folder is no file; told in its reason'),
  code(422, 'quantity-not-additive', 'values of this quantity do not add up over time'),
  code(422, 'unknown-contact', 'the account has no such contact'),
  code(422, 'unknown-meter', 'the account has no such meter'),
  code(422, 'unknown-rule', 'not the id of a validation rule'),
  code(422, 'unknown-unit', 'not a unit that values are taken in'),
  code(422, 'unknown-tou-period', 'the account\'s rate has no such time-of-use period'),
  code(422, 'unknown-zone', 'not an IANA time zone'),
  code(429, 'too-many-codes', 'more codes for the address, the account or the utility than people need; Retry-After says when to try again'),
  code(503, 'ingest-elsewhere', 'this process does not settle reads'),
  code(503, 'issuer-unavailable', 'the keys of the token\'s issuer cannot be fetched'),
]

/** Every code there is: what the sources throw is held against this list. */
export const allCodes: readonly ProblemCode[] = [
  ...COMMON, ...AUTHORISED, ...WITH_BODY, ...BY_ADDRESS.flatMap((a) => a.codes), ...DECLARED,
]

/** The codes that a route may answer. @throws Error where the route declares one that is not listed here */
export function codesOf(route: { method: string; url: string; config: FastifyContextConfig }): ProblemCode[] {
  const found = [...COMMON]
  if (route.config.roles !== undefined) {
    found.push(...AUTHORISED)
    if (route.method === 'POST' || route.method === 'PUT' || route.method === 'PATCH') found.push(...WITH_BODY)
    for (const { part, codes } of BY_ADDRESS) if (route.url.includes(part)) found.push(...codes)
  }
  for (const name of route.config.problems ?? []) {
    const known = allCodes.find((c) => c.code === name)
    if (known === undefined) throw new Error(`the problem code ${name} is not in problem-codes.ts`)
    found.push(known)
  }
  return [...new Map(found.map((c) => [`${c.status} ${c.code}`, c])).values()]
}
