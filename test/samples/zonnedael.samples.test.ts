import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEmbedded } from '../../engine/store/embedded.js'
import { CommandLine, getJson } from '../command-line.js'
import type { IntervalUsage, LoadReceipt, PeriodUsage } from './shapes.js'

const FILE = fileURLToPath(new URL('../../../shared/samples/csv/zonnedael_nl_2013H1_15min_56homes_wh.csv', import.meta.url))
const SLOT_S = 900
const silent = { info: () => undefined, warn: () => undefined, error: () => undefined }

interface Home {
  name: string
  /** Wh per quarter hour, from the first of January on. */
  wh: number[]
}

/** The file read in the plainest way there is; its rows are the quarter hours of the half year, none left out. */
function readHomes(): Home[] {
  const [head, ...rows] = readFileSync(FILE, 'utf8').trim().split('\n').map((line) => line.trim().split(','))
  rows.forEach(([label], i) => {
    const at = new Date(Date.UTC(2013, 0, 1) + i * SLOT_S * 1000)
    const [, day, month, year, hour, minute] = /^(\d+)-(\d+)-(\d+) (\d+):(\d+)$/.exec(label)!.map(Number)
    expect([day, month, year, hour, minute]).toEqual([at.getUTCDate(), at.getUTCMonth() + 1, 2013, at.getUTCHours(), at.getUTCMinutes()])
  })
  return head.slice(1).map((name, column) => ({ name, wh: rows.map((row) => Number(row[column + 1])) }))
}

/** Sums of consecutive slots, in kWh: whole watt-hours are summed, and divided once. */
function sums(wh: readonly number[], lengths: readonly number[]): number[] {
  let from = 0
  return lengths.map((length) => {
    const part = wh.slice(from, from += length)
    return part.reduce((a, b) => a + b, 0) / 1000
  })
}

const repeat = (count: number, length: number): number[] => new Array<number>(count).fill(length)

/** A program whose one utility lives in that zone, with the 56 homes registered. */
async function programIn(zone: string, homes: readonly Home[]): Promise<CommandLine> {
  const program = new CommandLine({ UTILITY_ZONE: zone })
  const meters = homes.map(({ name }) => JSON.stringify({ meter: name, account: `account of ${name}`, from: '2013-01-01' }))
  const accounts = homes.map(({ name }) => JSON.stringify({ account: `account of ${name}` }))
  writeFileSync(`${program.dir}/meters.ndjson`, meters.join('\n'))
  writeFileSync(`${program.dir}/accounts.ndjson`, accounts.join('\n'))
  const done = await program.run(['register', `${program.dir}/meters.ndjson`, `${program.dir}/accounts.ndjson`])
  expect(done, done.stderr).toMatchObject({ code: 0 })
  return program
}

const homes = readHomes()
const reads = homes.reduce((n, home) => n + home.wh.length, 0)

describe('the Zonnedael file in a zone without daylight saving', () => {
  let program: CommandLine
  const load = async (): Promise<LoadReceipt> => {
    const done = await program.run(['load', FILE, '--mapping', 'zonnedael', '--zone', 'Etc/GMT-1', '--json'])
    expect(done, done.stderr).toMatchObject({ code: 0 })
    return JSON.parse(done.stdout) as LoadReceipt
  }

  beforeAll(async () => {
    program = await programIn('Etc/GMT-1', homes)
  })
  afterAll(() => program.close())

  it('is stored read by read, and to the watt-hour', async () => {
    expect(reads).toBe(973_056)
    expect(await load()).toMatchObject({
      received: 973_056, stored: 973_056, duplicate: 0, corrected: 0, outranked: 0, quarantined: 0, rejected: 0, complete: true,
      from: '2013-01-01T00:00:00+01:00', to: '2013-07-01T00:00:00+01:00',
    })
    const server = await startEmbedded(program.dir, silent)
    const pool = new pg.Pool({ connectionString: server.url, max: 1 })
    const { rows } = await pool.query<{ kwh: string; reads: string }>(
      `select sum(total * power(10::numeric, exponent))::numeric(20, 3) as kwh, sum(present) as reads from channel_day`)
    await pool.end()
    await server.stop()
    expect(rows).toEqual([{ kwh: '99321.634', reads: '973056' }])
  })

  it('loaded again is duplicates and nothing else', async () => {
    expect(await load()).toMatchObject({ received: 973_056, stored: 0, duplicate: 973_056, corrected: 0, quarantined: 0, rejected: 0 })
  })

  it('is served as the file has it', async () => {
    const url = await program.serve()
    const key = program.operatorKey()
    const usage = <T>(home: Home, query: string): Promise<T> =>
      getJson<T>(url, key, `/v1/accounts/${encodeURIComponent(`account of ${home.name}`)}/usage?${query}`)
    let total = 0
    for (const home of homes) {
      const months = await usage<PeriodUsage>(home, 'from=2013-01-01&to=2013-07-01&resolution=month')
      expect(months.series[0].periods.map((p) => p.value)).toEqual(sums(home.wh, [31, 28, 31, 30, 31, 30].map((days) => days * 96)))
      expect(months).toMatchObject({ expected: 17_376, present: 17_376, missing: 0 })
      total += Math.round(months.total.delivered * 1000)
    }
    expect(total).toBe(99_321_634)
    for (const home of [homes[0], homes[27], homes[55]]) {
      const days = await usage<PeriodUsage>(home, 'from=2013-01-01&to=2013-07-01&resolution=day')
      expect(days.series[0].periods.map((p) => p.value)).toEqual(sums(home.wh, repeat(181, 96)))
      const hours = await usage<IntervalUsage>(home, 'from=2013-01-01&to=2013-07-01&resolution=hour')
      expect(hours.series[0].values).toEqual(sums(home.wh, repeat(181 * 24, 4)))
      const [first, second] = await Promise.all(['from=2013-01-01&to=2013-04-01', 'from=2013-04-01&to=2013-07-01'].map((range) =>
        usage<IntervalUsage>(home, `${range}&resolution=interval`)))
      expect([...first.series[0].values, ...second.series[0].values]).toEqual(home.wh.map((wh) => wh / 1000))
    }
  })
})

describe('the Zonnedael file in Europe/Amsterdam', () => {
  let program: CommandLine
  beforeAll(async () => {
    program = await programIn('Europe/Amsterdam', homes)
  })
  afterAll(() => program.close())

  it('has exactly the reads of the hour that does not exist quarantined', async () => {
    const done = await program.run(['load', FILE, '--mapping', 'zonnedael', '--json'])
    expect(done.code, done.stderr).toBe(2)
    const receipt = JSON.parse(done.stdout) as LoadReceipt
    expect(receipt).toMatchObject({ received: 973_056, stored: 972_832, quarantined: 224, duplicate: 0, rejected: 0, problemCount: 224 })
    expect(new Set(receipt.problems.map((p) => p.code))).toEqual(new Set(['local-time-does-not-exist']))
  })
})
