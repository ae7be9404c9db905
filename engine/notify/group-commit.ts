/**
 * Joins the single writes of many callers into few statements: what is asked for while one runs goes together into the next,
 * so that a lone write waits `lingerMs` at most and many cost hardly more than one.
 *
 * @param write answers each item, in their order; what it throws is thrown to every caller of the group
 * @param maxItems greatest group
 */
export function groupCommit<T, R>(write: (items: readonly T[]) => Promise<readonly R[]>, lingerMs: number, maxItems = 500): (item: T) => Promise<R> {
  let waiting: { item: T; done: (result: R) => void; failed: (err: unknown) => void }[] = []
  let isRunning = false

  async function run(): Promise<void> {
    while (waiting.length > 0) {
      const group = waiting.slice(0, maxItems)
      waiting = waiting.slice(maxItems)
      try {
        const results = await write(group.map((w) => w.item))
        group.forEach((w, i) => {
          w.done(results[i])
        })
      } catch (err) {
        for (const w of group) w.failed(err)
      }
    }
    isRunning = false
  }

  return (item) => new Promise<R>((done, failed) => {
    waiting.push({ item, done, failed })
    if (isRunning) return
    isRunning = true
    setTimeout(() => void run(), lingerMs)
  })
}
