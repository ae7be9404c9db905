/**
 * Fuzzes the decoders with mutations of the fixtures (and of the files given): `node dist/bench/fuzz.js [SECONDS] [FORMAT] [FILE…]`.
 * Each decoder gets that many seconds, 60 by default. Ends with status 1 and the seed of the first mutation that does not hold.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../engine/package-root.js'
import { getZone } from '../engine/time/zone.js'
import { arrow } from '../ingest/formats/arrow.js'
import { detectFormat, type DecodeContext, type Format } from '../ingest/formats/format.js'
import { arrowBodies, checkDecoding, mutate, mutateWords, mutateXml, randomOf } from '../fixtures/mutations.js'

const SLOW_MS = 2000
const seconds = Number(process.argv[2] ?? 60)
const only = process.argv[3] ?? ''
const folder = join(packageRoot(), 'fixtures')
const paths = process.argv.length > 4 ? process.argv.slice(4)
  : ['formats', 'samples', 'arrow'].flatMap((name) => readdirSync(join(folder, name)).filter((f) => !/\.(md|py)$/.test(f)).map((f) => join(folder, name, f)))
const contexts: DecodeContext[] = [
  { zone: getZone('America/Chicago'), defaultIntervalS: 900 }, { zone: null }, { zone: getZone('Australia/Lord_Howe'), clock: 'wall-as-epoch', round: true }]

const bodies = new Map<Format, Uint8Array[]>()
const files = paths.map((path): [string, Uint8Array] => [path, new Uint8Array(readFileSync(path))])
const made = process.argv.length > 4 ? [] : arrowBodies().map((bytes): [string, Uint8Array] => ['made.arrows', bytes])
for (const [path, bytes] of [...files, ...made]) {
  const format = detectFormat(undefined, undefined, path, bytes)
  bodies.set(format, [...bodies.get(format) ?? [], bytes])
}
for (const [format, own] of bodies) {
  if (only !== '' && format.name !== only) continue
  const until = Date.now() + seconds * 1000
  let seed = 1
  let slowest = 0
  for (; Date.now() < until; seed++) {
    const random = randomOf(seed * 2_654_435_761)
    const whole = own[random(own.length)]
    // XML is refused at the first broken tag, and Arrow at the first message that is not whole: every other body stays well-formed.
    const change = seed % 2 === 1 ? mutate : isXml(whole) ? mutateXml : format === arrow ? mutateWords : mutate
    const body = change(whole, random)
    const began = performance.now()
    try {
      checkDecoding(format, body, contexts[random(contexts.length)])
    } catch (err) {
      console.log(`${format.name}: seed ${seed}: ${err instanceof Error ? err.stack : String(err)}`)
      process.exit(1)
    }
    slowest = Math.max(slowest, performance.now() - began)
    if (slowest > SLOW_MS) {
      console.log(`${format.name}: seed ${seed} took ${slowest.toFixed(0)} ms for ${body.length} bytes`)
      process.exit(1)
    }
  }
  console.log(`${format.name.padEnd(10)} ${seed - 1} bodies in ${seconds} s, the slowest ${slowest.toFixed(0)} ms; resident ${(process.memoryUsage().rss / 1e6).toFixed(0)} MB`)
}

function isXml(bytes: Uint8Array): boolean {
  return /^\ufeff?\s*</.test(Buffer.from(bytes.subarray(0, 100)).toString())
}
