/**
 * How fast each decoder is on one thread: `node dist/bench/decoders.js [NAME]`. Bodies are made in memory; each is decoded
 * five times after a warm-up, and the median counts.
 */
import { cpus } from 'node:os'
import { getZone } from '../engine/time/zone.js'
import type { DecodeContext, Format } from '../ingest/formats/format.js'
import { cmep } from '../ingest/formats/cmep.js'
import { csv } from '../ingest/formats/csv.js'
import { espi } from '../ingest/formats/espi.js'
import { json } from '../ingest/formats/json.js'
import { shippedMapping } from '../ingest/formats/mappings.js'
import { ndjson } from '../ingest/formats/ndjson.js'
import { nem12 } from '../ingest/formats/nem12.js'

const RUNS = 5
const FIRST = Date.parse('2026-07-01T05:00:00Z') / 1000

interface Body {
  name: string
  format: Format
  bytes: Uint8Array
  reads: number
  ctx?: Partial<DecodeContext>
}

/** Reads of a meter's slot, three decimals; the same at every run. */
function kwh(meter: number, slot: number): string {
  return (((meter * 7919 + slot * 104729) % 2400) / 1000).toFixed(3)
}

function blocks(meters: number, slots: number): string[] {
  return Array.from({ length: meters }, (_, m) => {
    const values = Array.from({ length: slots }, (_, i) => Number(kwh(m, i)))
    return JSON.stringify({
      meter: `M${100_000 + m}`, start: '2026-07-01T00:00:00-05:00', intervalSeconds: 900, values, unit: 'kWh',
      flow: 'delivered', quality: 'actual',
    })
  })
}

function time(slot: number, offset: string): string {
  return new Date((FIRST - 5 * 3600 + slot * 900) * 1000).toISOString().slice(0, 19) + offset
}

function rows(meters: number, slots: number, offset: string, byTime: boolean): string {
  const lines = ['meter,start,value']
  const times = Array.from({ length: slots }, (_, i) => time(i, offset))
  const ids = Array.from({ length: meters }, (_, m) => `M${100_000 + m}`)
  if (byTime) times.forEach((at, i) => ids.forEach((id, m) => lines.push(`${id},${at},${kwh(m, i)}`)))
  else ids.forEach((id, m) => times.forEach((at, i) => lines.push(`${id},${at},${kwh(m, i)}`)))
  return `${lines.join('\n')}\n`
}

function wide(meters: number, slots: number): string {
  const lines = [`datetime,${Array.from({ length: meters }, (_, m) => `Klant ${m}`).join(',')}`]
  for (let i = 0; i < slots; i++) {
    const at = new Date((FIRST + i * 900) * 1000)
    const clock = `${at.getUTCDate()}-${at.getUTCMonth() + 1}-${at.getUTCFullYear()} ${at.toISOString().slice(11, 16)}`
    lines.push(`${clock},${Array.from({ length: meters }, (_, m) => String((m * 31 + i * 17) % 900)).join(',')}`)
  }
  return `${lines.join('\n')}\n`
}

function singles(meters: number, slots: number): string {
  const lines: string[] = []
  for (let m = 0; m < meters; m++) {
    for (let i = 0; i < slots; i++) {
      const meter = `M${100_000 + m}`
      lines.push(JSON.stringify({ meter, start: time(i, '-05:00'), intervalSeconds: 900, value: Number(kwh(m, i)) }))
    }
  }
  return lines.join('\n')
}

/** A Green Button feed of blocks of a day, indented as most portals do. */
function greenButton(meters: number, slots: number): string {
  const parts = ['<?xml version="1.0" encoding="UTF-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom" xmlns:espi="http://naesb.org/espi">',
    '<entry><link rel="self" href="/ReadingType/1"/><content><espi:ReadingType><espi:accumulationBehaviour>4</espi:accumulationBehaviour>',
    '<espi:flowDirection>1</espi:flowDirection><espi:intervalLength>900</espi:intervalLength>',
    '<espi:powerOfTenMultiplier>0</espi:powerOfTenMultiplier><espi:uom>72</espi:uom></espi:ReadingType></content></entry>']
  for (let m = 0; m < meters; m++) {
    parts.push(`<entry><link rel="up" href="/UsagePoint/${100_000 + m}/MeterReading/1/IntervalBlock"/><content>
  <espi:IntervalBlock>`)
    for (let i = 0; i < slots; i++) {
      parts.push(`    <espi:IntervalReading>
      <espi:ReadingQuality><espi:quality>17</espi:quality></espi:ReadingQuality>
      <espi:timePeriod>
        <espi:duration>900</espi:duration>
        <espi:start>${FIRST + i * 900}</espi:start>
      </espi:timePeriod>
      <espi:value>${(m * 7919 + i * 104729) % 2400}</espi:value>
    </espi:IntervalReading>`)
    }
    parts.push('  </espi:IntervalBlock></content></entry>')
  }
  parts.push('</feed>')
  return parts.join('\n')
}

