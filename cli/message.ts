import { ApiError } from '../engine/problem.js'

/** An error for people: its message, place and help. */
export function messageOf(err: unknown): string {
  if (err instanceof ApiError) {
    const { at, help } = err.extra
    return `${err.message}${typeof at === 'string' ? ` (${at})` : ''}${typeof help === 'string' ? ` ${help}` : ''}`
  }
  if (err instanceof Error && (err as NodeJS.ErrnoException).code?.startsWith('Z_') === true) return `it is not whole gzip data (${err.message})`
  if (err instanceof Error) return err.message
  return String(err)
}
