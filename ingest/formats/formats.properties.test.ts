import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BodyError } from '../../engine/problem.js'
import { flowNames, qualityName, type FlowCode } from '../../engine/read-batch.js'
import { getZone } from '../../engine/time/zone.js'
import { bytesOf, decodeInParts, normalReads, received } from '../../test/format-reads.js'
import { csv } from './csv.js'
import type { DecodeContext, Format } from './format.js'
import { json } from './json.js'
import { parseMapping } from './mapping.js'
import { ndjson } from './ndjson.js'

const zone = getZone('America/Chicago')
const ctx: DecodeContext = { zone }

/** A block whose values are decimals: m x 10^-decimals kWh, null where there is no read. */
interface Block {
  meter: string
  startS: number
  intervalS: number
  decimals: number
  mantissas: (number | null)[]
  flow: FlowCode
  lane: number
  version: number
}

const block: fc.Arbitrary<Block> = fc.record({
  meter: fc.constantFrom('M1', 'M2', '0007', 'a b', 'Zähler', 'x"y', 'p,q'),
  startS: fc.integer({ min: 1_890_000, max: 1_990_000 }).map(n => n * 900),
  intervalS: fc.constantFrom(60, 300, 900, 1800, 3600, 14400),
  decimals: fc.integer({ min: 0, max: 7 }),
  mantissas: fc.array(fc.option(fc.integer({ min: -200_000, max: 2_000_000 }), { freq: 5 }), { minLength: 1, maxLength: 30 }),
  flow: fc.constantFrom<FlowCode>(1, 2, 3),
  lane: fc.constantFrom(0, 1, 2, 4, 5),
  version: fc.constantFrom(0, 1_750_000_000_000_000, 1_750_000_000_123_456),
})

function decimal(m: number, decimals: number): string {
  const digits = String(Math.abs(m)).padStart(decimals + 1, '0')
  const whole = digits.slice(0, digits.length - decimals)
  return `${m < 0 ? '-' : ''}${whole}${decimals > 0 ? `.${digits.slice(-decimals)}` : ''}`
}

function instant(s: number): string {
  return new Date(s * 1000).toISOString().replace('.000Z', '+00:00')
}

function captured(version: number): string {
  return `${new Date(Math.floor(version / 1e6) * 1000).toISOString().slice(0, 19)}.${String(version % 1e6).padStart(6, '0')}Z`
}

/** The reads as normalReads() writes them. */
function expectedReads(blocks: readonly Block[]): string[] {
  return blocks.flatMap(({ meter, startS, intervalS, decimals, mantissas, flow, lane, version }) => mantissas.flatMap((m, i) =>
    m === null ? [] : [[meter, flow, intervalS, startS + i * intervalS, lane, version, Number(decimal(m, decimals))].join(' ')])).sort()
}

function blockText({ meter, startS, intervalS, decimals, mantissas, flow, lane, version }: Block, isOdd = false): string {
  const values = mantissas.map(m => m === null ? 'null' : decimal(m, decimals)).join(isOdd ? ' , ' : ',')
  // An escape in a member's name is for the complete reader.
  return `{"${isOdd ? 'm\\u0065ter' : 'meter'}":${JSON.stringify(meter)},"start":"${instant(startS)}","intervalSeconds":${intervalS},`
    + `"values":[${values}],"flow":"${flowNames[flow]}","quality":"${qualityName(lane)}"${version === 0 ? '' : `,"capturedAt":"${captured(version)}"`}}`
}

function csvText(blocks: readonly Block[], lineEnd: string): string {
  const field = (text: string) => /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
  const rows = blocks.flatMap(({ meter, startS, intervalS, decimals, mantissas, flow, lane, version }) => mantissas.map((m, i) => [
    field(meter), instant(startS + i * intervalS), m === null ? '' : decimal(m, decimals), flowNames[flow], qualityName(lane),
    intervalS, version === 0 ? '' : captured(version),
  ].join(',')))
  return ['meter,start,value,flow,quality,intervalSeconds,capturedAt', ...rows].join(lineEnd)
}

