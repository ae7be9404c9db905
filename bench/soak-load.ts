import { setTimeout as delay } from 'node:timers/promises'
import { seeded } from '../test/faults/fleet.js'
import type { Caller } from '../test/faults/caller.js'

/** A way into the engine. Delivers until it is acknowledged, however often that takes. */
export interface SoakDoor {
  readonly name: string
  deliver(body: Buffer): Promise<void>
}

const SLOTS = 96
const DAY_MS = 86_400_000
const FIRST_DAY = Date.UTC(2023, 0, 1)
/** Days that the load goes through before it begins again, with corrections. */
const DAYS = 1000

export interface SoakLoadOptions {
  doors: readonly SoakDoor[]
  seed: number
  meters: number
  metersPerPush: number
  pushesPerSecond: number
}

/**
 * Day blocks of the fleet, group by group and day by day, at a steady rate that does not wait for answers; some come
 * twice, some are corrected. Keeps what must stand at the end.
 */
export class SoakLoad {
  /** Acknowledged since the last look, and how long each took, milliseconds. */
  latencies: number[] = []
  acknowledged = 0
  /** Pushes that are due or under way: what the engine is behind. */
  waiting = 0
  /** Watt-hours of each slot by group and day: what was acknowledged. */
  readonly #model = new Map<string, number>()
  /** Groups and days that have a push under way: the next one for it waits, or the order would be a matter of chance. */
  readonly #underWay = new Map<string, Promise<void>>()
  readonly #options: SoakLoadOptions
  readonly #random: () => number
  #running = false
  #n = 0

  constructor(options: SoakLoadOptions) {
    this.#options = options
    this.#random = seeded(options.seed)
  }

  static meter(i: number): string {
    return `K${i}`
  }

  /** What must be stored: reads, and watt-hours over all of them. */
  get expected(): { reads: number; wh: number } {
    const perBlock = this.#options.metersPerPush * SLOTS
    let wh = 0
    for (const value of this.#model.values()) wh += value * perBlock
    return { reads: this.#model.size * perBlock, wh }
  }

  /** Pushes until `untilMs`, then waits for everything to be acknowledged. */
  async run(untilMs: number): Promise<void> {
    this.#running = true
    const everyMs = 1000 / this.#options.pushesPerSecond
    const all = new Set<Promise<void>>()
    for (let due = Date.now(); this.#running && Date.now() < untilMs; due += everyMs) {
      const push = this.#push()
      all.add(push)
      void push.finally(() => all.delete(push))
      await delay(Math.max(0, due + everyMs - Date.now()))
    }
    await Promise.all(all)
  }

  stop(): void {
    this.#running = false
  }

  async #push(): Promise<void> {
    const { doors, meters, metersPerPush } = this.#options
    const groups = Math.floor(meters / metersPerPush)
    const n = this.#n++
    // One in five goes back: half of those repeat what stands, half correct it.
    const back = this.#random() < 0.2 && n > 50
    const at = back ? Math.floor(this.#random() * Math.min(n, groups * DAYS)) : n % (groups * DAYS)
    const key = `${at % groups}|${Math.floor(at / groups)}`
    const repeat = back && this.#random() < 0.5
    const fresh = 1 + Math.floor(this.#random() * 900)
    // One day of a group always by the same door: between sources it would be a matter of rank.
    const door = doors[at % doors.length]
    this.waiting++
    const before = this.#underWay.get(key) ?? Promise.resolve()
    const work = before.then(async () => {
      const wh = repeat ? this.#model.get(key) ?? fresh : fresh
      const began = performance.now()
      await door.deliver(body(at % groups * metersPerPush, metersPerPush, Math.floor(at / groups), wh, n))
      this.#model.set(key, wh)
      this.latencies.push(performance.now() - began)
      this.acknowledged++
      this.waiting--
    })
    this.#underWay.set(key, work)
    await work
    if (this.#underWay.get(key) === work) this.#underWay.delete(key)
  }
}

/** One day of a group; `n` makes the bytes its own, so that it is nobody's repetition. */
function body(from: number, meters: number, day: number, wh: number, n: number): Buffer {
  const values = `[${Array<string>(SLOTS).fill(String(wh / 1000)).join(',')}]`
  const start = new Date(FIRST_DAY + day * DAY_MS).toISOString()
  const blocks = Array.from({ length: meters }, (_, i) =>
    `{"meter":"${SoakLoad.meter(from + i)}","start":"${start}","intervalSeconds":900,"values":${values}}`)
  return Buffer.from(`${blocks.join('\n')}\n${' '.repeat(n % 97)}${'\t'.repeat(Math.floor(n / 97) % 97)}${'\r'.repeat(Math.floor(n / 9409))}\n`)
}

/** The door of HTTP: pushes again after Retry-After, and after a connection that broke. */
export function httpDoor(caller: Caller): SoakDoor & { refused: number; broken: number } {
  const door = {
    name: 'http', refused: 0, broken: 0,
    async deliver(bytes: Buffer): Promise<void> {
      for (;;) {
        try {
          const answer = await caller.push(bytes, { 'content-type': 'application/x-ndjson' })
          if (answer.status === 200) return
          if (![408, 429, 503].includes(answer.status)) throw new TypeError(`${answer.status} ${answer.text.slice(0, 300)}`)
          door.refused++
          await delay(Math.min(Number(answer.headers['retry-after'] ?? 1), 2) * 1000)
        } catch (err) {
          if (err instanceof TypeError) throw err
          door.broken++
          await delay(200)
        }
      }
    },
  }
  return door
}
