/**
 * How fast each decoder is on one thread: `node dist/bench/decoders.js [NAME] [--samples N]`, those alone whose name has
 * the text. A run of all of them is kept in bench/results.
 */
import { parseArgs } from 'node:util'
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
import { parseMapping } from '../ingest/formats/mapping.js'
import { shippedMapping } from '../ingest/formats/mappings.js'
import { ndjson } from '../ingest/formats/ndjson.js'
import { nem12 } from '../ingest/formats/nem12.js'
import { describeMachine } from './machine.js'
import { figure, report, say, type Measure } from './report.js'
import { spreadOf } from './statistics.js'

const WARM_UPS = 2
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

function time(slot: number, offset: string, stepS = 900): string {
  return new Date((FIRST - 5 * 3600 + slot * stepS) * 1000).toISOString().slice(0, 19) + offset
}

interface RowShape {
  /** 'meter,start,value' where not given. */
  header?: string
  row?: (meter: string, at: string, value: string) => string
  byTime?: boolean
  offset?: string
  stepS?: number
}

/** A row for each read: all of a meter's, or all of a time's, together. */
function rows(meters: number, slots: number, shape: RowShape = {}): string {
  const { header = 'meter,start,value', row = (meter, at, value) => `${meter},${at},${value}`, byTime = false, offset = '-05:00', stepS } = shape
  const lines = [header]
  const times = Array.from({ length: slots }, (_, i) => time(i, offset, stepS))
  const ids = Array.from({ length: meters }, (_, m) => `M${100_000 + m}`)
  if (byTime) times.forEach((at, i) => ids.forEach((id, m) => lines.push(row(id, at, kwh(m, i)))))
  else ids.forEach((id, m) => times.forEach((at, i) => lines.push(row(id, at, kwh(m, i)))))
  return `${lines.join('\n')}\n`
}

/** Smart Meter Texas: a date, and both ends of the interval. */
function texas(meter: string, at: string, value: string): string {
  const clock = (minutes: number): string => `${String(Math.floor(minutes / 60) % 24).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`
  const from = Number(at.slice(11, 13)) * 60 + Number(at.slice(14, 16))
  return `'10443720000${meter.slice(1)},${at.slice(5, 7)}/${at.slice(8, 10)}/${at.slice(0, 4)},07/03/2026 04:36:12,` +
    `${clock(from)},${clock(from + 15)},${value},A,Consumption`
}

function wide(meters: number, slots: number, scale = 1): string {
  const lines = [`datetime,${Array.from({ length: meters }, (_, m) => `Klant ${m}`).join(',')}`]
  for (let i = 0; i < slots; i++) {
    const at = new Date((FIRST + i * 900) * 1000)
    const clock = `${at.getUTCDate()}-${at.getUTCMonth() + 1}-${at.getUTCFullYear()} ${at.toISOString().slice(11, 16)}`
    lines.push(`${clock},${Array.from({ length: meters }, (_, m) => String((m * 31 + i * 17) % 900 / scale)).join(',')}`)
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
    { ...long, name: 'csv by meter, offsets', make: () => rows(10_000, 96), ctx: interval },
    { ...long, name: 'csv by meter, local times', make: () => rows(10_000, 96, { offset: '' }), ctx: interval },
    { ...long, name: 'csv by meter, length derived', make: () => rows(10_000, 96) },
    { ...long, name: 'csv by meter, ends', make: () => rows(10_000, 96, { header: 'meter,end,value' }), ctx: interval },
    { ...long, name: 'csv by meter, quoted', make: () => rows(10_000, 96, { row: (meter, at, value) => `"${meter}","${at}","${value}"` }), ctx: interval },
    {
      ...long, name: 'csv by meter, every column',
      make: () => rows(10_000, 96, {
        header: 'meter,start,intervalSeconds,unit,flow,quality,capturedAt,value',
        row: (meter, at, value) => `${meter},${at},900,kWh,delivered,actual,2026-07-03T04:36:12Z,${value}`,
      }),
    },
    { ...long, name: 'csv by time, offsets', make: () => rows(10_000, 96, { byTime: true }), ctx: interval },
    { ...long, name: 'csv by time, local times', make: () => rows(10_000, 96, { byTime: true, offset: '' }), ctx: interval },
    { ...long, name: 'csv by time, length derived', make: () => rows(10_000, 96, { byTime: true }) },
    {
      ...long, name: 'csv long, mapped: LCL', ctx: { mapping: shippedMapping('lcl') },
      make: () => rows(10_000, 96, {
        header: 'LCLid,stdorToU,DateTime,KWH/hh (per half hour)', row: (meter, at, value) => `${meter},Std,${at.replace('T', ' ')},${value}`,
        offset: '', stepS: 1800,
      }),
    },
    {
      ...long, name: 'csv long, mapped: Texas', ctx: { mapping: shippedMapping('smart-meter-texas') },
      make: () => rows(10_000, 96, {
        header: 'ESIID,USAGE_DATE,REVISION_DATE,USAGE_START_TIME,USAGE_END_TIME,USAGE_KWH,ESTIMATED_ACTUAL,CONSUMPTION_SURPLUSGENERATION', row: texas,
      }),
    },
    { name: 'cmep, Sensus, 48 to a record', format: cmep, make: () => cmepText(10_000, 96), reads: 960_000 },
    { name: 'nem12, half hours', format: nem12, make: () => nemText(4_000, 5, 30), reads: 960_000 },
    { name: 'nem12, five minutes', format: nem12, make: () => nemText(1_000, 4, 5), reads: 1_152_000 },
    {
      name: 'csv wide, mapped', format: csv, make: () => wide(56, 17_376), reads: 973_056,
      ctx: { mapping: shippedMapping('zonnedael'), zone: getZone('Etc/GMT-1') },
    },
    {
      name: 'csv wide, mapped: decimals', format: csv, make: () => wide(56, 17_376, 1000), reads: 973_056,
      ctx: { mapping: parseMapping({ name: 'kWh', layout: 'wide', wide: { timeColumn: 'datetime' }, datePattern: 'd-M-yyyy HH:mm', intervalSeconds: 900 }), zone: getZone('Etc/GMT-1') },
    },
    { name: 'xml: Green Button', format: espi, make: () => greenButton(1_000, 96, FIRST), reads: 96_000 },
    { name: 'xml: IEC 61968-9', format: iec61968, make: () => meterReadings(1_000, 96, FIRST), reads: 96_000 },
    { name: 'xml: MultiSpeak, delimited', format: multispeak, make: () => intervalData(20_000, 96, FIRST), reads: 1_920_000 },
    { name: 'xml: MultiSpeak, load profile', format: multispeak, make: () => loadProfile(4_000, 96, FIRST), reads: 384_000 },
    { name: 'xml: AMRDEF', format: amrdef, make: () => amrdefText(2_000, 96, FIRST), reads: 192_000 },
  ]
}

