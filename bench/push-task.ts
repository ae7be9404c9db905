import type { FleetOptions } from '../fixtures/simulator.js'

/** What the bench's main thread asks of the pushing thread. Bodies are made before the clock starts. */
export type PushTask =
  | PrepareTask
  /** Pushes what was prepared, over that many keep-alive connections. With `keep` it may be pushed again. */
  | { kind: 'send'; connections: number; keep?: boolean }

export interface PrepareTask {
  kind: 'prepare'
  fleet: FleetOptions
  /** Days since 1970-01-01. */
  days: number[]
  /** Stretch of each day's slots that goes into a body. */
  fromSlot?: number
  slots?: number
  metersPerBody: number
  /** Meters [from, to) of the fleet; all when absent. */
  meters?: [number, number]
  /** Puts everything into bodies of about this many bytes instead, over meters and days. */
  bodyBytes?: number
}

export interface Prepared {
  bodies: number
  reads: number
  bytes: number
}

export interface Sent {
  seconds: number
  /** CPU seconds of the bench's process meanwhile, which only pushes. */
  cpuSeconds: number
  bodies: number
  bytes: number
  /** Milliseconds from the first byte sent to the receipt, per push. */
  latencies: number[]
  received: number
  stored: number
  duplicate: number
  corrected: number
  outranked: number
  quarantined: number
  rejected: number
  /** Pushes refused with 429 or 503 and pushed again after Retry-After. */
  refused: number
}

export interface PushWorkerData {
  url: string
  key: string
}
