import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testDatabase, type TestDatabase } from '../database.js'
import { cleanUp, engineFolder, startEngine, until, type EngineProcess } from './engine-process.js'

let db: TestDatabase
let dir: string
let drop: string
const engines: EngineProcess[] = []
const METERS = 40
/** Dropped for two engines: more than one takes at a time. */
const FILES = 16

async function start(env: Record<string, string> = {}): Promise<EngineProcess> {
  const engine = await startEngine(dir, {
    DATABASE_URL: db.url, WATCH_DIR: drop, WATCH_STABLE_SECONDS: '1', WATCH_POLL_SECONDS: '1', ATOMIC_MB: '1', ...env })
  engines.push(engine)
  return engine
}

beforeAll(async () => {
  db = await testDatabase()
  dir = engineFolder()
  drop = mkdtempSync(join(dir, 'drop-'))
  const first = await start()
  await db.pool.query(
    `insert into meter (utility_id, id, epoch) select utility_id, 'M' || n, 1 from utility, generate_series(1, ${METERS}) n where id = 'default'`)
  await db.pool.query("update utility set registry_epoch = registry_epoch + 1")
  first.kill('SIGTERM')
  expect(await first.exited).toMatchObject({ code: 0 })
})
afterAll(async () => {
  await cleanUp(dir, engines)
  await db.close()
})

const incoming = (...parts: string[]): string => {
  const folder = join(drop, 'incoming', ...parts.slice(0, -1))
  mkdirSync(folder, { recursive: true })
  return join(folder, parts[parts.length - 1])
}
const json = (...parts: string[]): Record<string, unknown> => JSON.parse(readFileSync(join(drop, ...parts), 'utf8')) as Record<string, unknown>
const here = (...parts: string[]): boolean => existsSync(join(drop, ...parts))
const working = (): string[] => existsSync(join(drop, 'working'))
  ? readdirSync(join(drop, 'working'), { recursive: true, withFileTypes: true }).filter((e) => !e.isDirectory()).map((e) => e.name)
  : []

/** Quarter hours of a meter from a day on, `values` of them. */
function csv(meter: string, day: string, values: readonly number[]): string {
  const firstMs = Date.parse(`${day}T00:00:00Z`)
  return ['meter,start,value,intervalSeconds', ...values.map((v, i) => `${meter},${new Date(firstMs + i * 900_000).toISOString()},${v},900`)].join('\n') + '\n'
}

async function energyOf(meter: string): Promise<{ kwh: string; reads: number }> {
  const { rows } = await db.pool.query<{ kwh: string; reads: number }>(
    `select coalesce(sum(total * 10::numeric ^ exponent), 0)::float8::text as kwh, coalesce(sum(present), 0)::int as reads
       from channel_day join channel using (channel_id) join meter using (meter_id) where id = $1`, [meter])
  return rows[0]
}

