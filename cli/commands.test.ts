import { mkdirSync, writeFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CommandLine, getJson, type Outcome } from '../test/command-line.js'
import { testDatabase, type TestDatabase } from '../test/database.js'

let db: TestDatabase
let program: CommandLine
let url: string

beforeAll(async () => {
  db = await testDatabase()
  // One worker thread: a command here has one small file, and each thread loads every decoder.
  program = new CommandLine({ DATABASE_URL: db.url, UTILITY_ZONE: 'America/Chicago', WORKERS: '1' })
  url = await program.serve()
})
afterAll(async () => {
  await program.close()
  await db.close()
})

const run = (...args: string[]): Promise<Outcome> => program.run(args)
const onServer = (...args: string[]): Promise<Outcome> => program.run([...args, '--url', url, '--key', program.operatorKey()])

function file(name: string, content: string | Buffer): string {
  const path = `${program.dir}/${name}`
  writeFileSync(path, content)
  return path
}

const csv = (meter: string, day: number, value: string): string =>
  `meter,start,intervalSeconds,value\n${meter},2026-10-${String(day).padStart(2, '0')}T00:00:00-05:00,900,${value}\n`
const json = (outcome: Outcome): Record<string, unknown> => JSON.parse(outcome.stdout) as Record<string, unknown>

describe('a mistake on the command line', () => {
  it.each([
    [['frobnicate'], /there is no command frobnicate/],
    [['load', 'nowhere.csv'], /^nowhere\.csv: there is no such file or folder/],
    [['load', 'x.csv', '--days', '3'], /meterline load has no option --days/],
    [['load', '-', '--mapping', 'nowhere.json'], /there is no such mapping file/],
    [['load', '-', '--utility', 'nobody'], /there is no utility nobody/],
    [['load', '-', '--url', 'http://127.0.0.1:1'], /needs --key/],
    [['load', '-', '--utility', 'u', '--url', 'http://127.0.0.1:1', '--key', 'k'], /the key names its utility/],
    [['status', '--url', 'http://127.0.0.1:1', '--key', 'k'], /status looks into the database/],
    [['withdraw', 'zzz'], /zzz is not the id of a delivery/],
    [['key', 'create', '--role', 'king'], /--role head-end\|portal\|notify\|viewer\|operator/],
    [['key', 'revoke', 'zzz'], /zzz is not the id of a key/],
    [['messages', 'burn'], /messages knows list and replay/],
    [['messages', 'list', '--state', 'lost'], /--state knows pending, [a-z, ]*, not "lost"/],
    [['messages', 'replay', 'zzz'], /zzz is not the id of a message/],
    [['serve', '--roles', 'baker'], /--roles knows ingest, api, notify, console, not "baker"/],
    [['simulate', '--meters', '2', '--days', '1', '--push', 'weekly'], /--push knows day, 4h, interval, not "weekly"/],
    [['simulate', '--meters', '2', '--days', '1', '--faults', 'fire'], /fire/],
    [['simulate', '--meters', '2', '--days', '1', '--to', 'kafka'], /--to kafka needs KAFKA_BROKERS/],
    [['simulate', '--meters', '2', '--days', '1', '--to', 'file', '--utility', 'u'], /it needs --to kafka/],
    [['register', 'x.csv'], /must begin with "accounts" or "meters"/],
  ])('%j is told in one line and status 1', async (args, message) => {
    const done = await run(...args)
    expect(done).toMatchObject({ code: 1, stdout: '' })
    expect(done.stderr).toMatch(message)
    expect(done.stderr).not.toMatch(/^\s+at /m)
  })

  it('in the settings is told with every fault at once', async () => {
    const done = await program.run(['status'], { settings: { PORT: 'abc', LOG_LEVEL: 'loud' } })
    expect(done.code).toBe(1)
    expect(done.stderr).toMatch(/PORT is "abc"[^]*LOG_LEVEL is "loud"/)
  })
})

