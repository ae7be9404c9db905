import { unitOf, unitWords, type Unit } from '../../engine/quantity.js'
import type { FlowName, QualityName } from '../../engine/read-batch.js'
import { getZone } from '../../engine/time/zone.js'
import { DatePattern } from './date-pattern.js'
import { flowOf, flowWords, intervalKind, qualityOf, qualityWords } from './words.js'

/** A column by its name in the header, or by its number from 1. */
export type ColumnRef = string | number

/** Columns of a long file: a row for each read. */
export interface LongColumns {
  meter?: ColumnRef
  /** A time of the interval's start, of its end, or of what `label` says. */
  start?: ColumnRef
  end?: ColumnRef
  time?: ColumnRef
  /** A date, with the time of day in columns of its own. */
  date?: ColumnRef
  startTime?: ColumnRef
  endTime?: ColumnRef
  /** Both ends in one field: `2026-10-01 00:00 to 2026-10-01 00:15`. */
  range?: ColumnRef
  value?: ColumnRef
  unit?: ColumnRef
  quality?: ColumnRef
  flow?: ColumnRef
  /** When the source stated the row (C4). */
  version?: ColumnRef
  intervalSeconds?: ColumnRef
}

/** A value of each row, in files that have several. What it leaves out is the mapping's. */
export interface LongValue {
  column: ColumnRef
  flow?: FlowName
  unit?: string
  unitColumn?: ColumnRef
  /** A time of its own; of an interval by the mapping's label. */
  time?: ColumnRef
  /** A cumulative register's read, at `time` or the row's own. */
  register?: boolean
}

/** A wide file: a row for each time, a column for each channel. */
export interface WideColumns {
  timeColumn: ColumnRef
  /** Put before the column's name to make the meter id. */
  meterPrefix?: string
  /** Columns that are no channels. */
  ignore?: ColumnRef[]
  /** Channels by column name, where the name is not the meter; other columns are then left out. */
  channels?: Record<string, { meter: string, flow?: FlowName, unit?: string }>
}

/** How to read a CSV file that has columns of its own. */
export interface CsvMapping {
  name: string
  /** One ASCII character. Default a comma. */
  delimiter: string
  decimalMark: '.' | ','
  thousandsMark?: string
  /** Line of the header, from 1, or the text of its first field; null: there is none, and columns go by their number. */
  headerLine: number | string | null
  /** Beginnings of rows between the reads that are none: headings of each day. */
  skipRows: string[]
  layout: 'long' | 'wide'
  columns: LongColumns
  values: LongValue[]
  wide?: WideColumns
  /** What the time column names. */
  label: 'start' | 'end'
  /** Ends name the last minute of the interval: 00:14 for a quarter of an hour. */
  endInclusive: boolean
  /** Zone of the file's times, before the source's: also one without daylight saving, as Etc/GMT+6. */
  zone?: string
  /** Pattern of start, end, time, range and date: date-pattern.ts, several with `|` between them, or `iso`. */
  datePattern: string
  /** Pattern of startTime and endTime. */
  timePattern: string
  versionPattern: string
  /** Any of engine/quantity.ts: what is no energy becomes a channel of its own. With kind power kW, W, MW, kVAr, kVA. */
  unit: string
  /** power: the mean of the interval; the energy is power x length. */
  kind: 'energy' | 'power'
  /** Multiplies every value. */
  factor: number
  /** The file's words; the empty one for empty fields, `*` for all others. */
  qualityMap: Record<string, QualityName>
  flowMap: Record<string, FlowName>
  /** Flow of files that have no column of it. */
  flow: FlowName
  /** Flow of negative values, of which the magnitude is kept; the value's own flow is then 0. */
  negative?: FlowName
  /** Characters to take off the beginning of meter ids. */
  strip: string
  /** Meter of a file that has no column of it; else the one that is given with the body. */
  meterId?: string
  intervalSeconds?: number
  /** Words that stand for a missing value, besides an empty field. */
  missing: string[]
}

const DEFAULTS = {
  delimiter: ',', decimalMark: '.', headerLine: 1, skipRows: [], layout: 'long', columns: {}, values: [], label: 'start', endInclusive: false,
  datePattern: 'iso', timePattern: 'HH:mm', versionPattern: 'iso', unit: 'kWh', kind: 'energy', factor: 1,
  qualityMap: {}, flowMap: {}, flow: 'delivered', strip: '', missing: [],
} satisfies Partial<CsvMapping>

const LONG = [
  'meter', 'start', 'end', 'time', 'date', 'startTime', 'endTime', 'range', 'value', 'unit', 'quality', 'flow', 'version',
  'intervalSeconds',
]
const VALUE = ['column', 'flow', 'unit', 'unitColumn', 'time', 'register']
const WIDE = ['timeColumn', 'meterPrefix', 'ignore', 'channels']
const KNOWN = new Set([
  ...Object.keys(DEFAULTS), 'name', 'thousandsMark', 'wide', 'zone', 'meterId', 'intervalSeconds', 'negative',
])

/**
 * A mapping from parsed JSON, with what it leaves out filled in.
 *
 * @throws RangeError with every fault of it, one per line
 */
