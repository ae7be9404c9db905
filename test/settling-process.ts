import { Settler } from '../engine/settler.js'
import { openPool, type Pool } from '../engine/store/db.js'
import { receiptOf, submissionOf, testWorld, type PlainBlock, type TestSource } from './settling.js'

/** What a process that settles on its own is told. A start replaces what an earlier one set up. */
export type Order =
  | { kind: 'start'; url: string; utilityId: number; source: TestSource; nowMs: number; connections: number }
  | { kind: 'settle'; id: number; blocks: PlainBlock[]; version: number }
  | { kind: 'end' }

export interface Answer {
  id: number
  alerts?: { raised: number; retracted: number }
  error?: string
}

/** Id of the answer to a start. */
export const START = -1

const answer = (a: Answer): void => void process.send!(a)

interface Running { pool: Pool; settler: Settler; start: Extract<Order, { kind: 'start' }> }

let running: Running | undefined

async function obey(order: Order): Promise<void> {
  switch (order.kind) {
    case 'start': {
      await running?.pool.end()
      const pool = openPool(order.url, order.connections, 'meterline test', () => undefined)
      running = { pool, settler: new Settler(pool, await testWorld(pool, () => order.nowMs)), start: order }
      return answer({ id: START })
    }
    case 'settle': {
      const { settler, start } = running!
      const [result] = await settler.settle(start.utilityId, [submissionOf(order.blocks, start.source, start.nowMs, { version: order.version })])
      return answer({ id: order.id, alerts: receiptOf(result).alerts })
    }
    case 'end':
      await running?.pool.end()
      process.disconnect()
  }
}

process.on('message', (order: Order) => {
  obey(order).catch((err: unknown) => answer({ id: order.kind === 'settle' ? order.id : START, error: String(err) }))
})
