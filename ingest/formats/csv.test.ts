import { describe, expect, it } from 'vitest'
import { BodyError } from '../../engine/problem.js'
import { getZone } from '../../engine/time/zone.js'
import { bytesOf, decodeInParts, exactTotal, readsOf, received } from '../../test/format-reads.js'
import { csv } from './csv.js'
import type { DecodeContext } from './format.js'

const chicago: DecodeContext = { zone: getZone('America/Chicago'), defaultIntervalS: 900 }

function decode(text: string, ctx: DecodeContext = chicago) {
  return csv.decode(bytesOf(text), ctx, null, true)
}

function flat(text: string, ctx?: DecodeContext) {
  const decoded = decode(text, ctx)
  expect(decoded.problems).toEqual([])
  return readsOf(decoded.batch).map(read => [read.meter, new Date(read.startS * 1000).toISOString().slice(0, 16), read.kwh])
}

const oneRead = [['M1', '2026-10-01T05:00', 0.512]]

describe('plain CSV', () => {
  it.each([
    'meter,start,value\nM1,2026-10-01T00:00:00-05:00,0.512\n', 'meter,start,value\r\nM1,2026-10-01T00:00,.512',
    'meter,start,value\rM1,2026-10-01 00:00:00,0.5120\r', '\ufeffmeter,start,value\n\n  \nM1,2026-10-01T05:00Z,512e-3\n',
    'Value, START ,meter\n 0.512 , 2026-10-01T05:00:00.000Z , M1 \n', '"meter","start","value"\n"M1","2026-10-01T05:00Z","0.512"\n',
    'meter,end,value\nM1,2026-10-01T05:15Z,0.512', 'meter,start,end,value\nM1,2026-10-01T05:00Z,2026-10-01T05:15Z,+0.512',
    'meter,start,value,unit,flow,quality,intervalSeconds,capturedAt\nM1,2026-10-01T05:00Z,512,wh,Delivered,ACTUAL,900,\n',
    'meter,start,value,unit,flow,quality\nM1,2026-10-01T05:00Z,0.512,,,\n',
  ])('%j', text => {
    expect(flat(text)).toEqual(oneRead)
  })

  it('gathers rows into blocks, by meter or by time, and leaves gaps missing', () => {
    const row = (meter: string, minute: number, value: string) => `${meter},2026-10-01T05:${String(minute).padStart(2, '0')}Z,${value}`
    const byMeter = decode(['meter,start,value', row('A', 0, '1'), row('A', 15, ''), row('A', 30, '3'), row('B', 0, '4'), row('B', 15, '5')].join('\n'))
    expect(byMeter.batch.count).toBe(2)
    expect([...byMeter.batch.values.subarray(0, byMeter.batch.size)]).toEqual([1000, -2147483648, 3000, 4000, 5000])
    const byTime = decode(['meter,start,value', row('A', 0, '1'), row('B', 0, '4'), row('B', 15, '5'), row('A', 30, '3')].join('\n'))
    expect(byTime.batch.count).toBe(2)
    expect(readsOf(byTime.batch).map(({ kwh }) => kwh)).toEqual([1, 3, 4, 5])
  })

  it('begins a new block after a gap of a day, for a second read of a slot, and for another flow, length or version', () => {
    const text = `meter,start,value,flow,intervalSeconds,capturedAt
M1,2026-10-01T00:00Z,1,delivered,900,
M1,2026-10-02T00:15Z,2,delivered,900,
M1,2026-10-02T00:15Z,3,delivered,900,
M1,2026-10-02T00:30Z,4,received,900,
M1,2026-10-02T00:00Z,5,delivered,3600,
M1,2026-10-02T00:30Z,6,delivered,900,2026-10-03T00:00:00Z`
    const { batch, problems } = decode(text)
    expect(problems).toEqual([])
    expect(batch.count).toBe(6)
    expect(readsOf(batch).map(({ kwh }) => kwh).sort()).toEqual([1, 2, 3, 4, 5, 6])
  })

  it('keeps a quality per read', () => {
    const { batch } = decode('meter,start,value,quality\nM1,2026-10-01T00:00Z,1,actual\nM1,2026-10-01T00:15Z,2,estimated\nM1,2026-10-01T00:45Z,3,edited\n')
    expect(batch.count).toBe(1)
    expect(readsOf(batch).map(({ lane }) => lane)).toEqual([0, 1, 5])
  })

  it('is exact where values are finer than others', () => {
    const { batch, problems } = decode('meter,start,value\nM1,2026-10-01T00:00Z,0.1\nM1,2026-10-01T00:15Z,0.0000001\nM1,2026-10-01T00:30Z,2000000\n')
    expect(problems).toEqual([])
    expect(exactTotal(readsOf(batch))).toBe('2000000.1000001')
  })

  it('takes quoted ids with commas, quotes and line ends', () => {
    const rows = flat('meter,start,value\n"a,b",2026-10-01T05:00Z,1\n"say ""x""",2026-10-01T05:00Z,2\n"Zähler",2026-10-01T05:00Z,3\nZähler,2026-10-01T05:15Z,4\n')
    expect(rows.map(([meter, , kwh]) => [meter, kwh])).toEqual([['a,b', 1], ['say "x"', 2], ['Zähler', 3], ['Zähler', 4]])
  })

  it('tells the interval length from the spacing, and says so', () => {
    const rows = ['00:00', '00:30', '01:00', '02:00', '02:30'].map((time, i) => `M1,2026-10-01T${time}Z,${i}`)
    const text = `meter,start,value\n${rows.join('\n')}\n`
    const { batch, notes } = decode(text, { zone: null })
    expect(notes).toEqual(['Line 2 on: the interval length, 1800 s, is told from the spacing of the reads.'])
    expect([...batch.intervalS.subarray(0, batch.count)]).toEqual([1800])
    const parts = decodeInParts(csv, bytesOf(text), { zone: null }, 90)
    expect(parts.length).toBeGreaterThan(1)
    expect(parts.flatMap(part => readsOf(part.batch)).map(({ intervalS }) => intervalS)).toEqual(Array(5).fill(1800))
  })

  it('does not guess an interval length', () => {
    const mixed = 'meter,start,value\nA,2026-10-01T00:00Z,1\nA,2026-10-01T00:15Z,1\nA,2026-10-01T00:30Z,1\nB,2026-10-01T00:00Z,1\nB,2026-10-01T01:00Z,1\nB,2026-10-01T02:00Z,1\n'
    const decoded = decode(mixed, { zone: null })
    expect(decoded.problems).toMatchObject([{ code: 'interval-unknown', reads: 6, at: 'lines 2 to 7' }])
    expect(decode('meter,start,value\nA,2026-10-01T00:00Z,1\n', { zone: null }).problems).toMatchObject([
      { code: 'interval-unknown', reads: 1, at: 'line 2' },
    ])
  })
})

