import { describe, expect, it } from 'vitest'
import { Quantity } from '../../engine/quantity.js'
import { getZone } from '../../engine/time/zone.js'
import { bytesOf, decodeInParts, normalReads, readsOf, received, registersOf } from '../../test/format-reads.js'
import { csv } from './csv.js'
import { DatePattern } from './date-pattern.js'
import { parseMapping } from './mapping.js'
import { mappingNames, shippedMapping } from './mappings.js'

const chicago = getZone('America/Chicago')

function decode(text: string, mapping: unknown, zone = 'America/Chicago') {
  return csv.decode(bytesOf(text), { zone: getZone(zone), mapping: parseMapping(mapping) }, null, true)
}

function flat(text: string, mapping: unknown, zone?: string) {
  const decoded = decode(text, mapping, zone)
  expect(decoded.problems).toEqual([])
  return readsOf(decoded.batch).map(read => [read.meter, read.flow, new Date(read.startS * 1000).toISOString().slice(0, 16), read.kwh])
}

describe('mapped CSV', () => {
  it('reads decimal commas, semicolons, thousands marks, preambles and power', () => {
    const text = 'Report of\tpower;;\n\n"Meter no."; Time ;kW\nA;1.10.2026 0:15;1.234,4\nA;1.10.2026 0:30;2,2\nB;1.10.2026 24:00;\n'
    expect(flat(text, {
      name: 'power', delimiter: ';', decimalMark: ',', thousandsMark: '.', headerLine: 3, unit: 'kW', kind: 'power',
      columns: { meter: 'Meter no.', time: 'Time', value: 'kW' }, label: 'end', datePattern: 'd.M.yyyy H:mm', intervalSeconds: 900,
    })).toEqual([['A', 1, '2026-10-01T05:00', 308.6], ['A', 1, '2026-10-01T05:15', 0.55]])
  })

  it('reads a file without header by the columns\' numbers, with factor, words and a constant meter', () => {
    expect(flat('x,10/01/2026 01:30 PM,12,in,E\ny,10/01/2026 12:00 AM,Null,in,\nz,10/01/2026 12:15 AM,7,out,\n', {
      name: 'n', headerLine: null, columns: { start: 2, value: 3, flow: 4, quality: 5 }, meterId: 'M9', factor: 0.1, missing: ['Null'],
      datePattern: 'MM/DD/YYYY hh:mm a', intervalSeconds: 900, flowMap: { in: 'delivered', out: 'received' }, qualityMap: { E: 'estimated' },
    })).toEqual([['M9', 1, '2026-10-01T18:30', 1.2], ['M9', 2, '2026-10-01T05:15', 0.7]])
  })

  it('reads a wide file with a prefix, columns to leave out, and a zone of its own', () => {
    expect(flat('sum,t,1,2\n9,2026-10-01 00:00,1.5,\n9,2026-10-01 00:30,,x\n'.replace(',x', ',2'), {
      name: 'w', layout: 'wide', wide: { timeColumn: 't', meterPrefix: 'M', ignore: ['sum'] }, datePattern: 'yyyy-MM-dd HH:mm',
      zone: 'Etc/GMT+6', intervalSeconds: 1800,
    })).toEqual([['M1', 1, '2026-10-01T06:00', 1.5], ['M2', 1, '2026-10-01T06:30', 2]])
  })

  it('takes a wide row\'s repeated hour by file order, for every column', () => {
    const rows = ['01:00', '01:30', '01:00', '01:30', '02:00'].map((time, i) => `2026-11-01 ${time},${i},${i + 10}`)
    const reads = flat(`t,A,B\n${rows.join('\n')}`, {
      name: 'w', layout: 'wide', wide: { timeColumn: 't' }, datePattern: 'yyyy-MM-dd HH:mm', intervalSeconds: 1800,
    })
    expect(reads.filter(([meter]) => meter === 'B').sort().map(([, , at, kwh]) => [at, kwh])).toEqual([
      ['2026-11-01T06:00', 10], ['2026-11-01T06:30', 11], ['2026-11-01T07:00', 12], ['2026-11-01T07:30', 13], ['2026-11-01T08:00', 14],
    ])
  })

  it('reports what is wrong in rows and cells, and loses nothing else', () => {
    const mapping = { name: 'w', layout: 'wide', wide: { timeColumn: 't' }, datePattern: 'yyyy-MM-dd HH:mm', intervalSeconds: 1800 }
    const decoded = decode('t,A,B\n2026-10-01 00:00,x,1\n2026-10-01,1,2\n2026-10-01 00:30,1\n2026-10-01 01:00,"1"\u0000,\n2026-10-01 01:30,1.5,2,\n,,\n', mapping)
    expect(decoded.problems.map(({ code, at, reads, meter }) => [code, at, reads, meter])).toEqual([
      ['value-not-number', 'line 2, column "A"', 1, 'A'], ['time-unreadable', 'line 3', 2, undefined],
      ['column-count', 'line 4', 1, undefined], ['malformed-csv', 'line 5', 1, undefined],
    ])
    expect(received(decoded)).toBe(8)
  })

  it('keeps decimals exactly, and takes no number for a read that stands for a missing one', () => {
    const mapping = { name: 'w', layout: 'wide', wide: { timeColumn: 't' }, datePattern: 'yyyy-MM-dd HH:mm', intervalSeconds: 1800 }
    const cells = ['0.125', '-1.5', '5.', '.5', '9999', '-0.0000001', '12.3456789', '1.2.3', '-', '.']
    const text = `t,A\n${cells.map((cell, i) => `2026-10-01 0${i >> 1}:${i % 2 ? '30' : '00'},${cell}`).join('\n')}\n`
    const decoded = decode(text, mapping)
    expect(readsOf(decoded.batch).map(({ kwh }) => kwh)).toEqual([0.125, -1.5, 5, 0.5, 9999, -1e-7, 12.3456789])
    expect(decoded.problems.map(({ code }) => code)).toEqual(['value-not-number', 'value-not-number', 'value-not-number'])
    const { batch } = decode(text, { ...mapping, missing: ['9999', '-'] })
    expect(readsOf(batch).map(({ kwh }) => kwh)).toEqual([0.125, -1.5, 5, 0.5, -1e-7, 12.3456789])
  })

  it.each([
    ['t,A\n', { timeColumn: 'time' }, 'missing-column'], ['t,A,A\n', { timeColumn: 't' }, 'duplicate-column'],
    ['t,A,\n', { timeColumn: 't' }, 'meter-invalid'], ['', { timeColumn: 't' }, 'empty-body'],
  ])('refuses the header %j with %j: %s', (text, wide, code) => {
    expect(() => decode(text, { name: 'w', layout: 'wide', wide, intervalSeconds: 1800 })).toThrowError(expect.objectContaining({ code }))
  })

  it('reads the broken row of the autumn night by its end, and refuses it on other nights', () => {
    const mapping = shippedMapping('smart-meter-texas')
    const row = (day: string, from: string, to: string, value: number) =>
      `'104,${day},11/09/2022 08:00:00,${from}, ${to},${value},A,Consumption`
    const night = (day: string) => ['01:00', '01:15', '01:30', '01:45', '02:00', '01:15', '01:30', '01:45', '02:00'].map((from, i) =>
      row(day, from, i === 4 ? '01:15' : ['01:15', '01:30', '01:45', '02:00', '01:15', '01:30', '01:45', '02:00', '02:15'][i], i))
    const head = 'ESIID,USAGE_DATE,REVISION_DATE,USAGE_START_TIME,USAGE_END_TIME,USAGE_KWH,ESTIMATED_ACTUAL,CONSUMPTION_SURPLUSGENERATION\n'
    const autumn = csv.decode(bytesOf(head + night('11/06/2022').join('\n')), { zone: chicago, mapping }, null, true)
    expect(autumn.problems).toEqual([])
    const first = Date.parse('2022-11-06T06:00Z') / 1000
    expect(readsOf(autumn.batch).sort((a, b) => a.kwh - b.kwh).map(({ startS }) => startS))
      .toEqual(Array.from({ length: 9 }, (_, i) => first + i * 900))
    const plain = csv.decode(bytesOf(head + night('11/07/2022').slice(3, 6).join('\n')), { zone: chicago, mapping }, null, true)
    expect(plain.problems).toMatchObject([{ code: 'interval-mismatch', at: 'line 3' }])
  })

  it('gives the same reads in parts as in one', () => {
    const mapping = parseMapping({ name: 'w', layout: 'wide', wide: { timeColumn: 't' }, datePattern: 'yyyy-MM-dd HH:mm', intervalSeconds: 1800 })
    const rows = Array.from({ length: 60 }, (_, i) => `2026-10-31 ${String(i >> 1).padStart(2, '0')}:${i % 2 ? '30' : '00'},${i},${i / 8}`).slice(0, 48)
    const text = bytesOf(`t,A,"B ""x"""\n${rows.join('\r\n')}`)
    const whole = csv.decode(text, { zone: chicago, mapping }, null, true)
    const parts = decodeInParts(csv, text, { zone: chicago, mapping }, 100)
    expect(parts.length).toBeGreaterThan(5)
    expect(parts.flatMap(part => normalReads(part.batch)).sort()).toEqual(normalReads(whole.batch))
    expect(parts.flatMap(part => part.problems)).toEqual([])
  })
})

