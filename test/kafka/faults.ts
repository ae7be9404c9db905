import { equal } from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { openPool, REGISTRY_LOCK, type Pool } from '../../engine/store/db.js'
import { Caller } from '../faults/caller.js'
import { ClusterProcess } from '../faults/cluster-process.js'
import { cleanUp, engineFolder, operatorKey, startEngine, until, type EngineProcess } from '../faults/engine-process.js'
import { Fleet, lateZone, seeded } from '../faults/fleet.js'
import { verifyAlerts, type Limits } from '../faults/verify.js'
import { startBus, type Bus } from './bus.js'
import { Traffic } from './traffic.js'
import { verifyBlocks, verifyReceipts } from './verify.js'

const DAY_S = 86_400
const TOPIC = 'meter-reads'
const PROCESSES = 3
const ACCOUNTS = 10
/** KAFKA_SESSION_SECONDS and DATABASE_TIMEOUT_SECONDS of the processes. */
const SESSION_S = 2
const TIMEOUT_S = 6
/** Messages that reach every partition, while something is held up. */
const BURST = 300

/** What is done to the installation. */
export const FAULTS = ['kill-process', 'stop-process', 'freeze-process', 'freeze-before-commit', 'freeze-in-commit', 'restart-broker', 'kill-broker',
  'restart-database', 'kill-database', 'end-sessions'] as const
export type Fault = (typeof FAULTS)[number]

export interface Schedule {
  seed: number
  reads: number
  /** Faults in a row, drawn by the seed from `kinds`; all of those in their order where no number is given. */
  faults?: number
  kinds?: readonly Fault[]
  partitions?: number
  days?: number
  say?: (text: string) => void
}

export interface Verdict {
  faults: Fault[]
  reads: number
  messages: number
  standing: number
  deliveries: number
  alerts: number
  /** Batches that processes dropped because another had the partition. */
  fenced: number
  /** Of them, those of processes that were frozen with a batch in hand and whose commit came after the others' claim. */
  lateCommits: number
  /** Seconds from the last message's sending to no lag, and those that a frozen transaction kept its partition. */
  drainS: number
  heldS: number[]
  seconds: number
}

/** Processes that share a topic, with their broker and their database: all of it real. */
class Installation {
  readonly bus: Bus
  readonly cluster: ClusterProcess
  readonly pool: Pool
  readonly key: string
  readonly processes: EngineProcess[] = []
  readonly #dir: string
  readonly #all: EngineProcess[] = []
  readonly #zone: string
  readonly #partitions: number
  #fencedBefore = 0
  lateCommits = 0
  readonly heldS: number[] = []

  private constructor(bus: Bus, cluster: ClusterProcess, dir: string, key: string, zone: string, partitions: number) {
    this.bus = bus
    this.cluster = cluster
    this.#dir = dir
    this.key = key
    this.#zone = zone
    this.#partitions = partitions
    this.pool = openPool(cluster.url(), 2, 'meterline test', () => undefined, 120)
  }

  static async start(zone: string, partitions: number, register: (caller: Caller) => Promise<void>): Promise<Installation> {
    const [bus, cluster] = await Promise.all([startBus(), ClusterProcess.make()])
    const dir = engineFolder()
    let installation: Installation | undefined
    try {
      await Promise.all([bus.topic(TOPIC, partitions), bus.topic(`${TOPIC}.dead`, 1), cluster.start()])
      await cluster.run('create database meterline')
      // A role for each process: the server's list of sessions tells them apart.
      for (let i = 0; i < PROCESSES; i++) await cluster.run(`create role process${i} superuser login password 'process'`)
      const api = await startEngine(dir, { DATABASE_URL: cluster.url(), UTILITY_ZONE: zone }, ['--roles', 'api'])
      try {
        const caller = new Caller(api.url, operatorKey(dir))
        await register(caller)
        caller.close()
      } finally {
        api.kill('SIGTERM')
        await api.exited
      }
      installation = new Installation(bus, cluster, dir, operatorKey(dir), zone, partitions)
      // Estimates would be reads that nobody sent.
      await installation.pool.query('update utility set validates = false')
      await Promise.all(Array.from({ length: PROCESSES }, (_, i) => installation!.startProcess(i)))
      await installation.untilShared()
      return installation
    } catch (err) {
      if (installation !== undefined) await installation.close()
      else {
        await cleanUp(dir, [])
        await bus.close()
        await cluster.close()
      }
      throw err
    }
  }

