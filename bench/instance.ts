import { spawn, type ChildProcess } from 'node:child_process'
import { chmodSync, createWriteStream, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { Client } from '../cli/client.js'
import { clusterUrl } from '../engine/store/cluster.js'
import { typeParsers } from '../engine/store/db.js'
import { accountRecords, meterRecords, ndjsonBodies, type Fleet } from '../fixtures/simulator.js'

/** What of the database matters for a figure. */
export interface DatabaseFacts {
  version: string
  storageMode: string
  settings: Record<string, string>
}

const SHOWN = ['fsync', 'synchronous_commit', 'full_page_writes', 'wal_level', 'shared_buffers', 'max_wal_size', 'wal_compression']
const START_MS = 60_000
const STOP_MS = 60_000

/** A Meterline of its own: `meterline serve` as a child process on a fresh embedded database in a temporary folder. */
export class Instance {
  readonly url: string
  readonly key: string
  readonly databaseUrl: string
  readonly #child: ChildProcess
  readonly #folder: string
  readonly #memory: NodeJS.Timeout
  static readonly #open = new Set<Instance>()
  /** What is being started ends first, or it would leave its server behind. */
  static readonly #starting = new Set<Promise<Instance>>()
  #rssMax = 0
  #stopped: Promise<void> | undefined

  private constructor(child: ChildProcess, folder: string, url: string) {
    this.#child = child
    this.#folder = folder
    this.url = url
    this.key = readFileSync(join(folder, 'data', 'operator-key'), 'utf8').trim()
    const state = JSON.parse(readFileSync(join(folder, 'data', 'embedded.json'), 'utf8')) as { port: number; password: string }
    this.databaseUrl = clusterUrl(state.port, state.password, 'meterline')
    Instance.#open.add(this)
    this.#memory = setInterval(() => { this.#rssMax = Math.max(this.#rssMax, this.rss()) }, 50)
  }

  /** Stops what still runs, for a bench that is cut short. */
  static async stopAll(): Promise<void> {
    await Promise.allSettled(Instance.#starting)
    await Promise.all([...Instance.#open].map((i) => i.stop()))
  }

  /** @param env settings of the child beside its folder and port  @param nodeArgs for example --cpu-prof */
  static start(env: Record<string, string> = {}, nodeArgs: readonly string[] = []): Promise<Instance> {
    const starting = Instance.#start(env, nodeArgs)
    Instance.#starting.add(starting)
    starting.then(() => Instance.#starting.delete(starting), () => Instance.#starting.delete(starting))
    return starting
  }

  static async #start(env: Record<string, string>, nodeArgs: readonly string[]): Promise<Instance> {
    const folder = mkdtempSync(join(tmpdir(), 'meterline-bench-'))
    // As root the database runs as another user, who must pass through.
    chmodSync(folder, 0o755)
    const child = spawn(process.execPath, ['--max-semi-space-size=4', ...nodeArgs, join(import.meta.dirname, '..', 'meterline.js'), 'serve'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: a signal to ours (Ctrl-C, timeout) and then our own would be two, and the second cuts its close short.
      detached: true,
      env: {
        // As `npm start` and the image have it.
        MALLOC_MMAP_THRESHOLD_: '262144',
        PATH: process.env.PATH, HOME: process.env.HOME, METERLINE_DIR: join(folder, 'data'), HOST: '127.0.0.1', PORT: '0',
        UTILITY_ZONE: 'America/Chicago', ...env,
      },
    })
    const log = createWriteStream(join(folder, 'serve.log'))
    child.stderr.pipe(log, { end: false })
    child.stdout.pipe(log, { end: false })
    try {
      return new Instance(child, folder, await listening(child))
    } catch (err) {
      child.kill('SIGKILL')
      await exited(child, 5000)
      rmSync(folder, { recursive: true, force: true })
      throw err
    }
  }

  /** Stops the server's process in its tracks, or lets it go on; its database runs. */
  freeze(frozen: boolean): void {
    this.#child.kill(frozen ? 'SIGSTOP' : 'SIGCONT')
  }

  /** Folder of this run, removed at the end. */
  get folder(): string {
    return this.#folder
  }

  /** Resident bytes of the serving process now (threads share them; PostgreSQL is another process). */
  rss(): number {
    return this.#status('VmRSS')
  }

  /** Greatest resident bytes since the last reset: the kernel's high-water mark, or what was sampled after a reset. */
  rssPeak(): number {
    return Math.max(this.#rssMax, this.rss())
  }

  /** Greatest resident bytes of the process's life, by the kernel. */
  rssHighWater(): number {
    return this.#status('VmHWM')
  }

  resetRssPeak(): void {
    this.#rssMax = 0
  }

  #status(field: 'VmRSS' | 'VmHWM'): number {
    try {
      const text = readFileSync(`/proc/${this.#child.pid}/status`, 'utf8')
      return Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(text)?.[1] ?? 0) * 1024
    } catch {
      return 0
    }
  }

  /** CPU seconds that the server and its database have used: what a figure costs, also where others use the machine too. */
  cpu(): { server: number; database: number } {
    const postmaster = this.#postmaster()
    let database = 0
    for (const name of readdirSync('/proc')) {
      if (!/^\d+$/.test(name)) continue
      const stat = processStat(Number(name))
      if (stat === undefined) continue
      if (Number(name) === postmaster) database += stat.own + stat.children
      else if (stat.parent === postmaster) database += stat.own
    }
    return { server: processStat(this.#child.pid!)?.own ?? 0, database }
  }

  #postmaster(): number {
    const state = JSON.parse(readFileSync(join(this.#folder, 'data', 'embedded.json'), 'utf8')) as { data: string }
    return Number(readFileSync(join(resolve(this.#folder, 'data', state.data), 'postmaster.pid'), 'utf8').split('\n')[0])
  }

  /** A connection of the bench's own to the same database. */
  async connect(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.databaseUrl, types: typeParsers, application_name: 'meterline bench' })
    await client.connect()
    return client
  }

  /** Waits until no channel-day waits to be validated. */
  async untilJudged(client: pg.Client): Promise<void> {
    for (;;) {
      const { rows: [{ waits }] } = await client.query<{ waits: boolean }>('select exists (select from vee_pending) as waits')
      if (!waits) return
      await sleep(50)
    }
  }

  async facts(): Promise<DatabaseFacts> {
    const client = await this.connect()
    try {
      const version = await client.query<{ version: string }>("select split_part(version(), ' on ', 1) as version")
      const mode = await client.query<{ storage_mode: string }>('select storage_mode from installation')
      const settings = await client.query<{ name: string; value: string }>(
        'select name, current_setting(name) as value from pg_settings where name = any($1::text[]) order by name', [SHOWN])
      return {
        version: version.rows[0].version, storageMode: mode.rows[0].storage_mode,
        settings: Object.fromEntries(settings.rows.map((r) => [r.name, r.value])),
      }
    } finally {
      await client.end()
    }
  }

  /** Registers a fleet's accounts and meters through the API. */
  async register(fleet: Fleet): Promise<void> {
    const client = new Client(this.url, this.key)
    try {
      for (const [path, records] of [['/v1/accounts', accountRecords(fleet)], ['/v1/meters', meterRecords(fleet)]] as const) {
        for (const { body } of ndjsonBodies(records, 5000)) {
          await client.send('PUT', path, Buffer.from(body), { 'content-type': 'application/x-ndjson' })
        }
      }
    } finally {
      client.close()
    }
  }

  /** Stops the server as an operator would, and removes the folder. @param keep leaves the folder for a look */
  stop(keep = false): Promise<void> {
    this.#stopped ??= this.#stop(keep)
    return this.#stopped
  }

  async #stop(keep: boolean): Promise<void> {
    Instance.#open.delete(this)
    clearInterval(this.#memory)
    this.#child.kill('SIGTERM')
    this.freeze(false)
    if (!await exited(this.#child, STOP_MS)) this.#child.kill('SIGKILL')
    if (!keep) rmSync(this.#folder, { recursive: true, force: true })
  }
}

const TICKS_PER_S = 100

/** Seconds of CPU of a process, and of its children that have ended. */
function processStat(pid: number): { parent: number; own: number; children: number } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ').map(Number)
    return { parent: fields[1], own: (fields[11] + fields[12]) / TICKS_PER_S, children: (fields[13] + fields[14]) / TICKS_PER_S }
  } catch {
    return undefined
  }
}

async function exited(child: ChildProcess, withinMs: number): Promise<boolean> {
  if (child.exitCode !== null || child.signalCode !== null) return true
  const end = new AbortController()
  const done = new Promise<boolean>((resolve) => child.once('exit', () => resolve(true)))
  const late = sleep(withinMs, false, { signal: end.signal }).catch(() => false)
  const answer = await Promise.race([done, late])
  end.abort()
  return answer
}

/** Waits for the log line that says where the server listens. */
async function listening(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = ''
    const timer = setTimeout(() => reject(new Error(`the server did not start within ${START_MS} ms: ${said.slice(-2000)}`)), START_MS)
    const stop = (): void => {
      clearTimeout(timer)
      child.stderr?.off('data', onData)
      child.off('exit', onExit)
    }
    const onData = (chunk: Buffer): void => {
      said += chunk.toString('utf8')
      const url = /"url":"(http:[^"]+)"/.exec(said)?.[1]
      if (url === undefined) return
      stop()
      resolve(url)
    }
    const onExit = (): void => {
      stop()
      reject(new Error(`the server ended at its start: ${said.slice(-2000)}`))
    }
    child.stderr?.on('data', onData)
    child.once('exit', onExit)
  })
}
