import { Type, type TSchema } from 'typebox'
import { ApiError } from '../engine/problem.js'

/** The schema, or null. */
export function nullable<T extends TSchema>(schema: T) {
  return Type.Union([schema, Type.Null()])
}

/** A member that may be left out, and cleared by null. */
export function optional<T extends TSchema>(schema: T) {
  return Type.Optional(nullable(schema))
}

/** One of these words. */
export function words<T extends string>(values: readonly T[]) {
  return Type.Enum([...values])
}

/** Text that the database can hold: no NUL, no half of a surrogate pair. */
export function text(maxLength: number, options: { minLength?: number; description?: string } = {}) {
  return Type.String({ maxLength, pattern: '^[^\\u0000\\ud800-\\udfff]*$', ...options })
}

/** A list's answer. */
export function page<T extends TSchema>(item: T) {
  return Type.Object({ items: Type.Array(item), next: nullable(Type.String()) })
}

/** Members of a list's query. */
export const pageQuery = {
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 100 })),
  cursor: Type.Optional(Type.String({ maxLength: 1000 })),
}

/** A place in a list as opaque text. */
export function encodeCursor(...parts: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify(parts)).toString('base64url')
}

/** The parts of a cursor that encodeCursor made. @throws ApiError 422 `invalid-cursor` */
export function decodeCursor(cursor: string, length: number): (string | number)[] {
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'))
    if (Array.isArray(parts) && parts.length === length && parts.every(isCursorPart)) return parts
  } catch {
    // Told below like any other text that is no cursor.
  }
  throw invalidCursor()
}

/** The number that a cursor of one part stands for: not negative. @throws ApiError 422 `invalid-cursor` */
export function decodeNumber(cursor: string): number {
  const [part] = decodeCursor(cursor, 1)
  if (typeof part !== 'number' || part < 0) throw invalidCursor()
  return part
}

/** A cursor comes from outside: what no list can have written must not reach the database. */
function isCursorPart(part: unknown): part is string | number {
  return typeof part === 'string' ? !part.includes('\0') : Number.isSafeInteger(part)
}

/** What a text is told that is no cursor. */
export function invalidCursor(): ApiError {
  return new ApiError(422, 'invalid-cursor', 'This is not a cursor that a list gave.', { at: '/cursor', in: 'query' })
}

/** A page of a list: `rows` were read with one more than the limit, which shows whether there is a next page. */
export function pageOf<R, T>(rows: readonly R[], limit: number, view: (row: R) => T, cursorOf: (row: R) => string): {
  items: T[]
  next: string | null
} {
  const shown = rows.slice(0, limit)
  const last = shown.at(-1)
  return { items: shown.map(view), next: rows.length > limit && last !== undefined ? cursorOf(last) : null }
}

/** True for text in the form of a UUID, so that another text is "not found" and no database error. */
export function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(text)
}
