import { CsvRows } from './csv-rows.js'
import type { DecodeContext, Decoded, Format, FormatState } from './format.js'
import { Nem12Reader } from './nem12-reader.js'
import { ReadSink } from './sink.js'
import { plainBytes, textStart } from './text.js'

const LF = 10, CR = 13, QUOTE = 34

/**
 * NEM12 and NEM13, AEMO's Meter Data File Format 1.02 to 2.5, for interval and accumulated data of the Australian market.
 *
 * Sources: excerpts of the MDFF specification, AEMO's published examples, and the readers nem-reader (aguinane) and
 * jufemaiz/aemo. NEM time is UTC+10 all year: its days have no change of the clock.
 */
export const nem12: Format = {
  name: 'nem12',

  decode(part: Uint8Array, ctx: DecodeContext, state: FormatState | null, final: boolean): Decoded {
    const bytes = plainBytes(part)
    const sink = new ReadSink(ctx, state, 'line', bytes.length)
    const rows = new CsvRows(bytes)
    const reader = new Nem12Reader(rows, bytes, sink, ctx, state?.nem12 ?? null)
    let line = state?.lines ?? 0
    for (let p = state === null ? textStart(bytes) : 0; rows.split(p); p = rows.next) {
      reader.read(line + 1)
      line += rows.lines
    }
    reader.flush()
    return sink.finish(final, { bytes: (state?.bytes ?? 0) + bytes.length, lines: line, records: 0, nem12: reader.stream ?? undefined })
  },

  // The 400 and 500 records say more about the 300 before them: a part ends where another begins.
  cut(part: Uint8Array, limit: number): number {
    const bytes = plainBytes(part)
    if (bytes.subarray(0, limit).indexOf(QUOTE) >= 0) {
      // A quoted field may hold a line end: rows are told from the beginning.
      const rows = new CsvRows(bytes)
      let last = 0
      for (let p = 0; rows.split(p) && rows.next <= limit && rows.next < bytes.length - 2; p = rows.next) {
        if (beginsRecord(bytes, rows.next)) last = rows.next
      }
      return last
    }
    for (let p = Math.min(limit, bytes.length - 3); p > 0; p--) {
      const before = bytes[p - 1]
      if ((before === LF || (before === CR && bytes[p] !== LF)) && beginsRecord(bytes, p)) return p
    }
    return 0
  },
}

/** Whether 100, 200, 250, 300 or 900 stands at p. */
function beginsRecord(bytes: Uint8Array, p: number): boolean {
  const code = (bytes[p] - 48) * 100 + (bytes[p + 1] - 48) * 10 + bytes[p + 2] - 48
  return code === 100 || code === 200 || code === 250 || code === 300 || code === 900
}

/** Whether a body begins as NEM12 or NEM13 does: with a header or, where it is left out, with a meter's details. */
export function looksLikeNem12(text: string): boolean {
  return /^\s*(?:"?100"?,"?NEM1[23]\b|200,[^,\r\n]{1,12},(?:[^,\r\n]*,){5}[^,\r\n]*,\d{1,2},|250,[^,\r\n]{1,12},)/.test(text)
}
