import type { Outcome } from '../../engine/problem.js'
import { unitOf, unitWords } from '../../engine/quantity.js'
import { DOUBLE_DIGITS, NULL_DIGITS, type JsonRecord } from './json-record.js'
import { TimeReader, type LocalClock } from './timestamps.js'
import {
  flowOf, flowWords, meterFault, qualityOf, qualityWords, show, TIME_HELP,
} from './words.js'

const MEMBERS = new Set([
  'meter', 'start', 'end', 'intervalSeconds', 'values', 'value', 'unit', 'flow', 'quality', 'kind', 'tou', 'capturedAt',
])

/** Why a record cannot become reads. */
export interface RecordFault {
  code: string
  /** The member at fault, as a JSON pointer within the record; empty: the record itself. */
  member: string
  message: string
  help?: string
  outcome?: Outcome
  meter?: string
  /** Non-null reads in the record; 1 where they cannot be counted. */
  reads: number
}

const encoder = new TextEncoder()
const times = new TimeReader()

/**
 * Fills a record from what JSON.parse made of it, checking everything.
 *
 * @returns the fault, or null where the record is right
 */
export function readParsed(parsed: unknown, record: JsonRecord, clock: LocalClock | null): RecordFault | null {
  record.reset()
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    return { code: 'wrong-type', member: '', message: `A record is an object, not ${kindOf(parsed)}.`, reads: 1 }
  }
  const object = parsed as Record<string, unknown>
  const fault = readMembers(object, record, clock)
  if (fault === null) return null
  const values = object['values']
  const reads = Array.isArray(values) ? values.reduce((n: number, value) => value === null ? n : n + 1, 0) : 1
  const meter = object['meter']
  return {
    reads: Math.max(1, reads),
    ...(typeof meter === 'string' && meterFault(meter) === undefined ? { meter } : {}),
    ...fault,
  }
}

type Fault = Omit<RecordFault, 'reads'>

function readMembers(object: Record<string, unknown>, record: JsonRecord, clock: LocalClock | null): Fault | null {
  for (const member of Object.keys(object)) {
    if (MEMBERS.has(member)) continue
    return {
      code: 'unknown-member', member: `/${pointerPart(member)}`, message: `A block has no member ${show(member)}.`,
      help: `Members: ${[...MEMBERS].join(', ')}.`,
    }
  }
  const { meter, kind } = object
  if (meter === undefined) return missing('meter')
  if (typeof meter !== 'string') return wrongType('meter', 'a string', meter)
  const badMeter = meterFault(meter)
  if (badMeter !== undefined) return { code: 'meter-invalid', member: '/meter', message: badMeter }
  record.meter = meter

  if (kind !== undefined && kind !== 'interval') {
    if (typeof kind !== 'string') return wrongType('kind', 'a string', kind)
    if (kind !== 'register' && kind !== 'period') {
      return {
        code: 'kind-unknown', member: '/kind', message: `There is no kind ${show(kind)}.`, help: 'Kinds: interval, register, period.',
      }
    }
    record.isRegister = true
  }
  const fault = readTou(object, record)
  if (fault !== null) return fault
  return readWords(object, record) ?? readTimes(object, record, clock) ?? readValues(object, record)
}

function readTou({ tou, values, intervalSeconds }: Record<string, unknown>, record: JsonRecord): Fault | null {
  if (tou !== undefined) {
    if (typeof tou !== 'string') return wrongType('tou', 'a string', tou)
    if (!record.isRegister) {
      return { code: 'wrong-kind', member: '/tou', message: 'Only a register has a time-of-use label.', help: 'Send "kind":"register".' }
    }
    const bad = tou.length > 40 ? 'The label is longer than 40 characters.' : tou === '' ? undefined : meterFault(tou)
    if (bad !== undefined) return { code: 'tou-invalid', member: '/tou', message: bad.replace('meter id', 'label') }
    record.tou = tou
  }
  if (record.isRegister && Array.isArray(values) && values.length > 1 && intervalSeconds === undefined) {
    return missing('intervalSeconds')
  }
  return null
}

function readWords(object: Record<string, unknown>, record: JsonRecord): Fault | null {
  const { unit, flow, quality, intervalSeconds } = object
  if (unit !== undefined) {
    if (typeof unit !== 'string') return wrongType('unit', 'a string', unit)
    const known = unitOf(unit)
    if (known === undefined) {
      return {
        code: 'unit-unsupported', member: '/unit', message: `${show(unit)} is no unit that is taken.`,
        help: `Units: ${unitWords}.`,
      }
    }
    record.unit = known
  }
  if (flow !== undefined) {
    if (typeof flow !== 'string') return wrongType('flow', 'a string', flow)
    const code = flowOf(flow)
    if (code === undefined) {
      return {
        code: 'flow-unknown', member: '/flow', message: `There is no flow ${show(flow)}.`, help: `Flows: ${flowWords}.`,
      }
    }
    record.flow = code
  }
  if (typeof quality === 'string') {
    const code = qualityOf(quality)
    if (code === undefined) return unknownQuality(quality, '/quality')
    record.lane = code
  } else if (quality !== undefined && !Array.isArray(quality)) {
    return wrongType('quality', 'a string, or an array beside values', quality)
  }
  if (intervalSeconds !== undefined) {
    if (typeof intervalSeconds !== 'number') return wrongType('intervalSeconds', 'a number', intervalSeconds)
    if (!Number.isInteger(intervalSeconds) || intervalSeconds < 1 || intervalSeconds > 1e9) {
      return {
        code: 'interval-length', member: '/intervalSeconds',
        message: `An interval of ${intervalSeconds} s fits no grid.`,
        help: 'Intervals are 60 s to 86400 s long and divide the hour, or are whole hours that divide the day.',
      }
    }
    record.intervalS = intervalSeconds
  }
  return null
}

