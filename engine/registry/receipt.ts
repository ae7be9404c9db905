import type { Problem } from '../problem.js'

/** What a bulk registry write came to: received = created + changed + unchanged + rejected. */
export interface RegistryReceipt {
  received: number
  created: number
  changed: number
  unchanged: number
  rejected: number
  /** The first 100. */
  problems: Problem[]
}

/** Problems kept in a receipt; the counts count all. */
export const MAX_PROBLEMS = 100

/** An empty receipt for so many records. */
export function emptyReceipt(received: number): RegistryReceipt {
  return { received, created: 0, changed: 0, unchanged: 0, rejected: 0, problems: [] }
}

/** Counts the record as rejected. */
export function reject(receipt: RegistryReceipt, problem: Problem): void {
  receipt.rejected++
  if (receipt.problems.length < MAX_PROBLEMS) receipt.problems.push(problem)
}

/** Why a record cannot be taken; its siblings still are. */
export class RecordRefused extends Error {
  readonly problem: Problem

  constructor(code: string, at: string, message: string, help?: string) {
    super(message)
    this.name = 'RecordRefused'
    this.problem = { code, at, message, ...(help === undefined ? {} : { help }) }
  }
}