  async startProcess(i: number): Promise<void> {
    const url = new URL(this.cluster.url())
    url.username = `process${i}`
    url.password = 'process'
    const engine = await startEngine(this.#dir, {
      DATABASE_URL: url.href, DATABASE_TIMEOUT_SECONDS: String(TIMEOUT_S), UTILITY_ZONE: this.#zone, KAFKA_BROKERS: this.bus.brokers,
      KAFKA_TOPIC: TOPIC, KAFKA_SESSION_SECONDS: String(SESSION_S),
    }, ['--roles', 'ingest'])
    this.#all.push(engine)
    this.processes[i] = engine
  }

  /** Waits until every process reads some of the partitions, and all are read. */
  async untilShared(): Promise<void> {
    await until('every process has partitions', async () => {
      const owned = await Promise.all(this.processes.map((engine) => this.#metric(engine, 'meterline_kafka_partitions{state="active"}')))
      return owned.every((n) => n > 0) && owned.reduce((a, b) => a + b, 0) === this.#partitions
    }, 90_000)
  }

  async settledTo(): Promise<number> {
    const { rows: [{ sum }] } = await this.pool.query<{ sum: string | null }>('select sum(next_offset) as sum from kafka_position where topic = $1', [TOPIC])
    return Number(sum ?? 0)
  }

  async fenced(): Promise<number> {
    const now = await Promise.all(this.processes.map((engine) => this.#fencedBy(engine)))
    return this.#fencedBefore + now.reduce((a, b) => a + b, 0)
  }

  /** Processes that ended without having been told to. */
  dead(): string[] {
    return this.processes.flatMap((engine, i) => engine.child.exitCode === null && engine.child.signalCode === null ? []
      : [`process ${i} ended with ${engine.child.exitCode ?? engine.child.signalCode}: ${engine.said.join('\n').slice(-2000)}`])
  }

  /** Does one fault, and leaves the installation running. */
  async suffer(fault: Fault, random: () => number, traffic: Traffic): Promise<void> {
    const i = Math.floor(random() * PROCESSES)
    const engine = this.processes[i]
    switch (fault) {
      case 'kill-process':
      case 'stop-process': {
        this.#fencedBefore += await this.#fencedBy(engine)
        engine.kill(fault === 'kill-process' ? 'SIGKILL' : 'SIGTERM')
        const { code } = await engine.exited
        if (fault === 'stop-process') equal(code, 0, 'the exit status after SIGTERM')
        await delay(random() * 1000)
        return this.startProcess(i)
      }
      case 'freeze-process':
        engine.kill('SIGSTOP')
        await delay((SESSION_S + 1 + random() * 2 * TIMEOUT_S) * 1000)
        engine.kill('SIGCONT')
        return
      case 'freeze-before-commit':
        return this.#freezeBeforeCommit(i, traffic)
      case 'freeze-in-commit':
        return this.#freezeInCommit(i, traffic)
      case 'restart-broker':
      case 'kill-broker':
        await this.bus.broker!.stop(fault === 'kill-broker' ? 'SIGKILL' : 'SIGTERM')
        await delay(random() * 3000)
        return this.bus.broker!.start()
      case 'restart-database':
      case 'kill-database':
        await this.cluster.stop(fault === 'kill-database' ? 'SIGKILL' : 'SIGINT')
        await delay(random() * 1000)
        return this.cluster.start()
      case 'end-sessions':
        for (let n = 0; n < 3; n++) {
          await this.pool.query(`select pg_terminate_backend(pid) from pg_stat_activity where usename like 'process%'`)
          await delay(random() * 500)
        }
    }
  }

  /**
   * Freezes a process whose transaction has begun and has not reached the positions yet, until the others have its
   * partitions; then it goes on, and its commit must be refused.
   */
  async #freezeBeforeCommit(i: number, traffic: Traffic): Promise<void> {
    const engine = this.processes[i]
    await this.untilShared()
    const release = await this.#hold(`select pg_advisory_xact_lock(${REGISTRY_LOCK}, utility_id) from utility`)
    const sending = traffic.send(BURST)
    let isLate = false
    let fenced = 0
    try {
      await until('the process holds a batch', async () => (await this.#sessions(i, `wait_event = 'advisory' and query like 'begin;%'`)) > 0)
      fenced = await this.#fencedBy(engine)
      const owned = await this.#metric(engine, 'meterline_kafka_partitions{state="active"}')
      const before = await this.#epochs()
      engine.kill('SIGSTOP')
      await until('the others have its partitions', async () => await this.#risen(before) >= owned, 60_000)
    } finally {
      await release()
      // Its lock came through, and its session waits for what the process says next.
      isLate = (await this.#sessions(i, `state = 'idle in transaction'`)) > 0
      engine.kill('SIGCONT')
    }
    await until('its late commit is refused', async () => await this.#fencedBy(engine) > fenced)
    if (isLate) this.lateCommits++
    await sending
  }

  /** Freezes a process in the transaction that has its positions locked: the server ends it, and the others go on. */
  async #freezeInCommit(i: number, traffic: Traffic): Promise<void> {
    const engine = this.processes[i]
    await this.untilShared()
    const release = await this.#hold(`select from kafka_position where topic = '${TOPIC}' for update`)
    const sending = traffic.send(BURST)
    let fenced = 0
    let owned = 0
    let before = new Map<number, number>()
    let heldMs = 0
    try {
      await until('the process waits for its positions', async () =>
        (await this.#sessions(i, `wait_event_type = 'Lock' and query like '%for update of p'`)) > 0)
      fenced = await this.#fencedBy(engine)
      owned = await this.#metric(engine, 'meterline_kafka_partitions{state="active"}')
      before = await this.#epochs()
      engine.kill('SIGSTOP')
    } finally {
      await release()
      heldMs = Date.now()
    }
    try {
      await until('the session has the positions and waits for the process', async () => (await this.#sessions(i, `state = 'idle in transaction'`)) > 0)
      await until('the others have its partitions', async () => await this.#risen(before) >= owned, (SESSION_S + 2 * TIMEOUT_S) * 1000 + 30_000)
      this.heldS.push((Date.now() - heldMs) / 1000)
    } finally {
      engine.kill('SIGCONT')
    }
    await until('its batch is dropped', async () => await this.#fencedBy(engine) > fenced)
    await sending
  }

  /** Takes locks by a statement; the answer gives them back. */
  async #hold(sql: string): Promise<() => Promise<void>> {
    const client = new pg.Client({ connectionString: this.cluster.url(), application_name: 'meterline test' })
    await client.connect()
    await client.query('begin')
    await client.query(sql)
    return () => client.end()
  }

  async #sessions(i: number, where: string): Promise<number> {
    const { rows: [{ n }] } = await this.pool.query<{ n: number }>(
      `select count(*)::int as n from pg_stat_activity where usename = $1 and ${where}`, [`process${i}`])
    return n
  }

  async #epochs(): Promise<Map<number, number>> {
    const { rows } = await this.pool.query<{ partition: number; epoch: number }>(
      'select kafka_partition as partition, epoch from kafka_position where topic = $1', [TOPIC])
    return new Map(rows.map((row) => [row.partition, row.epoch]))
  }

  async #risen(before: ReadonlyMap<number, number>): Promise<number> {
    return [...await this.#epochs()].filter(([partition, epoch]) => epoch > (before.get(partition) ?? 0)).length
  }

  #fencedBy(engine: EngineProcess): Promise<number> {
    return this.#metric(engine, 'meterline_kafka_fenced_total')
  }

  async #metric(engine: EngineProcess, name: string): Promise<number> {
    const caller = new Caller(engine.url, this.key)
    try {
      return await caller.metric(name)
    } finally {
      caller.close()
    }
  }

  /** Where each process and partition stands, and what the processes said last: for a run that failed. */
  async account(): Promise<string> {
    const { rows } = await this.pool.query<object>('select kafka_partition, epoch, next_offset, end_offset, ahead, updated_at from kafka_position order by 1')
    const texts = await Promise.all(this.processes.map(async (engine, i) => {
      const caller = new Caller(engine.url, this.key)
      const ask = (path: string): Promise<string> => caller.call('GET', path).then((answer) => answer.text, String)
      const metrics = (await ask('/metrics')).split('\n').filter((line) => line.startsWith('meterline_kafka')).join('\n')
      const text = `process ${i}: ${await ask('/readyz')}\n${metrics}\n${engine.log.slice(-30).map((line) => JSON.stringify(line)).join('\n')}`
      caller.close()
      return text
    }))
    const inTopic = new Map<number, number>()
    for (const { partition } of await this.bus.read(TOPIC)) inTopic.set(partition, (inTopic.get(partition) ?? 0) + 1)
    return [`messages in the topic: ${JSON.stringify([...inTopic].sort(([a], [b]) => a - b))}`, ...rows.map((row) => JSON.stringify(row)), ...texts].join('\n')
  }

  async close(): Promise<void> {
    await this.pool.end()
    for (const engine of this.#all) engine.kill('SIGCONT')
    await cleanUp(this.#dir, this.#all)
    await this.bus.close()
    await this.cluster.close()
  }
}

/**
 * A topic is filled and three processes settle it while they, the broker and the database suffer the faults of the seed's
 * schedule. When nothing lags any more, the stored blocks equal the model's, every message was settled once, receipts
 * add up and no alert was raised twice.
 * @throws AssertionError with what is wrong
 */
export async function kafkaFaults(schedule: Schedule): Promise<Verdict> {
  const { seed, kinds = FAULTS, partitions = 12, days = 8, say = () => undefined } = schedule
  const beganMs = Date.now()
  const { zone, offsetS } = lateZone(beganMs)
  const todayS = Math.floor((beganMs / 1000 + offsetS) / DAY_S) * DAY_S - offsetS
  const random = seeded(seed)
  const faults = schedule.faults === undefined ? [...kinds] : Array.from({ length: schedule.faults }, () => kinds[Math.floor(random() * kinds.length)])
  const limits = limitsOf(days, todayS, offsetS)
  let traffic: Traffic | undefined
  const options = { seed, topic: TOPIC, partitions, reads: schedule.reads, days, todayS, nowS: Math.floor(beganMs / 1000) }
  const pairs = Traffic.pairsOf(options)
  const installation = await Installation.start(zone, partitions, (caller) => register(caller, pairs, limits))
  try {
    traffic = new Traffic(installation.bus, options)
    for (const [n, fault] of faults.entries()) {
      const until = schedule.reads * (n + 1) / (faults.length + 1)
      const sending = traffic.sendUntil(until)
      sending.catch(() => undefined)
      await delay(random() * 2000)
      say(`${fault}, ${traffic.messages} messages sent, ${await installation.settledTo()} settled`)
      await installation.suffer(fault, random, traffic)
      await sending
    }
    await traffic.sendUntil(Infinity)
    const sentMs = Date.now()
    const { messages } = traffic
    say(`all ${messages} messages sent, ${await installation.settledTo()} settled`)
    await untilSettled(installation, messages)
    const drainS = (Date.now() - sentMs) / 1000
    equal(installation.dead().join('; '), '')
    const standing = await verifyBlocks(installation.pool, traffic)
    const deliveries = await verifyReceipts(installation.pool, traffic, TOPIC)
    await verifyAlerts(installation.pool, { model: traffic.modelOf(ACCOUNTS) }, ACCOUNTS, limits, todayS, offsetS)
    const { rows: [{ alerts }] } = await installation.pool.query<{ alerts: number }>('select count(*)::int as alerts from alert')
    return {
      faults, reads: traffic.reads, messages, standing, deliveries, alerts, fenced: await installation.fenced(),
      lateCommits: installation.lateCommits, heldS: installation.heldS, drainS, seconds: (Date.now() - beganMs) / 1000,
    }
  } catch (err) {
    const account = await installation.account().catch(String)
    throw new Error(`${err instanceof Error ? err.message : String(err)}\n${account}`, { cause: err })
  } finally {
    await installation.close()
  }
}

/** Waits until the positions are at the topic's end. @throws Error when none has moved for half a minute */
async function untilSettled(installation: Installation, messages: number): Promise<void> {
  let settled = -1
  while (settled < messages) {
    const before = settled
    await until(`more than ${before} of ${messages} messages are settled`, async () => {
      settled = await installation.settledTo()
      return settled > before || settled >= messages
    }, 30_000)
  }
  equal(settled, messages, 'messages in the topic')
}

async function register(caller: Caller, pairs: number, limits: Limits): Promise<void> {
  await caller.json('PUT', '/v1/accounts', Array.from({ length: ACCOUNTS }, (_, i) => ({ account: Fleet.account(i) })))
  for (let from = 0; from < pairs; from += 1000) {
    await caller.json('PUT', '/v1/meters', Array.from({ length: Math.min(1000, pairs - from) }, (_, i) => from + i).flatMap((pair) =>
      Fleet.meters(pair).map((meter) => ({
        meter, intervalSeconds: 900, ...(pair < ACCOUNTS ? { account: Fleet.account(pair), from: '2020-01-01T00:00:00Z' } : {}) }))))
  }
  for (let id = 0; id < ACCOUNTS; id++) {
    for (const [kind, limit] of Object.entries(limits)) await caller.json('POST', `/v1/accounts/${Fleet.account(id)}/thresholds`, { kind, limit })
  }
}

/** Limits that about half of the accounts pass. */
function limitsOf(days: number, todayS: number, offsetS: number): Limits {
  const ofMonth = Math.min(days, new Date((todayS + offsetS) * 1000).getUTCDate())
  return { 'day-usage': 80.001, 'period-usage': Math.round((ofMonth - 0.07) * 86.4) + 0.001 }
}
