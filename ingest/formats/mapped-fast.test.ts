import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { getZone } from '../../engine/time/zone.js'
import { mutate, randomOf } from '../../fixtures/mutations.js'
import { bytesOf, normalReads } from '../../test/format-reads.js'
import { headerNames } from './csv.js'
import { CsvRows } from './csv-rows.js'
import type { DecodeContext, Decoded } from './format.js'
import { decodeMapped } from './mapped-csv.js'
import { MappedLong } from './mapped-long.js'
import { parseMapping, type CsvMapping } from './mapping.js'
import { shippedMapping } from './mappings.js'
import { ReadSink } from './sink.js'

const ctx: DecodeContext = { zone: getZone('America/Chicago') }

/** Every row by MappedLong: what the fast reader may not differ from. */
function slowly(bytes: Uint8Array, mapping: CsvMapping, own: DecodeContext): Decoded {
  const zoned = mapping.zone === undefined ? own : { ...own, zone: getZone(mapping.zone) }
  const rows = new CsvRows(bytes, mapping.delimiter.charCodeAt(0))
  const sink = new ReadSink(zoned, null, 'line', bytes.length)
  rows.split(0)
  const names = headerNames(rows, 1)
  const reader = new MappedLong(rows, bytes, sink, mapping, names, zoned)
  let line = rows.lines
  for (let p = rows.next; rows.split(p); p = rows.next) {
    reader.read(line + 1)
    line += rows.lines
  }
  return sink.finish(true, { bytes: bytes.length, lines: line, records: 0, header: names })
}

function hold(bytes: Uint8Array, mapping: CsvMapping, own = ctx): void {
  const fast = decodeMapped(bytes, own, mapping, null, true)
  const slow = slowly(bytes, mapping, own)
  expect(normalReads(fast.batch)).toEqual(normalReads(slow.batch))
  expect(fast.problems).toEqual(slow.problems)
  expect([fast.rounded, fast.batch.count, fast.registers.count]).toEqual([slow.rounded, slow.batch.count, slow.registers.count])
  expect([...fast.batch.place.subarray(0, fast.batch.count)]).toEqual([...slow.batch.place.subarray(0, slow.batch.count)])
  expect([...fast.batch.rawTo.subarray(0, fast.batch.count)]).toEqual([...slow.batch.rawTo.subarray(0, slow.batch.count)])
}

function shipped(name: string): CsvMapping {
  const mapping = shippedMapping(name)
  if (mapping === undefined) throw new Error(name)
  return mapping
}

const meters = fc.constantFrom('M1', 'M1', 'M1', 'M2', '\'M1', '"M1"', ' M1', 'a b', 'Zähler', '', '\u0007')
const values = fc.oneof({ weight: 8, arbitrary: fc.integer({ min: -50, max: 5000 }).map(n => (n / 1000).toString()) }, {
  weight: 2, arbitrary: fc.constantFrom('', ' ', ' 0.292 ', '"1.5"', '"1,5"', '1,5', 'Null', '-9999', '+1', '.5', '5.', '.', '-', '-0', '1e3', '9'.repeat(16), '0.1234567890123', '12345678901'),
})
const minutes = fc.oneof({ weight: 8, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: fc.constantFrom(0, 2, 96, -1) })
const word = (...words: string[]): fc.Arbitrary<string> => fc.oneof({ weight: 6, arbitrary: fc.constant(words[0]) }, { weight: 2, arbitrary: fc.constantFrom(...words) })

/** Rows whose times mostly follow each other, from shortly before clocks go back. */
function body(header: string, row: (at: Date, fields: { meter: string, value: string, words: string[] }) => string, words: fc.Arbitrary<string>[], stepS: number): fc.Arbitrary<Uint8Array> {
  const one = fc.record({ meter: meters, value: values, step: minutes, words: fc.tuple(...words), end: word('\n', '\r\n', ',\n', '\n\n', '\r') })
  return fc.array(one, { minLength: 1, maxLength: 60 }).map((rows) => {
    let slot = 0
    const lines = rows.map(({ step, end, ...fields }) => {
      slot += step
      return row(new Date(Date.UTC(2026, 9, 31, 18) + slot * stepS * 1000), fields) + end
    })
    return bytesOf(`${header}\n${lines.join('')}`)
  })
}

