#!/usr/bin/env node
import { parseArgs } from 'node:util'
import { messageOf } from './cli/message.js'
import type { ServeRole } from './cli/serve.js'
import type { Settings } from './engine/config.js'

const USAGE = `meterline serve [--roles ingest,api,notify,console]
meterline migrate [--to-timescale]   the second moves an installation on plain partitions to hypertables
meterline register PATH…            rates…, accounts… and meters… files: CSV, JSON or NDJSON; rates in JSON
meterline load PATH… [--utility U] [--source S] [--format F] [--mapping M] [--zone Z] [--meter M] [--history] [--json]
meterline withdraw DELIVERY
meterline replay [--reason R] [--source S]
meterline simulate --meters N --days D [--push day|4h|interval] [--to http|kafka|file] [--dir DIR] [--seed S] [--start YYYY-MM-DD]
                   [--format json|ndjson|csv|arrow] [--source S] [--utility U] [--faults gaps,duplicates,late,corrections,dst]
                   further faults alter reads as validation finds them: spike, stuck, zero-run, shift-hour, scale-1000, scale-quarter,
                   catch-up-lump, stale-snapshot, placeholder-zeros, sentinel
meterline key create --role ROLE [--name NAME] [--utility U] [--sources a,b] · key list · key revoke ID
meterline messages list [--state S] [--utility U] · messages replay [ID]   the dead letters where no state is named
meterline vee --shadow RULESET [--days N]   what another rule set (JSON, as PUT /v1/vee/rules) would change; changes nothing
meterline status
Every command takes --url and --key of a running server (or METERLINE_URL, METERLINE_KEY) where it can work on one.
`

const text = { type: 'string' } as const
const flag = { type: 'boolean' } as const

async function main(argv: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv, allowPositionals: true, strict: true,
    options: {
      roles: text, utility: text, source: text, sources: text, format: text, mapping: text, zone: text, meter: text, history: flag, json: flag,
      reason: text, meters: text, days: text, push: text, to: text, dir: text, seed: text, start: text, faults: text, role: text,
      name: text, state: text, url: text, key: text, shadow: text, exit: flag, 'to-timescale': flag, help: { ...flag, short: 'h' },
    },
  })
  const [command, ...rest] = positionals
  if (values.help === true || command === undefined) {
    process.stdout.write(USAGE)
    return command === undefined && values.help !== true ? 1 : 0
  }
  if (!isCommand(command)) {
    process.stderr.write(`there is no command ${command}\n${USAGE}`)
    return 1
  }
  checkOptions(command, Object.keys(values))
  const settings = await settingsOf({
    ...(values.url === undefined ? {} : { meterlineUrl: values.url }), ...(values.key === undefined ? {} : { meterlineKey: values.key }) })
  const utility = values.utility ?? null
  if (utility !== null && settings.meterlineUrl !== null && command !== 'simulate') {
    throw new Error('--utility is for work on the database: on a running server the key names its utility')
  }
  // Each command brings in its own modules only: all of them together take a second of CPU to load.
  switch (command) {
    case 'serve': {
      const { ROLES, serve } = await import('./cli/serve.js')
      await serve(settings, rolesOf(values.roles, ROLES))
      return 0
    }
    case 'demo': {
      const { demo } = await import('./cli/demo.js')
      await demo(values.exit === true)
      return 0
    }
    case 'migrate': {
      const { migrateCommand } = await import('./cli/commands.js')
      return migrateCommand(settings, values['to-timescale'] === true)
    }
    case 'register': {
      const { registerCommand } = await import('./cli/register.js')
      return registerCommand(settings, needed(rest, 'register needs files'), utility)
    }
    case 'load': {
      const { load } = await import('./cli/load.js')
      return load(settings, needed(rest, 'load needs files, folders or -'), {
        utility, source: values.source ?? null, format: values.format ?? null, mapping: values.mapping ?? null, zone: values.zone ?? null, meter: values.meter ?? null,
        history: values.history === true, json: values.json === true })
    }
    case 'withdraw': {
      const { withdrawCommand } = await import('./cli/commands.js')
      return withdrawCommand(settings, needed(rest, 'withdraw needs the id of a delivery')[0], utility)
    }
    case 'replay': {
      const { replayCommand } = await import('./cli/commands.js')
      return replayCommand(settings, { reason: values.reason ?? null, source: values.source ?? null }, utility)
    }
    case 'simulate': {
      const { simulateCommand } = await import('./cli/simulate.js')
      const { parseFaults } = await import('./fixtures/simulator.js')
      return simulateCommand(settings, {
        meters: whole(values.meters, 'meters'), days: whole(values.days, 'days'), to: oneOf(values.to ?? 'http', ['http', 'kafka', 'file'], 'to'),
        ...(values.push === undefined ? {} : { push: oneOf(values.push, ['day', '4h', 'interval'], 'push') }), ...(values.seed === undefined ? {} : { seed: values.seed }),
        ...(values.start === undefined ? {} : { startDay: values.start }), ...(values.dir === undefined ? {} : { dir: values.dir }),
        ...(values.format === undefined ? {} : { format: oneOf(values.format, ['json', 'ndjson', 'csv', 'arrow'], 'format') }),
        ...(values.source === undefined ? {} : { source: values.source }),
        ...(values.faults === undefined ? {} : { faults: parseFaults(values.faults) }) }, utility)
    }
    case 'key': {
      const { keyCommand } = await import('./cli/keys.js')
      return keyCommand(settings, rest, {
        role: values.role ?? null, utility, sources: values.sources ?? null, name: values.name ?? null })
    }
    case 'messages': {
      const { messagesCommand } = await import('./cli/messages.js')
      return messagesCommand(settings, rest, { state: values.state ?? null, utility })
    }
    case 'vee': {
      const { veeCommand } = await import('./cli/vee.js')
      return veeCommand(settings, { shadow: values.shadow ?? null, days: whole(values.days ?? '30', 'days') }, utility)
    }
    case 'status': {
      const { statusCommand } = await import('./cli/commands.js')
      return statusCommand(settings)
    }
  }
}

