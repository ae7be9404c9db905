import { createReadStream } from 'node:fs'
import { readFile, readdir, stat } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { SingleBar } from 'cli-progress'
import { Registry } from 'prom-client'
import { findUtility } from '../engine/utilities.js'
import type { Settings } from '../engine/config.js'
import type { Receipt } from '../engine/receipt.js'
import { uuidv7 } from '../engine/uuid.js'
import { Push } from '../ingest/push.js'
import { remoteServer, type Client } from './client.js'
import { messageOf } from './message.js'
import { DEFAULT_UTILITY, openDatabase, openLog, startIngest } from './runtime.js'

export interface LoadOptions {
  utility: string | null
  source: string | null
  format: string | null
  mapping: string | null
  zone: string | null
  /** Meter of files that name none. */
  meter: string | null
  history: boolean
  json: boolean
}

/** Where a file's reads go: a running server, or the database of the settings. */
interface Target {
  push: (file: InputFile, body: Readable) => Promise<Receipt>
  close: () => Promise<void>
}

interface InputFile {
  /** As it was named; `-` is standard input. */
  path: string
  /** Bytes on disk; 0 where unknown. */
  size: number
}

/** Exit codes of `meterline load` (contract §1). */
export const EXIT = { settled: 0, failed: 1, partly: 2 } as const

/**
 * Loads files or folders. Prints one receipt per file: a table of counts, or with `json` one JSON line each.
 * @returns the exit code: 0 all settled, 2 something quarantined or rejected, 1 a file failed
 */
export async function load(settings: Settings, paths: readonly string[], given: LoadOptions): Promise<number> {
  const files = (await Promise.all(paths.map(filesOf))).flat()
  if (files.length === 0) throw new Error('there is no file to load')
  const options = { ...given, mapping: given.mapping === null ? null : await mappingOf(given.mapping) }
  const client = remoteServer(settings)
  const target = client === null ? await localTarget(settings, options) : remoteTarget(client, options)
  let code: number = EXIT.settled
  try {
    for (const file of files) {
      const bar = progress(file)
      try {
        const receipt = await target.push(file, open(file, (bytes) => bar?.increment(bytes)))
        bar?.stop()
        process.stdout.write(options.json ? `${JSON.stringify({ file: file.path, ...receipt })}\n` : describe(file, receipt))
        if (code === EXIT.settled && receipt.quarantined + receipt.rejected > 0) code = EXIT.partly
      } catch (err) {
        bar?.stop()
        code = EXIT.failed
        process.stderr.write(`${file.path}: ${messageOf(err)}\n`)
      }
    }
  } finally {
    await target.close()
  }
  return code
}

async function filesOf(path: string): Promise<InputFile[]> {
  if (path === '-') return [{ path, size: 0 }]
  const info = await stat(path).catch((err: NodeJS.ErrnoException) => {
    throw err.code === 'ENOENT' ? new Error(`${path}: there is no such file or folder`, { cause: err }) : err
  })
  if (!info.isDirectory()) return [{ path, size: info.size }]
  const names = (await readdir(path)).filter((n) => !n.startsWith('.')).sort()
  return (await Promise.all(names.map((n) => filesOf(join(path, n))))).flat()
}

/** A shipped mapping goes by its name; anything that ends in .json is a file with one of the user's own. */
async function mappingOf(given: string): Promise<string> {
  if (!given.endsWith('.json')) return given
  return readFile(given, 'utf8').catch((err: NodeJS.ErrnoException) => {
    throw err.code === 'ENOENT' ? new Error(`${given}: there is no such mapping file`, { cause: err }) : err
  })
}

function open(file: InputFile, onBytes: (n: number) => void): Readable {
  const raw: Readable = file.path === '-' ? process.stdin : createReadStream(file.path, { highWaterMark: 1024 * 1024 })
  raw.on('data', (chunk: Buffer) => onBytes(chunk.length))
  if (extname(file.path) !== '.gz') return raw
  const gunzip = createGunzip()
  raw.on('error', (err) => gunzip.destroy(err))
  return raw.pipe(gunzip)
}

function progress(file: InputFile): SingleBar | null {
  if (!process.stderr.isTTY || file.size === 0) return null
  const bar = new SingleBar({
    format: `${basename(file.path)} {bar} {percentage}% {eta_formatted}`, stream: process.stderr, hideCursor: true })
  bar.start(file.size, 0)
  return bar
}

function fileName(file: InputFile): string | null {
  return file.path === '-' ? null : basename(file.path).replace(/\.gz$/, '')
}

function remoteTarget(client: Client, options: LoadOptions): Target {
  return {
    push: (file, body) => {
      const query = new URLSearchParams()
      if (options.format !== null) query.set('format', options.format)
      if (options.mapping !== null) query.set('mapping', options.mapping)
      if (options.zone !== null) query.set('zone', options.zone)
      if (options.meter !== null) query.set('meter', options.meter)
      const name = fileName(file)
      if (name !== null) query.set('name', name)
      return client.send<Receipt>('POST', `/v1/reads?${query.toString()}`, body, {
        'content-type': 'application/octet-stream',
        ...(options.source === null ? {} : { 'x-source': options.source }),
        ...(options.history ? { 'x-purpose': 'history' } : {}),
      })
    },
    close: () => {
      client.close()
      return Promise.resolve()
    },
  }
}

async function localTarget(settings: Settings, options: LoadOptions): Promise<Target> {
  const log = openLog({ logLevel: 'warn' })
  const database = await openDatabase(settings, log)
  const ingest = startIngest(settings, database, log, new Registry(), () => undefined)
  const close = async (): Promise<void> => {
    await ingest.pool.close()
    await database.close()
  }
  const id = options.utility ?? DEFAULT_UTILITY
  const utility = await findUtility(database.pool, id)
  if (utility === undefined) {
    await close()
    throw new Error(`there is no utility ${id}`)
  }
  return {
    close,
    push: async (file, body) => {
      const push = new Push({ pool: ingest.pool, metrics: ingest.metrics, ...ingest.limits }, utility.utilityId, {
        deliveryId: uuidv7(Date.now()), source: options.source ?? 'load', door: 'load', contentType: null, format: options.format,
        fileName: fileName(file), mapping: options.mapping, zone: options.zone, meter: options.meter,
        history: options.history, idempotencyKey: null, version: ingest.versions.next(), versionStated: false,
      })
      try {
        return await push.run(body, extname(file.path) === '.gz' || file.size === 0 ? NaN : file.size)
      } finally {
        push.release()
      }
    },
  }
}

function describe(file: InputFile, r: Receipt): string {
  const count = (n: number): string => n.toLocaleString('en-US')
  const lines = [
    `${file.path}: ${count(r.received)} reads received`,
    `  stored ${count(r.stored)} · duplicate ${count(r.duplicate)} · corrected ${count(r.corrected)} · outranked ${count(r.outranked)}`
      + ` · quarantined ${count(r.quarantined)} · rejected ${count(r.rejected)}`,
    `  delivery ${r.delivery}${r.from === null ? '' : `, ${r.from} to ${r.to}`}`,
    ...(r.alerts.raised + r.alerts.retracted > 0 ? [`  alerts raised ${r.alerts.raised}, retracted ${r.alerts.retracted}`] : []),
    ...r.problems.slice(0, 5).map((p) => `  ${p.at}: ${p.message} (${p.code})${p.help === undefined ? '' : `; ${p.help}`}`),
    ...(r.problemCount > 5 ? [`  … and ${count(r.problemCount - 5)} more problems`] : []),
  ]
  return `${lines.join('\n')}\n`
}