/** Sensus's MEPMD01: 48 quarter hours to a record. */
function cmepText(meters: number, slots: number): string {
  const lines: string[] = []
  const stamp = (i: number): string => new Date((FIRST + i * 900) * 1000).toISOString().replaceAll(/\D/g, '').slice(0, 12)
  const times = Array.from({ length: slots }, (_, i) => stamp(i + 1))
  for (let m = 0; m < meters; m++) {
    for (let from = 0; from < slots; from += 48) {
      const triples = Array.from({ length: 48 }, (_, i) => `${times[from + i]},R0,${kwh(m, from + i)}`).join(',')
      lines.push(`MEPMD01,20080519,SENSUS,COOP:130000,${4_000_000 + m},M${100_000 + m},${times[slots - 1]},,OK,E,KWH,1.0,00000015,48,${triples}`)
    }
  }
  return `${lines.join('\r\n')}\r\n`
}

/** NEM12: a day of half hours or five minutes to a record. */
function nemText(nmis: number, days: number, minutes: number): string {
  const n = 1440 / minutes
  const lines = ['100,NEM12,202607101200,MDP1,RET1']
  for (let m = 0; m < nmis; m++) {
    lines.push(`200,NMI${1_000_000 + m},E1,1,E1,N1,S${m},kWh,${minutes},`)
    for (let d = 0; d < days; d++) {
      lines.push(`300,202607${String(d + 1).padStart(2, '0')},${Array.from({ length: n }, (_, i) => kwh(m, d * n + i)).join(',')},A,,,20260709120000,`)
    }
  }
  return `${lines.join('\r\n')}\r\n900\r\n`
}

function bodies(): Body[] {
  const encode = (text: string) => new TextEncoder().encode(text)
  const days = blocks(20_000, 96)
  const reads = 20_000 * 96
  const interval = { defaultIntervalS: 900 }
  const long = { format: csv, reads: 960_000 }
  return [
    { name: 'json, day blocks', format: json, bytes: encode(`{"reads":[${days.join(',')}]}`), reads },
    { name: 'ndjson, day blocks', format: ndjson, bytes: encode(days.join('\n')), reads },
    { name: 'ndjson, blocks of a read', format: ndjson, bytes: encode(blocks(400_000, 1).join('\n')), reads: 400_000 },
    { name: 'ndjson, single reads', format: ndjson, bytes: encode(singles(5_000, 96)), reads: 480_000 },
    { ...long, name: 'csv by meter, offsets', bytes: encode(rows(10_000, 96, '-05:00', false)), ctx: interval },
    { ...long, name: 'csv by meter, local times', bytes: encode(rows(10_000, 96, '', false)), ctx: interval },
    { ...long, name: 'csv by time, offsets', bytes: encode(rows(10_000, 96, '-05:00', true)), ctx: interval },
    { ...long, name: 'csv by meter, length derived', bytes: encode(rows(10_000, 96, '-05:00', false)) },
    { name: 'cmep, Sensus, 48 to a record', format: cmep, bytes: encode(cmepText(10_000, 96)), reads: 960_000 },
    { name: 'nem12, half hours', format: nem12, bytes: encode(nemText(4_000, 5, 30)), reads: 960_000 },
    { name: 'nem12, five minutes', format: nem12, bytes: encode(nemText(1_000, 4, 5)), reads: 1_152_000 },
    {
      name: 'csv wide, mapped', format: csv, bytes: encode(wide(56, 17_376)), reads: 973_056,
      ctx: { mapping: shippedMapping('zonnedael'), zone: getZone('Etc/GMT-1') },
    },
    { name: 'Green Button', format: espi, bytes: encode(greenButton(2_000, 96)), reads: 192_000 },
  ]
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]
}

console.log(`Node ${process.version}, ${cpus()[0]?.model ?? 'unknown processor'}, one thread, median of ${RUNS}`)
const only = process.argv[2] ?? ''
for (const { name, format, bytes, reads, ctx } of bodies()) {
  if (!name.toLowerCase().includes(only.toLowerCase())) continue
  const context: DecodeContext = { zone: getZone('America/Chicago'), ...ctx }
  const seconds: number[] = []
  for (let run = -2; run < RUNS; run++) {
    const began = process.hrtime.bigint()
    const { batch, problems } = format.decode(bytes, context, null, true)
    const took = Number(process.hrtime.bigint() - began) / 1e9
    if (batch.size !== reads || problems.length > 0) throw new Error(`${name}: ${batch.size} of ${reads} reads`)
    if (run >= 0) seconds.push(took)
  }
  const s = median(seconds)
  const spread = `${(Math.min(...seconds) * 1000).toFixed(0)}-${(Math.max(...seconds) * 1000).toFixed(0)} ms`
  const perSecond = (n: number, digits: number) => (n / s / 1e6).toFixed(digits).padStart(6)
  console.log(`${name.padEnd(30)} ${perSecond(reads, 1)} M reads/s ${perSecond(bytes.length, 0)} MB/s  ${spread}`)
}
