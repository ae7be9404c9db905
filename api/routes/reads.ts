import type { FastifyContextConfig, FastifySchema } from 'fastify'
import { Type } from 'typebox'
import { words } from '../schemas.js'
import { ReceiptSchema } from './deliveries.js'

const Quality = Type.String({ description: 'actual, validated, estimated, edited or questionable' })

const Block = Type.Object({
  meter: Type.String(),
  start: Type.String({ description: 'Start of the first interval: RFC 3339 with offset, or local time of the source' }),
  intervalSeconds: Type.Optional(Type.Integer()),
  values: Type.Array(Type.Union([Type.Number(), Type.Null()]), { description: 'null: no read' }),
  unit: Type.Optional(Type.String({ description: 'kWh (default), Wh or MWh' })),
  flow: Type.Optional(words(['delivered', 'received', 'net'])),
  quality: Type.Optional(Type.Union([Quality, Type.Array(Quality)])),
  kind: Type.Optional(Type.String({ description: 'interval' })),
  capturedAt: Type.Optional(Type.String({ description: 'When the source stated it: its version' })),
})

/** How POST /v1/reads looks to the API document; the door itself is in ingest/http.ts. */
export const pushRoute: { config: FastifyContextConfig; schema: FastifySchema } = {
  config: {
    roles: ['head-end', 'operator'], member: false,
    describedBody: {
      'application/json': Type.Union([Type.Object({ reads: Type.Array(Block) }), Type.Array(Block)]),
      'application/x-ndjson': Type.String({ description: 'A block, or a single read, per line' }),
      'application/xml': Type.String({ description: 'Green Button/ESPI, IEC 61968-9 MeterReadings, MultiSpeak or AMRDEF; told by the root element' }),
      'text/csv': Type.String({ description: 'Header row with meter, start (or end), value; one read per line' }),
    },
  },
  schema: {
    operationId: 'pushReads', tags: ['reads'], summary: 'Push interval reads; the receipt comes after the commit',
    headers: Type.Object({
      'idempotency-key': Type.Optional(Type.String({ description: 'Per utility and source, kept 14 days: the same body answers the first receipt' })),
      'x-source': Type.Optional(Type.String({ description: 'One of the key\'s sources; default: the key\'s name' })),
      'x-version': Type.Optional(Type.String({ description: 'Version of reads without capturedAt: an instant or a whole number' })),
      'x-purpose': Type.Optional(Type.String({ description: 'history: no alerts, quiet change feed' })),
      'content-encoding': Type.Optional(Type.String({ description: 'gzip' })),
    }, { additionalProperties: true }),
    querystring: Type.Object({
      format: Type.Optional(Type.String({ maxLength: 40, description: 'Overrides detection: json, ndjson, csv, xml, espi, iec61968-9, multispeak or amrdef' })),
      mapping: Type.Optional(Type.String({ maxLength: 8000, description: 'CSV: name of a shipped mapping, or a mapping as JSON' })),
      zone: Type.Optional(Type.String({ maxLength: 60, description: 'IANA zone of local times, over the source\'s' })),
      meter: Type.Optional(Type.String({ maxLength: 200, description: 'Meter of a body that names none' })),
      name: Type.Optional(Type.String({ maxLength: 200, description: 'File name, for detection' })),
    }),
    response: { 200: ReceiptSchema },
  },
}
