import { parseArgs } from 'node:util'
import { alertDelay } from './alert-delay.js'
import { explain } from './explain.js'
import { httpDayBlocks } from './http-day-blocks.js'
import { kafka } from './kafka.js'
import { describeMachine } from './machine.js'
import { Instance } from './instance.js'
import { memory } from './memory.js'
import { report } from './report.js'
import type { Scenario } from './scenario.js'
import { smallPushes } from './small-pushes.js'
import { thresholds } from './thresholds.js'
import { usageApi } from './usage-api.js'
import { vee } from './vee.js'

const SCENARIOS: Record<string, Scenario> = {
  'http-day-blocks': httpDayBlocks,
  memory,
  'small-pushes': smallPushes,
  thresholds,
  'usage-api': usageApi,
  explain,
  vee,
  'alert-delay': alertDelay,
  kafka,
}

const USAGE = `node dist/bench/run.js [scenario…] [--samples N] [--set NAME=VALUE]… [--node-arg=ARG]… [--only TEXT] [--keep]
scenarios: ${Object.keys(SCENARIOS).join(', ')}; the first alone when none is named; all
--only takes the cases of a scenario (kafka) whose name has the text; --set gives the server a setting, --node-arg its Node an argument (--node-arg=--cpu-prof), --keep leaves its temporary folder.
`

const { values, positionals } = parseArgs({
  allowPositionals: true, strict: true,
  options: {
    only: { type: 'string', default: '' },
    samples: { type: 'string', default: '5' }, set: { type: 'string', multiple: true, default: [] },
    'node-arg': { type: 'string', multiple: true, default: [] }, keep: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})
const names = positionals.length === 0 ? ['http-day-blocks'] : positionals.includes('all') ? Object.keys(SCENARIOS) : positionals
const samples = Number(values.samples)
const unknown = names.filter((n) => !(n in SCENARIOS))
if (values.help || unknown.length > 0 || !Number.isInteger(samples) || samples < 1) {
  process.stdout.write(unknown.length > 0 ? `there is no scenario ${unknown.join(', ')}\n${USAGE}` : USAGE)
  process.exit(values.help ? 0 : 1)
}
const env = Object.fromEntries(values.set.map((s) => [s.slice(0, s.indexOf('=')), s.slice(s.indexOf('=') + 1)]))
const command = `node dist/bench/run.js ${process.argv.slice(2).join(' ')}`.trim()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    void Instance.stopAll().finally(() => process.exit(1))
  })
}
for (const name of names) {
  const machine = describeMachine(command)
  report(name, machine, await SCENARIOS[name]({ samples, env, nodeArgs: values['node-arg'], keep: values.keep, only: values.only }))
}
