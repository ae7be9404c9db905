/**
 * How fast each decoder is on one thread: `node dist/bench/decoders.js`. Bodies are made in memory; each is decoded
 * five times after a warm-up, and the median counts.
 */
import { cpus } from 'node:os'
import { getZone } from '../engine/time/zone.js'
import type { DecodeContext, Format } from '../ingest/formats/format.js'
import { csv } from '../ingest/formats/csv.js'
import { json } from '../ingest/formats/json.js'
import { shippedMapping } from '../ingest/formats/mappings.js'
import { ndjson } from '../ingest/formats/ndjson.js'

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
    {
      name: 'csv wide, mapped', format: csv, bytes: encode(wide(56, 17_376)), reads: 973_056,
      ctx: { mapping: shippedMapping('zonnedael'), zone: getZone('Etc/GMT-1') },
    },
  ]
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]
}

console.log(`Node ${process.version}, ${cpus()[0]?.model ?? 'unknown processor'}, one thread, median of ${RUNS}`)
for (const { name, format, bytes, reads, ctx } of bodies()) {
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
