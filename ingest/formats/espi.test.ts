import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { getZone, standardTime } from '../../engine/time/zone.js'
import { Quantity } from '../../engine/quantity.js'
import { bytesOf, decodeInParts, normalReads, readsOf, received } from '../../test/format-reads.js'
import { espi } from './espi.js'
import { detectFormat, type DecodeContext } from './format.js'
import { usagePointOf } from './espi-resources.js'

const fixture = (name: string) => readFileSync(new URL(`../../fixtures/formats/${name}`, import.meta.url))
const linked = fixture('espi-linked.xml')
const kinds = fixture('espi-kinds.xml')

function decode(text: string | Uint8Array, ctx: Partial<DecodeContext> = {}) {
  return espi.decode(typeof text === 'string' ? bytesOf(text) : text, { zone: null, ...ctx }, null, true)
}

/** A feed that names nothing: the ReadingType is the only one there is. */
function plainFeed(readings: string, type = '<uom>72</uom>'): string {
  return `<feed><entry><content><ReadingType>${type}</ReadingType></content></entry>`
    + `<entry><content><IntervalBlock>${readings}</IntervalBlock></content></entry></feed>`
}

function reading(start: number | string, value: number | string, duration: number | string = 900): string {
  return `<IntervalReading><timePeriod><duration>${duration}</duration><start>${start}</start></timePeriod>`
    + `<value>${value}</value></IntervalReading>`
}

describe('a feed joined by links', () => {
  const decoded = decode(linked)
  const reads = readsOf(decoded.batch)

  it('has its reads, those of several blocks in an entry and those without a time of their own', () => {
    expect(decoded.problems).toEqual([])
    expect(reads.map(({ startS, kwh }) => [startS - 1_782_878_400, kwh])).toEqual([
      [0, 0.12], [900, 0.13], [2700, 0.15], [3600, 0.16], [4500, 0.17], [4500, 0.17],
    ])
    expect(new Set(reads.map(({ meter, flow, intervalS }) => `${meter} ${flow} ${intervalS}`))).toEqual(new Set(['M1001 1 900']))
  })

  it('takes the worst of several qualities, and the default where there is none', () => {
    expect(reads.map(read => read.lane)).toEqual([4, 1, 0, 0, 0, 0])
  })

  it('has the time that its entry was updated as the version', () => {
    expect(new Set(reads.map(read => read.version))).toEqual(new Set([Date.parse('2026-07-02T06:00:00.5Z') * 1000]))
  })

  it('is told by its root element, content type or not', () => {
    expect(detectFormat('text/xml; charset=utf-8', undefined, undefined, linked)).toBe(espi)
    expect(detectFormat(undefined, undefined, 'usage.xml', linked)).toBe(espi)
    expect(detectFormat('text/plain', undefined, undefined, linked)).toBe(espi)
    expect(detectFormat(undefined, 'xml', undefined, linked)).toBe(espi)
  })

  it('is cut between entries; a block before its ReadingType is then refused with what to do', () => {
    expect(espi.cut(linked, linked.length, null)).toBe(linked.lastIndexOf('</entry>') + 8)
    expect(espi.cut(linked, 1200, null)).toBe(linked.indexOf('</entry>') + 8)
    expect(espi.cut(linked, 890, null)).toBe(0)
    expect(() => decodeInParts(espi, linked, { zone: null }, 300)).toThrow(expect.objectContaining({
      status: 413, code: 'reading-type-late',
    }))
  })
})

