/** The words of the contract (§4) as a source writes them, and what they mean in a batch. */
import { Quantity, unitOf } from '../../engine/quantity.js'
import { Flow, Quality, type FlowCode, type QualityCode } from '../../engine/read-batch.js'

const FLOWS: ReadonlyMap<string, FlowCode> = new Map(Object.entries(Flow))
const QUALITIES: ReadonlyMap<string, QualityCode> = new Map(Object.entries(Quality))

export const flowWords = [...FLOWS.keys()].join(', ')
export const qualityWords = [...QUALITIES.keys()].join(', ')

export const TIME_HELP = 'Times are RFC 3339, such as 2026-10-01T00:00:00-05:00, or local time of the source\'s zone '
  + 'without the offset.'

/** Flow of a word in any case; undefined for an unknown one. */
export function flowOf(word: string): FlowCode | undefined {
  return FLOWS.get(word) ?? FLOWS.get(word.toLowerCase())
}

/** Quality of a word in any case; undefined for an unknown one. */
export function qualityOf(word: string): QualityCode | undefined {
  return QUALITIES.get(word) ?? QUALITIES.get(word.toLowerCase())
}

/** Decimals that a unit of energy, in any case, adds; undefined for any other unit. */
export function unitShift(word: string): number | undefined {
  const unit = unitOf(word)
  return unit?.quantity === Quantity.energy ? unit.shift : undefined
}

export type IntervalKind = 'grid' | 'perhaps-day' | 'none'

/**
 * Whether an interval length fits a grid: 60 s to 86400 s that divides the hour, or whole hours that divide the day.
 * Other lengths about a day may be a local day's on which the clocks change.
 */
export function intervalKind(seconds: number): IntervalKind {
  if (!Number.isInteger(seconds) || seconds < 60) return 'none'
  if (3600 % seconds === 0 || (seconds % 3600 === 0 && 86400 % seconds === 0)) return 'grid'
  return seconds >= 79_200 && seconds <= 93_600 ? 'perhaps-day' : 'none'
}

/** What is wrong with a meter id; undefined where nothing is. Ids are kept as they are, case and leading zeros too. */
export function meterFault(meter: string): string | undefined {
  if (meter === '') return 'The meter id is empty.'
  if (meter.length > 200) return 'The meter id is longer than 200 characters.'
  for (let i = 0; i < meter.length; i++) {
    const code = meter.charCodeAt(i)
    if (code < 32 || code === 127) return 'The meter id has a control character in it.'
    if (code < 0xd800 || code > 0xdfff) continue
    // Half a surrogate pair is no character, and the database would not take it.
    const next = meter.charCodeAt(i + 1)
    if (code > 0xdbff || !(next >= 0xdc00 && next <= 0xdfff)) return 'The meter id is not well-formed Unicode.'
    i++
  }
  return undefined
}

/** A piece of the source's text for a message: quoted, escaped and cut short. */
export function show(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text)
}
