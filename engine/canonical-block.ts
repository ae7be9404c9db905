import { unitOfQuantity } from './quantity.js'
import { flowNames, MISSING, qualityName, type FlowCode, type ReadBatch } from './read-batch.js'

/**
 * Some slots of a batch's block as a JSON block of the contract (§4): the form in which quarantine keeps what could be
 * decoded, so that a replay needs neither the original format nor its settings. Values keep every digit.
 */
export function canonicalBlock(batch: ReadBatch, b: number, offset: number, count: number): string {
  let from = offset
  let to = offset + count
  while (from < to && batch.values[from] === MISSING) from++
  while (to > from && batch.values[to - 1] === MISSING) to--
  const interval = batch.intervalS[b]
  // Days differ in length: a block of daily reads keeps its own start, with nulls before the slots asked for.
  const wanted = from
  if (interval === 86_400) from = batch.offset[b]
  const startS = batch.startS[b] + (from - batch.offset[b]) * interval
  const values: string[] = []
  for (let i = from; i < to; i++) values.push(i < wanted ? 'null' : decimalText(batch.values[i], batch.exponent[b]))
  const head: Record<string, unknown> = {
    meter: batch.meters[b], start: new Date(startS * 1000).toISOString(), intervalSeconds: interval,
  }
  const tail: Record<string, unknown> = { unit: unitOfQuantity(batch.quantity[b]), flow: flowNames[batch.flow[b] as FlowCode] }
  const quality = qualities(batch, b, from, to)
  if (quality !== 'actual') tail.quality = quality
  if (batch.version[b] > 0) tail.capturedAt = versionText(batch.version[b])
  return `${JSON.stringify(head).slice(0, -1)},"values":[${values.join(',')}],${JSON.stringify(tail).slice(1)}`
}

function qualities(batch: ReadBatch, b: number, from: number, to: number): string | string[] {
  if (batch.lanes === null) return qualityName(batch.lane[b])
  const words: string[] = []
  for (let i = from; i < to; i++) words.push(qualityName(batch.lanes[i]))
  return words.every((w) => w === words[0]) ? words[0] ?? 'actual' : words
}

/** A version in microseconds as RFC 3339 with microseconds. */
export function versionText(us: number): string {
  const iso = new Date(Math.floor(us / 1000)).toISOString()
  const micros = String(us % 1000).padStart(3, '0')
  return `${iso.slice(0, -1)}${micros}Z`
}

/** mantissa x 10^exponent as exact decimal text; `null` for MISSING. */
export function decimalText(mantissa: number, exponent: number): string {
  if (mantissa === MISSING) return 'null'
  if (exponent >= 0) return String(mantissa * 10 ** exponent)
  const digits = String(Math.abs(mantissa)).padStart(1 - exponent, '0')
  const whole = digits.slice(0, exponent)
  const fraction = digits.slice(exponent).replace(/0+$/, '')
  return `${mantissa < 0 ? '-' : ''}${whole}${fraction === '' ? '' : `.${fraction}`}`
}
