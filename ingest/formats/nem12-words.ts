import { Flow, Quality, type FlowCode, type QualityCode } from '../../engine/read-batch.js'
import { dayOfCivil, monthLength } from '../../engine/time/civil.js'

/** The words of NEM12 and NEM13: suffixes, quality methods, dates. */

/** What a quality method says of a read. */
export interface NemQuality {
  lane: QualityCode
  /** N: there is no read, whatever value stands there. */
  isNull: boolean
  /** V: the 400 records say. */
  isVariable: boolean
}

const LANES: Readonly<Record<string, QualityCode>> = {
  A: Quality.actual,
  // Forward estimates and substitutes, final ones too: what the meter did not measure.
  E: Quality.estimated, F: Quality.estimated, S: Quality.estimated,
  N: Quality.actual, V: Quality.actual,
}

/**
 * A quality flag with its method (E52, F14, A). Undefined for anything else.
 * @param isDay of a 300 record: only there V may stand
 */
export function qualityOfMethod(text: string, isDay: boolean): NemQuality | undefined {
  const match = /^([AEFSNV])(\d\d)?$/.exec(text)
  if (match === null || (match[1] === 'V' && !isDay)) return undefined
  return { lane: LANES[match[1]], isNull: match[1] === 'N', isVariable: match[1] === 'V' }
}

/**
 * Streams by the first letter of an NMI suffix, as AEMO's procedures name them from the grid's side: export leaves the
 * grid and is the customer's consumption, import comes to it. A D J P S are averages and C F L R U check meters: they
 * measure what the master stream does once more. [not verified beyond E, B, Q, K, V and T in AEMO's examples]
 */
const EXPORT = 'EDFQPRTSUHY'
const IMPORT = 'BACKJL'
const MASTER = 'BEKQTGHMV'

export function streamOfSuffix(suffix: string): { flow: FlowCode; isVoltage: boolean } | undefined {
  const letter = suffix.charAt(0).toUpperCase()
  if (letter === 'V') return { flow: Flow.delivered, isVoltage: true }
  if (letter === 'N') return { flow: Flow.net, isVoltage: false }
  if (letter !== '' && IMPORT.includes(letter)) return { flow: Flow.received, isVoltage: false }
  return letter !== '' && EXPORT.includes(letter) ? { flow: Flow.delivered, isVoltage: false } : undefined
}

/**
 * The meter of a stream. An NMI may have several meters, each with its own number in the suffix: E1 and E2 both are
 * consumption, and are added up where both are the account's. Number 1 is the meter of the NMI's own id, E2 is the meter
 * `NMI:2`; the streams of check meters and averages, which measure the same once more, are `NMI:C1`, `NMI:D1`. A
 * utility that knows the meters by other ids gives them these as aliases.
 */
export function meterOfStream(nmi: string, suffix: string): string {
  const letter = suffix.charAt(0).toUpperCase()
  const number = suffix.slice(1)
  if (letter !== '' && !MASTER.includes(letter) && /[A-Z]/.test(letter)) return `${nmi}:${suffix}`
  return number === '' || number === '1' ? nmi : `${nmi}:${number}`
}

/** Day number of `CCYYMMDD` at [from, to); undefined for anything else. */
export function dayOfDigits(bytes: Uint8Array, from: number, to: number): number | undefined {
  while (from < to && bytes[from] === 32) from++
  while (to > from && bytes[to - 1] === 32) to--
  if (to - from !== 8) return undefined
  let n = 0
  for (let p = from; p < to; p++) {
    if (bytes[p] < 48 || bytes[p] > 57) return undefined
    n = n * 10 + bytes[p] - 48
  }
  const year = Math.floor(n / 10_000)
  const month = Math.floor(n / 100) % 100
  const day = n % 100
  if (year === 0 || month < 1 || month > 12 || day < 1 || day > monthLength(year, month)) return undefined
  return dayOfCivil(year, month, day)
}
