import { randomUUID } from 'node:crypto'
import { expect } from 'vitest'
import type { MessageContent } from '../engine/notify/content.js'
import { beginHandOver, endAttempt, leaseMessages, type AttemptEnd, type LeasedMessage } from '../engine/notify/outbox-store.js'
import type { Pool } from '../engine/store/db.js'
import { sealer } from './alert-fixture.js'

/** What arrived at a contact. */
interface Told {
  /** Alert and contact. */
  key: string
  step: number
  purpose: string
  says: string
  value: number
}

interface UnderWay {
  message: LeasedMessage
  lease: string
  isHanded: boolean
}

/** A sender that is driven step by step, in the order in which the outbox does them. */
export class StepSender {
  readonly told: Told[] = []
  #underWay: UnderWay[] = []
  readonly #pool: Pool
  readonly #now: () => Date

  constructor(pool: Pool, now: () => Date) {
    this.#pool = pool
    this.#now = now
  }

  async lease(): Promise<number> {
    const lease = randomUUID()
    const messages = await leaseMessages(this.#pool, lease, 10, this.#now(), this.#soon())
    for (const message of messages) {
      const next = { message, lease, isHanded: false }
      if (message.waits) await this.#end(next, 'deferred', false)
      else if (!message.is_due) await this.#end(next, 'withdrawn')
      else this.#underWay.push(next)
    }
    return messages.length
  }

  async handOver(): Promise<void> {
    for (const next of this.#underWay.filter((u) => !u.isHanded)) {
      next.isHanded = await beginHandOver(this.#pool, [next.message.message_id], next.lease, this.#now(), this.#soon())
      if (next.isHanded) continue
      this.#underWay = this.#underWay.filter((u) => u !== next)
      await this.#end(next, 'withdrawn')
    }
  }

  async end(state: 'sent' | 'unknown' | 'retry'): Promise<void> {
    for (const next of this.#underWay.filter((u) => u.isHanded)) {
      this.#underWay = this.#underWay.filter((u) => u !== next)
      if (state !== 'retry') await this.#tell(next)
      await this.#end(next, ({ retry: 'deferred', sent: 'accepted', unknown: 'uncertain' } as const)[state])
    }
  }

  /** The process dies: what it had handed over may have arrived, the rest has not. */
  async crash(): Promise<void> {
    for (const next of this.#underWay) if (next.isHanded) await this.#tell(next)
    const ids = this.#underWay.filter((next) => next.isHanded).map((next) => next.message.message_id)
    this.#underWay = []
    await this.#pool.query(`update message set state = 'unknown' where message_id = any($1::uuid[])`, [ids])
  }

  async drain(): Promise<void> {
    do {
      while (this.#underWay.length > 0) {
        await this.handOver()
        await this.end('sent')
      }
    } while (await this.lease() > 0)
  }

  async #tell({ message }: UnderWay): Promise<void> {
    const { rows: [row] } = await this.#pool.query<{ key: string; step: number; purpose: string; body_enc: Buffer }>(
      `select alert_id || ' ' || contact_id as key, alert_step as step, purpose, body_enc from message where message_id = $1`, [message.message_id])
    const content = JSON.parse(sealer.open('message', message.message_id, row.body_enc)) as MessageContent
    if (content.t !== 'alert' && content.t !== 'correction') throw new Error(`a message of an alert says ${content.t}`)
    this.told.push({ key: row.key, step: row.step, purpose: row.purpose, says: content.t, value: Number(content.alert.value) })
  }

  async #end(next: UnderWay, event: AttemptEnd['event'], isCounted = true): Promise<void> {
    await endAttempt(this.#pool, [next.message.message_id], next.lease, { event, nextAt: this.#now(), error: null, isCounted }, this.#now())
  }

  #soon(): Date {
    return new Date(this.#now().getTime() + 60_000)
  }
}

/**
 * That nothing waits any more, and that of each alert each contact was told every step at most once, alert and correction in
 * turn, each as the alert stood at that step, and last what holds now.
 */
export async function expectTold(pool: Pool, utilityId: number, sender: StepSender): Promise<void> {
  const { rows: left } = await pool.query("select purpose, state from message where utility_id = $1 and state in ('pending', 'sending')", [utilityId])
  expect(left).toEqual([])
  const { rows } = await pool.query<{ key: string; state: string; history: { state: string; value: number }[] }>(
    `select a.alert_id || ' ' || c.contact_id as key, a.state, a.history from alert a join contact c using (account_id) where a.utility_id = $1`, [utilityId])
  for (const { key, state, history } of rows) {
    const told = sender.told.filter((t) => t.key === key)
    expect(told.map((t) => t.purpose)).toEqual(told.map((_, i) => i % 2 === 0 ? 'alert' : 'correction'))
    expect(told.map((t) => t.step)).toEqual([...new Set(told.map((t) => t.step))].sort((a, b) => a - b))
    for (const { step, purpose, says, value } of told) {
      const at = history[step - 1]
      expect({ says, state: purpose === 'alert' ? 'raised' : 'retracted', value }).toEqual({ says: purpose, state: at.state, value: at.value })
    }
    expect(told.length % 2 === 1).toBe(state === 'raised')
  }
}
