import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { Readable } from 'node:stream'
import type { Settings } from '../engine/config.js'

/** A server's refusal, as its problem document has it. */
export class ServerError extends Error {
  readonly status: number
  readonly problem: Record<string, unknown>

  constructor(status: number, problem: Record<string, unknown>) {
    const detail = typeof problem.detail === 'string' ? problem.detail : `the server answered ${status}`
    const help = typeof problem.help === 'string' ? ` ${problem.help}` : ''
    super(`${detail}${help}`)
    this.name = 'ServerError'
    this.status = status
    this.problem = problem
  }
}

/** Calls of a running Meterline with an API key. */
export class Client {
  readonly #url: string
  readonly #key: string
  readonly #agent = new Agent({ keepAlive: true })

  constructor(url: string, key: string) {
    this.#url = url.replace(/\/$/, '')
    this.#key = key
  }

  /** Sends JSON (or nothing) and gives the answer's JSON. @throws ServerError */
  async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    return this.send<T>(method, path, body === undefined ? undefined : Buffer.from(JSON.stringify(body)),
      body === undefined ? {} : { 'content-type': 'application/json' })
  }

  /** Sends bytes as they are, or as they come. @throws ServerError */
  async send<T>(method: string, path: string, body: Buffer | Readable | undefined, headers: Record<string, string>): Promise<T> {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const secure = this.#url.startsWith('https:')
      const req = (secure ? httpsRequest : httpRequest)(`${this.#url}${path}`, {
        method, ...(secure ? {} : { agent: this.#agent }),
        headers: {
          authorization: `Bearer ${this.#key}`, ...headers,
          ...(Buffer.isBuffer(body) ? { 'content-length': String(body.length) } : {}) },
      }, resolve)
      req.on('error', (err) => reject(this.#unreached(err)))
      if (body === undefined) req.end()
      else if (Buffer.isBuffer(body)) req.end(body)
      else body.on('error', reject).pipe(req)
    })
    const chunks: Buffer[] = []
    for await (const chunk of response) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString('utf8')
    const status = response.statusCode ?? 0
    const value = text === '' ? {} : JSON.parse(text) as T
    if (status >= 400) throw new ServerError(status, value as Record<string, unknown>)
    return value as T
  }

  close(): void {
    this.#agent.destroy()
  }

  #unreached(err: NodeJS.ErrnoException): Error {
    return err.code === 'ECONNREFUSED' || err.code === 'ENOTFOUND'
      ? new Error(`no server answers at ${this.#url}: start \`meterline serve\`, or leave --url and METERLINE_URL out to work on the database`, { cause: err })
      : err
  }
}

/**
 * The running server that METERLINE_URL and METERLINE_KEY (or --url and --key) name; null: the command works on the database.
 * @throws Error when only one of the two is given: the command would work on something else than was meant
 */
export function remoteServer({ meterlineUrl, meterlineKey }: Pick<Settings, 'meterlineUrl' | 'meterlineKey'>): Client | null {
  if (meterlineUrl === null && meterlineKey === null) return null
  if (meterlineUrl === null) throw new Error('--key (METERLINE_KEY) needs --url (METERLINE_URL), the server that it is for')
  if (meterlineKey === null) throw new Error('--url (METERLINE_URL) needs --key (METERLINE_KEY), a key of that server')
  return new Client(meterlineUrl, meterlineKey)
}
