import type { FormatState } from './formats/format.js'
import type { Edit } from '../engine/estimate/edit.js'
import type { VeeTurn } from '../engine/estimate/turn.js'
import type { Receipt } from '../engine/receipt.js'
import type { PositionMove } from '../engine/store/kafka-positions.js'

/** What the main thread hands a worker: bytes (transferred, never copied) and what is known about them. */
export interface DeliveryTask {
  deliveryId: string
  /** Source by name; made when it is new. */
  source: string
  door: 'http' | 'load' | 'kafka' | 'files'
  contentType: string | null
  /** `?format=` */
  format: string | null
  fileName: string | null
  /** A CSV mapping, by the name of a shipped one or as a JSON text. */
  mapping: string | null
  /** Zone of local times, over the source's. */
  zone: string | null
  /** Meter of bodies that name none; null: the source's. */
  meter?: string | null
  history: boolean
  idempotencyKey: string | null
  /** Microseconds: when the delivery was accepted, or what X-Version stated. */
  version: number
  /** True: the version is the source's statement and an identical body does not keep an older one. */
  versionStated: boolean
  bytes: ArrayBuffer
  /** Part number from 1; state of the decoder after the part before. */
  part: number
  final: boolean
  state: FormatState | null
  /** SHA-256 of the whole body, hex; null while it is not all here, and where it is these bytes. */
  bodySha256: string | null
  /** Set where the bytes are messages of a Kafka partition, one after the other. */
  messages?: MessageFrames
}

/** How messages of one partition stand in the bytes of a delivery, and what moves with them. */
export interface MessageFrames {
  move: PositionMove
  /** First offset of the batch that these messages are a part of: others of it may have another source or utility. */
  firstOffset: number
  /** Per message: where it ends in the bytes, its offset, and the version of its reads that state none, microseconds. */
  ends: Int32Array
  offsets: Float64Array
  versions: Float64Array
  /** The messages' keys, one after the other, and where each ends; -1 where a message has none. */
  keys: Uint8Array
  keyEnds: Int32Array
  /** Indices of messages without a value. */
  nulls: number[]
  /** Headers of the messages that have any, by index: name and base64. */
  headers: Map<number, [string, string][]>
  /** These messages cannot be settled, whatever they say: they go to the dead topic with this reason. */
  refused: { code: string; message: string } | null
}

export interface SettleTask {
  kind: 'settle'
  utilityId: number
  deliveries: DeliveryTask[]
}

export interface ReplayTask {
  kind: 'replay'
  utilityId: number
  deliveryId: string
  reason: string | null
  source: string | null
  meter: string | null
  /** Only records whose meter is registered by now: what waited for a registration. */
  onlyRegistered: boolean
}

export interface WithdrawTask {
  kind: 'withdraw'
  utilityId: number
  deliveryId: string
  /** Id of the delivery that records the withdrawal. */
  withdrawalId: string
}

/** A turn of validation and estimation for a utility. */
export interface VeeTask {
  kind: 'vee'
  utilityId: number
}

/** Puts the reads that a flag means right. */
export interface EditTask extends Edit {
  kind: 'edit'
}

export type WorkerTask = SettleTask | ReplayTask | WithdrawTask | VeeTask | EditTask

/** An error in a form that crosses threads whole. */
export interface ErrorAnswer {
  status: number
  code: string
  message: string
  extra: Record<string, unknown>
}

export interface DeliveryAnswer {
  receipt: Receipt | null
  error: ErrorAnswer | null
  /** Bytes after the last complete record of a part that is not the last, transferred back, and the decoder's state. */
  rest: ArrayBuffer | null
  state: FormatState | null
  /**
   * First part of a large body that was settled before under the same key: SHA-256 of that whole body, hex. The receipt
   * is the first one, and the rest is only compared.
   */
  repeats?: string
  /** Name of the format that was detected: further parts have it too. */
  format: string | null
  /** Messages of a Kafka batch that go to the dead topic. */
  deadLetters?: number
}

export interface TaskAnswer {
  deliveries: DeliveryAnswer[]
  /** Seconds spent decoding, and settling with the database. */
  decodeS: number
  settleS: number
  /** Alerts told something: the outbox should look. */
  messages: boolean
  /** What a turn of validation and estimation came to. */
  vee?: VeeTurn
}

/** What a worker is given when it starts. */
export interface WorkerSettings {
  databaseUrl: string
  /** Seconds that a statement may take; absent: the pool's default. */
  databaseTimeoutS?: number
  /** Bytes of the secret key. */
  secretKey: Uint8Array
  atomicBytes: number
  toleranceS: number
  /** Milliseconds added to the clock: tests move time by it. */
  clockOffsetMs: number
}
