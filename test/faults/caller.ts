import { Agent, request, type IncomingHttpHeaders } from 'node:http'

export interface Answer {
  status: number
  headers: IncomingHttpHeaders
  /** The JSON of the answer; the text where it is none. */
  body: Record<string, unknown>
  text: string
}

/** A client with one kept-alive connection per call under way. */
export class Caller {
  readonly #url: () => string
  readonly #key: string
  readonly #agent = new Agent({ keepAlive: true })

  constructor(url: string | (() => string), key: string) {
    this.#url = typeof url === 'string' ? () => url : url
    this.#key = key
  }

  /** One call. @throws what the connection throws */
  call(method: string, path: string, body?: Buffer | string, headers: Record<string, string> = {}): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const bytes = typeof body === 'string' ? Buffer.from(body) : body
      const req = request(`${this.#url()}${path}`, {
        method, agent: this.#agent,
        headers: {
          authorization: `Bearer ${this.#key}`,
          ...(bytes === undefined || 'transfer-encoding' in headers ? {} : { 'content-length': String(bytes.length) }), ...headers,
        },
      }, (res) => {
        const chunks: Buffer[] = []
        res.on('data', (chunk: Buffer) => chunks.push(chunk))
        res.on('error', reject)
        res.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8')
          resolve({ status: res.statusCode ?? 0, headers: res.headers, body: parse(text), text })
        })
      })
      req.on('error', reject)
      req.end(bytes)
    })
  }

  /** One push; JSON where the headers do not say otherwise. */
  push(body: Buffer | string | object, headers: Record<string, string> = {}, query = ''): Promise<Answer> {
    const bytes = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body)
    return this.call('POST', `/v1/reads${query}`, bytes, { 'content-type': 'application/json', ...headers })
  }

  /** Sends JSON, or nothing. @throws Error for any answer but 2xx */
  async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await this.call(method, path, body === undefined ? undefined : JSON.stringify(body),
      body === undefined ? {} : { 'content-type': 'application/json' })
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`)
    return answer.body as T
  }

  /** A counter or gauge of /metrics; 0 where it is not there. @param name with its labels, as it is written */
  async metric(name: string): Promise<number> {
    const { text } = await this.call('GET', '/metrics')
    const line = text.split('\n').find((l) => l.startsWith(`${name} `))
    return line === undefined ? 0 : Number(line.slice(name.length + 1))
  }

  close(): void {
    this.#agent.destroy()
  }
}

function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return {}
  }
}

/** The counts of a receipt that received is the sum of. */
export const OUTCOMES = ['stored', 'duplicate', 'corrected', 'outranked', 'quarantined', 'rejected'] as const

/** The counts of a receipt. */
export function countsOf(body: Record<string, unknown>): Record<string, number> {
  return Object.fromEntries(['received', ...OUTCOMES].map((name) => [name, Number(body[name])]))
}
