import type { Writable } from 'node:stream'
import copyStreams from 'pg-copy-streams'
import type { Client } from './db.js'

/** Microseconds between the Unix epoch and PostgreSQL's (2000-01-01 UTC). */
const PG_EPOCH_US = 946_684_800_000_000
const PG_EPOCH_S = 946_684_800
const PG_EPOCH_DAY = 10_957
const CHUNK = 256 * 1024
/** A chunk with room for the row that fills it. */
const CHUNK_BYTES = CHUNK + 65_536
const INT2_OID = 21
const INT4_OID = 23
const INT8_OID = 20

/**
 * Writes rows in PostgreSQL's binary COPY form into a preallocated buffer and hands it on in chunks of about 256 KB:
 * many small writes into a COPY stream are several times slower, and so is Buffer.write* (peers.md).
 */
export class CopyWriter {
  readonly #stream: Writable
  readonly #chunks: ChunkPool
  #buffer: Buffer<ArrayBuffer>
  #view: DataView
  #at = 0
  #rows = 0
  #failure: Error | undefined

  constructor(client: Client, table: string, columns: readonly string[]) {
    // With more than one chunk on its way rows are built while the socket drains.
    this.#stream = client.query(copyStreams.from(`copy ${table} (${columns.join(', ')}) from stdin (format binary)`,
      { highWaterMark: 4 * CHUNK }))
    this.#chunks = ChunkPool.of(client)
    this.#buffer = this.#chunks.take(CHUNK_BYTES)
    this.#view = new DataView(this.#buffer.buffer, this.#buffer.byteOffset, this.#buffer.byteLength)
    this.#stream.on('error', (err: Error) => { this.#failure ??= err })
    this.#buffer.write('PGCOPY\n\xff\r\n\0', 0, 'latin1')
    this.#view.setInt32(11, 0)
    this.#view.setInt32(15, 0)
    this.#at = 19
  }

  get rows(): number {
    return this.#rows
  }

  /** Begins a row of that many fields; a row may need up to `bytes` bytes. Waits where the socket is behind. */
  async row(fields: number, bytes: number): Promise<void> {
    if (this.#at >= CHUNK || this.#at + bytes > this.#buffer.length) await this.#flush(bytes)
    this.#view.setInt16(this.#at, fields)
    this.#at += 2
    this.#rows++
  }

  /** True when the next row would make row() wait: the caller may skip the await otherwise. */
  mustWait(bytes: number): boolean {
    return this.#at >= CHUNK || this.#at + bytes > this.#buffer.length
  }

  /** Begins a row without waiting; only after mustWait() said false. */
  rowNow(fields: number): void {
    this.#view.setInt16(this.#at, fields)
    this.#at += 2
    this.#rows++
  }

  null(): void {
    this.#view.setInt32(this.#at, -1)
    this.#at += 4
  }

  int2(v: number): void {
    this.#view.setInt32(this.#at, 2)
    this.#view.setInt16(this.#at + 4, v)
    this.#at += 6
  }

  int4(v: number): void {
    this.#view.setInt32(this.#at, 4)
    this.#view.setInt32(this.#at + 4, v)
    this.#at += 8
  }

  int8(v: number): void {
    this.#view.setInt32(this.#at, 8)
    this.#setInt8(this.#at + 4, v)
    this.#at += 12
  }

  /** Days since 1970-01-01. */
  date(day: number): void {
    this.int4(day - PG_EPOCH_DAY)
  }

  /** Whole epoch seconds. */
  instantS(s: number): void {
    this.int8((s - PG_EPOCH_S) * 1_000_000)
  }

  /** Microseconds since the Unix epoch. */
  instantUs(us: number): void {
    this.int8(us - PG_EPOCH_US)
  }

  /** int4[]; elements equal to `missing` become NULL. */
  int4Array(values: ArrayLike<number>, missing: number): void {
    const view = this.#view
    const n = values.length
    const start = this.#at
    let at = this.#arrayHeader(n, INT4_OID)
    let nulls = 0
    for (let i = 0; i < n; i++) {
      const v = values[i]
      if (v === missing) {
        view.setInt32(at, -1)
        at += 4
        nulls = 1
      } else {
        view.setInt32(at, 4)
        view.setInt32(at + 4, v)
        at += 8
      }
    }
    view.setInt32(start + 8, nulls)
    view.setInt32(start, at - start - 4)
    this.#at = at
  }

  int2Array(values: ArrayLike<number>): void {
    const view = this.#view
    const start = this.#at
    let at = this.#arrayHeader(values.length, INT2_OID)
    for (let i = 0; i < values.length; i++) {
      view.setInt32(at, 2)
      view.setInt16(at + 4, values[i])
      at += 6
    }
    view.setInt32(start, at - start - 4)
    this.#at = at
  }

  int8Array(values: ArrayLike<number>): void {
    const start = this.#at
    let at = this.#arrayHeader(values.length, INT8_OID)
    for (let i = 0; i < values.length; i++) {
      this.#view.setInt32(at, 8)
      this.#setInt8(at + 4, values[i])
      at += 12
    }
    this.#view.setInt32(start, at - start - 4)
    this.#at = at
  }

  /** Ends the COPY and waits until the server took it; returns the number of rows. */
  async end(): Promise<number> {
    await this.#flush(0)
    this.#buffer.writeInt16BE(-1, 0)
    this.#check()
    await new Promise<void>((resolve, reject) => {
      this.#stream.once('error', reject)
      this.#stream.once('finish', () => resolve())
      this.#stream.end(Buffer.from(this.#buffer.subarray(0, 2)))
    })
    this.#chunks.taken(this.#buffer)
    return this.#rows
  }

  /** Abandons the COPY after a failure of the caller's own, so that the connection can roll back. */
  abort(reason: Error): void {
    this.#failure ??= reason
    this.#chunks.forget()
    this.#stream.destroy(reason)
  }

  /** Header of a one-dimensional array field: length (filled in later), dimensions, nulls, type, size, lower bound. */
  #arrayHeader(n: number, oid: number): number {
    const at = this.#at
    this.#view.setInt32(at + 4, n === 0 ? 0 : 1)
    this.#view.setInt32(at + 8, 0)
    this.#view.setInt32(at + 12, oid)
    if (n === 0) return at + 16
    this.#view.setInt32(at + 16, n)
    this.#view.setInt32(at + 20, 1)
    return at + 24
  }

  #setInt8(at: number, v: number): void {
    const high = Math.floor(v / 4_294_967_296)
    this.#view.setInt32(at, high)
    this.#view.setUint32(at + 4, v - high * 4_294_967_296)
  }

  async #flush(need: number): Promise<void> {
    this.#check()
    const full = this.#buffer.subarray(0, this.#at)
    const sent = this.#chunks.send(this.#buffer)
    this.#buffer = this.#chunks.take(Math.max(CHUNK_BYTES, need + 1024))
    this.#view = new DataView(this.#buffer.buffer, this.#buffer.byteOffset, this.#buffer.byteLength)
    this.#at = 0
    if (full.length > 0 && !this.#stream.write(full, sent)) {
      await drained(this.#stream)
      this.#check()
    }
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure
  }
}