describe('serve', () => {
  it('on a taken port ends with what to do, and does not hang', async () => {
    const done = await program.run(['serve'], { settings: { PORT: new URL(url).port } })
    expect(done.code).toBe(1)
    expect(done.stderr).toMatch(/is taken by another program: stop it, or set PORT to a free one/)
  })
})

describe('reads that come before their meter', () => {
  it('wait, and are settled by the command that registers it', async () => {
    const early = await run('load', file('early.csv', csv('EARLY', 1, '1.5')), '--json')
    expect(early.code).toBe(2)
    expect(json(early)).toMatchObject({ quarantined: 1, stored: 0, problems: [{ code: 'unknown-meter' }] })
    const registered = await run('register', file('meters-early.ndjson', '{"meter":"EARLY"}\n'))
    expect(registered.code, registered.stderr).toBe(0)
    const again = await run('load', file('early.csv', csv('EARLY', 1, '1.5')), '--json')
    expect(json(again)).toMatchObject({ received: 1, duplicate: 1 })
  })
})

describe('load', () => {
  beforeAll(async () => {
    const done = await run('register', file('meters.csv', 'meter\nM1\nM2\n'), file('accounts.json', '[{"account":"0001"}]'))
    expect(done.code, done.stderr).toBe(0)
  })

  it('takes a plain file, a compressed one, a folder and standard input', async () => {
    mkdirSync(`${program.dir}/folder`)
    file('folder/a.csv', csv('M1', 2, '0.1'))
    file('folder/b.csv.gz', gzipSync(csv('M1', 3, '0.2')))
    const folder = await run('load', `${program.dir}/folder`, '--json')
    expect(folder.stdout.trim().split('\n').map((line) => JSON.parse(line) as unknown)).toMatchObject([{ stored: 1 }, { stored: 1 }])
    expect(folder.code).toBe(0)
    const piped = await program.run(['load', '-', '--json'], { input: csv('M1', 4, '0.3') })
    expect(json(piped)).toMatchObject({ file: '-', stored: 1 })
  })

  it('does the same through a running server', async () => {
    const path = file('remote.csv.gz', gzipSync(csv('M2', 2, '0.1')))
    const done = await onServer('load', path, '--source', 'ami', '--json')
    expect(done.code, done.stderr).toBe(0)
    expect(json(done)).toMatchObject({ source: 'ami', stored: 1 })
  })

  it('goes on after a file that cannot be read, and ends with status 1', async () => {
    const done = await run('load', file('broken.csv.gz', 'no gzip'), file('good.csv', csv('M2', 5, '1')), '--json')
    expect(done.code).toBe(1)
    expect(done.stderr).toMatch(/broken\.csv\.gz: it is not whole gzip data/)
    expect(json(done)).toMatchObject({ stored: 1 })
  })

  it('reads a file with columns of its own by a mapping of the user', async () => {
    const mapping = file('ours.json', JSON.stringify({
      name: 'ours', delimiter: ';', decimalMark: ',', datePattern: 'dd.MM.yyyy HH:mm', intervalSeconds: 900,
      columns: { meter: 'Zähler', end: 'Zeit', value: 'Arbeit' } }))
    const done = await run('load', file('ours.csv', 'Zähler;Zeit;Arbeit\nM2;06.10.2026 00:15;0,25\n'), '--mapping', mapping, '--json')
    expect(done.code, `${done.stdout}${done.stderr}`).toBe(0)
    expect(json(done)).toMatchObject({ stored: 1, from: '2026-10-06T00:00:00-05:00', to: '2026-10-06T00:15:00-05:00' })
  })

  it('can be withdrawn', async () => {
    const loaded = json(await run('load', file('wrong.csv', csv('M2', 9, '9')), '--json'))
    const done = await run('withdraw', loaded.delivery as string)
    expect(done.code, done.stderr).toBe(0)
    const again = json(await run('load', file('wrong.csv', csv('M2', 9, '8')), '--json'))
    expect(again).toMatchObject({ stored: 1, corrected: 0 })
  })
})

