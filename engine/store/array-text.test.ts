import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { MISSING } from '../read-batch.js'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { arrayParsers, int2Array, int4Array, int8Array } from './array-text.js'

let db: TestDatabase
beforeAll(async () => {
  db = await testDatabase()
})
afterAll(() => db.close())

it('reads what PostgreSQL writes, missing elements and extremes included', async () => {
  const int4 = fc.array(fc.option(fc.integer({ min: -2147483647, max: 2147483647 })))
  await fc.assert(fc.asyncProperty(int4, fc.array(fc.integer({ min: -32768, max: 32767 })), fc.array(fc.maxSafeNat()),
    async (a, b, c) => {
      const { rows } = await db.pool.query<{ a: Int32Array; b: Int16Array; c: Float64Array }>({
        text: 'select $1::int4[] as a, $2::int2[] as b, $3::int8[] as c', values: [a, b, c], types: arrayParsers })
      expect([...rows[0].a]).toEqual(a.map((v) => v ?? MISSING))
      expect([...rows[0].b]).toEqual(b)
      expect([...rows[0].c]).toEqual(c)
    }), { numRuns: 50 })
})

it('an empty array has no elements', () => {
  expect(int4Array('{}').length).toBe(0)
  expect(int2Array('{}').length).toBe(0)
  expect(int8Array('{0}').length).toBe(1)
})
