import { parse as parseCsv } from 'csv-parse/sync'
import { BodyError, type Problem } from '../problem.js'

/** A record as the body had it: its place, and its value or why it cannot be read. */
export type RawRecord = { place: string; value: unknown; problem?: undefined } | { place: string; problem: Problem }

export type RegistryKind = 'accounts' | 'meters'

type BodyFormat = 'json' | 'ndjson' | 'csv'

/**
 * The records of a registry body or file. JSON: an array, or an object whose only member is named like the kind. NDJSON:
 * one record per line. CSV: a header row with the members' names; an empty cell leaves the member unchanged, the word
 * `null` clears it; lists are separated by semicolons; `groups.substation` is a member of groups, `rate` and `rate.from`
 * make the rate.
 * @param type content type of the request, or the name of the file
 * @throws BodyError 400 for a body that cannot be read at all, 415 for another type
 */
export function parseRegistryBody(kind: RegistryKind, type: string, bytes: Buffer): RawRecord[] {
  const format = formatOf(type)
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new BodyError(400, 'malformed-body', 'The body is not UTF-8 text.')
  }
  if (format === 'json') return fromJson(kind, text)
  return format === 'ndjson' ? fromLines(text) : fromCsv(kind, text)
}

/** True where parseRegistryBody knows the content type or file name. */
export function isRegistryType(type: string): boolean {
  return guessFormat(type) !== undefined
}

function guessFormat(type: string): BodyFormat | undefined {
  const bare = type.split(';')[0].trim().toLowerCase()
  if (bare === 'application/json' || bare.endsWith('.json')) return 'json'
  if (bare === 'application/x-ndjson' || bare === 'application/ndjson' || bare.endsWith('.ndjson') || bare.endsWith('.jsonl')) return 'ndjson'
  return bare === 'text/csv' || bare.endsWith('.csv') ? 'csv' : undefined
}

function formatOf(type: string): BodyFormat {
  const format = guessFormat(type)
  if (format !== undefined) return format
  throw new BodyError(415, 'unsupported-media-type', 'Registry records come as JSON, NDJSON or CSV.', undefined,
    'Send application/json, application/x-ndjson or text/csv.')
}

function fromJson(kind: RegistryKind, text: string): RawRecord[] {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch (err) {
    throw new BodyError(400, 'malformed-json', `The body is not JSON: ${messageOf(err)}`)
  }
  if (typeof body === 'object' && body !== null && !Array.isArray(body) && Object.keys(body).length === 1 && kind in body) {
    body = (body as Record<string, unknown>)[kind]
  }
  if (!Array.isArray(body)) {
    throw new BodyError(422, 'invalid-request', `The body is an array of ${kind}.`, '', 'One record alone: PUT it to its own address.')
  }
  return body.map((value: unknown, i) => ({ place: `record ${i + 1}`, value }))
}

function fromLines(text: string): RawRecord[] {
  const records: RawRecord[] = []
  const lines = text.split('\n')
  for (let i = 0; i < lines.length; i++) {
    if (lines[i].trim() === '') continue
    const place = `line ${i + 1}`
    try {
      records.push({ place, value: JSON.parse(lines[i]) })
    } catch (err) {
      records.push({ place, problem: { code: 'malformed-record', at: place, message: `The line is not JSON: ${messageOf(err)}` } })
    }
  }
  return records
}

interface CsvRow {
  record: string[]
  info: { lines: number }
}

function fromCsv(kind: RegistryKind, text: string): RawRecord[] {
  let rows: CsvRow[]
  try {
    rows = parseCsv(text, {
      bom: true, info: true, relaxColumnCount: true, skipEmptyLines: true, trim: true, delimiter: [',', ';', '\t'].find((d) => header(text).includes(d)) ?? ',',
    }) as unknown as CsvRow[]
  } catch (err) {
    throw new BodyError(400, 'malformed-csv', `The body is not CSV: ${messageOf(err)}`)
  }
  if (rows.length === 0) throw new BodyError(400, 'malformed-csv', 'The first row names the columns; there is none.')
  const columns = rows[0].record.map((name) => columnOf(kind, name))
  return rows.slice(1).map(({ record, info }): RawRecord => {
    const place = `line ${info.lines}`
    if (record.length !== columns.length) {
      const message = `The row has ${record.length} cells, the header ${columns.length}.`
      return { place, problem: { code: 'malformed-record', at: place, message } }
    }
    const value: Record<string, unknown> = {}
    for (let i = 0; i < columns.length; i++) if (record[i] !== '') columns[i](value, record[i])
    return { place, value }
  })
}

function header(text: string): string {
  const end = text.indexOf('\n')
  return end < 0 ? text : text.slice(0, end)
}

type Column = (value: Record<string, unknown>, cell: string) => void

const NUMBERS = new Set(['billingDay', 'intervalSeconds', 'multiplier', 'serviceKw'])
const LISTS = new Set(['aliases', 'flows'])
const COLUMNS: Record<RegistryKind, Set<string>> = {
  accounts: new Set(['account', 'nickname', 'name', 'billingDay', 'zone', 'rate', 'rate.from']),
  meters: new Set(['meter', 'aliases', 'role', 'status', 'intervalSeconds', 'flows', 'multiplier', 'serviceKw', 'account',
    'servicePoint', 'from', 'to']),
}

function columnOf(kind: RegistryKind, name: string): Column {
  const isGroup = kind === 'accounts' && name.startsWith('groups.')
  if (!isGroup && !COLUMNS[kind].has(name)) {
    throw new BodyError(422, 'unknown-column', `A file of ${kind} has no column "${name.slice(0, 80)}".`, 'line 1',
      `Columns: ${[...COLUMNS[kind]].join(', ')}${kind === 'accounts' ? ', groups.<name>' : ''}.`)
  }
  if (isGroup) return (value, cell) => nested(value, 'groups')[name.slice('groups.'.length)] = cell === 'null' ? null : cell
  if (name === 'rate') {
    return (value, cell) => {
      if (cell === 'null') value.rate = null
      else nested(value, 'rate').id = cell
    }
  }
  if (name === 'rate.from') return (value, cell) => nested(value, 'rate').from = cell
  return (value, cell) => value[name] = cell === 'null' ? null : convert(name, cell)
}

function convert(name: string, cell: string): unknown {
  if (LISTS.has(name)) return cell.split(';').map((part) => part.trim()).filter((part) => part !== '')
  // What is no number stays text, so that the record's check says so with its place.
  return NUMBERS.has(name) && /^-?\d+(\.\d+)?$/.test(cell) ? Number(cell) : cell
}

function nested(value: Record<string, unknown>, member: string): Record<string, unknown> {
  const inner = value[member]
  if (typeof inner === 'object' && inner !== null) return inner as Record<string, unknown>
  const made: Record<string, unknown> = {}
  value[member] = made
  return made
}

/** The parser's own words about a syntax error, without the body's content, which may be personal. */
function messageOf(err: unknown): string {
  const text = err instanceof Error ? err.message : 'unreadable'
  return text.replace(/, ?(\.\.\.)?".*$/s, '').slice(0, 160)
}
