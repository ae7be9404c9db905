import fc from 'fast-check'
import type { Message } from 'node-rdkafka'
import { describe, expect, it } from 'vitest'
import { Gatherer, hold, keyOf, valueOf } from './kafka-held.js'

const bytes = (): fc.Arbitrary<Buffer> => fc.uint8Array({ maxLength: 12 }).map((b) => Buffer.from(b))
const message = (): fc.Arbitrary<Message> => fc.record({
  topic: fc.constant('t'), partition: fc.integer({ min: 0, max: 2 }), offset: fc.nat(), timestamp: fc.nat(), value: fc.option(bytes()),
  key: fc.oneof(fc.constant(null), fc.constant(undefined), fc.string(), bytes()),
  headers: fc.option(fc.array(fc.dictionary(fc.constantFrom('a', 'b'), bytes(), { maxKeys: 2 }), { maxLength: 2 }), { nil: undefined }),
}).map((m) => ({ ...m, size: m.value?.length ?? 0 }))

describe('messages that are held', () => {
  it('say what they said', () => {
    fc.assert(fc.property(fc.array(message()), (messages) => {
      const held = hold(messages)
      expect(held.map((h) => [h.partition, h.offset, h.timestamp])).toEqual(messages.map((m) => [m.partition, m.offset, m.timestamp]))
      expect(held.map((h) => valueOf(h)?.toString('hex'))).toEqual(messages.map((m) => m.value?.toString('hex')))
      expect(held.map((h) => keyOf(h)?.toString('hex'))).toEqual(messages.map((m) => m.key === null || m.key === undefined ? undefined : Buffer.from(m.key as string).toString('hex')))
      expect(held.map((h) => h.headers)).toEqual(messages.map((m) => m.headers ?? []))
      // Equal headers that follow each other are one object, and cost more than their bytes.
      held.forEach((h, i) => {
        if (i > 0 && JSON.stringify(messages[i - 1].headers ?? []) === JSON.stringify(messages[i].headers ?? [])) expect(h.headers).toBe(held[i - 1].headers)
        expect(h.cost).toBeGreaterThan(2 * h.bytes.subarray(Math.max(0, h.from), Math.max(0, h.to)).length)
      })
    }))
  })

  it('are gathered in their order, of whichever buffers they stand in', () => {
    fc.assert(fc.property(fc.array(message()), fc.array(fc.nat({ max: 5 })), (messages, picks) => {
      const held = hold(messages)
      const values = [...held, ...picks.flatMap((i) => held[i] ?? [])].filter((h) => h.from >= 0)
      const expected = Buffer.concat(values.map((h) => valueOf(h)!))
      const target = Buffer.alloc(expected.length)
      const gatherer = new Gatherer(target)
      for (const h of values) gatherer.add(h.bytes, h.from, h.to)
      gatherer.finish()
      expect(target).toEqual(expected)
    }))
  })
})