function forms(blocks: readonly Block[]): [Format, Uint8Array][] {
  return [
    [json, bytesOf(`{"reads":[${blocks.map(one => blockText(one)).join(',')}]}`)],
    [json, bytesOf(`[ ${blocks.map(one => blockText(one, true)).join(' ,\n ')} ]`)],
    [ndjson, bytesOf(blocks.map(one => blockText(one)).join('\n'))],
    [ndjson, bytesOf(blocks.map(one => blockText(one, true)).join('\r\n\r\n'))],
    [csv, bytesOf(csvText(blocks, '\n'))],
    [csv, bytesOf(csvText(blocks, '\r\n'))],
    [csv, bytesOf(csvText(blocks, '\r'))],
  ]
}

describe('whatever the format', () => {
  it('the reads that were written are the reads that are decoded', () => {
    fc.assert(fc.property(fc.array(block, { minLength: 1, maxLength: 8 }), blocks => {
      const expected = expectedReads(blocks)
      for (const [format, bytes] of forms(blocks)) {
        const { batch, problems } = format.decode(bytes, ctx, null, true)
        expect(problems).toEqual([])
        expect(normalReads(batch)).toEqual(expected)
      }
    }))
  })

  it('any cut into parts gives what the whole gives', () => {
    fc.assert(fc.property(fc.array(block, { minLength: 1, maxLength: 8 }), fc.integer({ min: 10, max: 600 }), (blocks, limit) => {
      const expected = expectedReads(blocks)
      for (const [format, bytes] of forms(blocks)) {
        const parts = decodeInParts(format, bytes, ctx, limit)
        expect(parts.flatMap(part => part.problems)).toEqual([])
        expect(parts.flatMap(part => normalReads(part.batch)).sort()).toEqual(expected)
      }
    }))
  })

  it('problems say the same place in parts as in the whole', () => {
    fc.assert(fc.property(fc.array(block, { minLength: 2, maxLength: 8 }), fc.integer({ min: 30, max: 400 }), (blocks, limit) => {
      const bad = blocks.map((one, i) => i % 2 === 0 ? one : { ...one, meter: '' })
      for (const [format, bytes] of forms(bad)) {
        const whole = format.decode(bytes, ctx, null, true)
        const parts = decodeInParts(format, bytes, ctx, limit)
        expect(parts.flatMap(part => part.problems.map(({ code, at, reads }) => [code, at, reads])))
          .toEqual(whole.problems.map(({ code, at, reads }) => [code, at, reads]))
        expect(parts.reduce((n, part) => n + received(part), 0)).toBe(received(whole))
      }
    }))
  })

  it('local times around a clock change come to the same in parts as in the whole', () => {
    const day = fc.constantFrom('2026-03-08', '2026-11-01', '2026-10-31')
    const rows = fc.array(fc.tuple(fc.constantFrom('A', 'B'), fc.integer({ min: 0, max: 15 })), { minLength: 1, maxLength: 30 })
    fc.assert(fc.property(day, rows, fc.integer({ min: 30, max: 300 }), (date, slots, limit) => {
      const text = slots.map(([meter, slot], i) => `${meter},${date}T0${Math.floor(slot / 4)}:${['00', '15', '30', '45'][slot % 4]},${i}`)
      const bytes = bytesOf(`meter,start,value\n${text.join('\n')}\n`)
      const context: DecodeContext = { zone, defaultIntervalS: 900 }
      const whole = csv.decode(bytes, context, null, true)
      const parts = decodeInParts(csv, bytes, context, limit)
      expect(received(whole)).toBe(slots.length)
      expect(parts.flatMap(part => normalReads(part.batch)).sort()).toEqual(normalReads(whole.batch))
    }))
  })
})

