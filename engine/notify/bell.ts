/** Wakes one loop: a ring that comes while nobody listens is kept for the next time. */
export class Bell {
  #isRung = false
  #isEnded = false
  #heard: (() => void) | undefined
  readonly #pauses = new Set<() => void>()

  ring(): void {
    this.#isRung = true
    this.#heard?.()
  }

  /** Ends every wait, now and later. */
  end(): void {
    this.#isEnded = true
    this.ring()
    for (const over of this.#pauses) over()
  }

  /** Waits for a ring, at most `ms` milliseconds; tells whether there was one since the last time. */
  async heard(ms: number): Promise<boolean> {
    if (!this.#isRung) {
      await new Promise<void>((done) => {
        const timer = setTimeout(done, ms)
        this.#heard = () => {
          clearTimeout(timer)
          done()
        }
      })
      this.#heard = undefined
    }
    const isRung = this.#isRung
    this.#isRung = false
    return isRung
  }

  /** Waits `ms` milliseconds, whoever rings, or less where the bell is ended. */
  async pause(ms: number): Promise<void> {
    if (this.#isEnded) return
    await new Promise<void>((done) => {
      const over = (): void => {
        clearTimeout(timer)
        this.#pauses.delete(over)
        done()
      }
      const timer = setTimeout(over, ms)
      this.#pauses.add(over)
    })
  }
}
