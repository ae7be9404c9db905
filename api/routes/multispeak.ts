import type { FastifyContextConfig, FastifySchema } from 'fastify'
import { Type } from 'typebox'

/** How POST /multispeak looks to the API document; the door itself is in ingest/multispeak-door.ts. */
export const multispeakRoute: { config: FastifyContextConfig; schema: FastifySchema } = {
  config: {
    describedBody: { 'text/xml': Type.String({ description: 'A SOAP 1.1 envelope' }) },
  },
  schema: {
    operationId: 'multispeak', tags: ['reads'],
    summary: 'MultiSpeak 3.0 and 4.1 over SOAP 1.1: notifications of reads, PingURL, GetMethods',
    description: 'The key: Authorization Bearer, the password of Authorization Basic, or Pwd in MultiSpeakMsgHeader; roles head-end and operator. '
      + 'A notification is one delivery, settled before the answer: an array of errorObject, empty where all is settled. '
      + 'Faults are SOAP faults, with status 500, or 401, 403, 413, 429, 503 where these say more.',
    headers: Type.Object({
      'x-source': Type.Optional(Type.String({ description: 'One of the key\'s sources; default: the key\'s name' })),
      'x-version': Type.Optional(Type.String({ description: 'Version of reads without a time of their own' })),
      'content-encoding': Type.Optional(Type.String({ description: 'gzip' })),
    }, { additionalProperties: true }),
    produces: ['text/xml'],
  },
}
