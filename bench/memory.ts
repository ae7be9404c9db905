import { dayNumber } from '../engine/time/text.js'
import { createFleet, type FleetOptions } from '../fixtures/simulator.js'
import { Instance } from './instance.js'
import { Pusher } from './pusher.js'
import { say, type Measure, type Outcome } from './report.js'
import type { ScenarioOptions } from './scenario.js'
import { spreadOf } from './statistics.js'

const METERS = 40_000
const FIRST_DAY = dayNumber('2025-01-01')

interface Phase {
  name: string
  /** Days of the whole fleet in each round. */
  days: number
  rounds: number
  connections: number
  metersPerBody: number
  bodyBytes?: number
}

const PHASES: Phase[] = [
  { name: 'bodies of 4 MB, 4 connections', days: 10, rounds: 4, connections: 4, metersPerBody: 5000 },
  { name: 'bodies of 64 MB, 2 connections', days: 9, rounds: 2, connections: 2, metersPerBody: 1000, bodyBytes: 60e6 },
  { name: 'one body of 300 MB, in parts', days: 11, rounds: 1, connections: 1, metersPerBody: 1000, bodyBytes: 1e9 },
]

/** Resident memory of the serving process while two gigabytes of JSON are pushed. */
export async function memory(options: ScenarioOptions): Promise<Outcome> {
  const fleet: FleetOptions = { meters: METERS, seed: 'bench', zone: 'America/Chicago', startDay: FIRST_DAY }
  const instance = await Instance.start(options.env, options.nodeArgs)
  const pusher = new Pusher(instance)
  try {
    say(`registering ${METERS} meters`)
    await instance.register(createFleet(fleet))
    const measures: Measure[] = [
      { name: 'RSS after registering', unit: 'MB', spread: spreadOf([instance.rss() / 1e6]) },
    ]
    let day = FIRST_DAY
    let total = 0
    for (const phase of PHASES) {
      instance.resetRssPeak()
      const rates: number[] = []
      const peaks: number[] = []
      let largest = 0
      let refused = 0
      for (let round = 0; round < phase.rounds; round++) {
        const days = Array.from({ length: phase.days }, (_, i) => day + i)
        day += phase.days
        const prepared = await pusher.prepare({
          fleet, days, metersPerBody: phase.metersPerBody,
          ...(phase.bodyBytes === undefined ? {} : { bodyBytes: phase.bodyBytes }) })
        largest = Math.max(largest, prepared.bytes / prepared.bodies)
        const sent = await pusher.send(phase.connections)
        if (sent.stored !== prepared.reads) throw new Error(`${sent.stored} of ${prepared.reads} reads were stored`)
        total += sent.bytes
        refused += sent.refused
        rates.push(sent.stored / sent.seconds)
        peaks.push(instance.rssPeak() / 1e6)
        say(`${phase.name}: ${(sent.bytes / 1e6).toFixed(0)} MB, bodies of ${(largest / 1e6).toFixed(1)} MB, ` +
          `${(rates[rates.length - 1] / 1e6).toFixed(2)} M reads/s, RSS peak ${peaks[peaks.length - 1].toFixed(0)} MB, refused ${refused}`)
      }
      measures.push({ name: `RSS peak, ${phase.name}`, unit: 'MB', spread: spreadOf(peaks) },
        { name: `rate, ${phase.name}`, unit: 'reads/s', spread: spreadOf(rates) })
    }
    measures.push({ name: 'RSS, greatest of all (VmHWM)', unit: 'MB', spread: spreadOf([instance.rssHighWater() / 1e6]) })
    return {
      about: `${(total / 1e9).toFixed(2)} GB of JSON day blocks of ${METERS} meters pushed by HTTP, in bodies of three sizes; ` +
        'resident memory of the serving process (all its threads; PostgreSQL is apart), sampled every 50 ms, and the kernel\'s high-water mark.',
      measures, database: await instance.facts(), detail: { bytes: total },
    }
  } finally {
    await pusher.close()
    await instance.stop(options.keep)
  }
}
