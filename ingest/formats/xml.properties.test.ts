import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { getZone } from '../../engine/time/zone.js'
import { checkDecoding, mutate, mutateXml, randomOf } from '../../fixtures/mutations.js'
import { received } from '../../test/format-reads.js'
import { amrdef } from './amrdef.js'
import { espi } from './espi.js'
import type { DecodeContext, Format } from './format.js'
import { iec61968 } from './iec61968.js'
import { multispeak } from './multispeak.js'
import { listen, localName, newParser } from './xml-reader.js'

const ctx: DecodeContext = { zone: getZone('America/Chicago'), meter: 'm', defaultUnit: 'Wh', defaultIntervalS: 900 }
const bare: DecodeContext = { zone: null }
const fixture = (name: string) => new Uint8Array(readFileSync(new URL(`../../fixtures/formats/${name}`, import.meta.url)))

const bodies: [string, Format][] = [
  ['espi-linked.xml', espi], ['espi-kinds.xml', espi], ['iec61968-readings.xml', iec61968], ['multispeak-registers.xml', multispeak],
  ['multispeak-intervals.xml', multispeak], ['multispeak-formatted.xml', multispeak], ['amrdef.xml', amrdef],
]

/** IntervalReadings with a value, counted without what the decoder knows. */
function readingsWithValue(bytes: Uint8Array): number {
  const parser = newParser()
  const open: string[] = []
  let count = 0
  let hasValue = false
  let text = ''
  listen(parser, {
    error: (message) => {
      throw new Error(message)
    },
    doctype: () => undefined,
    opentag: (name) => {
      const local = localName(name)
      if (local === 'IntervalReading' && !open.includes(local)) hasValue = false
      open.push(local)
      text = ''
    },
    text: (more) => {
      text += more
    },
    closetag: () => {
      const local = open.pop()
      if (local === 'value' && open.includes('IntervalReading') && text.trim() !== '') hasValue = true
      if (local === 'IntervalReading' && !open.includes('IntervalReading') && open.includes('IntervalBlock') && hasValue) count++
      text = ''
    },
  })
  parser.write(new TextDecoder().decode(bytes)).close()
  return count
}

describe('mutated bodies', () => {
  it.each(bodies)('of %s end in reads, problems or a refusal; in parts the same', (name, format) => {
    const bytes = fixture(name)
    for (let seed = 1; seed <= 400; seed++) {
      const change = seed % 2 === 0 ? mutate : mutateXml
      expect(() => checkDecoding(format, change(bytes, randomOf(seed * 7919)), seed % 3 === 0 ? ctx : bare), `seed ${seed}`).not.toThrow()
    }
  })

  it('of Green Button lose no reading silently', () => {
    const bytes = fixture('espi-linked.xml')
    let decodedOf = 0
    for (let seed = 1; seed <= 600; seed++) {
      const body = mutateXml(bytes, randomOf(seed * 7919))
      let decoded
      try {
        decoded = espi.decode(body, ctx, null, true)
      } catch {
        continue
      }
      decodedOf++
      expect(received(decoded), `seed ${seed}`).toBe(readingsWithValue(body))
    }
    expect(decodedOf).toBeGreaterThan(300)
  })
})
