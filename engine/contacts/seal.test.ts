import { describe, expect, it } from 'vitest'
import { createSealer } from './seal.js'

const sealer = createSealer({ secretKey: new Uint8Array(32).fill(1) })
const other = createSealer({ secretKey: new Uint8Array(32).fill(2) })

describe('a sealed text', () => {
  it('opens for its purpose, row and key alone', () => {
    const sealed = sealer.seal('address', 'c1', 'jo@example.com')
    expect(sealer.open('address', 'c1', sealed)).toBe('jo@example.com')
    expect(() => sealer.open('message', 'c1', sealed)).toThrow()
    expect(() => sealer.open('address', 'c2', sealed)).toThrow()
    expect(() => other.open('address', 'c1', sealed)).toThrow()
    expect(() => sealer.open('address', 'c1', Buffer.alloc(0))).toThrow('not a sealed text')
  })

  it('differs each time, does not show its text, and cannot be changed', () => {
    const sealed = sealer.seal('message', 'm1', 'secret')
    expect(sealed.equals(sealer.seal('message', 'm1', 'secret'))).toBe(false)
    expect(sealed.includes('secret')).toBe(false)
    for (let i = 0; i < sealed.length; i++) {
      const changed = Buffer.from(sealed)
      changed[i] ^= 1
      expect(() => sealer.open('message', 'm1', changed)).toThrow()
    }
  })
})

describe('the hash of an address', () => {
  it('is the same for the same mailbox, and differs by utility, channel and key', () => {
    const hash = sealer.hashAddress(1, 'email', 'Jo@example.com')
    expect(hash.equals(sealer.hashAddress(1, 'email', 'jo@EXAMPLE.com'))).toBe(true)
    expect(hash.equals(sealer.hashAddress(2, 'email', 'jo@example.com'))).toBe(false)
    expect(hash.equals(sealer.hashAddress(1, 'sms', 'jo@example.com'))).toBe(false)
    expect(hash.equals(other.hashAddress(1, 'email', 'jo@example.com'))).toBe(false)
  })
})

it('a short secret is refused', () => {
  expect(() => createSealer({ secretKey: new Uint8Array(16) })).toThrow(RangeError)
})
