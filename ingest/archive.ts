import { crc32, gunzipSync } from 'node:zlib'
import { unzipSync } from 'fflate'
import { BodyError } from '../engine/problem.js'
import { ReadBatchBuilder, type FlowCode } from '../engine/read-batch.js'
import type { QuantityCode } from '../engine/quantity.js'
import { RegisterBatchBuilder } from '../engine/register-batch.js'
import type { Decoded } from './formats/format.js'

/** One file of an archive. */
export interface ArchiveEntry {
  name: string
  bytes: Uint8Array
}

const MAX_ENTRIES = 1000
const END = 0x06054b50
const CENTRAL = 0x02014b50
const ENCRYPTED = 1

/** Whether a body is a zip or gzip file, by its first bytes. */
export function archiveKind(bytes: Uint8Array): 'zip' | 'gzip' | null {
  if (bytes[0] === 0x50 && bytes[1] === 0x4b && ((bytes[2] === 3 && bytes[3] === 4) || (bytes[2] === 5 && bytes[3] === 6))) return 'zip'
  return bytes[0] === 0x1f && bytes[1] === 0x8b && bytes[2] === 8 ? 'gzip' : null
}

/**
 * The files of a zip or gzip body.
 *
 * @param limit bytes that all of them may come to: nothing is unpacked beyond it
 * @throws BodyError 413 where they come to more, 400 where the archive is damaged, 422 for one that is encrypted or holds another
 */
export function unpack(bytes: Uint8Array, kind: 'zip' | 'gzip', fileName: string | null, limit: number): ArchiveEntry[] {
  const entries = kind === 'gzip' ? [{ name: (fileName ?? 'body').replace(/\.gz$/i, ''), bytes: gunzip(bytes, limit) }] : unzip(bytes, limit)
  for (const { name, bytes: inner } of entries) {
    if (archiveKind(inner) !== null) throw new BodyError(422, 'archive-nested', 'The archive holds another archive.', name.slice(0, 100), 'Send the files themselves.')
  }
  return entries
}

function gunzip(bytes: Uint8Array, limit: number): Uint8Array {
  try {
    return new Uint8Array(gunzipSync(bytes, { maxOutputLength: limit }))
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(limit)
    throw new BodyError(400, 'malformed-gzip', 'The body is not whole gzip data.')
  }
}

function unzip(bytes: Uint8Array, limit: number): ArchiveEntry[] {
  const directory = readDirectory(bytes)
  let total = 0
  for (const entry of directory) {
    if (entry.isEncrypted) throw new BodyError(422, 'archive-encrypted', 'The archive is encrypted.', entry.name.slice(0, 100))
    total += entry.size
    if (total > limit) throw tooLarge(limit)
  }
  let unpacked: Record<string, Uint8Array>
  try {
    unpacked = unzipSync(bytes, { filter: (file) => isFile(file.name) && file.originalSize <= limit })
  } catch {
    throw new BodyError(400, 'malformed-zip', 'The body is no whole zip archive.')
  }
  return directory.filter((entry) => isFile(entry.name)).map((entry) => {
    const inner = Object.hasOwn(unpacked, entry.name) ? unpacked[entry.name] : undefined
    // What the directory says of a file bounds what is unpacked of it: the check sum tells that it said the truth.
    if (inner?.length !== entry.size || crc32(inner) !== entry.crc) {
      throw new BodyError(400, 'malformed-zip', 'A file of the archive is damaged.', entry.name.slice(0, 100))
    }
    return { name: entry.name, bytes: inner }
  })
}

function isFile(name: string): boolean {
  return !name.endsWith('/') && !/(?:^|\/)(?:__MACOSX\/|\.)/.test(name)
}

interface DirectoryEntry {
  name: string
  size: number
  crc: number
  isEncrypted: boolean
}

