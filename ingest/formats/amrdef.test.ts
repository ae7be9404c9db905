import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { getZone } from '../../engine/time/zone.js'
import { decodeInParts, normalReads, readsOf, received } from '../../test/format-reads.js'
import { amrdef } from './amrdef.js'
import { detectFormat } from './format.js'

const bytes = readFileSync(new URL('../../fixtures/formats/amrdef.xml', import.meta.url))
const zone = getZone('America/Chicago')
const iso = (s: number) => new Date(s * 1000).toISOString().slice(0, 16)

describe('AMRDEF', () => {
  const decoded = amrdef.decode(bytes, { zone }, null, true)
  const { batch, registers, problems, events } = decoded

  it('is told by its root element', () => {
    expect(detectFormat('text/xml', undefined, undefined, bytes)).toBe(amrdef)
  })

  it('has intervals by their end, raw counts multiplied, by the clock of each meter', () => {
    expect(readsOf(batch).map(({ meter, startS, intervalS, flow, kwh, lane }) => [meter, iso(startS), intervalS, flow, kwh, lane])).toEqual([
      ['M1001', '2026-07-01T06:00', 900, 1, 1, 0], ['M1001', '2026-07-01T06:15', 900, 1, 0, 2],
      ['M1001', '2026-07-01T06:45', 900, 1, 1.5, 0], ['M1001', '2026-07-01T06:45', 900, 1, 1.5, 0],
      ['779', '2026-07-01T05:00', 3600, 2, 3, 0],
    ])
  })

  it('has registers apart; one without a time was read at the collection', () => {
    expect(Array.from({ length: registers.count }, (_, i) => [registers.tou[i], iso(registers.atS[i]), registers.mantissa[i] * 10 ** registers.exponent[i]])).toEqual([
      ['', '2026-07-01T07:00', 51234.5], ['TierA', '2026-07-01T07:10', 31000], ['max', '2026-06-20T23:00', 7.2],
    ])
  })

  it('hands events on and tells the rest', () => {
    expect(events).toEqual([{ meter: 'M1001', kind: 'power-down', atS: Date.parse('2026-07-01T06:20:00Z') / 1000 }])
    expect(problems.map(({ code, at }) => [code, at])).toEqual([['time-invalid', 'record 8'], ['value-not-number', 'record 9'], ['unit-unsupported', 'record 12']])
    expect(received(decoded)).toBe(12)
    expect(decoded.notes).toEqual(['1 InstrumentationValue elements are no reads, and are passed over.'])
  })

  it('comes to the same in parts', () => {
    const parts = decodeInParts(amrdef, bytes, { zone }, 200)
    expect(parts.length).toBe(2)
    expect(parts.flatMap(part => normalReads(part.batch)).sort()).toEqual(normalReads(batch))
    expect(parts.flatMap(part => part.problems.map(({ at }) => at))).toEqual(problems.map(({ at }) => at))
  })
})
