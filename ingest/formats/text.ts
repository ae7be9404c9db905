import { BodyError } from '../../engine/problem.js'

/** Longest record that is read, bytes: a day of 1-minute reads is 10 KB. */
export const MAX_RECORD_BYTES = 8 * 1024 * 1024

/**
 * The bytes as a plain Uint8Array: the loops over them are compiled for one type of array, and a Buffer is another.
 */
export function plainBytes(bytes: Uint8Array): Uint8Array {
  return bytes.constructor === Uint8Array ? bytes : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
}

/**
 * Where the text of a body begins: after its byte order mark.
 *
 * @throws BodyError 400 for UTF-16 and UTF-32
 */
export function textStart(bytes: Uint8Array): number {
  const [a, b, c, d] = bytes
  if (a === 0xef && b === 0xbb && c === 0xbf) return 3
  const wide = (a === 0xff && b === 0xfe) || (a === 0xfe && b === 0xff)
    || (bytes.length >= 4 && isWide(a === 0, b === 0, c === 0, d === 0))
  if (wide) throw new BodyError(400, 'encoding-unsupported', 'The body is UTF-16 or UTF-32.', 'byte 0', 'Send UTF-8.')
  return 0
}

/** Which of the first four bytes are NUL in text of two or four bytes to a letter; a stray NUL byte is none. */
function isWide(a: boolean, b: boolean, c: boolean, d: boolean): boolean {
  return (a !== b && a === c && b === d) || (b && c && a !== d)
}

/** Whether n bytes at a and at b are the same; [a, a + n) and [b, b + n) must lie within the view. */
export function sameBytes(view: DataView, a: number, b: number, n: number): boolean {
  if (n < 4) {
    for (let k = 0; k < n; k++) if (view.getUint8(a + k) !== view.getUint8(b + k)) return false
    return true
  }
  for (let k = 0; k < n - 4; k += 4) if (view.getInt32(a + k) !== view.getInt32(b + k)) return false
  // The last four, of which some have been compared.
  return view.getInt32(a + n - 4) === view.getInt32(b + n - 4)
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
