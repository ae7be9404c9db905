import { expect, it } from 'vitest'
import { acceptedMsOf } from './store/deliveries.js'
import { uuidv7 } from './uuid.js'

it('ids ascend, also within a millisecond, past its counter, and when the clock steps back', () => {
  const now = Date.parse('2026-10-05T05:00:00Z')
  const ids = [...Array.from({ length: 10_000 }, () => uuidv7(now)), uuidv7(now - 5000), uuidv7(now + 1000)]
  expect([...ids].sort()).toEqual(ids)
  expect(new Set(ids).size).toBe(ids.length)
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  expect(acceptedMsOf(ids[0])).toBe(now)
  expect(acceptedMsOf(ids.at(-1)!)).toBe(now + 1000)
})
