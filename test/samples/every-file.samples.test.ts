import { readFileSync, readdirSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { quantityName } from '../../engine/quantity.js'
import { Flow } from '../../engine/read-batch.js'
import { CommandLine, type Outcome } from '../command-line.js'
import { testDatabase, type TestDatabase } from '../database.js'
import { samplesFolder } from './nem.js'
import { RESULTS, sampleTable, total, type SampleFile } from './table.js'

const table = sampleTable()
const flowNames = new Map(Object.entries(Flow).map(([name, code]) => [code as number, name]))

interface Answer {
  code?: string
  at?: string
  detail?: string
  received: number
  stored: number
  duplicate: number
  corrected: number
  outranked: number
  quarantined: number
  rejected: number
  problems: { at: string; code: string; message: string }[]
}

it('is a table of every file there is', () => {
  const there = readdirSync(samplesFolder, { recursive: true, encoding: 'utf8' }).filter((name) => statSync(new URL(name, samplesFolder)).isFile())
    .filter((name) => name !== 'README.md' && !/^totals\.\w+\.json$/.test(name))
  expect([...table.map(({ file }) => file), ...RESULTS].sort()).toEqual(there.sort())
})


interface Loaded { outcome: Outcome; printed: Map<string, Answer>; stored: Stored }
interface Stored { sums: Map<string, string>; events: number; registers: number }

describe('every file has its totals', () => {
  let db: TestDatabase
  let program: CommandLine
  let url: string

  const send = async (method: string, path: string, body: Uint8Array<ArrayBuffer> | string, headers: Record<string, string>): Promise<{ status: number; body: Answer }> => {
    const answer = await fetch(`${url}${path}`, { method, body, headers: { authorization: `Bearer ${program.operatorKey()}`, ...headers } })
    return { status: answer.status, body: await answer.json() as Answer }
  }

  beforeAll(async () => {
    db = await testDatabase()
    program = new CommandLine({ DATABASE_URL: db.url, UTILITY_ZONE: 'America/New_York', WORKERS: '1' })
    url = await program.serve()
    for (const settings of new Set(table.map(settingsOf))) {
      const made = await send('PUT', `/v1/sources/${sourceOf(settings)}`, settings, { 'content-type': 'application/json' })
      expect(made.status).toBe(201)
    }
  })
  afterAll(async () => {
    await program.close()
    await db.close()
  })

  /** What is stored, as the table has it, and how many events. @returns and forgets it */
  async function takeStored(): Promise<Stored> {
    const { rows } = await db.pool.query<{ kind: string; quantity: number; flow: number; meter: string; tou: string; sum: string }>(`
      select 'interval' as kind, quantity, flow, m.id as meter, '' as tou, trim_scale(sum(total * 10::numeric ^ exponent))::text as sum
        from channel_day join channel using (channel_id) join meter m using (meter_id) group by quantity, flow, m.id
      union all select 'period', quantity, flow, m.id, tou, trim_scale(sum(value))::text
        from period_read join meter m using (meter_id) group by quantity, flow, m.id, tou
      union all select 'register', quantity, flow, m.id, tou, trim_scale(sum(value))::text
        from register_read join meter m using (meter_id) group by quantity, flow, m.id, tou`)
    const { rows: [counts] } = await db.pool.query<{ events: number; registers: number }>(
      'select (select count(*)::int from meter_event) as events, (select count(*)::int from register_read) as registers')
    await db.pool.query('truncate channel_day, period_read, register_read, meter_event')
    return { ...counts, sums: new Map(rows.map((row) => [
      `${row.kind} ${quantityName(row.quantity)} ${flowNames.get(row.flow)} ${row.meter}${row.tou === '' ? '' : ` ${row.tou}`}`, row.sum])) }
  }

  /** Receipts by HTTP, which those of the command must equal. */
  const receipts = new Map<SampleFile, Answer>()

  it.each(table)('$file by HTTP', async (row) => {
    const query = new URLSearchParams({ ...row.options, name: nameOf(row.file) })
    const { status, body } = await send('POST', `/v1/reads?${query.toString()}`, new Uint8Array(readFileSync(new URL(row.file, samplesFolder))),
      { 'content-type': 'application/octet-stream', 'x-source': sourceOf(settingsOf(row)) })
    const stored = await takeStored()
    expect(sumsOf(row, stored.sums)).toEqual(row.stored)
    expect(stored.events).toBe(row.events ?? 0)
    if (row.refused !== undefined) {
      const { says, ...answer } = row.refused
      expect({ status, code: body.code, at: body.at, detail: body.detail }).toEqual({ at: undefined, ...answer, detail: says })
      return
    }
    expect(status, JSON.stringify(body)).toBe(200)
    receipts.set(row, body)
    const isCounted = [...row.stored.keys()].some((key) => key.startsWith('register'))
    const { duplicate = 0, corrected = 0, problems = [] } = row
    expect(body.problems.map(({ at, code }) => ({ at, code }))).toEqual(problems)
    expect(countsOf(body)).toMatchObject({ received: row.received + (isCounted ? 0 : stored.registers), duplicate, corrected, rejected: 0, outranked: 0 })
    expect(body.stored + duplicate + corrected + body.quarantined).toBe(body.received)
    if (problems.length === 0) expect(body.quarantined).toBe(0)
  })

  describe('by command', () => {
    const done = new Map<SampleFile[], Promise<Loaded>>()
    const runs = inOneRun(table)

    /** `meterline load` of all the files that can go together. */
    async function run(rows: SampleFile[]): Promise<Loaded> {
      const options = Object.entries(rows[0].options ?? {}).flatMap(([name, value]) => [`--${name}`, value])
      const outcome = await program.run(['load', ...rows.map(({ file }) => pathOf(file)), '--json', '--source', sourceOf(settingsOf(rows[0])), ...options])
      const printed = outcome.stdout.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as Answer & { file: string })
      return { outcome, printed: new Map(printed.map((receipt) => [receipt.file, receipt])), stored: await takeStored() }
    }

    it.each(table)('$file', async (row) => {
      const own = runs.find((rows) => rows.includes(row)) ?? []
      if (!done.has(own)) done.set(own, run(own))
      const { outcome, printed, stored } = await done.get(own)!
      const receipt = printed.get(pathOf(row.file))
      if (row.refused === undefined) {
        expect(receipt, outcome.stderr).toBeDefined()
        expect(countsOf(receipt!)).toEqual(countsOf(receipts.get(row)!))
        expect(receipt!.problems).toEqual(receipts.get(row)!.problems)
      } else {
        const { at, says } = row.refused
        expect(receipt).toBeUndefined()
        expect(outcome.code).toBe(1)
        expect(outcome.stderr).toContain(`${pathOf(row.file)}: ${says}${at === undefined ? '' : ` (${at})`}`)
      }
      expect(sumsOf(row, stored.sums)).toEqual(row.stored)
      expect(stored.events).toBe(own.reduce((n, { events = 0 }) => n + events, 0))
    })

    it('stored nothing but what the files hold', async () => {
      expect(done.size).toBe(runs.length)
      for (const [rows, result] of done) {
        const all = rows.flatMap(({ stored }) => [...stored.keys()])
        const isKnown = (key: string): boolean => all.includes(key) || all.some((own) => own.endsWith('*') && key.startsWith(own.slice(0, -1)))
        // The registers that NEM12 and NEM13 state beside their reads have no total.
        const others = [...(await result).stored.sums.keys()].filter((key) => !isKnown(key) && !/^register \S*energy \S+ (?:NEM|VABC)/.test(key))
        expect(others).toEqual([])
      }
    })
  })
})

