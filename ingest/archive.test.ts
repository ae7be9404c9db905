import { gzipSync as nodeGzip } from 'node:zlib'
import fc from 'fast-check'
import { zipSync } from 'fflate'
import { describe, expect, it } from 'vitest'
import { BodyError } from '../engine/problem.js'
import { bytesOf, readsOf, received } from '../test/format-reads.js'
import { archiveKind, joinDecoded, unpack } from './archive.js'
import { csv } from './formats/csv.js'
import { nem12 } from './formats/nem12.js'

const LIMIT = 1_000_000
const files = { 'a.csv': bytesOf('meter,start,value\nM1,x,1\n'), 'b/n.csv': bytesOf('100,NEM12,1,a,b\n900\n') }
const code = (bytes: Uint8Array, limit = LIMIT): string => {
  const kind = archiveKind(bytes)
  if (kind === null) return 'none'
  try {
    return unpack(bytes, kind, 'x.csv.gz', limit).map((e) => e.name).join()
  } catch (err) {
    if (err instanceof BodyError) return err.code
    throw err
  }
}

describe('an archive', () => {
  it('is its files, by their names; folders and a Mac\'s extras are none', () => {
    expect(code(zipSync({ ...files, '__MACOSX/a.csv': bytesOf('x'), '.DS_Store': bytesOf('x'), 'd/': new Uint8Array(0) }))).toBe('a.csv,b/n.csv')
    expect(code(new Uint8Array(nodeGzip(files['a.csv'])))).toBe('x.csv')
    expect(code(bytesOf('meter,start'))).toBe('none')
  })

  it('that unpacks to more than is allowed is refused before it is unpacked', () => {
    const bomb = new Uint8Array(50_000_000)
    expect(code(zipSync({ 'a.csv': bomb }))).toBe('archive-too-large')
    expect(code(new Uint8Array(nodeGzip(bomb)))).toBe('archive-too-large')
    expect(code(zipSync(Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`${i}.csv`, bytesOf('x')]))))).toBe('archive-too-large')
  })

  it('that lies about the length of a file is refused', () => {
    const zip = zipSync({ 'a.csv': new Uint8Array(5000) })
    const view = new DataView(zip.buffer, zip.byteOffset, zip.length)
    for (let p = 0; p < zip.length - 46; p++) if (view.getUint32(p, true) === 0x02014b50) view.setUint32(p + 24, 100, true)
    expect(code(zip)).toBe('malformed-zip')
  })

  it('in an archive is refused', () => {
    expect(code(zipSync({ 'a.zip': zipSync(files) }))).toBe('archive-nested')
    expect(code(new Uint8Array(nodeGzip(nodeGzip('x'))))).toBe('archive-nested')
  })

  it('that is damaged anywhere is refused, or is what it was', () => {
    const zip = zipSync(files)
    fc.assert(fc.property(fc.nat({ max: zip.length - 1 }), fc.integer({ min: 0, max: 255 }), fc.boolean(), (at, byte, cut) => {
      const copy = cut ? zip.slice(0, at) : zip.slice()
      if (!cut) copy[at] = byte
      if (archiveKind(copy) !== 'zip') return
      try {
        for (const entry of unpack(copy, 'zip', null, LIMIT)) expect([...Object.values(files)].map((f) => f.join())).toContain(entry.bytes.join())
      } catch (err) {
        expect(err).toBeInstanceOf(BodyError)
      }
    }), { numRuns: 500 })
  })

  it('of several files is one body', () => {
    const zone = null
    const parts = [
      { name: 'a.csv', base: 0, decoded: csv.decode(bytesOf('meter,start,value,intervalSeconds\nM1,2026-10-01T00:00:00Z,1,900\nM1,bad,1,900\n'), { zone }, null, true) },
      { name: 'n.csv', base: 80, decoded: nem12.decode(bytesOf('250,N1,11,1,11,11,S,E,1,20261001000000,A,,,3,20261002000000,A,,,2,kWh,,,\nhello\n'), { zone }, null, true) },
    ]
    const joined = joinDecoded(parts)
    expect(received(joined)).toBe(parts.reduce((n, p) => n + received(p.decoded), 0))
    expect(readsOf(joined.batch)).toMatchObject([{ meter: 'M1', kwh: 1 }])
    expect(joined.registers.count).toBe(3)
    expect(joined.problems.map((p) => [p.at.split(',')[0], p.rawFrom])).toEqual([['a.csv: line 3', 64], ['n.csv: line 2', 80 + 73]])
  })
})
