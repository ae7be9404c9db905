import type { DecodeContext, Decoded, Format, FormatState } from './format.js'
import { JsonBody } from './json-body.js'
import type { RecordPlace } from './json-record.js'
import { skipSpace } from './json-scan.js'
import { plainBytes, textStart } from './text.js'

const LF = 10

/** One block or single read per line. A line that cannot be read is one problem; the others go on. */
export const ndjson: Format = {
  name: 'ndjson',

  decode(part: Uint8Array, ctx: DecodeContext, state: FormatState | null, final: boolean): Decoded {
    const bytes = plainBytes(part)
    const body = new JsonBody(bytes, ctx, state, 'line')
    const where: RecordPlace = { place: state?.lines ?? 0, rawFrom: 0, rawTo: 0 }
    const end = bytes.length
    let records = state?.records ?? 0
    let p = state === null ? textStart(bytes) : 0
    while (p < end) {
      const newline = bytes.indexOf(LF, p)
      const lineEnd = newline < 0 ? end : newline
      where.place++
      const from = Math.min(skipSpace(bytes, p), lineEnd)
      if (from < lineEnd) {
        let to = lineEnd
        while (isSpace(bytes[to - 1])) to--
        where.rawFrom = from
        where.rawTo = to
        records++
        // JSON's white space takes in line ends: a cut-off line must not be read together with the next.
        if (body.read(from, to) === to) {
          body.deliver(where)
        } else {
          const error = body.slow(where)
          if (error !== null) body.sink.problem(where, 'malformed-json', `The line is no JSON: ${jsonFault(error)}`)
        }
      }
      p = lineEnd + 1
    }
    return body.sink.finish(final, { bytes: (state?.bytes ?? 0) + end, lines: where.place, records })
  },

  cut(bytes: Uint8Array, limit: number): number {
    return bytes.subarray(0, limit).lastIndexOf(LF) + 1
  },
}

function isSpace(c: number): boolean {
  return c === 32 || c === 9 || c === 13
}

/** What JSON.parse found wrong, without the piece of the body that it may quote. */
export function jsonFault(error: SyntaxError): string {
  const position = /position (\d+)/.exec(error.message)?.[1]
  if (position === undefined) return 'it ends too early.'
  return `it goes wrong at character ${position}.`
}
