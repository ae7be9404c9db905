/**
 * How fast each decoder is on one thread: `node dist/bench/decoders.js [NAME]`. Bodies are made in memory; each is decoded
 * five times after a warm-up, and the median counts.
 */
import { cpus } from 'node:os'
import { getZone } from '../engine/time/zone.js'
import { amrdef } from '../ingest/formats/amrdef.js'
import { iec61968 } from '../ingest/formats/iec61968.js'
import { multispeak } from '../ingest/formats/multispeak.js'
import { listen, newParser } from '../ingest/formats/xml-reader.js'
import { amrdefText, greenButton, intervalData, loadProfile, meterReadings } from './xml-bodies.js'
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
  /** Made when its turn comes. */
  make: () => string
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
  const days = (): string[] => blocks(20_000, 96)
  const reads = 20_000 * 96
  const interval = { defaultIntervalS: 900 }
  const long = { format: csv, reads: 960_000 }
  return [
    { name: 'json, day blocks', format: json, make: () => `{"reads":[${days().join(',')}]}`, reads },
    { name: 'ndjson, day blocks', format: ndjson, make: () => days().join('\n'), reads },
    { name: 'ndjson, blocks of a read', format: ndjson, make: () => blocks(400_000, 1).join('\n'), reads: 400_000 },
    { name: 'ndjson, single reads', format: ndjson, make: () => singles(5_000, 96), reads: 480_000 },
    { ...long, name: 'csv by meter, offsets', make: () => rows(10_000, 96, '-05:00', false), ctx: interval },
    { ...long, name: 'csv by meter, local times', make: () => rows(10_000, 96, '', false), ctx: interval },
    { ...long, name: 'csv by time, offsets', make: () => rows(10_000, 96, '-05:00', true), ctx: interval },
    { ...long, name: 'csv by meter, length derived', make: () => rows(10_000, 96, '-05:00', false) },
    { name: 'cmep, Sensus, 48 to a record', format: cmep, make: () => cmepText(10_000, 96), reads: 960_000 },
    { name: 'nem12, half hours', format: nem12, make: () => nemText(4_000, 5, 30), reads: 960_000 },
    { name: 'nem12, five minutes', format: nem12, make: () => nemText(1_000, 4, 5), reads: 1_152_000 },
    {
      name: 'csv wide, mapped', format: csv, make: () => wide(56, 17_376), reads: 973_056,
      ctx: { mapping: shippedMapping('zonnedael'), zone: getZone('Etc/GMT-1') },
    },
    { name: 'xml: Green Button', format: espi, make: () => greenButton(1_000, 96, FIRST), reads: 96_000 },
    { name: 'xml: IEC 61968-9', format: iec61968, make: () => meterReadings(1_000, 96, FIRST), reads: 96_000 },
    { name: 'xml: MultiSpeak, delimited', format: multispeak, make: () => intervalData(20_000, 96, FIRST), reads: 1_920_000 },
    { name: 'xml: MultiSpeak, load profile', format: multispeak, make: () => loadProfile(4_000, 96, FIRST), reads: 384_000 },
    { name: 'xml: AMRDEF', format: amrdef, make: () => amrdefText(2_000, 96, FIRST), reads: 192_000 },
  ]
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]
}

/** What the parser takes by itself, of the same chunks: the floor of the XML formats. @returns seconds */
function bareSaxes(bytes: Uint8Array): number {
  let chars = 0
  const parser = newParser()
  listen(parser, {
    error: (message) => {
      throw new Error(message)
    },
    doctype: () => undefined,
    opentag: (name) => (chars += name.length), text: (text) => (chars += text.length), closetag: (name) => (chars += name.length),
  })
  const began = process.hrtime.bigint()
  for (let from = 0; from < bytes.length; from += 65_536) {
    parser.write(Buffer.from(bytes.buffer, bytes.byteOffset + from, Math.min(65_536, bytes.length - from)).toString('latin1'))
  }
  parser.close()
  if (chars === 0) throw new Error('nothing was parsed')
  return Number(process.hrtime.bigint() - began) / 1e9
}

console.log(`Node ${process.version}, ${cpus()[0]?.model ?? 'unknown processor'}, one thread, median of ${RUNS}`)
const only = process.argv[2] ?? ''
for (const { name, format, make, reads, ctx } of bodies()) {
  if (!name.toLowerCase().includes(only.toLowerCase())) continue
  const bytes = new TextEncoder().encode(make())
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
  const bare = name.startsWith('xml') ? `  saxes alone ${(bytes.length / 1e6 / median(Array.from({ length: RUNS }, () => bareSaxes(bytes)))).toFixed(0)} MB/s` : ''
  const spread = `${(Math.min(...seconds) * 1000).toFixed(0)}-${(Math.max(...seconds) * 1000).toFixed(0)} ms`
  const perSecond = (n: number, digits: number) => (n / s / 1e6).toFixed(digits).padStart(6)
  console.log(`${name.padEnd(30)} ${perSecond(reads, 1)} M reads/s ${perSecond(bytes.length, 0)} MB/s  ${spread}${bare}`)
}
