import { BodyError } from '../../engine/problem.js'
import { getZone } from '../../engine/time/zone.js'
import { headerNames } from './csv.js'
import { CsvRows } from './csv-rows.js'
import type { DecodeContext, Decoded, FormatState } from './format.js'
import { MappedLong } from './mapped-long.js'
import { MappedWide } from './mapped-wide.js'
import type { CsvMapping } from './mapping.js'
import { ReadSink } from './sink.js'
import { textStart } from './text.js'

/**
 * Decodes a CSV file by a mapping.
 *
 * @param bytes a body, or a part of one that begins with a row
 * @throws BodyError when the file has not the columns that the mapping names
 */
export function decodeMapped(
  bytes: Uint8Array, ctx: DecodeContext, mapping: CsvMapping, state: FormatState | null, final: boolean,
): Decoded {
  const zoned: DecodeContext = mapping.zone === undefined ? ctx : { ...ctx, zone: getZone(mapping.zone) }
  const rows = new CsvRows(bytes, mapping.delimiter.charCodeAt(0))
  const sink = new ReadSink(zoned, state, 'line', bytes.length)
  let line = state?.lines ?? 0
  let p = state === null ? textStart(bytes) : 0
  let names = state?.header
  if (names === undefined) {
    const { headerLine } = mapping
    for (; rows.split(p) && headerLine !== null && !isHeader(rows, headerLine, line); p = rows.next) line += rows.lines
    if (!rows.split(p)) {
      throw new BodyError(400, 'empty-body', 'The file ends before its header row.', `line ${line + 1}`)
    }
    if (headerLine === null) {
      names = Array.from({ length: rows.count }, (_, i) => String(i + 1))
    } else {
      line += rows.lines
      if (rows.fault !== null) throw new BodyError(400, rows.fault, 'The header row cannot be read.', `line ${line}`)
      names = headerNames(rows, line)
      p = rows.next
    }
  }
  const long = mapping.layout === 'long' ? new MappedLong(rows, bytes, sink, mapping, names, zoned) : null
  const reader = long ?? new MappedWide(rows, bytes, sink, mapping, names, zoned)
  const fast = long?.fast(names) ?? null
  for (;;) {
    const next = fast === null || p >= bytes.length ? -1 : fast.read(p, line + 1)
    if (next > 0) {
      line++
      p = next
      continue
    }
    if (!rows.split(p)) break
    p = rows.next
    reader.read(line + 1)
    line += rows.lines
  }
  return sink.finish(final, { bytes: (state?.bytes ?? 0) + bytes.length, lines: line, records: 0, header: names })
}

/** @param line lines before the row that was split last */
function isHeader(rows: CsvRows, headerLine: number | string, line: number): boolean {
  if (typeof headerLine === 'number') return line + rows.lines >= headerLine
  if (rows.fault !== null) return false
  rows.trim(0)
  return rows.text(0) === headerLine
}