/** What the parser takes by itself, of the same chunks: the floor of the XML formats. */
function bareSaxes(bytes: Uint8Array): void {
  let chars = 0
  const parser = newParser()
  listen(parser, {
    error: (message) => {
      throw new Error(message)
    },
    doctype: () => undefined,
    opentag: (name) => (chars += name.length), text: (text) => (chars += text.length), closetag: (name) => (chars += name.length),
  })
  for (let from = 0; from < bytes.length; from += 65_536) {
    parser.write(Buffer.from(bytes.buffer, bytes.byteOffset + from, Math.min(65_536, bytes.length - from)).toString('latin1'))
  }
  parser.close()
  if (chars === 0) throw new Error('nothing was parsed')
}

/** Seconds that work takes, by the clock and of processor: the latter of all threads, the collector's too. */
function timed(work: () => void): { wall: number; cpu: number } {
  const cpuBefore = process.cpuUsage()
  const began = process.hrtime.bigint()
  work()
  const wall = Number(process.hrtime.bigint() - began) / 1e9
  const { user, system } = process.cpuUsage(cpuBefore)
  return { wall, cpu: (user + system) / 1e6 }
}

function measure({ name, format, make, reads, ctx }: Body, samples: number): Measure[] {
  const bytes = new TextEncoder().encode(make())
  const context: DecodeContext = { zone: getZone('America/Chicago'), ...ctx }
  const isXml = name.startsWith('xml')
  const own: { wall: number; cpu: number }[] = []
  const bare: { wall: number; cpu: number }[] = []
  for (let n = -WARM_UPS; n < samples; n++) {
    const took = timed(() => {
      const { batch, problems } = format.decode(bytes, context, null, true)
      if (batch.size !== reads || problems.length > 0) throw new Error(`${name}: ${batch.size} of ${reads} reads; ${problems[0]?.message ?? ''}`)
    })
    const floor = isXml ? timed(() => bareSaxes(bytes)) : undefined
    if (n < 0) continue
    own.push(took)
    if (floor !== undefined) bare.push(floor)
  }
  const mb = bytes.length / 1e6
  const floor = isXml ? { floor: `${name}: the parser alone` } : {}
  const measures: Measure[] = [
    { name: `${name}: reads`, unit: 'reads/s', spread: spreadOf(own.map((t) => reads / t.wall)) },
    { name: `${name}: bytes`, unit: 'MB/s', spread: spreadOf(own.map((t) => mb / t.wall)), ...floor },
    isXml ? { name: `${name}: bytes by processor time`, unit: 'MB/s', spread: spreadOf(own.map((t) => mb / t.cpu)) }
      : { name: `${name}: reads by processor time`, unit: 'reads/s', spread: spreadOf(own.map((t) => reads / t.cpu)) },
  ]
  if (isXml) measures.push({ name: `${name}: the parser alone`, unit: 'MB/s', spread: spreadOf(bare.map((t) => mb / t.wall)) })
  say(`${name.padEnd(30)} ${measures.map((m) => `${figure(m.spread.median)} ${m.unit}`).join(', ')}`)
  return measures
}

const { values, positionals } = parseArgs({ allowPositionals: true, options: { samples: { type: 'string', default: '5' } } })
const samples = Number(values.samples)
const only = (positionals[0] ?? '').toLowerCase()
const chosen = bodies().filter(({ name }) => name.toLowerCase().includes(only))
if (!Number.isInteger(samples) || samples < 1 || chosen.length === 0) {
  process.stderr.write('node dist/bench/decoders.js [NAME] [--samples N]\n')
  process.exit(1)
}
const machine = describeMachine(`node dist/bench/decoders.js ${process.argv.slice(2).join(' ')}`.trim())
report('decoders', machine, {
  about: `Each decoder on one thread, of bodies in memory; the median of ${samples} after ${WARM_UPS} to warm up. The floor of XML is saxes with ` +
    'listeners that do nothing, of the same bytes, in turn with the decoder. By processor time: that of all threads, the collector\'s too.',
  measures: chosen.flatMap((body) => measure(body, samples)),
}, only === '')
