/** Bytes that a sender brings in every window. */
export const LEAST_PACE = 32 * 1024
/** Part of the window after which a sender counts as slow. */
const SLOW = 1 / 6

export interface Pace {
  /** Milliseconds of waiting for the sender in which it brings LEAST_PACE bytes or the end of its body. */
  windowMs: number
  /** Called once, when the sender has been waited for a sixth of a window. */
  onSlow: () => void
  /** What is thrown where it does not keep pace. */
  tooSlow: () => Error
}

/** The chunks of a body as long as its sender keeps pace. The time that the consumer takes does not count. */
export async function* keepPace(body: AsyncIterable<Buffer>, pace: Pace): AsyncGenerator<Buffer> {
  const chunks = body[Symbol.asyncIterator]()
  let waited = 0
  let slow = false
  let windowEnd = pace.windowMs
  let bytes = 0
  let gaveUp = false
  try {
    for (;;) {
      const next = chunks.next()
      let got: IteratorResult<Buffer> | undefined
      for (let since = performance.now(); got === undefined;) {
        got = await within(next, Math.max(0, Math.min(windowEnd, slow ? Infinity : pace.windowMs * SLOW) - waited))
        const now = performance.now()
        waited += now - since
        since = now
        if (!slow && waited >= pace.windowMs * SLOW && got?.done !== true) {
          slow = true
          pace.onSlow()
        }
        if (waited < windowEnd || got?.done === true) continue
        if (bytes + (got?.value.length ?? 0) < LEAST_PACE) {
          gaveUp = true
          next.catch(() => undefined)
          throw pace.tooSlow()
        }
        bytes = 0
        windowEnd = waited + pace.windowMs
      }
      if (got.done === true) return
      bytes += got.value.length
      yield got.value
    }
  } finally {
    // A body that is being waited for would not end before its sender does.
    if (!gaveUp) await chunks.return?.()
  }
}

/** What the promise comes to, or undefined after `ms`. */
async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => { timer = setTimeout(resolve, ms, undefined) })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
