import type { RecordProblem } from '../../engine/problem.js'
import { BodyError } from '../../engine/problem.js'
import type { MeterEvent } from '../../engine/events.js'
import type { QuantityCode } from '../../engine/quantity.js'
import type { FlowCode, ReadBatch } from '../../engine/read-batch.js'
import type { RegisterBatch } from '../../engine/register-batch.js'
import type { Clock } from '../../engine/source-settings.js'
import type { Zone } from '../../engine/time/zone.js'
import { arrow, looksLikeArrow } from './arrow.js'
import { cmep, looksLikeCmep } from './cmep.js'
import { amrdef } from './amrdef.js'
import { csv } from './csv.js'
import type { EspiState } from './espi-resources.js'
import { espi } from './espi.js'
import { iec61968, type CimState } from './iec61968.js'
import { json } from './json.js'
import type { CsvMapping } from './mapping.js'
import { multispeak, type MultiSpeakState } from './multispeak.js'
import { ndjson } from './ndjson.js'
import { xmlFormatOf } from './xml-format.js'
import type { XmlState } from './xml-reader.js'
import { looksLikeNem12, nem12 } from './nem12.js'
import type { Nem12Stream } from './nem12-reader.js'

/** What a source's settings say about its bodies. */
export interface DecodeContext {
  /** Zone of local times; null: local times cannot be read and are quarantined with a help text. */
  readonly zone: Zone | null
  /** Zone whose days a daily read is one of, where it is not the zone of local times. */
  readonly dayZone?: Zone
  /** The source's `clock` setting, for formats whose own rule it overrides; `zone` already follows it. */
  readonly clock?: Clock
  /** What a lone timestamp names, in formats that leave it open. Default: the format's own rule. */
  readonly label?: 'start' | 'end'
  /** Seconds; holds where a record states no interval length. */
  readonly defaultIntervalS?: number
  /** Holds where a record states no unit. Default kWh. */
  readonly defaultUnit?: string
  /** The source's `round` setting: a value that no exponent holds is rounded (to 6 decimals of a kWh at most). */
  readonly round?: boolean
  /** Meter of bodies that name none. */
  readonly meter?: string
  /** How to read a CSV file that has columns of its own. */
  readonly mapping?: CsvMapping
}

/** What one body, or one part of it, came to. */
export interface Decoded {
  readonly batch: ReadBatch
  /** Cumulative reads and the consumption of periods longer than a day, kept apart from intervals. */
  readonly registers: RegisterBatch
  readonly events: readonly MeterEvent[]
  /** Records without reads in the batch; byte ranges are within the bytes given to decode(). */
  readonly problems: RecordProblem[]
  /** Reads that the `round` setting changed. */
  readonly rounded: number
  /** What the next part needs; null after the last part. */
  readonly state: FormatState | null
  /** What the decoder had to conclude by itself, in words for the receipt: a derived interval length. */
  readonly notes: string[]
}

/** One format of bodies. Pure: no clock, no database; the same bytes give the same reads. */
export interface Format {
  readonly name: string
  /**
   * Decodes a whole body (state null, final true) or one of its parts in order.
   *
   * @param bytes the part; unless final it ends where cut() said
   * @throws BodyError when the body cannot be read at all
   */
  decode(bytes: Uint8Array, ctx: DecodeContext, state: FormatState | null, final: boolean): Decoded
  /** End of the last complete record at or below `limit`, 0 if there is none: where a part may end. */
  cut(bytes: Uint8Array, limit: number, state: FormatState | null): number
}

/** Carried from one part of a body to the next; plain data, so that it can go to another thread. */
export interface FormatState {
  /** Bytes, lines and records of the body before this part. */
  readonly bytes: number
  readonly lines: number
  readonly records: number
  /** Channels in or near a night that repeats local times, and others that have reads of one. */
  readonly channels: ChannelState[]
  /** JSON: how the elements are enclosed. */
  readonly json?: 'envelope' | 'array'
  /** CSV: the header's names. */
  readonly header?: string[]
  /** CSV: the interval length that the first part was found to have, seconds. */
  readonly derivedIntervalS?: number
  /** XML: what is open where the part ends. */
  readonly xml?: XmlState
  /** Green Button: the resources that were told so far. */
  readonly espi?: EspiState
  /** IEC 61968-9: what the message's header said. */
  readonly cim?: CimState
  /** NEM12: the details that hold for the records that follow. */
  readonly nem12?: Nem12Stream
  /** MultiSpeak: the profiles that blocks refer to. */
  readonly multispeak?: MultiSpeakState
}

/** What a channel carries from one part to the next. */
export interface ChannelState {
  readonly meter: string
  readonly flow: FlowCode
  readonly quantity?: QuantityCode
  readonly intervalS: number
  /** Where its last read ended, epoch seconds. */
  readonly endS: number
  /** Reads at repeated local times that wait for their second pass, and the start of the first read after them. */
  readonly held: HeldReads[] | null
  readonly followedByS: number
}

/** Reads whose local time the clock change repeats: which pass they belong to is not known yet. */
export interface HeldReads {
  readonly meter: string
  readonly flow: FlowCode
  readonly quantity?: QuantityCode
  readonly intervalS: number
  /** The repeated local time, as seconds since 1970-01-01T00:00 local. */
  readonly localS: number
  /** Subtracted from the instant that localS turns out to be: the interval length of an end label, else 0. */
  readonly backS: number
  /** One piece, or more where no exponent holds all the values. */
  readonly pieces: readonly Piece[]
  readonly count: number
  readonly lane: number
  readonly lanes: readonly number[] | null
  readonly version: number
  readonly reads: number
  readonly single: boolean
  /** Line or record number. */
  readonly place: number
  /** Where the channel's last read before this one ended, epoch seconds; NaN: this is its first. */
  readonly previousS: number
}

