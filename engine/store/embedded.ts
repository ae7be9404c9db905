import { randomBytes, randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, realpathSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import {
  askServer, canReach, clusterUrl, disarmStalePid, EmbeddedError, freePort, initCluster, makeOpenFolder, reachableBinaries, runningServer, serverUser, sharedRoot, SUPERUSER,
  spawnServer, stopServer, supportsSetting, type Binaries, type SystemUser,
} from './cluster.js'
import { isAlive, ownMark, processMark, withFolderLock, type ProcessMark } from './folder-lock.js'

export { EmbeddedError } from './cluster.js'

/**
 * The PostgreSQL that Meterline brings itself, for installations without DATABASE_URL (design §7).
 *
 * Every process that uses the folder is a member, noted in embedded.json. One member is the owner: it started the server
 * or adopted one whose owner had died, and it starts it again when it falls. The server stops when its last member
 * leaves, so a command that is still loading is not cut off by the end of `serve`, nor the other way round.
 */
export interface EmbeddedDatabase {
  url: string
  /** True while this process is the one that keeps the server running. */
  readonly owner: boolean
  /** Leaves the server; the last member to leave stops it and waits for its end. Close all pools first. */
  stop(): Promise<void>
}

/** The part of a logger that is used here. */
export interface EmbeddedLog {
  info(detail: object, message: string): void
  warn(detail: object, message: string): void
  error(detail: object, message: string): void
}

interface Member extends ProcessMark {
  id: string
}

/** Content of embedded.json: readable by its owner only, as it holds the password. Written under the lock. */
interface State {
  port: number
  password: string
  /** The data folder, absolute where it is not `pgdata` beside this file. */
  data: string
  owner: string | null
  members: Member[]
}

const DATABASE = 'meterline'
const WATCH_MS = 500
/** How long a server may hold on to the shared memory of one that was killed, or to its port. */
const SETTLE_MS = 30_000
/** How long a server that lives may refuse every connection before that counts as a failure. */
const SILENCE_MS = 60_000

/** Settings of the embedded server. What was acknowledged is on disk: fsync and synchronous_commit stay on. */
const SETTINGS: Record<string, string> = {
  // Every worker thread has connections of its own, and commands come beside them.
  max_connections: String(Math.max(60, 40 + 4 * availableParallelism())),
  shared_buffers: '256MB',
  max_wal_size: '4GB',
  checkpoint_timeout: '15min',
  random_page_cost: '1.1',
  jit: 'off',
  fsync: 'on',
  synchronous_commit: 'on',
  // A week of logs, one file per weekday.
  logging_collector: 'on',
  log_directory: 'log',
  log_filename: 'postgresql-%a.log',
  log_truncate_on_rotation: 'on',
  log_rotation_age: '1d',
  log_rotation_size: '0',
  log_line_prefix: '%m [%p] %a ',
}

/**
 * Starts the embedded server, adopts one that was left running, or joins one that another process keeps.
 *
 * @param dir METERLINE_DIR; made when it does not exist
 * @throws EmbeddedError with what to do, when the folder or the machine does not allow it
 */
export async function startEmbedded(dir: string, log: EmbeddedLog): Promise<EmbeddedDatabase> {
  const folder = resolve(dir)
  // As root the server runs as another user, who must pass through. What is secret in the folder has modes of its own.
  if (process.getuid?.() === 0) makeOpenFolder(folder)
  else mkdirSync(folder, { recursive: true, mode: 0o700 })
  const server = new EmbeddedServer(realpathSync(folder), log)
  await server.join()
  return server
}

class EmbeddedServer implements EmbeddedDatabase {
  url = ''
  owner = false
  readonly #folder: string
  readonly #log: EmbeddedLog
  readonly #member: Member = { ...ownMark(), id: randomUUID() }
  #postmaster: ProcessMark | undefined
  #watch: NodeJS.Timeout | undefined
  #rescue: Promise<void> | undefined
  #stopped: Promise<void> | undefined

  constructor(folder: string, log: EmbeddedLog) {
    this.#folder = folder
    this.#log = log
  }

  async join(): Promise<void> {
    await this.#locked(async () => {
      const user = serverUser()
      const state = readState(this.#folder) ?? newState(this.#folder, user, this.#log)
      const kept = state.members.filter(isAlive)
      const ownerLives = kept.some((member) => member.id === state.owner)
      const adopted = await this.#bringUp(state, user)
      this.owner = !ownerLives
      state.members = [...kept, this.#member]
      if (this.owner) state.owner = this.#member.id
      writeState(this.#folder, state)
      if (adopted && this.owner) this.#log.info({ pid: this.#postmaster?.pid }, 'adopted the embedded database that an earlier process left running')
      this.url = clusterUrl(state.port, state.password, DATABASE)
      await ensureDatabase(clusterUrl(state.port, state.password, 'postgres'))
    })
    this.#watch = setInterval(() => { this.#look() }, WATCH_MS)
    this.#watch.unref()
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#leave()
    return this.#stopped
  }

  async #leave(): Promise<void> {
    clearInterval(this.#watch)
    await this.#rescue
    await this.#locked(async () => {
      const state = readState(this.#folder)
      if (state === undefined) return
      state.members = state.members.filter((member) => member.id !== this.#member.id && isAlive(member))
      if (state.owner === this.#member.id) state.owner = null
      this.owner = false
      if (state.members.length === 0) {
        const running = runningServer(dataOf(this.#folder, state))
        if (running !== undefined) await stopServer(running, this.#log)
      } else this.#log.info({ members: state.members.length }, 'the embedded database stays up for other processes that use it')
      writeState(this.#folder, state)
    })
  }

  /** Has the server running and ready, and its port in `state`. @returns true when it was running already */
  async #bringUp(state: State, user: SystemUser | undefined): Promise<boolean> {
    const data = dataOf(this.#folder, state)
    const runAs = ownerOfData(data, user)
    for (let running = runningServer(data); running !== undefined; running = runningServer(data)) {
      const url = clusterUrl(running.port, state.password, 'postgres')
      const answer = await waitReady(url, data, running)
      if (answer === 'ready') {
        state.port = running.port
        this.#postmaster = running
        return true
      }
      if (answer === 'foreign') {
        throw new EmbeddedError(`the server that runs on ${data} does not accept the password kept in ${statePath(this.#folder)}: ` +
          'put the embedded.json back that belongs to this data folder')
      }
      if (answer === 'silent') {
        throw new EmbeddedError(`the server that runs on ${data} (process ${running.pid}) answers nobody: end it and start again`)
      }
    }
    const binaries = reachableBinaries(runAs, process.getuid?.() === 0 && !canReach(this.#folder, runAs) ? sharedRoot() : this.#folder)
    refuseOtherMajor(data, binaries)
    if (!existsSync(join(data, 'PG_VERSION'))) {
      writeState(this.#folder, state)
      await initCluster(binaries, data, state.password, runAs)
      this.#log.info({ data, user: runAs?.name }, 'made an embedded database')
    }
    await this.#start(state, binaries, data, runAs)
    return false
  }

  async #start(state: State, binaries: Binaries, data: string, user: SystemUser | undefined): Promise<void> {
    const settings = { ...SETTINGS }
    if (supportsSetting(binaries, data, 'wal_compression', 'lz4', user)) settings.wal_compression = 'lz4'
    const startLog = join(this.#folder, 'postgres-start.log')
    disarmStalePid(data)
    for (const began = Date.now(); ;) {
      // A server that fell comes back on its own port, which the pools know; at a start any free one will do.
      if (this.url === '') state.port = await freePort(state.port)
      const child = spawnServer(binaries, data, state.port, settings, user, startLog)
      const mark = child.pid === undefined ? undefined : processMark(child.pid)
      const answer = mark === undefined ? 'ended' : await waitReady(clusterUrl(state.port, state.password, 'postgres'), data, mark)
      if (answer === 'ready') {
        this.#postmaster = mark
        writeState(this.#folder, state)
        return
      }
      const said = readFileSync(startLog, 'utf8').trim().slice(-2000)
      const again = /still in use|could not bind|Address already in use|lock file "postmaster.pid" already exists/.test(said)
      if (!again || Date.now() - began > SETTLE_MS) {
        throw new EmbeddedError(`the embedded database does not start (${answer}): ${said || 'it said nothing'}; ` +
          `more may stand in ${join(data, 'log')}`)
      }
      await delay(250)
    }
  }

  /** The server falls when it is killed: its owner, or whoever is left, starts it again; it recovers by itself. */
  #look(): void {
    if (this.#rescue !== undefined || this.#postmaster === undefined || isAlive(this.#postmaster)) return
    this.#rescue = this.#restart()
      .catch((err: unknown) => { this.#log.error({ err }, 'the embedded database could not be started again; the next attempt follows') })
      .finally(() => { this.#rescue = undefined })
  }

  async #restart(): Promise<void> {
    await this.#locked(async () => {
      const state = readState(this.#folder)
      if (state === undefined || this.#stopped !== undefined) return
      this.owner = state.owner === this.#member.id || !state.members.some((member) => member.id === state.owner && isAlive(member))
      if (!this.owner) {
        // Its owner starts it; from then on that server is the one to watch.
        this.#postmaster = runningServer(dataOf(this.#folder, state)) ?? this.#postmaster
        return
      }
      state.owner = this.#member.id
      this.#log.warn({ pid: this.#postmaster?.pid }, 'the embedded database has ended; starting it again')
      await this.#bringUp(state, serverUser())
      writeState(this.#folder, state)
    })
  }

  async #locked(work: () => Promise<void>): Promise<void> {
    await withFolderLock(join(this.#folder, 'embedded.lock'), ({ pid }) => {
      this.#log.warn({ pid }, 'waiting for another process that is starting or stopping the embedded database')
    }, work)
  }
}

function statePath(folder: string): string {
  return join(folder, 'embedded.json')
}

function readState(folder: string): State | undefined {
  try {
    return JSON.parse(readFileSync(statePath(folder), 'utf8')) as State
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new EmbeddedError(`${statePath(folder)} cannot be read: run as the user who made it, or set METERLINE_DIR to another folder`, { cause: err })
  }
}

function writeState(folder: string, state: State): void {
  const half = `${statePath(folder)}.new`
  writeFileSync(half, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 })
  renameSync(half, statePath(folder))
}

function newState(folder: string, user: SystemUser | undefined, log: EmbeddedLog): State {
  let data = 'pgdata'
  if (existsSync(join(folder, data, 'PG_VERSION'))) {
    throw new EmbeddedError(`${join(folder, data)} holds a database, but embedded.json with its password is missing: ` +
      'put it back, or move the data folder away to begin with an empty one')
  }
  if (!canReach(folder, user)) {
    // Root's own folders are often closed to everyone else, and the server does not run as root. The name is new each
    // time: whoever removes METERLINE_DIR begins anew, and a folder that was moved keeps its data.
    data = join(sharedRoot(), randomUUID(), 'pgdata')
    makeOpenFolder(dirname(data))
    log.warn({ data, folder, user: user?.name }, 'the embedded database runs as another user, who cannot reach METERLINE_DIR: its data stands elsewhere')
  }
  return { port: 0, password: randomBytes(18).toString('base64url'), data, owner: null, members: [] }
}

function dataOf(folder: string, state: State): string {
  return resolve(folder, state.data)
}

/** PostgreSQL insists that its data folder belongs to whom it runs as. */
function ownerOfData(data: string, user: SystemUser | undefined): SystemUser | undefined {
  if (!existsSync(data)) return user
  const { uid, gid } = statSync(data)
  const own = process.getuid?.()
  if (own === undefined || uid === own) return user
  if (own === 0) return { name: String(uid), uid, gid }
  throw new EmbeddedError(`${data} belongs to the user with id ${uid}: run as that user or as root, or set METERLINE_DIR to another folder`)
}

function refuseOtherMajor(data: string, binaries: Binaries): void {
  const file = join(data, 'PG_VERSION')
  if (!existsSync(file)) return
  const found = readFileSync(file, 'utf8').trim()
  if (found === String(binaries.major)) return
  throw new EmbeddedError(`${data} was made by PostgreSQL ${found}, and this Meterline brings PostgreSQL ${binaries.major}: ` +
    `dump it with the Meterline that made it (pg_dump of its DATABASE_URL) and restore into a new METERLINE_DIR, or run pg_upgrade on it, ` +
    `or set DATABASE_URL to a PostgreSQL ${found} server that holds it`)
}

/** Waits while the process lives: recovery after a crash may take minutes, and says that it goes on. */
async function waitReady(url: string, data: string, server: ProcessMark): Promise<'ready' | 'foreign' | 'ended' | 'silent'> {
  for (let heard = Date.now(); ;) {
    const answer = await askServer(url, data)
    if (answer === 'ready' || answer === 'foreign') return answer
    if (!isAlive(server)) return 'ended'
    if (answer === 'starting') heard = Date.now()
    if (Date.now() - heard > SILENCE_MS) return 'silent'
    await delay(50)
  }
}

async function ensureDatabase(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, application_name: 'meterline start' })
  client.on('error', () => undefined)
  await client.connect()
  try {
    const { rowCount } = await client.query('select from pg_database where datname = $1', [DATABASE])
    if (rowCount === 0) await client.query(`create database ${DATABASE} owner ${SUPERUSER}`)
  } finally {
    await client.end()
  }
}
