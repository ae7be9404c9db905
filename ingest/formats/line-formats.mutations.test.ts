import { readdirSync, readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, it } from 'vitest'
import { getZone } from '../../engine/time/zone.js'
import { checkDecoding, mutate, randomOf } from '../../fixtures/mutations.js'
import { cmep } from './cmep.js'
import { nem12 } from './nem12.js'
import type { DecodeContext, Format } from './format.js'

const folder = new URL('../../fixtures/formats/', import.meta.url)
const contexts: DecodeContext[] = [
  { zone: null }, { zone: getZone('America/Chicago'), clock: 'local-prevailing' }, { zone: getZone('Australia/Lord_Howe'), clock: 'wall-as-epoch', round: true },
]
const bodies = readdirSync(folder).flatMap((name): [string, Format, Uint8Array][] => {
  const format = name.startsWith('cmep') ? cmep : name.startsWith('nem12') ? nem12 : null
  return format === null ? [] : [[name, format, new Uint8Array(readFileSync(new URL(name, folder)))]]
})

describe('a damaged body', () => {
  it.each(bodies)('like %s is told or read, never a crash, the same in parts as whole', (_, format, body) => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 2 ** 30 }), fc.constantFrom(...contexts), (seed, ctx) => {
      checkDecoding(format, mutate(body, randomOf(seed)), ctx)
    }), { numRuns: 400, examples: [[423395676, contexts[0]]] })
  })
})