function countsOf({ received, stored, duplicate, corrected, outranked, quarantined, rejected }: Answer): object {
  return { received, stored, duplicate, corrected, outranked, quarantined, rejected }
}

/** Of all that is stored, what is this file's; a key that ends in `*` is the sum over meters. */
function sumsOf({ stored }: SampleFile, sums: ReadonlyMap<string, string>): Map<string, string> {
  return new Map([...stored.keys()].flatMap((key): [string, string][] => {
    if (!key.endsWith('*')) return sums.has(key) ? [[key, sums.get(key) ?? '']] : []
    return [[key, total(new Map([...sums].filter(([own]) => own.startsWith(key.slice(0, -1)))))]]
  }))
}

/** Files that can be loaded by one command: they have the same settings, and no meter of one is another's. */
function inOneRun(rows: readonly SampleFile[]): SampleFile[][] {
  const runs: SampleFile[][] = []
  const key = (row: SampleFile): string => `${settingsOf(row)} ${JSON.stringify(row.options ?? {})}`
  const clash = (a: SampleFile, b: SampleFile): boolean =>
    [...a.stored.keys()].some((k) => k.endsWith('*') || b.stored.has(k)) || [...b.stored.keys()].some((k) => k.endsWith('*'))
  for (const row of rows) {
    const run = runs.find((others) => key(others[0]) === key(row) && !others.some((other) => clash(row, other)))
    if (run === undefined) runs.push([row])
    else run.push(row)
  }
  return runs
}

const settingsOf = ({ source }: SampleFile): string => JSON.stringify({ unknownMeters: 'register', ...source })
const sourceOf = (settings: string): string => `samples-${[...new Set(table.map(settingsOf))].indexOf(settings)}`
const nameOf = (file: string): string => file.slice(file.lastIndexOf('/') + 1)
const pathOf = (file: string): string => fileURLToPath(new URL(file, samplesFolder))