function readTimes(object: Record<string, unknown>, record: JsonRecord, clock: LocalClock | null): Fault | null {
  const { start, end, values, capturedAt, kind } = object
  if (kind === 'period') {
    if (typeof start !== 'string' || typeof end !== 'string' || values !== undefined) {
      return { code: 'missing-member', member: '', message: 'A period has a start, an end and a value.' }
    }
    if (!readTime(end)) return badTime('end', end)
    record.periodEnd = { localS: times.localS, offsetS: times.offsetS, backS: 0 }
    return readTimes({ start, capturedAt }, record, clock)
  }
  if (start === undefined && (end === undefined || values !== undefined)) return missing('start')
  if (start !== undefined && end !== undefined) {
    return { code: 'both-start-and-end', member: '/end', message: 'A record has a start or an end, not both.' }
  }
  const member = start === undefined ? 'end' : 'start'
  const text = start ?? end
  if (typeof text !== 'string') return wrongType(member, 'a string', text)
  if (!readTime(text)) return badTime(member, text)
  record.isEnd = start === undefined
  record.localS = times.localS
  record.offsetS = times.offsetS
  if (capturedAt === undefined) return null
  if (typeof capturedAt !== 'string') return wrongType('capturedAt', 'a string', capturedAt)
  if (!readTime(capturedAt)) return badTime('capturedAt', capturedAt)
  const version = versionOf(times, clock)
  if (!(version > 0)) return badTime('capturedAt', capturedAt)
  record.version = version
  return null
}

/** The version that a time states, microseconds since the epoch; a local time that is repeated counts as its first. */
export function versionOf(
  time: { readonly localS: number, readonly offsetS: number, readonly micros: number }, clock: LocalClock | null,
): number {
  const { localS, offsetS, micros } = time
  if (!Number.isNaN(offsetS)) return (localS - offsetS) * 1e6 + micros
  if (clock === null) return NaN
  const [instant] = clock.instants(localS)
  // A version only orders what a source states: where its clock shows what no clock shows, the offset before will do.
  return (instant ?? localS - clock.zone.offsetAt(localS - clock.zone.offsetAt(localS) - 86400)) * 1e6 + micros
}

function readValues(object: Record<string, unknown>, record: JsonRecord): Fault | null {
  const { values, value, quality } = object
  if (values !== undefined && value !== undefined) {
    return { code: 'both-value-and-values', member: '/value', message: 'A record has a value or values, not both.' }
  }
  record.single = values === undefined
  if (values === undefined) {
    if (value === undefined) return missing('values')
    if (Array.isArray(quality)) return wrongType('quality', 'a string', quality)
    if (value !== null && typeof value !== 'number') return wrongType('value', 'a number or null', value)
    record.push(value ?? 0, value === null ? NULL_DIGITS : DOUBLE_DIGITS)
    return null
  }
  if (!Array.isArray(values)) return wrongType('values', 'an array', values)
  for (let i = 0; i < values.length; i++) {
    const read: unknown = values[i]
    if (read !== null && typeof read !== 'number') return wrongType(`values/${i}`, 'a number or null', read)
    record.push(read ?? 0, read === null ? NULL_DIGITS : DOUBLE_DIGITS)
  }
  return Array.isArray(quality) ? readLanes(quality, values.length, record) : null
}

function readLanes(words: unknown[], count: number, record: JsonRecord): Fault | null {
  if (words.length !== count) {
    return {
      code: 'quality-length', member: '/quality', message: `There are ${count} values and ${words.length} qualities.`,
      help: 'Send one word for the block, or one for each value.',
    }
  }
  const lanes: number[] = []
  for (let i = 0; i < words.length; i++) {
    const word = words[i]
    // Beside a read that is missing there may be none.
    if (word === null && record.digits[i] === NULL_DIGITS) {
      lanes.push(record.lane)
      continue
    }
    if (typeof word !== 'string') return wrongType(`quality/${i}`, 'a string', word)
    const code = qualityOf(word)
    if (code === undefined) return unknownQuality(word, `/quality/${i}`)
    lanes.push(code)
  }
  if (lanes.every(lane => lane === lanes[0])) record.lane = lanes[0] ?? record.lane
  else record.lanes = lanes
  return null
}

function readTime(text: string): boolean {
  const bytes = encoder.encode(text)
  return times.read(bytes, 0, bytes.length)
}

function missing(member: string): Fault {
  return { code: 'missing-member', member: '', message: `The record has no ${member}.` }
}

function wrongType(member: string, wanted: string, got: unknown): Fault {
  return { code: 'wrong-type', member: `/${member}`, message: `Wanted ${wanted}, got ${kindOf(got)}.` }
}

function badTime(member: string, text: string): Fault {
  return {
    code: 'time-unreadable', member: `/${member}`, message: `${show(text)} is no time.`,
    help: TIME_HELP,
  }
}

function unknownQuality(word: string, member: string): Fault {
  return {
    code: 'quality-unknown', member, message: `There is no quality ${show(word)}.`, help: `Qualities: ${qualityWords}.`,
  }
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'object') return 'an object'
  return typeof value === 'string' ? `the string ${show(value)}` : `a ${typeof value}`
}

/** A member's name as a part of a JSON pointer (RFC 6901), cut short. */
export function pointerPart(member: string): string {
  return member.slice(0, 40).replaceAll('~', '~0').replaceAll('/', '~1')
}
