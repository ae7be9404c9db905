import { SingleBar } from 'cli-progress'
import type { Settings } from '../engine/config.js'
import { runSimulation } from '../fixtures/simulate.js'
import type { SimulationOptions } from '../fixtures/simulation.js'
import { print } from './commands.js'

/** `meterline simulate` */
export async function simulateCommand(
  settings: Settings, options: Omit<SimulationOptions, 'zone' | 'url' | 'key' | 'kafka'>, utility: string | null,
): Promise<number> {
  const zone = settings.utilityZone
  if (zone === null) throw new Error('simulate needs UTILITY_ZONE, the zone of the utility that it plays')
  if (options.to === 'http' && (settings.meterlineUrl === null || settings.meterlineKey === null)) {
    throw new Error('simulate --to http needs a running server: --url and --key, or METERLINE_URL and METERLINE_KEY')
  }
  if (options.to === 'kafka') {
    if (settings.kafkaBrokers.length === 0) throw new Error('simulate --to kafka needs KAFKA_BROKERS')
    if (options.dir === undefined && (settings.meterlineUrl === null || settings.meterlineKey === null)) {
      throw new Error('simulate --to kafka registers its meters at a running server (--url and --key), or writes files for meterline register (--dir)')
    }
  } else if (utility !== null) throw new Error('simulate --utility is the header of Kafka messages: it needs --to kafka')
  const bar = process.stderr.isTTY ? new SingleBar({ format: '{phase} {bar} {percentage}% {eta_formatted}', stream: process.stderr }) : null
  bar?.start(1, 0, { phase: '' })
  const summary = await runSimulation({
    ...options, zone, kafka: { settings, utility }, ...(settings.meterlineUrl === null ? {} : { url: settings.meterlineUrl }),
    ...(settings.meterlineKey === null ? {} : { key: settings.meterlineKey }),
  }, ({ phase, done, total }) => {
    bar?.setTotal(total)
    bar?.update(Math.min(done, total), { phase })
  })
  bar?.stop()
  const { ledger: _ledger, ...shown } = summary
  print(shown)
  return summary.differences.length > 0 ? 1 : 0
}
