import { ApiError } from '../problem.js'
import type { FlowName } from '../read-batch.js'
import { compareExact, exactText, parseExact } from './exact.js'
import { isThresholdKind, kindInfo, thresholdKinds, windows, type ThresholdKind, type ThresholdParams } from './kinds.js'

const MAX_LIMIT = parseExact('1000000')

/** A threshold as it is asked for. */
export interface ThresholdWish {
  readonly kind: string
  readonly limit?: number | null
  readonly flow?: FlowName
  readonly meter?: string | null
  readonly touPeriod?: string | null
  readonly params?: ThresholdParams
}

export interface CheckedThreshold {
  readonly kind: ThresholdKind
  readonly flow: FlowName
  /** Exact decimal text; null for kinds without one. */
  readonly limit: string | null
  readonly touPeriod: string | null
  readonly params: ThresholdParams
}

/**
 * Holds a threshold against what its kind can be.
 * @throws ApiError 422 `kind-unsupported`, `invalid-limit`, `invalid-combination`, `invalid-params`
 */
export function checkThreshold(wish: ThresholdWish): CheckedThreshold {
  const { kind, flow = 'delivered' } = wish
  if (!isThresholdKind(kind)) {
    throw new ApiError(422, 'kind-unsupported', 'There is no threshold of this kind.', { at: '/kind', supported: thresholdKinds })
  }
  const info = kindInfo(kind)
  const touPeriod = wish.touPeriod ?? null
  if (info.watches === 'account') {
    if (flow !== 'delivered') throw combination('/flow', `A ${kind} threshold watches the account's bill, not a flow.`)
    if (typeof wish.meter === 'string') throw combination('/meter', `A ${kind} threshold watches the account's bill, not one meter.`)
  }
  if (touPeriod !== null && !info.canHaveTou) throw combination('/touPeriod', `A ${kind} threshold watches all hours.`)
  if (kind === 'no-usage' && flow === 'net') throw combination('/flow', 'Net energy of zero is not "no usage": watch delivered or received.')
  return { kind, flow, touPeriod, limit: checkLimit(kind, wish.limit), params: checkParams(kind, wish.params ?? {}) }
}

/** The limit as decimal text: above 0, at most 1,000,000, at most 3 decimals. @throws ApiError 422 */
export function checkLimit(kind: ThresholdKind, limit: number | null | undefined): string | null {
  if (!kindInfo(kind).hasLimit) {
    if (limit === undefined || limit === null) return null
    throw combination('/limit', `A ${kind} threshold has no limit.`)
  }
  if (limit === undefined || limit === null) {
    throw new ApiError(422, 'invalid-limit', `A ${kind} threshold needs a limit.`, { at: '/limit' })
  }
  const text = String(limit)
  if (!/^\d+(\.\d{1,3})?$/.test(text) || limit <= 0 || compareExact(parseExact(text), MAX_LIMIT) > 0) {
    throw new ApiError(422, 'invalid-limit', 'A limit is above 0 and at most 1000000, with at most 3 decimals.', { at: '/limit' })
  }
  return exactText(parseExact(text))
}

/** @throws ApiError 422 `invalid-params` */
export function checkParams(kind: ThresholdKind, params: ThresholdParams): ThresholdParams {
  const info = kindInfo(kind)
  const known = new Set<string>(info.params)
  const other = Object.keys(params).find((name) => !known.has(name))
  if (other !== undefined) {
    throw invalid(`/params/${other}`, known.size === 0 ? `A ${kind} threshold has no parameters.` : `A ${kind} threshold knows ${[...known].join(', ')}.`)
  }
  if (params.window !== undefined && !info.windows.includes(params.window)) {
    throw invalid('/params/window', `A ${kind} threshold's window is one of ${windows.filter((w) => info.windows.includes(w)).join(', ')}.`)
  }
  checkRange('percent', params.percent, 30, 1000)
  checkRange('mads', params.mads, 1, 20)
  return params
}

function checkRange(name: string, value: number | undefined, least: number, most: number): void {
  if (value === undefined || (Number.isFinite(value) && value >= least && value <= most)) return
  throw invalid(`/params/${name}`, `The value is from ${least} to ${most}.`)
}

function combination(at: string, message: string): ApiError {
  return new ApiError(422, 'invalid-combination', message, { at })
}

function invalid(at: string, message: string): ApiError {
  return new ApiError(422, 'invalid-params', message, { at })
}
