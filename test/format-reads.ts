/** What the tests of the formats share. */
import { quantityName } from '../engine/quantity.js'
import { MISSING, type ReadBatch } from '../engine/read-batch.js'
import type { RegisterBatch } from '../engine/register-batch.js'
import type { DecodeContext, Decoded, Format, FormatState } from '../ingest/formats/format.js'

export interface FlatRead {
  meter: string
  startS: number
  intervalS: number
  flow: number
  lane: number
  version: number
  mantissa: number
  exponent: number
  kwh: number
  place: number
}

/** The reads of a batch, one by one, in the batch's order. */
export function readsOf(batch: ReadBatch): FlatRead[] {
  const reads: FlatRead[] = []
  for (let b = 0; b < batch.count; b++) {
    for (let i = 0; i < batch.length[b]; i++) {
      const mantissa = batch.values[batch.offset[b] + i]
      if (mantissa === MISSING) continue
      const exponent = batch.exponent[b]
      reads.push({
        meter: batch.meters[b], startS: batch.startS[b] + i * batch.intervalS[b], intervalS: batch.intervalS[b],
        flow: batch.flow[b], lane: batch.lanes === null ? batch.lane[b] : batch.lanes[batch.offset[b] + i],
        version: batch.version[b], mantissa, exponent,
        kwh: exponent > 0 ? mantissa * 10 ** exponent : mantissa / 10 ** -exponent, place: batch.place[b],
      })
    }
  }
  return reads
}

/** The reads without what depends on how they were gathered, in an order of their own: for comparisons. */
export function normalReads(batch: ReadBatch): string[] {
  return readsOf(batch)
    .map(read => [read.meter, read.flow, read.intervalS, read.startS, read.lane, read.version, read.kwh].join(' '))
    .sort()
}

/** Sum in kWh as text, exact to 3 decimals or as many as the finest read has. */
export function exactTotal(reads: readonly FlatRead[]): string {
  const finest = Math.max(3, ...new Set(reads.map(read => -read.exponent)))
  let sum = 0n
  for (const read of reads) sum += BigInt(read.mantissa) * 10n ** BigInt(finest + read.exponent)
  const digits = String(sum < 0n ? -sum : sum).padStart(finest + 1, '0')
  return `${sum < 0n ? '-' : ''}${digits.slice(0, -finest)}.${digits.slice(-finest)}`
}

/** Registers as they were read: meter, quantity, flow, label, instant, exact value. */
export function registersOf(r: RegisterBatch): [string, string, number, string, string, string][] {
  return Array.from({ length: r.count }, (_, i) => [
    r.meters[i], quantityName(r.quantity[i]), r.flow[i], r.tou[i], new Date(r.atS[i] * 1000).toISOString().slice(0, 16),
    String(r.mantissa[i] / 10 ** -r.exponent[i]),
  ])
}

/** Reads, registers, events and problems: what the receipt's `received` will be. */
export function received(
  { batch, problems, registers, events }: Pick<Decoded, 'batch' | 'problems'> & Partial<Pick<Decoded, 'registers' | 'events'>>,
): number {
  return readsOf(batch).length + (registers?.count ?? 0) + (events?.length ?? 0) + problems.reduce((n, problem) => n + problem.reads, 0)
}

/** Decodes a body in parts of at most `limit` bytes (more where one record is longer). */
export function decodeInParts(format: Format, bytes: Uint8Array, ctx: DecodeContext, limit: number): Decoded[] {
  const parts: Decoded[] = []
  let state: FormatState | null = null
  let from = 0
  for (;;) {
    const rest = bytes.subarray(from)
    let cut = 0
    for (let n = limit; n < rest.length && cut === 0; n += limit) cut = format.cut(rest, n, state)
    const final = cut === 0
    // What a part hands on must survive the way to another thread.
    const part: Decoded = format.decode(final ? rest : rest.subarray(0, cut), ctx, structuredClone(state), final)
    parts.push(part)
    if (final) return parts
    state = part.state
    from += cut
  }
}

/** Bytes of a text. */
export function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

/** Sum of registers or periods, exact, as text with 3 decimals. */
export function registerTotal({ count, mantissa, exponent }: RegisterBatch): string {
  let sum = 0n
  for (let i = 0; i < count; i++) sum += BigInt(mantissa[i]) * 10n ** BigInt(9 + exponent[i])
  return `${sum / 10n ** 9n}.${String(sum % 10n ** 9n / 10n ** 6n).padStart(3, '0')}`
}