describe('a feed of several kinds', () => {
  const decoded = decode(kinds)

  it('has energy received in the unit of its multiplier, reactive energy beside it, and the register apart', () => {
    const { batch, registers } = decoded
    expect(readsOf(batch).map(({ meter, flow, kwh }) => [meter, flow, kwh])).toEqual([
      ['RetailCustomer/9/UsagePoint/01', 2, 2000], ['RetailCustomer/9/UsagePoint/01', 1, 0.077]])
    expect([...batch.quantity.subarray(0, batch.count)]).toEqual([Quantity.energy, Quantity['reactive-energy']])
    expect(registers.count).toBe(1)
    expect([registers.atS[0], registers.fromS[0], registers.mantissa[0], registers.exponent[0]]).toEqual([1_782_878_400, NaN, 51_234, 0])
  })

  it('tells what it does not keep', () => {
    expect(decoded.problems.map(({ code, outcome, reads }) => [code, outcome, reads])).toEqual([
      ['value-not-number', 'quarantined', 1], ['time-invalid', 'quarantined', 1],
      ['bucket-unsupported', 'rejected', 1], ['flow-unsupported', 'rejected', 1],
    ])
    expect(received(decoded)).toBe(7)
  })

  it('says where each problem stands', () => {
    const [first] = decoded.problems
    expect(first.at).toBe('record 2')
    expect(kinds.subarray(first.rawFrom, first.rawTo).toString()).toMatch(/^<IntervalReading>.*none.*<\/IntervalReading>$/)
  })

  it('comes to the same in parts', () => {
    const parts = decodeInParts(espi, kinds, { zone: null }, 1500)
    expect(parts.length).toBeGreaterThan(3)
    expect(parts.flatMap(part => normalReads(part.batch))).toEqual(normalReads(decoded.batch))
    expect(parts.flatMap(part => part.problems).map(({ code, at, reads }) => [code, at, reads]))
      .toEqual(decoded.problems.map(({ code, at, reads }) => [code, at, reads]))
  })
})

describe('epochs of a wall clock', () => {
  const zone = getZone('America/Chicago')
  // 2026-07-01T00:00 and 2026-01-01T00:00 as if they were UTC.
  const text = plainFeed(reading(1_782_864_000, 1) + reading(1_767_225_600, 2))
  const starts = (clock: DecodeContext['clock']) =>
    readsOf(decode(text, { zone: clock === 'local-standard' ? standardTime(zone) : zone, meter: 'm', ...(clock === undefined ? {} : { clock }) }).batch).map(({ startS }) => new Date(startS * 1000).toISOString().slice(0, 16))

  it('are what the source\'s clock says', () => {
    expect(starts(undefined)).toEqual(['2026-07-01T00:00', '2026-01-01T00:00'])
    expect(starts('wall-as-epoch')).toEqual(['2026-07-01T05:00', '2026-01-01T06:00'])
    expect(starts('local-prevailing')).toEqual(['2026-07-01T05:00', '2026-01-01T06:00'])
    expect(starts('local-standard')).toEqual(['2026-07-01T06:00', '2026-01-01T06:00'])
  })

  it('cannot be read without a zone', () => {
    for (const clock of ['wall-as-epoch', 'local-standard'] as const) {
      const { problems } = decode(text, { meter: 'm', clock })
      expect(problems.map(({ code }) => code)).toEqual(['zone-unknown', 'zone-unknown'])
    }
  })
})

describe('reads of a day', () => {
  it('are as long as the local day', () => {
    const at = (text: string) => Date.parse(text) / 1000
    const text = plainFeed(reading(at('2026-03-08T06:00:00Z'), 2, 82_800) + reading(at('2026-03-09T06:00:00Z'), 1, 82_800))
    const { batch, problems } = decode(text, { zone: getZone('America/Chicago'), meter: 'm' })
    expect(problems.map(({ code }) => code)).toEqual(['interval-length'])
    expect(readsOf(batch).map(({ intervalS, kwh }) => [intervalS, kwh])).toEqual([[86_400, 0.002]])
  })
})

