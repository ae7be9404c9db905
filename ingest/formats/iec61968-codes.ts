/** IEC 61968-9: the 18 numbers of a ReadingType, the qualities of readings and the kinds of end device events. */
import { Quantity, unitOf, type Unit } from '../../engine/quantity.js'
import { Flow, Quality, type FlowCode } from '../../engine/read-batch.js'
import { Accumulation, flowOfDirection, unitOfCode } from './cim-codes.js'
import type { DecodeContext } from './format.js'
import { ownText } from './xml-text.js'

export interface CimReadingType {
  flow: FlowCode
  unit: Unit
  /** Seconds; 0: not stated. */
  intervalS: number
  /** Its values are read at an instant: those of counters, and of indications such as volts. */
  isRegister: boolean
  tou: string
  /** Why its reads are not kept. */
  fault?: { code: string, message: string }
}

const AT_INSTANTS = new Set<number>([
  Accumulation.bulkQuantity, Accumulation.cumulative, Accumulation.indicating, Accumulation.summation, Accumulation.instantaneous,
])
/** Seconds of macroPeriod: 11 daily; the others have no fixed length. */
const MACRO: Readonly<Record<number, number>> = { 11: 86_400, 24: 7 * 86_400 }
/** Seconds of measuringPeriod; 50 to 56 are the fixed blocks of demand. */
const MEASURING: Readonly<Record<number, number>> = {
  1: 600, 2: 900, 3: 60, 4: 86_400, 5: 1800, 6: 300, 7: 3600, 10: 120, 14: 180, 31: 1200,
  50: 3600, 51: 1800, 52: 1200, 53: 900, 54: 600, 55: 300, 56: 60,
}

/**
 * What a ReadingType says: macroPeriod, aggregate, measuringPeriod, accumulation, flowDirection, commodity,
 * measurementKind, interharmonic (2), argument (2), tou, cpp, consumptionTier, phases, multiplier, unit, currency.
 *
 * @returns null where the text is none, and the source has no unit to go by
 */
export function readingTypeOf(text: string, ctx: DecodeContext): CimReadingType | null {
  const plain: CimReadingType = { flow: Flow.delivered, unit: { quantity: Quantity.energy, shift: 0 }, intervalS: 0, isRegister: false, tou: '' }
  if (!/^\d{1,4}(?:\.-?\d{1,4}){17}$/.test(text)) {
    const unit = text === '' ? unitOf(ctx.defaultUnit ?? '') : undefined
    return unit === undefined ? null : { ...plain, unit }
  }
  const codes = text.split('.').map(Number)
  const [macro, aggregate, measuring, accumulation, direction] = codes
  const [tou, cpp, tier, phases, multiplier, code] = codes.slice(11)
  const unit = unitOfCode(code)
  const flow = flowOfDirection(direction)
  const fault = (name: string, message: string): CimReadingType => ({ ...plain, fault: { code: name, message } })
  if (unit === undefined) return fault('unit-unsupported', `The unit ${code} of the ReadingType is not known.`)
  if (flow === undefined) {
    return fault('flow-unsupported', `The flowDirection ${direction} is neither delivered, received nor net.`)
  }
  const isRegister = AT_INSTANTS.has(accumulation) || (accumulation === 0 && unit.quantity === Quantity.energy)
  const labels = [tou > 0 ? `tou${tou}` : '', cpp > 0 ? `cpp${cpp}` : '', tier > 0 ? `tier${tier}` : '',
    // Phases together are the total; one by itself is a part of it.
    phases > 0 && phases !== 224 ? `phase${phases}` : '', aggregate > 0 && aggregate !== 26 ? `aggregate${aggregate}` : '']
  const label = labels.filter(part => part !== '').join(' ')
  if (label !== '' && !isRegister && unit.quantity === Quantity.energy) {
    return fault('bucket-unsupported', 'The reads are of one tier, time of use or phase, a part of the total.')
  }
  return {
    flow, unit: { quantity: unit.quantity, shift: unit.shift - multiplier }, isRegister, tou: label,
    intervalS: MEASURING[measuring] ?? MACRO[macro] ?? 0,
  }
}

/**
 * Quality of a ReadingQualityType, `system.category.index`. Seen in real messages: 1.0.0 valid, 1.4.x short and long
 * intervals, 1.5.257 invalid, 3.7.x manual, 3.8.8 estimated, 5.4.260 a record number that is no defect.
 *
 * @returns -1 where it says nothing of the value
 */
export function qualityOfCim(ref: string): number {
  const match = /^\s*(\d+)\.(\d+)\.(\d+)\s*$/.exec(ref)
  if (match === null) return Quality.questionable
  const [, system, category, index] = match.map(Number)
  switch (category) {
    case 0:
      return system === 3 ? Quality.validated : Quality.actual
    case 1:
    case 2:
      return -1
    case 4:
      return system === 5 && index === 260 ? -1 : Quality.questionable
    case 6:
    case 3:
    case 5:
    case 10:
      return Quality.questionable
    case 7:
      return Quality.edited
    case 8:
    case 11:
    case 12:
      return Quality.estimated
    default:
      return Quality.questionable
  }
}

/** Qualities of a message: it has a few, in every read. */
export class CimQualities {
  readonly #known = new Map<string, number>()

  /** {@link qualityOfCim} */
  of(ref: string): number {
    let quality = this.#known.get(ref)
    if (quality === undefined) {
      quality = qualityOfCim(ref)
      if (this.#known.size < 1000) this.#known.set(ownText(ref), quality)
    }
    return quality
  }
}

/** Kinds by the words of a status, in any spelling. */
const KINDS: readonly [RegExp, string][] = [
  [/power.?(?:fail|down|off|loss|out)|outage|last.?gasp/i, 'power-down'],
  [/power.?(?:restor|up|on|return)|restor/i, 'power-up'],
  [/cover|case.?open/i, 'cover-open'], [/tamper/i, 'tamper'], [/revers/i, 'reverse-flow'], [/batter/i, 'low-battery'],
  [/clock|time.?(?:change|adjust)/i, 'clock-change'],
]
/** Kinds by EndDeviceEventType `type.domain.subdomain.eventOrAction`: domain 26 is power; 85 failed, 185 power down, 216 restored. */
const EVENTS: Readonly<Record<string, string>> = { 85: 'power-down', 185: 'power-down', 216: 'power-up', 186: 'power-up' }

/** Kind of a meter event: one that has a meaning here, or the head-end's own word; '' where it says none. */
export function kindOfEvent(status: string, category: string): string {
  for (const [pattern, kind] of KINDS) if (pattern.test(status)) return kind
  const code = /^\d+\.(\d+)\.\d+\.(\d+)$/.exec(category)
  if (code?.[1] === '26' && Object.hasOwn(EVENTS, code[2])) return EVENTS[code[2]]
  const word = status !== '' ? status : category
  return word.toLowerCase().replace(/[^a-z0-9.]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 60)
}