const SERVER = ['url', 'key']
/** The options of each command: another command's option is a mistake, not something to pass over. */
const OPTIONS = {
  serve: ['roles'], demo: ['exit'], migrate: ['to-timescale'], status: SERVER,
  register: ['utility', ...SERVER],
  load: ['utility', 'source', 'format', 'mapping', 'zone', 'meter', 'history', 'json', ...SERVER],
  withdraw: ['utility', ...SERVER],
  vee: ['utility', 'shadow', 'days'],
  replay: ['utility', 'reason', 'source', ...SERVER],
  simulate: ['meters', 'days', 'push', 'to', 'dir', 'seed', 'start', 'faults', 'format', 'source', 'utility', ...SERVER],
  key: ['role', 'name', 'utility', 'sources', ...SERVER],
  messages: ['state', 'utility', ...SERVER],
} satisfies Record<string, readonly string[]>

type Command = keyof typeof OPTIONS

function isCommand(word: string): word is Command {
  return Object.hasOwn(OPTIONS, word)
}

function checkOptions(command: Command, given: readonly string[]): void {
  const known: readonly string[] = OPTIONS[command]
  const wrong = given.find((name) => !known.includes(name))
  if (wrong !== undefined) throw new Error(`meterline ${command} has no option --${wrong}`)
}

/** @throws Error that names every setting that is wrong */
async function settingsOf(overrides: Partial<Settings>): Promise<Settings> {
  const { loadSettings, SettingsError } = await import('./engine/config.js')
  try {
    return loadSettings(undefined, overrides)
  } catch (err) {
    throw err instanceof SettingsError ? new Error(`The settings are wrong:\n${err.message}`, { cause: err }) : err
  }
}

function rolesOf(given: string | undefined, known: readonly ServeRole[]): Set<ServeRole> {
  const words = given === undefined ? known : given.split(',').map((w) => w.trim())
  return new Set(words.map((word) => {
    const found = known.find((role) => role === word)
    if (found === undefined) throw new Error(`--roles knows ${known.join(', ')}, not "${word}"`)
    return found
  }))
}

function needed(words: string[], message: string): string[] {
  if (words.length === 0) throw new Error(message)
  return words
}

function oneOf<const T extends string>(value: string, words: readonly T[], name: string): T {
  const found = words.find((word) => word === value)
  if (found === undefined) throw new Error(`--${name} knows ${words.join(', ')}, not "${value}"`)
  return found
}

function whole(value: string | undefined, name: string): number {
  if (value === undefined || !/^[1-9]\d{0,8}$/.test(value)) throw new Error(`--${name} needs a whole number`)
  return Number(value)
}

// A reader that went away (`… | head`) is no fault: what was begun is finished.
process.stdout.on('error', (err: NodeJS.ErrnoException) => {
  if (err.code !== 'EPIPE') throw err
})

try {
  const code = await main(process.argv.slice(2))
  if (code !== 0) process.exitCode = code
} catch (err) {
  process.stderr.write(`${messageOf(err)}\n`)
  process.exitCode = 1
}
