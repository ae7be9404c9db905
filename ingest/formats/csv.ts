import { BodyError } from '../../engine/problem.js'
import { CsvDecoder } from './csv-decoder.js'
import { deriveInterval, guessInterval, Spacings } from './csv-interval.js'
import { cutRows, CsvRows } from './csv-rows.js'
import type { DecodeContext, Decoded, Format, FormatState } from './format.js'
import { decodeMapped } from './mapped-csv.js'
import { plainBytes, textStart } from './text.js'
import { TimeReader } from './timestamps.js'
import { show } from './words.js'

/** What a column of the plain CSV holds. */
export type CsvRole =
  'meter' | 'start' | 'end' | 'value' | 'unit' | 'flow' | 'quality' | 'intervalSeconds' | 'capturedAt' | 'kind' | 'tou'

const ROLES: ReadonlyMap<string, CsvRole> = new Map<string, CsvRole>([
  ['meter', 'meter'], ['start', 'start'], ['end', 'end'], ['value', 'value'], ['unit', 'unit'], ['flow', 'flow'],
  ['quality', 'quality'], ['intervalseconds', 'intervalSeconds'], ['interval', 'intervalSeconds'],
  ['capturedat', 'capturedAt'], ['kind', 'kind'], ['tou', 'tou'],
])

const COLUMNS = 'Columns: meter, start or end, value; and optionally unit, flow, quality, intervalSeconds, kind, tou, '
  + 'capturedAt. '
  + 'A file with other columns needs a mapping.'

/** A header row, then a read per row; with a mapping in the context, the CSV files of the real world. */
export const csv: Format = {
  name: 'csv',

  decode(part: Uint8Array, ctx: DecodeContext, state: FormatState | null, final: boolean): Decoded {
    const bytes = plainBytes(part)
    if (ctx.mapping !== undefined) return decodeMapped(bytes, ctx, ctx.mapping, state, final)
    const from = state === null ? textStart(bytes) : 0
    const header = readHeader(bytes, from, state)
    return decodePlain(bytes, ctx, state, header, final)
  },

  cut(bytes: Uint8Array, limit: number): number {
    return cutRows(plainBytes(bytes), limit)
  },
}

/** Decodes the rows; where nothing states the interval length, by a guess that is dropped where the reads speak against it. */
function decodePlain(
  bytes: Uint8Array, ctx: DecodeContext, state: FormatState | null, { names, next, line }: Header, final: boolean,
): Decoded {
  const roles = rolesOf(names)
  const decode = (derivedIntervalS: number | undefined, spacings?: Spacings): Decoded =>
    new CsvDecoder(bytes, ctx, state, names, roles, derivedIntervalS, spacings).decode(next, line, final)
  const isTold = state !== null || (ctx.defaultIntervalS ?? 0) !== 0 || roles.includes('intervalSeconds')
    || (roles.includes('start') && roles.includes('end'))
  if (isTold) return decode(state?.derivedIntervalS)
  const rows = new CsvRows(bytes)
  const time = new TimeReader()
  const columns = {
    meter: roles.indexOf('meter'), flow: roles.indexOf('flow'), time: roles.indexOf(roles.includes('start') ? 'start' : 'end'),
  }
  const guess = guessInterval(rows, bytes, next, columns, time)
  const spacings = new Spacings(guess ?? 0)
  const decoded = guess === undefined ? undefined : attempt(() => decode(guess, spacings))
  if (decoded !== undefined && spacings.holds()) return decoded
  const derived = deriveInterval(rows, bytes, next, columns, time)
  return decoded !== undefined && derived === guess ? decoded : decode(derived)
}

/** Undefined where the body is refused. */
function attempt<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    if (error instanceof BodyError) return undefined
    throw error
  }
}

interface Header {
  names: string[]
  /** Where the first row begins, and the number of the header's last line. */
  next: number
  line: number
}

function readHeader(bytes: Uint8Array, from: number, state: FormatState | null): Header {
  if (state?.header !== undefined) return { names: state.header, next: 0, line: state.lines }
  const rows = new CsvRows(bytes)
  let line = 0
  for (let p = from; rows.split(p); p = rows.next) {
    line += rows.lines
    if (rows.fault !== null) throw new BodyError(400, rows.fault, 'The header row cannot be read.', `line ${line}`)
    if (rows.isBlank) continue
    return { names: headerNames(rows, line), next: rows.next, line }
  }
  throw new BodyError(400, 'empty-body', 'The file has no header row.', 'line 1', COLUMNS)
}

/**
 * Names in the header row, without the spaces about them.
 *
 * @throws BodyError 400 where they are not UTF-8
 */
export function headerNames(rows: CsvRows, line: number): string[] {
  return Array.from({ length: rows.count }, (_, i) => {
    rows.trim(i)
    const name = rows.text(i)
    if (name === null) throw new BodyError(400, 'invalid-utf8', 'The header row is not UTF-8.', `line ${line}`)
    return name
  })
}

function rolesOf(names: readonly string[]): CsvRole[] {
  const roles: CsvRole[] = []
  for (const name of names) {
    const role = ROLES.get(name.toLowerCase())
    if (role === undefined) {
      throw new BodyError(422, 'unknown-column', `The file has a column ${show(name)} that is not known.`, 'line 1',
        COLUMNS)
    }
    if (roles.includes(role)) {
      throw new BodyError(422, 'duplicate-column', `The file has two columns for ${role}.`, 'line 1')
    }
    roles.push(role)
  }
  for (const role of ['meter', 'value'] as const) {
    if (!roles.includes(role)) {
      throw new BodyError(422, 'missing-column', `The file has no column ${role}.`, 'line 1', COLUMNS)
    }
  }
  if (!roles.includes('start') && !roles.includes('end')) {
    throw new BodyError(422, 'missing-column', 'The file has neither a column start nor a column end.', 'line 1',
      COLUMNS)
  }
  return roles
}