describe('a running engine', () => {
  let engine: EngineProcess
  beforeAll(async () => {
    engine = await start()
  })

  it('settles a file and puts its receipt beside it', async () => {
    writeFileSync(incoming('default', 'ami', 'a.csv'), csv('M1', '2026-10-01', [0.5, 0.25]))
    await until('the file is done', () => here('done', 'default', 'ami', 'a.csv'))
    expect(json('done', 'default', 'ami', 'a.csv.receipt.json')).toMatchObject({ source: 'ami', received: 2, stored: 2, complete: true })
    expect(await energyOf('M1')).toEqual({ kwh: '0.75', reads: 2 })
    expect(here('incoming', 'default', 'ami', 'a.csv')).toBe(false)
  })

  it('keeps both of two files of one name', async () => {
    writeFileSync(incoming('default', 'ami', 'a.csv'), csv('M1', '2026-10-02', [1]))
    await until('the second is done', () => here('done', 'default', 'ami', 'a~2.csv'))
    expect(json('done', 'default', 'ami', 'a~2.csv.receipt.json')).toMatchObject({ stored: 1 })
    expect(readFileSync(join(drop, 'done', 'default', 'ami', 'a.csv'), 'utf8')).toContain('2026-10-01')
  })

  it('gives an old file that is dropped again its old version: it undoes no correction', async () => {
    writeFileSync(incoming('default', 'ami', 'old.csv'), csv('M2', '2026-10-01', [5]))
    await until('the first is done', () => here('done', 'default', 'ami', 'old.csv'))
    writeFileSync(incoming('default', 'ami', 'new.csv'), csv('M2', '2026-10-01', [6]))
    await until('the correction is done', () => here('done', 'default', 'ami', 'new.csv'))
    writeFileSync(incoming('default', 'ami', 'old.csv'), csv('M2', '2026-10-01', [5]))
    await until('the old one is done again', () => here('done', 'default', 'ami', 'old~2.csv'))
    expect(json('done', 'default', 'ami', 'old~2.csv.receipt.json')).toMatchObject({ received: 1, outranked: 1 })
    expect(await energyOf('M2')).toEqual({ kwh: '6', reads: 1 })
  })

  it('waits until a file has stopped growing, and until a partial one is renamed', async () => {
    const growing = incoming('default', 'grow.csv')
    const rows = csv('M3', '2026-10-01', Array.from({ length: 20 }, () => 0.1)).trimEnd().split('\n')
    writeFileSync(incoming('default', 'late.csv.part'), csv('M4', '2026-10-01', [1]))
    writeFileSync(growing, `${rows[0]}\n`)
    for (const row of rows.slice(1)) {
      appendFileSync(growing, `${row}\n`)
      await delay(100)
    }
    await until('the file is done', () => here('done', 'default', 'grow.csv'))
    expect(json('done', 'default', 'grow.csv.receipt.json')).toMatchObject({ source: 'files', received: 20, stored: 20, quarantined: 0 })
    expect(here('incoming', 'default', 'late.csv.part')).toBe(true)
    renameSync(incoming('default', 'late.csv.part'), incoming('default', 'late.csv'))
    await until('the renamed file is done', () => here('done', 'default', 'late.csv'))
  })

  it('takes gzip and the line formats', async () => {
    writeFileSync(incoming('default', 'ami', 'b.csv.gz'), gzipSync(csv('M5', '2026-10-01', [2, 3])))
    writeFileSync(incoming('default', 'ami', 'reads.dat'),
      'MEPMD01,19990504,X,C,,M6,202610020000,M6,OK,E,KWH,1,00000015,1,202610010515,R0,0.5\r\nMEPMD01,19990504,X,C,,M6,202610020000,M6,OK,E,KWHREG,1,00000015,1,202610010515,R0,77\r\n')
    await until('both are done', () => here('done', 'default', 'ami', 'b.csv.gz') && here('done', 'default', 'ami', 'reads.dat'))
    expect(await energyOf('M5')).toEqual({ kwh: '5', reads: 2 })
    expect(json('done', 'default', 'ami', 'reads.dat.receipt.json')).toMatchObject({ received: 2, stored: 2 })
  })

  it('puts what it cannot take into failed/ with the reason', async () => {
    writeFileSync(incoming('default', 'ami', 'bad.csv'), 'a,b\n1,2\n')
    writeFileSync(incoming('default', 'ami', 'empty.csv'), '')
    writeFileSync(incoming('default', 'ami', 'cut.csv.gz'), gzipSync(csv('M7', '2026-10-01', [2])).subarray(0, 40))
    writeFileSync(incoming('nobody', 'x.csv'), csv('M7', '2026-10-01', [1]))
    writeFileSync(incoming('loose.csv'), csv('M7', '2026-10-01', [1]))
    writeFileSync(incoming('default', 'a', 'b', 'deep.csv'), csv('M7', '2026-10-01', [1]))
    writeFileSync(join(dir, 'secret.csv'), csv('M7', '2026-10-01', [1]))
    symlinkSync(join(dir, 'secret.csv'), incoming('default', 'link.csv'))
    const expected = {
      'default/ami/bad.csv': 'unknown-column', 'default/ami/empty.csv': 'empty-body', 'default/ami/cut.csv.gz': 'malformed-gzip',
      'nobody/x.csv': 'unknown-utility', 'loose.csv': 'file-misplaced', 'default/a/b/deep.csv': 'file-misplaced', 'default/link.csv': 'file-not-regular',
    }
    for (const [name, code] of Object.entries(expected)) {
      await until(`${name} has failed`, () => here('failed', `${name}.reason.json`))
      expect([name, json('failed', `${name}.reason.json`).code]).toEqual([name, code])
    }
    expect(readFileSync(join(dir, 'secret.csv'), 'utf8')).toContain('M7')
    expect((await energyOf('M7')).reads).toBe(0)
  })

  it('tells how many files it took', async () => {
    const metrics = await (await fetch(`${engine.url}/metrics`)).text()
    expect(metrics).toMatch(/meterline_files_total\{outcome="failed"\} 7/)
    expect(Number(/meterline_files_total\{outcome="done"\} (\d+)/.exec(metrics)?.[1])).toBeGreaterThanOrEqual(8)
    expect(metrics).toContain('meterline_files_waiting')
  })

  it('ends by SIGTERM with nothing in its hands', async () => {
    engine.kill('SIGTERM')
    expect(await engine.exited).toMatchObject({ code: 0 })
    expect(working()).toEqual([])
  })
})