describe('rows that cannot be read', () => {
  const good = 'M2,2026-10-01T05:00Z,1'
  it.each([
    ['M1,2026-10-01T05:00Z,x', 'value-not-number'], ['M1,2026-10-01T05:00Z,NaN', 'value-not-number'],
    ['M1,2026-10-01T05:00Z,"1,234"', 'value-not-number'], ['M1,2026-10-01T05:00Z,1e400', 'value-not-finite'],
    ['M1,2026-10-01T05:00Z,15.123456789', 'value-precision'], ['M1,2026-10-01T05:00Z,1e17', 'value-range'],
    ['M1,2026-02-30T05:00Z,1', 'time-unreadable'], ['M1,,1', 'time-unreadable'], [',2026-10-01T05:00Z,1', 'meter-invalid'],
    ['M1,2026-10-01T05:00Z', 'column-count'], ['M1,2026-10-01T05:00Z,1,2', 'column-count'],
    ['M\u0000,2026-10-01T05:00Z,1', 'nul-byte'], ['"M1,2026-10-01T05:00Z,1', 'malformed-csv'],
    ['"M"1,2026-10-01T05:00Z,1', 'malformed-csv'], ['M\u0007,2026-10-01T05:00Z,1', 'meter-invalid'],
  ])('%j: %s', (row, code) => {
    const decoded = decode(`meter,start,value\n${good}\n${row}\n${good}\n`)
    expect(decoded.problems).toMatchObject([{ code, reads: 1, outcome: 'quarantined' }])
    expect(decoded.problems[0].at).toMatch(/^line 3/)
    expect(readsOf(decoded.batch).length).toBe(2)
    const { rawFrom, rawTo } = decoded.problems[0]
    expect(`meter,start,value\n${good}\n${row}\n${good}\n`.slice(rawFrom, rawTo)).toBe(row)
  })

  it.each([
    ['quality', 'hunch', 'quality-unknown'], ['unit', 'furlong', 'unit-unsupported'], ['flow', 'up', 'flow-unknown'],
    ['intervalSeconds', '700', 'interval-length'], ['intervalSeconds', 'x', 'interval-length'], ['capturedAt', 'x', 'time-unreadable'],
  ])('%s %s: %s', (column, word, code) => {
    const decoded = decode(`meter,start,value,${column}\n${good},\n${good.replace('M2', 'M1')},${word}\n${good},\n`)
    expect(decoded.problems).toMatchObject([{ code, reads: 1, meter: 'M1' }])
    expect(received(decoded)).toBe(3)
  })

  it('a row without a value is no read, whatever else is wrong with it', () => {
    const decoded = decode('meter,start,value\nM1,2026-03-08T02:15:00,\n,,\nM1,nonsense,  \n')
    expect(received(decoded)).toBe(0)
  })

  it('a lost quote costs its line alone', () => {
    const decoded = decode(`meter,start,value\n"M1,2026-10-01T05:00Z,1\n${good}\nM3,"2026-10-01T05:00Z,1\n${good.replace('M2', 'M4')}\n`)
    expect(decoded.problems.map(({ code, at }) => [code, at])).toEqual([['malformed-csv', 'line 2'], ['malformed-csv', 'line 4']])
    expect(readsOf(decoded.batch).map(({ meter }) => meter)).toEqual(['M2', 'M4'])
  })

  it('tells invalid UTF-8 and lines that are too long', () => {
    const body = Buffer.concat([bytesOf('meter,start,value\nM'), Buffer.from([0xff]), bytesOf(`,2026-10-01T05:00Z,1\n${good}${' '.repeat(9 * 1024 * 1024)}\n${good}`)])
    const decoded = csv.decode(body, chicago, null, true)
    expect(decoded.problems.map(({ code }) => code)).toEqual(['invalid-utf8', 'line-too-long'])
    expect(readsOf(decoded.batch).length).toBe(1)
  })

  it('more than 10,000 are told together where they stand together; too many are a refusal', () => {
    const decoded = decode(`meter,start,value\n${'x\n'.repeat(100_000)}M2,2026-10-01T05:00Z,1\n`)
    expect(decoded.problems.length).toBeLessThan(10_010)
    expect(decoded.problems.slice(-2)).toMatchObject([{ code: 'column-count' }, { at: expect.stringMatching(/^lines \d+ to 100001$/) as string }])
    expect(received(decoded)).toBe(100_001)
    expect(() => decode(`meter,start,value\n${'x\nM,,1\n'.repeat(150_000)}`))
      .toThrowError(expect.objectContaining({ status: 422, code: 'too-many-problems' }))
  })

  it('a clock that is not known is told once for many lines', () => {
    const decoded = decode('meter,start,value\nM1,2026-10-01T00:00,1\nM2,2026-10-01T00:00,2\nM2,2026-10-01T00:15Z,2\nM3,2026-10-01T00:00,3\n', { ...chicago, zone: null })
    expect(decoded.problems).toMatchObject([
      { code: 'zone-unknown', at: 'lines 2 to 3', reads: 2 }, { code: 'zone-unknown', at: 'line 5', reads: 1 },
    ])
  })

  it('an end that clocks skip belongs to the interval before it', () => {
    expect(flat('meter,end,value\nM1,2026-03-08T01:45,1\nM1,2026-03-08T02:00,2\nM1,2026-03-08T03:15,3\n').map(([, at]) => at))
      .toEqual(['2026-03-08T07:30', '2026-03-08T07:45', '2026-03-08T08:00'])
  })

  it('a start and an end must be the interval length apart', () => {
    const decoded = decode('meter,start,end,value\nM1,2026-10-01T05:00Z,2026-10-01T05:30Z,1\n')
    expect(decoded.problems).toMatchObject([{ code: 'interval-mismatch' }])
  })

  it('daily ends are days of any length', () => {
    const rows = flat('meter,end,value\nM1,2026-11-01T00:00,1\nM1,2026-11-02T00:00,2\nM1,2026-11-03T00:00,3\n', { ...chicago, defaultIntervalS: 86400 })
    expect(rows.map(([, at]) => at)).toEqual(['2026-10-31T05:00', '2026-11-01T05:00', '2026-11-02T06:00'])
  })
})

