import type { ChildProcess } from 'node:child_process'
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CommandLine, getJson } from '../../test/command-line.js'
import { askServer, clusterUrl, freePort, initCluster, reachableBinaries, serverUser, spawnServer, type Binaries } from './cluster.js'
import { openPool, type Pool } from './db.js'
import { ReplicaSource, type ReplicaOutcome } from './replica.js'

const SETTINGS = { fsync: 'off', wal_level: 'replica', hot_standby: 'on', shared_buffers: '32MB' }

/** A primary and a streaming replica of the embedded binaries, whatever server the other tests run on. */
class Pair {
  readonly #folder = mkdtempSync(join(tmpdir(), 'meterline-replica-'))
  readonly #user = serverUser()
  readonly #binaries: Binaries
  readonly #servers = new Map<string, ChildProcess>()
  readonly #password = 'secret'
  #ports = { primary: 0, replica: 0 }

  constructor() {
    chmodSync(this.#folder, 0o755)
    this.#binaries = reachableBinaries(this.#user, this.#folder)
  }

  url(which: 'primary' | 'replica', database: string): string {
    return clusterUrl(this.#ports[which], this.#password, database)
  }

  async start(): Promise<void> {
    this.#ports = { primary: await freePort(), replica: await freePort() }
    const primary = join(this.#folder, 'primary')
    const replica = join(this.#folder, 'replica')
    await initCluster(this.#binaries, primary, this.#password, this.#user, true)
    // A copy of a cluster at rest is a base backup.
    cpSync(primary, replica, { recursive: true })
    writeFileSync(join(replica, 'standby.signal'), '')
    if (this.#user !== undefined) execFileSync('chown', ['-R', `${this.#user.uid}:${this.#user.gid}`, replica])
    chmodSync(replica, 0o700)
    await this.run('primary')
    await this.run('replica')
  }

  async run(which: 'primary' | 'replica'): Promise<void> {
    const conninfo = `host=127.0.0.1 port=${this.#ports.primary} user=meterline password=${this.#password}`
    const log = join(this.#folder, `${which}.log`)
    const child = spawnServer(this.#binaries, join(this.#folder, which), this.#ports[which],
      { ...SETTINGS, ...(which === 'replica' ? { primary_conninfo: conninfo } : {}) }, this.#user, log)
    this.#servers.set(which, child)
    for (let waited = 0; await askServer(this.url(which, 'postgres')) !== 'ready'; waited += 50) {
      if (waited > 30_000 || child.exitCode !== null) throw new Error(`the ${which} did not start: ${readFileSync(log, 'utf8')}`)
      await delay(50)
    }
  }

  async stop(which: 'primary' | 'replica'): Promise<void> {
    const child = this.#servers.get(which)
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise<void>((done) => child.once('exit', () => done()))
    child.kill('SIGQUIT')
    await ended
  }

  async close(): Promise<void> {
    await this.stop('replica')
    await this.stop('primary')
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

describe('a read replica', () => {
  const pair = new Pair()
  let primary: Pool
  let replica: Pool
  beforeAll(async () => {
    await pair.start()
    primary = openPool(pair.url('primary', 'postgres'), 4, 'meterline test', () => undefined)
    replica = openPool(pair.url('replica', 'postgres'), 4, 'meterline test', () => undefined)
    await primary.query('create database engine')
  })
  afterAll(async () => {
    await primary.end()
    await replica.end()
    await pair.close()
  })

  test('shows every push after its receipt, while it keeps up, lags, breaks and comes back', async () => {
    const program = new CommandLine({ DATABASE_URL: pair.url('primary', 'engine'), UTILITY_ZONE: 'America/Chicago', WORKERS: '2' })
    try {
      // The replica has the database only once it has replayed its making.
      await replayed()
      const url = await program.serve({ DATABASE_READ_URL: pair.url('replica', 'engine') })
      const key = program.operatorKey()
      const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
      const send = async (method: string, path: string, body: unknown): Promise<void> => {
        const answer = await fetch(`${url}${path}`, { method, headers, body: JSON.stringify(body) })
        expect({ status: answer.status, text: answer.ok ? '' : await answer.text() }).toEqual({ status: 200, text: '' })
      }
      await send('PUT', '/v1/accounts', [{ account: 'A1' }])
      await send('PUT', '/v1/meters', [{ meter: 'M1', account: 'A1', from: '2026-01-01T00:00:00-06:00' }])
      let pushed = 0
      /** Pushes another quarter hour of 1 kWh and asks at once. */
      const pushAndAsk = async (): Promise<void> => {
        const start = new Date(Date.UTC(2026, 1, 1, 6) + pushed * 900_000).toISOString()
        await send('POST', '/v1/reads', [{ meter: 'M1', start, intervalSeconds: 900, values: [1] }])
        pushed++
        const usage = await getJson<{ total: { delivered: number } }>(url, key, '/v1/accounts/A1/usage?from=2026-02-01&to=2026-03-01')
        expect(usage.total.delivered).toBe(pushed)
      }
      const outcomes = async (): Promise<Record<ReplicaOutcome, number>> => {
        const text = await (await fetch(`${url}/metrics`)).text()
        const of = (outcome: string): number => Number(new RegExp(`meterline_replica_reads_total\\{outcome="${outcome}"\\} (\\d+)`).exec(text)?.[1])
        return { fresh: of('fresh'), behind: of('behind'), broken: of('broken') }
      }

      for (let i = 0; i < 25; i++) await pushAndAsk()
      const keeping = await outcomes()
      expect(keeping.fresh).toBeGreaterThan(0)
      expect(keeping.broken).toBe(0)

      await replica.query('select pg_wal_replay_pause()')
      for (let i = 0; i < 3; i++) await pushAndAsk()
      expect((await outcomes()).behind).toBeGreaterThanOrEqual(keeping.behind + 3)
      await replica.query('select pg_wal_replay_resume()')
      await replayed()

      await pair.stop('replica')
      for (let i = 0; i < 3; i++) await pushAndAsk()
      expect((await outcomes()).broken).toBeGreaterThanOrEqual(3)

      await pair.run('replica')
      // It is asked again some seconds after it broke.
      const before = (await outcomes()).fresh
      while ((await outcomes()).fresh === before) await pushAndAsk()
    } finally {
      await program.close()
    }
  })

  test('a server that is no replica, or of another cluster, is passed over', async () => {
    const other = new Pair()
    try {
      await other.start()
      const said: string[] = []
      for (const url of [pair.url('primary', 'postgres'), other.url('replica', 'postgres')]) {
        const pool = openPool(url, 2, 'meterline test', () => undefined)
        const outcomes: string[] = []
        const source = new ReplicaSource(primary, pool, { onOutcome: (outcome) => outcomes.push(outcome), onBroken: (err) => said.push(String(err)) })
        for (let i = 0; i < 2; i++) {
          const client = await source.connect()
          const { rows } = await client.query("select current_setting('port')::int as port")
          expect(rows).toEqual([{ port: Number(new URL(pair.url('primary', 'postgres')).port) }])
          client.release()
        }
        expect(outcomes).toEqual(['broken', 'broken'])
        await pool.end()
      }
      expect(said).toEqual([expect.stringMatching(/is not a replica: the server is not in recovery/), expect.stringMatching(/leads to another database/)])
    } finally {
      await other.close()
    }
  })

  async function replayed(): Promise<void> {
    const { rows: [{ position }] } = await primary.query<{ position: string }>('select pg_current_wal_insert_lsn()::text as position')
    for (;;) {
      const { rows } = await replica.query<{ done: boolean }>('select pg_last_wal_replay_lsn() >= $1::pg_lsn as done', [position])
      if (rows[0].done) return
      await delay(20)
    }
  }
})
