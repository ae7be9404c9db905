import { createReadStream } from 'node:fs'
import { access, link, lstat, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname, join, relative, sep } from 'node:path'
import { watch, type FSWatcher } from 'chokidar'
import { createGunzip } from 'node:zlib'
import type { Logger } from 'pino'
import { ApiError } from '../engine/problem.js'
import type { Receipt } from '../engine/receipt.js'
import { uuidv7 } from '../engine/uuid.js'
import { holdClaims, isAbandoned, type ClaimHold } from '../engine/store/claims.js'
import { isUnavailable, type Pool } from '../engine/store/db.js'
import { findUtility } from '../engine/utilities.js'
import type { VersionSequence } from '../engine/versions.js'
import { isPartial, numbered } from './file-names.js'
import type { FileMetrics } from './file-metrics.js'
import { Push, type PushOptions } from './push.js'

/**
 * The file drop (contract §4): files in `incoming/<utility>/[<source>/]` are settled as deliveries and moved to `done/`
 * with their receipt, or to `failed/` with the reason.
 *
 * A file is taken when it has stopped growing, by renaming it into a folder of this process under `working/`: of several
 * processes on one folder one gets it. The claim's id is the delivery's idempotency key, and goes with the file: a file that a
 * crash left behind is settled again by whoever finds it, and where it had been settled the first receipt is the answer.
 */
export interface FileDropOptions extends PushOptions {
  /** WATCH_DIR. */
  folder: string
  db: Pool
  versions: Pick<VersionSequence, 'next'>
  log: Logger
  files: FileMetrics
  now: () => number
  /** A file is whole when its size has not changed for so long, milliseconds. */
  stableMs: number
  /** The folder is looked through this often, for file systems that do not tell of changes; milliseconds. */
  pollMs: number
}

/** Files settled at a time. */
const AT_ONCE = 4
/** Where no source's folder says otherwise. */
const SOURCE = 'files'
const RETRY_MS = 1000
const RETRY_AT_MOST_MS = 30_000

interface Seen {
  size: number
  mtimeMs: number
  sinceMs: number
}

interface Claim {
  id: string
  /** Folder of the claim, and the file in it; its path from there is the one it had in `incoming`. */
  folder: string
  path: string
}

export class FileDrop {
  readonly #options: FileDropOptions
  readonly #name = `${hostname()}-${process.pid}-${uuidv7(Date.now()).slice(-12)}`
  readonly #seen = new Map<string, Seen>()
  readonly #queue: Claim[] = []
  readonly #running = new Set<Promise<void>>()
  readonly #stopping = new AbortController()
  #hold: ClaimHold | null = null
  #watcher: FSWatcher | null = null
  #timer: NodeJS.Timeout | null = null
  #wakeAtMs = 0
  #scan: Promise<void> = Promise.resolve()
  #lastRecoveryMs = 0

  constructor(options: FileDropOptions) {
    this.#options = options
  }

  /** Makes the folders, takes over what a process that died left behind, and begins to watch. @throws where the folder cannot be written */
  async start(): Promise<void> {
    const { folder, db, log } = this.#options
    for (const name of ['incoming', 'working', 'done', 'failed']) await mkdir(join(folder, name), { recursive: true })
    await access(join(folder, 'incoming'), 6)
    await mkdir(this.#own(), { recursive: true })
    this.#hold = await holdClaims(db, this.#name)
    this.#watcher = watch(join(folder, 'incoming'), { ignoreInitial: true, followSymlinks: false, depth: 4 })
    this.#watcher.on('all', () => this.#wake(0)).on('error', (err) => log.warn({ err }, 'the watched folder cannot be watched: it is looked through instead'))
    this.#wake(0)
  }

  /** Takes no more files, and waits for those under way; one that waits for memory stays claimed and is settled at the next start. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    if (this.#timer !== null) clearTimeout(this.#timer)
    await this.#watcher?.close()
    await this.#scan
    await Promise.all(this.#running)
    await this.#hold?.release()
    await removeEmpty(this.#own())
  }

  #own(): string {
    return join(this.#options.folder, 'working', this.#name)
  }

  /** Looks through the folder in `ms`, or sooner where that was already asked for. */
  #wake(ms: number): void {
    if (this.#stopping.signal.aborted) return
    const atMs = performance.now() + ms
    if (this.#timer !== null && this.#wakeAtMs <= atMs) return
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#wakeAtMs = atMs
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#scan = this.#scan.then(() => this.#look())
    }, ms)
  }

