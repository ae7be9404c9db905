import { execFileSync, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, chownSync, closeSync, cpSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statfsSync, symlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { askServer, clusterUrl, disarmStalePid, freePort, initCluster, reachableBinaries, serverUser, spawnServer, type Binaries, type SystemUser } from '../../engine/store/cluster.js'
import { engineFolder } from './engine-process.js'

/** A disk of its own and of little size, in memory. */
export interface SmallDisk {
  readonly path: string
  /** Takes all the room that is left. */
  fill: () => void
  /** Gives that room back. */
  free: () => void
}

/** True where this process may mount a file system: as root, and not in a container without the capability. */
export function mayMount(): boolean {
  const folder = engineFolder()
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder], { stdio: 'ignore' })
    execFileSync('umount', [folder], { stdio: 'ignore' })
    return true
  } catch {
    return false
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** A database server of its own that may be killed, and started again on the same port. */
export class ClusterProcess {
  readonly folder: string
  readonly #binaries: Binaries
  readonly #user: SystemUser | undefined
  readonly #port: number
  readonly #password: string
  readonly #settings: Record<string, string>
  readonly #mounts: string[] = []
  #child: ChildProcess | undefined

  private constructor(folder: string, binaries: Binaries, user: SystemUser | undefined, port: number, password: string, settings: Record<string, string>) {
    this.folder = folder
    this.#binaries = binaries
    this.#user = user
    this.#port = port
    this.#password = password
    this.#settings = settings
  }

  /** Makes a cluster in a temporary folder, not yet started. What it acknowledges is on disk, unless `settings` say otherwise. */
  static async make(settings: Record<string, string> = {}): Promise<ClusterProcess> {
    const folder = engineFolder()
    const user = serverUser()
    const binaries = reachableBinaries(user, folder)
    const password = randomBytes(12).toString('hex')
    await initCluster(binaries, join(folder, 'pgdata'), password, user, true)
    return new ClusterProcess(folder, binaries, user, await freePort(), password, { max_connections: '100', shared_buffers: '64MB', ...settings })
  }

  /** URL of a database of it. */
  url(database = 'meterline'): string {
    return clusterUrl(this.#port, this.#password, database)
  }

  /** Starts the server and waits until it takes connections. */
  async start(): Promise<void> {
    const data = join(this.folder, 'pgdata')
    const log = join(this.folder, 'server.log')
    for (const began = Date.now(); ;) {
      disarmStalePid(data)
      const child = spawnServer(this.#binaries, data, this.#port, this.#settings, this.#user, log)
      while (child.exitCode === null && child.signalCode === null) {
        if (await askServer(this.url('postgres')) === 'ready') {
          this.#child = child
          return
        }
        await delay(25)
      }
      // The shared memory of one that was killed is free once its last session has noticed.
      if (Date.now() - began > 30_000) throw new Error(`the server does not start: ${readFileSync(log, 'utf8').slice(-2000)}`)
      await delay(100)
    }
  }

  get runs(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** What the server has written to its log since its start. */
  get log(): string {
    return readFileSync(join(this.folder, 'server.log'), 'utf8')
  }

  /** Ends the server: SIGKILL as a crash, SIGINT as an operator would. */
  async stop(signal: 'SIGKILL' | 'SIGINT' | 'SIGQUIT'): Promise<void> {
    const child = this.#child
    if (child === undefined) return
    this.#child = undefined
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.ref()
    child.kill(signal)
    await ended
  }

  /** One statement on the maintenance database. */
  async run(sql: string): Promise<void> {
    const client = new pg.Client({ connectionString: this.url('postgres'), application_name: 'meterline test' })
    await client.connect()
    try {
      await client.query(sql)
    } finally {
      await client.end()
    }
  }

  /** Mounts a small disk that the server may write to. @param mb its size */
  mountDisk(name: string, mb: number): SmallDisk {
    const path = join(this.folder, name)
    mkdirSync(path)
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mb}m,mode=0700`, 'tmpfs', path])
    this.#mounts.push(path)
    if (this.#user !== undefined) chownSync(path, this.#user.uid, this.#user.gid)
    const ballast = join(path, 'ballast')
    return {
      path,
      fill: () => {
        const file = openSync(ballast, 'a')
        try {
          for (const size of [1024 * 1024, 4096]) {
            const zeros = Buffer.alloc(size)
            while (statfsSync(path).bavail * statfsSync(path).bsize >= size) writeSync(file, zeros)
          }
        } finally {
          closeSync(file)
        }
      },
      free: () => rmSync(ballast, { force: true }),
    }
  }

  /** Puts the write-ahead log onto a disk; before the start. */
  moveWal(disk: SmallDisk): void {
    const wal = join(this.folder, 'pgdata', 'pg_wal')
    const moved = join(disk.path, 'pg_wal')
    cpSync(wal, moved, { recursive: true })
    execFileSync('chown', ['-R', `${this.#user?.uid ?? process.getuid!()}`, moved])
    chmodSync(moved, 0o700)
    renameSync(wal, `${wal}.before`)
    symlinkSync(moved, wal)
  }

  /** Ends the server and removes everything of it. */
  async close(): Promise<void> {
    await this.stop('SIGQUIT')
    for (const path of this.#mounts) execFileSync('umount', ['-l', path])
    rmSync(this.folder, { recursive: true, force: true })
  }
}
