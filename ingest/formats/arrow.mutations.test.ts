import { readdirSync, readFileSync } from 'node:fs'
import { Field, Float64, LargeUtf8, makeData, RecordBatch, Schema, Struct, Table, tableToIPC, TimestampSecond } from 'apache-arrow'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { getZone } from '../../engine/time/zone.js'
import { arrowBodies, checkDecoding, mutate, mutateWords, randomOf } from '../../fixtures/mutations.js'
import { arrow } from './arrow.js'
import type { DecodeContext } from './format.js'

const folder = new URL('../../fixtures/arrow/', import.meta.url)
const read = (name: string): Uint8Array => new Uint8Array(readFileSync(new URL(name, folder)))
const context: DecodeContext = { zone: getZone('America/Chicago'), defaultIntervalS: 900 }
const bodies = [...readdirSync(folder).filter((name) => name.endsWith('.arrows')).map(read), ...arrowBodies()]

describe('a damaged Arrow stream', () => {
  it('begins as one that is read', () => {
    for (const body of bodies) expect(arrow.decode(body, context, null, true).problems).toEqual([])
  })

  it.each([['bytes', mutate], ['words', mutateWords]])('with changed %s is told or read, never a crash', (_, change) => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 2 ** 30 }), fc.constantFrom(...bodies), (seed, body) => {
      checkDecoding(arrow, change(body, randomOf(seed)), context)
    }), { numRuns: 1500 })
  })

  it('whose table has a vtable of an odd size is refused before the library makes millions of fields of it', () => {
    const bytes = read('float32.arrows')
    const view = new DataView(bytes.buffer, bytes.byteOffset)
    expect(view.getInt32(212, true)).toBe(0x0008_0008)
    view.setInt32(212, 7, true)
    expect(() => arrow.decode(bytes, context, null, true)).toThrow('cut off or damaged')
  })

  it('whose texts lie beyond their bytes is refused', () => {
    const columns = (offsets: bigint[]): Uint8Array => {
      const parts = {
        meter: makeData({ type: new LargeUtf8(), data: new TextEncoder().encode('A1B2C3'), valueOffsets: BigInt64Array.from(offsets), length: 3, nullCount: 0 }),
        start: makeData({ type: new TimestampSecond('UTC'), data: BigInt64Array.of(1_782_882_000n, 1_782_882_900n, 1_782_883_800n), nullCount: 0 }),
        value: makeData({ type: new Float64(), data: Float64Array.of(1, 2, 3), nullCount: 0 }),
      }
      const fields = Object.entries(parts).map(([name, data]) => new Field(name, data.type, false))
      const schema = new Schema(fields)
      const batch = new RecordBatch(schema, makeData({ type: new Struct(fields), length: 3, nullCount: 0, children: Object.values(parts) }))
      return new Uint8Array(tableToIPC(new Table(schema, [batch]), 'stream'))
    }
    expect(arrow.decode(columns([0n, 2n, 4n, 6n]), context, null, true).batch.count).toBe(3)
    // Two texts of equal length were compared byte by byte, both of them nowhere: a worker would not have come back.
    expect(() => arrow.decode(columns([0n, 1_000_000_000_000n, 2_000_000_000_000n, 6n]), context, null, true)).toThrow('The column meter holds less than it says.')
  })
})