export function parseMapping(input: unknown): CsvMapping {
  const faults: string[] = []
  const object = asObject(input, 'the mapping', faults)
  for (const key of Object.keys(object)) if (!KNOWN.has(key)) faults.push(`${key}: there is no such setting`)
  // What is not of its type is found by the checks.
  const mapping: CsvMapping = { ...DEFAULTS, ...(object as Pick<CsvMapping, 'name'> & Partial<CsvMapping>) }
  checkTexts(mapping, faults)
  checkColumns(mapping, faults)
  checkMeaning(mapping, faults)
  if (faults.length > 0) throw new RangeError(`The mapping is wrong:\n${faults.join('\n')}`)
  return mapping
}

function checkTexts(mapping: CsvMapping, faults: string[]): void {
  if (typeof mapping.name !== 'string' || mapping.name === '') faults.push('name: must be a text')
  const { delimiter, thousandsMark } = mapping
  if (typeof delimiter !== 'string' || !/^[\t -~]$/.test(delimiter) || /["\w.\-+]/.test(delimiter)) {
    faults.push('delimiter: must be one character, such as "," or ";"')
  }
  oneOf(mapping.decimalMark, ['.', ','], 'decimalMark', faults)
  if (mapping.decimalMark === thousandsMark) faults.push('thousandsMark: is the decimal mark too')
  if (thousandsMark !== undefined && (typeof thousandsMark !== 'string' || thousandsMark === '')) {
    faults.push('thousandsMark: must be a text')
  }
  const { headerLine } = mapping
  const isLine = typeof headerLine === 'number' ? Number.isInteger(headerLine) && headerLine >= 1 : typeof headerLine === 'string' && headerLine !== ''
  if (headerLine !== null && !isLine) faults.push('headerLine: must be a line number from 1, the text of the header\'s first field, or null')
  if (typeof mapping.endInclusive !== 'boolean') faults.push('endInclusive: must be true or false')
  oneOf(mapping.layout, ['long', 'wide'], 'layout', faults)
  oneOf(mapping.label, ['start', 'end'], 'label', faults)
  oneOf(mapping.kind, ['energy', 'power'], 'kind', faults)
  if (typeof mapping.strip !== 'string') faults.push('strip: must be a text')
  for (const key of ['missing', 'skipRows'] as const) {
    const words: unknown = mapping[key]
    if (!Array.isArray(words) || !words.every(word => typeof word === 'string')) faults.push(`${key}: must be an array of texts`)
  }
  if (mapping.meterId !== undefined && (typeof mapping.meterId !== 'string' || mapping.meterId === '')) {
    faults.push('meterId: must be a text')
  }
}

function checkColumns(mapping: CsvMapping, faults: string[]): void {
  const columns = asObject(mapping.columns, 'columns', faults)
  for (const [key, ref] of Object.entries(columns)) {
    if (!LONG.includes(key)) faults.push(`columns.${key}: there is no such column; there are ${LONG.join(', ')}`)
    else checkRef(ref, `columns.${key}`, mapping, faults)
  }
  if (mapping.layout === 'wide') {
    const wide = asObject(mapping.wide, 'wide', faults)
    for (const key of Object.keys(wide)) {
      if (!WIDE.includes(key)) faults.push(`wide.${key}: there is no such setting`)
    }
    checkRef(wide['timeColumn'], 'wide.timeColumn', mapping, faults)
    if (wide['ignore'] !== undefined) {
      if (Array.isArray(wide['ignore'])) for (const ref of wide['ignore']) checkRef(ref, 'wide.ignore', mapping, faults)
      else faults.push('wide.ignore: must be an array of columns')
    }
    if (wide['meterPrefix'] !== undefined && typeof wide['meterPrefix'] !== 'string') {
      faults.push('wide.meterPrefix: must be a text')
    }
    for (const [name, channel] of Object.entries(asObject(wide['channels'] ?? {}, 'wide.channels', faults))) {
      const { meter, flow, unit } = asObject(channel, `wide.channels.${name}`, faults)
      if (unit !== undefined) checkUnit(unit, mapping, `wide.channels.${name}.unit`, faults)
      if (typeof meter !== 'string' || meter === '') faults.push(`wide.channels.${name}.meter: must be a text`)
      if (flow !== undefined) checkWord(flow, flowOf, flowWords, `wide.channels.${name}.flow`, faults)
    }
    return
  }
  const has = (column: keyof LongColumns) => mapping.columns?.[column] !== undefined
  const hasValues = checkValues(mapping, faults)
  if (!has('value') && !hasValues) faults.push('columns.value: is needed, or values')
  if (has('date')) {
    if (!has('startTime') && !has('endTime')) {
      faults.push('columns.startTime or columns.endTime: one is needed with date')
    }
  } else if (!has('start') && !has('end') && !has('time') && !has('range') && !(hasValues && mapping.values.every(({ time }) => time !== undefined))) {
    faults.push('columns.start, columns.end, columns.time or columns.range: one is needed')
  }
}

/** @returns whether there are values */
function checkValues(mapping: CsvMapping, faults: string[]): boolean {
  const values: unknown = mapping.values
  if (!Array.isArray(values)) {
    faults.push('values: must be an array')
    return false
  }
  values.forEach((value: unknown, i) => {
    const own = asObject(value, `values.${i}`, faults)
    for (const key of Object.keys(own)) if (!VALUE.includes(key)) faults.push(`values.${i}.${key}: there is no such setting`)
    checkRef(own['column'], `values.${i}.column`, mapping, faults)
    for (const key of ['unitColumn', 'time']) if (own[key] !== undefined) checkRef(own[key], `values.${i}.${key}`, mapping, faults)
    if (own['unit'] !== undefined) checkUnit(own['unit'], mapping, `values.${i}.unit`, faults)
    if (own['flow'] !== undefined) checkWord(own['flow'], flowOf, flowWords, `values.${i}.flow`, faults)
    if (own['register'] !== undefined && typeof own['register'] !== 'boolean') faults.push(`values.${i}.register: must be true or false`)
  })
  return values.length > 0
}

function checkMeaning(mapping: CsvMapping, faults: string[]): void {
  if (mapping.zone !== undefined) {
    try {
      getZone(mapping.zone)
    } catch {
      faults.push(`zone: ${JSON.stringify(mapping.zone)} is no IANA zone`)
    }
  }
  checkPattern(mapping.datePattern, 'datePattern', true, faults)
  checkPattern(mapping.timePattern, 'timePattern', false, faults)
  checkPattern(mapping.versionPattern, 'versionPattern', true, faults)
  checkUnit(mapping.unit, mapping, 'unit', faults)
  if (typeof mapping.factor !== 'number' || !Number.isFinite(mapping.factor) || mapping.factor === 0) {
    faults.push('factor: must be a number other than 0')
  }
  checkWord(mapping.flow, flowOf, flowWords, 'flow', faults)
  if (mapping.negative !== undefined) checkWord(mapping.negative, flowOf, flowWords, 'negative', faults)
  for (const [word, flow] of Object.entries(asObject(mapping.flowMap, 'flowMap', faults))) {
    checkWord(flow, flowOf, flowWords, `flowMap.${word}`, faults)
  }
  for (const [word, quality] of Object.entries(asObject(mapping.qualityMap, 'qualityMap', faults))) {
    checkWord(quality, qualityOf, qualityWords, `qualityMap.${word}`, faults)
  }
  if (mapping.intervalSeconds !== undefined
    && (typeof mapping.intervalSeconds !== 'number' || intervalKind(mapping.intervalSeconds) !== 'grid')) {
    faults.push('intervalSeconds: must be 60 to 86400 and divide the hour, or be whole hours that divide the day')
  }
}

/** What a unit of the mapping comes to, a power's with its hours; undefined: no such unit. */
export function mappedUnit(unit: string, kind: 'energy' | 'power'): Unit | undefined {
  if (kind !== 'power') return unitOf(unit)
  return /^[kMG]?(?:W|VA|VAr)$/i.test(unit) ? unitOf(`${unit}h`) : undefined
}

/** Units that there are, for people. */
export function unitHelp(kind: 'energy' | 'power'): string {
  return kind === 'power' ? 'kW, W, MW, kVAr, kVA' : unitWords
}

function checkUnit(unit: unknown, { kind }: CsvMapping, at: string, faults: string[]): void {
  if (typeof unit !== 'string' || mappedUnit(unit, kind) === undefined) faults.push(`${at}: must be one of ${unitHelp(kind)}`)
}

function checkRef(ref: unknown, at: string, mapping: CsvMapping, faults: string[]): void {
  if (typeof ref === 'number' && Number.isInteger(ref) && ref >= 1) return
  if (typeof ref !== 'string') faults.push(`${at}: must be a column name, or a number from 1`)
  else if (mapping.headerLine === null) faults.push(`${at}: must be a number, for there is no header`)
}

function checkPattern(pattern: unknown, at: string, wantsDate: boolean, faults: string[]): void {
  if (pattern === 'iso' && wantsDate) return
  try {
    for (const one of (typeof pattern === 'string' ? pattern : '').split('|')) {
      if (new DatePattern(one).hasDate !== wantsDate) faults.push(`${at}: must ${wantsDate ? '' : 'not '}have a date`)
    }
  } catch (error) {
    faults.push(`${at}: ${error instanceof RangeError ? error.message : 'is no pattern'}`)
  }
}

function checkWord(
  word: unknown, lookUp: (word: string) => unknown, words: string, at: string, faults: string[],
): void {
  if (typeof word !== 'string' || lookUp(word) === undefined) faults.push(`${at}: must be one of ${words}`)
}

function oneOf(value: unknown, allowed: readonly string[], at: string, faults: string[]): void {
  if (typeof value === 'string' && allowed.includes(value)) return
  faults.push(`${at}: must be ${allowed.map(word => JSON.stringify(word)).join(' or ')}`)
}

function asObject(value: unknown, at: string, faults: string[]): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  faults.push(`${at}: must be an object`)
  return {}
}