describe('a crash', () => {
  it('in the middle of a file loses nothing and doubles nothing', async () => {
    const engine = await start()
    // Three parts of a megabyte and more.
    const values = Array.from({ length: 2000 }, (_, i) => (i % 7) / 1000)
    for (let m = 10; m < 40; m++) appendFileSync(join(dir, 'large.csv'), csv(`M${m}`, '2026-08-01', values).slice(m === 10 ? 0 : 'meter,start,value,intervalSeconds\n'.length))
    renameSync(join(dir, 'large.csv'), incoming('default', 'ami', 'large.csv'))
    await until('a part of it is settled', async () => (await energyOf('M10')).reads > 0)
    engine.kill('SIGKILL')
    await engine.exited
    expect([...working(), ...readdirSync(join(drop, 'done', 'default', 'ami'))].filter((n) => n === 'large.csv')).toHaveLength(1)
    await start()
    await until('the file is done', () => here('done', 'default', 'ami', 'large.csv.receipt.json') && here('done', 'default', 'ami', 'large.csv'))
    const receipt = json('done', 'default', 'ami', 'large.csv.receipt.json') as { received: number; stored: number; duplicate: number; complete: boolean }
    expect(receipt).toMatchObject({ received: 60_000, complete: true })
    expect(receipt.stored + receipt.duplicate).toBe(60_000)
    const sum = values.reduce((a, v) => a + Math.round(v * 1000), 0) / 1000
    for (const m of [10, 25, 39]) expect(await energyOf(`M${m}`)).toEqual({ kwh: String(sum), reads: 2000 })
    await until('nothing is left in the working folder', () => working().length === 0)
  })

  it('of one of two engines on a folder leaves its files to the other', async () => {
    const [survivor] = [engines[engines.length - 1]]
    const victim = await start()
    for (let n = 0; n < FILES; n++) writeFileSync(incoming('default', 'two', `f${n}.csv`), csv(`M${1 + n}`, '2026-07-01', [1, 2, 3]))
    await until('some are done', () => here('done', 'default', 'two') && readdirSync(join(drop, 'done', 'default', 'two')).length > 0)
    victim.kill('SIGKILL')
    await until('all are done', () => Array.from({ length: FILES }, (_, n) => n).every((n) => here('done', 'default', 'two', `f${n}.csv`)))
    for (let n = 0; n < FILES; n++) expect(json('done', 'default', 'two', `f${n}.csv.receipt.json`)).toMatchObject({ received: 3 })
    expect(here('done', 'default', 'two', 'f0~2.csv')).toBe(false)
    survivor.kill('SIGTERM')
    expect(await survivor.exited).toMatchObject({ code: 0 })
  })
})
