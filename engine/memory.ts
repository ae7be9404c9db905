import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Bytes settled since the last collection from which on another pays. */
const WORTH_BYTES = 16 * 1024 * 1024
/** Bytes of pieces that may gather. */
const PIECES_BYTES = 8 * 1024 * 1024
/** How long a thread is idle before it gives its garbage back, milliseconds. */
const IDLE_MS = 250

let collect: ((options?: { type: 'minor' }) => void) | undefined
let idle: NodeJS.Timeout | undefined
let settled = 0
let pieces = 0

/**
 * Collects this thread's garbage now: some 40 ms for a fleet of 40,000 meters. V8 lets a heap grow to twice what it
 * needs before it collects, which in every thread at once is more than all that a large body needs: with 53 MB bodies on
 * two connections the process came to 680-720 MB, of which 500 were in use (bench `memory`).
 */
export function collectGarbage(): void {
  settled = 0
  collector()()
}

/**
 * Counts bytes that came from a socket in pieces and were copied on, and collects the young garbage once they are many,
 * in about a millisecond: the pieces lie outside of V8's heap, which lets 64 MB of them gather.
 */
export function passed(bytes: number): void {
  pieces += bytes
  if (pieces < PIECES_BYTES) return
  pieces = 0
  collectYoung()
}

/** Collects the young garbage now, which takes little where little is alive: what lives on past two of V8's own is kept long. */
export function collectYoung(): void {
  collector()({ type: 'minor' })
}

function collector(): NonNullable<typeof collect> {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc')
    collect = runInNewContext('gc') as NonNullable<typeof collect>
  }
  return collect
}

/**
 * Collects this thread's garbage once it has been idle for a moment, and after a large body at once. A thread that waits
 * allocates nothing, so V8 would keep what the last body left beside what the next one needs in the next thread.
 * @param bytes of the bodies it has just settled
 */
export function collectWhenIdle(bytes: number): void {
  settled += bytes
  if (settled < WORTH_BYTES) return
  if (bytes >= WORTH_BYTES) {
    // Not from here: the caller holds the body still.
    setImmediate(collectGarbage)
    return
  }
  if (idle === undefined) idle = setTimeout(collectGarbage, IDLE_MS).unref()
  else idle.refresh()
}
