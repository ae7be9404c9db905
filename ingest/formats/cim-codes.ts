/**
 * Code lists that ESPI (NAESB REQ.21, espi.xsd 4.0) and IEC 61968-9 (ReadingType of 18 parts) have in common: units,
 * directions of flow, accumulation, and what a reading's quality amounts to.
 */
import { Quantity, type Unit } from '../../engine/quantity.js'
import { Flow, Quality, type FlowCode } from '../../engine/read-batch.js'

const UNITS: ReadonlyMap<number, Unit> = new Map(([
  [72, 'energy', 3], [73, 'reactive-energy', 3], [71, 'apparent-energy', 3], [38, 'power', 3], [63, 'reactive-power', 3],
  [61, 'apparent-power', 3], [29, 'voltage', 0], [5, 'current', 0], [33, 'frequency', 0], [65, 'power-factor', 0],
  [42, 'volume-m3', 0], [134, 'volume-m3', 3], [119, 'volume-ft3', 0], [128, 'volume-gal', 0], [169, 'heat-therm', 0],
  [132, 'heat-btu', 0], [31, 'heat-joule', 0], [23, 'temperature', 0], [111, 'count', 0],
] as const).map(([code, name, shift]): [number, Unit] => [code, { quantity: Quantity[name], shift }]))

/** Quantity of a unit code, and the decimals that the code's base unit adds; undefined for one that is not known. */
export function unitOfCode(code: number): Unit | undefined {
  return UNITS.get(code)
}

/** Flow of a flowDirection: 0 (none) is what meters that only deliver write; undefined for total and the quadrants. */
export function flowOfDirection(code: number): FlowCode | undefined {
  switch (code) {
    case 0:
    case 1:
      return Flow.delivered
    case 19:
      return Flow.received
    case 4:
      return Flow.net
    default:
      return undefined
  }
}

/** Accumulations: bulkQuantity, cumulative and summation are counters, deltaData intervals. */
export const Accumulation = {
  bulkQuantity: 1, cumulative: 3, deltaData: 4, indicating: 6, summation: 9, instantaneous: 12,
} as const

/** Worst first: an estimate gives way to any actual read. */
const WORST = [Quality.estimated, Quality.questionable, Quality.edited, Quality.actual, Quality.validated]

/** The worse of two lanes' qualities; -1 stands for none. */
export function worseQuality(a: number, b: number): number {
  if (a < 0) return b
  if (b < 0) return a
  for (const quality of WORST) if (a === quality || b === quality) return quality
  return a
}

/** Quality of an ESPI QualityOfReading; a code that is not known counts as questionable. */
export function qualityOfEspi(code: number): number {
  switch (code) {
    case 14:
      return Quality.actual
    case 0:
    case 17:
    case 18:
    case 19:
      return Quality.validated
    case 7:
      return Quality.edited
    case 8:
    case 9:
    case 11:
    case 12:
    case 15:
      return Quality.estimated
    default:
      return Quality.questionable
  }
}
