import { dayNumber, dayText } from '../engine/time/text.js'
import { createFleet, type FleetOptions } from '../fixtures/simulator.js'
import { CopyFloor } from './copy-floor.js'
import { Instance } from './instance.js'
import { Pusher } from './pusher.js'
import { say, type Outcome } from './report.js'
import type { ScenarioOptions } from './scenario.js'
import { figure, percentile, spreadOf } from './statistics.js'

const METERS = 40_000
const METERS_PER_BODY = 5_000
const DAYS = 3
const CONNECTIONS = 4
const FIRST_DAY = dayNumber('2025-03-10')

/**
 * Day blocks (96 quarter-hours) pushed by HTTP until their receipts, beside binary COPY of the same rows. A fleet's daily
 * push: each body holds one day of some meters, and the next days follow.
 */
export async function httpDayBlocks(options: ScenarioOptions): Promise<Outcome> {
  const fleet: FleetOptions = { meters: METERS, seed: 'bench', zone: 'America/Chicago', startDay: FIRST_DAY }
  const instance = await Instance.start(options.env, options.nodeArgs)
  const pusher = new Pusher(instance)
  const clients = [await instance.connect(), await instance.connect()]
  try {
    say(`registering ${METERS} meters`)
    await instance.register(createFleet(fleet))
    const http: number[] = []
    const one: number[] = []
    const two: number[] = []
    const serverCpu: number[] = []
    const databaseCpu: number[] = []
    const clientCpu: number[] = []
    const floorCpu: number[] = []
    const latencies: number[] = []
    let bodyBytes = 0
    const floor = new CopyFloor(clients)
    for (let sample = -1; sample < options.samples; sample++) {
      const first = FIRST_DAY + (sample + 1) * DAYS
      const days = Array.from({ length: DAYS }, (_, i) => first + i)
      const prepared = await pusher.prepare({ fleet, days, metersPerBody: METERS_PER_BODY })
      bodyBytes = prepared.bytes / prepared.bodies
      await clients[0].query('checkpoint')
      const before = instance.cpu()
      const sent = await pusher.send(CONNECTIONS)
      const after = instance.cpu()
      if (sent.stored !== prepared.reads) throw new Error(`${sent.stored} of ${prepared.reads} reads were stored`)
      const rate = sent.stored / sent.seconds
      await floor.take([dayText(days[0]), dayText(days[DAYS - 1])])
      if (floor.reads !== sent.stored) throw new Error(`${floor.reads} of ${sent.stored} reads stand in the table`)
      // Validation goes on in the lull; the floor, and the next sample, have the machine for themselves.
      await instance.untilJudged(clients[0])
      const rates: number[] = []
      let floorSeconds = 0
      for (const connections of [1, 2]) {
        await clients[0].query('checkpoint')
        const began = instance.cpu().database
        rates.push(floor.reads / await floor.load(connections))
        floorSeconds = instance.cpu().database - began
      }
      say(`${sample < 0 ? 'warm-up, makes the channels' : `sample ${sample + 1}`}: HTTP ${figure(rate)} reads/s, ` +
        `COPY ${figure(rates[0])}, two connections ${figure(rates[1])}; CPU s per M reads: server ` +
        `${figure((after.server - before.server) / sent.stored * 1e6)}, database ${figure((after.database - before.database) / sent.stored * 1e6)}, ` +
        `client ${figure(sent.cpuSeconds / sent.stored * 1e6)}, floor ${figure(floorSeconds / floor.reads * 1e6)}`)
      if (sample < 0) continue
      http.push(rate)
      serverCpu.push((after.server - before.server) / sent.stored * 1e6)
      databaseCpu.push((after.database - before.database) / sent.stored * 1e6)
      clientCpu.push(sent.cpuSeconds / sent.stored * 1e6)
      floorCpu.push(floorSeconds / floor.reads * 1e6)
      one.push(rates[0])
      two.push(rates[1])
      latencies.push(...sent.latencies)
    }
    return {
      about: `${figure(METERS)} meters, ${DAYS} days a sample, JSON bodies of ${METERS_PER_BODY} meters and one day ` +
        `(${(bodyBytes / 1e6).toFixed(1)} MB, made beforehand), ${CONNECTIONS} keep-alive connections from a thread of another process, ` +
        'until the receipt, which comes after the commit. Client, server and database share the cores. Samples alternate with the floor; ' +
        'each begins after a checkpoint, with nothing left to validate; validation is on, and waits for lulls. The warm-up that makes the channels is not counted.',
      measures: [
        { name: 'http', unit: 'reads/s', spread: spreadOf(http), floor: 'copy, 1 connection' },
        { name: 'copy, 1 connection', unit: 'reads/s', spread: spreadOf(one) },
        { name: 'copy, 2 connections', unit: 'reads/s', spread: spreadOf(two) },
        { name: 'http beside 2 connections', unit: 'reads/s', spread: spreadOf(http), floor: 'copy, 2 connections' },
        { name: 'CPU of the server', unit: 's per million reads', spread: spreadOf(serverCpu) },
        { name: 'CPU of the database', unit: 's per million reads', spread: spreadOf(databaseCpu), floor: 'CPU of copy, 2 connections' },
        { name: 'CPU of the client', unit: 's per million reads', spread: spreadOf(clientCpu) },
        { name: 'CPU of copy, 2 connections', unit: 's per million reads', spread: spreadOf(floorCpu) },
        { name: 'latency to the receipt, p50', unit: 'ms', spread: spreadOf([percentile(latencies, 50)]) },
        { name: 'latency to the receipt, p99', unit: 'ms', spread: spreadOf([percentile(latencies, 99)]) },
        { name: 'RSS of the server, peak', unit: 'MB', spread: spreadOf([instance.rssHighWater() / 1e6]) },
      ],
      database: await instance.facts(),
    }
  } finally {
    for (const client of clients) await client.end()
    await pusher.close()
    await instance.stop(options.keep)
  }
}