const date = (at: Date): string => at.toISOString().slice(0, 10)
const clock = (at: Date): string => at.toISOString().slice(11, 16)
const after = (at: Date, s: number): Date => new Date(at.getTime() + s * 1000)

describe('rows of a long file that are read in one pass', () => {
  const cases: [string, CsvMapping, fc.Arbitrary<Uint8Array>][] = [
    ['start and constants', shipped('lcl'), body('LCLid,stdorToU,DateTime,KWH/hh (per half hour)',
      (at, { meter, value, words }) => `${meter},${words[0]},${date(at)} ${words[1]},${value}`.replace('CLOCK', clock(at)),
      [word('Std', 'ToU', '', '"S,d"', 'S\0d'), word('CLOCK:00', 'CLOCK:00 ', 'CLOCK', '24:00:00', 'x')], 1800)],
    ['a date and both times of day', shipped('smart-meter-texas'), body(
      'ESIID,USAGE_DATE,REVISION_DATE,USAGE_START_TIME,USAGE_END_TIME,USAGE_KWH,ESTIMATED_ACTUAL,CONSUMPTION_SURPLUSGENERATION',
      (at, { meter, value, words }) => {
        const day = date(at).split('-')
        return `${meter},${day[1]}/${day[2]}/${day[0]},${words[0]},${clock(at)},${clock(after(at, words[1] === '' ? 900 : 1800))},${value},${words[2]},${words[3]}`
      }, [word('11/03/2026 08:00:00', '11/04/2026 08:00:00', '', 'x'), word('', '', '', 'late'), word('A', 'E', '', 'X'), word('Consumption', 'Surplus Generation', 'Other')], 900)],
    ['ends, power, a decimal comma and numbers that are missing', parseMapping({
      name: 'ends', delimiter: ';', decimalMark: ',', thousandsMark: '.', columns: { meter: 'm', time: 't', value: 'v', unit: 'u', intervalSeconds: 'i' }, label: 'end', endInclusive: true,
      kind: 'power', unit: 'kW', factor: 0.25, missing: ['-9999', '0,5'], datePattern: 'iso',
    }), body('m;t;v;u;i', (at, { meter, value, words }) => `${meter};${date(at)}T${clock(at)}${words[0]};${value.replace('.', ',')};${words[1]};${words[2]}`,
      [word('Z', '', '-05:00'), word('', 'W', 'kW', 'furlong'), word('900', '1800', '', '700', '82800', '86400')], 900)],
    ['both ends, which tell the length, and negative values', parseMapping({
      name: 'both', columns: { start: 's', end: 'e', value: 'v', quality: 'q', flow: 'f' }, meterId: 'M9', negative: 'received', datePattern: 'yyyy-MM-dd HH:mm|M/d/yyyy h:mm a',
      qualityMap: { '*': 'estimated', 'ok': 'actual' }, flowMap: { '': 'net' },
    }), body('s,e,v,q,f', (at, { value, words }) => `${date(at)} ${clock(at)},${date(after(at, 900))} ${clock(after(at, words[0] === '' ? 900 : 3600))},${value},${words[1]},${words[2]}`,
      [word('', '', '', 'long'), word('ok', '', 'bad', ' '), word('delivered', '', 'received', 'x')], 900)],
    ['ends of days', parseMapping({
      name: 'days', columns: { meter: 'm', date: 'd', endTime: 'e', value: 'v' }, datePattern: 'yyyy-MM-dd', zone: 'Etc/GMT+6', intervalSeconds: 3600,
    }), body('m,d,e,v', (at, { meter, value }) => `${meter},${date(at)},${clock(at)},${value}`, [], 3600)],
  ]

  it.each(cases)('%s: as row by row', (_, mapping, bodies) => {
    fc.assert(fc.property(bodies, fc.constantFrom<DecodeContext>(ctx, { zone: null }, { ...ctx, clock: 'wall-as-epoch', round: true }), (bytes, own) => {
      hold(bytes, mapping, own)
    }), { numRuns: 400 })
  })

  it.each(cases)('%s: of mutated bodies too', (_, mapping, bodies) => {
    fc.assert(fc.property(bodies, fc.integer(), (bytes, seed) => {
      const rows = bytes.indexOf(10) + 1
      const changed = mutate(bytes.subarray(rows), randomOf(seed))
      hold(new Uint8Array(Buffer.concat([bytes.subarray(0, rows), changed])), mapping)
    }), { numRuns: 400 })
  })
})
