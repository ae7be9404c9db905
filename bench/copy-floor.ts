import { once } from 'node:events'
import type pg from 'pg'
import copyStreams from 'pg-copy-streams'

/**
 * The floor: binary COPY of the very rows that a sample stored, same columns, into a table of the same shape (partitions,
 * primary key, storage parameters) in the same cluster. Nothing that settles reads can be faster than this.
 */
export class CopyFloor {
  readonly #clients: pg.Client[]
  /** Rows taken from channel_day, one body per connection. */
  #halves: Buffer[] = []
  #rows = 0
  #reads = 0

  /** @param clients one or more connections of their own */
  constructor(clients: pg.Client[]) {
    this.#clients = clients
  }

  get rows(): number {
    return this.#rows
  }

  get reads(): number {
    return this.#reads
  }

  /** Takes the rows of these days into memory, cut by channel into as many parts as there are connections. */
  async take(days: readonly [string, string]): Promise<void> {
    const [client] = this.#clients
    const range = `day between '${days[0]}' and '${days[1]}'`
    const { rows } = await client.query<{ rows: number; reads: number; cuts: number[] }>(
      `select count(*) as rows, coalesce(sum(present), 0)::int8 as reads,
              percentile_disc(array[${this.#clients.map((_, i) => (i + 1) / this.#clients.length).join(',')}]::float8[])
                within group (order by channel_id) as cuts
         from channel_day where ${range}`)
    const [{ rows: count, reads, cuts }] = rows
    this.#rows = count
    this.#reads = reads
    this.#halves = []
    let from = 0
    for (const to of cuts) {
      this.#halves.push(await copyOut(client,
        `copy (select * from channel_day where ${range} and channel_id > ${from} and channel_id <= ${to} order by day, channel_id)
           to stdout (format binary)`))
      from = to
    }
  }

  /** Loads what was taken into a fresh table, over that many connections; returns the seconds until all are committed. */
  async load(connections: number): Promise<number> {
    const [client] = this.#clients
    await this.#makeTable(client)
    const parts = connections === 1 ? [joined(this.#halves)] : this.#halves
    const began = performance.now()
    await Promise.all(parts.map((part, i) => copyIn(this.#clients[i], part)))
    const seconds = (performance.now() - began) / 1000
    const { rows } = await client.query<{ n: number }>('select count(*) as n from copy_floor')
    if (rows[0].n !== this.#rows) throw new Error(`the floor holds ${rows[0].n} of ${this.#rows} rows`)
    await client.query('drop table copy_floor')
    return seconds
  }

  async #makeTable(client: pg.Client): Promise<void> {
    await client.query('drop table if exists copy_floor')
    await client.query('create table copy_floor (like channel_day including all) partition by range (day)')
    const { rows } = await client.query<{ name: string; bound: string; options: string[] | null }>(
      `select c.relname as name, pg_get_expr(c.relpartbound, c.oid) as bound, c.reloptions as options
         from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'channel_day'::regclass`)
    for (const { name, bound, options } of rows) {
      const table = name.replace('channel_day', 'copy_floor')
      await client.query(`create table ${table} partition of copy_floor ${bound}${options === null ? '' : ` with (${options.join(', ')})`}`)
    }
  }
}

const HEADER = 19
const TRAILER = 2

/** Several binary COPY bodies as one: the header of the first, the rows of all, one trailer. */
function joined(parts: readonly Buffer[]): Buffer {
  return Buffer.concat(parts.map((p, i) => p.subarray(i === 0 ? 0 : HEADER, i === parts.length - 1 ? p.length : p.length - TRAILER)))
}

async function copyOut(client: pg.Client, sql: string): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of client.query(copyStreams.to(sql))) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

const STEP = 512 * 1024

async function copyIn(client: pg.Client, body: Buffer): Promise<void> {
  const stream = client.query(copyStreams.from('copy copy_floor from stdin (format binary)'))
  const finished = once(stream, 'finish')
  for (let at = 0; at < body.length; at += STEP) {
    if (!stream.write(body.subarray(at, at + STEP))) await Promise.race([once(stream, 'drain'), finished])
  }
  stream.end()
  await finished
}
