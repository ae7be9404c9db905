import { describe, expect, it } from 'vitest'
import { missing } from './bus.js'
import { kafkaFaults } from './faults.js'

// More of it, and with frozen transactions and broker restarts: node dist/bench/kafka-faults.js --seed 1 --runs 20
const SEED = Number(process.env.FAULT_SEED ?? 20_261_122)

const why = missing === null ? '' : ` (not run: ${missing})`

describe.skipIf(missing !== null)(`three processes that share a topic of Apache Kafka${why}`, () => {
  it('killed, frozen and without database: every read is there once, and a frozen one\'s late commit is refused', async () => {
    const verdict = await kafkaFaults({ seed: SEED, reads: 40_000, partitions: 6, kinds: ['kill-process', 'freeze-before-commit', 'kill-database'] })
    expect(verdict.lateCommits, JSON.stringify(verdict)).toBe(1)
    expect(verdict.fenced, JSON.stringify(verdict)).toBeGreaterThanOrEqual(1)
    expect(verdict.alerts).toBeGreaterThan(0)
  }, 240_000)
})
