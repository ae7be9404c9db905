import { Quantity, unitOfQuantity } from '../../engine/quantity.js'
import { flowNames, MISSING, qualityName } from '../../engine/read-batch.js'
import type { RegisterFacts } from './register-sink.js'
import type { RecordFacts, RecordValues } from './sink.js'
import { exactDecimal } from './number-text.js'
import { P10 } from './decimal.js'
import { utcText } from './timestamps.js'

/**
 * A record as a block of the contract's JSON (§4), in the quantity's unit: what a replay from quarantine decodes again.
 *
 * @param start RFC 3339, or local time where the record has that
 */
export function recordText(
  facts: Pick<RecordFacts, 'meter' | 'flow' | 'quantity' | 'intervalS' | 'lane' | 'version'>, start: string,
  values: Pick<RecordValues, 'pieces' | 'count' | 'lanes'>,
): string {
  const numbers: (number | null)[] = Array.from({ length: values.count }, (_, i) => {
    for (const { mantissas, decimals } of values.pieces) {
      // A division of exact integers gives the double nearest to the decimal, which prints as that decimal.
      if (mantissas[i] !== MISSING) return decimals < 0 ? mantissas[i] * P10[-decimals] : mantissas[i] / P10[decimals]
    }
    return null
  })
  return blockText(facts, start, numbers, values.lanes)
}

/** A record with values that may be any number: also those that no exponent holds. */
export function blockText(
  facts: Pick<RecordFacts, 'meter' | 'flow' | 'quantity' | 'intervalS' | 'lane' | 'version'>, start: string,
  values: readonly (number | null)[], lanes: readonly number[] | null = null,
): string {
  return JSON.stringify({
    meter: facts.meter,
    start,
    ...(facts.intervalS > 0 ? { intervalSeconds: facts.intervalS } : {}),
    values,
    // Always stated: a replay must not take it for the source's unit.
    unit: unitOfQuantity(facts.quantity ?? Quantity.energy),
    flow: flowNames[facts.flow],
    quality: lanes === null ? qualityName(facts.lane) : lanes.map(qualityName),
    ...(facts.version > 0 ? { capturedAt: versionText(facts.version) } : {}),
  })
}

/** RFC 3339 text, in UTC, of microseconds since the epoch. */
function versionText(micros: number): string {
  const s = Math.floor(micros / 1e6)
  const fraction = micros - s * 1e6
  return fraction === 0 ? utcText(s) : `${utcText(s).slice(0, -1)}.${String(fraction).padStart(6, '0')}Z`
}

/** A register's read as a record of the contract's JSON (§4), for a replay from quarantine. */
export function registerText(facts: RegisterFacts, start: string, text: string, shift: number): string | undefined {
  const value = exactDecimal(text, shift, true)
  if (value === undefined) return undefined
  return JSON.stringify({
    meter: facts.meter, kind: 'register', start, value: value.mantissa / 10 ** value.decimals,
    unit: unitOfQuantity(facts.quantity ?? Quantity.energy), flow: flowNames[facts.flow], quality: qualityName(facts.lane),
    ...(facts.tou === undefined || facts.tou === '' ? {} : { tou: facts.tou }),
    ...(facts.version > 0 ? { capturedAt: versionText(facts.version) } : {}),
  })
}
