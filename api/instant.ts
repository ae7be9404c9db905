import { ApiError } from '../engine/problem.js'
import { parseInstant } from '../engine/time/text.js'

/** 1980 to 2100: no read, delivery or revision lies outside, and days near the ends of the calendar have no neighbours. */
const FIRST_S = Date.UTC(1980, 0, 1) / 1000
const LAST_S = Date.UTC(2100, 0, 1) / 1000

/**
 * An instant in the query.
 * @returns epoch seconds, and the text with a plus sign restored that was not escaped and so arrived as a space
 * @throws ApiError 422 `invalid-instant`
 */
export function instantParameter(name: string, text: string): { s: number; text: string } {
  const escaped = text.replace(/ (?=\d\d:\d\d$)/, '+')
  const s = parseInstant(escaped)
  if (s === undefined || s < FIRST_S || s > LAST_S) {
    throw new ApiError(422, 'invalid-instant', `"${name}" is not an instant with an offset, of the years 1980 to 2099.`,
      { at: `/${name}`, in: 'query', help: `for example ${name}=2026-10-01T00:00:00-05:00` })
  }
  return { s, text: escaped }
}
