import { describe, expect, it } from 'vitest'
import { textStart } from './text.js'

describe('the beginning of a text', () => {
  it.each([
    ['utf16le', Buffer.from('{"a"', 'utf16le')], ['utf16be', Buffer.from('{"a"', 'utf16le').swap16()], ['its mark', Buffer.from('\ufeff{', 'utf16le')],
    ['utf32le', Buffer.from([123, 0, 0, 0, 34, 0, 0, 0])], ['utf32be', Buffer.from([0, 0, 0, 123, 0, 0, 0, 34])],
  ])('is refused in %s, whatever the length', (_, bytes) => {
    for (const end of [bytes.length, bytes.length - 1]) {
      if (end >= 4) expect(() => textStart(new Uint8Array(bytes.subarray(0, end)))).toThrow(expect.objectContaining({ code: 'encoding-unsupported' }))
    }
  })

  it('is after the mark of UTF-8, and a stray NUL byte does not make it another encoding', () => {
    expect(textStart(new Uint8Array(Buffer.from('\ufeff{}')))).toBe(3)
    for (const text of ['{\0"meter"', '\0{"m"', '{"m"', 'a', '']) expect(textStart(new Uint8Array(Buffer.from(text)))).toBe(0)
  })
})