/** What of a connection's socket tells how far it is; pg's declarations leave the socket out. */
interface Socket {
  readonly bytesWritten: number
  readonly writableLength: number
  readonly encrypted?: boolean
}

/**
 * The chunks of one connection's COPYs. The stream keeps a chunk until the kernel has it; then it is used again: fresh
 * ones for a large body come to its own size in garbage, which V8 is slow to give back (bench `memory`).
 */
class ChunkPool {
  static readonly #pools = new WeakMap<Client, ChunkPool>()
  readonly #socket: Socket | undefined
  #sent: { buffer: Buffer<ArrayBuffer>; end: number }[] = []

  /** A connection runs one COPY at a time, so they share its chunks. */
  static of(client: Client): ChunkPool {
    let pool = ChunkPool.#pools.get(client)
    if (pool === undefined) ChunkPool.#pools.set(client, pool = new ChunkPool(client))
    return pool
  }

  private constructor(client: Client) {
    const { connection } = client as unknown as { connection?: { stream?: Socket } }
    // Of a TLS socket it is not known which of our bytes its counts mean: there a chunk is free when its COPY has ended.
    this.#socket = connection?.stream?.encrypted === true ? undefined : connection?.stream
  }

  /** Notes a chunk that is about to be written; returns what to call once the socket has queued it. */
  send(buffer: Buffer<ArrayBuffer>): () => void {
    // One that a long row made larger is not kept.
    if (buffer.length > CHUNK_BYTES) return () => undefined
    const entry = { buffer, end: Infinity }
    this.#sent.push(entry)
    const socket = this.#socket
    return () => { if (socket !== undefined) entry.end = socket.bytesWritten }
  }

  /** A chunk of that many bytes at least: one that the kernel has taken, else a fresh one. */
  take(size: number): Buffer<ArrayBuffer> {
    const gone = this.#socket === undefined ? 0 : this.#socket.bytesWritten - this.#socket.writableLength
    const i = size > CHUNK_BYTES ? -1 : this.#sent.findIndex((c) => c.end <= gone)
    return i < 0 ? Buffer.allocUnsafeSlow(size) : this.#sent.splice(i, 1)[0].buffer
  }

  /** The server has taken the whole COPY: all its chunks are free, and the writer's own too. */
  taken(last: Buffer<ArrayBuffer>): void {
    if (last.length <= CHUNK_BYTES) this.#sent.push({ buffer: last, end: 0 })
    for (const chunk of this.#sent) chunk.end = 0
  }

  /** After a COPY that was cut short nobody knows who still holds its chunks. */
  forget(): void {
    this.#sent = []
  }
}

/** Waits until a stream takes more, or ended: then it holds its error. */
async function drained(stream: Writable): Promise<void> {
  await new Promise<void>((resolve) => {
    const events = ['drain', 'error', 'close'] as const
    const done = (): void => {
      for (const event of events) stream.off(event, done)
      resolve()
    }
    for (const event of events) stream.on(event, done)
  })
}
