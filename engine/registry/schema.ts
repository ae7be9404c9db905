import { Type, type Static } from 'typebox'
import { Compile } from 'typebox/schema'
import { RecordRefused } from './receipt.js'

// One schema per record: the bulk door checks with it, the single door is described by it.

/** An id as other systems give it: case-sensitive text, leading zeros kept, no control characters. */
export const PublicId = Type.String({ minLength: 1, maxLength: 128, pattern: '^[^\\u0000-\\u001f\\u007f\\ud800-\\udfff]+$' })

/** Free text that the database can hold: no NUL, no half of a surrogate pair. */
const Text = Type.String({ maxLength: 200, pattern: '^[^\\u0000\\ud800-\\udfff]*$' })
const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()])
const optional = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Optional(nullable(schema))
const words = <T extends string>(values: readonly T[]) => Type.Enum([...values])

export const METER_ROLES = ['main', 'sub', 'check', 'generation'] as const
export const METER_STATES = ['active', 'disconnected', 'removed'] as const
export const FLOWS = ['delivered', 'received', 'net'] as const

const Instant = Type.String({ maxLength: 40, description: 'RFC 3339 with offset, or a local date of the utility' })

export const AccountRecord = Type.Object({
  account: PublicId,
  nickname: optional(Text),
  name: optional(Text),
  billingDay: optional(Type.Integer({ minimum: 1, maximum: 31 })),
  rate: optional(Type.Object({ id: PublicId, from: Type.String({ maxLength: 40, pattern: '^[^\\u0000\\ud800-\\udfff]*$' }) }, { additionalProperties: false })),
  groups: optional(Type.Record(Type.String({ pattern: '^[^\\u0000-\\u001f\\ud800-\\udfff]{1,64}$' }), nullable(Text), { additionalProperties: false })),
  zone: optional(Text),
}, { additionalProperties: false })

export const AssignmentRecord = Type.Object({
  account: PublicId,
  servicePoint: optional(Text),
  from: Instant,
  to: optional(Instant),
}, { additionalProperties: false })

export const MeterRecord = Type.Object({
  meter: PublicId,
  aliases: optional(Type.Array(PublicId, { maxItems: 50 })),
  role: optional(words(METER_ROLES)),
  status: optional(words(METER_STATES)),
  intervalSeconds: optional(Type.Integer({ minimum: 60, maximum: 86_400 })),
  flows: optional(Type.Array(words(FLOWS), { maxItems: 3 })),
  multiplier: optional(Type.Number({ exclusiveMinimum: 0, maximum: 1e6 })),
  serviceKw: optional(Type.Number({ exclusiveMinimum: 0, maximum: 1e6 })),
  assignments: optional(Type.Array(AssignmentRecord, { maxItems: 1000 })),
  account: optional(PublicId),
  servicePoint: optional(Text),
  from: Type.Optional(Instant),
  to: optional(Instant),
}, { additionalProperties: false })

export type AccountRecord = Static<typeof AccountRecord>
export type AssignmentRecord = Static<typeof AssignmentRecord>
export type MeterRecord = Static<typeof MeterRecord>

const accountCheck = Compile(AccountRecord)
const meterCheck = Compile(MeterRecord)

interface Fault {
  keyword: string
  instancePath: string
  params: object
  message: string
}

/** The record as an account. @param place where it stands in the body. @throws RecordRefused */
export function checkAccount(value: unknown, place: string): AccountRecord {
  if (accountCheck.Check(value)) return value
  throw refused(accountCheck.Errors(value)[1], place)
}

/** The record as a meter. @param place where it stands in the body. @throws RecordRefused */
export function checkMeter(value: unknown, place: string): MeterRecord {
  if (meterCheck.Check(value)) return value
  throw refused(meterCheck.Errors(value)[1], place)
}

function refused(faults: Fault[], place: string): RecordRefused {
  const unknown = faults.find((f) => f.keyword === 'additionalProperties')
  if (unknown !== undefined) {
    const names = (unknown.params as { additionalProperties: string[] }).additionalProperties
    return new RecordRefused('unknown-member', `${place} ${unknown.instancePath}/${names[0]}`,
      `A record has no member of this name.`)
  }
  // Of the alternatives of a nullable member the first says more than "must be null".
  const fault = faults[0]
  const allowed = (fault.params as { allowedValues?: string[] }).allowedValues
  if (allowed !== undefined) {
    return new RecordRefused('invalid-record', `${place} ${fault.instancePath}`, `The value must be one of ${allowed.join(', ')}.`)
  }
  const missing = fault.keyword === 'required' ? (fault.params as { requiredProperties?: string[] }).requiredProperties : undefined
  return new RecordRefused('invalid-record', fault.instancePath === '' ? place : `${place} ${fault.instancePath}`,
    missing === undefined ? `The value ${fault.message}.` : `${missing.join(', ')} is missing.`)
}
