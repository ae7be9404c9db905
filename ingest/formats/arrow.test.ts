import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Field, Float64, Int32, List, makeData, RecordBatch, Schema, Struct, Table, TimestampMillisecond, Utf8, tableToIPC, vectorFromArray } from 'apache-arrow'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { packageRoot } from '../../engine/package-root.js'
import { decimalText } from '../../engine/canonical-block.js'
import { MISSING } from '../../engine/read-batch.js'
import { getZone } from '../../engine/time/zone.js'
import { arrow } from './arrow.js'
import { detectFormat, type DecodeContext, type Decoded } from './format.js'
import { json } from './json.js'

const folder = join(packageRoot(), 'fixtures', 'arrow')
const context: DecodeContext = { zone: getZone('America/Chicago') }

/** The reads of a batch, by meter and start. */
function readsOf({ batch }: Decoded): Record<string, string> {
  const reads: [string, string][] = []
  for (let b = 0; b < batch.count; b++) {
    for (let i = 0; i < batch.length[b]; i++) {
      const m = batch.values[batch.offset[b] + i]
      if (m !== MISSING) reads.push([`${batch.meters[b]} ${batch.startS[b] + i * batch.intervalS[b]} ${batch.intervalS[b]}`, decimalText(m, batch.exponent[b])])
    }
  }
  return Object.fromEntries(reads.sort())
}

const START = Date.parse('2026-10-01T05:00:00Z') / 1000
const EXPECTED = Object.fromEntries([['A1', ['0.5', null, '0.25', '1.125']], ['B2', ['7', '8', '9', '10']]].flatMap(([meter, values]) =>
  (values as (string | null)[]).flatMap((value, i) => value === null ? [] : [[`${meter as string} ${START + i * 900} 900`, value]])))

describe('Arrow streams written by pyarrow (fixtures/arrow/make.py)', () => {
  const files = readdirSync(folder).filter((name) => name.endsWith('.arrows'))

  it('are ten', () => {
    expect(files).toHaveLength(10)
  })

  it.each(files)('%s', (name) => {
    const bytes = new Uint8Array(readFileSync(join(folder, name)))
    const decoded = detectFormat(undefined, undefined, undefined, bytes).decode(bytes, context, null, true)
    expect(decoded.problems).toEqual([])
    expect(readsOf(decoded)).toEqual(EXPECTED)
  })

  it('cut short anywhere they are refused, or give no read that is not theirs', () => {
    const bytes = new Uint8Array(readFileSync(join(folder, 'float64-us.arrows')))
    for (let end = 0; end < bytes.length; end++) {
      let reads: Record<string, string>
      try {
        reads = readsOf(arrow.decode(bytes.subarray(0, end), context, null, true))
      } catch (err) {
        expect(err).toMatchObject({ name: 'BodyError', status: 400 })
        continue
      }
      expect(EXPECTED).toMatchObject(reads)
    }
  })

  it('with any byte changed are refused in our words, or read', () => {
    const bytes = new Uint8Array(readFileSync(join(folder, 'decimal.arrows')))
    fc.assert(fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, value) => {
      const changed = bytes.slice()
      changed[at] = value
      try {
        arrow.decode(changed, context, null, true)
      } catch (err) {
        expect(err).toMatchObject({ name: 'BodyError' })
      }
    }), { numRuns: 500 })
  })
})

/** A stream of blocks, as the library's JavaScript writes it. */
function stream(rows: readonly { meter: string; startMs: number; values: readonly (number | null)[] }[]): Uint8Array {
  const lists = new List(new Field('item', new Float64(), true))
  const table = new Table({
    meter: vectorFromArray(rows.map((r) => r.meter), new Utf8()),
    start: vectorFromArray(rows.map((r) => r.startMs), new TimestampMillisecond('UTC')),
    value: vectorFromArray(rows.map((r) => [...r.values]), lists),
    intervalSeconds: vectorFromArray(rows.map(() => 900), new Int32()),
  })
  return tableToIPC(table, 'stream')
}

describe('Arrow blocks', () => {
  it('come to the same as the JSON blocks that say the same', () => {
    const value = fc.oneof(fc.constant(null), fc.integer({ min: 0, max: 2_000_000 }).map((n) => n / 1000), fc.integer({ min: 0, max: 99_999 }).map((n) => n / 100_000))
    const row = fc.record({ meter: fc.constantFrom('A', 'B', '00C'), slot: fc.nat(10_000), values: fc.array(value, { minLength: 1, maxLength: 20 }) })
    fc.assert(fc.property(fc.array(row, { minLength: 1, maxLength: 8 }), (rows) => {
      // Of two blocks that say the same slot the later would stand; each meter has blocks that lie apart.
      const apart = rows.map((r, i) => ({ ...r, meter: `${r.meter}${i}`, startMs: (START + r.slot * 900) * 1000 }))
      const blocks = apart.map(({ meter, startMs, values }) => ({ meter, start: new Date(startMs).toISOString(), intervalSeconds: 900, values }))
      const plain = json.decode(new TextEncoder().encode(JSON.stringify(blocks)), context, null, true)
      const decoded = arrow.decode(stream(apart), context, null, true)
      expect(decoded.problems.map((p) => p.code)).toEqual(plain.problems.map((p) => p.code))
      expect(readsOf(decoded)).toEqual(readsOf(plain))
    }))
  })

  it('name what is wrong with a column', () => {
    const bytes = (names: string[]): Uint8Array => {
      const fields = names.map((name) => new Field(name, new Float64(), true))
      const children = names.map(() => makeData({ type: new Float64(), length: 1, data: new Float64Array([1]) }))
      const schema = new Schema(fields)
      return tableToIPC(new Table(schema, new RecordBatch(schema, makeData({ type: new Struct(fields), length: 1, children }))), 'stream')
    }
    const decode = (names: string[]): Decoded => arrow.decode(bytes(names), context, null, true)
    expect(() => decode(['meter', 'start', 'value', 'colour'])).toThrow('There is no column "colour".')
    expect(() => decode(['meter', 'start'])).toThrow('The stream has no column value.')
    expect(() => decode(['meter', 'start', 'value'])).toThrow('The column start is Float64.')
    expect(() => arrow.decode(new TextEncoder().encode('ARROW1 and so on'), context, null, true)).toThrow('no Arrow IPC stream')
  })
})
