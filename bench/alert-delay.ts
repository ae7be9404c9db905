import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import type pg from 'pg'
import { Client } from '../cli/client.js'
import { instantText } from '../engine/time/text.js'
import { getZone } from '../engine/time/zone.js'
import { Instance } from './instance.js'
import { figure, say, type Measure, type Outcome } from './report.js'
import type { ScenarioOptions } from './scenario.js'
import { percentile, spreadOf } from './statistics.js'

const BURST = 20_000
const STEADY = 1_500
const PER_SECOND = 100
const OTHERS = 20_000
const OTHER_BODY = 2_000

// Where it is past noon now, so that today has reads enough at any hour.
const hour = new Date().getUTCHours()
const zone = getZone(`Etc/GMT${hour >= 13 ? '+' : '-'}${Math.abs(hour - 13)}`)

/** The mail server's thread. */
class Sink {
  readonly #worker = new Worker(new URL('./mail-sink.js', import.meta.url))
  async port(): Promise<number> {
    return (await this.#next<{ port: number }>()).port
  }

  count(): Promise<number> {
    return this.#ask('count')
  }

  take(): Promise<[string, number][]> {
    return this.#ask('take')
  }

  async close(): Promise<void> {
    await this.#worker.terminate()
  }

  async #ask<T>(what: string): Promise<T> {
    this.#worker.postMessage(what)
    return this.#next<T>()
  }

  #next<T>(): Promise<T> {
    return new Promise((done) => {
      this.#worker.once('message', done)
    })
  }
}

/** From the writing of an alert's message, before its commit, to its acceptance by the mail server. */
export async function alertDelay(options: ScenarioOptions): Promise<Outcome> {
  const sink = new Sink()
  const instance = await Instance.start({ ...options.env, UTILITY_ZONE: zone.name, SMTP_URL: `smtp://127.0.0.1:${await sink.port()}`, MAIL_FROM: 'alerts@coop.example' }, options.nodeArgs)
  const client = new Client(instance.url, instance.key)
  const db = await instance.connect()
  try {
    say(`registering ${BURST + STEADY + OTHERS} meters`)
    await prepare(client, db)
    const delays = await steady(client, db, sink, options.samples)
    say('settling alone')
    const alone: number[] = []
    for (let n = 0; n <= options.samples; n++) {
      const rate = await settleOthers(client, n)
      if (n > 0) alone.push(rate)
    }
    say(`${BURST} alerts by one delivery`)
    const began = performance.now()
    const receipt = await push(client, Array.from({ length: BURST }, (_, i) => block(`B${i}`, 40, 1)))
    const raisedS = (performance.now() - began) / 1000
    if (receipt.alerts.raised !== BURST) throw new Error(`${receipt.alerts.raised} alerts of ${BURST}`)
    const meanwhile: number[] = []
    const outAt = drained(sink, BURST)
    let isOut = false
    const out = outAt.then((at) => {
      isOut = true
      return (at - began) / 1000
    })
    for (let n = 0; !isOut && n < 60; n++) meanwhile.push(await settleOthers(client, 100 + n))
    const outS = await out
    const states = await db.query<{ state: string; n: number }>('select state, count(*) as n from message group by state order by state')
    const measures: Measure[] = [
      { name: `p99 delay at ${PER_SECOND} alerts/s`, unit: 'ms', spread: spreadOf(delays.map((d) => percentile(d, 99))) },
      { name: `p50 delay at ${PER_SECOND} alerts/s`, unit: 'ms', spread: spreadOf(delays.map((d) => percentile(d, 50))) },
      { name: `settling the delivery that raises ${BURST}`, unit: 's', spread: spreadOf([raisedS]) },
      { name: `until the last of ${BURST} was accepted`, unit: 's', spread: spreadOf([outS]) },
      { name: 'settling alone', unit: 'reads/s', spread: spreadOf(alone) },
      { name: 'settling while they go out', unit: 'reads/s', spread: spreadOf(meanwhile), floor: 'settling alone' },
    ]
    return {
      about: `${STEADY} accounts cross a limit one push each, ${PER_SECOND} a second; then ${BURST} at once by one delivery, while whole days of ${OTHERS} other meters settle on one connection.`,
      measures, database: await instance.facts(),
      notes: [`messages at the end: ${states.rows.map((r) => `${r.n} ${r.state}`).join(', ')}`, `${figure(BURST / outS)} messages/s`],
    }
  } finally {
    client.close()
    await db.end()
    await instance.stop(options.keep)
    await sink.close()
  }
}

