import { ApiError } from './problem.js'
import { troubleOf, type Trouble } from './store/db.js'

const TOLD: Record<Trouble, { code: string; message: string; retryAfter: number }> = {
  unavailable: { code: 'database-unavailable', message: 'The database cannot be reached.', retryAfter: 2 },
  busy: { code: 'database-busy', message: 'The database did not do it in time: it is overloaded, or something holds a lock.', retryAfter: 5 },
  full: { code: 'database-full', message: 'The disk of the database is full.', retryAfter: 30 },
}

/** What the caller is told where the database is to blame and the call may be made again: a 503. Undefined for other errors. */
export function databaseTrouble(err: unknown, extra: Record<string, unknown> = {}): ApiError | undefined {
  const trouble = troubleOf(err)
  if (trouble === undefined) return undefined
  const { code, message, retryAfter } = TOLD[trouble]
  return new ApiError(503, code, message, { retryAfter, ...extra })
}