/** The central directory (APPNOTE 4.3.12): what is in the archive, before anything of it is unpacked. */
function readDirectory(bytes: Uint8Array): DirectoryEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const malformed = (): BodyError => new BodyError(400, 'malformed-zip', 'The body is no whole zip archive.')
  let end = bytes.length - 22
  while (end >= 0 && end >= bytes.length - 22 - 65_535 && view.getUint32(end, true) !== END) end--
  if (end < 0 || view.getUint32(end, true) !== END) throw malformed()
  const count = view.getUint16(end + 10, true)
  if (count > MAX_ENTRIES) throw new BodyError(413, 'archive-too-large', `An archive has at most ${MAX_ENTRIES} files.`)
  const entries: DirectoryEntry[] = []
  const names = new Set<string>()
  let p = view.getUint32(end + 16, true)
  for (let i = 0; i < count; i++) {
    if (p + 46 > bytes.length || view.getUint32(p, true) !== CENTRAL) throw malformed()
    const nameLength = view.getUint16(p + 28, true)
    const next = p + 46 + nameLength + view.getUint16(p + 30, true) + view.getUint16(p + 32, true)
    if (next > bytes.length) throw malformed()
    const flags = view.getUint16(p + 8, true)
    // As fflate reads it: UTF-8 where the flag says so, else a byte a character.
    const name = Buffer.from(bytes.buffer, bytes.byteOffset + p + 46, nameLength).toString((flags & 0x800) !== 0 ? 'utf8' : 'latin1')
    if (names.has(name)) throw malformed()
    names.add(name)
    entries.push({ name, size: view.getUint32(p + 24, true), crc: view.getUint32(p + 16, true), isEncrypted: (flags & ENCRYPTED) !== 0 })
    p = next
  }
  return entries
}

function tooLarge(limit: number): BodyError {
  return new BodyError(413, 'archive-too-large', `What an archive holds comes to at most ${limit} bytes.`, undefined,
    'Send the files themselves: they may be larger; or one with Content-Encoding: gzip.')
}

/** What the files of an archive came to, as one body: its bytes are theirs, one after the other. */
export function joinDecoded(parts: readonly { name: string; decoded: Decoded; base: number }[]): Decoded {
  if (parts.length === 1) return parts[0].decoded
  const builder = new ReadBatchBuilder(64, Math.max(1, parts.reduce((n, { decoded }) => n + decoded.batch.size, 0)))
  const registers = new RegisterBatchBuilder()
  for (const { decoded: { batch, registers: r }, base } of parts) {
    for (let b = 0; b < batch.count; b++) {
      const [from, to] = [batch.offset[b], batch.offset[b] + batch.length[b]]
      const isRaw = batch.rawTo[b] > 0
      builder.addBlock({
        meter: batch.meters[b], startS: batch.startS[b], intervalS: batch.intervalS[b], flow: batch.flow[b] as FlowCode,
        quantity: batch.quantity[b] as QuantityCode, lane: batch.lane[b], exponent: batch.exponent[b], version: batch.version[b],
        place: batch.place[b], rawFrom: isRaw ? batch.rawFrom[b] + base : 0, rawTo: isRaw ? batch.rawTo[b] + base : 0,
      }, batch.values.subarray(from, to), batch.lanes?.subarray(from, to))
    }
    for (let i = 0; i < r.count; i++) {
      registers.add({
        meter: r.meters[i], tou: r.tou[i], quantity: r.quantity[i] as QuantityCode, flow: r.flow[i] as FlowCode, atS: r.atS[i], fromS: r.fromS[i],
        mantissa: r.mantissa[i], exponent: r.exponent[i], lane: r.lane[i], version: r.version[i], place: r.place[i],
      })
    }
  }
  return {
    batch: builder.finish(), registers: registers.finish(), events: parts.flatMap(({ decoded }) => decoded.events),
    problems: parts.flatMap(({ name, decoded, base }) => decoded.problems.map((p) => ({
      ...p, at: `${name}: ${p.at}`,
      ...(p.rawFrom === undefined || p.rawTo === undefined ? {} : { rawFrom: p.rawFrom + base, rawTo: p.rawTo + base }),
    }))),
    rounded: parts.reduce((n, { decoded }) => n + decoded.rounded, 0), state: null,
    notes: parts.flatMap(({ name, decoded }) => decoded.notes.map((note) => `${name}: ${note}`)),
  }
}

