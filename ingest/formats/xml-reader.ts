import { isAscii, isUtf8 } from 'node:buffer'
import { SaxesParser } from 'saxes'
import { BodyError } from '../../engine/problem.js'
import { MAX_RECORD_BYTES, textStart } from './text.js'

/** Elements within elements at most: real files have about a dozen. */
const MAX_DEPTH = 64
/** Names that are kept for a body: none has more than a hundred. */
const MAX_NAMES = 1000
/** Bytes given to the parser at a time. */
const CHUNK_BYTES = 64 * 1024
const LF = 10, BANG = 33, SLASH = 47, LESS = 60, MORE = 62, QUESTION = 63

/** The elements that are open where a part of a body ends; plain data. */
export interface XmlState {
  /** Names as written, outermost first; empty after the root element. */
  readonly open: string[]
}

export type XmlAttributes = Readonly<Record<string, string>>

/** What a format makes of its elements. Elements are told apart by the numbers that its vocabulary gives their names. */
export interface XmlHandler {
  /** An element of the vocabulary begins. */
  open(element: number, attributes: XmlAttributes): void
  /** It ends. @param text its text since the last tag, spaces about it included: all of it where it has no elements */
  close(element: number, text: string): void
}

/**
 * Reads a body of XML, or a part of it, in one pass by saxes. Namespace prefixes are dropped: head-ends use them, leave
 * them out and misspell their addresses. No DTD, and so no entities but the five of XML and characters by number.
 */
export class XmlReader {
  readonly #bytes: Uint8Array
  readonly #vocabulary: ReadonlyMap<string, number>
  readonly #state: XmlState | null
  /** Number of each name as written: prefixes are cut off once for each. */
  readonly #numbers = new Map<string, number>()
  readonly #open: string[] = []
  readonly #elements = new Int32Array(MAX_DEPTH)
  #depth = 0
  #text = ''
  #chunk = ''
  #chunkByte = 0
  #chunkIsAscii = true
  /** Characters given to the parser before the chunk, and how far into it bytes were counted. */
  #chunkPosition = 0
  #countedChars = 0
  #countedBytes = 0
  /** What was open in the part before is open again. */
  #isFed = false
  #isClosing = false
  readonly #parser = newParser()

  /** @param vocabulary local names of the elements that matter, numbered from 1 */
  constructor(bytes: Uint8Array, state: XmlState | null, vocabulary: ReadonlyMap<string, number>) {
    this.#bytes = bytes
    this.#state = state
    this.#vocabulary = vocabulary
  }

  /**
   * Reads all of the part.
   *
   * @param final false: the body goes on after these bytes, which end between two elements
   * @returns the elements that are open at the end
   * @throws BodyError 400 for what is no XML, 422 for what is not taken: a DTD, elements too deep
   */
  read(handler: XmlHandler, final: boolean): XmlState {
    const parser = this.#parser
    this.#listen(handler)
    this.#resume()
    this.#isFed = true
    this.#feed()
    const open = this.#open.slice(0, this.#depth)
    if (final || open.length === 0) {
      this.#isClosing = true
      parser.close()
    }
    return { open }
  }

  /** First byte, within the part, of the tag that has just been opened. */
  tagFrom(): number {
    const position = this.#parser.position
    return this.#byteAt(this.#chunkPosition + this.#chunk.lastIndexOf('<', position - this.#chunkPosition - 1))
  }

  /** First byte, within the part, after what was read last. */
  position(): number {
    return this.#isClosing ? this.#bytes.length : this.#byteAt(this.#parser.position)
  }