/** Values of a block that share an exponent: value = mantissa x 10^-decimals of the quantity's unit. */
export interface Piece {
  readonly decimals: number
  readonly mantissas: Int32Array
}

const formats: readonly Format[] = [json, ndjson, csv, arrow, cmep, nem12, espi, iec61968, multispeak, amrdef]

/** Formats by the name that `?format=` takes. */
export function formatByName(name: string): Format | undefined {
  const word = name.toLowerCase()
  // One reader takes both: NEM13 is NEM12's sister for accumulated reads.
  return formats.find(format => format.name === (word === 'nem13' ? 'nem12' : word))
}

/** In place of a format: the body is XML, and its root element tells which one. */
const XML = 'xml'

const CONTENT_TYPES: Readonly<Record<string, Format | typeof XML>> = {
  'application/json': json,
  'text/json': json,
  'application/x-ndjson': ndjson,
  'application/ndjson': ndjson,
  'application/jsonl': ndjson,
  'application/x-jsonlines': ndjson,
  'application/vnd.apache.arrow.stream': arrow,
  'text/csv': csv,
  'application/csv': csv,
  'application/xml': XML,
  'text/xml': XML,
  'application/atom+xml': XML,
  'application/soap+xml': XML,
}

const EXTENSIONS: Readonly<Record<string, Format | typeof XML>> = {
  json, ndjson, jsonl: ndjson, csv, arrow, arrows: arrow, xml: XML, cmep, nem12, nem13: nem12,
}

/** Content types that say nothing about the format: the file name or the first bytes tell. */
const VAGUE = new Set(['', 'text/plain', 'application/octet-stream', 'application/x-www-form-urlencoded'])

/**
 * Format of a body: by `?format=`, else the content type, else the file name, else the first bytes.
 *
 * @throws BodyError 415 when nothing tells, with the formats there are
 */
export function detectFormat(
  contentType: string | undefined, explicit?: string, fileName?: string, firstBytes?: Uint8Array,
): Format {
  const help = `Formats: ${formats.map(format => format.name).join(', ')}. Name one with ?format=, or send `
    + 'Content-Type application/json, application/x-ndjson, text/csv or application/xml.'
  const known = (format: Format | typeof XML): Format => {
    if (format === XML) return xmlFormat(firstBytes)
    return format === csv && firstBytes !== undefined ? guessLines(firstBytes) ?? csv : format
  }
  if (explicit !== undefined && explicit !== '') {
    if (explicit.toLowerCase() === XML) return known(XML)
    const format = formatByName(explicit)
    if (format !== undefined) return format
    throw new BodyError(415, 'unsupported-format', `There is no format ${JSON.stringify(explicit.slice(0, 40))}.`,
      undefined, help)
  }
  const [type, ...parameters] = (contentType ?? '').toLowerCase().split(';').map(part => part.trim())
  const charset = parameters.find(parameter => parameter.startsWith('charset='))?.slice(8).replaceAll('"', '')
  if (charset !== undefined && charset !== 'utf-8' && charset !== 'utf8' && charset !== 'us-ascii') {
    throw new BodyError(415, 'unsupported-charset', `Bodies are UTF-8, not ${JSON.stringify(charset.slice(0, 40))}.`)
  }
  if (Object.hasOwn(CONTENT_TYPES, type)) return known(CONTENT_TYPES[type])
  if (VAGUE.has(type)) {
    const extension = fileName?.toLowerCase().replace(/\.gz$/, '').split('.').at(-1) ?? ''
    if (Object.hasOwn(EXTENSIONS, extension)) return known(EXTENSIONS[extension])
    const guessed = firstBytes === undefined ? undefined : guess(firstBytes)
    if (guessed !== undefined) return known(guessed)
    throw new BodyError(415, 'unsupported-format', 'The format of the body is not stated and cannot be told from it.',
      undefined, help)
  }
  throw new BodyError(415, 'unsupported-format',
    `There is no format for Content-Type ${JSON.stringify(type.slice(0, 80))}.`, undefined, help)
}

/** Line formats whose files go by the name of CSV or of plain text: CMEP and NEM12 tell themselves by their first record. */
function guessLines(firstBytes: Uint8Array): Format | undefined {
  const text = new TextDecoder('utf-8').decode(firstBytes.subarray(0, 1024))
  return looksLikeCmep(text) ? cmep : looksLikeNem12(text) ? nem12 : undefined
}

/** Format by the look of the first bytes; undefined where they fit none. */
function guess(firstBytes: Uint8Array): Format | typeof XML | undefined {
  if (looksLikeArrow(firstBytes)) return arrow
  const text = new TextDecoder('utf-8').decode(firstBytes.subarray(0, 4096)).trimStart()
  if (text.startsWith('<')) return XML
  if (text.startsWith('[')) return json
  const lines = guessLines(firstBytes)
  if (lines !== undefined) return lines
  if (text.startsWith('{')) {
    // A block per line, or one document: the first line of NDJSON is an object of its own.
    const line = text.split(/\r?\n|\r/, 1)[0].trimEnd()
    return line.length < text.trimEnd().length && /^\{[^]*\}$/.test(line) && isObject(line) ? ndjson : json
  }
  return /^[^\r\n<]*[,;\t][^\r\n]*[\r\n]/.test(text) ? csv : undefined
}

function xmlFormat(bytes: Uint8Array = new Uint8Array(0)): Format {
  const format = formatByName(xmlFormatOf(bytes))
  if (format === undefined) throw new Error('an XML format is not listed')
  return format
}

function isObject(line: string): boolean {
  try {
    JSON.parse(line)
    return true
  } catch {
    return false
  }
}
