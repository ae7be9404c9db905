import fc from 'fast-check'
import type { Message } from 'node-rdkafka'
import { describe, expect, it } from 'vitest'
import { hold } from './kafka-held.js'

const bytes = (): fc.Arbitrary<Buffer> => fc.uint8Array({ maxLength: 12 }).map((b) => Buffer.from(b))
const message = (): fc.Arbitrary<Message> => fc.record({
  topic: fc.constant('t'), partition: fc.integer({ min: 0, max: 2 }), offset: fc.nat(), timestamp: fc.nat(), value: fc.option(bytes()),
  key: fc.oneof(fc.constant(null), fc.constant(undefined), fc.string(), bytes()),
  headers: fc.option(fc.array(fc.dictionary(fc.constantFrom('a', 'b'), bytes(), { maxKeys: 2 }), { maxLength: 2 }), { nil: undefined }),
}).map((m) => ({ ...m, size: m.value?.length ?? 0 }))

describe('messages that are held', () => {
  it('say what they said, in their partition\'s order', () => {
    fc.assert(fc.property(fc.array(message()), (messages) => {
      const runs = hold(messages)
      for (const partition of [0, 1, 2]) {
        const here = runs.filter((r) => r.partition === partition)
        const held = here.flatMap((r) => Array.from({ length: r.count }, (_, i) => ({
          offset: r.offsetAt(i), timestamp: r.timestampAt(i), value: r.valueAt(i)?.toString('hex'), key: r.keyAt(i)?.toString('hex'), headers: r.headers,
          has: [r.hasValue(i), r.hasKey(i)],
        })))
        const sent = messages.filter((m) => m.partition === partition)
        expect(held).toEqual(sent.map((m) => ({
          offset: m.offset, timestamp: m.timestamp, value: m.value?.toString('hex'),
          key: m.key === null || m.key === undefined ? undefined : Buffer.from(m.key as string).toString('hex'), headers: m.headers ?? [],
          has: [m.value !== null, m.key !== null && m.key !== undefined],
        })))
        // A run ends where other headers begin, or an offset that is not greater.
        const joins = sent.slice(1).filter((m, i) => m.offset > sent[i].offset && JSON.stringify(m.headers ?? []) === JSON.stringify(sent[i].headers ?? []))
        expect(here.length).toBe(sent.length - joins.length)
      }
    }))
  })

  it('are cut into parts that cost what they hold, and more than it', () => {
    fc.assert(fc.property(fc.array(message()), fc.nat({ max: 5 }), fc.nat({ max: 5 }), (messages, from, length) => {
      for (const run of hold(messages)) {
        expect([run.first, run.next]).toEqual([run.offsetAt(0), run.offsetAt(run.count - 1) + 1])
        const to = Math.min(run.count, from + length)
        if (from >= to) continue
        const part = run.part(from, to)
        const at = Array.from({ length: to - from }, (_, i) => i)
        expect([part.count, part.first, part.headers]).toEqual([to - from, run.offsetAt(from), run.headers])
        expect(at.map((i) => part.valueAt(i))).toEqual(at.map((i) => run.valueAt(from + i)))
        expect(part.values).toEqual(Buffer.concat(at.map((i) => part.valueAt(i) ?? Buffer.alloc(0))))
        expect(part.keys).toEqual(Buffer.concat(at.map((i) => part.keyAt(i) ?? Buffer.alloc(0))))
        expect(at.map((i) => part.values.subarray(0, part.valueEnd(i)))).toEqual(
          at.map((i) => Buffer.concat(at.slice(0, i + 1).map((k) => part.valueAt(k) ?? Buffer.alloc(0)))))
        expect(part.keyEnd(part.count - 1)).toBe(part.keys.length)
        expect(part.costOf(part.count)).toBeGreaterThan(2 * (part.values.length + part.keys.length))
        expect(run.costOf(from) + part.costOf(part.count)).toBe(run.costOf(to))
      }
    }))
  })
})