  async #look(): Promise<void> {
    const { folder, log, pollMs, stableMs, now } = this.#options
    let next = pollMs
    try {
      if (now() - this.#lastRecoveryMs > pollMs) {
        this.#lastRecoveryMs = now()
        await this.#recover()
      }
      const found = await filesUnder(join(folder, 'incoming'))
      for (const path of this.#seen.keys()) if (!found.has(path)) this.#seen.delete(path)
      const ready: { path: string; mtimeMs: number }[] = []
      let oldest = 0
      for (const [path, info] of found) {
        if (isPartial(path)) continue
        oldest = Math.max(oldest, now() - info.mtimeMs)
        const seen = this.#seen.get(path)
        if (seen?.size !== info.size || seen.mtimeMs !== info.mtimeMs) {
          this.#seen.set(path, { size: info.size, mtimeMs: info.mtimeMs, sinceMs: now() })
          next = Math.min(next, stableMs)
        } else if (now() - seen.sinceMs >= stableMs) ready.push({ path, mtimeMs: info.mtimeMs })
        else next = Math.min(next, stableMs - (now() - seen.sinceMs) + 5)
      }
      this.#options.files.waiting(found.size, oldest / 1000)
      ready.sort((a, b) => a.mtimeMs - b.mtimeMs || (a.path < b.path ? -1 : 1))
      for (const { path } of ready) {
        if (this.#stopping.signal.aborted || this.#queue.length + this.#running.size >= AT_ONCE) break
        const claim = await this.#claim(path)
        if (claim !== null) this.#queue.push(claim)
      }
      this.#pump()
    } catch (err) {
      log.error({ err }, 'the watched folder cannot be looked through')
    }
    this.#wake(Math.max(10, next))
  }

  /** Renames the file into this process's folder; null where another process was faster. */
  async #claim(path: string): Promise<Claim | null> {
    const id = uuidv7(this.#options.now())
    const folder = join(this.#own(), id)
    const target = join(folder, relative(join(this.#options.folder, 'incoming'), path))
    await mkdir(dirname(target), { recursive: true })
    try {
      await rename(path, target)
    } catch (err) {
      await rm(folder, { recursive: true, force: true })
      if ((err as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw err
    } finally {
      this.#seen.delete(path)
    }
    return { id, folder, path: target }
  }

  /** Takes over the claims of processes that are no more. */
  async #recover(): Promise<void> {
    const { folder, db, log } = this.#options
    for (const name of await readdir(join(folder, 'working'))) {
      if (name === this.#name || !await isAbandoned(db, name)) continue
      for (const id of await readdir(join(folder, 'working', name)).catch(() => [])) {
        const target = join(this.#own(), id)
        // Of several processes that find it one can rename it.
        const mine = await rename(join(folder, 'working', name, id), target).then(() => true, () => false)
        if (!mine) continue
        for (const path of (await filesUnder(target)).keys()) {
          log.info({ file: relative(target, path) }, 'a file that a stopped process left behind is settled again')
          this.#queue.push({ id, folder: target, path })
        }
      }
      await removeEmpty(join(folder, 'working', name))
    }
  }

  #pump(): void {
    while (this.#running.size < AT_ONCE && this.#queue.length > 0 && !this.#stopping.signal.aborted) {
      const claim = this.#queue.shift()!
      const work = this.#settle(claim).catch((err: unknown) => {
        this.#options.log.error({ err, file: relative(claim.folder, claim.path) }, 'a file could not be moved on: it stays in the working folder')
      }).finally(() => {
        this.#running.delete(work)
        this.#wake(0)
      })
      this.#running.add(work)
    }
  }

  async #settle(claim: Claim): Promise<void> {
    const { log, files } = this.#options
    const name = relative(claim.folder, claim.path)
    let outcome: { receipt: Receipt } | { reason: Record<string, unknown> }
    try {
      outcome = { receipt: await this.#push(claim, name) }
    } catch (err) {
      if (this.#stopping.signal.aborted && isTransient(err)) return
      if (!(err instanceof ApiError) || err.status >= 500) log.error({ err, file: name }, 'a file could not be settled')
      outcome = { reason: reasonOf(err) }
    }
    if ('receipt' in outcome) {
      const { receipt } = outcome
      await this.#moveTo('done', claim, name, 'receipt', receipt)
      files.settled('done')
      log.info({ file: name, delivery: receipt.delivery, received: receipt.received, quarantined: receipt.quarantined, rejected: receipt.rejected },
        'a file was settled')
    } else {
      await this.#moveTo('failed', claim, name, 'reason', outcome.reason)
      files.settled('failed')
      log.warn({ file: name, code: outcome.reason.code }, 'a file was refused')
    }
    await rm(claim.folder, { recursive: true, force: true })
  }

  /** Settles the file; waits and tries again while there is no memory for it or the database is away. */
  async #push(claim: Claim, name: string): Promise<Receipt> {
    const { db } = this.#options
    const parts = name.split(sep)
    if (parts.length < 2 || parts.length > 3) {
      throw new ApiError(422, 'file-misplaced', 'The file stands in no utility\'s folder.', { help: 'Files go into incoming/<utility>/ or incoming/<utility>/<source>/.' })
    }
    const info = await lstat(claim.path)
    if (!info.isFile()) throw new ApiError(422, 'file-not-regular', 'It is a symbolic link or another thing that is no file.', { help: 'Drop the file itself.' })
    if (info.size === 0) throw new ApiError(400, 'empty-body', 'The file is empty.')
    let version: number | undefined
    for (let wait = RETRY_MS; ; wait = Math.min(RETRY_AT_MOST_MS, wait * 2)) {
      try {
        const utility = await findUtility(db, parts[0])
        if (utility === undefined) {
          throw new ApiError(404, 'unknown-utility', `There is no utility ${JSON.stringify(parts[0])}.`, { help: 'The folder under incoming/ is a utility\'s id.' })
        }
        version ??= await this.#options.versions.next()
        return await this.#pushOnce(claim, parts, utility.utilityId, version, info.size)
      } catch (err) {
        if (!isTransient(err)) throw err
        if (this.#stopping.signal.aborted) throw err
        this.#options.files.settled('waited')
        await this.#pause(wait)
        if (this.#stopping.signal.aborted) throw err
      }
    }
  }

  async #pushOnce(claim: Claim, parts: readonly string[], utilityId: number, version: number, size: number): Promise<Receipt> {
    const { now } = this.#options
    const fileName = parts[parts.length - 1]
    const isGzip = /\.gz$/i.test(fileName)
    const push = new Push(this.#options, utilityId, {
      deliveryId: uuidv7(now()), source: parts.length === 3 ? parts[1] : SOURCE, door: 'files', contentType: null, format: null,
      fileName: fileName.replace(/\.gz$/i, ''), mapping: null, zone: null, history: false, idempotencyKey: `file:${claim.id}`,
      version, versionStated: false,
    })
    const raw = createReadStream(claim.path, { highWaterMark: 1024 * 1024 })
    try {
      if (!isGzip) return await push.run(raw, size)
      const gunzip = createGunzip()
      raw.on('error', (err) => gunzip.destroy(err))
      return await push.run(raw.pipe(gunzip), NaN)
    } finally {
      raw.destroy()
      push.release()
    }
  }

  async #pause(ms: number): Promise<void> {
    const { signal } = this.#stopping
    await new Promise<void>((done) => {
      const timer = setTimeout(done, ms)
      signal.addEventListener('abort', () => {
        clearTimeout(timer)
        done()
      }, { once: true })
    })
  }

  /** Moves the file to done/ or failed/ beside a JSON file; a name that is taken there gets a number. */
  async #moveTo(to: 'done' | 'failed', claim: Claim, name: string, kind: string, content: unknown): Promise<void> {
    const target = join(this.#options.folder, to, name)
    await mkdir(dirname(target), { recursive: true })
    for (let n = 1; ; n++) {
      const path = numbered(target, n)
      if (await access(path).then(() => true, () => false)) continue
      // Whole or not at all: somebody may be waiting to read it.
      const half = `${path}.${kind}.json.${process.pid}.part`
      await writeFile(half, `${JSON.stringify(content, null, 2)}\n`)
      try {
        await link(half, `${path}.${kind}.json`)
      } catch (err) {
        if ((err as NodeJS.ErrnoException).code === 'EEXIST') continue
        throw err
      } finally {
        await rm(half, { force: true })
      }
      await rename(claim.path, path)
      return
    }
  }
}

/** No memory for it, or no database: to be tried again. */
function isTransient(err: unknown): boolean {
  if (err instanceof ApiError) return err.status === 429 || err.status === 503 || err.code === 'idempotency-key-in-use'
  return isUnavailable(err)
}

function reasonOf(err: unknown): Record<string, unknown> {
  if (err instanceof ApiError) {
    const { cause: _cause, ...extra } = err.extra
    return { code: err.code, message: err.message, ...extra }
  }
  const { code = '' } = err as NodeJS.ErrnoException
  if (code.startsWith('Z_')) return { code: 'malformed-gzip', message: 'The file is not whole gzip data.' }
  if (code === 'EACCES' || code === 'EPERM') return { code: 'file-unreadable', message: 'The file cannot be read.', help: 'Give the user of Meterline the right to read it.' }
  return { code: 'internal-error', message: 'The file could not be settled.' }
}

/** Every file under a folder, links themselves and not what they point at. */
async function filesUnder(folder: string): Promise<Map<string, { size: number; mtimeMs: number }>> {
  const files = new Map<string, { size: number; mtimeMs: number }>()
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isDirectory()) continue
    const path = join(entry.parentPath, entry.name)
    try {
      const { size, mtimeMs } = await lstat(path)
      files.set(path, { size, mtimeMs })
    } catch (err) {
      // Taken by another process since.
      if ((err as NodeJS.ErrnoException).code !== 'ENOENT') throw err
    }
  }
  return files
}

/** Removes a folder and the folders in it where no file is left. */
async function removeEmpty(folder: string): Promise<void> {
  try {
    if ((await filesUnder(folder)).size === 0) await rm(folder, { recursive: true, force: true })
  } catch {
    // Gone already.
  }
}