  /** `line 7, byte 123` of a byte of the part. */
  placeOf(byte: number): string {
    let line = 1
    for (let p = this.#bytes.indexOf(LF); p >= 0 && p < byte; p = this.#bytes.indexOf(LF, p + 1)) line++
    return `line ${line}, byte ${byte}`
  }

  /** Opens again what was open at the end of the part before. */
  #resume(): void {
    if (this.#state === null) return
    if (this.#state.open.length === 0) this.#write('<end/>')
    for (const name of this.#state.open) this.#write(`<${name}>`)
  }

  #listen(handler: XmlHandler): void {
    listen(this.#parser, {
      error: (message) => {
        throw this.#malformed(message)
      },
      doctype: () => {
        throw new BodyError(422, 'doctype-refused', 'The body has a DTD.', this.placeOf(this.position()),
          'Send it without: DTDs and entities of their own are not read.')
      },
      opentag: (name, attributes) => {
        const element = this.#push(name)
        this.#text = ''
        // What was open already is not opened twice.
        if (element > 0 && this.#isFed) handler.open(element, attributes)
      },
      text: (text) => {
        this.#text = this.#text === '' ? text : this.#text + text
      },
      closetag: () => {
        const element = this.#elements[--this.#depth]
        if (element > 0) handler.close(element, this.#text)
        this.#text = ''
      },
    })
  }

  #checkEncoding(): void {
    const { encoding } = this.#parser.xmlDecl
    if (encoding === undefined || /^(?:utf-?8|us-ascii)$/i.test(encoding) || isAscii(this.#bytes)) return
    throw new BodyError(400, 'encoding-unsupported', `The body is ${encoding.slice(0, 40)}.`, 'line 1', 'Send UTF-8.')
  }

  #push(name: string): number {
    let element = this.#numbers.get(name)
    if (element === undefined) {
      element = this.#vocabulary.get(localName(name)) ?? 0
      // A body of ever new names must not fill the memory with them.
      if (this.#numbers.size < MAX_NAMES) this.#numbers.set(name, element)
    }
    if (this.#depth === MAX_DEPTH) {
      throw new BodyError(422, 'too-deep', `Elements stand more than ${MAX_DEPTH} deep.`, this.placeOf(this.position()))
    }
    this.#open[this.#depth] = name
    this.#elements[this.#depth++] = element
    return element
  }

  /** Hands the bytes to the parser in chunks that end with a tag, so that none ends within a character. */
  #feed(): void {
    const bytes = this.#bytes
    let from = this.#state === null ? textStart(bytes) : 0
    while (from < bytes.length) {
      let to = Math.min(from + CHUNK_BYTES, bytes.length)
      if (to < bytes.length) {
        const last = bytes.subarray(from, to).lastIndexOf(MORE)
        const end = last >= 0 ? from + last : bytes.indexOf(MORE, to)
        to = end < 0 ? bytes.length : end + 1
      }
      if (to - from > MAX_RECORD_BYTES) {
        throw new BodyError(413, 'record-too-large', `There is no tag in more than ${MAX_RECORD_BYTES} bytes.`,
          this.placeOf(from))
      }
      const piece = Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from)
      this.#chunkIsAscii = isAscii(piece)
      if (!this.#chunkIsAscii && !isUtf8(piece)) {
        throw new BodyError(400, 'invalid-utf8', 'The body is not UTF-8.', this.placeOf(from), 'Send UTF-8.')
      }
      this.#chunk = piece.toString(this.#chunkIsAscii ? 'latin1' : 'utf8')
      this.#chunkByte = from
      this.#countedChars = 0
      this.#countedBytes = 0
      this.#write(this.#chunk)
      if (from < CHUNK_BYTES) this.#checkEncoding()
      from = to
    }
  }

  #write(text: string): void {
    this.#parser.write(text)
    this.#chunkPosition += text.length
  }

  #byteAt(position: number): number {
    const chars = position - this.#chunkPosition
    if (chars <= 0) return this.#chunkByte
    if (this.#chunkIsAscii) return this.#chunkByte + chars
    if (chars < this.#countedChars) this.#countedChars = this.#countedBytes = 0
    this.#countedBytes += Buffer.byteLength(this.#chunk.slice(this.#countedChars, chars))
    this.#countedChars = chars
    return this.#chunkByte + this.#countedBytes
  }

  #malformed(message: string): BodyError {
    return new BodyError(400, 'malformed-xml', `The body is no well-formed XML: ${faultText(message)}.`,
      this.placeOf(this.position()))
  }
}

/** What is heard of a document; `text` is also what CDATA holds. */
interface XmlListener {
  error: (message: string) => void
  doctype: () => void
  opentag: (name: string, attributes: Record<string, string>) => void
  text: (text: string) => void
  closetag: (name: string) => void
}

/** A parser of saxes without positions and namespaces. */
export function newParser(): SaxesParser<{ position: false, xmlns: false }> {
  return new SaxesParser({ position: false, xmlns: false })
}

/**
 * Sets a parser's listeners: with more than seven, V8 keeps the parser's properties in a dictionary, and it reads a
 * fifth as fast; set always in the same order, all parsers have one shape.
 */
export function listen(parser: ReturnType<typeof newParser>, listener: XmlListener): void {
  parser.on('error', (error) => {
    listener.error(error.message)
  })
  parser.on('doctype', listener.doctype)
  parser.on('opentag', ({ name, attributes }) => {
    listener.opentag(name, attributes)
  })
  parser.on('text', listener.text)
  parser.on('cdata', listener.text)
  parser.on('closetag', ({ name }) => {
    listener.closetag(name)
  })
}

/** What saxes found wrong, without the pieces of the body that it quotes: what stands there may be anybody's. */
export function faultText(message: string): string {
  return message.replace(/[:"].*$/s, '').slice(0, 100).replace(/[\s.]+$/, '')
}

/** Name without its namespace prefix. */
export function localName(name: string): string {
  return name.slice(name.indexOf(':') + 1)
}

/** Attribute by its local name; undefined where it is not there. */
export function attribute(attributes: XmlAttributes, name: string): string | undefined {
  if (name in attributes) return attributes[name]
  for (const own in attributes) if (localName(own) === name && !own.startsWith('xmlns:')) return attributes[own]
  return undefined
}

/**
 * End of the last element with one of the names that ends at or below `limit`, 0 if there is none: where a part of the
 * body may end. Comments, CDATA and processing instructions are passed over.
 *
 * @param names local names
 */
export function cutElements(bytes: Uint8Array, limit: number, names: ReadonlySet<string>): number {
  const part = bytes.subarray(0, limit)
  const ends = new Map<string, boolean>()
  let last = 0
  for (let p = part.indexOf(LESS); p >= 0; p = part.indexOf(LESS, p)) {
    const c = part[p + 1]
    let end: number
    if (c === BANG && part[p + 2] === 45) end = after(part, p, [45, 45, MORE])
    else if (c === BANG && part[p + 2] === 91) end = after(part, p, [93, 93, MORE])
    else if (c === QUESTION) end = after(part, p, [QUESTION, MORE])
    else end = c === SLASH ? part.indexOf(MORE, p) + 1 : p + 1
    if (end <= 0) return last
    if (c === SLASH && end - p < 200) {
      const name = String.fromCharCode(...part.subarray(p + 2, end - 1))
      let isEnd = ends.get(name)
      if (isEnd === undefined) {
        isEnd = names.has(localName(name.trim()))
        if (ends.size < MAX_NAMES) ends.set(name, isEnd)
      }
      if (isEnd) last = end
    }
    p = end
  }
  return last
}

/** Index after the next occurrence of the sequence, 0 where there is none. */
function after(bytes: Uint8Array, from: number, sequence: readonly number[]): number {
  for (let p = bytes.indexOf(sequence[0], from); p >= 0; p = bytes.indexOf(sequence[0], p + 1)) {
    if (sequence.every((c, i) => bytes[p + i] === c)) return p + sequence.length
  }
  return 0
}