describe('exports of portals and head-ends', () => {
  const decodeBy = (text: string, name: string, ctx: object = {}) =>
    csv.decode(bytesOf(text), { zone: chicago, mapping: shippedMapping(name), ...ctx }, null, true)
  const readsBy = (text: string, name: string) => {
    const decoded = decodeBy(text, name, { meter: 'house' })
    expect(decoded.problems).toEqual([])
    return readsOf(decoded.batch).map(({ meter, flow, startS, intervalS, kwh, lane }) => [meter, flow, new Date(startS * 1000).toISOString().slice(0, 16), intervalS, kwh, lane])
  }
  const preamble = '\ufeffName,A MEMBER\nAddress,"1 MAIN ST, TOWN"\nAccount Number,12345\nService,Service 1\n\n'

  it('has Opower\'s, whose ends are inclusive and whose negative values were exported', () => {
    const rows = ['Electric usage,2026-10-01,00:00,00:14,0.25,kWh,$0.05,', 'Electric usage,10/1/2026,00:15,00:29,-1.5,KWH,,Estimated',
      'Electric usage,2026-10-01,23:45,23:59,0.1,kWh,$0.02,']
    expect(readsBy(`${preamble}TYPE,DATE,START TIME,END TIME,USAGE,UNITS,COST,NOTES\n${rows.join('\n')}\n`, 'opower')).toEqual([
      ['house', 1, '2026-10-01T05:00', 900, 0.25, 0], ['house', 1, '2026-10-01T05:15', 900, 0, 1],
      ['house', 1, '2026-10-02T04:45', 900, 0.1, 0], ['house', 2, '2026-10-01T05:15', 900, 1.5, 1],
    ])
    expect(readsBy(`${preamble}TYPE,DATE,START TIME,END TIME,USAGE (kWh),COST,NOTES\nElectric usage,2026-10-01,00:00,00:59,0.25,,\n`, 'opower-kwh'))
      .toEqual([['house', 1, '2026-10-01T05:00', 3600, 0.25, 0]])
  })

  it('has Opower\'s of both flows, and takes the repeated hour by file order', () => {
    const rows = [['00:00', '00:59'], ['01:00', '01:59'], ['01:00', '01:59'], ['02:00', '02:59']].map(([from, to], i) =>
      `Electric usage,2026-11-01,${from},${to},${i},${i / 10},$0,`)
    const reads = readsBy(`${preamble}TYPE,DATE,START TIME,END TIME,IMPORT (kWh),EXPORT (kWh),COST,NOTES\n${rows.join('\n')}\n`, 'opower-import-export')
    const at = ['2026-11-01T05:00', '2026-11-01T06:00', '2026-11-01T07:00', '2026-11-01T08:00']
    expect(reads.sort()).toEqual([1, 2].flatMap((flow) => at.map((start, i) => ['house', flow, start, 3600, flow === 1 ? i : i / 10, 0])).sort())
  })

  it('has Edison\'s, with headings between the days and ranges of time', () => {
    const day = (date: string) => `"Data for period starting: ${date} 00:00:00\u00a0 for 24 hours"\n\n`
      + 'Energy consumption time period,Usage(Real energy in kilowatt-hours),Reading quality\n'
      + `"${date} 00:00:00\u00a0to ${date} 00:15:00","0.25",""\n"${date} 00:15:00\u00a0to ${date} 00:30:00","0.5","Estimated"\n\n`
    expect(readsBy(`Energy Usage Information\n"For location: 1 MAIN ST"\n\n${day('2026-10-01')}${day('2026-10-02')}`, 'sce')).toEqual([
      ['house', 1, '2026-10-01T05:00', 900, 0.25, 0], ['house', 1, '2026-10-01T05:15', 900, 0.5, 1],
      ['house', 1, '2026-10-02T05:00', 900, 0.25, 0], ['house', 1, '2026-10-02T05:15', 900, 0.5, 1],
    ])
  })

  it('has Badger\'s, water and its register in a row', () => {
    const head = '"Meter_ID","Read_Time","Read","Read_Unit","Flow","Flow_Time","Flow_Unit","Estimated_Flag"'
    const decoded = decodeBy(`${head}\n"77","2026-10-01 00:59","227.6","CCF","5.0","2026-10-01 00:59","Gallons","0"\n"77","2026-10-01 01:59","","","2","2026-10-01 01:59","furlong","1"\n`, 'badger-beacon')
    expect(decoded.problems).toMatchObject([{ code: 'unit-unsupported', at: 'line 3', reads: 1 }])
    expect(readsOf(decoded.batch)).toMatchObject([{ meter: '77', startS: Date.parse('2026-10-01T05:00Z') / 1000, intervalS: 3600, kwh: 5 }])
    expect(decoded.batch.quantity[0]).toBe(Quantity['volume-gal'])
    expect(registersOf(decoded.registers)).toEqual([['77', 'volume-ft3', 1, '', '2026-10-01T05:59', '22760']])
  })

  it('refuses files without a meter where none is given, or without their header', () => {
    const head = `${preamble}TYPE,DATE,START TIME,END TIME,USAGE,UNITS,COST,NOTES\n`
    expect(() => decodeBy(head, 'opower')).toThrow(expect.objectContaining({ code: 'meter-not-stated' }))
    expect(() => decodeBy(preamble, 'opower', { meter: 'house' })).toThrow(expect.objectContaining({ code: 'empty-body' }))
    expect(() => decodeBy(`${preamble}TYPE,DATE\n`, 'opower', { meter: 'house' })).toThrow(expect.objectContaining({ code: 'missing-column' }))
  })

  it('counts every value of a row that is at fault', () => {
    const mapping = { name: 'two', columns: { meter: 'm', time: 't' }, values: [{ column: 'a' }, { column: 'b', unit: 'gal' }], intervalSeconds: 3600 }
    const decoded = decode('m,t,a,b\n,2026-10-01T00:00:00Z,1,2\nM,never,1,2\nM,2026-10-01T00:00:00Z,x,2\nM,2026-10-01T01:00:00Z,,\n', mapping)
    expect(decoded.problems.map(({ code, at, reads }) => [code, at, reads])).toEqual([
      ['meter-invalid', 'line 2', 2], ['time-unreadable', 'line 3', 2], ['value-not-number', 'line 4', 1]])
    expect(received(decoded)).toBe(6)
  })

  it('keeps quantities apart in a wide file', () => {
    const mapping = { name: 'w', layout: 'wide', wide: { timeColumn: 't', channels: { e: { meter: 'M' }, v: { meter: 'M', unit: 'V' } } }, intervalSeconds: 900 }
    const { batch, problems } = decode('t,e,v\n2026-10-01T00:00:00Z,1,240\n', mapping)
    expect(problems).toEqual([])
    expect([...batch.quantity.subarray(0, batch.count)]).toEqual([Quantity.energy, Quantity.voltage])
  })
})