async function prepare(client: Client, db: pg.Client): Promise<void> {
  const watched = [...Array.from({ length: BURST }, (_, i) => `B${i}`), ...Array.from({ length: STEADY }, (_, i) => `S${i}`)]
  const all = [...watched, ...Array.from({ length: OTHERS }, (_, i) => `O${i}`)]
  for (let i = 0; i < all.length; i += 5000) {
    const ids = all.slice(i, i + 5000)
    await client.send('PUT', '/v1/accounts', ndjson(ids.map((id) => ({ account: id, nickname: `Home ${id}` }))), { 'content-type': 'application/x-ndjson' })
    await client.send('PUT', '/v1/meters', ndjson(ids.map((id) => ({ meter: id, account: id, from: '2024-01-01' }))), { 'content-type': 'application/x-ndjson' })
  }
  for (let i = 0; i < watched.length; i += 2000) {
    await client.send('PUT', '/v1/contacts', Buffer.from(JSON.stringify({ contacts: watched.slice(i, i + 2000).map((id) => ({
      account: id, channel: 'email', address: `${id}@example.com`, consent: { categories: ['usage'] }, verifiedAt: '2024-01-01T00:00:00Z' })) })), { 'content-type': 'application/json' })
  }
  await db.query(`
    begin;
    update utility set registry_epoch = registry_epoch + 1;
    insert into threshold (threshold_id, utility_id, account_id, kind, limit_value, version_from)
      select gen_random_uuid(), utility_id, account_id, 'day-usage', 20, now() - interval '1 day' from account where id ~ '^[BS]';
    update account a set thresholds = 1, epoch = u.registry_epoch from utility u where u.utility_id = a.utility_id and a.id ~ '^[BS]';
    commit; analyze`)
}

/** One push per alert, evenly in time; the delays of each sample. */
async function steady(client: Client, db: pg.Client, sink: Sink, samples: number): Promise<number[][]> {
  const delays: number[][] = []
  const each = Math.floor(STEADY / (samples + 1))
  for (let n = 0; n <= samples; n++) {
    const began = performance.now()
    const pushes: Promise<unknown>[] = []
    for (let i = 0; i < each; i++) {
      const waitMs = began + i * 1000 / PER_SECOND - performance.now()
      if (waitMs > 0) await sleep(waitMs)
      pushes.push(push(client, [block(`S${n * each + i}`, 40, 1)]))
    }
    await Promise.all(pushes)
    await drained(sink, each)
    const taken = await sink.take()
    const { rows } = await db.query<{ message_id: string; ms: number }>(
      'select message_id, extract(epoch from created_at)::float8 * 1000 as ms from message where message_id = any($1::uuid[])', [taken.map(([id]) => id)])
    const written = new Map(rows.map((r) => [r.message_id, r.ms]))
    if (n > 0) delays.push(taken.map(([id, at]) => at - (written.get(id) ?? NaN)))
  }
  return delays
}

/** Whole days of meters that nobody watches, on one connection: reads a second. */
async function settleOthers(client: Client, n: number): Promise<number> {
  const blocks = Array.from({ length: OTHER_BODY }, (_, i) => block(`O${(n % 10) * OTHER_BODY + i}`, 96, 0.25, 1 + Math.floor(n / 10)))
  const body = Buffer.from(JSON.stringify(blocks))
  const began = performance.now()
  await client.send('POST', '/v1/reads', body, { 'content-type': 'application/json' })
  return OTHER_BODY * 96 / ((performance.now() - began) / 1000)
}

/** Waits until the sink holds so many mails. @throws Error after five minutes */
async function drained(sink: Sink, count: number): Promise<number> {
  const end = performance.now() + 300_000
  while (performance.now() < end) {
    if (await sink.count() >= count) return performance.now()
    await sleep(20)
  }
  throw new Error(`the mail server took ${await sink.count()} of ${count} mails in five minutes`)
}

function block(meter: string, count: number, value: number, daysAgo = 0): object {
  return { meter, start: instantText(zone.dayStart(zone.dayOf(Date.now() / 1000) - daysAgo), zone), intervalSeconds: 900, values: new Array<number>(count).fill(value) }
}

async function push(client: Client, blocks: object[]): Promise<{ alerts: { raised: number } }> {
  const answer = await client.send<{ alerts: { raised: number } }>('POST', '/v1/reads', Buffer.from(JSON.stringify(blocks)), { 'content-type': 'application/json' })
  return answer
}

function ndjson(records: object[]): Buffer {
  return Buffer.from(records.map((r) => JSON.stringify(r)).join('\n'))
}
