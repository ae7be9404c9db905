import type { DecodeContext, Decoded, Format, FormatState } from './format.js'
import { CmepReader } from './cmep-reader.js'
import { CsvRows, cutRows } from './csv-rows.js'
import { LandisGyrReader } from './cmep-landis-gyr.js'
import { ReadSink } from './sink.js'
import { plainBytes, textStart } from './text.js'

const COMMA = 44, TILDE = 126

/**
 * CMEP, the California Metering Exchange Protocol 1.20 (2000-03-07), with the extensions of Sensus FlexNet RNI and
 * SmartSynch, and the `~`-separated records of Landis+Gyr Command Center. Lines that stand alone, in any mixture.
 *
 * Sources: the specification's text and Sensus's in craignicholson/cmepparser `recordformats/`; Oracle SGG's Landis+Gyr
 * adapter pages for the `~` form, of which no file of a real installation was seen.
 */
export const cmep: Format = {
  name: 'cmep',

  decode(part: Uint8Array, ctx: DecodeContext, state: FormatState | null, final: boolean): Decoded {
    const bytes = plainBytes(part)
    const sink = new ReadSink(ctx, state, 'line', bytes.length)
    const rows = new CsvRows(bytes, COMMA)
    const tildeRows = new CsvRows(bytes, TILDE)
    const reader = new CmepReader(rows, bytes, sink, ctx)
    const landisGyr = new LandisGyrReader(tildeRows, bytes, sink, ctx)
    let line = state?.lines ?? 0
    let p = state === null ? textStart(bytes) : 0
    while (p < bytes.length) {
      const isTilde = separatorOf(bytes, p) === TILDE
      const split = isTilde ? tildeRows : rows
      if (!split.split(p)) break
      if (isTilde) landisGyr.read(line + 1)
      else reader.read(line + 1)
      line += split.lines
      p = split.next
    }
    if (reader.zeroConstants > 0) {
      sink.notes.push(`${reader.zeroConstants} records have no calculation constant, or 0: it was taken as 1.`)
    }
    return sink.finish(final, { bytes: (state?.bytes ?? 0) + bytes.length, lines: line, records: 0 })
  },

  cut(bytes: Uint8Array, limit: number): number {
    return cutRows(plainBytes(bytes), limit)
  },
}

/** What ends the record type at p: its first byte that is neither a letter nor a digit. */
function separatorOf(bytes: Uint8Array, p: number): number | undefined {
  const limit = Math.min(bytes.length, p + 20)
  while (p < limit && (isWordByte(bytes[p]) || bytes[p] === 32)) p++
  return bytes[p]
}

function isWordByte(c: number): boolean {
  return (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122)
}

/** Whether a body begins as CMEP does: `MEPMD01,` and its kin. */
export function looksLikeCmep(text: string): boolean {
  return /^\s*"?(?:MEP[A-Z]{2}\d\d|MLA\d\d|EMED\d\d)"?\s*[,~]/.test(text)
}
