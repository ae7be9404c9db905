import { readdirSync } from 'node:fs'
import type { Decoded } from '../../ingest/formats/format.js'
import { MISSING } from '../../engine/read-batch.js'

/** What the tests of the sample files share. */
export const samplesFolder = new URL('../../../shared/samples/', import.meta.url)

/** Files of a folder of the samples, as paths from there. */
export function sampleFiles(folder: string): string[] {
  return readdirSync(new URL(`${folder}/`, samplesFolder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.parentPath.slice(entry.parentPath.indexOf(`samples/${folder}`) + 'samples/'.length).replace(/\/$/, '')}/${entry.name}`)
    .sort()
}

/** Letter of the suffix that a quantity and flow had; NEM13 keeps the suffix itself as the register's label. */
const LETTERS: Readonly<Record<string, string>> = { '1|1': 'E', '1|2': 'B', '2|1': 'Q', '2|2': 'K', '7|1': 'V' }

/** Exact sums by NMI and suffix, in the quantity's unit, to 3 decimals. */
export function streamTotals(decoded: readonly Decoded[]): Map<string, string> {
  const nanos = new Map<string, bigint>()
  const add = (meter: string, letter: string, value: bigint): void => {
    const [nmi, number = '1'] = meter.split(':')
    const key = `${nmi} ${letter.length > 1 ? letter : `${letter}${number}`}`
    nanos.set(key, (nanos.get(key) ?? 0n) + value)
  }
  for (const { batch, registers } of decoded) {
    for (let b = 0; b < batch.count; b++) {
      let sum = 0n
      for (let i = batch.offset[b]; i < batch.offset[b] + batch.length[b]; i++) if (batch.values[i] !== MISSING) sum += BigInt(batch.values[i])
      add(batch.meters[b], LETTERS[`${batch.quantity[b]}|${batch.flow[b]}`], sum * 10n ** BigInt(9 + batch.exponent[b]))
    }
    for (let i = 0; i < registers.count; i++) {
      if (!Number.isNaN(registers.fromS[i])) add(registers.meters[i], registers.tou[i], BigInt(registers.mantissa[i]) * 10n ** BigInt(9 + registers.exponent[i]))
    }
  }
  return new Map([...nanos].map(([key, n]) => [key, (Number(n) / 1e9).toFixed(3)]))
}
