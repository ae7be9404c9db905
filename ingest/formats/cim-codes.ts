/**
 * Code lists that ESPI (NAESB REQ.21, espi.xsd 4.0) and IEC 61968-9 (ReadingType of 18 parts) have in common: units,
 * directions of flow, accumulation, and what a reading's quality amounts to.
 */
import { Flow, Quality, type FlowCode } from '../../engine/read-batch.js'

/** What a unit code measures: a quantity in its usual unit, and the decimals that the code's base unit adds to it. */
export interface Measure {
  /** Unit in which the quantity is kept. */
  readonly unit: string
  /** 3 where the code's base unit is a thousandth of it: Wh of kWh. */
  readonly shift: number
}

export const ENERGY: Measure = { unit: 'kWh', shift: 3 }

const MEASURES: ReadonlyMap<number, Measure> = new Map([
  [72, ENERGY], [73, { unit: 'kVArh', shift: 3 }], [71, { unit: 'kVAh', shift: 3 }], [38, { unit: 'kW', shift: 3 }],
  [63, { unit: 'kVAr', shift: 3 }], [61, { unit: 'kVA', shift: 3 }], [29, { unit: 'V', shift: 0 }],
  [5, { unit: 'A', shift: 0 }], [33, { unit: 'Hz', shift: 0 }], [65, { unit: 'cos', shift: 0 }],
  [42, { unit: 'm3', shift: 0 }], [119, { unit: 'ft3', shift: 0 }], [128, { unit: 'gal', shift: 0 }],
  [134, { unit: 'l', shift: 0 }], [169, { unit: 'therm', shift: 0 }], [132, { unit: 'BTU', shift: 0 }],
  [31, { unit: 'J', shift: 0 }], [23, { unit: 'degC', shift: 0 }], [6, { unit: 'K', shift: 0 }],
  [111, { unit: 'count', shift: 0 }], [80, { unit: 'money', shift: 0 }],
])

/** Quantity of a unit code; undefined for one that is not known, and for 0: none. */
export function measureOf(code: number): Measure | undefined {
  return MEASURES.get(code)
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

/** Accumulations whose values are counters: bulkQuantity, cumulative, summation. */
export const Accumulation = { bulkQuantity: 1, cumulative: 3, deltaData: 4, summation: 9 } as const

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
