import { describe, expect, it } from 'vitest'
import { getZone } from '../../engine/time/zone.js'
import { bytesOf, decodeInParts, readsOf, received } from '../../test/format-reads.js'
import type { DecodeContext } from './format.js'
import { ndjson } from './ndjson.js'

const chicago: DecodeContext = { zone: getZone('America/Chicago') }

function decode(text: string, ctx: DecodeContext = chicago) {
  return ndjson.decode(bytesOf(text), ctx, null, true)
}

function line(start: string, values: number[], intervalSeconds = 3600, meter = 'M1'): string {
  return JSON.stringify({ meter, start, intervalSeconds, values })
}

function starts(text: string): string[] {
  return readsOf(decode(text).batch).sort((a, b) => a.kwh - b.kwh)
    .map(read => `${new Date(read.startS * 1000).toISOString().slice(11, 16)}=${read.kwh}`)
}

describe('NDJSON', () => {
  it('has the meter of a record that follows one with a bad meter id', () => {
    const line = (meter: string, start: number): string => JSON.stringify({ meter, start: `2026-10-02T0${start}:00:00-05:00`, intervalSeconds: 3600, value: 1 })
    const { batch, problems } = ndjson.decode(bytesOf([line('M1', 0), line('', 1), line('M1', 2)].join('\n')), { zone: null }, null, true)
    expect(problems.map(({ code, at }) => [code, at])).toEqual([['meter-invalid', 'line 2, /meter']])
    expect(readsOf(batch).map(({ meter }) => meter)).toEqual(['M1', 'M1'])
  })

  it('reads a record per line; CRLF, blank lines and a byte order mark do not matter', () => {
    const decoded = decode(`\ufeff${line('2026-10-01T00:00:00Z', [1, 2])}\r\n\r\n  \n${line('2026-10-02T00:00:00Z', [3])}`)
    expect(decoded.problems).toEqual([])
    expect(readsOf(decoded.batch).map(({ kwh, place }) => [kwh, place])).toEqual([[1, 1], [2, 1], [3, 4]])
  })

  it('goes on after a bad line', () => {
    const good = line('2026-10-01T00:00:00Z', [1])
    const decoded = decode(`${good}\n{"meter":"M1",\n"start":"2026-10-01T00:00:00Z","intervalSeconds":900,"values":[1]}\n7\n\u0000\n${good}\n${good.slice(0, -3)}`)
    expect(decoded.problems.map(({ code, at }) => [code, at])).toEqual([
      ['malformed-json', 'line 2'], ['malformed-json', 'line 3'], ['wrong-type', 'line 4'], ['malformed-json', 'line 5'],
      ['malformed-json', 'line 7'],
    ])
    expect(received(decoded)).toBe(7)
    expect(decode('').batch.count).toBe(0)
  })

  it('points into the line', () => {
    expect(decode('{"meter":"M1","start":"2026-10-01T00:00:00Z","intervalSeconds":900,"values":[true]}').problems[0].at)
      .toBe('line 1, /values/0')
  })
})

describe('local times', () => {
  it('are read in the source\'s zone, and not without one', () => {
    expect(starts(line('2026-10-01T00:00:00', [1]))).toEqual(['05:00=1'])
    expect(decode(line('2026-10-01T00:00:00', [1, 2]), { zone: null }).problems).toMatchObject([
      { code: 'zone-unknown', reads: 2, meter: 'M1' },
    ])
  })

  it('that do not exist are quarantined', () => {
    const decoded = decode(line('2026-03-08T02:00:00', [1, 2]))
    expect(decoded.problems).toMatchObject([{ code: 'local-time-does-not-exist', reads: 2 }])
    expect(received(decoded)).toBe(2)
  })

  it('that exist twice are told apart by file order: pass after pass, side by side, newest first', () => {
    const at = (time: string, value: number, interval = 1800) => line(`2026-11-01T${time}:00`, [value], interval)
    const expected = ['05:30=1', '06:00=2', '06:30=3', '07:00=4', '07:30=5', '08:00=6']
    const passes = [at('00:30', 1), at('01:00', 2), at('01:30', 3), at('01:00', 4), at('01:30', 5), at('02:00', 6)]
    expect(starts(passes.join('\n'))).toEqual(expected)
    expect(starts([at('00:30', 1), at('01:00', 2), at('01:00', 4), at('01:30', 3), at('01:30', 5), at('02:00', 6)].join('\n'))).toEqual(expected)
    expect(starts(passes.toReversed().join('\n'))).toEqual(expected)
  })

  it('that exist twice are told by the turn where one pass lacks a read', () => {
    const at = (time: string, value: number) => line(`2026-11-01T${time}:00`, [value], 900)
    const lines = ['01:00', '01:15', '01:30', '01:45', '01:00', '01:15', '01:45'].map((time, i) => at(time, i + 1))
    expect(starts(lines.join('\n'))).toEqual(['06:00=1', '06:15=2', '06:30=3', '06:45=4', '07:00=5', '07:15=6', '07:45=7'])
  })

  it('that exist twice and come once are quarantined, and can be replayed', () => {
    const decoded = decode([line('2026-11-01T00:00:00', [1]), line('2026-11-01T01:00:00', [2, 3]), line('2026-11-01T02:00:00', [4])].join('\n'))
    expect(decoded.problems).toMatchObject([{ code: 'local-time-ambiguous', reads: 2, at: 'line 2', meter: 'M1' }])
    expect(JSON.parse(decoded.problems[0].record ?? '')).toMatchObject({ meter: 'M1', start: '2026-11-01T01:00:00', values: [2, 3] })
    expect(received(decoded)).toBe(4)
  })

  it('are told by meter: another meter\'s pass does not count', () => {
    const decoded = decode(['A', 'B'].map(meter => line('2026-11-01T01:00:00', [2], 3600, meter)).join('\n'))
    expect(decoded.problems.map(({ code }) => code)).toEqual(['local-time-ambiguous', 'local-time-ambiguous'])
  })

  it('are told across the parts of a body', () => {
    const lines = ['00:00', '01:00', '01:00', '02:00', '06:00', '07:00'].map((time, i) => line(`2026-11-01T${time}:00`, [i + 1]))
    const parts = decodeInParts(ndjson, bytesOf(lines.join('\n')), chicago, lines[0].length + 5)
    expect(parts.length).toBe(6)
    expect(parts.flatMap(part => part.problems)).toEqual([])
    const at = parts.flatMap(part => readsOf(part.batch)).sort((a, b) => a.kwh - b.kwh).map(read => new Date(read.startS * 1000).getUTCHours())
    expect(at).toEqual([5, 6, 7, 8, 12, 13])
  })
})