describe('mappings', () => {
  it('that are shipped are right, and found by name', () => {
    expect(mappingNames()).toEqual([
      'zonnedael', 'smart-meter-texas', 'lcl', 'ausgrid', 'eemeter', 'opower', 'opower-kwh', 'opower-import-export', 'sce', 'badger-beacon'])
    expect(shippedMapping('nothing')).toBeUndefined()
  })

  it('that are wrong say everything that is', () => {
    const wrong = {
      delimiter: '::', decimalMark: '·', headerLine: 0, layout: 'deep', columns: { metre: 'x', start: true }, zone: 'Mars/Base',
      datePattern: 'yyyy-MM', unit: 'furlong', endInclusive: 1, skipRows: 'x', negative: 'up', values: [{ column: true, flow: 'up', unit: 'furlong', register: 1, colour: 1 }], kind: 'heat', factor: 0, flowMap: { a: 'up' }, qualityMap: { b: 'hunch' },
      intervalSeconds: 7, missing: 'x', colour: 1, label: 'middle', strip: 1, meterId: '',
    }
    let message = ''
    try {
      parseMapping(wrong)
    } catch (error) {
      message = error instanceof RangeError ? error.message : ''
    }
    for (const word of [
      'name', 'delimiter', 'decimalMark', 'headerLine', 'layout', 'columns.metre', 'columns.start', 'zone',
      'datePattern', 'unit', 'kind', 'factor', 'flowMap.a', 'qualityMap.b', 'intervalSeconds', 'missing', 'colour', 'label', 'strip',
      'meterId', 'endInclusive', 'skipRows', 'negative', 'values.0.column', 'values.0.flow', 'values.0.unit', 'values.0.register', 'values.0.colour',
    ]) expect(message).toMatch(new RegExp(`^${word.replaceAll('.', '\\.')}:`, 'm'))
    for (const input of [null, 7, [], 'x', {}, { name: 'x', columns: { time: 't' } }]) expect(() => parseMapping(input)).toThrow(RangeError)
  })

  it('that have patterns read them strictly', () => {
    const read = (pattern: string, text: string) => {
      const bytes = bytesOf(text)
      return new DatePattern(pattern).read(bytes, 0, bytes.length)
    }
    const day = Date.UTC(2026, 9, 1) / 1000
    expect(read('d-M-yyyy HH:mm', '1-10-2026 00:15')).toBe(day + 900)
    expect(read('yyyyMMddHHmm', '202610012400')).toBe(day + 86400)
    expect(read('M/d/yy h:mm a', '10/1/26 12:05 am')).toBe(day + 300)
    expect(read('HH:mm:ss', '01:02:03')).toBe(3723)
    for (const text of ['1-10-2026', '1-10-2026 0:15', '31-2-2026 00:00', '1-13-2026 00:00', '1-10-2026 24:01', '1-10-2026 00:15 ', '01-010-2026 00:15']) {
      expect(read('d-M-yyyy HH:mm', text)).toBeNaN()
    }
    for (const pattern of ['', 'yyyy', 'QQ', 'd-M-yyyy hh:mm', 'HH:HH']) expect(() => new DatePattern(pattern)).toThrow(RangeError)
  })
})