describe('odd values', () => {
  it('are kept exactly or told', () => {
    const values = ['+5', '-3', '12.50', '999999999999999', '1e3', '0x10', '', '  ', '1 2', '\n 7 \n', '&#49;', '<![CDATA[8]]>']
    const { batch, problems } = decode(plainFeed(values.map((v, i) => reading(1_782_864_000 + i * 900, v)).join('')), { meter: 'm' })
    expect(readsOf(batch).map(({ kwh }) => kwh)).toEqual([0.005, -0.003, 0.0125, 0.007, 0.001, 0.008])
    expect(problems.map(({ code }) => code)).toEqual(['value-precision', 'value-not-number', 'value-not-number', 'value-not-number'])
  })

  it('of impossible times and lengths are told', () => {
    const text = plainFeed(reading(-5, 1) + reading('99999999999999', 1) + reading(1_782_864_000, 1, -900) + reading(1_782_864_000, 1, 7))
    expect(decode(text, { meter: 'm' }).problems.map(({ code }) => code))
      .toEqual(['time-invalid', 'time-invalid', 'interval-unknown', 'interval-length'])
  })
})

describe('a body that is refused', () => {
  const good = plainFeed(reading(1_782_864_000, 1))
  const refusals: [string, string | Uint8Array, number, string, string][] = [
    ['a DTD', `<!DOCTYPE feed [<!ENTITY a "b">]>${good}`, 422, 'doctype-refused', 'line 1, byte 33'],
    ['an entity', good.replace('<value>1', '<value>&a;'), 400, 'malformed-xml', 'line 1'],
    ['UTF-16', new Uint8Array(Buffer.from(`\ufeff${good}`, 'utf16le')), 400, 'encoding-unsupported', 'byte 0'],
    ['Latin-1', new Uint8Array(Buffer.from(`<?xml version="1.0" encoding="ISO-8859-1"?>${good.replace('<feed>', '<feed><title>\u00e9</title>')}`, 'latin1')), 400, 'invalid-utf8', 'line 1'],
    ['a body cut off', good.slice(0, -20), 400, 'malformed-xml', 'line 1'],
    ['tags that cross', good.replace('</value>', '</start>'), 400, 'malformed-xml', 'line 1'],
    ['two roots', good + good, 400, 'malformed-xml', 'line 1'],
    ['elements too deep', '<feed>'.repeat(100) + '</feed>'.repeat(100), 422, 'too-deep', 'line 1, byte 390'],
    ['nothing', '', 400, 'malformed-xml', 'line 1, byte 0'],
    ['no meter', good, 422, 'meter-not-stated', 'record 1'],
  ]
  it.each(refusals)('%s', (_what, body, status, code, at) => {
    expect(() => decode(body, code === 'meter-not-stated' ? {} : { meter: 'm' })).toThrow(expect.objectContaining({
      status, code, extra: expect.objectContaining({ at: expect.stringContaining(at) as unknown }) as unknown,
    }))
  })

  it('says nothing of what stands in it', () => {
    expect(() => decode('<feed>Mrs. Miller <secret a=b></feed>')).toThrow(expect.objectContaining({
      message: expect.not.stringMatching(/Miller|secret/) as unknown,
    }))
  })
})

describe('places', () => {
  it('count bytes where characters have several', () => {
    const text = plainFeed(reading(1_782_864_000, 'x')).replace('<feed>', '<feed><title>Zähler 電 \u{1f50c}</title>')
    const bytes = bytesOf(text)
    const [{ rawFrom = 0, rawTo = 0 }] = decode(bytes, { meter: 'm' }).problems
    expect(Buffer.from(bytes.subarray(rawFrom, rawTo)).toString()).toBe(reading(1_782_864_000, 'x'))
  })
})

describe('a usage point', () => {
  it.each([
    ['https://x.example/espi/1_1/resource/Subscription/5/UsagePoint/M%201', 'M 1'],
    ['/espi/1_1/resource/RetailCustomer/1/UsagePoint/2/MeterReading/3', 'RetailCustomer/1/UsagePoint/2'],
    ['UsagePoint/7?x=1', '7'],
    ['/espi/1_1/resource/UsagePoint/7/', '7'],
    ['https://x.example/usagepoint', undefined],
    ['', undefined],
  ])('of %s is the meter %s', (href, meter) => {
    expect(usagePointOf(href)).toBe(meter)
  })
})
