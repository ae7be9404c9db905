import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const PROGRAM = fileURLToPath(new URL('../dist/meterline.js', import.meta.url))

export interface Outcome {
  code: number | null
  stdout: string
  stderr: string
}

/** The built program on a folder of its own, as a user runs it. */
export class CommandLine {
  /** METERLINE_DIR; removed by close(). */
  readonly dir: string
  readonly #env: Record<string, string | undefined>
  readonly #servers: ChildProcess[] = []

  constructor(settings: Record<string, string> = {}) {
    if (!existsSync(PROGRAM)) throw new Error('the program is not built: run npm run build')
    this.dir = mkdtempSync(join(tmpdir(), 'meterline-cli-'))
    const { PATH, HOME } = process.env
    // Nothing of the caller's own settings reaches the program.
    this.#env = { PATH, HOME, METERLINE_DIR: this.dir, PORT: '0', LOG_LEVEL: 'info', ...settings }
  }

  /** Runs a command to its end. @param options text for standard input, settings beside the program's own */
  async run(args: readonly string[], options: { input?: string | Buffer; settings?: Record<string, string> } = {}): Promise<Outcome> {
    const child = spawn(process.execPath, [PROGRAM, ...args], { env: { ...this.#env, ...options.settings }, stdio: 'pipe' })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    child.stdin.on('error', () => undefined).end(options.input ?? '')
    const code = await new Promise<number | null>((done) => child.once('close', done))
    return { code, stdout, stderr }
  }

  /** Starts `meterline serve` and waits until it listens. @returns its base URL */
  async serve(settings: Record<string, string> = {}): Promise<string> {
    const child = spawn(process.execPath, [PROGRAM, 'serve'], { env: { ...this.#env, ...settings }, stdio: ['ignore', 'ignore', 'pipe'] })
    this.#servers.push(child)
    let said = ''
    return new Promise<string>((resolve, reject) => {
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        said += text
        const url = /"url":"(http[^"]+)"/.exec(said)?.[1]
        if (url !== undefined) resolve(url)
      })
      child.once('close', (code) => reject(new Error(`serve ended with ${code}: ${said}`)))
    })
  }

  /** The operator key that the first start made. */
  operatorKey(): string {
    return readFileSync(join(this.dir, 'operator-key'), 'utf8').trim()
  }

  /** Stops the servers as Ctrl-C does. */
  async stopServers(): Promise<void> {
    await Promise.all(this.#servers.splice(0).map((child) => new Promise<void>((done) => {
      if (child.exitCode !== null || child.signalCode !== null) return done()
      child.once('close', () => done())
      child.kill('SIGINT')
    })))
  }

  /** Stops the servers, and removes the folder. */
  async close(): Promise<void> {
    await this.stopServers()
    rmSync(this.dir, { recursive: true, force: true })
  }
}

/** GETs JSON of a server that answers 200. */
export async function getJson<T>(url: string, key: string, path: string): Promise<T> {
  const answer = await fetch(`${url}${path}`, { headers: { authorization: `Bearer ${key}` } })
  const text = await answer.text()
  if (answer.status !== 200) throw new Error(`GET ${path} answered ${answer.status}: ${text}`)
  return JSON.parse(text) as T
}
