import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { Caller, countsOf, OUTCOMES } from './caller.js'

/** mulberry32: the same seed gives the same numbers. */
export function seeded(seed: number): () => number {
  let a = seed >>> 0
  return () => {
    a = (a + 0x6d2b79f5) >>> 0
    let t = Math.imul(a ^ (a >>> 15), a | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

const SLOT_S = 900
const DAY_S = 86_400

/**
 * A fixed offset east of UTC, seconds, in which it is 22 o'clock and something: thresholds judge days that have not
 * ended when they are made, so most of such a day must have passed. With the zone of that name.
 */
export function lateZone(nowMs: number): { zone: string; offsetS: number } {
  const hour = new Date(nowMs).getUTCHours()
  const east = hour < 8 ? -2 - hour : 22 - hour
  return { zone: east === 0 ? 'Etc/GMT' : `Etc/GMT${east > 0 ? '-' : '+'}${Math.abs(east)}`, offsetS: east * 3600 }
}

interface Push {
  meters: Map<string, Map<number, number>>
  body: Buffer
  headers: Record<string, string>
}

/** A receipt that a client was given, and what the model says it must count. */
interface Acknowledged {
  delivery: string
  counts: Record<string, number>
}

export interface FleetOptions {
  clients: number
  seed: number
  url: () => string
  key: string
  /** Local midnight of the newest day pushed, epoch seconds, and the end of what may be pushed. */
  todayS: number
  nowS: number
  /** Days pushed, ending with today. */
  days: number
  /** Of a thousand pushes, how many are large. */
  largePerMille?: number
}

/**
 * Clients that push reads of their own meters one after the other, each again until it is acknowledged, and the plain
 * model of what must stand in the end: the newest value of every read.
 */
export class Fleet {
  /** Watt-hours by meter and start of the slot, epoch seconds: what was acknowledged. */
  readonly model = new Map<string, Map<number, number>>()
  readonly acknowledged: Acknowledged[] = []
  /** Answers that no client should ever see, and receipts that are false. */
  readonly faults: string[] = []
  /** Pushes answered 503, and those whose connection broke. */
  unavailable = 0
  broken = 0
  /** What the model says that all receipts together must count. */
  readonly sums = { stored: 0, corrected: 0 }
  readonly #options: FleetOptions
  #stopping = false
  #running: Promise<void>[] = []
  #runs = 0

  constructor(options: FleetOptions) {
    this.#options = options
  }

  /** Two meters of each client's one account. */
  static meters(client: number): string[] {
    return [`F${client}-A`, `F${client}-B`]
  }

  static account(client: number): string {
    return `acct-${client}`
  }

  /** Registers the clients' meters and accounts. */
  async register(caller: Caller): Promise<void> {
    const ids = Array.from({ length: this.#options.clients }, (_, i) => i)
    await caller.json('PUT', '/v1/accounts', ids.map((i) => ({ account: Fleet.account(i) })))
    await caller.json('PUT', '/v1/meters', ids.flatMap((i) => Fleet.meters(i).map((meter) => ({
      meter, intervalSeconds: SLOT_S, account: Fleet.account(i), from: '2020-01-01T00:00:00Z' }))))
  }

  start(): void {
    this.#stopping = false
    this.#runs++
    this.#running = Array.from({ length: this.#options.clients }, (_, i) => this.#client(i))
  }

  /** Lets every client finish the push that it is at: after this the model is what must stand. */
  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#running)
  }

  async #client(id: number): Promise<void> {
    const random = seeded((this.#options.seed + this.#runs) * 1000 + id)
    const caller = new Caller(this.#options.url, this.#options.key)
    const earlier: Push[] = []
    for (let n = 0; !this.#stopping; n++) {
      // Now and then a body that came before, byte for byte: it keeps its version and changes nothing.
      const again = random() < 0.08 && earlier.length > 0
      const push = again ? earlier[Math.floor(random() * earlier.length)] : this.#make(id, n, random)
      if (again) delete push.headers['idempotency-key']
      else earlier.push(push)
      await this.#deliver(caller, push, again)
    }
    caller.close()
  }

  #make(id: number, n: number, random: () => number): Push {
    const { todayS, nowS, days, largePerMille = 15 } = this.#options
    const large = random() * 1000 < largePerMille
    const meters = new Map<string, Map<number, number>>()
    const blocks: string[] = []
    for (const meter of Fleet.meters(id)) {
      if (!large && random() < 0.4 && blocks.length > 0) continue
      const reads = new Map<number, number>()
      meters.set(meter, reads)
      const day = todayS - DAY_S * (large ? days - 1 : random() < 0.4 ? 0 : Math.floor(random() * days))
      const from = large ? 0 : Math.floor(random() * 80)
      const count = large ? days * 96 : 1 + Math.floor(random() * 40)
      const values: (number | null)[] = []
      for (let i = 0; i < count; i++) {
        const startS = day + (from + i) * SLOT_S
        if (startS + SLOT_S > nowS) break
        const wh = random() < 0.03 ? null : Math.floor(random() * 900)
        values.push(wh === null ? null : wh / 1000)
        if (wh !== null) reads.set(startS, wh)
      }
      if (values.length === 0) continue
      blocks.push(JSON.stringify({ meter, start: new Date((day + from * SLOT_S) * 1000).toISOString(), intervalSeconds: SLOT_S, values }))
    }
    // A remark of its own in every body, as white space: no body is another one by chance.
    const nonce = ' '.repeat(n % 61) + '\t'.repeat(Math.floor(n / 61))
    const ndjson = random() < 0.3 && blocks.length > 0
    const text = ndjson ? `${blocks.join('\n')}${nonce}\n` : `{"reads":[${blocks.join(',')}]}${nonce}`
    const gzip = random() < 0.2
    return {
      meters, body: gzip ? gzipSync(text) : Buffer.from(text),
      headers: {
        'content-type': ndjson ? 'application/x-ndjson' : 'application/json', 'x-source': `source-${id}`,
        ...(gzip ? { 'content-encoding': 'gzip' } : {}),
        ...(random() < 0.4 ? { 'idempotency-key': `${this.#runs}-${id}-${n}` } : {}),
      },
    }
  }

  /** Pushes until it is acknowledged, and holds the receipt against the model. */
  async #deliver(caller: Caller, push: Push, again: boolean): Promise<void> {
    let uncertain = false
    for (;;) {
      let answer
      try {
        answer = await caller.push(push.body, push.headers)
      } catch {
        this.broken++
        uncertain = true
        await delay(50)
        continue
      }
      if (answer.status === 200) {
        this.#hold(push, again, uncertain, answer.body)
        return
      }
      uncertain = true
      if (answer.status === 503) this.unavailable++
      if (!waits(answer.status, String(answer.body.code)) || !(Number(answer.headers['retry-after']) >= 1)) {
        this.faults.push(`${answer.status} retry-after ${answer.headers['retry-after'] ?? 'none'}: ${answer.text.slice(0, 300)}`)
        if (!waits(answer.status, String(answer.body.code))) return
      }
      await delay(100)
    }
  }

  #hold(push: Push, again: boolean, uncertain: boolean, receipt: Record<string, unknown>): void {
    const counts = countsOf(receipt)
    const expected = this.#settle(push, again)
    this.acknowledged.push({ delivery: String(receipt.delivery), counts })
    const sum = OUTCOMES.reduce((s, name) => s + counts[name], 0)
    if (sum !== counts.received || receipt.complete !== true) this.faults.push(`a receipt that does not add up: ${JSON.stringify(receipt)}`)
    if (again) {
      // What was corrected since is outranked, the rest is there already.
      if (counts.duplicate + counts.outranked !== expected.received) this.faults.push(`a repeated body changed something: ${JSON.stringify(counts)}`)
      return
    }
    const asFirst = Object.entries(expected).every(([name, n]) => counts[name] === n)
    // An attempt that was cut off may have settled: then all of it is there already, unless a key told which receipt it had.
    const asSecond = uncertain && push.headers['idempotency-key'] === undefined && counts.duplicate === expected.received
      && counts.received === expected.received
    if (!asFirst && !asSecond) {
      this.faults.push(`a false receipt (uncertain: ${uncertain}): ${JSON.stringify(counts)}, not ${JSON.stringify(expected)}`)
    }
  }

  /** Enters the push into the model, and tells what its receipt counts. */
  #settle(push: Push, again: boolean): Record<string, number> {
    const counts = { received: 0, stored: 0, duplicate: 0, corrected: 0 }
    for (const [meter, reads] of push.meters) {
      const stands = this.model.get(meter) ?? new Map<number, number>()
      this.model.set(meter, stands)
      for (const [startS, wh] of reads) {
        counts.received++
        if (again) continue
        const was = stands.get(startS)
        if (was === undefined) counts.stored++
        else if (was === wh) counts.duplicate++
        else counts.corrected++
        stands.set(startS, wh)
      }
    }
    this.sums.stored += counts.stored
    this.sums.corrected += counts.corrected
    return counts
  }
}

function waits(status: number, code: string): boolean {
  return status === 503 || status === 429 || status === 409 && code === 'idempotency-key-in-use'
}