describe('bytes that went wrong', () => {
  const wide = parseMapping({ name: 'w', layout: 'wide', wide: { timeColumn: 't' }, datePattern: 'yyyy-MM-dd HH:mm', intervalSeconds: 900 })
  const long = parseMapping({ name: 'l', columns: { meter: 'm', date: 'd', startTime: 's', endTime: 'e', value: 'v' }, datePattern: 'd-M-yyyy', intervalSeconds: 900 })
  const mapped: [Uint8Array, DecodeContext][] = [
    [bytesOf('t,A,B\n2026-10-01 00:00,1,2\n2026-11-01 01:15,3.5,"4"\n2026-11-01 01:15,,6\n'), { zone, mapping: wide }],
    [bytesOf('m,d,s,e,v\nA,1-10-2026,00:00,00:15,1\nA,1-11-2026,02:00,01:15,.5\r\n"B",1-11-2026,23:45,00:00,1e2\n'), { zone, mapping: long }],
  ]
  const change = fc.tuple(fc.constantFrom('put', 'insert', 'remove', 'repeat'), fc.nat(), fc.oneof(fc.constantFrom(...bytesOf('",:{}[]\\\n\r\0-+.eE0195nut ')), fc.integer({ min: 0, max: 255 })))

  function mutate(bytes: Uint8Array, changes: readonly [string, number, number][]): Uint8Array {
    const out = [...bytes]
    for (const [how, at, byte] of changes) {
      const p = at % (out.length + 1)
      if (how === 'put') out[Math.min(p, out.length - 1)] = byte
      else if (how === 'insert') out.splice(p, 0, byte)
      else if (how === 'remove') out.splice(p, 1 + (byte % 4))
      else out.splice(p, 0, ...out.slice(p, p + (byte % 40)))
      if (out.length === 0) return new Uint8Array(0)
    }
    return Uint8Array.from(out)
  }

  it('never end in anything but reads, problems or a refusal; in parts neither', () => {
    fc.assert(fc.property(fc.array(block, { minLength: 1, maxLength: 4 }), fc.array(change, { minLength: 1, maxLength: 6 }), (blocks, changes) => {
      const cases: [Format, Uint8Array, DecodeContext][] = [
        ...forms(blocks).map(([format, bytes]): [Format, Uint8Array, DecodeContext] => [format, mutate(bytes, changes), ctx]),
        ...mapped.map(([bytes, context]): [Format, Uint8Array, DecodeContext] => [csv, mutate(bytes, changes), context]),
      ]
      for (const [format, bytes, context] of cases) {
        let whole: number | undefined
        try {
          const decoded = format.decode(bytes, context, null, true)
          for (const { reads, rawFrom = 0, rawTo = 0 } of decoded.problems) {
            expect(reads).toBeGreaterThan(0)
            expect(rawFrom).toBeLessThanOrEqual(rawTo)
            expect(rawTo).toBeLessThanOrEqual(bytes.length)
          }
          whole = received(decoded)
        } catch (error) {
          expect(error).toBeInstanceOf(BodyError)
        }
        try {
          const parts = decodeInParts(format, bytes, context, 200)
          // Quotes that do not close are told apart differently where the file ends; nothing else is.
          if (format !== csv) expect(parts.reduce((n, part) => n + received(part), 0)).toBe(whole)
        } catch (error) {
          expect(error).toBeInstanceOf(BodyError)
        }
      }
    }), { numRuns: 150 })
  })

  it('in one line of NDJSON or CSV leave the other lines as they are', () => {
    const printable = fc.string({ unit: 'grapheme', maxLength: 60 }).map(text => text.replaceAll(/[\n\r"]/g, '?'))
    fc.assert(fc.property(block.filter(one => one.mantissas.some(m => m !== null)), printable, (one, junk) => {
      const before = { ...one, meter: 'before' }
      const after = { ...one, meter: 'after' }
      const expected = expectedReads([before, after])
      const rows = csvText([before, after], '\n').split('\n')
      const half = 1 + (rows.length - 1) / 2
      const bodies: [Format, string][] = [
        [ndjson, [blockText(before), junk, blockText(after)].join('\n')],
        [csv, [...rows.slice(0, half), junk, ...rows.slice(half)].join('\n')],
      ]
      for (const [format, text] of bodies) {
        const { batch, problems } = format.decode(bytesOf(text), ctx, null, true)
        expect(normalReads(batch)).toEqual(expected)
        expect(problems.length).toBe(junk.trim() === '' && !/\S/.test(junk) && /^[ \t]*$/.test(junk) ? 0 : 1)
      }
    }))
  })
})