describe('rates', () => {
  const version = (from: string, price: number) => ({ from, energy: [{ tiers: [{ price }] }] })
  it.each([['in the database', run, 'RA'], ['through a running server', onServer, 'RB']])('are registered %s, version by version', async (_where, call, rate) => {
    const done = await call('register', file('rates.json', JSON.stringify([{ rate, name: 'Home', versions: [version('2026-01-01', 0.1)] }])))
    expect(done.code, done.stderr).toBe(0)
    expect((await call('register', file('rates-2.json', JSON.stringify([{ rate, versions: [version('2026-07-01', 0.2)] }])))).code).toBe(0)
    expect(await getJson(url, program.operatorKey(), `/v1/rates/${rate}`)).toMatchObject({
      rate, name: 'Home', versions: [version('2026-01-01', 0.1), version('2026-07-01', 0.2)] })
    const refused = await call('register', file('rates-3.json', JSON.stringify([{ rate, versions: [{ ...version('2026-08-01', 0.3), energy: [] }] }])))
    expect(refused.code).not.toBe(0)
    expect(refused.stdout + refused.stderr).toMatch(/energy/)
    const wrong = await call('register', file('rates-4.json', JSON.stringify([{ rate, versions: [{ ...version('2026-08-01', 0.3), seasons: [{ name: 's', from: '06-01', to: '06-30' }],
      energy: [{ season: 's', tiers: [{ price: 1 }] }] }] }])))
    expect(wrong).toMatchObject({ code: 2, stdout: expect.stringMatching(/No energy price/) as string })
  })
})

describe('dead letters', () => {
  it.each([['in the database', run], ['through a running server', onServer]])('are seen and sent again %s', async (_where, call) => {
    const { rows: [dead] } = await db.pool.query<{ id: string }>(
      `insert into message (message_id, utility_id, purpose, channel, body_enc, state, attempts, last_error, next_at)
       select gen_random_uuid(), utility_id, 'notice', 'email', 'x', 'failed', 9, 'smtp EMESSAGE 554', 'infinity' from utility where id = 'default'
       returning message_id as id`)
    const listed = await call('messages', 'list')
    expect(listed.code, listed.stderr).toBe(0)
    expect(JSON.parse(listed.stdout)).toMatchObject([{ id: dead.id, state: 'failed', attempts: 9, error: 'smtp EMESSAGE 554' }])
    expect(json(await call('messages', 'replay', dead.id))).toEqual({ replayed: 1 })
    // It waits in the outbox again; what became of it there is the outbox's own.
    expect(JSON.parse((await call('messages', 'list')).stdout)).toEqual([])
    const again = await call('messages', 'replay', '00000000-0000-4000-8000-000000000000')
    expect(again).toMatchObject({ code: 1, stdout: '' })
    expect(again.stderr).toMatch(/no (such )?message/)
    expect(json(await call('messages', 'replay'))).toEqual({ replayed: 0 })
  })
})

describe('keys', () => {
  it.each([['in the database', run], ['through a running server', onServer]])('are made, listed and revoked %s', async (_where, call) => {
    const { id, key } = json(await call('key', 'create', '--role', 'viewer', '--name', 'v')) as { id: string; key: string }
    const ask = async (): Promise<number> => (await fetch(`${url}/v1/meters`, { headers: { authorization: `Bearer ${key}` } })).status
    expect(await ask()).toBe(200)
    const listed = await call('key', 'list')
    expect(listed.stdout).toContain(id)
    expect(listed.stdout).not.toContain(key)
    expect(await call('key', 'revoke', id)).toMatchObject({ code: 0, stdout: 'revoked\n' })
    expect(listed.code).toBe(0)
  })
})
