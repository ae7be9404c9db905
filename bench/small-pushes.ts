import { dayNumber } from '../engine/time/text.js'
import { createFleet, type FleetOptions } from '../fixtures/simulator.js'
import { Instance } from './instance.js'
import type { PrepareTask } from './push-task.js'
import { Pusher } from './pusher.js'
import { figure, say, type Measure, type Outcome } from './report.js'
import type { ScenarioOptions } from './scenario.js'
import { percentile, spreadOf } from './statistics.js'

const METERS = 20_000
const SINGLES = 3_000
const FIRST_DAY = dayNumber('2025-03-10')

interface Case {
  name: string
  connections: number
  /** What sample n (from 0, the first being the warm-up) pushes. */
  bodies: (n: number) => Omit<PrepareTask, 'kind' | 'fleet'>
  /** Pushed once before the clock starts: what is measured comes again. */
  again?: boolean
}

const CASES: Case[] = [
  { name: 'one interval of 500 meters a body', connections: 8,
    bodies: (n) => ({ days: [FIRST_DAY], fromSlot: n, slots: 1, metersPerBody: 500 }) },
  { name: 'one read a body', connections: 32,
    bodies: (n) => ({ days: [FIRST_DAY + 1], fromSlot: n, slots: 1, metersPerBody: 1, meters: [0, SINGLES] }) },
  { name: 'four hours of 2,000 meters a body', connections: 4,
    bodies: (n) => ({ days: [FIRST_DAY + 2 + Math.floor(n / 6)], fromSlot: n % 6 * 16, slots: 16, metersPerBody: 2000 }) },
  { name: 'day blocks pushed again', connections: 4, again: true,
    bodies: (n) => ({ days: [FIRST_DAY + 10 + n], metersPerBody: 5000 }) },
]

/** Pushes smaller than a day, which merge into blocks that stand, and repeated ones. */
export async function smallPushes(options: ScenarioOptions): Promise<Outcome> {
  const fleet: FleetOptions = { meters: METERS, seed: 'bench', zone: 'America/Chicago', startDay: FIRST_DAY }
  const instance = await Instance.start(options.env, options.nodeArgs)
  const pusher = new Pusher(instance)
  try {
    say(`registering ${METERS} meters`)
    await instance.register(createFleet(fleet))
    const measures: Measure[] = []
    for (const { name, connections, bodies, again } of CASES) {
      const reads: number[] = []
      const pushes: number[] = []
      const p50: number[] = []
      const p99: number[] = []
      for (let n = 0; n <= options.samples; n++) {
        const prepared = await pusher.prepare({ fleet, ...bodies(n) })
        if (again === true) await pusher.send(connections, true)
        const sent = await pusher.send(connections)
        const counted = again === true ? sent.duplicate : sent.stored
        if (counted !== prepared.reads) throw new Error(`${name}: ${JSON.stringify({ ...sent, latencies: 0 })} of ${prepared.reads} reads`)
        if (n === 0) continue
        reads.push(sent.received / sent.seconds)
        pushes.push(sent.bodies / sent.seconds)
        p50.push(percentile(sent.latencies, 50))
        p99.push(percentile(sent.latencies, 99))
      }
      say(`${name}: ${figure(spreadOf(reads).median)} reads/s, ${figure(spreadOf(pushes).median)} pushes/s`)
      measures.push(
        { name: `${name}: reads`, unit: 'reads/s', spread: spreadOf(reads) }, { name: `${name}: pushes`, unit: 'pushes/s', spread: spreadOf(pushes) },
        { name: `${name}: latency p50`, unit: 'ms', spread: spreadOf(p50) }, { name: `${name}: latency p99`, unit: 'ms', spread: spreadOf(p99) })
    }
    return {
      about: `${METERS} meters; ${CASES.map((c) => `${c.name} over ${c.connections} connections`).join('; ')}. ` +
        'Latency is from the first byte sent to the receipt; each sample is one push of every meter (of 3,000 meters where a body has one read).',
      measures, database: await instance.facts(),
    }
  } finally {
    await pusher.close()
    await instance.stop(options.keep)
  }
}
