import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { linearRegression, median } from 'simple-statistics'
import { Caller } from '../test/faults/caller.js'
import { until } from '../test/faults/engine-process.js'
import { FAULTS, Installation, type Fault } from '../test/faults/http-faults.js'
import { seeded } from '../test/faults/fleet.js'
import { missing, startBus, type Bus } from '../test/kafka/bus.js'
import { describeMachine } from './machine.js'
import { report, say, type Measure } from './report.js'
import { SoakTopic } from './soak-kafka.js'
import { httpDoor, SoakLoad } from './soak-load.js'
import { percentile, spreadOf } from './statistics.js'

const BROKER = 'restart-broker'
const KINDS: readonly (Fault | typeof BROKER)[] = missing === null ? [...FAULTS, BROKER] : FAULTS
const REPLACES: readonly string[] = ['kill-program', 'stop-program']

const USAGE = `node dist/bench/soak.js [--minutes 30] [--meters 2000] [--pushes 4] [--fault-every 60] [--seed 1] [--kinds a,b]
Steady load by HTTP and, where a Kafka broker can be started, by Kafka in turn, with faults on a seeded schedule. RSS, event-loop delay, database size and what waits are sampled, and judged.
--pushes per second, each a day of 100 meters; --fault-every seconds, 0 for none. Kinds: ${KINDS.join(', ')};
by default all but those that replace the process, whose memory is the thing watched.
`
const METERS_PER_PUSH = 100
const SAMPLE_MS = 2000
const RULES = 'Rules: the first quarter is warm-up. RSS drifts where its least-squares slope over the rest comes to more than 15 % of its median and ' +
  'more than 40 MB in that time; event-loop delay where its median in the last quarter is above twice that of the second plus 20 ms; ' +
  'the database where the last half takes more than 1.5 times the bytes per push of the whole after warm-up; the load where pushes or messages wait at the end.'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' }, meters: { type: 'string', default: '2000' }, pushes: { type: 'string', default: '4' },
    'fault-every': { type: 'string', default: '60' }, seed: { type: 'string', default: '1' },
    kinds: { type: 'string', default: KINDS.filter((f) => !REPLACES.includes(f)).join(',') }, help: { type: 'boolean', short: 'h', default: false },
  },
})
const [minutes, meters, pushes, faultEvery, seed] = [values.minutes, values.meters, values.pushes, values['fault-every'], values.seed].map(Number)
const kinds = values.kinds.split(',').filter((kind): kind is Fault | typeof BROKER => (KINDS as readonly string[]).includes(kind))
if (values.help || ![minutes, meters, pushes, faultEvery, seed].every(Number.isFinite) || kinds.length === 0) {
  process.stdout.write(USAGE)
  process.exit(values.help ? 0 : 1)
}

interface Sample {
  s: number
  pid: number
  rssMb: number
  /** Greatest delay of the main thread's event loop since the process's last collection of metrics, milliseconds. */
  loopP99Ms: number
  databaseMb: number
  waiting: number
  /** Messages in the topic that are not settled. */
  lag: number
  acknowledged: number
  p50Ms: number
  p99Ms: number
}

const machine = describeMachine(`node dist/bench/soak.js ${process.argv.slice(2).join(' ')}`.trim())
const bus: Bus | null = missing === null ? await startBus() : null
const installation = await Installation.start({ UTILITY_ZONE: 'Etc/UTC', ...(bus === null ? {} : await SoakTopic.make(bus)) })
const topic = bus === null ? null : SoakTopic.open(bus, installation.pool)
const caller = new Caller(() => installation.engine.url, installation.key)
let held: string[]
try {
  held = await soak()
} finally {
  caller.close()
  await topic?.close()
  await installation.close()
  await bus?.close()
}
process.stdout.write(held.length === 0 ? 'the soak holds\n' : `the soak does NOT hold:\n${held.join('\n')}\n`)
// All is closed; a Kafka client that saw its broker restarted may keep the process alive all the same.
process.exit(held.length === 0 ? 0 : 1)

