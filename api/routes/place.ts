import { parseInstant } from '../../engine/time/text.js'
import { decodeCursor, invalidCursor, isUuid } from '../schemas.js'

/** The place in a list by time that a cursor names, in the database's words. @throws ApiError 422 `invalid-cursor` */
export function placeOf(cursor: string): { at: string; id: string } {
  const [at, id] = decodeCursor(cursor, 2)
  if (typeof at === 'string' && typeof id === 'string' && isUuid(id) && isTimestamp(at)) return { at, id }
  throw invalidCursor()
}

/** True for the text of a timestamptz: `2026-10-01 00:00:00.123456+00`. */
function isTimestamp(text: string): boolean {
  const parts = /^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?)([+-]\d\d)(:\d\d)?$/.exec(text)
  return parts !== null && parseInstant(`${parts[1]}${parts[2]}${parts[3] ?? ':00'}`) !== undefined
}
