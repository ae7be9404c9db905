import type pg from 'pg'
import type { NotifySecrets } from './contacts/seal.js'
import type { MeterEvent } from './events.js'
import type { RecordProblem } from './problem.js'
import type { ReadBatch } from './read-batch.js'
import type { Receipt } from './receipt.js'
import type { RegisterBatch } from './register-batch.js'
import type { RegistryMap } from './registry-map.js'
import type { SourceSettings } from './source-settings.js'
import type { DeadLetter, PositionMove } from './store/kafka-positions.js'
import type { Storage } from './store/storage.js'
import type { Zone } from './time/zone.js'

/** What a decoder made of a body, or of a part of one. */
export interface DecodedBody {
  batch: ReadBatch
  /** Reads that are no intervals; none where not given. */
  registers?: RegisterBatch
  events?: readonly MeterEvent[]
  problems: RecordProblem[]
  /** Values rounded by the source's `round` setting. */
  rounded: number
}

/** One delivery, or one part of a large one, ready to be settled. */
export interface Submission {
  /** UUIDv7 minted before the transaction: after a connection lost in COMMIT it tells whether the commit stands. */
  deliveryId: string
  sourceId: number
  settings: SourceSettings
  kind: 'push' | 'replay' | 'estimate' | 'edit'
  door: string
  format: string | null
  history: boolean
  idempotencyKey: string | null
  /** SHA-256 of these bytes: the part's, or the whole body's where it is one part. */
  sha256: Buffer
  /** SHA-256 of the whole body, hex, once it is known. */
  bodySha256: string | null
  bytes: number
  /** Version of reads whose source stated none: microseconds at which the delivery was accepted. */
  version: number
  /** True: the source stated the version, and an identical body does not keep an older one. */
  versionStated: boolean
  /** Part number from 1, and whether it is the last. */
  part: number
  final: boolean
  decoded: DecodedBody
  /** Decodes the bytes again, for a second plan: planning consumes the batch. */
  redecode: () => DecodedBody
  /** The bytes of a record, for quarantine. */
  raw: (from: number, to: number) => Buffer | null
  /** Run in the transaction after the delivery was written: a replay closes the records it took. */
  after?: (client: pg.PoolClient, deliveryNo: number) => Promise<void>
  /** Messages of a Kafka partition: its position moves in this transaction, or nothing of them settles. */
  kafka?: KafkaBatch
}

/** Where the messages of a submission stood, and what of them goes to the dead topic. */
export interface KafkaBatch {
  move: PositionMove
  /** First offset of the batch that this is a part of. */
  firstOffset: number
  deadLetters: DeadLetter[]
  /** The place of a problem, given by the number of its record, in terms of offsets. */
  place: (at: string) => string
}

export type SettleOutcome =
  /** Settled by this commit. */
  | { status: 'settled'; receipt: Receipt }
  /** The idempotency key was known with this body: the first receipt. */
  | { status: 'repeated'; receipt: Receipt }
  /** The idempotency key was known with another body. */
  | { status: 'key-reused' }
  /** The Kafka partition stands elsewhere or has another owner: nothing of it was settled. */
  | { status: 'fenced' }

/** What a transaction needs of its process. */
export interface CommitWorld {
  storage: Storage
  maps: Map<number, RegistryMap>
  secrets: NotifySecrets
  toleranceS: number
  now: () => number
}

/** Thrown to plan a group again once meters that the source may register exist. */
export class RegisterMeters extends Error {
  readonly names: string[]
  constructor(names: string[]) {
    super('meters to register')
    this.names = names
  }
}

export interface UtilityState {
  epoch: number
  zone: Zone
  horizonDay: number
  holdsReads: boolean
  validates: boolean
}