async function soak(): Promise<string[]> {
  await caller.json('PUT', '/v1/accounts', [{ account: 'A1' }])
  const all = Array.from({ length: meters }, (_, i) => ({ meter: SoakLoad.meter(i), account: 'A1', from: '2020-01-01T00:00:00Z' }))
  for (let from = 0; from < meters; from += 2000) await caller.json('PUT', '/v1/meters', all.slice(from, from + 2000))
  const door = httpDoor(caller)
  const load = new SoakLoad({ doors: topic === null ? [door] : [door, topic], seed, meters, metersPerPush: METERS_PER_PUSH, pushesPerSecond: pushes })
  const beganMs = Date.now()
  const endMs = beganMs + minutes * 60_000
  const running = load.run(endMs)
  const samples: Sample[] = []
  const faults: { s: number; fault: string }[] = []
  const random = seeded(seed)
  const suffering = (async () => {
    if (faultEvery === 0) return
    for (let next = beganMs + faultEvery * 1000; next < endMs - 10_000; next += faultEvery * 1000) {
      await delay(Math.max(0, next - Date.now()))
      const fault = kinds[Math.floor(random() * kinds.length)]
      say(`fault: ${fault}`)
      faults.push({ s: (Date.now() - beganMs) / 1000, fault })
      if (fault !== BROKER) await installation.suffer(fault, random)
      else {
        await bus!.broker!.stop()
        await delay(random() * 3000)
        await bus!.broker!.start()
      }
    }
  })()
  while (Date.now() < endMs) {
    await delay(SAMPLE_MS)
    const sample = await look(load, beganMs)
    if (sample === undefined) continue
    samples.push(sample)
    if (samples.length % 15 === 0) say(JSON.stringify(sample))
  }
  await suffering
  await Promise.race([running, delay(120_000).then(() => { throw new Error(`${load.waiting} pushes are not acknowledged two minutes after the end`) })])
  await until('it is ready', async () => (await caller.call('GET', '/readyz')).status === 200)
  const wrong = [...await compare(load), ...judge(samples, load)]
  const column = (name: Exclude<keyof Sample, 'pid' | 's'>): number[] => samples.map((x) => x[name])
  const measures: Measure[] = [
    { name: 'RSS', unit: 'MB', spread: spreadOf(column('rssMb')) }, { name: 'event-loop delay p99', unit: 'ms', spread: spreadOf(column('loopP99Ms')) },
    { name: 'pushes waiting', unit: '', spread: spreadOf(column('waiting')) }, { name: 'latency p50', unit: 'ms', spread: spreadOf(column('p50Ms')) },
    { name: 'Kafka lag', unit: 'messages', spread: spreadOf(column('lag')) },
    { name: 'latency p99', unit: 'ms', spread: spreadOf(column('p99Ms')) }, { name: 'database', unit: 'MB', spread: spreadOf(column('databaseMb')) },
  ]
  const { rows: [{ version, mode }] } = await installation.pool.query<{ version: string; mode: string }>(
    `select split_part(version(), ' on ', 1) as version, storage_mode as mode from installation`)
  report('soak', machine, {
    about: `${minutes} minutes of ${pushes} pushes a second, each a day of ${METERS_PER_PUSH} of ${meters} meters, one in five repeated or corrected; ` +
      `${faults.length} faults; ${load.acknowledged} pushes acknowledged, ${door.refused} answered 408, 429 or 503, ${door.broken} cut off; ` +
      (topic === null ? `HTTP alone, because ${missing}. ` : `every second one by Kafka until its position has passed it, ${topic.broken} of them sent again. `) +
      (wrong.length === 0 ? 'Everything acknowledged is there once, and nothing drifts.' : `It does not hold: ${wrong.join('; ')}.`),
    measures, notes: [RULES, ...faults.map((f) => `- ${f.s.toFixed(0)} s: ${f.fault}`)],
    database: { version, storageMode: mode, settings: {} }, detail: { samples, faults, expected: load.expected },
  })
  return wrong
}

async function look(load: SoakLoad, beganMs: number): Promise<Sample | undefined> {
  const { pid } = installation.engine
  const { latencies } = load
  load.latencies = []
  try {
    const rssMb = Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? NaN) / 1024
    const loopP99Ms = await Promise.race([caller.metric('nodejs_eventloop_lag_p99_seconds'), delay(SAMPLE_MS, NaN)]) * 1000
    const { rows: [{ size }] } = await installation.pool.query<{ size: number }>('select pg_database_size(current_database()) as size')
    if (!Number.isFinite(loopP99Ms)) return undefined
    return {
      s: (Date.now() - beganMs) / 1000, pid, rssMb, loopP99Ms, databaseMb: size / 1e6, waiting: load.waiting, lag: topic?.lag ?? 0, acknowledged: load.acknowledged,
      p50Ms: latencies.length === 0 ? 0 : percentile(latencies, 50), p99Ms: latencies.length === 0 ? 0 : percentile(latencies, 99),
    }
  } catch {
    // Program or database is away, as it should be at times.
    return undefined
  }
}

/** What stands against what was acknowledged. */
async function compare(load: SoakLoad): Promise<string[]> {
  const { rows: [is] } = await installation.pool.query<{ reads: number; wh: number; load: number }>(
    `select sum(present)::float8 as reads, sum(total * 10::numeric ^ (exponent + 3))::float8 as wh,
            (select sum(energy * 1000)::float8 from system_load where group_id = 0) as load from channel_day`)
  const { reads, wh } = load.expected
  const same = is.reads === reads && is.wh === wh && is.load === wh
  return same ? [] : [`stored are ${is.reads} reads of ${is.wh} Wh (load ${is.load} Wh), acknowledged ${reads} of ${wh} Wh`]
}

/** What drifts, by the rules above. */
function judge(samples: readonly Sample[], load: SoakLoad): string[] {
  const wrong: string[] = []
  const last = samples.at(-1)
  if (last === undefined || samples.length < 20) return [`only ${samples.length} samples`]
  // Of the process that lived last: another one begins anew.
  const own = samples.filter((x) => x.pid === last.pid)
  const steady = own.slice(Math.floor(own.length / 4))
  const quarter = Math.floor(own.length / 4)
  const spanS = last.s - steady[0].s
  const growth = linearRegression(steady.map((x) => [x.s, x.rssMb])).m * spanS
  if (growth > 40 && growth > 0.15 * median(steady.map((x) => x.rssMb))) wrong.push(`RSS grows by ${growth.toFixed(0)} MB in ${spanS.toFixed(0)} s`)
  const loop = (part: readonly Sample[]): number => median(part.map((x) => x.loopP99Ms))
  const [second, fourth] = [loop(own.slice(quarter, 2 * quarter)), loop(own.slice(-quarter))]
  if (fourth > 2 * second + 20) wrong.push(`the event-loop delay rises from ${second.toFixed(0)} to ${fourth.toFixed(0)} ms`)
  const bytesPerPush = (from: Sample): number => (last.databaseMb - from.databaseMb) / Math.max(1, last.acknowledged - from.acknowledged)
  const half = steady[Math.floor(steady.length / 2)]
  if (bytesPerPush(half) > 1.5 * bytesPerPush(steady[0])) wrong.push('the database takes ever more bytes for a push')
  if (topic !== null && topic.lag > 0) wrong.push(`${topic.lag} messages lag at the end`)
  if (load.waiting > 0) wrong.push(`${load.waiting} pushes wait at the end`)
  return wrong
}
