import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { packageRoot } from '../package-root.js'
import { startEmbedded, type EmbeddedLog } from './embedded.js'

let dir: string
let said: string[]
let children: ChildProcess[]
const log: EmbeddedLog = {
  info: (_, message) => { said.push(message) },
  warn: (_, message) => { said.push(message) },
  error: (_, message) => { said.push(message) },
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'meterline-embedded-'))
  // As root the server runs as another user, who must pass through.
  chmodSync(dir, 0o755)
  said = []
  children = []
})

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL')
  const pid = postmaster()
  if (pid !== undefined && alive(pid)) {
    process.kill(pid, 'SIGQUIT')
    await until(() => !alive(pid))
  }
  rmSync(dir, { recursive: true, force: true })
})

function postmaster(): number | undefined {
  const file = join(dir, 'pgdata', 'postmaster.pid')
  return existsSync(file) ? Number(readFileSync(file, 'utf8').split('\n')[0]) : undefined
}

/** Id of the server that runs. Never 0, which would be this process's whole group. */
function server(): number {
  const pid = postmaster()
  if (pid === undefined || !(pid > 0)) throw new Error('no server runs here')
  return pid
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

async function until(holds: () => boolean | Promise<boolean>, waitMs = 45_000): Promise<void> {
  for (let waited = 0; !await holds(); waited += 50) {
    if (waited > waitMs) throw new Error(`still not so after ${waitMs} ms: ${holds.toString()}`)
    await delay(50)
  }
}

async function query<T extends pg.QueryResultRow>(url: string, sql: string): Promise<T[]> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  try {
    return (await client.query<T>(sql)).rows
  } finally {
    await client.end()
  }
}

/** A process that uses the folder until it is told to stop (a line on its input) or killed. */
async function otherProcess(): Promise<{ child: ChildProcess; url: string; owner: boolean; leave: () => Promise<void> }> {
  const script = `
    import { startEmbedded } from './engine/store/embedded.ts'
    const quiet = { info() {}, warn() {}, error() {} }
    const db = await startEmbedded(${JSON.stringify(dir)}, quiet)
    process.stdout.write(JSON.stringify({ url: db.url, owner: db.owner }) + '\\n')
    process.stdin.once('data', async () => { await db.stop(); process.exit(0) })`
  const child = spawn(process.execPath, ['--import', './test/typescript.mjs', '--input-type=module', '-e', script],
    { cwd: packageRoot(), stdio: ['pipe', 'pipe', 'inherit'] })
  children.push(child)
  const [line] = await once(createInterface(child.stdout), 'line') as [string]
  const ended = once(child, 'exit')
  return {
    child,
    ...JSON.parse(line) as { url: string; owner: boolean },
    leave: async () => {
      child.stdin.write('stop\n')
      await ended
    },
  }
}

