import { spawn, type ChildProcess } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { packageRoot } from '../../engine/package-root.js'

/** One line of the program's log. */
export interface LogLine {
  level: number
  msg: string
  [member: string]: unknown
}

/** A `meterline serve` in a process of its own: the built program, as an operator runs it. */
export interface EngineProcess {
  readonly child: ChildProcess
  readonly pid: number
  readonly url: string
  readonly log: LogLine[]
  /** What it wrote that is no log line. */
  readonly said: string[]
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  kill(signal: NodeJS.Signals): void
}

/** A folder for METERLINE_DIR that the embedded database's user can pass through. */
export function engineFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'meterline-faults-'))
  chmodSync(dir, 0o755)
  return dir
}

/** The operator key that the first start left in the folder. */
export function operatorKey(dir: string): string {
  return readFileSync(join(dir, 'operator-key'), 'utf8').trim()
}

/** Process id of the embedded server on that folder; undefined where none is noted. Never 0, which means a whole group. */
export function postmasterOf(dir: string): number | undefined {
  const file = join(dir, 'pgdata', 'postmaster.pid')
  if (!existsSync(file)) return undefined
  const pid = Number(readFileSync(file, 'utf8').split('\n')[0])
  return pid > 0 ? pid : undefined
}

/** True while a process of that id lives. */
export function lives(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

/** Waits for a condition. @throws Error when it does not come true in time */
export async function until(what: string, holds: () => boolean | Promise<boolean>, waitMs = 30_000): Promise<void> {
  for (const began = Date.now(); !await holds();) {
    if (Date.now() - began > waitMs) throw new Error(`not so after ${waitMs} ms: ${what}`)
    await delay(25)
  }
}

/** Starts `meterline serve` on a port of its own choice. Nothing of this process's settings reaches it. */
export function spawnEngine(dir: string, env: Record<string, string>, args: readonly string[] = []): EngineProcess & { ready: Promise<void> } {
  const child = spawn(process.execPath, [join(packageRoot(), 'dist/meterline.js'), 'serve', ...args], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, METERLINE_DIR: dir, PORT: '0', UTILITY_ZONE: 'Etc/UTC', WORKERS: '2', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const log: LogLine[] = []
  const said: string[] = []
  let url = ''
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((done) => {
    child.once('close', (code, signal) => done({ code, signal }))
  })
  const ready = new Promise<void>((done, fail) => {
    createInterface(child.stderr).on('line', (text) => {
      const line = parse(text)
      if (line === undefined) said.push(text)
      else log.push(line)
      if (line?.msg !== 'serving') return
      url = String(line.url)
      done()
    })
    void exited.then(({ code, signal }) => fail(new Error(`it ended with ${code ?? signal} before it served: ${said.join('\n')}`)))
  })
  ready.catch(() => undefined)
  createInterface(child.stdout).on('line', (text) => said.push(text))
  if (child.pid === undefined) throw new Error('the program cannot be started')
  return { child, pid: child.pid, get url() { return url }, log, said, exited, ready, kill: (signal) => void child.kill(signal) }
}

/** Starts `meterline serve` and waits until it serves. */
export async function startEngine(dir: string, env: Record<string, string>, args: readonly string[] = []): Promise<EngineProcess> {
  const engine = spawnEngine(dir, env, args)
  await engine.ready
  return engine
}

/** Ends what a test has left running on the folder, and removes the folder. */
export async function cleanUp(dir: string, engines: readonly EngineProcess[]): Promise<void> {
  for (const engine of engines) engine.kill('SIGKILL')
  await Promise.all(engines.map((engine) => engine.exited))
  const postmaster = postmasterOf(dir)
  if (postmaster !== undefined && lives(postmaster)) {
    process.kill(postmaster, 'SIGQUIT')
    await until('the embedded server has ended', () => !lives(postmaster))
  }
  rmSync(dir, { recursive: true, force: true })
}

function parse(text: string): LogLine | undefined {
  try {
    return JSON.parse(text) as LogLine
  } catch {
    return undefined
  }
}
