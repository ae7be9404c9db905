import autocannon from 'autocannon'
import { dayNumber, dayText } from '../engine/time/text.js'
import { accountId, createFleet } from '../fixtures/simulator.js'
import { fillDays } from './fill.js'
import { Instance } from './instance.js'
import { figure, say, type Measure, type Outcome } from './report.js'
import type { ScenarioOptions } from './scenario.js'
import { spreadOf } from './statistics.js'

const METERS = 50_000
const DAYS = 62
const FROM_DAY = dayNumber('2025-07-01')
const CONNECTIONS = 8
const SECONDS = 5
const PATHS = 4_000

/** GET usage under load: a month by day, and one day by interval, of ever other accounts. */
export async function usageApi(options: ScenarioOptions): Promise<Outcome> {
  const instance = await Instance.start(options.env, options.nodeArgs)
  try {
    const fleet = createFleet({ meters: METERS, seed: 'bench', zone: 'America/Chicago', startDay: FROM_DAY })
    say(`registering ${METERS} meters`)
    await instance.register(fleet)
    const rows = await fillDays(instance, { fromDay: FROM_DAY, days: DAYS, intervalS: 900, onProgress: (n) => say(`${figure(n)} rows`) })
    const accounts = Array.from({ length: PATHS }, (_, i) => accountId(fleet, (i * 7919) % METERS))
    const measures: Measure[] = []
    for (const [name, query] of [
      ['a month by day', `from=${dayText(FROM_DAY)}&to=${dayText(FROM_DAY + 31)}&resolution=day`],
      ['one day by interval', `from=${dayText(FROM_DAY + 13)}&to=${dayText(FROM_DAY + 14)}&resolution=interval`],
    ]) {
      const rates: number[] = []
      const p50: number[] = []
      const p99: number[] = []
      for (let sample = -1; sample < options.samples; sample++) {
        const result = await autocannon({
          url: instance.url, connections: CONNECTIONS, duration: SECONDS, headers: { authorization: `Bearer ${instance.key}` },
          requests: accounts.map((account) => ({ method: 'GET', path: `/v1/accounts/${account}/usage?${query}` })),
        })
        if (result.non2xx + result.errors + result.timeouts > 0) throw new Error(`${result.non2xx} refusals, ${result.errors} errors, ${result.timeouts} timeouts`)
        if (sample < 0) continue
        rates.push(result.requests.total / result.duration)
        p50.push(result.latency.p50)
        p99.push(result.latency.p99)
      }
      say(`${name}: ${figure(spreadOf(rates).median)} requests/s`)
      measures.push({ name, unit: 'requests/s', spread: spreadOf(rates) }, { name: `${name}: latency p50`, unit: 'ms', spread: spreadOf(p50) },
        { name: `${name}: latency p99`, unit: 'ms', spread: spreadOf(p99) })
    }
    return {
      about: `${METERS} meters, ${DAYS} days of quarter-hours (${figure(rows)} rows), autocannon with ${CONNECTIONS} connections for ` +
        `${SECONDS} s a sample, ${PATHS} accounts in turn; client, server and database share the cores.`,
      measures, database: await instance.facts(),
    }
  } finally {
    await instance.stop(options.keep)
  }
}
