import { ApiError } from '../../engine/problem.js'
import { decodeCursor, isUuid } from '../schemas.js'

/** The place in a list by time that a cursor names. @throws ApiError 422 `invalid-cursor` */
export function placeOf(cursor: string): { at: string; id: string } {
  const [at, id] = decodeCursor(cursor, 2)
  if (typeof at === 'string' && typeof id === 'string' && isUuid(id) && !Number.isNaN(Date.parse(at.replace(/([+-]\d\d)$/, '$1:00')))) {
    return { at, id }
  }
  throw new ApiError(422, 'invalid-cursor', 'This is not a cursor that a list gave.', { at: '/cursor', in: 'query' })
}
