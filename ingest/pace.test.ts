import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { keepPace, LEAST_PACE } from './pace.js'

interface Run { bytes: number; slow: number; error?: unknown; closed: boolean }

/** Runs a body of [milliseconds before the chunk, its size] at that pace. */
async function run(chunks: readonly [number, number][], options: { windowMs: number; end?: boolean; consumeMs?: number }): Promise<Run> {
  const result: Run = { bytes: 0, slow: 0, closed: false }
  async function* body(): AsyncGenerator<Buffer> {
    try {
      for (const [ms, size] of chunks) {
        if (ms > 0) await delay(ms)
        yield Buffer.alloc(size)
      }
      if (options.end === false) await new Promise(() => undefined)
    } finally {
      result.closed = true
    }
  }
  const paced = keepPace(body(), { windowMs: options.windowMs, onSlow: () => { result.slow++ }, tooSlow: () => new Error('too slow') })
  try {
    for await (const chunk of paced) {
      result.bytes += chunk.length
      if (options.consumeMs !== undefined) await delay(options.consumeMs)
    }
  } catch (err) {
    result.error = err
  }
  return result
}

test('a fast sender is passed through, and is not slow', async () => {
  expect(await run(Array.from({ length: 500 }, () => [0, 1000]), { windowMs: 60_000 })).toEqual({ bytes: 500_000, slow: 0, closed: true })
})

test('a sender that is waited for counts as slow once, and goes on while it brings enough in every window', async () => {
  const steady = Array.from({ length: 12 }, (): [number, number] => [40, LEAST_PACE])
  expect(await run(steady, { windowMs: 120 })).toEqual({ bytes: 12 * LEAST_PACE, slow: 1, closed: true })
})

test('a trickle ends with the error, and so does silence', async () => {
  const trickle = await run(Array.from({ length: 100 }, () => [10, 10]), { windowMs: 200 })
  expect(trickle).toMatchObject({ slow: 1, error: new Error('too slow') })
  expect(trickle.bytes).toBeLessThan(1000)
  expect(await run([[0, 5]], { windowMs: 100, end: false })).toMatchObject({ bytes: 5, error: new Error('too slow') })
})

test('the end of a short body needs no pace, and the consumer may take its time', async () => {
  expect(await run([[150, 7]], { windowMs: 400 })).toEqual({ bytes: 7, slow: 1, closed: true })
  expect(await run([[0, 7], [0, 7], [0, 7]], { windowMs: 100, consumeMs: 120 })).toMatchObject({ bytes: 21, closed: true })
})

test('a consumer that stops closes the body', async () => {
  let closed = false
  async function* body(): AsyncGenerator<Buffer> {
    try {
      for (;;) yield await Promise.resolve(Buffer.alloc(1))
    } finally {
      closed = true
    }
  }
  for await (const chunk of keepPace(body(), { windowMs: 60_000, onSlow: () => undefined, tooSlow: () => new Error() })) {
    if (chunk.length === 1) break
  }
  expect(closed).toBe(true)
})