describe('the embedded database', () => {
  test('keeps its data from one start to the next, stops wholly, and is UTF-8 with a password', async () => {
    const first = await startEmbedded(dir, log)
    expect(first.owner).toBe(true)
    const [settings] = await query<Record<string, string>>(first.url, `select current_setting('server_encoding') as encoding,
      current_setting('fsync') as fsync, current_setting('synchronous_commit') as sync, current_setting('listen_addresses') as listen,
      current_setting('server_version_num')::int / 10000 as major`)
    expect(settings).toEqual({ encoding: 'UTF8', fsync: 'on', sync: 'on', listen: '127.0.0.1', major: 18 })
    await query(first.url, "create table kept as select 'ä' as word")
    const pid = server()
    await first.stop()
    expect(postmaster()).toBeUndefined()
    expect(alive(pid)).toBe(false)
    expect(statSync(join(dir, 'embedded.json')).mode & 0o777).toBe(0o600)

    const second = await startEmbedded(dir, log)
    expect(second.url).toBe(first.url)
    expect(await query(second.url, 'select word from kept')).toEqual([{ word: 'ä' }])
    const wrong = new URL(second.url)
    wrong.password = 'wrong'
    await expect(query(wrong.href, 'select 1')).rejects.toMatchObject({ code: '28P01' })
    await second.stop()
    await second.stop()
  })

  test('a server that is killed is started again on its port and recovers what was committed', async () => {
    const db = await startEmbedded(dir, log)
    await query(db.url, 'create table kept as select generate_series(1, 1000) as i')
    const pid = server()
    process.kill(pid, 'SIGKILL')
    await until(async () => query(db.url, 'select count(*)::int as rows from kept').then((rows) => rows[0].rows === 1000, () => false))
    expect(postmaster()).not.toBe(pid)
    expect(said).toContain('the embedded database has ended; starting it again')
    await db.stop()
    expect(postmaster()).toBeUndefined()
  })

  test('a process killed alone leaves the server running, and the next start adopts it', async () => {
    const other = await otherProcess()
    expect(other.owner).toBe(true)
    await query(other.url, 'create table kept as select 1 as i')
    const pid = postmaster()
    other.child.kill('SIGKILL')
    await once(other.child, 'exit')
    const db = await startEmbedded(dir, log)
    expect(db.owner).toBe(true)
    expect(db.url).toBe(other.url)
    expect(postmaster()).toBe(pid)
    expect(said).toContain('adopted the embedded database that an earlier process left running')
    expect(await query(db.url, 'select i from kept')).toEqual([{ i: 1 }])
    await db.stop()
    expect(postmaster()).toBeUndefined()
  })

  test('everything killed at once: the next start recovers', async () => {
    const other = await otherProcess()
    await query(other.url, 'create table kept as select generate_series(1, 1000) as i')
    const pid = server()
    other.child.kill('SIGKILL')
    process.kill(pid, 'SIGKILL')
    await once(other.child, 'exit')
    const db = await startEmbedded(dir, log)
    expect(await query(db.url, 'select count(*)::int as rows from kept')).toEqual([{ rows: 1000 }])
    await db.stop()
  })

  test('a second process is a guest; its end leaves the server to the owner', async () => {
    const db = await startEmbedded(dir, log)
    const guest = await otherProcess()
    expect(guest).toMatchObject({ owner: false, url: db.url })
    await guest.leave()
    expect(await query(db.url, 'select 1 as i')).toEqual([{ i: 1 }])
    await db.stop()
    expect(postmaster()).toBeUndefined()
  })

  test('the owner that ends first leaves the server to a guest at work, which stops it last', async () => {
    const owner = await otherProcess()
    const guest = await startEmbedded(dir, log)
    expect(guest.owner).toBe(false)
    await owner.leave()
    expect(await query(guest.url, 'select 1 as i')).toEqual([{ i: 1 }])
    process.kill(server(), 'SIGKILL')
    await until(async () => query(guest.url, 'select 1').then(() => true, () => false))
    expect(guest.owner).toBe(true)
    await guest.stop()
    expect(postmaster()).toBeUndefined()
  })

  test('five processes that start at once share one server', async () => {
    const all = await Promise.all(Array.from({ length: 5 }, () => startEmbedded(dir, log)))
    expect(all.filter((db) => db.owner)).toHaveLength(1)
    expect(new Set(all.map((db) => db.url)).size).toBe(1)
    await Promise.all(all.map((db) => db.stop()))
    expect(postmaster()).toBeUndefined()
  })

  test('a process id that belongs to another program by now does not keep the server from starting', async () => {
    const first = await startEmbedded(dir, log)
    const file = join(dir, 'pgdata', 'postmaster.pid')
    const lines = readFileSync(file, 'utf8').split('\n')
    await first.stop()
    const child = spawn('sleep', ['60'])
    children.push(child)
    writeFileSync(file, [child.pid, ...lines.slice(1)].join('\n'), { mode: 0o600 })
    const { uid, gid } = statSync(join(dir, 'pgdata'))
    if (process.getuid?.() === 0) chownSync(file, uid, gid)
    const second = await startEmbedded(dir, log)
    expect(await query(second.url, 'select 1 as i')).toEqual([{ i: 1 }])
    await second.stop()
  })

  test.runIf(process.getuid?.() === 0)('as root below a folder closed to others, the data stands where the server can reach it', async () => {
    chmodSync(dir, 0o700)
    const first = await startEmbedded(join(dir, 'closed'), log)
    const [{ data }] = await query<{ data: string }>(first.url, "select current_setting('data_directory') as data")
    try {
      expect(data).toMatch(/^\/var\/lib\/meterline\//)
      expect(said).toContain('the embedded database runs as another user, who cannot reach METERLINE_DIR: its data stands elsewhere')
      await query(first.url, 'create table kept as select 1 as i')
      await first.stop()
      const second = await startEmbedded(join(dir, 'closed'), log)
      expect(await query(second.url, 'select i from kept')).toEqual([{ i: 1 }])
      await second.stop()
    } finally {
      await first.stop()
      rmSync(dirname(data), { recursive: true, force: true })
    }
  })

  test('a data folder of another major version is refused with what to do', async () => {
    const first = await startEmbedded(dir, log)
    await first.stop()
    writeFileSync(join(dir, 'pgdata', 'PG_VERSION'), '17\n')
    await expect(startEmbedded(dir, log)).rejects.toThrow(/made by PostgreSQL 17.*brings PostgreSQL 18.*pg_dump/)
  })
})
