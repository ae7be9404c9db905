import { setTimeout as delay } from 'node:timers/promises'
import { openPool, type Pool } from '../../engine/store/db.js'
import { Caller } from './caller.js'
import { ClusterProcess } from './cluster-process.js'
import { cleanUp, engineFolder, operatorKey, startEngine, until, type EngineProcess } from './engine-process.js'
import { Fleet, lateZone, seeded } from './fleet.js'
import { TcpProxy } from './proxy.js'
import { verifyFleet, verifyUsage } from './verify.js'

const DAY_S = 86_400
/** DATABASE_TIMEOUT_SECONDS of the program here: short, so that what is silent is noticed within the run. */
const TIMEOUT_S = 3

/** What is done to the installation, each as it happens to a real one. */
export const FAULTS = ['kill-program', 'stop-program', 'freeze-program', 'kill-database', 'restart-database', 'end-sessions',
  'silent-then-reset', 'silent-then-healed', 'silent-one-way', 'lost-commit'] as const
export type Fault = (typeof FAULTS)[number]

export interface Schedule {
  seed: number
  clients: number
  /** Faults in a row, drawn by the seed. */
  faults: number
  /** The faults to draw from. */
  kinds?: readonly Fault[]
  onFault?: (fault: Fault, fleet: Fleet) => void
}

export interface Verdict {
  faults: Fault[]
  acknowledged: number
  unavailable: number
  broken: number
}

/** A program, its database server, and a network between them that can be cut: all of it real. */
export class Installation {
  readonly cluster: ClusterProcess
  readonly proxy: TcpProxy
  readonly pool: Pool
  engine: EngineProcess
  readonly #dir: string
  readonly #engines: EngineProcess[]
  readonly #env: Record<string, string>

  private constructor(cluster: ClusterProcess, proxy: TcpProxy, dir: string, engine: EngineProcess, env: Record<string, string>) {
    this.cluster = cluster
    this.proxy = proxy
    this.engine = engine
    this.pool = openPool(cluster.url(), 2, 'meterline test', () => undefined)
    this.#dir = dir
    this.#engines = [engine]
    this.#env = env
  }

  static async start(env: Record<string, string> = {}): Promise<Installation> {
    const cluster = await ClusterProcess.make()
    await cluster.start()
    await cluster.run('create database meterline')
    const proxy = await TcpProxy.listen(cluster.url())
    const dir = engineFolder()
    const settings = { DATABASE_URL: proxy.url, DATABASE_TIMEOUT_SECONDS: String(TIMEOUT_S), ...env }
    return new Installation(cluster, proxy, dir, await startEngine(dir, settings), settings)
  }

  get key(): string {
    return operatorKey(this.#dir)
  }

  async startProgram(): Promise<void> {
    this.engine = await startEngine(this.#dir, this.#env)
    this.#engines.push(this.engine)
  }

  /** Does one fault, and leaves the installation running. @param random where it is a matter of chance how long */
  async suffer(fault: Fault, random: () => number): Promise<void> {
    switch (fault) {
      case 'kill-program':
        this.engine.kill('SIGKILL')
        await this.engine.exited
        return this.startProgram()
      case 'stop-program': {
        this.engine.kill('SIGTERM')
        const { code, signal } = await this.engine.exited
        if (code !== 0) throw new Error(`SIGTERM under load ended with ${code ?? signal}`)
        return this.startProgram()
      }
      case 'freeze-program':
        // Longer than the server lets a transaction stand idle.
        this.engine.kill('SIGSTOP')
        await delay((1 + random() * 2) * TIMEOUT_S * 1000)
        this.engine.kill('SIGCONT')
        return
      case 'kill-database':
        await this.cluster.stop('SIGKILL')
        await delay(random() * 1000)
        return this.cluster.start()
      case 'restart-database':
        await this.cluster.stop('SIGINT')
        await delay(random() * 500)
        return this.cluster.start()
      case 'end-sessions':
        for (let i = 0; i < 3; i++) {
          await this.pool.query(
            `select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and application_name like 'meterline%' and application_name <> 'meterline test'`)
          await delay(random() * 300)
        }
        return
      case 'silent-then-reset':
        this.proxy.silence('out', 'back')
        await delay(random() * 2 * TIMEOUT_S * 1000)
        return this.proxy.reset()
      case 'silent-then-healed':
        this.proxy.silence('out', 'back')
        await delay(random() * 2 * TIMEOUT_S * 1000)
        return this.proxy.heal()
      case 'silent-one-way':
        this.proxy.silence(random() < 0.5 ? 'out' : 'back')
        await delay(random() * 2 * TIMEOUT_S * 1000)
        return random() < 0.5 ? this.proxy.heal() : this.proxy.reset()
      case 'lost-commit':
        await this.proxy.loseAnswerTo('commit\0')
    }
  }

  async close(): Promise<void> {
    await this.pool.end()
    await cleanUp(this.#dir, this.#engines)
    await this.proxy.close()
    await this.cluster.close()
  }
}

/**
 * Clients push and retry while the installation suffers the faults of the seed's schedule. Then everything that was
 * acknowledged must be there once, and the stored blocks, the load and the usage answers equal the model's.
 * @throws AssertionError with what is wrong
 */
export async function httpFaults(schedule: Schedule): Promise<Verdict> {
  const nowMs = Date.now()
  const { zone, offsetS } = lateZone(nowMs)
  const todayS = Math.floor((nowMs / 1000 + offsetS) / DAY_S) * DAY_S - offsetS
  const random = seeded(schedule.seed)
  const installation = await Installation.start({ UTILITY_ZONE: zone })
  const caller = new Caller(() => installation.engine.url, installation.key)
  try {
    const fleet = new Fleet({
      clients: schedule.clients, seed: schedule.seed, url: () => installation.engine.url, key: installation.key, todayS,
      nowS: Math.floor(nowMs / 1000), days: 6 })
    await fleet.register(caller)
    const kinds = schedule.kinds ?? FAULTS
    const faults: Fault[] = []
    fleet.start()
    for (let i = 0; i < schedule.faults; i++) {
      const before = fleet.acknowledged.length
      await until('pushes settle', () => fleet.acknowledged.length >= before + schedule.clients, 60_000)
      await delay(random() * 800)
      const fault = kinds[Math.floor(random() * kinds.length)]
      faults.push(fault)
      schedule.onFault?.(fault, fleet)
      await installation.suffer(fault, random)
    }
    const before = fleet.acknowledged.length
    await until('pushes settle', () => fleet.acknowledged.length >= before + schedule.clients, 60_000)
    await fleet.stop()
    await until('it is ready', async () => (await caller.call('GET', '/readyz')).status === 200)
    await verifyFleet(installation.pool, fleet)
    const day = (s: number): string => new Date((s + offsetS) * 1000).toISOString().slice(0, 10)
    await verifyUsage(caller, fleet, schedule.clients, day(todayS - 10 * DAY_S), day(todayS + DAY_S), offsetS)
    return { faults, acknowledged: fleet.acknowledged.length, unavailable: fleet.unavailable, broken: fleet.broken }
  } finally {
    caller.close()
    await installation.close()
  }
}
