import { dayNumber } from '../engine/time/text.js'
import { createFleet, type FleetOptions } from '../fixtures/simulator.js'
import { Instance } from './instance.js'
import { Pusher } from './pusher.js'
import { figure, say, type Outcome } from './report.js'
import type { ScenarioOptions } from './scenario.js'
import { spreadOf } from './statistics.js'

const METERS = 20_000
const METERS_PER_BODY = 5_000
const DAYS = 7
const CONNECTIONS = 4
const FIRST_DAY = dayNumber('2025-03-10')

/**
 * Day blocks by HTTP with validation and without, in turn: until the last receipt, and with validation also until nothing
 * waits to be judged. The days follow each other, so that baselines are made and used as in a fleet's ordinary weeks.
 */
export async function vee(options: ScenarioOptions): Promise<Outcome> {
  const fleet: FleetOptions = { meters: METERS, seed: 'bench', zone: 'America/Chicago', startDay: FIRST_DAY }
  const instance = await Instance.start(options.env, options.nodeArgs)
  const pusher = new Pusher(instance)
  const client = await instance.connect()
  try {
    say(`registering ${METERS} meters`)
    await instance.register(createFleet(fleet))
    const without: number[] = []
    const receipts: number[] = []
    const judged: number[] = []
    let first = FIRST_DAY
    // Four weeks first, so that there is history to be held against; then both in turn.
    for (let sample = -4; sample < options.samples * 2; sample++) {
      const validates = sample < 0 || sample % 2 === 1
      await client.query('update utility set validates = $1', [validates])
      const days = Array.from({ length: DAYS }, (_, i) => first + i)
      first += DAYS
      const prepared = await pusher.prepare({ fleet, days, metersPerBody: METERS_PER_BODY })
      await client.query('checkpoint')
      const began = performance.now()
      const sent = await pusher.send(CONNECTIONS)
      if (sent.stored !== prepared.reads) throw new Error(`${sent.stored} of ${prepared.reads} reads were stored`)
      if (validates) await instance.untilJudged(client)
      const all = (performance.now() - began) / 1000
      say(`${validates ? 'with' : 'without'} validation: ${figure(sent.stored / sent.seconds)} reads/s to the receipts` +
        (validates ? `, ${figure(sent.stored / all)} until all was judged` : ''))
      if (sample < 0) continue
      if (validates) {
        receipts.push(sent.stored / sent.seconds)
        judged.push(sent.stored / all)
      } else without.push(sent.stored / sent.seconds)
    }
    return {
      about: `${figure(METERS)} meters, ${DAYS} days a sample, JSON bodies of ${METERS_PER_BODY} meters and one day, ${CONNECTIONS} connections; ` +
        'samples with and without validation in turn, after four weeks of history. Until all was judged counts the wait for the schedule (up to 2 s), too.',
      measures: [
        { name: 'without validation', unit: 'reads/s', spread: spreadOf(without) },
        { name: 'with validation, to the receipts', unit: 'reads/s', spread: spreadOf(receipts), floor: 'without validation' },
        { name: 'with validation, until all was judged', unit: 'reads/s', spread: spreadOf(judged), floor: 'without validation' },
      ],
      database: await instance.facts(),
    }
  } finally {
    await client.end()
    await pusher.close()
    await instance.stop(options.keep)
  }
}
