import { Settler } from '../engine/settler.js'
import { openPool } from '../engine/store/db.js'
import { receiptOf, submissionOf, testWorld, type PlainBlock, type TestSource } from './settling.js'

/** What a process that settles on its own is told; it answers each order with the alerts raised and retracted. */
export type Order =
  | { kind: 'start'; url: string; utilityId: number; source: TestSource; nowMs: number; connections: number }
  | { kind: 'settle'; id: number; blocks: PlainBlock[]; version: number }
  | { kind: 'end' }

export interface Answer {
  id: number
  alerts?: { raised: number; retracted: number }
  error?: string
}

const answer = (a: Answer): void => void process.send!(a)

async function start(): Promise<void> {
  const order = await new Promise<Order>((resolve) => process.once('message', resolve))
  if (order.kind !== 'start') throw new Error('the first order is to start')
  const { utilityId, source, nowMs } = order
  const pool = openPool(order.url, order.connections, 'meterline test', () => undefined)
  const settler = new Settler(pool, await testWorld(pool, () => nowMs))
  process.on('message', (next: Order) => {
    if (next.kind === 'end') {
      void pool.end().then(() => process.disconnect())
    } else if (next.kind === 'settle') {
      settler.settle(utilityId, [submissionOf(next.blocks, source, nowMs, { version: next.version })])
        .then(([result]) => answer({ id: next.id, alerts: receiptOf(result).alerts }))
        .catch((err: unknown) => answer({ id: next.id, error: String(err) }))
    }
  })
  answer({ id: -1 })
}

await start()
