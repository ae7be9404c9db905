import { BodyError } from '../../engine/problem.js'
import { textStart } from './text.js'
import { faultText, listen, localName, newParser } from './xml-reader.js'

/** Bytes in which the first element that tells the format has to begin: comments before it may be long. */
const HEAD_BYTES = 256 * 1024

const STEP_CHARS = 4096

const ROOTS: Readonly<Record<string, string>> = {
  feed: 'espi', entry: 'espi', IntervalBlock: 'espi',
  MeterReadings: 'iec61968-9', EventMessage: 'iec61968-9', RequestMessage: 'iec61968-9', ResponseMessage: 'iec61968-9',
  EndDeviceEvents: 'iec61968-9',
  ReadingChangedNotification: 'multispeak', IntervalDataNotification: 'multispeak', FormattedBlockNotification: 'multispeak',
  intervalData: 'multispeak', formattedBlock: 'multispeak', meterReading: 'multispeak', meterRead: 'multispeak',
  profileType: 'multispeak', AMRDEF: 'amrdef',
}
/** What a message stands in: the format is told by what is within. */
const WRAPPERS = new Set(['Envelope', 'Body'])
const KINDS = 'Green Button/ESPI (feed, entry), IEC 61968-9 (MeterReadings, EventMessage), '
  + 'MultiSpeak 3 and 4.1 (ReadingChangedNotification, IntervalDataNotification, FormattedBlockNotification), AMRDEF'

/**
 * Name of the format of an XML body, by its root element or, within a SOAP envelope, by that of its message.
 *
 * @throws BodyError 400 where it is no XML, 415 where the root element is none that is known
 */
export function xmlFormatOf(bytes: Uint8Array): string {
  const from = textStart(bytes)
  const text = new TextDecoder().decode(bytes.subarray(from, from + HEAD_BYTES))
  const parser = newParser()
  let found: string | undefined
  let unknown: string | undefined
  let failure: string | undefined
  let headers = 0
  let position = 0
  const isOpen = (): boolean => (found ?? unknown ?? failure) === undefined
  const stop = (): void => {
    position = parser.position
  }
  listen(parser, {
    error: (message) => {
      if (!isOpen()) return
      failure = faultText(message)
      stop()
    },
    doctype: () => undefined,
    text: () => undefined,
    opentag: (name) => {
      if (!isOpen()) return
      const local = localName(name)
      if (local === 'Header') headers++
      else if (headers > 0 || WRAPPERS.has(local)) return
      else if (Object.hasOwn(ROOTS, local)) found = ROOTS[local]
      else unknown = local
      stop()
    },
    closetag: (name) => {
      if (localName(name) === 'Header') headers--
    },
  })
  for (let at = 0; at < text.length && isOpen(); at += STEP_CHARS) parser.write(text.slice(at, at + STEP_CHARS))
  if (found !== undefined) return found
  const line = `line ${text.slice(0, position).split('\n').length}`
  if (unknown !== undefined) {
    throw new BodyError(415, 'unsupported-format',
      `The root element ${JSON.stringify(unknown.slice(0, 60))} is none of a format that is read.`, line,
      `XML formats: ${KINDS}.`)
  }
  throw new BodyError(400, 'malformed-xml', failure === undefined
    ? 'There is no element in the beginning of the body.'
    : `The body is no well-formed XML: ${failure}.`, line)
}
