/** Where JSON values begin and end, without parsing them. */

const QUOTE = 34, BACKSLASH = 92

/** First byte at or after p that is no JSON white space. */
export function skipSpace(bytes: Uint8Array, p: number): number {
  let c = bytes[p]
  while (c === 32 || c === 10 || c === 13 || c === 9) c = bytes[++p]
  return p
}

/**
 * End of the value that begins at p, by its brackets and quotes alone: what stands inside may still be no JSON.
 * Runs in a loop, so that nesting costs no stack.
 *
 * @returns -1 where the bytes end before the value does, or where no value begins
 */
export function skipValue(bytes: Uint8Array, p: number): number {
  const end = bytes.length
  let depth = 0
  for (;;) {
    const c = bytes[p]
    if (p >= end) return -1
    if (c === QUOTE) {
      p = skipString(bytes, p)
      if (p < 0) return -1
    } else if (c === 123 || c === 91) {
      depth++
      p++
    } else if (c === 125 || c === 93) {
      if (depth === 0) return -1
      depth--
      p++
    } else if (depth > 0) {
      p++
      continue
    } else {
      const from = p
      while (p < end && !isDelimiter(bytes[p])) p++
      return p === from ? -1 : p
    }
    if (depth === 0) return p
  }
}

function skipString(bytes: Uint8Array, p: number): number {
  for (let at = p + 1; ;) {
    const quote = bytes.indexOf(QUOTE, at)
    if (quote < 0) return -1
    let slashes = 0
    while (bytes[quote - 1 - slashes] === BACKSLASH && quote - 1 - slashes > p) slashes++
    if (slashes % 2 === 0) return quote + 1
    at = quote + 1
  }
}

function isDelimiter(c: number): boolean {
  return c === 44 || c === 93 || c === 125 || c === 58 || c === 32 || c === 10 || c === 13 || c === 9
}

/** Deepest nesting of a value that skipValue() accepted. */
export function depthOf(bytes: Uint8Array, from: number, to: number): number {
  let depth = 0
  let deepest = 0
  for (let p = from; p < to;) {
    const c = bytes[p]
    if (c === QUOTE) {
      p = skipString(bytes, p)
      if (p < 0) return deepest
      continue
    }
    if (c === 123 || c === 91) deepest = Math.max(deepest, ++depth)
    else if (c === 125 || c === 93) depth--
    p++
  }
  return deepest
}
