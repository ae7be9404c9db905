import type { Channel } from './channel.js'

/**
 * Meter ids by their bytes: in a file that is ordered by time every row has another meter, and neither a string nor a
 * look-up by one should be made for it.
 */
export class MeterTable {
  readonly meters: string[] = []
  /** The channel that each meter's last read went to. */
  readonly channels: (Channel | null)[] = []
  readonly #bytes: Uint8Array
  /** Where in the bytes each id first stood. */
  #from = new Int32Array(256)
  #to = new Int32Array(256)
  #hashes = new Int32Array(256)
  /** Open addressing: index + 1 of the id in each slot, 0 for none. */
  #slots = new Int32Array(1024)

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  /** Index of the id at [from, to), -1 where it is new. */
  find(from: number, to: number, hash: number): number {
    const bytes = this.#bytes
    const mask = this.#slots.length - 1
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const index = this.#slots[slot] - 1
      if (index < 0) return -1
      if (this.#hashes[index] !== hash) continue
      const at = this.#from[index]
      if (this.#to[index] - at !== to - from) continue
      let i = from
      while (i < to && bytes[i] === bytes[at + i - from]) i++
      if (i === to) return index
    }
  }

  /** Adds an id that find() did not find; returns its index. */
  add(meter: string, from: number, to: number, hash: number): number {
    const index = this.meters.length
    this.meters.push(meter)
    this.channels.push(null)
    if (index === this.#from.length) this.#grow()
    this.#from[index] = from
    this.#to[index] = to
    this.#hashes[index] = hash
    if (index * 2 >= this.#slots.length) {
      this.#slots = new Int32Array(this.#slots.length * 4)
      for (let i = 0; i < index; i++) this.#put(i)
    }
    this.#put(index)
    return index
  }

  #put(index: number): void {
    const mask = this.#slots.length - 1
    let slot = this.#hashes[index] & mask
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask
    this.#slots[slot] = index + 1
  }

  #grow(): void {
    const wider = (column: Int32Array) => {
      const to = new Int32Array(column.length * 2)
      to.set(column)
      return to
    }
    this.#from = wider(this.#from)
    this.#to = wider(this.#to)
    this.#hashes = wider(this.#hashes)
  }
}
