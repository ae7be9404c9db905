import type { Registry } from 'prom-client'
import type { Pool } from '../engine/store/db.js'
import type { VersionSequence } from '../engine/versions.js'
import { openKafkaClient, type KafkaSettings } from './kafka-client.js'
import { KafkaLoop, type KafkaEvent } from './kafka-loop.js'
import { Complaints } from './kafka-watch.js'
import type { IngestPool } from './pool.js'

export interface KafkaDoorOptions {
  settings: KafkaSettings
  pool: IngestPool
  db: Pool
  /** The sequence that reads without a version of their own are ordered by. */
  versions: Pick<VersionSequence, 'next'>
  registry: Registry
  /** Rounds that settle at a time. */
  rounds: number
  /** Bytes that messages may hold, waiting and in flight. */
  maxHeldBytes: number
  /** Utility of messages that name none. */
  defaultUtility: string
  log: DoorLog
  now?: () => number
}

/** What the door says, once for each thing that an operator should know. */
export interface DoorLog {
  info: (detail: object, message: string) => void
  warn: (detail: object, message: string) => void
  error: (detail: object, message: string) => void
}

/** The Kafka door, reading. */
export interface KafkaDoor {
  /** What is wrong, for /readyz. */
  reasons: () => string[]
  /** Reads no more, settles what is under way, and leaves the group. */
  close: () => Promise<void>
}

/** Opens the door: joins the group and reads. @throws KafkaRefusal where it cannot, with what is wrong */
export async function openKafkaDoor(options: KafkaDoorOptions): Promise<KafkaDoor> {
  const events: KafkaEvent[] = []
  const opened: { door: KafkaLoop | null } = { door: null }
  const enqueue = (event: KafkaEvent): void => {
    events.push(event)
    opened.door?.wake()
  }
  const brokers = { down: false }
  const complaints = new Complaints(options.log, options.now ?? Date.now)
  const client = await openKafkaClient(options.settings, {
    onAssign: (partitions) => enqueue({ kind: 'assign', partitions }),
    onRevoke: (partitions) => enqueue({ kind: 'revoke', partitions }),
    onError: (err, isDown) => {
      if (isDown) brokers.down = true
      complaints.warn(`client ${err.message}`, { code: err.code, reason: err.message }, 'Kafka: the client cannot do its work and goes on trying')
    },
  })
  const door = new KafkaLoop(options, client, events, brokers)
  opened.door = door
  door.start()
  return door
}