describe('headers that cannot be read', () => {
  it.each([
    ['', 400, 'empty-body'], ['\n\n', 400, 'empty-body'], ['meter,start,value,colour\n', 422, 'unknown-column'],
    ['meter,start,value,value\n', 422, 'duplicate-column'], ['meter,start\n', 422, 'missing-column'],
    ['meter,value\n', 422, 'missing-column'], ['M1,2026-10-01T05:00Z,1\n', 422, 'unknown-column'],
    ['"meter,start,value\n', 400, 'malformed-csv'], ['meter,start,value,intervalSeconds,interval', 422, 'duplicate-column'],
  ])('%j: %i %s', (text, status, code) => {
    try {
      decode(text)
      expect.unreachable()
    } catch (error) {
      expect(error).toBeInstanceOf(BodyError)
      expect(error).toMatchObject({ status, code })
    }
  })
})

describe('registers and other quantities', () => {
  it('are told by the columns kind, tou and unit, row by row', () => {
    const rows = [
      'meter,start,value,unit,kind,tou,intervalSeconds', 'M1,2026-10-01T05:00:00Z,1.5,kWh,interval,,900',
      'M1,2026-10-01T05:00:00Z,10.25,MWh,register,peak,900', 'M1,2026-10-01T05:15:00Z,2.5,kWh,interval,,900',
      'M1,2026-10-01T05:00:00Z,240.1,V,interval,,900', 'M1,2026-10-01T05:15:00Z,x,kWh,register,,900',
      'M1,2026-10-01T05:15:00Z,1,kWh,,peak,900', 'M1,2026-10-01T05:15:00Z,1,kWh,guess,,900',
    ].join('\n')
    const { batch, registers, problems } = csv.decode(bytesOf(rows), { zone: null }, null, true)
    expect(readsOf(batch).map((r, i) => [r.kwh, batch.quantity[Math.min(i, 1)]])).toHaveLength(3)
    expect(Array.from(batch.quantity.subarray(0, batch.count)).sort()).toEqual([1, 7])
    expect([registers.count, registers.tou[0], registers.mantissa[0], registers.exponent[0]]).toEqual([1, 'peak', 10250, 0])
    expect(problems.map((p) => p.code)).toEqual(['value-not-number', 'tou-invalid', 'kind-unknown'])
  })
})
