import { describe, expect, it } from 'vitest'
import { BodyError } from '../../engine/problem.js'
import { getZone } from '../../engine/time/zone.js'
import { bytesOf, readsOf, received } from '../../test/format-reads.js'
import type { DecodeContext } from './format.js'
import { json } from './json.js'

const chicago: DecodeContext = { zone: getZone('America/Chicago') }
const block = { meter: 'M1', start: '2026-10-01T00:00:00-05:00', intervalSeconds: 900, values: [0.512, null, 0.498] }

function decode(body: unknown, ctx: DecodeContext = chicago) {
  return json.decode(bytesOf(typeof body === 'string' ? body : JSON.stringify(body)), ctx, null, true)
}

function problem(change: Record<string, unknown>, ctx?: DecodeContext) {
  const decoded = decode([block, { ...block, ...change }, { ...block, meter: 'M2' }], ctx)
  // Whatever is wrong with one record, the others are read.
  expect(readsOf(decoded.batch).filter(read => read.place !== 2).length).toBe(4)
  expect(decoded.problems.length).toBe(1)
  return decoded.problems[0]
}

function refusal(body: string): BodyError {
  try {
    decode(body)
  } catch (error) {
    if (error instanceof BodyError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

describe('JSON blocks', () => {
  it('reads an envelope, an array and a block alone alike', () => {
    for (const body of [{ reads: [block] }, [block], block]) {
      const { batch, problems, state } = decode(body)
      expect(problems).toEqual([])
      expect(state).toBeNull()
      expect(batch.count).toBe(1)
      expect(readsOf(batch)).toMatchObject([
        { meter: 'M1', startS: Date.parse('2026-10-01T05:00:00Z') / 1000, intervalS: 900, flow: 1, lane: 0, version: 0, mantissa: 512, exponent: -3 },
        { startS: Date.parse('2026-10-01T05:30:00Z') / 1000, mantissa: 498 },
      ])
    }
  })

  it('reads every member', () => {
    const { batch, problems } = decode([{
      ...block, unit: 'WH', flow: 'received', quality: ['actual', null, 'estimated'], kind: 'interval',
      capturedAt: '2026-10-02T01:02:03.000004Z', values: [512, null, 498.5],
    }])
    expect(problems).toEqual([])
    expect(readsOf(batch)).toMatchObject([
      { flow: 2, lane: 0, kwh: 0.512, version: Date.parse('2026-10-02T01:02:03Z') * 1000 + 4 },
      { flow: 2, lane: 1, kwh: 0.4985 },
    ])
  })

  it('reads white space, escapes, a byte order mark and letters beyond ASCII', () => {
    const text = `\ufeff \n{ "reads" : [ {"met\\u0065r":"Zähler\\u00201", "start":"2026-10-01T00:00Z",\r\n "intervalSeconds" : 3600 ,"values":[ 1 , 2.50 ,\tnull ] } ] } \n`
    const { batch, problems } = decode(text)
    expect(problems).toEqual([])
    expect(readsOf(batch).map(read => [read.meter, read.kwh])).toEqual([['Zähler 1', 1], ['Zähler 1', 2.5]])
  })

  it('gathers single reads that follow each other', () => {
    const single = (minute: number, value: number | null) =>
      ({ meter: 'M1', end: `2026-10-01T01:${String(minute).padStart(2, '0')}:00-05:00`, intervalSeconds: 900, value })
    const { batch, problems } = decode([single(0, 1), single(15, 2), single(30, null), single(45, 4)])
    expect(problems).toEqual([])
    expect(batch.count).toBe(1)
    expect(batch.startS[0]).toBe(Date.parse('2026-10-01T05:45:00Z') / 1000)
    expect([...batch.values.subarray(0, batch.size)]).toEqual([1000, 2000, -2147483648, 4000])
  })

  it('keeps two reads for one slot, in blocks of their own', () => {
    const single = { meter: 'M1', start: '2026-10-01T00:00:00Z', intervalSeconds: 900 }
    const { batch } = decode([{ ...single, value: 1 }, { ...single, value: 2 }])
    expect(batch.count).toBe(2)
    expect(readsOf(batch).map(read => read.kwh)).toEqual([1, 2])
  })

  it('takes a daily block by local days, and a day of 25 hours as a day', () => {
    const daily = decode([{ ...block, start: '2026-10-31T00:00:00-05:00', intervalSeconds: 86400, values: [1, 2, 3] }])
    expect(readsOf(daily.batch).map(read => read.startS)).toEqual(
      ['2026-10-31T05:00Z', '2026-11-01T05:00Z', '2026-11-02T06:00Z'].map(text => Date.parse(text) / 1000))
    const long = decode([{ ...block, start: '2026-11-01T00:00:00-05:00', intervalSeconds: 90000, values: [1] }])
    expect(long.problems).toEqual([])
    expect(readsOf(long.batch)).toMatchObject([{ intervalS: 86400, startS: Date.parse('2026-11-01T05:00Z') / 1000 }])
  })

  it('settles values that no exponent holds together', () => {
    const { batch, problems } = decode([{ ...block, values: [0.000000001, 2_000_000, 0.5] }])
    expect(problems).toEqual([])
    expect(readsOf(batch).map(read => read.kwh).sort((a, b) => a - b)).toEqual([0.000000001, 0.5, 2_000_000])
  })
})

describe('records that cannot be read', () => {
  it.each([
    ['unknown-member', { colour: 'red' }, 2, '/1/colour'],
    ['missing-member', { meter: undefined }, 2, ''],
    ['missing-member', { start: undefined }, 2, ''],
    ['missing-member', { values: undefined }, 1, ''],
    ['wrong-type', { meter: 7 }, 2, '/1/meter'],
    ['wrong-type', { values: '0.5' }, 1, '/1/values'],
    ['wrong-type', { values: [1, 'NaN', null] }, 2, '/1/values/1'],
    ['wrong-type', { quality: 5 }, 2, '/1/quality'],
    ['meter-invalid', { meter: '' }, 2, '/1/meter'],
    ['meter-invalid', { meter: 'a\u0000b' }, 2, '/1/meter'],
    ['meter-invalid', { meter: '\ud800' }, 2, '/1/meter'],
    ['unit-unsupported', { unit: 'furlong' }, 2, '/1/unit'],
    ['flow-unknown', { flow: 'sideways' }, 2, '/1/flow'],
    ['quality-unknown', { quality: 'hunch' }, 2, '/1/quality'],
    ['quality-length', { quality: ['actual'] }, 2, '/1/quality'],
    ['interval-length', { intervalSeconds: 700 }, 2, ''],
    ['interval-length', { intervalSeconds: 900.5 }, 2, '/1/intervalSeconds'],
    ['interval-length', { intervalSeconds: 604800 }, 2, ''],
    ['interval-length', { intervalSeconds: 82800 }, 2, ''],
    ['interval-unknown', { intervalSeconds: undefined }, 2, ''],
    ['time-unreadable', { start: 'yesterday' }, 2, '/1/start'],
    ['both-value-and-values', { value: 1 }, 2, '/1/value'],
    ['both-start-and-end', { end: '2026-10-01T01:00:00Z' }, 2, '/1/end'],
  ])('%s: %j', (code, change, reads, pointer) => {
    expect(problem(change)).toMatchObject({
      code, reads, outcome: 'quarantined', at: `record 2${pointer === '' ? '' : `, ${pointer}`}`,
    })
  })

  it('takes registers and periods apart from intervals, each value exactly', () => {
    const decoded = decode([
      block,
      { meter: 'R1', kind: 'register', start: '2026-10-01T00:00:00Z', value: 10234.125, unit: 'MWh', tou: 'peak' },
      { meter: 'R1', kind: 'register', end: '2026-10-01T01:00:00Z', value: 7, unit: 'CCF' },
      { meter: 'R1', kind: 'register', start: '2026-10-01T02:00:00Z', intervalSeconds: 3600, values: [0.45399999999999996, null, 8] },
      { meter: 'R1', kind: 'period', start: '2026-09-01T00:00:00Z', end: '2026-10-01T00:00:00Z', value: -1.5 },
    ])
    const { registers: r } = decoded
    expect(decoded.problems).toEqual([])
    expect(decoded.batch.count).toBe(1)
    expect(Array.from({ length: r.count }, (_, i) => [
      r.tou[i], r.quantity[i], r.atS[i] - Date.UTC(2026, 9, 1) / 1000, r.fromS[i] - Date.UTC(2026, 8, 1) / 1000,
      r.mantissa[i], r.exponent[i],
    ])).toEqual([
      ['peak', 1, 0, NaN, 10234125, 0], ['', 21, 3600, NaN, 700, 0], ['', 1, 7200, NaN, 454, -3], ['', 1, 14400, NaN, 8, 0],
      ['', 1, 0, 0, -15, -1],
    ])
  })

  it('quarantines a label without a register, and values without their spacing', () => {
    expect(problem({ tou: 'peak' })).toMatchObject({ code: 'wrong-kind', reads: 2 })
    expect(problem({ kind: 'register', intervalSeconds: undefined })).toMatchObject({ code: 'missing-member', reads: 2 })
    expect(problem({ kind: 'guess' })).toMatchObject({ code: 'kind-unknown' })
  })

  it('tells an element that is no object', () => {
    const decoded = decode([block, 7, 'x', null, [1]])
    expect(decoded.problems.map(({ code, reads }) => [code, reads])).toEqual(Array(4).fill(['wrong-type', 1]))
    expect(readsOf(decoded.batch).length).toBe(2)
  })

  it('quarantines one value alone, and the record of it can be replayed', () => {
    const decoded = decode(`{"reads":[${JSON.stringify(block)},{"meter":"M2","start":"2026-10-01T00:00:00","intervalSeconds":900,"values":[0.1,1e400,15.123456789,1e300,0.2]}]}`)
    expect(decoded.problems).toMatchObject([
      { code: 'value-not-finite', at: 'record 2, /reads/1/values/1', reads: 1, meter: 'M2' },
      { code: 'value-precision', at: 'record 2, /reads/1/values/2', reads: 1 },
      { code: 'value-range', at: 'record 2, /reads/1/values/3', reads: 1 },
    ])
    expect(received(decoded)).toBe(7)
    expect(JSON.parse(decoded.problems[1].record ?? '')).toEqual({
      meter: 'M2', start: '2026-10-01T05:30:00Z', intervalSeconds: 900, values: [15.123456789], unit: 'kWh', flow: 'delivered',
      quality: 'actual',
    })
    const replayed = decode(decoded.problems[1].record ?? '', { ...chicago, round: true })
    expect(replayed.rounded).toBe(1)
    expect(readsOf(replayed.batch)).toMatchObject([{ kwh: 15.123457 }])
  })

  it('keeps a block for a replay under other settings', () => {
    const { record = '' } = problem({ intervalSeconds: undefined, unit: 'Wh', values: [512, null, 498.5] })
    const replayed = decode(record, { ...chicago, defaultIntervalS: 1800 })
    expect(readsOf(replayed.batch)).toMatchObject([{ kwh: 0.512, intervalS: 1800 }, { kwh: 0.4985 }])
    expect(JSON.parse(problem({ quality: 'hunch' }).record ?? '')).toEqual({ ...block, quality: 'hunch' })
  })

  it('gives the bytes of the record', () => {
    const body = JSON.stringify([block, { ...block, unit: 'furlong' }])
    const { rawFrom, rawTo } = decode(body).problems[0]
    expect(JSON.parse(body.slice(rawFrom, rawTo))).toEqual({ ...block, unit: 'furlong' })
  })

  it('tells invalid UTF-8 and deep nesting of a record', () => {
    const good = bytesOf(JSON.stringify(block))
    const bad = bytesOf(JSON.stringify({ ...block, meter: 'Mx' }).replace('Mx', 'M\u0001'))
    bad[bad.indexOf(1)] = 0xff
    const body = Buffer.concat([bytesOf('['), bad, bytesOf(','), good, bytesOf(`,${'['.repeat(5000)}${']'.repeat(5000)}]`)])
    const decoded = json.decode(body, chicago, null, true)
    expect(decoded.problems.map(({ code, at }) => [code, at])).toEqual([['invalid-utf8', 'record 1'], ['too-deep', 'record 3']])
    expect(readsOf(decoded.batch).length).toBe(2)
  })

  it('lists 10,000 problems', () => {
    const decoded = decode([...Array.from({ length: 10_000 }, () => ({ ...block, unit: 'furlong' })), block])
    expect(decoded.problems.length).toBe(10_000)
    expect(readsOf(decoded.batch).length).toBe(2)
  })
})

describe('bodies that cannot be read', () => {
  const good = JSON.stringify(block)
  it.each([
    ['', 'byte 0'], ['  ', 'byte 2'], ['"x"', 'byte 0'], ['[', 'byte 1'], [`[${good}`, `byte ${1 + good.length}, record 1`],
    [`[${good.slice(0, -5)}`, 'byte 1, record 1'], [`[${good},]`, `byte ${2 + good.length}, record 2`],
    [`[${good} ${good}]`, `byte ${2 + good.length}, record 1`], [`[${good}]x`, `byte ${2 + good.length}, record 1`],
    [`{"reads":[${good}]`, `byte ${11 + good.length}, record 1`], ['[{"meter":NaN}]', 'byte 1, record 1'],
    [`[{"meter":"M","values":[01]}]`, 'byte 1, record 1'], ['{"reads"', 'byte 0, record 1'], [`${good}\n${good}`, `byte ${1 + good.length}, record 1`],
    [`[,${good}]`, 'byte 1, record 1'],
  ])('%j is malformed', (body, at) => {
    expect(refusal(body)).toMatchObject({ status: 400, code: 'malformed-json', extra: { at } })
  })

  it.each([
    ['{"foo":1,"reads":[]}', 'unknown-member', '/foo'], [`{"reads":[${good}],"foo":1}`, 'unknown-member', '/foo'],
    ['{"reads":5}', 'wrong-type', '/reads'], ['{}', 'missing-member', ''], ['{"readings":[]}', 'missing-member', ''],
  ])('%s is refused: %s', (body, code, at) => {
    expect(refusal(body)).toMatchObject({ status: 422, code, extra: { at } })
  })

  it('refuses UTF-16', () => {
    expect(() => json.decode(Buffer.from(`\ufeff${good}`, 'utf16le'), chicago, null, true))
      .toThrowError(expect.objectContaining({ status: 400, code: 'encoding-unsupported' }))
  })
})
