import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { alertFixture, sealer, type AlertFixture } from '../../test/alert-fixture.js'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { removeContact } from '../contacts/contacts.js'
import { inTransaction } from '../store/db.js'
import { messageEvents, move, stages, type MessageEvent, type Stage } from './life-cycle.js'
import { replayMessages } from './messages.js'
import { beginHandOver, beginHandOvers, endAttempt, giveUpLostHandOvers, leaseMessages, type AttemptEnd } from './outbox-store.js'

let db: TestDatabase
let f: AlertFixture
const now = new Date()
const later = new Date(now.getTime() + 60_000)
const past = new Date(now.getTime() - 60_000)

beforeAll(async () => {
  db = await testDatabase()
  f = await alertFixture(db.pool)
})
afterAll(async () => db.close())

interface Message {
  id: string
  lease: string
  accountId: number
  account: string
  contact: string
}

/** A message in the stage; its lease ran out, so that every statement that goes by it may act. */
async function messageIn(stage: Stage): Promise<Message> {
  const { accountId, account } = await f.account()
  const contact = await f.contact(accountId)
  const m = { id: randomUUID(), lease: randomUUID(), accountId, account, contact }
  const isUnderWay = stage === 'sending' || stage === 'handed' || stage === 'unknown'
  await db.pool.query(
    `insert into message (message_id, utility_id, account_id, contact_id, purpose, channel, category, body_enc, state, next_at, lease, leased_until, handed_at)
     values ($1, $2, $3, $4, 'notice', 'email', 'usage', $5, $6, $7, $8, $9, $10)`,
    [m.id, f.utilityId, accountId, contact, sealer.seal('message', m.id, '{}'), stage === 'handed' ? 'sending' : stage, past,
      isUnderWay ? m.lease : null, isUnderWay ? past : null, stage === 'handed' || stage === 'unknown' ? past : null])
  return m
}

async function stageOf(id: string): Promise<Stage> {
  const { rows } = await db.pool.query<{ state: Stage | 'sending'; handed_at: Date | null }>('select state, handed_at from message where message_id = $1', [id])
  return rows[0].state === 'sending' && rows[0].handed_at !== null ? 'handed' : rows[0].state
}

const ends = (event: AttemptEnd['event']) => (m: Message): Promise<unknown> =>
  endAttempt(db.pool, [m.id], m.lease, { event, nextAt: later, error: null, isCounted: true }, now)

/** The statement that each event is; a new event without one does not compile. */
const DO: Readonly<Record<MessageEvent, (m: Message) => Promise<unknown>>> = {
  lease: () => leaseMessages(db.pool, randomUUID(), 1000, now, later),
  'hand-over': (m) => beginHandOver(db.pool, [m.id], m.lease, now, later),
  accepted: ends('accepted'),
  captured: ends('captured'),
  refused: ends('refused'),
  deferred: ends('deferred'),
  uncertain: ends('uncertain'),
  withdrawn: (m) => removeContact(db.pool, { utilityId: f.utilityId, accountId: m.accountId, account: m.account }, m.contact, 'test', now),
  lost: () => giveUpLostHandOvers(db.pool, now),
  replay: (m) => replayMessages(db.pool, f.utilityId, m.id, now),
}

describe('the life cycle of a message', () => {
  it.each(stages)('%s: handed over with others as alone', async (stage) => {
    const [m, other] = [await messageIn(stage), await messageIn('sending')]
    expect(await beginHandOvers(db.pool, [{ messageId: m.id, lease: m.lease }, { messageId: other.id, lease: other.lease }], now, later))
      .toEqual([move(stage, 'hand-over') !== null, true])
    expect(await stageOf(m.id)).toBe(move(stage, 'hand-over') ?? stage)
    expect(await stageOf(other.id)).toBe('handed')
    await db.pool.query('delete from message')
  })

  it('does not wait for a message that another transaction holds, and hands the others over', async () => {
    const [m, other] = [await messageIn('sending'), await messageIn('sending')]
    await inTransaction(db.pool, async (client) => {
      await client.query('select 1 from message where message_id = $1 for update', [m.id])
      expect(await beginHandOvers(db.pool, [{ messageId: m.id, lease: m.lease }, { messageId: other.id, lease: other.lease }], now, later)).toEqual([false, true])
    })
    expect(await stageOf(m.id)).toBe('sending')
    await db.pool.query('delete from message')
  })

  const cells = stages.flatMap((stage) => messageEvents.map((event) => [stage, event, move(stage, event) ?? stage] as const))
  it.each(cells)('%s, %s: %s, in the database as in the table', async (stage, event, next) => {
    const m = await messageIn(stage)
    expect(await stageOf(m.id)).toBe(stage)
    await DO[event](m)
    expect(await stageOf(m.id)).toBe(next)
    await db.pool.query('delete from message')
  })

  it('has an end: what is sent, captured or dropped stays so', () => {
    for (const stage of ['sent', 'captured', 'dropped'] as const) expect(messageEvents.map((event) => move(stage, event))).toEqual(messageEvents.map(() => null))
  })
})
