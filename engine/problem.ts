/** What went wrong with a record or a whole body, in the words of the contract (§4). */

export type Outcome = 'quarantined' | 'rejected'

/** One entry of a receipt's `problems`. */
export interface Problem {
  code: string
  /** Where: `line 7`, `record 3`, a JSON pointer, or a meter and instant. */
  at: string
  message: string
  /** What to do about it. */
  help?: string
}

/** A record that could not become reads, as a decoder reports it. */
export interface RecordProblem extends Problem {
  outcome: Outcome
  /** Reads in the record; 1 for a record that cannot be read. */
  reads: number
  meter?: string
  /** Bytes of the record in the body, [rawFrom, rawTo); absent where it is not one piece. */
  rawFrom?: number
  rawTo?: number
  /** Version of the record, microseconds, where it is not the delivery's. */
  version?: number
  /** The record as a canonical JSON block (contract §4), where it could be decoded, for replay. */
  record?: string
}

/**
 * An error that a caller of the API is told about, as application/problem+json (RFC 9457).
 * Messages go to clients: they never carry internals, secrets or personal data.
 */
export class ApiError extends Error {
  readonly status: number
  readonly code: string
  readonly extra: Record<string, unknown>

  /** @param extra further members of the problem document, such as `at`, `help`, `receipt`, `retryAfter` (seconds). */
  constructor(status: number, code: string, message: string, extra: Record<string, unknown> = {}) {
    super(message)
    this.name = 'ApiError'
    this.status = status
    this.code = code
    this.extra = extra
  }
}

/** A body that cannot be read at all: nothing of it is settled. */
export class BodyError extends ApiError {
  constructor(status: 400 | 413 | 415 | 422, code: string, message: string, at?: string, help?: string) {
    super(status, code, message, { ...(at === undefined ? {} : { at }), ...(help === undefined ? {} : { help }) })
    this.name = 'BodyError'
  }
}
