import { expect } from 'vitest'

export interface Answer<T> {
  status: number
  headers: Headers
  body: T
}

/** What a test of the whole engine calls its HTTP server with; `url` is asked anew, for the engine may have been restarted. */
export interface HttpClient {
  call: <T>(key: string, method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<Answer<T>>
  /** A call that must succeed. */
  ok: <T>(key: string, method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<T>
}

/** Calls over real sockets; a body that is not text or bytes goes as JSON. */
export function httpClient(url: () => string): HttpClient {
  const call: HttpClient['call'] = async <T>(
    key: string, method: string, path: string, body?: unknown, headers: Record<string, string> = {},
  ): Promise<Answer<T>> => {
    const sent = typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body)
    const response = await fetch(url() + path, {
      method,
      headers: { authorization: `Bearer ${key}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      body: body === undefined ? undefined : sent,
    })
    const text = await response.text()
    return { status: response.status, headers: response.headers, body: (text === '' ? undefined : JSON.parse(text)) as T }
  }
  return {
    call,
    async ok<T>(key: string, method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<T> {
      const answer = await call<T>(key, method, path, body, headers)
      expect(answer.status, `${method} ${path}: ${JSON.stringify(answer.body)}`).toBeLessThan(300)
      return answer.body
    },
  }
}
